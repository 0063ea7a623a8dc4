package auth

import (
	"crypto/ed25519"
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/muster-fleet/muster/node/fleet"
)

// MaxNodes bounds the roster.
const MaxNodes = 20_000

// NodeTags sets a node's whole tag set and its server eligibility.
type NodeTags struct {
	Header Header
	Node   fleet.ID
	Seq    uint64 // one more than the node's last
	Tags   map[string]string
	Server bool
}

// NodeRemove removes a node for good: its key never comes back.
type NodeRemove struct {
	Header Header
	Node   fleet.ID
	Seq    uint64
}

// Node is a roster entry. Values are shared and never changed.
type Node struct {
	ID        fleet.ID
	Name      string
	Key       ed25519.PublicKey
	HPKE      fleet.ID
	Tags      map[string]string
	Server    bool
	Seq       uint64
	Enrolled  int64 // Unix milliseconds, leader's stamp
	Removed   int64 // Unix milliseconds, leader's stamp; 0: enrolled
	Enrolment Enrolment
}

// Roster is the verified set of nodes: an immutable value with O(1) copies.
type Roster struct {
	nodes  *iradix.Tree[*Node]  // by ID, removed ones included
	names  *iradix.Tree[*Node]  // the enrolled ones
	tokens *iradix.Tree[*spent] // that nodes enrolled with, by digest; those that expired go
}

// spent is a token that nodes enrolled with. Values are shared and never changed.
type spent struct {
	statement Envelope // as verified; empty once it is used up
	token     Token
	uses      uint32
}

// RemovedText is how the refusal of a removed node reads, so that the node knows it when it hears it.
const RemovedText = "was removed from the fleet"

func emptyRoster() Roster {
	return Roster{nodes: iradix.New[*Node](), names: iradix.New[*Node](), tokens: iradix.New[*spent]()}
}

// Len returns the number of enrolled, unremoved nodes.
func (r Roster) Len() int { return r.names.Len() }

// Node returns the entry of id, removed or not.
func (r Roster) Node(id fleet.ID) (*Node, bool) { return r.nodes.Get(id[:]) }

// Enrolled returns the entry of id unless it was removed or never there.
func (r Roster) Enrolled(id fleet.ID) (*Node, error) {
	n, ok := r.nodes.Get(id[:])
	switch {
	case !ok:
		return nil, fleet.Errorf(fleet.Denied, "node %s is not enrolled", id)
	case n.Removed != 0:
		return nil, fleet.Errorf(fleet.Denied, "node %s (%s) "+RemovedText, n.Name, id).
			Hinted("its key is gone for good: enrol the host anew with muster join in an empty data folder")
	}
	return n, nil
}

// ByName returns the enrolled node of that name.
func (r Roster) ByName(name string) (*Node, bool) {
	return r.names.Get([]byte(name))
}

// All lists enrolled nodes in the order of their names.
func (r Roster) All() iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		it := r.names.Root().Iterator()
		for _, n, ok := it.Next(); ok && yield(n); _, n, ok = it.Next() {
		}
	}
}

func (r Roster) put(n *Node) Roster {
	old, had := r.nodes.Get(n.ID[:])
	r.nodes, _, _ = r.nodes.Insert(n.ID[:], n)
	if had && old.Removed == 0 {
		r.names, _, _ = r.names.Delete([]byte(old.Name))
	}
	if n.Removed == 0 {
		r.names, _, _ = r.names.Insert([]byte(n.Name), n)
	}
	return r
}

// enrol counts the token's uses, as the quorum did: so that a server cannot let in more than the operator signed for.
func (r Roster) enrol(a Admitted, e Enrolment, token fleet.ID, at int64) (Roster, error) {
	use := spent{statement: e.Token, token: a.Token, uses: 1}
	if known, ok := r.tokens.Get(token[:]); ok {
		use.uses = known.uses + 1
	}
	if use.uses > a.Token.Uses {
		return r, fleet.Errorf(fleet.Exhausted, "the join string is used up (%d of %d uses)", use.uses-1, a.Token.Uses).
			Hinted("on a host of the fleet: muster token create --uses N")
	}
	if old, ok := r.Node(a.ID); ok {
		if old.Removed != 0 {
			_, err := r.Enrolled(a.ID)
			return r, err
		}
		return r, fleet.Errorf(fleet.Conflict, "node %s is enrolled already, as %s", a.ID, old.Name)
	}
	if r.Len() >= MaxNodes {
		return r, fleet.Errorf(fleet.Exhausted, "%d nodes, the limit", MaxNodes)
	}
	tags, server := a.Token.Tags, a.Token.Server
	if old, taken := r.ByName(a.Request.Name); taken {
		if a.Token.Replace != a.Request.Name {
			return r, fleet.Errorf(fleet.Conflict, "a node named %s is enrolled already (%s)", old.Name, old.ID).
				Hinted("take another name (--name), or remove the old one first: muster node delete %s", old.Name)
		}
		r = r.put(old.gone(at))
		tags, server = old.Tags, old.Server
	}
	r = r.spend(token, use, at)
	return r.put(&Node{
		ID: a.ID, Name: a.Request.Name, Key: a.Key, HPKE: a.Request.HPKE, Tags: tags,
		Server: server, Enrolled: at, Enrolment: e,
	}), nil
}

// spend keeps the count of a token's uses until the token has expired.
func (r Roster) spend(digest fleet.ID, use spent, at int64) Roster {
	if r.tokens.Len() >= MaxTokens {
		r = r.dropExpired(at)
	}
	if use.uses == use.token.Uses {
		use = spent{token: Token{Header: Header{Expires: use.token.Header.Expires}}, uses: use.uses}
	}
	r.tokens, _, _ = r.tokens.Insert(digest[:], &use)
	return r
}

func (r Roster) dropExpired(at int64) Roster {
	txn := r.tokens.Txn()
	it := r.tokens.Root().Iterator()
	for digest, use, ok := it.Next(); ok; digest, use, ok = it.Next() {
		if use.token.Header.Expires <= at {
			txn.Delete(digest)
		}
	}
	r.tokens = txn.Commit()
	return r
}

func (r Roster) setTags(s NodeTags) (Roster, error) {
	n, err := r.Enrolled(s.Node)
	if err != nil {
		return r, err
	}
	if s.Seq != n.Seq+1 {
		return r, fleet.Errorf(fleet.Conflict, "the tags of %s changed meanwhile (sequence %d, not %d)", n.Name, n.Seq+1, s.Seq).
			Hinted("look at muster node show %s and repeat", n.Name)
	}
	if err := fleet.CheckTags(s.Tags); err != nil {
		return r, err
	}
	next := *n
	next.Tags, next.Server, next.Seq = s.Tags, s.Server, s.Seq
	return r.put(&next), nil
}

func (r Roster) remove(s NodeRemove, at int64) (Roster, error) {
	n, err := r.Enrolled(s.Node)
	if err != nil {
		return r, err
	}
	return r.put(n.gone(at)), nil
}

// gone returns the tombstone of n. What nobody needs of a removed node is let go: tombstones stay for good.
func (n *Node) gone(at int64) *Node {
	return &Node{ID: n.ID, Name: n.Name, Key: n.Key, Seq: n.Seq + 1, Enrolled: n.Enrolled, Removed: max(at, 1)}
}
