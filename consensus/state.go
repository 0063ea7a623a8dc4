package consensus

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of the replicated lists.
const (
	MaxCommands    = 5_000                   // kept; the oldest that no node can start any more goes first
	KeepCommands   = auth.DefaultRecordsKeep // how long an ended command stays unless the setting records.keep says otherwise
	MaxNodeCancels = 16                      // cancels of single nodes, of one command
	MaxResults     = 20_000                  // statements whose repetition is answered with the first result
	MaxRequests    = 64
	// MaxTokensKept bounds tokens that can be used (auth.MaxTokens) together with those that cannot and are remembered
	// until they expire.
	MaxTokensKept = 10 * auth.MaxTokens
	KeepRequests  = time.Hour
)

// State is everything agreed, an immutable value: copies are free, and a reader keeps a consistent picture while
// writes go on.
type State struct {
	Record auth.Record
	Act    uint64 // act index of the newest committed statement
	Time   int64  // Unix milliseconds: the newest leader's stamp, never going back
	// Taken counts the entries that changed anything, also those without an act index: grants and endings are no
	// statements, and nodes need not catch up on them. Replicas that have taken the same number are equal.
	Taken uint64
	// Level is the fleet's: what it brought, and what those before it did, may be written.
	Level fleet.Level

	acts         *iradix.Tree[auth.Act] // the record's acts by position
	tokens       *iradix.Tree[*Token]
	commands     *iradix.Tree[*Command]    // by act index
	byID         *iradix.Tree[uint64]      // command ID → act index
	paced        *iradix.Tree[fleet.UUID]  // IDs of commands with a rollout, by ID
	documents    *iradix.Tree[*Document]   // by name
	publications *iradix.Tree[publication] // by exec.DocumentRef.Key
	texts        int                       // bytes of all documents
	results      results
	requests     []OperatorRequest
	params       parameters
}

// Token is a token with its count.
type Token struct {
	Statement auth.Envelope
	Body      auth.Token
	Used      uint32
	Deleted   bool
}

// Command is a committed command.
type Command struct {
	Order     exec.Order
	Body      exec.Command
	Operator  string
	Act       uint64
	Committed int64 // Unix milliseconds
	Cancel    *auth.Envelope
	Cancelled int64           // Unix milliseconds; 0: not
	Cancels   []auth.Envelope // of single nodes, oldest first; at most MaxNodeCancels
	Rollout   exec.Rollout    // zero where Body.Pace is not Limited

	cancelled [][]fleet.ID // by Cancels
}

// ID returns the command's ID.
func (c *Command) ID() fleet.UUID { return c.Body.Header.ID }

// over reports whether at now (Unix milliseconds) no node can run the command any more, whatever its clock.
func (c *Command) over(now int64) bool {
	return c.Body.Header.Expires+c.Body.Run.Timeout+auth.MaxSkew.Milliseconds() < now
}

// CancelFor returns the cancel that is meant for a node: that of the whole command, else one that names the node.
func (c *Command) CancelFor(node fleet.ID) (auth.Envelope, bool) {
	if c.Cancel != nil {
		return *c.Cancel, true
	}
	for i, nodes := range c.cancelled {
		if _, ok := slices.BinarySearchFunc(nodes, node, fleet.ID.Compare); ok {
			return c.Cancels[i], true
		}
	}
	return auth.Envelope{}, false
}

// concerns reports whether a node of the set that catches up at now has something to do about the command: start it, or
// stop it. A command that waits for another concerns those that were let in; the bell that gives them their turn brings it,
// and a node that has been restarted since finds it here.
func (c *Command) concerns(node fleet.ID, now int64) bool {
	if _, cancelled := c.CancelFor(node); cancelled {
		return !c.over(now)
	}
	return !c.expired(now) && (c.Body.After.IsZero() || c.letIn(node))
}

// letIn reports whether the rollout has come to a node that has not ended.
func (c *Command) letIn(node fleet.ID) bool {
	for _, i := range c.places([]fleet.ID{node}) {
		switch c.Rollout.State(i) {
		case exec.NodeIdle, exec.NodeGranted, exec.NodeFreed:
			return true
		case exec.NodeOK, exec.NodeFailed, exec.NodeAside, exec.NodeDeclined, exec.NodeBarred:
		}
	}
	return false
}

