package node

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// KeyringList is what a host says of the fleet's keyrings.
type KeyringList struct {
	Recovery []byte // HPKE public key that every secret is sealed to beside its readers; empty: none
	All      []KeyringInfo
}

// KeyringInfo is a keyring, with what its members say.
type KeyringInfo struct {
	Name    string
	Life    fleet.UUID
	Target  string
	Changed int64 // Unix milliseconds
	By      string
	Due     string // why its members must make a new epoch; empty: they need not
	Closed  bool   // nothing can be sealed to it before they have
	Alone   string // the member that made the key in use and alone holds it, of more that answered; empty: others do, too
	Members []KeyringMember
	Could   []KeyringFormer // who had been able to read it
	Epochs  []auth.KeyEpoch // oldest first
}

// KeyringMember is a node that may read what is sealed to a keyring.
type KeyringMember struct {
	ID    fleet.ID
	Name  string
	Alive bool   // gossip sees it
	Said  bool   // it answered just now
	Holds uint32 // the newest epoch whose key it holds, if it answered; 0: none
}

// KeyringFormer is a node that was a member.
type KeyringFormer struct {
	ID   fleet.ID
	Name string
	Last uint32 // the newest epoch that it may know
	Left int64  // Unix milliseconds
}

// SeedsHeld is what a node says of its seeds: the newest epoch of each keyring.
type SeedsHeld map[fleet.UUID]uint32

// ListKeyrings says what there is to say of the keyrings of a record. said has the answers of members; one that is not in it
// did not answer. Which names the one keyring that is wanted; empty: all.
func ListKeyrings(record auth.Record, which string, alive func(fleet.ID) bool, said map[fleet.ID]SeedsHeld, now time.Time) KeyringList {
	var out KeyringList
	if record.Charter == nil {
		return out
	}
	out.Recovery = record.Charter.Recovery()
	for _, k := range record.Keyrings.All() {
		if which != "" && k.Name != which {
			continue
		}
		info := KeyringInfo{Name: k.Name, Life: k.Life, Target: k.Target.String(), Changed: k.Changed, By: k.By, Epochs: slices.Clone(k.Epochs)}
		info.Due, _ = record.KeyringDue(k.Name, now.UnixMilli())
		_, _, err := record.Sealable(k.Name)
		info.Closed = err != nil
		for entry := range record.KeyringMembers(k.Name) {
			m := KeyringMember{ID: entry.ID, Name: entry.Name, Alive: alive(entry.ID)}
			var held SeedsHeld
			if held, m.Said = said[entry.ID]; m.Said {
				m.Holds = held[k.Life]
			}
			info.Members = append(info.Members, m)
		}
		info.Alone = aloneWith(k.Current(), info.Members)
		for _, f := range record.Could(k.Name) {
			info.Could = append(info.Could, KeyringFormer{ID: f.Node, Name: f.Name, Last: f.Last, Left: f.Left})
		}
		out.All = append(out.All, info)
	}
	return out
}

// aloneWith names the maker of an epoch if it told the others nothing: nobody else could read what is sealed to it.
func aloneWith(e *auth.KeyEpoch, members []KeyringMember) string {
	maker, others := "", 0
	for _, m := range members {
		switch {
		case m.ID == e.ByNode:
			maker = m.Name
		case !m.Said:
		case m.Holds >= e.Number:
			return ""
		default:
			others++
		}
	}
	if others == 0 {
		return ""
	}
	return maker
}

// NewestHeld says what a node with those seeds holds, by the record.
func NewestHeld(record auth.Record, has func(SeedName) bool) SeedsHeld {
	out := SeedsHeld{}
	for _, k := range record.Keyrings.All() {
		for _, e := range slices.Backward(k.Epochs) {
			if has(SeedName{k.Life, e.Number, e.KeyID()}) {
				out[k.Life] = e.Number
				break
			}
		}
	}
	return out
}
