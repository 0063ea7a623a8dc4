package exec

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Limits of what a report carries of each stream. The whole output stays on the node.
const (
	ReportHead    = 16 << 10 // bytes from the beginning
	ReportTail    = 8 << 10  // bytes from the end
	MaxDetail     = 1 << 10  // bytes of Detail, and of Rule
	MaxSignal     = 32       // bytes of a signal's name
	MaxStepDetail = 200      // bytes of a step's Detail
	MaxStepName   = 128      // bytes of a step's name, and of its action
	MaxReport     = 2*(ReportHead+ReportTail) + 4<<10 + steps.MaxSteps*(2*MaxStepName+MaxStepDetail+100)
)

// Report is what a node says of its run of a command. A later Seq replaces an earlier one.
type Report struct {
	Command  fleet.UUID
	Node     fleet.ID
	Seq      uint32 // 1, 2, … per command and node
	Status   Status
	ExitCode int
	Signal   string // "killed", when a signal ended it
	Received int64  // Unix milliseconds by the node's clock, as all times here
	Started  int64  // 0: not started
	Ended    int64  // 0: not ended
	Stdout   Stream
	Stderr   Stream
	Detail   string   // why, for people
	Charter  fleet.ID // what it was judged by
	Act      uint64
	Rule     string       // the policy that permitted it
	Steps    []StepReport // of a document, in order; those not reached are missing
}

// StepReport is what became of one step of a document. Its output is a range of the run's.
type StepReport struct {
	Name     string
	Action   string
	Status   Status // InProgress, or a final one
	ExitCode int    // -1: none
	Attempts uint32
	Started  int64
	Ended    int64 // 0: not ended
	Stdout   Span
	Stderr   Span
	Detail   string // at most MaxStepDetail bytes
}

// Span is a range of a stream, in bytes.
type Span struct{ From, To int64 }

// Stream is one output stream as a report has it.
type Stream struct {
	Size   int64 // bytes the run wrote
	Kept   int64 // bytes kept on the node; less than Size when it was cut there
	Digest fleet.ID
	Head   []byte // the first bytes; all of it when Size <= ReportHead + ReportTail
	Tail   []byte // the last bytes, when there is a gap after Head
}

// Gap returns how many bytes lie between head and tail.
func (s Stream) Gap() int64 { return s.Size - int64(len(s.Head)) - int64(len(s.Tail)) }

// Check reports what is wrong with a report, or nil.
func (r Report) Check() error {
	for _, s := range []Stream{r.Stdout, r.Stderr} {
		if len(s.Head) > ReportHead+ReportTail || len(s.Tail) > ReportTail || s.Size < 0 || s.Gap() < 0 {
			return fleet.Errorf(fleet.Invalid, "report with more output than a report may carry")
		}
		if s.Kept < 0 || s.Kept > s.Size {
			return fleet.Errorf(fleet.Invalid, "report with %d bytes kept of %d", s.Kept, s.Size)
		}
	}
	switch {
	case !r.Status.known():
		return fleet.Errorf(fleet.Invalid, "report of a status that is not understood by this version")
	case len(r.Steps) > steps.MaxSteps || slices.ContainsFunc(r.Steps, StepReport.malformed):
		return fleet.Errorf(fleet.Invalid, "report with malformed steps")
	case len(r.Detail) > MaxDetail || len(r.Rule) > MaxDetail || len(r.Signal) > MaxSignal || r.Seq == 0:
		return fleet.Errorf(fleet.Invalid, "malformed report")
	}
	return nil
}

func (s StepReport) malformed() bool {
	return len(s.Name) > MaxStepName || len(s.Action) > MaxStepName || len(s.Detail) > MaxStepDetail || !s.Status.known() ||
		s.Stdout.From < 0 || s.Stdout.To < s.Stdout.From || s.Stderr.From < 0 || s.Stderr.To < s.Stderr.From
}

