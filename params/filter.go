package params

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
)

// Limits of filters.
const (
	MaxFilters      = 10
	MaxFilterValues = 50   // Systems Manager's
	MaxFilterValue  = 1024 // characters: Systems Manager's
)

const tagKey = "tag:"

// options lists what a key can be compared by, its default first; none: there is no such key.
func (f Filter) options(forPath bool) []string {
	switch {
	case f.Key == "Type" || f.Key == "KeyId":
		return []string{"Equals"}
	case forPath && f.Key == "Label":
		return []string{"Equals"}
	case forPath:
		return nil
	case f.Key == "Name":
		return []string{"Equals", "BeginsWith", "Contains"}
	case f.Key == "Path":
		return []string{"OneLevel", "Recursive"}
	case f.Key == "Tier" || f.Key == "DataType" || strings.HasPrefix(f.Key, tagKey) && len(f.Key) > len(tagKey):
		return []string{"Equals"}
	}
	return nil
}

// CheckFilters reports why parameters cannot be filtered so, or nil. forPath: among those below a path, where Systems Manager
// takes Type, KeyId and Label; a list takes all others.
func CheckFilters(filters []Filter, forPath bool) error {
	if len(filters) > MaxFilters {
		return fleet.Errorf(fleet.Invalid, "%d filters; at most %d (ValidationException)", len(filters), MaxFilters)
	}
	for i, f := range filters {
		options := f.options(forPath)
		switch {
		case len(f.Key) > MaxFilterValue || !utf8.ValidString(f.Key) || options == nil:
			return fleet.Errorf(fleet.Invalid, "there is no filter %.64q here: %s (InvalidFilterKey)", f.Key, keysFor(forPath))
		case f.Option != "" && !slices.Contains(options, f.Option):
			return fleet.Errorf(fleet.Invalid, "filter %.64s compares by %s, not by %.64q (InvalidFilterOption)", f.Key, strings.Join(options, ", "), f.Option)
		case slices.ContainsFunc(filters[:i], func(o Filter) bool { return o.Key == f.Key }):
			return fleet.Errorf(fleet.Invalid, "filter %.64s is there twice; give it several values (ValidationException)", f.Key)
		}
		if err := f.checkValues(); err != nil {
			return err
		}
	}
	return nil
}

func keysFor(forPath bool) string {
	if forPath {
		return "Type, KeyId or Label"
	}
	return "Name, Type, KeyId, Path, Tier, DataType or tag:KEY"
}

func (f Filter) checkValues() error {
	isTag := strings.HasPrefix(f.Key, tagKey)
	if len(f.Values) > MaxFilterValues || len(f.Values) == 0 && !isTag {
		return fleet.Errorf(fleet.Invalid, "filter %.64s has %d values; it takes 1 to %d (InvalidFilterValue)", f.Key, len(f.Values), MaxFilterValues)
	}
	for _, v := range f.Values {
		var err error
		switch {
		case v == "" && !isTag || len(v) > MaxFilterValue || !utf8.ValidString(v):
			err = fleet.Errorf(fleet.Invalid, "filter %.64s: a value has 1 to %d characters (InvalidFilterValue)", f.Key, MaxFilterValue)
		case f.Key == "Path":
			_, err = CheckPath(v)
		case f.Key == "Type":
			_, err = ParseType(v)
		case f.Key == "Tier":
			_, err = ParseTier(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Matches reports whether the newest version passes all filters, each by one of its values. The filters have passed
// CheckFilters.
func (p *Param) Matches(filters []Filter) bool {
	for _, f := range filters {
		if !p.matches(f) {
			return false
		}
	}
	return true
}

func (p *Param) matches(f Filter) bool {
	put := p.Newest().Put
	if key, ok := strings.CutPrefix(f.Key, tagKey); ok {
		value, has := put.Tags[key]
		return has && (len(f.Values) == 0 || slices.Contains(f.Values, value))
	}
	return slices.ContainsFunc(f.Values, func(v string) bool {
		switch f.Key {
		case "Name":
			return matchesName(p.Name, f.Option, v)
		case "Path":
			path, err := CheckPath(v)
			return err == nil && Below(path, p.Name, f.Option == "Recursive")
		case "Type":
			return put.Type.String() == v
		case "Tier":
			return put.Tier.String() == v
		case "DataType":
			return put.DataType == v
		case "KeyId":
			return slices.ContainsFunc(put.Readers, func(r Reader) bool { return r.String() == v })
		case "Label":
			_, ok := p.Label(v)
			return ok
		}
		return false
	})
}

// matchesName compares both spellings of a name of one level.
func matchesName(name, option, value string) bool {
	switch option {
	case "BeginsWith":
		return strings.HasPrefix(name, value) || strings.HasPrefix(FullPath(name), value)
	case "Contains":
		return strings.Contains(FullPath(name), value)
	}
	return FullPath(name) == FullPath(strings.TrimSpace(value))
}

// FilterWork is what it takes to look at one parameter with filters, but for the parameter's own share.
type FilterWork struct {
	fixed   int // bytes of all values, and some for each
	names   int // values that are compared with the name
	readers int // values that are compared with each reader
}

// WorkOf returns what filters take.
func WorkOf(filters []Filter) (w FilterWork) {
	for _, f := range filters {
		for _, v := range f.Values {
			w.fixed += 32 + len(v)
		}
		switch f.Key {
		case "Name", "Path":
			w.names += len(f.Values)
		case "KeyId":
			w.readers += len(f.Values)
		}
	}
	return w
}

// Of returns what one parameter takes, in bytes that are compared.
func (w FilterWork) Of(p *Param) int {
	work := w.fixed + w.names*len(p.Name)
	if w.readers > 0 {
		work += w.readers * len(p.Newest().Put.Readers) * 128
	}
	return work
}

// Chosen returns the version of a parameter that passes filters, and the label by which it was chosen, or nil: a filter by
// Label chooses the version that has one of its labels, the first of them that is there.
func (p *Param) Chosen(filters []Filter) (*Version, *LabelAt) {
	for _, f := range filters {
		if f.Key != "Label" {
			continue
		}
		for _, label := range f.Values {
			if v, at, err := p.Find(Selector{Name: p.Name, Label: label}); err == nil {
				return v, at
			}
		}
	}
	return p.Newest(), nil
}
