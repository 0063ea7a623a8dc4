package node

import (
	"math"
	"slices"
	"time"
)

// Voice tells what this host has told gossip of itself from what somebody else tells under the same key. Two hosts have one
// key when a data folder was copied with the disk that it is on, or when one was put back from an older copy: what the fleet
// saw of it since is then news to it. Nothing but the sequence of a signed announcement is judged, so no clock, address,
// restart or lost packet looks like a copy:
//
//   - before this life: every sequence is durable before it is signed, so no earlier life told more than the folder says;
//   - in this life: each sequence is remembered.
//
// Whatever is above the first and not among the second was signed elsewhere. It is used by one goroutine at a time.
type Voice struct {
	before  uint64   // no earlier life of this folder told a higher sequence
	unsure  bool     // nor is known what they told
	durable uint64   // what the folder says now
	newest  uint64   // told in this life or an earlier one, as far as is known
	made    []uint64 // told in this life, ascending
	let     uint64   // of this life, up to this one, nothing is remembered one by one
}

const (
	// spareSequences is how many sequences beyond the durable one a host may use while its disk takes nothing, so that a full
	// disk hides no host. They are taken for nothing else: a clock that went back would number a copy among them.
	spareSequences = 1 << 20
	// maxMade is how many sequences of one life are remembered: a host tells one at its start and at each change of its
	// addresses.
	maxMade = 1024
)

// NewVoice begins a life of a folder that says told. Where it cannot say (known is false), this life judges nothing, and what
// it tells is known in the next.
func NewVoice(told uint64, known bool) Voice {
	before := told
	if told > 0 { // else nothing was told yet, also not with spare sequences
		before = plus(told, spareSequences)
	}
	return Voice{before: before, unsure: !known, durable: told, newest: told}
}

// Next returns the sequence to tell at a time of the fleet's clock, at least least, above all that was told, and beyond what a
// copy of the folder takes for its own. Make it durable, then call Said.
func (v *Voice) Next(now time.Time, least uint64) uint64 {
	beyond := plus(v.newest, 1)
	if v.durable > 0 {
		beyond = max(beyond, plus(v.durable, spareSequences+1))
	}
	return max(uint64(max(0, now.UnixNano())), beyond, least)
}

// Spare returns a sequence that may be told although the disk takes nothing: a later life takes it for its own all the same.
// It is false where there is none.
func (v *Voice) Spare(least uint64) (uint64, bool) {
	next := max(plus(v.newest, 1), least)
	return next, v.durable > 0 && next <= plus(v.durable, spareSequences)
}

// Said notes that a sequence is told from now on, and whether the folder says so.
func (v *Voice) Said(sequence uint64, durable bool) {
	if durable {
		v.durable = sequence
	}
	v.newest = max(v.newest, sequence)
	if at, there := slices.BinarySearch(v.made, sequence); !there {
		v.made = slices.Insert(v.made, at, sequence)
	}
	if len(v.made) > maxMade {
		v.let, v.made = v.made[0], v.made[1:]
	}
}

// Strange reports whether somebody else told a sequence under this node's key.
func (v *Voice) Strange(sequence uint64) bool {
	if v.unsure || sequence <= max(v.before, v.let) {
		return false
	}
	_, own := slices.BinarySearch(v.made, sequence)
	return !own
}

// plus adds without going round.
func plus(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// CloneRefusal is why a node whose key is used elsewhere too refuses what it is told to do.
const CloneRefusal = "this host's key is used by another host as well, or its data folder was put back from an older copy; muster status there says what mends it"

// CloneText says why a node does nothing any more whose key is used elsewhere too, and what mends it.
const CloneText = "this host's key is used by another host as well, or its data folder was put back from an older copy: it runs and opens nothing any more. " +
	"On every such host: sudo muster agent generalize; the one that shall stay this node then joins with the string of muster token create --replace NAME, " +
	"made on another host, the others with strings of their own. Where the fleet has no leader because of it: sudo muster agent readmit, on one of them"

// ClonePlight is CloneText in a few words, for lists of nodes.
const ClonePlight = "quarantine: its key is used by two hosts"