func (s Status) known() bool {
	switch s {
	case Pending, InProgress, Unknown:
		return true
	}
	return s.Final()
}

// Supersedes reports whether new takes the place of old, both of one command and node; a zero old is none at all. A
// final report replaces one that is not, whatever their Seq; among those that are not, the higher Seq wins; Unknown is
// one of them, as it may become the truth. A final report never changes. So it does not matter in which order the
// reports of a node arrive, or how often.
func Supersedes(old, new Report) bool {
	switch {
	case old.Seq == 0:
		return true
	case old.Command != new.Command || old.Node != new.Node || old.Status.Final():
		return false
	case new.Status.Final():
		return true
	}
	return new.Seq > old.Seq
}

// OpenReport verifies a report: the node that ran signed it.
func OpenReport(record auth.Record, e auth.Envelope) (Report, error) {
	if len(e.Body) > MaxReport {
		return Report{}, fleet.Errorf(fleet.Exhausted, "report of %d bytes; at most %d", len(e.Body), MaxReport)
	}
	n, ok := record.Roster.Node(e.Key) // results of a node that was removed since still count
	if !ok {
		return Report{}, fleet.Errorf(fleet.Denied, "report by node %s, which is not enrolled", e.Key)
	}
	r, err := auth.Open[Report](e, auth.ForReport, record.Charter.Fleet(), n.Key)
	if err == nil && r.Node != e.Key {
		err = fleet.Errorf(fleet.Denied, "node %s reports for another node", n.Name)
	}
	if err == nil {
		err = r.Check()
	}
	return r, err
}

// Tally counts where the nodes of a command stand.
type Tally struct {
	Targets, Success, Failed, Running, Pending, Unreachable, Refused, Unknown int

	Terminated int    // never started because the order as a whole was stopped
	Stopped    string // why the rollout gave no more grants: StoppedByErrors, …, StoppedUnsaid; empty: it was not stopped
}

// Outcome is what a command came to on one node, as far as this view of the fleet knows.
type Outcome struct {
	Node      fleet.ID
	Report    Report // zero when none came, but for Detail where the rollout explains that
	Status    Status
	Reachable bool // gossip says the node is there
}

// WaitsForTurn is the detail of an outcome that is Pending because the rollout has not come to the node.
const WaitsForTurn = "waits for its turn"

// Outcomes joins the frozen set with the reports that came. online tells whom gossip sees; now and expires tell what
// can no longer start.
func Outcomes(nodes []fleet.ID, reports map[fleet.ID]Report, online func(fleet.ID) bool, expires, now time.Time) []Outcome {
	return Rollout{}.Outcomes(nodes, reports, online, expires, now)
}

// Outcomes is the Outcomes of a command with this rollout: a node that was never granted cannot have started. nodes is
// the frozen set, in its order.
func (r Rollout) Outcomes(nodes []fleet.ID, reports map[fleet.ID]Report, online func(fleet.ID) bool, expires, now time.Time) []Outcome {
	out := make([]Outcome, 0, len(nodes))
	over := now.After(expires.Add(auth.MaxSkew))
	for i, id := range nodes {
		o := Outcome{Node: id, Status: Pending, Reachable: online(id)}
		if report, ok := reports[id]; ok {
			o.Report, o.Status = report, report.Status
		} else if over {
			// It can no longer start, but it may have started unheard. Only the node itself can say DeliveryTimedOut.
			o.Status = Unknown
		}
		if len(r.Nodes) == len(nodes) && (o.Status == Pending || o.Report.Seq == 0) {
			o = r.ungranted(uint32(i), o, over)
		}
		out = append(out, o)
	}
	return out
}

