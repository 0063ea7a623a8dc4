package node

import (
	"bytes"
	"slices"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// worth is what a statement's signature is worth here, before anybody asks what it says.
type worth uint8

const (
	forged  worth = iota + 1 // no operator signed it: thrown away, whoever brought it
	unsure                   // its signer may be an operator whom a newer record names
	genuine                  // somebody who is or was an operator signed exactly this
)

// open verifies the signature of a statement of at most that many bytes by an operator whom the record names. It says nothing about right or time.
func open[T any](r auth.Record, e auth.Envelope, purpose auth.Purpose, most int, header func(T) auth.Header) (T, worth) {
	var none T
	if len(e.Body) > most {
		return none, forged
	}
	op, err := r.Charter.Standing(e.Key, 0)
	if err != nil {
		claimed, malformed := auth.Peek[T](e)
		if malformed == nil && (r.Charter == nil || !r.Charter.Knows(header(claimed).Charter) || r.Act < header(claimed).Act) {
			return claimed, unsure
		}
		return none, forged
	}
	body, err := auth.Open[T](e, purpose, r.Charter.Fleet(), op.Key)
	if err != nil {
		return none, forged
	}
	return body, genuine
}

func openCommand(r auth.Record, e auth.Envelope) (exec.Command, worth) {
	return open(r, e, auth.ForCommand, exec.MaxCommand, func(c exec.Command) auth.Header { return c.Header })
}

// weigh verifies an order as it came: signature and frozen set.
func (n *Node) weigh(o exec.Order) (exec.Command, worth) {
	cmd, w := openCommand(n.record, o.Statement)
	if w == genuine && !holds(o.Nodes, cmd) {
		w = forged
	}
	return cmd, w
}

// holds reports whether a set is the one that a command names.
func holds(set []fleet.ID, cmd exec.Command) bool {
	if len(set) != int(cmd.Count) {
		return false
	}
	for i := 1; i < len(set); i++ {
		if byID(set[i-1], set[i]) >= 0 {
			return false
		}
	}
	return exec.SetDigest(set) == cmd.Set
}

// complete finds the frozen set of a statement that rode on a bell from this node's own roster: the target without
// facts selects it, and the signed digest tells whether it does. Then nothing needs to be fetched. The signature comes
// first: to select among ten thousand nodes is work that only an operator may ask for.
func (n *Node) complete(statement auth.Envelope, id fleet.UUID) (exec.Order, exec.Command, bool) {
	cmd, w := openCommand(n.record, statement)
	if w != genuine || cmd.Header.ID != id {
		return exec.Order{}, cmd, false
	}
	ids, ok := n.sets.get(cmd.Set)
	if !ok {
		ids, ok = n.selects(cmd)
	}
	return exec.Order{Statement: statement, Nodes: ids}, cmd, ok
}

// selects evaluates a command's target over the roster.
func (n *Node) selects(cmd exec.Command) ([]fleet.ID, bool) {
	target, err := fleet.ParseTarget(cmd.Target)
	if err != nil || target.UsesFacts() {
		return nil, false
	}
	var ids []fleet.ID
	var m fleet.Member // one for all: a match looks and keeps nothing
	for entry := range n.record.Roster.All() {
		m = fleet.Member{ID: entry.ID, Name: entry.Name, Tags: entry.Tags, Server: entry.Server, Role: RoleOf(n.beacon, entry.ID)}
		if target.Match(&m) {
			ids = append(ids, entry.ID)
		}
	}
	slices.SortFunc(ids, byID)
	return ids, holds(ids, cmd)
}

// byID orders IDs as fleet.ID.Compare does.
func byID(a, b fleet.ID) int { return bytes.Compare(a[:], b[:]) }

// maxSets is how many frozen sets are shared. One of 10,000 nodes takes 320 KB.
const maxSets = 4

// frozenSets are the sets of the newest orders, by digest: commands in a row often go to the same nodes, and then they
// share one set and nobody selects it again.
type frozenSets struct {
	sets []frozenSet // newest last
}

type frozenSet struct {
	digest fleet.ID
	ids    []fleet.ID
}

func (f *frozenSets) get(digest fleet.ID) ([]fleet.ID, bool) {
	for _, s := range f.sets {
		if s.digest == digest {
			return s.ids, true
		}
	}
	return nil, false
}

// share returns the set of that digest that others have, or keeps ids as it. The digest was checked.
func (f *frozenSets) share(digest fleet.ID, ids []fleet.ID) []fleet.ID {
	if known, ok := f.get(digest); ok {
		return known
	}
	if len(f.sets) == maxSets {
		f.sets = append(f.sets[:0], f.sets[1:]...)
	}
	f.sets = append(f.sets, frozenSet{digest, ids})
	return ids
}
