package params

import (
	"cmp"
	"slices"

	"github.com/muster-fleet/muster/node/fleet"
)

// MaxFloorLabels bounds the labels that a Floor remembers; which was moved longest ago goes first.
const MaxFloorLabels = 32

// Floor is the newest that a reader has seen of a parameter: a server that shows something older is behind, or lies. Only
// what an operator signed raises it, so that no server can raise it beyond what there is.
type Floor struct {
	Born    int64
	Version uint32
	Seq     uint32
	Labels  []LabelFloor // by label
}

// LabelFloor is the newest move of a label that a reader has seen.
type LabelFloor struct {
	Label string
	Seq   uint32
}

// Take returns the floor after an item that Verify has taken, p being its Put. What is older than the floor is refused, as
// Unavailable: another server may know better.
func (f Floor) Take(i Item, p Put) (Floor, error) {
	proved := Floor{Born: p.Born, Version: p.Version, Seq: p.Seq}
	if label, ok := i.label(); ok && len(i.Proof) == 1 {
		op, err := DecodeOp(i.Proof[0].Body)
		if err != nil {
			return f, err
		}
		seq, _ := op.gives(p, label)
		proved.Seq, proved.Labels = max(p.Seq, seq), []LabelFloor{{label, seq}}
	}
	if f.above(i, proved) {
		return f, fleet.Errorf(fleet.Unavailable, "a server shows an older state of parameter %s than this node has seen", p.Name).
			Hinted("repeat it; if it stays so after the fleet was restored from a backup, the parameter must be put anew")
	}
	return f.Higher(proved), nil
}

// above reports whether an item, and what it proves, is older than the floor.
func (f Floor) above(i Item, proved Floor) bool {
	switch {
	case proved.Born != f.Born:
		return proved.Born < f.Born
	case i.Newest < f.Version || i.Seq < f.Seq:
		return true
	case i.Selector == "" && proved.Version < f.Version:
		return true
	}
	for _, l := range proved.Labels {
		if at, ok := f.label(l.Label); ok && l.Seq < f.Labels[at].Seq {
			return true
		}
	}
	return false
}

// Check reports why a floor is none that Higher could have made, or nil.
func (f Floor) Check() error {
	ordered := slices.IsSortedFunc(f.Labels, func(a, b LabelFloor) int {
		if a.Label < b.Label {
			return -1
		}
		return 1 // no label is there twice
	})
	if !ordered || len(f.Labels) > MaxFloorLabels {
		return fleet.Errorf(fleet.Invalid, "what was seen of a parameter contradicts itself")
	}
	return nil
}

func (f Floor) label(label string) (int, bool) {
	return slices.BinarySearchFunc(f.Labels, label, func(a LabelFloor, l string) int { return cmp.Compare(a.Label, l) })
}

// Higher returns what f and o have seen together.
func (f Floor) Higher(o Floor) Floor {
	if f.Born != o.Born {
		if o.Born > f.Born {
			return o
		}
		return f
	}
	out := Floor{Born: f.Born, Version: max(f.Version, o.Version), Seq: max(f.Seq, o.Seq), Labels: slices.Clone(f.Labels)}
	for _, l := range o.Labels {
		if at, ok := out.label(l.Label); ok {
			out.Labels[at].Seq = max(out.Labels[at].Seq, l.Seq)
		} else {
			out.Labels = slices.Insert(out.Labels, at, l)
		}
	}
	for len(out.Labels) > MaxFloorLabels {
		oldest := 0
		for i, l := range out.Labels {
			if l.Seq < out.Labels[oldest].Seq {
				oldest = i
			}
		}
		out.Labels = slices.Delete(out.Labels, oldest, oldest+1)
	}
	return out
}
