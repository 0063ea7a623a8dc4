package runner

import (
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/exec/cage/cagetest"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// leaveBehind is an act that starts what is no part of its run, if its supervisor lets go of it, and waits: "DIR HOW MARKER".
func leaveBehind(in string) int {
	dir, how, marker := word(in, 0), word(in, 1), word(in, 2)
	command, err := fleet.ParseUUID(os.Getenv(commandIDVar))
	if err == nil {
		err = LetGo(dir, command)
	}
	if err != nil {
		fmt.Println(err)
		return 9
	}
	at := cage.Host()
	for _, home := range []string{at.V2(), at.V1()} {
		if home != "" {
			_ = os.WriteFile(filepath.Join(filepath.Dir(home), "cgroup.procs"), []byte("0"), 0)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return 9
	}
	cmd := osexec.Command(exe, cagetest.HiddenArg, marker)
	cmd.Env, cmd.SysProcAttr = []string{}, &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 9
	}
	fmt.Println("left")
	if how == "stays" {
		time.Sleep(time.Hour)
	}
	return 0
}

func word(text string, i int) string { return strings.Fields(text)[i] }

// TestLetGo: what an act leaves behind when its supervisor let go of it outlives every end of its run; what a later step leaves does
// not.
func TestLetGo(t *testing.T) {
	t.Parallel()
	for _, contain := range containments() {
		for _, c := range []struct {
			name, how string
			end       func(*harness, fleet.UUID) // nil: the next step takes too long
			want      exec.Status
		}{
			{"cancel", "stays", func(h *harness, id fleet.UUID) { _ = h.Cancel(id) }, exec.Cancelled},
			{"next step", "ends", nil, exec.TimedOut},
			{"killed", "stays", func(h *harness, id fleet.UUID) { unix.Kill(supervisorOf(t, h, id), unix.SIGKILL) }, exec.Unknown},
		} {
			t.Run("contain="+contain+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				h := open(t, Config{contain: contain, grace: 100 * time.Millisecond})
				left, hidden := cagetest.Marker(), cagetest.Marker()
				t.Cleanup(func() { endMarked(left) })
				late := steps.Step{Argv: []string{self(t), "hide", hidden}, Timeout: 1500}
				s := document(steps.Step{Act: "leave", Inputs: []byte(h.cfg.Dir + " " + c.how + " " + left)}, late)
				h.start(s)
				await(h, func(e Output) bool { return e.Command == s.Command && e.StdoutSize > 0 })
				if out := h.text(s.Command, Stdout); !strings.HasPrefix(out, "left\n") {
					t.Fatal(out)
				}
				if c.end != nil {
					c.end(h, s.Command)
				}
				wantStatus(t, h.ended(s.Command), c.want)
				if len(cagetest.WithMarker(left)) != 1 {
					t.Error("what was let go of is dead")
				}
				if all := cagetest.WithMarker(hidden); len(all) > 0 {
					t.Errorf("still alive: %q", all)
				}
			})
		}
	}
}

// TestNothingElseIsLetGo: a script cannot ask for it.
func TestNothingElseIsLetGo(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	s := document(sh("echo up; sleep 1000"))
	h.start(s)
	await(h, func(e Output) bool { return e.Command == s.Command && e.StdoutSize > 0 })
	if err := LetGo(h.cfg.Dir, s.Command); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("%v", err)
	}
	if err := LetGo(h.cfg.Dir, newID()); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("%v", err)
	}
	if err := h.Cancel(s.Command); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, h.ended(s.Command), exec.Cancelled)
}

func endMarked(marker string) {
	for _, line := range cagetest.WithMarker(marker) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err == nil {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}
