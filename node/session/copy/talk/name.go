package talk

import (
	"path"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Linux's own bounds, of a name and of what a link points to.
const (
	maxName = 255
	maxLink = 4095
)

// CheckName refuses what is not the name of one entry of a folder. Any other byte is a name's own affair: whoever prints
// it makes it printable.
func CheckName(name string) error {
	switch {
	case name == "", name == ".", name == "..", strings.ContainsAny(name, "/\x00"):
		return fleet.Errorf(fleet.Denied, "the other end sends a name that leads elsewhere: %q", shorten(name))
	case len(name) > maxName:
		return fleet.Errorf(fleet.Denied, "the other end sends a name of %d bytes; at most %d", len(name), maxName)
	}
	return nil
}

func checkLink(to string) error {
	if to == "" || len(to) > maxLink || strings.ContainsRune(to, 0) {
		return fleet.Errorf(fleet.Denied, "the other end sends a link that points to nothing")
	}
	return nil
}

// Base returns the name by which a source arrives; "" where what is in it is meant: for ".", "dir/.", "..", "/", "~" and "".
func Base(source string) string {
	source = strings.TrimRight(source, "/")
	base := source[strings.LastIndexByte(source, '/')+1:]
	if base == "." || base == ".." || source == "~" {
		return ""
	}
	return base
}

// HasPattern reports whether a source may stand for many: what path.Match gives a meaning to.
func HasPattern(source string) bool { return strings.ContainsAny(source, `*?[\`) }

// Expected reports whether a sender that was asked for sources may call something at the top by that name. Without this
// it could put any file beside the one that was asked for.
func Expected(sources []string, name string) bool {
	return slices.ContainsFunc(sources, func(source string) bool {
		base := Base(source)
		if base == name {
			return true
		}
		matched, err := path.Match(base, name)
		return err == nil && matched
	})
}

// Several reports whether sources may be more than one thing, so that they need a folder to arrive in.
func Several(sources []string) bool { return len(sources) != 1 || HasPattern(sources[0]) }
