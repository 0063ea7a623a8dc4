package main

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// writeIdentity keeps an operator's key at path. It never replaces a file.
func (a *app) writeIdentity(path string, i identity) error { return a.writeKey(path, i.text()) }

// readIdentity reads an operator's key.
func (a *app) readIdentity(path string) (identity, error) {
	text, err := a.readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, fleet.Errorf(fleet.Denied, "no operator's key at %s", path).
			Hinted("muster operator request, or name the key with --identity")
	}
	if err != nil {
		return identity{}, err
	}
	i, err := parseIdentity(text)
	return i, inFile(path, err)
}

// writeRootKey keeps a root key at path. It never replaces a file.
func (a *app) writeRootKey(path string, k rootKey) error { return a.writeKey(path, k.text()) }

// readRootKey reads a root key.
func (a *app) readRootKey(path string) (rootKey, error) {
	text, err := a.readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return rootKey{}, fleet.Errorf(fleet.Denied, "no root key at %s", path).
			Hinted("do this where the root key is, or name it with --root-key")
	}
	if err != nil {
		return rootKey{}, err
	}
	k, err := parseRootKey(text)
	return k, inFile(path, err)
}

// inFile says in which file err was.
func inFile(path string, err error) error {
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok {
		return err
	}
	return &fleet.Error{Kind: e.Kind, What: path + ": " + e.What, Hint: e.Hint, Err: e.Err}
}

// readKey reads a secret file that only its owner may read.
func (a *app) readKey(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return "", fleet.Errorf(fleet.Denied, "cannot read the key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", fleet.Errorf(fleet.Denied, "cannot read the key: %w", err)
	case !info.Mode().IsRegular():
		return "", fleet.Errorf(fleet.Invalid, "%s is no file", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", fleet.Errorf(fleet.Denied, "others than you can read or change the key %s", path).Hinted("chmod 600 %s", path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return "", fleet.Errorf(fleet.Denied, "cannot read the key: %w", err)
	}
	return string(raw), nil
}

// writeKey writes all of a file or nothing, and never over another: it is written beside path, synced, and linked into
// place, which fails where something is.
func (a *app) writeKey(path, text string) error {
	_, sudo := a.sudoCaller()
	return writeKeyFor(a.keyOwner(), sudo, path, text)
}

// writeKeyFor writes a key that is somebody's; under sudo it has no more rights in their home than they have.
func writeKeyFor(who owner, sudo bool, path, text string) error {
	write := func() error { return makeKey(path, text, who) }
	var err error
	if sudo && isWithin(path, who.home) {
		err = asOwner(who, write)
	} else {
		err = write()
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return fleet.Errorf(fleet.Conflict, "there is a key at %s already, and it stays", path).
			Hinted("give the new one another place: --identity FILE")
	case err != nil:
		return keyNotKept(path, err)
	}
	return nil
}

// isWithin reports whether a path lies in somebody's home, as it is written: there links are theirs to plant.
func isWithin(path, home string) bool {
	full, err := filepath.Abs(path)
	rest, rel := filepath.Rel(home, full)
	return err == nil && rel == nil && filepath.IsLocal(rest)
}

// makeKey writes a file that is not there yet, whole or not at all.
func makeKey(path, text string, who owner) error {
	dir := filepath.Dir(path)
	if err := makeDirs(dir, who); err != nil {
		return err
	}
	temp := filepath.Join(dir, ".new-"+rand.Text())
	defer os.Remove(temp)
	if err := writeSynced(temp, text, who); err != nil {
		return err
	}
	if err := os.Link(temp, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// keyNotKept says why a key could not be written: a disk that is full or read-only is not a question of rights.
func keyNotKept(path string, err error) error {
	kind, hint := fleet.Internal, "give the key another place: --identity FILE"
	switch {
	case errors.Is(err, fs.ErrPermission):
		kind = fleet.Denied
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind, hint = fleet.Exhausted, "make room there (df -h), or "+hint
	case errors.Is(err, syscall.ENOTDIR):
		kind = fleet.Invalid
	case errors.Is(err, syscall.EROFS):
		kind = fleet.Unavailable
	}
	return fleet.Errorf(kind, "cannot keep the key %s: %w", path, err).Hinted("%s", hint)
}

func writeSynced(path, text string, who owner) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil && who.gid >= 0 {
		err = f.Chown(who.uid, who.gid)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // some filesystems cannot
		err = nil
	}
	return errors.Join(err, d.Close())
}

// makeDirs makes the missing folders of dir, private and owned by who.
func makeDirs(dir string, who owner) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := makeDirs(filepath.Dir(dir), who); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if who.gid >= 0 {
		return os.Lchown(dir, who.uid, who.gid)
	}
	return nil
}
