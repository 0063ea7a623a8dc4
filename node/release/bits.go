package release

import (
	"math/bits"
	"slices"
)

// Bits says of each chunk of a build whether it is among some: bit n%8 of byte n/8 stands for chunk n.
type Bits []byte

// NewBits returns none of that many chunks.
func NewBits(chunks int) Bits { return make(Bits, (chunks+7)/8) }

// fits reports whether b is about that many chunks.
func (b Bits) fits(chunks int) bool {
	if len(b) != (chunks+7)/8 {
		return false
	}
	return chunks%8 == 0 || b[len(b)-1]>>(chunks%8) == 0
}

// Has reports whether a chunk is among them.
func (b Bits) Has(n int) bool { return n >= 0 && n/8 < len(b) && b[n/8]>>(n%8)&1 == 1 }

// Put adds a chunk.
func (b Bits) Put(n int) { b[n/8] |= 1 << (n % 8) }

// Drop takes a chunk away.
func (b Bits) Drop(n int) { b[n/8] &^= 1 << (n % 8) }

// Count returns how many there are.
func (b Bits) Count() (n int) {
	for _, one := range b {
		n += bits.OnesCount8(one)
	}
	return n
}

// All lists them.
func (b Bits) All() []int {
	var out []int
	for n := range 8 * len(b) {
		if b.Has(n) {
			out = append(out, n)
		}
	}
	return out
}

// Clone returns a copy.
func (b Bits) Clone() Bits { return slices.Clone(b) }

// and returns those that are in both, which are about the same chunks.
func (b Bits) and(o Bits) Bits {
	out := b.Clone()
	for i := range out {
		out[i] &= o[i]
	}
	return out
}

// without returns those that are not in o.
func (b Bits) without(o Bits) Bits {
	out := b.Clone()
	for i := range out {
		out[i] &^= o[i]
	}
	return out
}

// add puts all of o in.
func (b Bits) add(o Bits) {
	for i := range b {
		b[i] |= o[i]
	}
}
