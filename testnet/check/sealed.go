package check

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// In is the value of a Write in Shelf.Members when the node enters the keyring; "in" would be a word of targets.
const In = "yes"

// Opened finds members that could not open the newest secret although the fleet was at rest.
func Opened(s Shelf) []Violation {
	v := violations{promise: PromiseOpen}
	for _, o := range s.Opens {
		if o.Rest && o.Value == "" && s.IsMember(o.Node, o.Asked) {
			v.add([16]byte{}, o.Node, "it is in the keyring, and cannot open %s from %s to %s: %s", o.Name, clock(o.Asked), clock(o.Answered), o.Why)
		}
	}
	return v.found
}

// Closed finds nodes that have opened what was put when they were certainly not in the keyring, and that were not since.
func Closed(s Shelf) []Violation {
	v := violations{promise: PromiseClosed}
	for _, o := range s.Opens {
		if o.Value == "" {
			continue
		}
		p, ok := s.putOf(o.Name, o.Value)
		switch {
		case !ok || p.Ack == Refused:
			v.add([16]byte{}, o.Node, "it opens %s at %s, and finds what nobody put: %q", o.Name, clock(o.Answered), o.Value)
		case !s.MayBeMember(o.Node, p.Asked, o.Answered):
			v.add([16]byte{}, o.Node, "it opens %s at %s, put from %s to %s, and it was not in the keyring since %s",
				o.Name, clock(o.Answered), clock(p.Asked), clock(p.Answered), s.left(o.Node, p.Asked))
		}
	}
	return v.found
}

// IsMember reports whether a node is in the keyring for certain at a time when all that was asked for has been answered.
func (s Shelf) IsMember(node string, at time.Time) bool {
	var in *Write
	for _, w := range s.Members {
		if w.What == node && w.Value == In && w.Ack == Accepted && w.Answered.Before(at) && (in == nil || w.Asked.After(in.Asked)) {
			in = &w
		}
	}
	return in != nil && !slices.ContainsFunc(s.Members, func(w Write) bool {
		over := w.Ack == Accepted && w.Answered.Before(in.Asked) || w.Ack == InDoubt && w.Asked.Add(doubtLasts).Before(in.Asked)
		return w.What == node && w.Value != In && w.Ack != Refused && !over
	})
}

// MayBeMember reports whether a node may have been in the keyring at some time from one moment to another.
func (s Shelf) MayBeMember(node string, from, to time.Time) bool {
	return slices.ContainsFunc(s.Members, func(w Write) bool {
		if w.What != node || w.Value != In || w.Ack == Refused || w.Asked.After(to) {
			return false
		}
		settled := w.Answered
		if w.Ack == InDoubt {
			settled = w.Asked.Add(doubtLasts)
		}
		return !slices.ContainsFunc(s.Members, func(left Write) bool {
			return left.What == node && left.Value != In && left.Ack == Accepted && !left.Asked.Before(settled) && !left.Answered.After(from)
		})
	})
}

// left says when a node left the keyring last before a moment.
func (s Shelf) left(node string, before time.Time) string {
	out := "the beginning"
	for _, w := range s.Members {
		if w.What == node && w.Value != In && w.Ack == Accepted && w.Answered.Before(before) {
			out = clock(w.Answered)
		}
	}
	return out
}

// Planted finds hosts with files that have the text of secrets.
func Planted(s Shelf) []Violation {
	v := violations{promise: PromisePlanted}
	for _, node := range slices.Sorted(maps.Keys(s.Planted)) {
		reader := "which was never in the keyring"
		if s.MayBeMember(node, time.Time{}, s.Looked) {
			reader = "which may only have it in memory"
		}
		if files := s.Planted[node]; len(files) > 0 {
			v.add([16]byte{}, node, "on it, %s, it is in %s", reader, strings.Join(files, ", "))
		}
	}
	return v.found
}
