package release

import (
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Version is what muster version says, taken apart: 1.2.3, 1.2.3-rc.1, 1.2.3+5.gabc0123.
type Version struct {
	Core   [3]uint64
	Before string // what makes it earlier than Core: rc.1; empty: nothing
	After  string // what makes it later: commits since, and the newest one's name; empty: nothing
}

// ParseVersion reads a version.
func ParseVersion(text string) (Version, error) {
	var v Version
	wrong := damaged("%q is no version such as 1.2.3, 1.2.3-rc.1 or 1.2.3+4.gabc0123", cut(text))
	if len(text) > MaxVersion {
		return v, wrong
	}
	rest, after, hasAfter := strings.Cut(text, "+")
	core, before, hasBefore := strings.Cut(rest, "-")
	if hasAfter && !isSuffix(after) || hasBefore && !isSuffix(before) {
		return v, wrong
	}
	numbers := strings.Split(core, ".")
	if len(numbers) != len(v.Core) {
		return v, wrong
	}
	for i, n := range numbers {
		value, err := strconv.ParseUint(n, 10, 32)
		if err != nil || strconv.FormatUint(value, 10) != n {
			return v, wrong
		}
		v.Core[i] = value
	}
	v.Before, v.After = before, after
	return v, nil
}

// isSuffix wants words of letters, digits and hyphens with dots between.
func isSuffix(text string) bool {
	for _, word := range strings.Split(text, ".") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return false
		}
	}
	return true
}

// Compare returns -1 where v is older than o, 1 where it is newer, and 0 where neither can be said: they are the same, or
// builds of different commits with the same number of commits since the release.
func (v Version) Compare(o Version) int {
	for i := range v.Core {
		if v.Core[i] != o.Core[i] {
			return sign(v.Core[i] > o.Core[i])
		}
	}
	if v.Before != o.Before {
		if v.Before == "" || o.Before == "" {
			return sign(v.Before == "")
		}
		if c := compareWords(v.Before, o.Before); c != 0 {
			return c
		}
	}
	a, b := leading(v.After), leading(o.After)
	if a == b {
		return 0
	}
	return sign(a > b)
}

// compareWords compares word by word: numbers by value, before other words, and fewer words before more.
func compareWords(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) && i < len(bs); i++ {
		if as[i] == bs[i] {
			continue
		}
		x, noX := strconv.ParseUint(as[i], 10, 64)
		y, noY := strconv.ParseUint(bs[i], 10, 64)
		switch {
		case noX == nil && noY == nil && x != y:
			return sign(x > y)
		case (noX == nil) != (noY == nil):
			return sign(noY == nil)
		default:
			if c := strings.Compare(as[i], bs[i]); c != 0 {
				return c
			}
		}
	}
	if len(as) == len(bs) {
		return 0
	}
	return sign(len(as) > len(bs))
}

// leading returns the number of commits since a release; 0 where it is the release.
func leading(after string) uint64 {
	word, _, _ := strings.Cut(after, ".")
	n, _ := strconv.ParseUint(word, 10, 64)
	return n
}

func sign(more bool) int {
	if more {
		return 1
	}
	return -1
}

// NotOlder reports why a host of one version may not be given a release, or nil: it would go back. A host whose version is none
// of a release (a build by hand) takes any.
func NotOlder(from string, to Release) error {
	old, err := ParseVersion(from)
	if err != nil {
		return nil
	}
	target, err := ParseVersion(to.Version)
	if err != nil {
		return err
	}
	if target.Compare(old) >= 0 {
		return nil
	}
	return fleet.Errorf(fleet.Denied, "release %s is older than %s, which runs here", to.Version, cut(from)).
		Hinted("--downgrade goes back all the same, where what the host has written since can be read by it")
}
