package quorum

import (
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// older is a tape of a program that does not understand items which begin with "new".
type older struct {
	tape
	halted atomic.Pointer[error]
}

func (o *older) Apply(index uint64, item []byte) any {
	if strings.HasPrefix(string(item), "new") {
		err := error(fleet.Newer("item %q", item))
		o.halted.CompareAndSwap(nil, &err)
	}
	if err := o.Halted(); err != nil {
		return err
	}
	return o.tape.Apply(index, item)
}

func (o *older) Halted() error {
	if err := o.halted.Load(); err != nil {
		return *err
	}
	return nil
}

func (o *older) Restore(r io.Reader) error {
	if err := o.tape.Restore(r); err != nil {
		return err
	}
	for _, item := range o.all() {
		if strings.HasPrefix(string(item), "new") {
			return fleet.Newer("item %q", item)
		}
	}
	return nil
}

// A replica that comes to what only a newer program understands takes nothing more, goes on voting, does not lead, and has
// everything when a newer program opens it.
func TestReplicaHaltsAtWhatIsNewer(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		nodes := f.grow(3, 0)
		f.stop(nodes[2])
		old := &older{}
		f.start(3, func(c *Config) { c.Machine = old })
		f.propose(nodes[0], "a", "new b", "c")
		f.until("the older one halts", func() bool { return old.Halted() != nil })
		f.propose(nodes[0], "d")
		if got := len(old.all()); got != 1 {
			t.Errorf("%d items behind which it stopped, want 1", got)
		}
		f.isolate(nodes[1].id) // only with the older one's vote and log can anything be agreed
		f.propose(nodes[0], "e")
		f.heal(nodes[1].id)
		f.until("the others are equal", func() bool { return nodes[1].tape.digest() == nodes[0].tape.digest() })
		if err := nodes[2].raft.Snapshot().Error(); err == nil {
			t.Error("it took a snapshot of what it does not have, and drops the log that it left out")
		}

		old3, leader := nodes[2].self, f.leader(nodes...)
		if err := leader.raft.LeadershipTransferToServer(old3.serverID(), old3.address()).Error(); err != nil {
			t.Fatal(err)
		}
		f.until("one that can leads", func() bool {
			leader := f.leader(nodes...)
			_, err := leader.Propose(t.Context(), []byte("f"))
			return leader != nodes[2] && err == nil
		})

		f.stop(nodes[2])
		f.start(3)
		f.same(nodes...)
		if got := len(nodes[2].tape.all()); got < 6 {
			t.Errorf("%d items after its upgrade", got)
		}
	})
}

func TestHaltedLeaderAnswersNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		old := &older{}
		alone := f.start(1, func(c *Config) { c.Machine = old })
		if err := alone.Bootstrap(); err != nil {
			t.Fatal(err)
		}
		f.leader(alone)
		f.propose(alone, "a", "new b")
		if _, err := alone.Propose(t.Context(), []byte("c")); !fleet.IsNewer(err) {
			t.Errorf("a write: %v", err)
		}
		if err := alone.Read(t.Context()); !fleet.IsNewer(err) {
			t.Errorf("a read: %v", err)
		}
	})
}

// A snapshot that only a newer program can read refuses to open, says why, and is neither put aside nor begun anew.
func TestNewerSnapshotIsNotOpened(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fabric) {
		alone := f.start(1)
		if err := alone.Bootstrap(); err != nil {
			t.Fatal(err)
		}
		f.leader(alone)
		f.propose(alone, "a")
		for _, item := range []string{"new b", ""} { // the older snapshot can be read, and the log behind it is gone
			if err := alone.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
			if item != "" {
				f.propose(alone, item)
			}
		}
		f.stop(alone)
		cfg := f.config(alone.id, alone.dir, nil)
		cfg.Machine = &older{}
		q, err := Open(cfg)
		if !fleet.IsNewer(err) {
			t.Errorf("it opened: %v", err)
		}
		if q != nil {
			_ = q.Close()
		}
		if aside, _ := filepath.Glob(filepath.Join(alone.dir, "damaged-*")); len(aside) > 0 {
			t.Error("it was put aside")
		}
		f.start(1)
		f.leader(alone)
		if got := len(alone.tape.all()); got != 2 {
			t.Errorf("%d items when the newer program is back", got)
		}
	})
}
