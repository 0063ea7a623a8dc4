package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kept finds acknowledged commands and writes that are gone, and refused ones that are there.
func Kept(h History) []Violation {
	v := violations{promise: PromiseKept}
	if h.Listed != nil {
		h.keptOrders(&v)
	}
	if h.Present != nil {
		h.keptWrites(&v)
	}
	return v.found
}

func (h History) keptOrders(v *violations) {
	asked := map[string]bool{}
	for _, o := range h.Orders {
		asked[o.ID.String()] = true
		switch there := h.Listed[o.ID]; {
		case o.Ack == Accepted && !there:
			v.add(o.ID, "", "it was acknowledged at %s and is not there", clock(o.Answered))
		case o.Ack == Refused && there:
			v.add(o.ID, "", "it was refused at %s and is there", clock(o.Answered))
		}
	}
	var strange []string
	for id, there := range h.Listed {
		if there && !asked[id.String()] {
			strange = append(strange, id.String())
		}
	}
	slices.Sort(strange)
	for _, id := range strange {
		v.add([16]byte{}, "", "command %s is there, and nobody asked for it", id)
	}
}

func (h History) keptWrites(v *violations) {
	of := map[string][]Write{}
	for _, w := range h.Writes {
		of[w.What] = append(of[w.What], w)
	}
	for _, what := range slices.Sorted(maps.Keys(of)) {
		value, there := h.Present[what]
		may := mayBe(of[what])
		if !may[value] || (there && value == "") {
			v.add([16]byte{}, "", "%s is %s, but could only be %s", what, shown(value), choices(may))
		}
	}
	for _, what := range slices.Sorted(maps.Keys(h.Present)) {
		if len(of[what]) == 0 {
			v.add([16]byte{}, "", "%s is %s, and nobody asked for it", what, shown(h.Present[what]))
		}
	}
}

// mayBe returns the values that writes may leave: of an acknowledged write, unless another that was acknowledged began
// after its answer; of a write in doubt, which may take effect at any time; and none, if no write was acknowledged.
func mayBe(writes []Write) map[string]bool {
	out := map[string]bool{"": true}
	for _, w := range writes {
		if w.Ack == Accepted {
			delete(out, "")
		}
	}
	for _, w := range writes {
		overwritten := slices.ContainsFunc(writes, func(later Write) bool {
			return later.Ack == Accepted && later.Asked.After(w.Answered)
		})
		if w.Ack == InDoubt || (w.Ack == Accepted && !overwritten) {
			out[w.Value] = true
		}
	}
	return out
}

func shown(value string) string {
	if value == "" {
		return "not there"
	}
	return fmt.Sprintf("%q", value)
}

func choices(may map[string]bool) string {
	var out []string
	for _, value := range slices.Sorted(maps.Keys(may)) {
		out = append(out, shown(value))
	}
	return strings.Join(out, " or ")
}

// Fresh finds reads that miss a command which was acknowledged before they began.
func Fresh(h History) []Violation {
	v := violations{promise: PromiseFresh}
	for _, r := range h.Reads {
		for _, o := range h.Orders {
			if o.Ack == Accepted && !o.Answered.IsZero() && o.Answered.Before(r.Asked) && !r.Listed[o.ID] {
				v.add(o.ID, "", "it was acknowledged at %s, and a read through %s at %s does not show it", clock(o.Answered), r.By, clock(r.Asked))
			}
			if o.Ack == Refused && r.Listed[o.ID] {
				v.add(o.ID, "", "it was refused, and a read through %s at %s shows it", r.By, clock(r.Asked))
			}
		}
	}
	return v.found
}