// ungranted says more of a node of which nothing is known but that it was never granted.
func (r Rollout) ungranted(i uint32, o Outcome, over bool) Outcome {
	s := r.State(i)
	if s != NodeIdle && s != NodeBarred {
		return o
	}
	switch {
	case s == NodeBarred && !r.Waits && r.Stopped != StoppedUnneeded:
		o.Status, o.Report.Detail = Skipped, "not needed on this node"
	case r.Stopped == StoppedByCancel:
		o.Status, o.Report.Detail = Cancelled, "cancelled before its turn"
	case r.Stopped != "":
		o.Status, o.Report.Detail = Terminated, "never started: "+r.why()
	case over:
		o.Status, o.Report.Detail = DeliveryTimedOut, "it expired before its turn"
	default:
		o.Report.Detail = WaitsForTurn
	}
	return o
}

// why says for people why there are no more grants.
func (r Rollout) why() string {
	switch r.Stopped {
	case StoppedByErrors:
		return "too many nodes failed"
	case StoppedByGate:
		return "a gate failed"
	case StoppedByCancel:
		return "the command was cancelled"
	case StoppedUnneeded:
		return "it was not needed"
	}
	return ""
}

// Tally sums up outcomes of a command with this rollout. The rollout may be older than what the nodes say: the verdict must
// not depend on which came first, so what follows from the outcomes alone counts as if it had been heard.
func (c Command) Tally(r Rollout, outcomes []Outcome) Tally {
	t := r.Count(outcomes)
	switch {
	case !c.Pace.Limited || t.Stopped != "":
	case failuresIn(outcomes) > int(c.Pace.Errors):
		t.Stopped = StoppedByErrors
	case !c.After.IsZero(): // not needed on those nodes, as if they had been skipped
		t.Success, t.Terminated = t.Success+t.Terminated, 0
	case t.Terminated > 0:
		t.Stopped = StoppedUnsaid
	}
	return t
}

// failuresIn counts the ends that a rollout counts as failures. Silence is none.
func failuresIn(outcomes []Outcome) (n int) {
	for _, o := range outcomes {
		if as, ended := EndKindOf(o.Report.Status); ended && as == EndedFailed {
			n++
		}
	}
	return n
}

// Count sums up outcomes, with what the rollout itself says of its stop.
func (r Rollout) Count(outcomes []Outcome) Tally {
	t := Count(outcomes)
	t.Stopped = r.Stopped
	return t
}

// Count sums outcomes up.
func Count(outcomes []Outcome) Tally {
	t := Tally{Targets: len(outcomes)}
	for _, o := range outcomes {
		switch o.Status {
		case Success, Skipped:
			t.Success++
		case Failed, TimedOut, Cancelled:
			t.Failed++
		case Terminated:
			t.Terminated++
		case Refused, Undeliverable, InvalidPlatform:
			t.Refused++
		case Unknown, DeliveryTimedOut:
			t.Unknown++
		case InProgress:
			t.wait(o.Reachable, &t.Running)
		case Pending:
			t.wait(o.Reachable, &t.Pending)
		}
	}
	return t
}

func (t *Tally) wait(reachable bool, n *int) {
	if !reachable {
		n = &t.Unreachable
	}
	*n++
}

// Settled reports whether nothing more is to be waited for: every node that can be reached has ended.
func (t Tally) Settled() bool { return t.Running == 0 && t.Pending == 0 }

// Exit codes of commands that act on many nodes.
const (
	ExitOK      = 0
	ExitFailed  = 1
	ExitUsage   = 2
	ExitRefused = 3
	ExitBudget  = 4
	ExitUnknown = 5
)

// ExitCode returns what the command line exits with: 4 outranks 5, which outranks 1.
func (t Tally) ExitCode() int {
	switch {
	case t.Stopped == StoppedByErrors || t.Stopped == StoppedByGate || t.Stopped == StoppedUnsaid:
		return ExitBudget
	case t.Unknown+t.Unreachable+t.Pending+t.Running > 0:
		return ExitUnknown
	case t.Refused > 0 && t.Refused == t.Targets:
		return ExitRefused
	case t.Failed+t.Refused > 0 || t.Terminated > 0 && t.Stopped != StoppedUnneeded:
		return ExitFailed
	}
	return ExitOK
}
