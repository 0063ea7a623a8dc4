package auth

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
)

// maxPath bounds a path in bytes: Linux's.
const maxPath = 4095

// CanonicalPath returns the one way to write a path that a copy may touch, so that rules which name it hold: from / on, or
// from ~/ on, which is the account's home, where paths without either begin. It has no empty name, no . and no .., and a /
// at its end where it says that it is a folder. Patterns in it are names to it.
func CanonicalPath(text string) (string, error) {
	if len(text) > maxPath || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return "", fleet.Errorf(fleet.Invalid, "%q is no path that can be named for a copy", shorten(text)).
			Hinted("one line of UTF-8 of at most %d bytes; a ? stands for another character", maxPath)
	}
	rest, home := strings.CutPrefix(text, "~/")
	if text == "" || text == "~" {
		rest, home = "", true
	}
	home = home || !strings.HasPrefix(rest, "/")
	if home {
		rest = strings.TrimLeft(rest, "/") // ~//x is ~/x, and ~//.. leads out as ~/.. does
	}
	isFolder := rest == "" || strings.HasSuffix(rest, "/") || strings.HasSuffix(rest, "/.") || strings.HasSuffix(rest, "/..") || rest == "." || rest == ".."
	clean := path.Clean("/" + rest)
	if home && leavesHome(rest) {
		return "", fleet.Errorf(fleet.Invalid, "%s leads out of the account's home", shorten(text)).Hinted("name it from / on")
	}
	if isFolder && clean != "/" {
		clean += "/"
	}
	if home {
		return "~" + clean, nil
	}
	return clean, nil
}

// leavesHome reports whether a path that begins at home has more .. than names before them.
func leavesHome(rest string) bool {
	clean := path.Clean(rest)
	return clean == ".." || strings.HasPrefix(clean, "../")
}
