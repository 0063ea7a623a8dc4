package talk

import (
	"path"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Grant is what one far end may do: what an operator signed and policy was asked about. The zero one allows nothing.
type Grant struct {
	Put  bool // it writes; else it reads
	Deep bool // folders with what is in them
	// Paths are each a path with what is below it: from / on, or from ~/ on, which is the account's home; without . and ..; and
	// with a / at its end where it stands for a folder. Any may be a pattern, as path.Match has it.
	Paths []string
}

// The words of a grant as arguments of a process.
const (
	wordPut  = "put"
	wordGet  = "get"
	wordDeep = "deep"
	wordFlat = "flat"
)

// Words returns the grant as arguments of a process.
func (g Grant) Words() []string {
	words := []string{wordGet, wordFlat}
	if g.Put {
		words[0] = wordPut
	}
	if g.Deep {
		words[1] = wordDeep
	}
	return append(words, g.Paths...)
}

// GrantOf reads the arguments of a process.
func GrantOf(words []string) (Grant, error) {
	if len(words) < 3 || words[0] != wordPut && words[0] != wordGet || words[1] != wordDeep && words[1] != wordFlat {
		return Grant{}, fleet.Errorf(fleet.Denied, "nobody says what may be copied")
	}
	return Grant{Put: words[0] == wordPut, Deep: words[1] == wordDeep, Paths: words[2:]}, nil
}

// Check reports why what the other end asks for is not what was signed, or nil. Where its paths lead, Covers judges.
func (g Grant) Check(ask Ask) error {
	switch {
	case ask.Put != g.Put && g.Put:
		return fleet.Errorf(fleet.Denied, "this session was signed to write files, not to read them")
	case ask.Put != g.Put:
		return fleet.Errorf(fleet.Denied, "this session was signed to read files, not to write them")
	case ask.Deep && !g.Deep:
		return fleet.Errorf(fleet.Denied, "this session was signed for files, not for folders")
	}
	return nil
}

// AtHome reports whether any path begins at the account's home.
func (g Grant) AtHome() bool {
	for _, p := range g.Paths {
		if strings.HasPrefix(p, "~/") {
			return true
		}
	}
	return false
}

// Covers reports whether the grant holds for a place: the path by which the system knows it, without links. home is that of the
// account's home; "": it has none.
func (g Grant) Covers(real, home string) bool {
	if !strings.HasPrefix(real, "/") || path.Clean(real) != real {
		return false // as of something that was removed
	}
	for _, p := range g.Paths {
		if covers(p, real, home) {
			return true
		}
	}
	return false
}

func covers(signed, real, home string) bool {
	if rest, ok := strings.CutPrefix(signed, "~/"); ok {
		if !strings.HasPrefix(home, "/") {
			return false
		}
		if signed = strings.TrimSuffix(home, "/") + "/" + rest; HasPattern(home) { // is no pattern of anybody's
			return below(signed, real)
		}
	}
	if !strings.HasPrefix(signed, "/") {
		return false
	}
	if below(signed, real) {
		return true
	}
	matched, err := path.Match(strings.TrimSuffix(signed, "/"), real)
	return err == nil && matched
}

// below reports whether a place is a path, or in it.
func below(signed, real string) bool {
	base := strings.TrimSuffix(signed, "/")
	return real == base || base == "" || strings.HasPrefix(real, base+"/")
}
