package host

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/budget"
	"github.com/muster-fleet/muster/node/fleet"
)

// sampleEvery is how often an agent with a budget looks at what it takes: three small files of /proc.
const sampleEvery = 10 * time.Second

// actsKept bounds the acts that the doctor is told of.
const actsKept = 8

// restartedName is the file of the data folder that says when the agent was restarted for its budget's sake.
const restartedName = "budget-restart"

// keeper keeps an agent to its budget: it measures, has the watch decide, and does what it says.
type keeper struct {
	budget   func() budget.Budget // as it is configured now
	measure  func() budget.Sample
	restart  func(why string) error
	remember func() error     // that it restarts, for the process that comes then
	note     func(budget.Act) // before it is done
	log      *slog.Logger

	mu    sync.Mutex
	tally budget.Tally
	acts  []shape.BudgetAct // the newest last
}

// run measures and acts until ctx ends. restarted is the boot time of the last restart, negative if there was none.
func (k *keeper) run(ctx context.Context, restarted time.Duration) {
	watch := budget.New(k.budget(), k.measure().Boot, restarted)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var acts []budget.Act
		watch, acts = watch.Within(k.budget()).Step(k.measure())
		for _, a := range acts {
			k.do(a)
		}
	}
}

func (k *keeper) do(a budget.Act) {
	if a.Do == budget.Restart {
		if err := k.remember(); err != nil { // the next process would know of no restart, and start anew within minutes
			k.log.Warn("the agent is far over its budget, and does not start anew: that it did could not be kept, and it would do so again and again; make room on the disk", "why", a.Why, "err", err)
			return
		}
	}
	k.mu.Lock()
	k.tally = k.tally.Count(a)
	k.acts = append(k.acts, shape.BudgetAct{At: time.Now().UTC(), What: a.Do.String(), Why: a.Why})
	k.acts = k.acts[max(0, len(k.acts)-actsKept):]
	k.mu.Unlock()
	k.note(a)
	switch a.Do {
	case budget.Return:
		debug.FreeOSMemory()
	case budget.Restart:
		if err := k.restart("over its budget: " + a.Why); err != nil {
			k.log.Warn("the agent is far over its budget, and did not start anew: restart it", "why", a.Why, "err", err)
		}
	case budget.Refuse, budget.Admit: // refusing tells
	}
}

// refusing returns why nothing large and no session is taken now; "": it is.
func (k *keeper) refusing() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tally.Refusing
}

// refuse returns the error that they get; nil: none.
func (k *keeper) refuse(name string) error {
	why := k.refusing()
	if why == "" {
		return nil
	}
	return fleet.Errorf(fleet.Exhausted, "the agent of %s is over its budget (%s): it takes no new sessions and nothing large for now", name, why).
		Hinted("it takes them again by itself; memory.budget and cpu.budget in its configuration are what it keeps to")
}

// BudgetTally counts what this host's agent has done to keep to its budget.
func (h *Host) BudgetTally() budget.Tally {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	return h.keeper.tally
}

func (h *Host) budgetCheck() shape.BudgetCheck {
	k := &h.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	return shape.BudgetCheck{
		Memory: k.budget().MemoryBytes, CPU: k.budget().CPUPercent, Refusing: k.tally.Refusing, Acts: append([]shape.BudgetAct{}, k.acts...),
	}
}

func (h *Host) makeKeeper() {
	h.keeper.budget = func() budget.Budget { return budget.Budget(h.Config().Budgets()) }
	h.keeper.restart, h.keeper.log = h.restart, h.opts.Log
	h.keeper.measure = func() budget.Sample { return budgetSample(h.opts.Clock().Boot) }
	if at := h.lastRestart(); at >= 0 { // the process that did it is gone, and its memory of it
		now := h.opts.Clock()
		h.keeper.acts = []shape.BudgetAct{{At: now.Wall.Add(at - now.Boot).UTC(), What: budget.Restart.String(), Why: "the agent before this one was over its budget; its log has the figures"}}
		h.keeper.tally.Restarts = 1
	}
	h.keeper.remember = func() error { return h.putRestarted(h.opts.Clock().Boot) }
	h.keeper.note = func(a budget.Act) {
		h.opts.Log.Warn("the agent keeps to its budget", "act", a.Do.String(), "why", a.Why)
	}
}

// putRestarted keeps when the agent was restarted: boot times count within one boot.
func (h *Host) putRestarted(at time.Duration) error {
	path := filepath.Join(h.opts.Dir, restartedName)
	text := fmt.Sprintf("%s %d\n", Facts("").BootID, at.Nanoseconds())
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil { // a crash costs one hour's restraint at most
		return err
	}
	return os.Rename(path+".new", path)
}

// lastRestart returns what putRestarted kept in this boot; negative: nothing.
func (h *Host) lastRestart() time.Duration {
	text, err := os.ReadFile(filepath.Join(h.opts.Dir, restartedName))
	boot, at, ok := strings.Cut(strings.TrimSpace(string(text)), " ")
	if err != nil || !ok || boot != Facts("").BootID {
		return -1
	}
	ns, err := strconv.ParseInt(at, 10, 64)
	if err != nil || ns < 0 {
		return -1
	}
	return time.Duration(ns)
}

// budgetSample measures this process.
func budgetSample(boot time.Duration) budget.Sample {
	s := budget.Sample{Boot: boot, Memory: anonymous()}
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		s.CPU = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return s
}

// anonymous returns the bytes of memory that are this process's own: pages of files (the program, the replica's store) go when the
// host needs the room.
func anonymous() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	var sum int64
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && (fields[0] == "RssAnon:" || fields[0] == "RssShmem:") {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			sum += n << 10
		}
	}
	return sum
}

// boundSessions are sessions of which none is opened while the agent is over its budget.
type boundSessions struct {
	agent.Sessions
	refuse func() error
}

// Open opens a session, or says that the agent is over its budget.
func (b boundSessions) Open(ctx context.Context, order node.SessionOrder) error {
	if err := b.refuse(); err != nil {
		return err
	}
	return b.Sessions.Open(ctx, order)
}
