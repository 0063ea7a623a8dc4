package action

import (
	"bytes"
	"context"
	"io"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of waiting for a package manager's lock: somebody else's installation may be going on.
const (
	lockPatience = 15 * time.Minute
	lockPause    = 5 * time.Second
)

// software installs or removes a package by the host's package manager.
func (h host) software(ctx context.Context, in document.Package) error {
	m, path, err := h.manager()
	if err != nil {
		return err
	}
	want, err := m.read(in)
	if err != nil {
		return err
	}
	s := seat{host: h, manager: m, path: path}
	if want.install {
		return s.install(ctx, want)
	}
	return s.uninstall(ctx, want)
}

// manager finds the host's package manager.
func (h host) manager() (manager, string, error) {
	var names []string
	for _, m := range managers() {
		if path, ok := h.find(m.program); ok {
			return m, path, nil
		}
		names = append(names, m.program)
	}
	return manager{}, "", invalidPlatform("this host has no package manager that is known: %s", strings.Join(names, ", "))
}

// seat is a package manager in use.
type seat struct {
	host
	manager
	path string
}

func (s seat) install(ctx context.Context, want wanted) error {
	has, err := s.installed(ctx, want.name)
	if err != nil {
		return err
	}
	if has != "" && want.afresh {
		if err := s.locked(ctx, s.remove(want.name)); err != nil {
			return err
		}
	}
	if s.known == nil {
		return s.locked(ctx, s.add(want))
	}
	// The lists of what there is may be old, or not there at all; they are fetched only where that is so.
	known, err := s.knows(ctx, want.name)
	if err != nil {
		return err
	}
	if known && s.locked(ctx, s.add(want)) == nil {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s.say("%s: fetching the lists of packages", s.program)
	if err := s.locked(ctx, s.refresh); err != nil {
		return err
	}
	if known, err = s.knows(ctx, want.name); err == nil && !known {
		return fleet.Errorf(fleet.NotFound, "%s knows no package %q", s.program, want.name)
	}
	if err != nil {
		return err
	}
	return s.locked(ctx, s.add(want))
}

func (s seat) uninstall(ctx context.Context, want wanted) error {
	has, err := s.installed(ctx, want.name)
	if err != nil {
		return err
	}
	if !hasVersion(has, want.version) {
		s.sayOut("%s is not installed", want.text())
		return nil
	}
	return s.locked(ctx, s.remove(want.name))
}

// hasVersion reports whether one of the installed versions (a line each) is the wanted one; "" is any.
func hasVersion(installed, want string) bool {
	for v := range strings.Lines(installed) {
		v = strings.TrimSpace(v)
		upstream, _, _ := strings.Cut(v, "-")
		if v != "" && (want == "" || v == want || upstream == want) {
			return true
		}
	}
	return false
}

// installed returns the versions that are installed, a line each; "": none.
func (s seat) installed(ctx context.Context, name string) (string, error) {
	line := s.query(name)
	path, ok := s.find(line[0])
	if !ok {
		return "", invalidPlatform("this host has %s and no %s", s.program, line[0])
	}
	var out bytes.Buffer
	err := s.call(ctx, tool{path: path, args: line[1:], stdout: &out, stderr: io.Discard, env: s.quiet()})
	if _, ran := err.(*exitError); err != nil && !ran { // its exit code says only that there is none
		return "", err
	}
	if err != nil {
		return "", context.Cause(ctx)
	}
	return s.versions(out.String()), nil
}

// knows reports whether the lists of packages have exactly this name. Without the question, a name that is unknown could be
// taken for a pattern.
func (s seat) knows(ctx context.Context, name string) (bool, error) {
	line := s.known(name)
	path, ok := s.find(line[0])
	if !ok {
		return false, invalidPlatform("this host has %s and no %s", s.program, line[0])
	}
	var out bytes.Buffer
	if err := s.call(ctx, tool{path: path, args: line[1:], stdout: &out, stderr: s.stderr, env: s.quiet()}); err != nil {
		return false, err
	}
	bare, _, _ := strings.Cut(name, ":")
	for line := range strings.Lines(out.String()) {
		if strings.TrimSpace(line) == bare {
			return true, nil
		}
	}
	return false, nil
}

// locked calls the package manager, again and again while somebody else holds its lock.
func (s seat) locked(ctx context.Context, args []string) error {
	until := s.now().Add(lockPatience)
	for {
		words := &tail{limit: 8 << 10}
		err := s.call(ctx, tool{path: s.path, args: args, stdout: s.stdout, stderr: io.MultiWriter(s.stderr, words), env: s.quiet()})
		if err == nil || !s.isLocked(err, words.bytes()) || context.Cause(ctx) != nil {
			return err
		}
		if !s.now().Before(until) {
			return fleet.Errorf(fleet.Unavailable, "%s has been in use by something else for %s", s.program, lockPatience)
		}
		s.say("%s is in use by something else; trying again in %s", s.program, lockPause)
		if err := s.pause(ctx, lockPause); err != nil {
			return err
		}
	}
}

func (s seat) isLocked(err error, words []byte) bool {
	e, ok := err.(*exitError)
	if !ok {
		return false
	}
	if s.lockedCode != 0 && e.code == s.lockedCode {
		return true
	}
	for _, w := range s.lockedWords {
		if bytes.Contains(words, []byte(w)) {
			return true
		}
	}
	return false
}
