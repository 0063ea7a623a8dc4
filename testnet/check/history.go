package check

import (
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Ack is what became of a request, as its sender was told.
type Ack string

// The answers.
const (
	Accepted Ack = "accepted"
	Refused  Ack = "refused"  // for certain: nothing of it may be found
	InDoubt  Ack = "in doubt" // no answer, or one that does not say
)

// History is what happened to a fleet, as far as somebody outside it can tell.
type History struct {
	Ended time.Time     // when the last word was asked for; zero: not told
	Skew  time.Duration // the most that a host's clock was off, among offs that pass for normal

	Orders  []Order
	Cancels []Cancel
	Runs    []Run
	Reports []Report // in the order in which they were told
	Listed  map[fleet.UUID]bool
	Excuses []Excuse

	Writes  []Write
	Present map[string]string // what there is in the end, by Write.What; nil: not told
	Reads   []Read

	Replicas []Replica // in the order in which they were asked
	Last     []Replica // of all servers, when the fleet was at rest

	Charter    *auth.Charter // nil: signatures are not judged
	Statements []Statement
	IDs        map[string]fleet.ID // of nodes, by name; needed for Statements

	Processes []Process // what is alive in the end
	Levels    []Level   // readings at rest, in the order in which they were taken
}

// Order is a command that somebody asked for.
type Order struct {
	ID       fleet.UUID
	Does     string   // what it runs; the same words as Run.Did
	Nodes    []string // the set it is for
	Ack      Ack
	Asked    time.Time // when its sender began
	Answered time.Time // when its sender was told
	Expires  time.Time // after it no node may start; zero: not judged
	Timeout  time.Duration
	Pace     exec.Pace // the zero Pace: no limits
	// Permitted says that policy and roster are known to let it run on all its nodes, so that none may refuse it.
	Permitted bool
	Loose     string // why nodes may refuse it or fail to start it, as a clock that was off when it was signed; empty: they may not
}

// Cancel is a wish to stop a command.
type Cancel struct {
	Command fleet.UUID
	Ack     Ack
	Asked   time.Time
}

// Run is one beginning of a command on a node, by evidence that does not come from the fleet.
type Run struct {
	Command fleet.UUID
	Node    string
	Began   time.Time
	Did     string    // what ran, in the words of Order.Does; empty: not told
	Digest  fleet.ID  // of the signed body that it was started for; zero: not told
	Stopped time.Time // when it was asked to stop (SIGTERM); zero: never, or it could not tell
	End     *End      // nil: it was killed, or goes on
	Writes  string    // what it would write to standard output if left alone
}

// End is how a run ended by itself.
type End struct {
	At   time.Time
	Exit int
}

// Report is what the fleet says of a command on a node.
type Report struct {
	Command fleet.UUID
	Node    string
	By      string // who was told so: another node's name, for people
	Status  exec.Status
	Exit    *int // nil: none is told
	Signal  string
	Detail  string
	Stdout  *Output // nil: not told
}

// Equal reports whether two reports say the same, whoever was told. A report without output says nothing against another's.
func (r Report) Equal(other Report) bool {
	exits := (r.Exit == nil && other.Exit == nil) || (r.Exit != nil && other.Exit != nil && *r.Exit == *other.Exit)
	outputs := r.Stdout == nil || other.Stdout == nil || *r.Stdout == *other.Stdout
	return r.Status == other.Status && r.Signal == other.Signal && exits && outputs
}

// Output is what a report has of standard output.
type Output struct {
	Size       int64
	Head, Tail string // Head is all of it when Tail is empty and its length is Size
}

// Excuse is a span in which something happened to a node after which it need not know how a run ended, or could not start
// one.
type Excuse struct {
	Node     string
	From, To time.Time // To zero: it lasts
	Why      string
	Starting bool // only for runs that left no trace: an agent that dies between its ledger and the start of a run
}

// Write is a change other than a command: What becomes Value, or goes when Value is empty.
type Write struct {
	What, Value     string
	Ack             Ack
	Asked, Answered time.Time
}

// Read is a linearizable look at the list of commands.
type Read struct {
	By              string
	Asked, Answered time.Time
	Listed          map[fleet.UUID]bool
}

// Replica is what one server said of its replicated state.
type Replica struct {
	Node   string
	Act    uint64 // entries that it took: consensus.State.Taken
	Digest string
}

// Statement is a command as the servers keep it.
type Statement struct {
	Order     exec.Order
	Committed time.Time
	Charter   *auth.Charter // under which it was committed; nil: History.Charter
}

// Process is a process of a run, alive.
type Process struct {
	Node    string
	PID     int
	Text    string // its command line
	Command fleet.UUID
	// Supervisor tells the agent's own process for the run from what the run has started: it goes with the run's end.
	Supervisor bool
}

// Level is what one agent's process held at rest.
type Level struct {
	Node       string
	Life       int // tells the agent's processes apart: its PID
	Goroutines int
	FDs        int
	RSS        int64 // bytes
}

// key is a command on a node.
type key struct {
	command fleet.UUID
	node    string
}

// runsOf groups runs by command and node.
func (h History) runsOf() map[key][]Run {
	out := map[key][]Run{}
	for _, r := range h.Runs {
		k := key{r.Command, r.Node}
		out[k] = append(out[k], r)
	}
	return out
}

// final returns the last word on every command and node.
func (h History) final() map[key]Report {
	out := map[key]Report{}
	for _, r := range h.Reports {
		out[key{r.Command, r.Node}] = r
	}
	return out
}

func (h History) order(id fleet.UUID) (Order, bool) {
	for _, o := range h.Orders {
		if o.ID == id {
			return o, true
		}
	}
	return Order{}, false
}

// taken reports whether a command became the fleet's: it was acknowledged, or nobody knows and it is there.
func (h History) taken(o Order) bool {
	return o.Ack == Accepted || (o.Ack == InDoubt && h.Listed[o.ID])
}

// cancelled reports whether somebody may have cancelled a command with success.
func (h History) cancelled(id fleet.UUID) bool {
	for _, c := range h.Cancels {
		if c.Command == id && c.Ack != Refused {
			return true
		}
	}
	return false
}

// excused reports whether a node need not know what became of an order: something happened to it after the order was asked
// for, and not after its run had ended.
func (h History) excused(o Order, node string, runs []Run) bool {
	for _, e := range h.Excuses {
		over := len(runs) == 1 && runs[0].End != nil && runs[0].End.At.Add(slack).Before(e.From)
		if e.Starting && len(runs) > 0 {
			continue
		}
		if e.Node == node && !over && (e.To.IsZero() || !e.To.Before(o.Asked)) {
			return true
		}
	}
	return false
}
