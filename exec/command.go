package exec

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Limits of a command.
const (
	MaxCommand     = 160 << 10           // bytes of its signed body: 64 KiB of scripts and words, as much of parameters, and what is said of these
	MaxTargets     = 10_000              // nodes of one command
	MaxTimeout     = 48 * time.Hour      // SSM's
	DefaultTimeout = 3600 * time.Second  // SSM's executionTimeout
	MaxExpires     = 30 * 24 * time.Hour // SSM's
	DefaultExpires = time.Hour           // SSM's
	MaxDirect      = 15 * time.Minute    // validity of a command that the quorum does not order
	MaxDocuments   = 16                  // of one command, those that its document runs in turn included
	MaxValues      = 200                 // for the parameters of a document: SSM's
	MaxValueName   = 128                 // bytes
	MaxComment     = 1 << 10             // bytes
	MaxWaves       = 64
	MaxCancelNodes = 1_000 // nodes that one cancel names
	// DefaultConcurrency is how many nodes run at a time where only the failures are limited: SSM's.
	DefaultConcurrency = 50
)

// Command is the body that an operator signs. The set of nodes is frozen: Count and Set say which.
type Command struct {
	Header auth.Header // Expires: the last moment at which a node may start
	Target string      // the expression, in canonical form
	Count  uint32
	Set    fleet.ID // SetDigest of the nodes' IDs
	Run    Run
	// Documents are what Run.Values are for: the first is run, the others are those that it runs in turn. Empty: a plain
	// command.
	Documents []DocumentRef
	Pace      Pace
	After     After
	Comment   string
	OutputTo  string // where the full output goes besides: "", "syslog", an absolute folder, "s3://BUCKET/PREFIX"
	// Params are the store's parameters that {{ ssm:NAME }} and {{ ssm-secure:NAME }} stand for, in documents, in values and in
	// the environment, sorted by name and selector.
	Params []ParamRef
}

// DocumentRef pins a document: the version that was shown to the operator, by the digest of its text.
type DocumentRef struct {
	Name    string
	Version uint32
	Digest  fleet.ID // SHA-256 of the text
}

// Argument is a value for a document's parameter.
type Argument struct {
	Name  string
	Value string // JSON
}

// Pace is how a command spreads over its set. The zero Pace: every node starts at once.
type Pace struct {
	Limited     bool         // nodes start with a grant only
	Concurrency uint32       // nodes at a time; 0: no limit
	Errors      uint32       // failures that are borne; the one after stops the command
	Strict      bool         // failed + running never exceeds Errors + 1
	Waves       []uint32     // how many nodes may have been granted up to the end of each wave; the last is Count. Empty: one wave
	Gates       []fleet.UUID // Gates[i] must succeed before wave i+2 begins: commands with After{this, i+1}. Empty or len(Waves)-1
	OnStop      fleet.UUID   // the command with After{this, 0}; zero: none
}

// After makes a command wait for another: nodes get it only by grants that follow from what became of that one. The zero
// After: it waits for nothing.
type After struct {
	Command fleet.UUID
	Wave    uint32 // the gate behind this wave, from 1; 0: what is run when the command was stopped
}

// Run is what a node shall run.
type Run struct {
	Argv    []string // one element: a shell line (sh -c); several: an argv, no shell. With Script: its arguments
	Script  []byte
	Env     []string // K=V
	Dir     string   // empty: the account's home
	User    string   // empty: the agent's own account
	Stdin   []byte
	Timeout int64      // milliseconds from start
	Values  []Argument // for the parameters of the first document, sorted by name
}

// IsZero reports whether the command waits for no other.
func (a After) IsZero() bool { return a == After{} }

// Shell reports whether the run goes through a shell.
func (r Run) Shell() bool { return len(r.Script) > 0 || len(r.Argv) == 1 }

// Text returns one line that shows what runs without a document, for lists.
func (r Run) Text() string {
	if len(r.Script) > 0 {
		return strings.TrimSpace("script (" + fleet.Sum(r.Script).String()[:8] + ") " + strings.Join(r.Argv, " "))
	}
	return strings.Join(r.Argv, " ")
}

// Text returns one line that shows what the command runs, for lists.
func (c Command) Text() string {
	if len(c.Documents) == 0 {
		return c.Run.Text()
	}
	words := []string{c.Documents[0].Name + ":" + strconv.FormatUint(uint64(c.Documents[0].Version), 10)}
	for _, v := range c.Run.Values {
		words = append(words, v.Name+"="+v.Value)
	}
	return strings.Join(words, " ")
}

