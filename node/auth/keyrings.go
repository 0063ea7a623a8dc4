package auth

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Keyring is a set of nodes that follows a target, with a key that they alone share, epoch by epoch. Values are shared and
// never changed.
type Keyring struct {
	Name    string
	Life    fleet.UUID // Header.ID of the change that made it: one deleted and made again is another
	Target  fleet.Target
	Made    int64      // Unix milliseconds, leader's stamp
	Changed int64      // of the newest change by an operator
	By      string     // who made that change
	Act     uint64     // its act index
	Epochs  []KeyEpoch // oldest first, never empty; without those that were given up before anything was sealed to them
	Asked   uint32     // up to this epoch, an operator asked for a newer one; 0: never
	Closed  uint32     // up to this epoch, nodes that left may have the seed: nothing is sealed to them any more; 0: nobody left

	closedBy  string   // the node that left last
	closedAct uint64   // act index of its leaving
	changer   fleet.ID // key of the operator of the newest change
	givenUp   uint     // epochs in a row that nobody came to hold
	serial    uint32   // names it in Keyrings.gone
}

// KeyEpoch is one key of a keyring. Members may have the seeds of all epochs up to the newest.
type KeyEpoch struct {
	Number  uint32
	Key     []byte     // HPKE public key
	Made    int64      // Unix milliseconds, leader's stamp
	By      string     // the operator who made the first one; else empty
	ByNode  fleet.ID   // the member that made a later one; else zero
	Need    int        // members that must hold it before it is used; 0: of the first
	Holders []fleet.ID // members that said so while it was waited for, its maker first
	Escrow  []Escrow
	Used    int64 // since when new secrets are sealed to it, Unix milliseconds; 0: not yet

	keepers []fleet.ID // key of each Escrow's operator; zero: recovery
}

// KeyID returns the SHA-256 of the epoch's public key.
func (e *KeyEpoch) KeyID() fleet.ID { return fleet.Sum(e.Key) }

// Newest returns the newest epoch, used or not.
func (k *Keyring) Newest() *KeyEpoch { return &k.Epochs[len(k.Epochs)-1] }

// Current returns the newest epoch that is used. The first one is from the beginning, so there always is one.
func (k *Keyring) Current() *KeyEpoch {
	for i := len(k.Epochs) - 1; i > 0; i-- {
		if k.Epochs[i].Used != 0 {
			return &k.Epochs[i]
		}
	}
	return &k.Epochs[0]
}

// Epoch returns the epoch of that number.
func (k *Keyring) Epoch(number uint32) (*KeyEpoch, bool) {
	i, ok := slices.BinarySearchFunc(k.Epochs, number, func(e KeyEpoch, n uint32) int { return int(int64(e.Number) - int64(n)) })
	if !ok {
		return nil, false
	}
	return &k.Epochs[i], true
}

// patience is how long the newest epoch may wait for members to hold it, in milliseconds.
func (k *Keyring) patience() int64 { return EpochPatience << min(k.givenUp, maxDoublings) }

// withEpoch returns the keyring with another newest epoch. One that was not used yet goes: nothing was sealed to it, and
// nothing ever will be.
func (k *Keyring) withEpoch(e KeyEpoch, lapsed bool) *Keyring {
	next := *k
	keep := k.Epochs
	if k.Newest().Used == 0 {
		keep = keep[:len(keep)-1]
	}
	next.givenUp = 0
	if lapsed {
		next.givenUp = k.givenUp + 1
	}
	next.Epochs = append(slices.Clip(keep), e)
	return &next
}

// withHolder returns the keyring with one member more that holds its newest epoch.
func (k *Keyring) withHolder(node fleet.ID, at int64) *Keyring {
	next := *k
	next.Epochs = slices.Clone(k.Epochs)
	next.Newest().hold(node, at)
	return &next
}

// hold counts a holder, and uses the epoch once there are enough.
func (e *KeyEpoch) hold(node fleet.ID, at int64) {
	e.Holders = append(slices.Clip(e.Holders), node)
	if len(e.Holders) >= e.Need {
		e.Used = max(at, 1)
	}
}

// Keyrings is the fleet's keyrings with the nodes that left them: an immutable value.
type Keyrings struct {
	sorted  []*Keyring // by name
	deleted []deletedKeyring
	floor   uint64 // act index of the newest deletion that is not remembered by name any more
	gone    *partings
	made    uint32 // keyrings ever
}

// deletedKeyring remembers a deletion, so that nothing older brings the keyring back.
type deletedKeyring struct {
	name string
	life fleet.UUID
	act  uint64
}

// Get returns the keyring of that name.
func (ks Keyrings) Get(name string) (*Keyring, bool) {
	i, ok := ks.at(name)
	if !ok {
		return nil, false
	}
	return ks.sorted[i], true
}

// All lists the keyrings by name.
func (ks Keyrings) All() []*Keyring { return slices.Clone(ks.sorted) }

// Len returns the number of keyrings.
func (ks Keyrings) Len() int { return len(ks.sorted) }

func (ks Keyrings) at(name string) (int, bool) {
	return slices.BinarySearchFunc(ks.sorted, name, func(k *Keyring, n string) int { return strings.Compare(k.Name, n) })
}

// changed returns the act index of an operator's last change of a name, at the least.
func (ks Keyrings) changed(name string) uint64 {
	if k, ok := ks.Get(name); ok {
		return k.Act
	}
	for _, d := range ks.deleted {
		if d.name == name {
			return d.act
		}
	}
	return ks.floor
}

// with returns the keyrings with k in the place of the one of its name, or beside them.
func (ks Keyrings) with(k *Keyring) Keyrings {
	i, ok := ks.at(k.Name)
	sorted := slices.Clone(ks.sorted)
	if ok {
		sorted[i] = k
	} else {
		sorted = slices.Insert(sorted, i, k)
	}
	ks.sorted = sorted
	return ks
}

// without deletes a keyring, and remembers that for as long as there is room.
func (ks Keyrings) without(k *Keyring, act uint64) Keyrings {
	i, _ := ks.at(k.Name)
	ks.sorted = slices.Delete(slices.Clone(ks.sorted), i, i+1)
	ks.gone = forgetKeyring(ks.gone, k.serial)
	ks.deleted = append(slices.DeleteFunc(slices.Clone(ks.deleted), func(d deletedKeyring) bool { return d.name == k.Name }),
		deletedKeyring{k.Name, k.Life, act}) // in the order of act
	if len(ks.deleted) > MaxKeyrings {
		ks.floor, ks.deleted = ks.deleted[0].act, ks.deleted[1:]
	}
	return ks
}

// lived reports whether a keyring has or had that life, as far as is remembered.
func (ks Keyrings) lived(life fleet.UUID) bool {
	return slices.ContainsFunc(ks.sorted, func(k *Keyring) bool { return k.Life == life }) ||
		slices.ContainsFunc(ks.deleted, func(d deletedKeyring) bool { return d.life == life })
}
