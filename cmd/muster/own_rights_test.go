package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// Under sudo the caller's record is in the caller's home: links there lead root to nothing that the caller may not touch, and give
// nothing away.
func TestOwnRecordUnderSudo(t *testing.T) {
	t.Parallel()
	a := &app{euid: 0, getenv: func(k string) string { return map[string]string{"SUDO_UID": "1"}[k] }}
	if os.Geteuid() != 0 || a.keyOwner().uid != 1 { // there is nobody else to act for
		return
	}
	w, err := newTown(1)
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	home, roots := filepath.Join(base, "home"), filepath.Join(base, "roots")
	for _, dir := range []string{home, roots} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	empty, secret := filepath.Join(roots, "empty"), filepath.Join(roots, "secret")
	for path, text := range map[string]string{empty: "", secret: "root's"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"new": filepath.Join(roots, "new"), "empty": empty, "secret": secret, "folder": roots} {
		if err := os.Symlink(to, filepath.Join(home, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(base), 0o755); err != nil { // the caller gets as far as home
		t.Fatal(err)
	}
	if err := os.Chown(home, 1, 1); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"new", "empty", "folder/record", "folder/deep/record"} {
		o := &ownRecord{app: a, path: filepath.Join(home, name)}
		if err := o.write(w.acts); err == nil {
			t.Errorf("%s: it is written", name)
		}
	}
	if left, err := os.ReadDir(roots); err != nil || len(left) != 2 || ownerOf(t, empty) != 0 {
		t.Errorf("root's folder: %v %v, empty is of %d", left, err, ownerOf(t, empty))
	}
	if raw, err := a.readOwnFile(filepath.Join(home, "secret")); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("%q %v", raw, err)
	}

	o := &ownRecord{app: a, path: filepath.Join(home, "state", "record")}
	if err := o.write(w.acts); err != nil {
		t.Fatal(err)
	}
	raw, err := a.readOwnFile(o.path)
	if _, size, bad := replayOwn(raw, w.who.Fleet); err != nil || bad != nil || size != int64(len(raw)) || size == 0 {
		t.Error(err, bad, size, len(raw))
	}
	if ownerOf(t, o.path) != 1 || ownerOf(t, filepath.Dir(o.path)) != 1 {
		t.Error("it is not the caller's")
	}
	if err := os.WriteFile(filepath.Join(roots, "after"), nil, 0o600); err != nil || ownerOf(t, filepath.Join(roots, "after")) != 0 {
		t.Errorf("root is not root any more: %v", err)
	}
}

// A key that is written under sudo goes where the caller could have written it: a link in their home leads root nowhere.
func TestKeyUnderSudo(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // there is nobody else to act for
	}
	base := t.TempDir()
	home, roots := filepath.Join(base, "home"), filepath.Join(base, "roots")
	for _, dir := range []string{home, roots} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	who := owner{uid: 1, gid: 1, home: home}
	err := errors.Join(os.Chmod(filepath.Dir(base), 0o755), os.Chown(home, 1, 1), os.Symlink(roots, filepath.Join(home, "link")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link/key", "link/deep/key"} {
		if err := writeKeyFor(who, true, filepath.Join(home, name), "key"); err == nil {
			t.Errorf("%s: it is written", name)
		}
	}
	if left, err := os.ReadDir(roots); err != nil || len(left) != 0 {
		t.Errorf("root's folder: %v %v", left, err)
	}
	if err := writeKeyFor(who, true, filepath.Join(home, "config", "key"), "key"); err != nil || ownerOf(t, filepath.Join(home, "config", "key")) != 1 {
		t.Errorf("within the home: %v", err)
	}
	// Elsewhere the caller asked root for it, by name.
	if err := writeKeyFor(who, true, filepath.Join(roots, "key"), "key"); err != nil || ownerOf(t, filepath.Join(roots, "key")) != 1 {
		t.Errorf("outside of the home: %v", err)
	}
}
