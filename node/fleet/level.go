package fleet

import (
	"errors"
	"fmt"
)

// Level counts the sets of things that a fleet can agree on. Every program supports its newest level and all before it; the
// fleet's level is agreed, never goes back, and nothing that a higher one brought is written before all who must read it
// support it. New kinds of entries and acts, new settings and new layouts of the replicated state take a new level. What
// two members tell each other without keeping it takes none: who does not know a question says so.
type Level uint16

// The levels, with what each brought.
const (
	LevelFirst    Level = 1 // where every fleet begins
	LevelReleases Level = 2 // the setting release.keys, and levels themselves
	LevelNewest         = LevelReleases
)

// Newer makes an error about something that only a newer program understands. It is no damage and nobody's lie: whoever
// keeps it, or asks again after an upgrade, can go on.
func Newer(format string, args ...any) *Error {
	e := &Error{Kind: Invalid, What: fmt.Sprintf(format, args...), Err: silent{errNewer}}
	return e.Hinted("upgrade muster on this host: muster version; muster node list -o wide shows who has which")
}

var errNewer = errors.New("written by a newer version")

// IsNewer reports whether err says that only a newer program understands what it is about.
func IsNewer(err error) bool { return errors.Is(err, errNewer) }
