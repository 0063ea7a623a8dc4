package copy

import (
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// expand lists what a source stands for at this end: itself, or, where there is nothing of that name and it is a pattern, what
// matches. Names of a folder are read only where the session was signed for it; away lists what would have to be signed as well,
// where links lead out on the way.
func (b *bounds) expand(way string) (ways, away []string, pattern bool) {
	if _, err := os.Lstat(way); err == nil || !talk.HasPattern(way) {
		return []string{way}, nil, false
	}
	dir, names := "", strings.Split(way, "/")
	for !talk.HasPattern(names[0]) {
		dir, names = dir+names[0]+"/", names[1:]
	}
	ways, away = b.expandIn(dir, names)
	slices.Sort(ways)
	return ways, away, true
}

// expandIn lists what names stand for, one below the other, in a folder: "", or a path with a / at its end.
func (b *bounds) expandIn(dir string, names []string) (ways, away []string) {
	here := names[:1]
	if talk.HasPattern(names[0]) {
		var out string
		if here, out = b.list(dir, names); out != "" {
			return nil, []string{out}
		}
	}
	for _, name := range here {
		way := dir + name
		if len(names) == 1 {
			if _, err := os.Lstat(way); err == nil {
				ways = append(ways, way)
			}
			continue
		}
		found, out := b.expandIn(way+"/", names[1:])
		ways, away = append(ways, found...), append(away, out...)
	}
	return ways, away
}

// list reads which names in a folder match the first of names, unless the session was not signed for names there: then it returns
// what would have to be signed. What cannot be read has nothing that matches.
func (b *bounds) list(dir string, names []string) (found []string, away string) {
	if dir == "" {
		dir = "."
	}
	fd, err := again(func() (int, error) { return unix.Open(dir, folderFlags, 0) })
	if err != nil {
		return nil, ""
	}
	folder := os.NewFile(uintptr(fd), dir)
	defer folder.Close()
	at, err := placeOfFD(fd)
	if err != nil {
		return nil, ""
	}
	rest := strings.TrimSuffix(path.Clean("/"+strings.Join(names, "/")), "/")
	switch {
	case b.mayList(at, rest):
	case talk.HasPattern(at): // with more behind it, it would be no name but a pattern
		return nil, at
	default:
		return nil, path.Join(at, rest)
	}
	all, _ := folder.Readdirnames(-1) // as many as can be read
	return slices.DeleteFunc(all, func(name string) bool {
		matched, err := path.Match(names[0], name)
		return err != nil || !matched
	}), ""
}

// mayList reports whether names of the folder that lies at a place may be read for a pattern that goes on with rest: the place is
// covered, or it is on the way of a pattern that was signed and goes on so.
func (b *bounds) mayList(at, rest string) bool {
	return b.Covers(at, b.home) || slices.ContainsFunc(b.Paths, func(signed string) bool {
		below, home := strings.CutPrefix(signed, "~/")
		if home {
			signed = path.Join(b.home, below)
		}
		head, goesOn := strings.CutSuffix(strings.TrimSuffix(signed, "/"), rest)
		if head == "" {
			head = "/"
		}
		matched := head == at
		if !home || !talk.HasPattern(b.home) { // which is no pattern of anybody's
			matched, _ = path.Match(head, at)
		}
		return goesOn && matched
	})
}
