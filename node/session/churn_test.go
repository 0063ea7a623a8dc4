package session

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/exec/cage/cagetest"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// Sessions that are opened, attached to, left, killed and lose their supervisors at random leave no process, terminal, cgroup,
// open file or goroutine.
func TestChurn(t *testing.T) {
	const sessions, atOnce = 40, 5
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	h := open(t, Config{})
	marker := cagetest.Marker()
	var all sync.WaitGroup
	for worker := range atOnce {
		all.Go(func() {
			chance := rand.New(rand.NewPCG(1, uint64(worker)))
			for range sessions / atOnce {
				h.comesAndGoes(chance, marker)
			}
		})
	}
	all.Wait()
	for _, id := range h.all() {
		h.ended(id)
		until(t, "the supervisor is gone", func() bool {
			_ = h.Kill(id, "") // what waits for its client need not
			return !h.folder(id).alive()
		})
	}
	if left := cagetest.WithMarker(marker); len(left) > 0 {
		t.Fatalf("still alive: %v", left)
	}
	if n := len(h.List()); n != sessions {
		t.Fatalf("%d sessions are remembered", n)
	}
	at := cage.Host()
	for _, id := range h.all() {
		for _, home := range []string{at.V1(), at.V2()} {
			if home != "" && exists(filepath.Join(home, cage.Name(string(h.folder(id))))) {
				t.Fatalf("session %s left its cgroup", id)
			}
		}
	}
	h.Close()
	until(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines })
	until(t, "files are closed", func() bool { return openFiles(t) <= files })
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// comesAndGoes is one session: what runs, and how it ends, are drawn.
func (h *house) comesAndGoes(chance *rand.Rand, marker string) {
	line := `trap '' HUP; setsid sleep 1000 ` + marker + ` 2>/dev/null & (sh -c 'while :; do sleep 0.1; done' ` + marker + ` &) ; echo ready; `
	o := []func(...string) node.SessionOrder{program1, onTerminal}[chance.IntN(2)](line + []string{"exit 3", "cat", "yes", "exec sleep 1000"}[chance.IntN(4)])
	id := h.open(o)
	if chance.IntN(3) > 0 {
		p := h.attach(id, len(o.Terminal) > 0)
		p.seesOrEnds("ready")
		defer func() { p.leave(); p.stdin.Close(); <-p.over }()
	}
	switch chance.IntN(3) {
	case 0:
		_ = h.Kill(id, "at random") // it may have ended
	case 1:
		if pid := h.supervisor(id); pid != 0 {
			unix.Kill(pid, unix.SIGKILL)
		}
	default:
		_ = h.Kill(id, "first")
		_ = h.Kill(id, "second")
	}
	h.ended(id)
}

func (p *person) seesOrEnds(want string) {
	until(p.t, "something is seen", func() bool {
		select {
		case <-p.over:
			return true
		default:
			return strings.Contains(p.out.String(), want)
		}
	})
}

// supervisor finds the process; 0: it is gone.
func (h *house) supervisor(id fleet.UUID) int {
	for _, pid := range cage.Processes() {
		line, err := os.ReadFile(procFile(pid, "cmdline"))
		if err == nil && strings.Contains(string(line), "supervise-session\x00"+id.String()) {
			return pid
		}
	}
	return 0
}

// Ended sessions whose clients never come are bounded, however fast they are made, and hold no thread of the agent's.
func TestLingering(t *testing.T) {
	h := open(t, Config{})
	threads := h.threads()
	var ids []fleet.UUID
	for range maxLingering + 6 {
		ids = append(ids, h.open(program1("echo")))
	}
	for _, id := range ids {
		h.ended(id)
	}
	alive := func() (n int) {
		for _, id := range ids {
			if h.folder(id).alive() {
				n++
			}
		}
		return n
	}
	until(t, "the oldest are gone", func() bool { return alive() <= maxLingering })
	if n := alive(); n < maxLingering-6 {
		t.Fatalf("only %d wait for their clients", n)
	}
	if more := h.threads() - threads; more > maxLingering/2 {
		t.Fatalf("%d threads more", more)
	}
}

func (h *house) threads() int {
	h.t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		h.t.Fatal(err)
	}
	return len(entries)
}
