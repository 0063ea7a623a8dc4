package check

import (
	"slices"
)

// Expired finds parameters that are there after their time, and ones that went before it. The fleet's time is that of its
// leaders, so that it may be off as far as a clock that passes for normal.
func Expired(s Shelf) []Violation {
	v := violations{promise: PromiseExpired}
	if s.Params == nil || s.Looked.IsZero() {
		return nil
	}
	for _, p := range s.Puts {
		if p.Lasts <= 0 || p.Ack == Refused {
			continue
		}
		there := s.at(p) != 0
		switch {
		case there && p.Answered.Add(p.Lasts+s.Skew+slack).Before(s.Looked):
			v.add([16]byte{}, "", "%s: %q, put at %s for %s, is there at %s", p.Name, p.Value, clock(p.Asked), p.Lasts, clock(s.Looked))
		case !there && p.Ack == Accepted && s.Looked.Before(p.Asked.Add(p.Lasts-s.Skew-slack)) && !s.deleted(p.Name):
			v.add([16]byte{}, "", "%s: %q, put at %s for %s, is gone at %s", p.Name, p.Value, clock(p.Asked), p.Lasts, clock(s.Looked))
		}
	}
	return v.found
}

func (s Shelf) deleted(name string) bool {
	return slices.ContainsFunc(s.Deletes, func(d ParamDelete) bool { return d.Name == name && d.Ack != Refused })
}

// ParamsFresh finds looks that show what nobody put, or that do not show what was acknowledged before they began.
func ParamsFresh(s Shelf) []Violation {
	v := violations{promise: PromiseFresh}
	for _, g := range s.Gets {
		if g.Value != "" {
			s.untrue(&v, g)
		}
		if why := s.stale(g); why != "" {
			v.add([16]byte{}, g.By, "%s through it at %s: %s, %s", g.Name, clock(g.Asked), shown(g.Value), why)
		}
	}
	return v.found
}

func (s Shelf) untrue(v *violations, g ParamGet) {
	p, ok := s.putOf(g.Name, g.Value)
	switch {
	case !ok || p.Asked.After(g.Answered):
		v.add([16]byte{}, g.By, "%s through it at %s is %q, which nobody had put", g.Name, clock(g.Asked), g.Value)
	case p.Ack == Refused:
		v.add([16]byte{}, g.By, "%s through it at %s is %q, which was refused", g.Name, clock(g.Asked), g.Value)
	case p.Ack == Accepted && g.Version != 0 && g.Version != p.Told:
		v.add([16]byte{}, g.By, "%s through it at %s: %q is version %d, and was acknowledged as version %d", g.Name, clock(g.Asked), g.Value, g.Version, p.Told)
	}
}

// stale says which acknowledged change a look does not show, or "".
func (s Shelf) stale(g ParamGet) string {
	shows, known := s.putOf(g.Name, g.Value)
	for _, p := range s.Puts {
		before := p.Name == g.Name && p.Ack == Accepted && p.Answered.Before(g.Asked)
		passed := g.Value != "" && known && shows.Ack == Accepted && shows.Told < p.Told
		if before && s.steady(g.Name) && (g.Value == "" || passed) {
			return "and " + shown(p.Value) + " was acknowledged at " + clock(p.Answered)
		}
	}
	for _, d := range s.Deletes {
		if g.Value != "" && known && s.ends(d, shows) && d.Answered.Before(g.Asked) {
			return "and it was deleted at " + clock(d.Answered)
		}
	}
	return ""
}
