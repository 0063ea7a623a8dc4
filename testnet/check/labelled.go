package check

import (
	"maps"
	"slices"
)

// move is a label's move, by itself or with a put.
type move struct {
	to              uint32
	put             bool
	ack             Ack
	asked, answered int64
}

// Labelled finds labels that are on two versions, or where no last move may have left them. Names that may have been ended
// meanwhile are not judged: their labels went with them.
func Labelled(s Shelf) []Violation {
	v := violations{promise: PromiseLabels}
	for _, name := range s.names() {
		if s.Params == nil || !s.steady(name) || s.Params[name].Part {
			continue
		}
		on, moves := s.labelsOn(name), s.moves(name)
		labels := map[string]bool{}
		for label := range on {
			labels[label] = true
		}
		for label := range moves {
			labels[label] = true
		}
		for _, label := range slices.Sorted(maps.Keys(labels)) {
			s.label(&v, name, label, on[label], moves[label])
		}
	}
	return v.found
}

func (s Shelf) labelsOn(name string) map[string][]uint32 {
	on := map[string][]uint32{}
	for _, one := range s.Params[name].Versions {
		for _, label := range one.Labels {
			on[label] = append(on[label], one.Number)
		}
	}
	return on
}

// moves lists the moves of a name's labels that may have happened.
func (s Shelf) moves(name string) map[string][]move {
	out := map[string][]move{}
	for _, p := range s.putsOf(name) {
		if to := s.at(p); p.Label != "" && p.Ack != Refused && to != 0 {
			out[p.Label] = append(out[p.Label], move{to, true, Accepted, p.Asked.UnixNano(), p.Answered.UnixNano()})
			if last := &out[p.Label][len(out[p.Label])-1]; p.Ack == InDoubt {
				last.ack = InDoubt
			}
		}
	}
	for _, m := range s.Moves {
		if m.Name == name && m.Ack != Refused {
			out[m.Label] = append(out[m.Label], move{m.Version, false, m.Ack, m.Asked.UnixNano(), m.Answered.UnixNano()})
		}
	}
	return out
}

func (s Shelf) label(v *violations, name, label string, on []uint32, moves []move) {
	if len(on) > 1 {
		v.add([16]byte{}, "", "%s: label %s is on versions %v at once", name, label, on)
		return
	}
	at, may := uint32(0), []uint32{}
	if len(on) == 1 {
		at = on[0]
	}
	if !slices.ContainsFunc(moves, func(m move) bool { return m.ack == Accepted || m.put }) { // a put in doubt that is there has moved it
		may = append(may, 0)
	}
	for _, m := range moves {
		if !slices.ContainsFunc(moves, m.overtakenBy) {
			may = append(may, m.to)
		}
	}
	slices.Sort(may)
	if !slices.Contains(may, at) {
		v.add([16]byte{}, "", "%s: label %s is on version %d, but could only be on one of %v (0: on none)", name, label, at, slices.Compact(may))
	}
}

// overtakenBy reports whether another move certainly came later: versions come in the order of their puts.
func (m move) overtakenBy(later move) bool {
	return m.put && later.put && later.to > m.to || m.ack == Accepted && later.ack == Accepted && later.asked > m.answered
}
