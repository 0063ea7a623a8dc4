package copy

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// bounds keep a far end to what was signed, also where links or .. lead elsewhere: what is judged is where something lies, by the
// system's own word about what was opened. At a person's end there are none (nil).
type bounds struct {
	talk.Grant
	home string // where ~/ is, without links; "": none is needed
}

// boundsOf looks up what a grant leaves to the account.
func boundsOf(g talk.Grant) (*bounds, error) {
	b := &bounds{Grant: g}
	if !g.AtHome() {
		return b, nil
	}
	home, err := os.UserHomeDir()
	if err == nil {
		b.home, err = placeOf(home)
	}
	if here, away := placeOf("."); err != nil || away != nil || here != b.home { // where there is no home, processes begin in /
		return nil, fleet.Errorf(fleet.NotFound, "the account has no home that it can enter").Hinted("give a path from / on, or --user another account")
	}
	return b, nil
}

// admit reports why what was asked for is not what was signed, or nil, before any of it is looked at.
func (b *bounds) admit(ask talk.Ask) error {
	if err := b.Check(ask); err != nil {
		return err
	}
	for _, named := range ask.Paths {
		if canonical, err := auth.CanonicalPath(named); err != nil || !slices.Contains(b.Paths, canonical) {
			return fleet.Errorf(fleet.Denied, "this session was not signed for %s", named)
		}
	}
	return nil
}

// check reports why an open file or folder is out of bounds, or nil. within is a name in the folder.
func (b *bounds) check(fd int, within, named string) error {
	if b == nil {
		return nil
	}
	at, err := placeOfFD(fd)
	if err != nil {
		return err
	}
	if within != "" {
		at = path.Join(at, within)
	}
	if !b.Covers(at, b.home) {
		return &Elsewhere{Paths: []string{at}, named: named}
	}
	return nil
}

// Elsewhere is the error of a copy of which nothing was begun: links lead from what was named to where the session was not signed
// for. A session for Paths as well would do.
type Elsewhere struct {
	Paths []string
	named string
}

// Error says where to.
func (e *Elsewhere) Error() string { return e.plain().Error() }

// Unwrap returns it for people.
func (e *Elsewhere) Unwrap() error { return e.plain() }

func (e *Elsewhere) plain() *fleet.Error {
	named := e.named
	if named == "" {
		named = "what was named"
	}
	return fleet.Errorf(fleet.Denied, "%s leads to %s, for which this session was not signed", named, strings.Join(e.Paths, ", ")).
		Hinted("name that itself: NODE:%s", e.Paths[0])
}

// elsewhere lists where sources lie that are out of bounds, each as it may be signed. What cannot be opened is not among them:
// whoever sends it says why.
func (b *bounds) elsewhere(sources []string) (out []string) {
	add := func(at string) {
		if canonical, err := auth.CanonicalPath(at); err == nil && !slices.Contains(out, canonical) {
			out = append(out, canonical)
		}
	}
	for _, named := range sources {
		ways, away, _ := b.expand(tilde(named))
		for _, at := range away {
			add(at)
		}
		for _, way := range ways {
			if at, err := placeOf(way); err == nil && !b.Covers(at, b.home) {
				add(at)
			}
		}
	}
	return out
}

// placeOf returns where what a path leads to lies, by links and all.
func placeOf(way string) (string, error) {
	fd, err := again(func() (int, error) { return unix.Open(way, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return placeOfFD(fd)
}

// placeOfFD asks the system where an open file lies now.
func placeOfFD(fd int) (string, error) {
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", fleet.Errorf(fleet.Unavailable, "this node cannot tell where files lie: %w", err).Hinted("mount /proc")
	}
	return at, nil
}
