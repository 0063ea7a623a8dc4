package exec

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Limits of a command.
const (
	MaxCommand     = 64 << 10            // bytes of its signed body; bigger scripts belong into a document
	MaxTargets     = 10_000              // nodes of one command
	MaxTimeout     = 48 * time.Hour      // SSM's
	DefaultTimeout = 3600 * time.Second  // SSM's executionTimeout
	MaxExpires     = 30 * 24 * time.Hour // SSM's
	DefaultExpires = time.Hour           // SSM's
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

// Shell reports whether the run goes through a shell.
func (r Run) Shell() bool { return len(r.Script) > 0 || len(r.Argv) == 1 }

// Text returns one line that shows what runs, for lists.
func (r Run) Text() string {
	if len(r.Script) > 0 {
		return strings.TrimSpace("script (" + fleet.Sum(r.Script).String()[:8] + ") " + strings.Join(r.Argv, " "))
	}
	return strings.Join(r.Argv, " ")
}

// Check reports what is wrong with a command on the face of it, or nil.
func (c Command) Check() error {
	life := c.Header.Expires - c.Header.Issued // in milliseconds: as a Duration, five centuries wrap to an instant
	switch {
	case c.Header.ID.IsZero():
		return fleet.Errorf(fleet.Invalid, "command without an ID")
	case len(c.Run.Script) == 0 && (len(c.Run.Argv) == 0 || strings.TrimSpace(c.Run.Argv[0]) == ""):
		return fleet.Errorf(fleet.Invalid, "nothing to run").Hinted("muster run --target … -- COMMAND")
	case c.Header.Issued < 0 || c.Header.Expires > auth.MaxTime || life <= 0 || life > MaxExpires.Milliseconds():
		return fleet.Errorf(fleet.Invalid, "--expires must be above 0 and at most %s, not %d s", MaxExpires, life/1000)
	case c.Run.Timeout <= 0 || c.Run.Timeout > MaxTimeout.Milliseconds():
		return fleet.Errorf(fleet.Invalid, "--timeout must be above 0 and at most %s, not %d s", MaxTimeout, c.Run.Timeout/1000)
	case c.Count == 0 || c.Count > MaxTargets:
		return fleet.Errorf(fleet.Invalid, "a command is for 1 to %d nodes, not %d", MaxTargets, c.Count)
	case c.Header.Mode != auth.ByQuorum:
		return fleet.Errorf(fleet.Invalid, "commands of mode %d are not understood by this version", c.Header.Mode)
	}
	for _, kv := range c.Run.Env {
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" || strings.ContainsAny(k, "\x00\n") {
			return fleet.Errorf(fleet.Invalid, "--env %q is not K=V", kv)
		}
	}
	for _, arg := range slices.Concat(c.Run.Argv, c.Run.Env, []string{c.Run.Dir, c.Run.User}) {
		if strings.ContainsRune(arg, 0) {
			return fleet.Errorf(fleet.Invalid, "arguments cannot hold a zero byte")
		}
	}
	return nil
}

// Cancel stops a command: nodes that have not started never will, running ones are killed.
type Cancel struct {
	Header  auth.Header
	Command fleet.UUID
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
			Hinted("put a long script into a file on the hosts, or fetch it from there")
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
