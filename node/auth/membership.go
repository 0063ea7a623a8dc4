package auth

import (
	"cmp"
	"iter"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/muster-fleet/muster/node/fleet"
)

// Who is in a keyring is no list: it is what its target selects of the roster. Kept is only who left, when, and with which
// epochs, so that nothing is sealed to those again and people can see what had been readable. So 256 keyrings of 10,000
// nodes cost nothing for each node, and an act on one node asks each target about that node alone.

// Former is a node that had been in a keyring.
type Former struct {
	Node fleet.ID
	Name string
	Last uint32 // the newest epoch whose seed it may have
	Left int64  // Unix milliseconds, leader's stamp
}

// partings is who left which keyrings, by the node's ID: all keyrings of a node in one place, for one removal may end
// hundreds of memberships.
type partings = iradix.Tree[[]parting]

// parting is that a node left a keyring and did not come back.
type parting struct {
	keyring uint32 // its serial
	last    uint32
	left    int64
}

// tree returns the partings, also of the zero value.
func (ks Keyrings) tree() *partings {
	if ks.gone == nil {
		return iradix.New[[]parting]()
	}
	return ks.gone
}

// asMember returns what targets of keyrings see of a node: what operators signed, and nothing else.
func (n *Node) asMember() *fleet.Member { return &fleet.Member{ID: n.ID, Name: n.Name, Tags: n.Tags} }

// enrolledMember returns a node as targets see it, or nil if it is none, or none any more.
func (r Roster) enrolledMember(id fleet.ID) *fleet.Member {
	n, ok := r.Node(id)
	if !ok || n.Removed != 0 {
		return nil
	}
	return n.asMember()
}

func (k *Keyring) has(m *fleet.Member) bool { return m != nil && k.Target.Match(m) }

// InKeyring reports whether a node is in a keyring now.
func (r Record) InKeyring(name string, node fleet.ID) bool {
	k, ok := r.Keyrings.Get(name)
	return ok && k.has(r.Roster.enrolledMember(node))
}

// KeyringsOf lists the keyrings that a node is in now, by name.
func (r Record) KeyringsOf(node fleet.ID) []*Keyring {
	var out []*Keyring
	if m := r.Roster.enrolledMember(node); m != nil {
		for _, k := range r.Keyrings.sorted {
			if k.has(m) {
				out = append(out, k)
			}
		}
	}
	return out
}

// KeyringMembers lists the nodes in a keyring now, in the order of their names.
func (r Record) KeyringMembers(name string) iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		k, ok := r.Keyrings.Get(name)
		if !ok {
			return
		}
		for n := range r.Roster.All() {
			if k.has(n.asMember()) && !yield(n) {
				return
			}
		}
	}
}

// Could lists the nodes that had been in a keyring and are not now, by name: they may have the seeds of its epochs up to
// their last, and can read what was sealed to those wherever they find it.
func (r Record) Could(name string) []Former {
	k, ok := r.Keyrings.Get(name)
	if !ok {
		return nil
	}
	var out []Former
	r.Keyrings.tree().Root().Walk(func(id []byte, all []parting) bool {
		for _, p := range all {
			if p.keyring == k.serial {
				n, _ := r.Roster.Node(fleet.ID(id))
				out = append(out, Former{Node: n.ID, Name: n.Name, Last: p.last, Left: p.left})
			}
		}
		return false
	})
	slices.SortFunc(out, func(a, b Former) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.Node.Compare(b.Node)) })
	return out
}

// follow takes in what an act did to a node that was enrolled before: whether it left a keyring by it, or came back. A node
// that is new comes into its keyrings by being there.
func (r *Record) follow(before Roster, act Act, node fleet.ID) {
	r.Keyrings.follow(node, before.enrolledMember(node), r.Roster.enrolledMember(node), act)
}

func (ks *Keyrings) follow(id fleet.ID, was, is *fleet.Member, act Act) {
	sorted, copied := ks.sorted, false
	all, _ := ks.tree().Get(id[:])
	for i, k := range ks.sorted {
		had, has := k.has(was), k.has(is)
		if had == has {
			continue
		}
		if !copied { // most acts change no keyring
			sorted, all, copied = slices.Clone(sorted), slices.Clone(all), true
		}
		all = withoutParting(all, k.serial)
		if had {
			sorted[i] = k.left(was.Name, act)
			all = append(all, k.parting(act))
		}
	}
	if copied {
		ks.sorted, ks.gone = sorted, putPartings(ks.tree(), id, all)
	}
}

// retarget returns the keyring with another target, and takes in who leaves and comes back by that.
func (ks *Keyrings) retarget(k *Keyring, target fleet.Target, roster Roster, act Act) *Keyring {
	next := *k
	next.Target = target
	if target.Equal(k.Target) {
		return &next
	}
	txn := ks.tree().Txn()
	for n := range roster.All() {
		m := n.asMember()
		had, has := k.has(m), next.has(m)
		if had == has {
			continue
		}
		all, _ := txn.Get(n.ID[:])
		all = withoutParting(slices.Clone(all), k.serial)
		if had {
			next = *next.left(n.Name, act)
			all = append(all, k.parting(act))
		}
		if len(all) == 0 {
			txn.Delete(n.ID[:])
		} else {
			txn.Insert(n.ID[:], all)
		}
	}
	ks.gone = txn.Commit()
	return &next
}

// left returns the keyring after a node left it: it may have every seed that there is.
func (k *Keyring) left(node string, act Act) *Keyring {
	next := *k
	next.Closed, next.closedBy, next.closedAct = k.Newest().Number, node, act.Index
	return &next
}

func (k *Keyring) parting(act Act) parting { return parting{k.serial, k.Newest().Number, act.Time} }

func withoutParting(all []parting, serial uint32) []parting {
	return slices.DeleteFunc(all, func(p parting) bool { return p.keyring == serial })
}

func putPartings(tree *partings, node fleet.ID, all []parting) *partings {
	if len(all) == 0 {
		tree, _, _ = tree.Delete(node[:])
		return tree
	}
	tree, _, _ = tree.Insert(node[:], slices.Clip(all))
	return tree
}

// forgetKeyring drops who left a keyring that is no more.
func forgetKeyring(tree *partings, serial uint32) *partings {
	if tree == nil {
		return nil
	}
	txn := tree.Txn()
	it := tree.Root().Iterator()
	for id, all, ok := it.Next(); ok; id, all, ok = it.Next() {
		rest := withoutParting(slices.Clone(all), serial)
		switch {
		case len(rest) == len(all):
		case len(rest) == 0:
			txn.Delete(id)
		default:
			txn.Insert(id, rest)
		}
	}
	return txn.Commit()
}
