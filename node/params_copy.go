package node

import (
	"cmp"
	"container/list"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// A node keeps what it has read of parameters for itself and its accounts, so that it can go on when it is cut off. What is
// kept proves itself again whenever it is shown; of secrets it is what is sealed.

// Bounds of a node's copies.
const (
	MaxCopies      = 10_000   // versions
	MaxCopyBytes   = 16 << 20 // of all, as they are on disk
	MaxNameCopies  = 16       // versions of one parameter
	RefreshCopy    = 60_000   // milliseconds after which a copy that was confirmed is noted to be so, on disk
	maxCopiedBytes = 4 << 20  // of one parameter

	// What a node remembers of parameters whose copies went: a name and numbers. That goes last.
	MaxCopyFloors     = 10_000
	MaxCopyFloorBytes = 4 << 20
	// ForgetCopy is how many milliseconds must be between a leader's first word that something is gone and the one that a copy
	// goes by, if nothing showed it in between: one server that lies for a moment shall not take from a node what it lives on.
	ForgetCopy = 3_600_000
)

// ParamCopies is what a node keeps of one parameter. Without versions, it is only what the node has seen.
type ParamCopies struct {
	Name     string
	Born     int64
	Versions []ParamCopy    // by number
	Seen     []params.Floor // none or one: the newest that was kept, though its version may have gone
	Gone     int64          // Unix milliseconds: when a leader said first that there is no such parameter; 0: nobody does
}

// ParamCopy is a version with what it was asked for by. One that nothing asks for any more is not kept.
type ParamCopy struct {
	Item params.Item // with its content; Selector is ":N"
	As   []CopiedAs  // by selector
}

// CopiedAs is a selector that named a version when the node asked.
type CopiedAs struct {
	Selector string // "" as the newest, ":3", ":label"
	At       int64  // Unix milliseconds: when it did last, as far as is known
	Seq      uint32 // of a label: label changes by then
	Proof    []params.LabelProof
	Gone     int64 // as in ParamCopies: that the selector names nothing
}

// Keep returns what is kept with an item that holds; at is when it did, in Unix milliseconds. c may be empty.
func (c ParamCopies) Keep(item params.Item, put params.Put, at int64) ParamCopies {
	if len(item.Content) != 1 || put.Born < c.Born || put.Born == c.Born && c.newer(item, put) {
		return c
	}
	floor, _ := c.Floor().Take(item, put) // what is older leaves it as it is
	next := ParamCopies{Name: put.Name, Born: put.Born, Seen: []params.Floor{floor}}
	as := CopiedAs{Selector: item.Selector, At: at, Proof: item.Proof}
	if len(item.Proof) > 0 {
		as.Seq = item.Seq
	}
	if put.Born == c.Born {
		for _, v := range c.Versions {
			v.As = slices.DeleteFunc(slices.Clone(v.As), func(o CopiedAs) bool { return o.Selector == as.Selector })
			if len(v.As) > 0 && versionOfCopy(v) != put.Version {
				next.Versions = append(next.Versions, v)
			}
		}
	}
	kept := ParamCopy{Item: item}
	kept.Item.Selector, kept.Item.Proof, kept.Item.Labels = params.Selector{Version: put.Version}.Suffix(), nil, nil
	if had, ok := c.version(put.Version); ok && put.Born == c.Born {
		kept.As = slices.DeleteFunc(slices.Clone(had.As), func(o CopiedAs) bool { return o.Selector == as.Selector })
	}
	kept.As = append(kept.As, as)
	next.Versions = append(next.Versions, kept)
	slices.SortFunc(next.Versions, func(a, b ParamCopy) int { return cmp.Compare(versionOfCopy(a), versionOfCopy(b)) })
	for len(next.Versions) > MaxNameCopies || next.size() > maxCopiedBytes && len(next.Versions) > 1 {
		next.Versions = slices.Delete(next.Versions, next.oldest(put.Version), next.oldest(put.Version)+1)
	}
	return next
}

// newer reports whether the copies know a later place of what names the item: two answers may come out of order.
func (c ParamCopies) newer(item params.Item, put params.Put) bool {
	for _, v := range c.Versions {
		for _, as := range v.As {
			if as.Selector == item.Selector && (len(as.Proof) > 0 && as.Seq > item.Seq || item.Selector == "" && versionOfCopy(v) > put.Version) {
				return true
			}
		}
	}
	return false
}

// oldest returns the place of the version that was confirmed longest ago, but not of the one just kept.
func (c ParamCopies) oldest(but uint32) int {
	at, place := int64(-1), 0
	for i, v := range c.Versions {
		newest := int64(0)
		for _, as := range v.As {
			newest = max(newest, as.At)
		}
		if versionOfCopy(v) != but && (at < 0 || newest < at) {
			at, place = newest, i
		}
	}
	return place
}

func (c ParamCopies) size() (size int) {
	for _, v := range c.Versions {
		size += sizeOf(v.Item)
		for _, as := range v.As {
			size += 64
			for _, p := range as.Proof {
				size += len(p.Change.Body) + len(p.Body) + 256
			}
		}
	}
	return size
}

// Forget returns what is left when a leader says, at a time in Unix milliseconds, that a selector names nothing any more: of
// the newest, that the parameter is none. The first word is only noted; what is said again an hour later is believed, unless
// what was said to be gone was shown in between. What the node has seen stays.
func (c ParamCopies) Forget(selector string, at int64) ParamCopies {
	if selector == "" {
		if len(c.Versions) > 0 && saidLong(&c.Gone, at) {
			return c.Bare()
		}
		return c
	}
	next := c
	next.Versions = nil
	for _, v := range c.Versions {
		var as []CopiedAs
		for _, o := range v.As {
			if o.Selector != selector || !saidLong(&o.Gone, at) {
				as = append(as, o)
			}
		}
		v.As = as
		if len(v.As) > 0 {
			next.Versions = append(next.Versions, v)
		}
	}
	if len(c.Versions) > 0 && len(next.Versions) == 0 {
		return c.Bare()
	}
	return next
}

// saidLong notes a word at a time that something is gone, and reports whether the first was long enough before.
func saidLong(first *int64, at int64) bool {
	if *first == 0 || at < *first { // or the clock went back
		*first = at
	}
	return at-*first >= ForgetCopy
}

// Bare returns what the node has seen, without the copies.
func (c ParamCopies) Bare() ParamCopies {
	return ParamCopies{Name: c.Name, Born: c.Born, Seen: []params.Floor{c.Floor()}}
}

func (c ParamCopies) version(number uint32) (ParamCopy, bool) {
	for _, v := range c.Versions {
		if versionOfCopy(v) == number {
			return v, true
		}
	}
	return ParamCopy{}, false
}

// versionOfCopy reads the number from the selector that Keep wrote.
func versionOfCopy(v ParamCopy) uint32 {
	s, err := params.ParseSelector("x" + v.Item.Selector)
	if err != nil {
		return 0
	}
	return s.Version
}

// At returns when a selector was last confirmed, in Unix milliseconds, or false where it names none of the copies.
func (c ParamCopies) At(selector string) (at int64, ok bool) {
	for _, v := range c.Versions {
		for _, as := range v.As {
			if as.Selector == selector || selector == v.Item.Selector {
				at, ok = max(at, as.At), true
			}
		}
	}
	return at, ok
}

// Newest returns when a version was last seen to be the newest, whatever it was asked for by.
func (c ParamCopies) Newest() (at int64, ok bool) {
	for _, v := range c.Versions {
		if v.Item.Newest != versionOfCopy(v) {
			continue
		}
		for _, as := range v.As {
			at, ok = max(at, as.At), true
		}
	}
	return at, ok
}

// Floor returns what the node had seen when it kept the copies. It believes its own disk.
func (c ParamCopies) Floor() params.Floor {
	floor := params.Floor{Born: c.Born}
	for _, seen := range c.Seen {
		floor = floor.Higher(seen)
	}
	for _, v := range c.Versions {
		if op, err := params.DecodeOp(v.Item.Body); err == nil && len(op.Put) == 1 && op.Put[0].Born == c.Born {
			floor = floor.Higher(params.Floor{Born: c.Born, Version: op.Put[0].Version, Seq: op.Put[0].Seq})
		}
	}
	return floor
}

// Times returns the copies without what is large: which selectors were confirmed when.
func (c ParamCopies) Times() ParamCopies {
	out := ParamCopies{Name: c.Name, Born: c.Born}
	for _, v := range c.Versions {
		v.Item = params.Item{Selector: v.Item.Selector, Newest: v.Item.Newest}
		out.Versions = append(out.Versions, v)
	}
	return out
}

// Check reports why copies are none that Keep could have made, or nil. Signatures are judged when copies are shown.
func (c ParamCopies) Check() error {
	bad := func() error {
		return fleet.Errorf(fleet.Invalid, "what is kept of parameter %s contradicts itself", c.Name)
	}
	if name, err := params.CanonicalName(c.Name); err != nil || name != c.Name || c.Born <= 0 || len(c.Versions) > MaxNameCopies || len(c.Seen) != 1 {
		return bad()
	}
	if c.Seen[0].Born != c.Born || c.Seen[0].Check() != nil {
		return bad()
	}
	last := uint32(0)
	for _, v := range c.Versions {
		number := versionOfCopy(v)
		if number <= last || len(v.Item.Content) != 1 || len(v.Item.Proof) > 0 || len(v.As) == 0 {
			return bad()
		}
		last = number
	}
	return nil
}

// Param returns the parameter as far as the copies show it, each version and each label proved again by this charter. What is
// not proved is left out. Without a version that once was the newest, there is no newest: old says so. now is in Unix
// milliseconds: a parameter that has expired is none.
func (c ParamCopies) Param(charter *auth.Charter, now int64) (p *params.Param, old bool, ok bool) {
	p = &params.Param{Name: c.Name, Born: c.Born}
	old = true
	for _, v := range c.Versions {
		item := v.Item
		put, err := params.Verify(item, charter)
		if err != nil || put.Name != c.Name || put.Born != c.Born || len(item.Content) != 1 {
			continue
		}
		p.Versions = append(p.Versions, &params.Version{
			Number: put.Version, Op: item.Op, Body: item.Body, Change: &item.Change, Operator: item.Operator, Time: item.Time, Act: item.Act,
			Put: &put, Content: item.Content[0],
		})
		p.Last, p.Seq = put.Version, max(p.Seq, item.Seq)
		if item.Newest == put.Version {
			old = false
		}
		for _, as := range v.As {
			if at, ok := labelOfCopy(item, as, charter); ok {
				p.Seq = max(p.Seq, as.Seq)
				p.Labels = append(p.Labels, at)
			}
		}
	}
	if len(p.Versions) == 0 || p.Newest().Put.Expired(now) {
		return nil, false, false
	}
	slices.SortFunc(p.Labels, func(a, b params.LabelAt) int { return cmp.Compare(a.Label, b.Label) })
	return p, old, true
}

// labelOfCopy returns a label whose proof holds.
func labelOfCopy(item params.Item, as CopiedAs, charter *auth.Charter) (params.LabelAt, bool) {
	if len(as.Proof) != 1 {
		return params.LabelAt{}, false
	}
	item.Selector, item.Proof, item.Seq = as.Selector, as.Proof, max(item.Seq, as.Seq)
	put, err := params.Verify(item, charter)
	if err != nil {
		return params.LabelAt{}, false
	}
	proof := as.Proof[0]
	return params.LabelAt{
		Label: strings.TrimPrefix(as.Selector, ":"), Version: put.Version, Op: proof.Op, Body: proof.Body, Change: &proof.Change,
	}, true
}

// Gone lists the names, of those copied, that a page below a path should have shown and did not: they were deleted, or policy
// does not let the node see them any more. names are in order.
func Gone(ask params.PathAsk, a params.Answer, puts []params.Put, names []string) (gone []string) {
	if len(ask.Filters) > 0 {
		return nil
	}
	for _, name := range names {
		shown := slices.ContainsFunc(puts, func(p params.Put) bool { return p.Name == name })
		onPage := name > ask.After && (!a.More || name <= a.Next)
		if !shown && onPage && params.Below(ask.Path, name, ask.Recursive) {
			gone = append(gone, name)
		}
	}
	return gone
}

// CopiedParams answers from copies. It is Parameters.
type CopiedParams struct {
	Names []string // in order
	Load  func(name string) (*params.Param, bool)
}

// Param returns a parameter.
func (c CopiedParams) Param(name string) (*params.Param, bool) {
	if _, ok := slices.BinarySearch(c.Names, name); !ok {
		return nil, false
	}
	return c.Load(name)
}

// Params shows the parameters behind a name, in order.
func (c CopiedParams) Params(after string, each func(*params.Param) bool) {
	c.ParamsBelow("/", after, each)
}

// ParamsBelow shows those below a path.
func (c CopiedParams) ParamsBelow(path, after string, each func(*params.Param) bool) {
	first, found := slices.BinarySearch(c.Names, after)
	if found {
		first++
	}
	for _, name := range c.Names[first:] {
		if !params.Below(path, name, true) {
			continue
		}
		if p, ok := c.Load(name); ok && !each(p) {
			return
		}
	}
}

// ErrNoCopy says that a node has no copy; why is why nobody else answered.
func ErrNoCopy(s params.Selector, why error) error {
	return fleet.Errorf(fleet.Unavailable, "this node has no copy of %s, and no server answers: %w", s, why).
		Hinted("a node keeps what it has read for itself (as root) or for its accounts; muster quorum status")
}

// CopySet is what a node knows of its copies without reading them: what there is, and what goes when there is too much.
type CopySet struct {
	names    map[string]*list.Element // of *copied
	used     *list.List               // copies: what was not used for longest first
	versions int
	bytes    int64 // of copies

	bare      *list.List // what has only been seen: what lost its copies first comes first
	bareBytes int64
}

type copied struct {
	name     string
	versions int // 0: nothing is left but what was seen
	bytes    int64
	as       map[string]CopiedAt // what nobody says is gone
}

// CopiedAt is which version a selector named, and when that was last noted on disk, in Unix milliseconds.
type CopiedAt struct {
	Born    int64
	Version uint32
	Seq     uint32
	At      int64
}

// NewCopySet returns the set of no copies.
func NewCopySet() *CopySet {
	return &CopySet{names: map[string]*list.Element{}, used: list.New(), bare: list.New()}
}

// Fresh reports whether keeping an item would tell the copies nothing new. It counts as a use.
func (s *CopySet) Fresh(item params.Item, put params.Put, at int64) bool {
	place, ok := s.names[put.Name]
	if !ok {
		return false
	}
	if place.Value.(*copied).versions > 0 {
		s.used.MoveToBack(place)
	}
	as, ok := place.Value.(*copied).as[item.Selector]
	return ok && as.Born == put.Born && as.Version == put.Version && as.Seq == item.Seq && at-as.At < RefreshCopy
}

// Names lists of what there are copies, in order.
func (s *CopySet) Names() []string {
	names := make([]string, 0, s.used.Len())
	for e := s.used.Front(); e != nil; e = e.Next() {
		names = append(names, e.Value.(*copied).name)
	}
	slices.Sort(names)
	return names
}

// Has reports whether there is a copy of a parameter.
func (s *CopySet) Has(name string) bool {
	place := s.names[name]
	return place != nil && place.Value.(*copied).versions > 0
}

// Knows reports whether there is anything on disk of a parameter: copies, or what was seen.
func (s *CopySet) Knows(name string) bool { return s.names[name] != nil }

// Note takes in what is on disk of a parameter now, bytes long, and returns the names to make room by, never its own: those
// whose copies go, for they were not used for longest, so that what is Bare of them stays; and those that go altogether.
func (s *CopySet) Note(c ParamCopies, bytes int64) (strip, drop []string) {
	s.Drop(c.Name)
	if len(c.Versions) == 0 {
		s.names[c.Name] = s.bare.PushBack(&copied{name: c.Name, bytes: bytes})
		s.bareBytes += bytes
		for (s.bare.Len() > MaxCopyFloors || s.bareBytes > MaxCopyFloorBytes) && s.bare.Len() > 1 {
			oldest := s.bare.Front().Value.(*copied).name
			s.Drop(oldest)
			drop = append(drop, oldest)
		}
		return nil, drop
	}
	n := &copied{name: c.Name, versions: len(c.Versions), bytes: bytes, as: map[string]CopiedAt{}}
	for _, v := range c.Versions {
		for _, as := range v.As {
			if c.Gone == 0 && as.Gone == 0 {
				n.as[as.Selector] = CopiedAt{c.Born, versionOfCopy(v), v.Item.Seq, as.At}
			}
		}
	}
	s.names[c.Name] = s.used.PushBack(n)
	s.versions, s.bytes = s.versions+n.versions, s.bytes+bytes
	for (s.versions > MaxCopies || s.bytes > MaxCopyBytes) && s.used.Len() > 1 {
		oldest := s.used.Front().Value.(*copied).name
		s.Drop(oldest)
		strip = append(strip, oldest)
	}
	return strip, nil
}

// Drop forgets a parameter.
func (s *CopySet) Drop(name string) {
	place, ok := s.names[name]
	if !ok {
		return
	}
	delete(s.names, name)
	if c := place.Value.(*copied); c.versions == 0 {
		s.bare.Remove(place)
		s.bareBytes -= c.bytes
	} else {
		s.used.Remove(place)
		s.versions, s.bytes = s.versions-c.versions, s.bytes-c.bytes
	}
}

// Size returns how many versions there are, and their bytes.
func (s *CopySet) Size() (versions int, bytes int64) { return s.versions, s.bytes }