// Document returns the name of the document that the command runs; empty for a plain command.
func (c Command) Document() string {
	if len(c.Documents) == 0 {
		return ""
	}
	return c.Documents[0].Name
}

// Cancel stops a command: nodes that have not started never will, running ones are killed.
type Cancel struct {
	Header  auth.Header
	Command fleet.UUID
	Nodes   []fleet.ID // sorted; only these are meant. Empty: all
}

// Concerns reports whether the cancel is meant for a node.
func (c Cancel) Concerns(id fleet.ID) bool {
	if len(c.Nodes) == 0 {
		return true
	}
	_, ok := slices.BinarySearchFunc(c.Nodes, id, fleet.ID.Compare)
	return ok
}

// Check reports what is wrong with a cancel on the face of it, or nil.
func (c Cancel) Check() error {
	if len(c.Nodes) > MaxCancelNodes {
		return fleet.Errorf(fleet.Invalid, "a cancel names at most %d nodes, not %d", MaxCancelNodes, len(c.Nodes)).
			Hinted("cancel the whole command: muster command cancel %s", c.Command)
	}
	for i := 1; i < len(c.Nodes); i++ {
		if c.Nodes[i-1].Compare(c.Nodes[i]) >= 0 {
			return fleet.Errorf(fleet.Invalid, "the nodes of the cancel are not sorted")
		}
	}
	return nil
}

// Order is a command as it travels: the signed statement, and the set of nodes that it names by digest.
type Order struct {
	Statement auth.Envelope
	Nodes     []fleet.ID // sorted; its SetDigest is signed
}

// SetDigest names a set of nodes. ids must be sorted: SortIDs.
func SetDigest(ids []fleet.ID) fleet.ID {
	h := sha256.New()
	for _, id := range ids {
		h.Write(id[:])
	}
	return fleet.ID(h.Sum(nil))
}

// SortIDs sorts a set of nodes and drops repetitions.
func SortIDs(ids []fleet.ID) []fleet.ID {
	slices.SortFunc(ids, fleet.ID.Compare)
	return slices.Compact(ids)
}

// Has reports whether the order's frozen set holds id.
func (o Order) Has(id fleet.ID) bool {
	_, ok := slices.BinarySearchFunc(o.Nodes, id, fleet.ID.Compare)
	return ok
}

// Encode returns the wire form.
func (o Order) Encode() []byte { return wire.Marshal(o) }

// Verify reads an order against a charter at now: the signature, the operator, the time, the frozen set. It does not
// ask policy, which is asked per node.
func (o Order) Verify(c *auth.Charter, now time.Time) (Command, auth.Operator, error) {
	if len(o.Statement.Body) > MaxCommand {
		return Command{}, auth.Operator{}, fleet.Errorf(fleet.Exhausted, "command of %d bytes; at most %d", len(o.Statement.Body), MaxCommand).
			Hinted("put a long script into a document: muster doc put FILE")
	}
	cmd, op, err := auth.OpenOrder(c, o.Statement, auth.ForCommand, now, func(c Command) auth.Header { return c.Header })
	if err == nil {
		err = cmd.Check()
	}
	if err == nil {
		err = o.checkSet(cmd)
	}
	return cmd, op, err
}

// checkSet reports why the nodes are not those that cmd names. A set out of order is refused even where its digest was
// signed: Has would miss some of its nodes.
func (o Order) checkSet(cmd Command) error {
	if int(cmd.Count) != len(o.Nodes) || SetDigest(o.Nodes) != cmd.Set {
		return fleet.Errorf(fleet.Denied, "the set of nodes is not the one that was signed")
	}
	for i := 1; i < len(o.Nodes); i++ {
		if o.Nodes[i-1].Compare(o.Nodes[i]) >= 0 {
			return fleet.Errorf(fleet.Invalid, "the set of nodes is not sorted")
		}
	}
	return nil
}

// genuine reports whether somebody who is or was an operator signed exactly this order. It says nothing about whether
// it may run.
func (o Order) genuine(c *auth.Charter) bool {
	op, err := c.Standing(o.Statement.Key, 0)
	if err != nil || len(o.Statement.Body) > MaxCommand {
		return false
	}
	cmd, err := auth.Open[Command](o.Statement, auth.ForCommand, c.Fleet(), op.Key)
	return err == nil && o.checkSet(cmd) == nil
}
