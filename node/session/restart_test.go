package session

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec/cage/cagetest"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// A session does not notice a restart of its agent, and who is attached goes on.
func TestOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	id := h.open(onTerminal("stty -echo; echo ready; while read x; do echo got $x; done"))
	p := h.attach(id, true)
	p.sees("ready")
	h.Close()
	p.types("one\n")
	p.sees("got one") // the way to it does not lead through Sessions
	p.cut()
	again := open(t, h.cfg)
	until(t, "nobody is attached", func() bool {
		s, err := again.Get(id)
		if err != nil || s.Ended != 0 || s.Operator != "ann" {
			t.Fatalf("%+v %v", s, err)
		}
		return !s.Attached
	})
	if err := again.Sessions.Open(t.Context(), node.SessionOrder{ID: id, Kind: 2, Argv: []string{"true"}}); fleet.KindOf(err) != fleet.Conflict {
		t.Fatalf("%v", err)
	}
	p.types("two\n\x04")
	p.moves(again)
	p.sees("got two")
	if exit := p.leaves(); exit.Code != 0 || strings.Count(p.out.String(), "got") != 2 {
		t.Fatalf("%+v %q", exit, p.out)
	}
	again.ended(id)
}

// An end is told once, whether or not an agent ran at the time.
func TestEndIsToldOnce(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	gate := t.TempDir() + "/gate"
	early, late := h.open(program1("exit 1")), h.open(program1("until [ -e "+gate+" ]; do sleep 0.02; done; exit 2"))
	h.ended(early)
	h.Close()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "it has ended", func() bool { _, err := h.folder(late).end(); return err == nil })
	again := open(t, h.cfg)
	if s := again.ended(late); s.Code != 2 {
		t.Fatalf("%+v", s)
	}
	third := again.reopen()
	if all := third.List(); len(all) != 2 || all[0].Ended == 0 || all[1].Ended == 0 {
		t.Fatalf("%+v", all)
	}
	for _, house := range []*house{h, again, third} {
		for id, told := range house.told {
			if len(told) > 1 || id == early && house != h || id == late && house != again {
				t.Fatalf("told again: %+v", told)
			}
		}
	}
}

// When a supervisor is killed, nothing of its session lives on, also when no agent runs.
func TestSupervisorDies(t *testing.T) {
	t.Parallel()
	for _, agent := range []bool{true, false} {
		h := open(t, Config{})
		marker := cagetest.Marker()
		id := h.open(program1(self(t), "hide", marker))
		p := h.attach(id, false)
		p.sees("hiding")
		if !agent {
			h.Close()
		}
		unix.Kill(h.supervisor(id), unix.SIGKILL)
		if !agent {
			until(t, "the program dies with it", func() bool { return len(cagetest.WithMarker("hide\x00"+marker)) == 0 })
			h = open(t, h.cfg)
		}
		s := h.ended(id)
		if s.Code != -1 || !strings.HasPrefix(s.Why, "its supervisor died") {
			t.Fatalf("%+v", s)
		}
		until(t, "all is dead", func() bool { return len(cagetest.WithMarker(marker)) == 0 })
		<-p.over
		if fleet.KindOf(p.err) != fleet.Expired {
			t.Fatalf("the client heard %v", p.err)
		}
	}
}

// A host that goes down terminates everybody.
func TestTerminated(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	id := h.open(program1("echo ready; exec sleep 1000"))
	p := h.attach(id, false)
	p.sees("ready")
	unix.Kill(h.supervisor(id), unix.SIGTERM)
	if exit := p.leaves(); exit.Signal != "HUP" || !strings.Contains(exit.Why, "goes down") {
		t.Fatalf("%+v", exit)
	}
	h.ended(id)
}

// A folder whose making was cut short is forgotten.
func TestHalfAFolder(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	h.Close()
	id := newID()
	if err := os.Mkdir(string(h.folder(id)), 0o700); err != nil {
		t.Fatal(err)
	}
	again := open(t, h.cfg)
	if exists(string(h.folder(id))) || len(again.Known()) > 0 {
		t.Fatal("it is still there")
	}
}

// Two agents do not share a folder.
func TestOneAgent(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	if _, err := Open(h.cfg); fleet.KindOf(err) != fleet.Conflict {
		t.Fatalf("%v", err)
	}
}
