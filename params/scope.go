package params

import (
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// A scope is what a signed read is for: a canonical name, which is that parameter with its history, or a path with a slash at
// its end, which is all below; "/" is all there are.

// CheckScope reports why text is no scope, or nil.
func CheckScope(text string) error {
	path, ok := strings.CutSuffix(text, "/")
	if !ok {
		return Selector{Name: text}.Check()
	}
	if path == "" {
		return nil
	}
	if canonical, err := CheckPath(path); err != nil || canonical != path || path == "/" {
		return fleet.Errorf(fleet.Invalid, "%.64q is no scope: a name, or a path with a slash at its end", text)
	}
	return nil
}

// Covers reports whether the parameter of that canonical name lies within a scope.
func Covers(scope, name string) bool {
	if path, ok := strings.CutSuffix(scope, "/"); ok {
		return Below(path, name, true)
	}
	return scope == name
}

// Within reports why an ask is not what a scope is for, or nil. The ask has passed Check.
func (a Ask) Within(scope string) error {
	ok := true
	for _, s := range a.Get {
		ok = ok && Covers(scope, s.Name)
	}
	for _, h := range a.History {
		ok = ok && Covers(scope, h.Name)
	}
	for _, p := range a.Path {
		ok = ok && strings.HasSuffix(scope, "/") && strings.HasPrefix(strings.TrimSuffix(p.Path, "/")+"/", scope)
	}
	if len(a.List) > 0 {
		ok = ok && scope == "/"
	}
	if !ok {
		return fleet.Errorf(fleet.Denied, "it was signed to read %s, and asks for something else", scope)
	}
	return nil
}

// Check reports why an ask cannot be answered, or nil.
func (a Ask) Check() error {
	if len(a.Path)+len(a.List)+len(a.History) > 1 || (len(a.Get) > 0) == (len(a.Path)+len(a.List)+len(a.History) > 0) {
		return fleet.Errorf(fleet.Invalid, "a question about parameters asks for exactly one thing (ValidationException)")
	}
	if len(a.Get) > MaxGet {
		return fleet.Errorf(fleet.Invalid, "%d names; at most %d at once (ValidationException)", len(a.Get), MaxGet)
	}
	for _, s := range a.Get {
		if err := s.Check(); err != nil {
			return err
		}
	}
	for _, p := range a.Path {
		return p.check()
	}
	for _, l := range a.List {
		return l.check()
	}
	for _, h := range a.History {
		return h.check()
	}
	return nil
}

func (p PathAsk) check() error {
	if path, err := CheckPath(p.Path); err != nil || path != p.Path {
		return fleet.Errorf(fleet.Invalid, "%.64q is no path in its one spelling (ValidationException)", p.Path)
	}
	if err := checkPage(p.Max, p.After); err != nil {
		return err
	}
	return CheckFilters(p.Filters, true)
}

func (l ListAsk) check() error {
	if err := checkPage(l.Max, l.After); err != nil {
		return err
	}
	return CheckFilters(l.Filters, false)
}

func (h HistoryAsk) check() error {
	if err := (Selector{Name: h.Name}).Check(); err != nil {
		return err
	}
	return checkPage(h.Max, "")
}

func checkPage(n uint32, after string) error {
	if n > MaxPage {
		return fleet.Errorf(fleet.Invalid, "a page of %d; at most %d (ValidationException)", n, MaxPage)
	}
	if after == "" {
		return nil
	}
	return Selector{Name: after}.Check()
}
