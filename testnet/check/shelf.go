package check

import (
	"slices"
	"time"
)

// The promises about parameters.
const (
	PromiseShelf   Promise = "parameters are what was acknowledged"
	PromiseLabels  Promise = "labels are where they were moved last"
	PromiseExpired Promise = "a parameter is gone when its time is over, and not before"
	PromiseOpen    Promise = "at rest every member of a keyring opens the newest secret"
	PromiseClosed  Promise = "who has left a keyring opens nothing that was put later"
	PromisePlanted Promise = "no file has a secret's text"
)

// Shelf is what happened to a fleet's parameters, as far as somebody outside it can tell. Every put has a value of its own,
// so that a value tells which put it is of; no value is put twice.
type Shelf struct {
	Skew   time.Duration // the most that a host's clock was off, among offs that pass for normal
	Looked time.Time     // when the last look began; zero: not told

	Puts    []ParamPut
	Deletes []ParamDelete
	Moves   []LabelMove          // beside those of Puts
	Params  map[string]ParamSeen // what there is in the end, by name; nil: not told
	Gets    []ParamGet

	Members []Write             // of the one keyring: What is a node, Value is In or empty
	Opens   []Open              // of secrets, by nodes for themselves
	Planted map[string][]string // files with the text that all secrets have, by node
}

// ParamPut is a version of a parameter that somebody asked for. Puts with the same number are one act.
type ParamPut struct {
	Act             int
	Name, Value     string
	Label           string        // moves to it; empty: none
	CAS             bool          // only if If is the newest version
	If              uint32        // of CAS
	Lasts           time.Duration // after which it expires; zero: never
	Told            uint32        // the version, of an acknowledged put
	Ack             Ack
	Asked, Answered time.Time
}

// ParamDelete is a parameter that somebody wanted to be gone.
type ParamDelete struct {
	Name            string
	Ack             Ack
	Asked, Answered time.Time
}

// LabelMove is a label that somebody moved to a version.
type LabelMove struct {
	Name, Label     string
	Version         uint32
	Ack             Ack
	Asked, Answered time.Time
}

// ParamSeen is a parameter as the fleet shows it to an operator.
type ParamSeen struct {
	By       string // through whom
	Versions []VersionSeen
	Part     bool // not all versions are told, only the newest
}

// VersionSeen is one version of it, the oldest first.
type VersionSeen struct {
	Number uint32
	Value  string
	Labels []string
}

// ParamGet is a linearizable look at the newest version of a parameter. Asked and Answered may be further apart than the look
// was: it happened somewhere in between.
type ParamGet struct {
	By, Name        string
	Asked, Answered time.Time
	Version         uint32 // 0: not told
	Value           string // empty: there was none
}

// Open is a node's try to open the newest version of a secret for itself.
type Open struct {
	Node, Name      string
	Asked, Answered time.Time
	Value           string // empty: it could not
	Why             string // what it said then
	Rest            bool   // the fleet was at rest, and it was tried for as long as a member may need
}

// mostVersions is how many versions of a parameter are kept: SSM's 100.
const mostVersions = 100

// doubtLasts is how long after it was asked for a write in doubt may still take effect, where that matters for who is in a
// keyring: nobody brings a statement any more whose client has been gone for so long.
const doubtLasts = time.Minute

// Params holds a shelf to every promise about parameters.
func Params(s Shelf) []Violation {
	var out []Violation
	for _, check := range []func(Shelf) []Violation{Shelved, Labelled, Expired, ParamsFresh, Opened, Closed, Planted} {
		out = append(out, check(s)...)
	}
	return out
}

func (s Shelf) putOf(name, value string) (ParamPut, bool) {
	i := slices.IndexFunc(s.Puts, func(p ParamPut) bool { return p.Name == name && p.Value == value })
	if i < 0 {
		return ParamPut{}, false
	}
	return s.Puts[i], true
}

// putsOf returns the puts of a name, in the order in which they were asked for.
func (s Shelf) putsOf(name string) []ParamPut {
	return slices.DeleteFunc(slices.Clone(s.Puts), func(p ParamPut) bool { return p.Name != name })
}

// names lists all names that were put or are there.
func (s Shelf) names() []string {
	seen := map[string]bool{}
	var out []string
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	for _, p := range s.Puts {
		add(p.Name)
	}
	for name := range s.Params {
		add(name)
	}
	slices.Sort(out)
	return out
}

// at returns the number of the version with a put's value; 0: it is not there.
func (s Shelf) at(p ParamPut) uint32 {
	for _, v := range s.Params[p.Name].Versions {
		if v.Value == p.Value {
			return v.Number
		}
	}
	return 0
}

// steady reports whether nothing may have ended a parameter: nobody deleted it, and it has no end.
func (s Shelf) steady(name string) bool {
	return !slices.ContainsFunc(s.Deletes, func(d ParamDelete) bool { return d.Name == name && d.Ack != Refused }) &&
		!slices.ContainsFunc(s.Puts, func(p ParamPut) bool { return p.Name == name && p.Lasts > 0 && p.Ack != Refused })
}

// mayBeGone reports whether something may have ended the parameter after a put.
func (s Shelf) mayBeGone(p ParamPut) bool {
	deleted := slices.ContainsFunc(s.Deletes, func(d ParamDelete) bool {
		before := d.Ack == Accepted && d.Answered.Before(p.Asked)
		return d.Name == p.Name && d.Ack != Refused && !before
	})
	ended := slices.ContainsFunc(s.Puts, func(o ParamPut) bool {
		return o.Name == p.Name && o.Ack != Refused && o.Lasts > 0 && !s.Looked.Before(o.Asked.Add(o.Lasts-s.Skew-slack))
	})
	return deleted || ended
}

// outlived reports whether a put made room for later versions.
func (s Shelf) outlived(p ParamPut) bool {
	all := s.Params[p.Name].Versions
	return s.Params[p.Name].Part || len(all) >= mostVersions && p.Told < all[len(all)-1].Number
}
