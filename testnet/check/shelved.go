package check

import (
	"maps"
	"slices"
)

// Shelved finds acknowledged versions that are lost, doubled, elsewhere or of another value; refused and deleted ones that are
// there; gaps; versions in another order than they were put in; and acts that were done in part.
func Shelved(s Shelf) []Violation {
	v := violations{promise: PromiseShelf}
	if s.Params == nil {
		return nil
	}
	for _, name := range s.names() {
		s.invented(&v, name)
		s.gaps(&v, name)
		s.lost(&v, name)
		s.undeleted(&v, name)
		s.disorder(&v, name)
	}
	s.halves(&v)
	return v.found
}

// invented finds versions with a value that nobody put, that was refused, or that is there already.
func (s Shelf) invented(v *violations, name string) {
	first := map[string]uint32{}
	for _, one := range s.Params[name].Versions {
		p, ok := s.putOf(name, one.Value)
		switch before, again := first[one.Value]; {
		case again:
			v.add([16]byte{}, "", "%s: versions %d and %d are both %q, which was put once", name, before, one.Number, one.Value)
		case !ok:
			v.add([16]byte{}, "", "%s: version %d is %q, which nobody put", name, one.Number, one.Value)
		case p.Ack == Refused:
			v.add([16]byte{}, "", "%s: version %d is %q, which was refused at %s", name, one.Number, one.Value, clock(p.Answered))
		}
		first[one.Value] = one.Number
	}
}

// gaps finds numbers that are missing: they begin at 1, until so many are there that the oldest give way.
func (s Shelf) gaps(v *violations, name string) {
	seen := s.Params[name]
	if seen.Part {
		return
	}
	want := uint32(1)
	if len(seen.Versions) >= mostVersions {
		want = seen.Versions[0].Number
	}
	for _, one := range seen.Versions {
		if one.Number != want {
			v.add([16]byte{}, "", "%s: version %d follows where %d should be", name, one.Number, want)
		}
		want = one.Number + 1
	}
}

func (s Shelf) lost(v *violations, name string) {
	for _, p := range s.putsOf(name) {
		if p.Ack != Accepted {
			continue
		}
		if p.CAS && p.Told != p.If+1 {
			v.add([16]byte{}, "", "%s: %q was to follow version %d only, and became version %d", name, p.Value, p.If, p.Told)
		}
		switch number := s.at(p); {
		case number == 0 && p.Lasts == 0 && !s.mayBeGone(p) && !s.outlived(p):
			v.add([16]byte{}, "", "%s: %q was acknowledged as version %d at %s and is not there", name, p.Value, p.Told, clock(p.Answered))
		case number != 0 && number != p.Told:
			v.add([16]byte{}, "", "%s: %q was acknowledged as version %d at %s and is version %d", name, p.Value, p.Told, clock(p.Answered), number)
		}
	}
}

// undeleted finds what an acknowledged delete must have ended.
func (s Shelf) undeleted(v *violations, name string) {
	for _, p := range s.putsOf(name) {
		i := slices.IndexFunc(s.Deletes, func(d ParamDelete) bool { return s.ends(d, p) })
		if i >= 0 && s.at(p) != 0 {
			v.add([16]byte{}, "", "%s: %q, put at %s, is there, and it was deleted at %s", name, p.Value, clock(p.Answered), clock(s.Deletes[i].Answered))
		}
	}
}

// ends reports whether a delete certainly came after a put.
func (s Shelf) ends(d ParamDelete, p ParamPut) bool {
	return d.Name == p.Name && d.Ack == Accepted && p.Ack == Accepted && p.Answered.Before(d.Asked)
}

func (s Shelf) disorder(v *violations, name string) {
	for _, a := range s.putsOf(name) {
		for _, b := range s.putsOf(name) {
			if first, second := s.at(a), s.at(b); a.Ack == Accepted && a.Answered.Before(b.Asked) && first > second && second > 0 {
				v.add([16]byte{}, "", "%s: %q was acknowledged at %s as version %d, and %q, asked for at %s, is version %d",
					name, a.Value, clock(a.Answered), first, b.Value, clock(b.Asked), second)
			}
		}
	}
}

// halves finds acts of which a part was done.
func (s Shelf) halves(v *violations) {
	acts := map[int][]ParamPut{}
	for _, p := range s.Puts {
		acts[p.Act] = append(acts[p.Act], p)
	}
	for _, act := range slices.Sorted(maps.Keys(acts)) {
		var there, missing []string
		for _, p := range acts[act] {
			switch {
			case s.at(p) != 0:
				there = append(there, p.Name)
			case !s.mayBeGone(p) && !s.outlived(p):
				missing = append(missing, p.Name)
			}
		}
		if len(there) > 0 && len(missing) > 0 {
			v.add([16]byte{}, "", "of one act (%d) %v are there, and %v are not", act, there, missing)
		}
	}
}