// Result is what an entry came to. A refusal is a value, the same on every replica.
type Result struct {
	Act  uint64
	Time int64
	Kind fleet.Kind // with Why
	Why  string     // empty: accepted
	Hint string
}

// Err returns the refusal as an error, or nil.
func (r Result) Err() error {
	if r.Why == "" {
		return nil
	}
	return &fleet.Error{Kind: r.Kind, What: r.Why, Hint: r.Hint}
}

// NewState returns the state of a fleet that was not founded yet.
func NewState() State {
	return State{
		Level:  fleet.LevelFirst,
		Record: auth.NewRecord(), acts: iradix.New[auth.Act](), tokens: iradix.New[*Token](), commands: iradix.New[*Command](),
		byID: iradix.New[uint64](), paced: iradix.New[fleet.UUID](), documents: iradix.New[*Document](),
		publications: iradix.New[publication](),
	}
}

func key64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Acts returns up to n acts of the record from position from on (0 is the genesis).
func (s State) Acts(from uint64, n int) []auth.Act {
	var out []auth.Act
	it := s.acts.Root().Iterator()
	it.SeekLowerBound(key64(from))
	for _, act, ok := it.Next(); ok && len(out) < n; _, act, ok = it.Next() {
		out = append(out, act)
	}
	return out
}

// Token returns the token of that ID.
func (s State) Token(id fleet.UUID) (*Token, bool) { return s.tokens.Get(id[:]) }

// Tokens lists tokens that were not deleted, oldest first.
func (s State) Tokens() []*Token {
	var out []*Token
	s.tokens.Root().Walk(func(_ []byte, t *Token) bool {
		if !t.Deleted {
			out = append(out, t)
		}
		return false
	})
	slices.SortStableFunc(out, func(a, b *Token) int { return cmp.Compare(a.Body.Header.Issued, b.Body.Header.Issued) })
	return out
}

// Command returns the command of that ID.
func (s State) Command(id fleet.UUID) (*Command, bool) {
	act, ok := s.byID.Get(id[:])
	if !ok {
		return nil, false
	}
	return s.commands.Get(key64(act))
}

// Commands lists up to n commands, newest first; a cancelled one counts as new when it was cancelled.
func (s State) Commands(n int) []*Command {
	var out []*Command
	it := s.commands.Root().ReverseIterator()
	for _, c, ok := it.Previous(); ok && len(out) < n; _, c, ok = it.Previous() {
		out = append(out, c)
	}
	return out
}

// Paced lists the commands with a rollout that nodes may still be running, by ID.
func (s State) Paced() []*Command {
	var out []*Command
	s.paced.Root().Walk(func(_ []byte, id fleet.UUID) bool {
		if c, ok := s.Command(id); ok && !c.over(s.Time) {
			out = append(out, c)
		}
		return false
	})
	return out
}

// CommandsFor lists up to n commands (at least 1) after act index since whose set holds node, that can still start, or
// that were cancelled there and may still run; next is where to go on. A command comes once as committed, and once more
// with each cancel that was taken since, whichever node that was for. One that waits for another comes if it was let in
// on the node by then.
func (s State) CommandsFor(node fleet.ID, since uint64, n int) (out []*Command, next uint64) {
	if since >= s.Act { // nothing, also for a cursor of another history
		return nil, since
	}
	it := s.commands.Root().Iterator()
	it.SeekLowerBound(key64(since + 1))
	for _, c, ok := it.Next(); ok; _, c, ok = it.Next() {
		if len(out) == max(n, 1) {
			return out, since
		}
		since = c.Act
		if c.Order.Has(node) && c.concerns(node, s.Time) {
			out = append(out, c)
		}
	}
	return out, s.Act
}

// Requests lists pending operator requests, oldest first: those that have not lapsed, by people who are no operators
// yet.
func (s State) Requests() []OperatorRequest {
	cutoff := s.Time - KeepRequests.Milliseconds()
	return slices.DeleteFunc(slices.Clone(s.requests), func(r OperatorRequest) bool {
		_, taken := s.Record.Charter.OperatorByName(r.Name)
		return taken || r.Issued < cutoff
	})
}
