package upgrade

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// The trial's file in the data folder, and what is locked while it is changed.
const (
	trialName = "upgrade"
	lockName  = "upgrade.lock"
	actName   = "upgrade.act" // locked by who upgrades the host
	maxTrial  = 64 << 10      // bytes
)

// Read returns the trial that is under way in a data folder, or its last one; false: there was none.
func Read(dir string) (t Trial, ok bool, err error) {
	path := filepath.Join(dir, trialName)
	if info, err := os.Stat(path); err == nil && info.Size() > maxTrial {
		return t, false, fleet.Errorf(fleet.Internal, "%s is damaged: it is larger than it can be", path)
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err == nil {
		err = t.check()
	}
	if err != nil {
		return Trial{}, false, fleet.Errorf(fleet.Internal, "%s cannot be used: %w", path, bare(err)).Hinted("remove it, unless an upgrade is under way")
	}
	return t, true, nil
}

// save writes the trial down for good.
func (t Trial) save(dir string) error {
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, trialName)
	tmp := path + ".new"
	defer os.Remove(tmp) // after the rename this removes nothing
	if err := writeSynced(tmp, append(data, '\n'), 0o600); err != nil {
		return failed("write", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return failed("write", path, err)
	}
	return syncDir(dir)
}

// locked does something while nobody else changes the trial of a data folder: the agent and who upgrades it may both want to.
func locked(dir string, do func() error) error {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return failed("write", filepath.Join(dir, lockName), err)
	}
	defer f.Close() // and with it the lock
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return failed("lock", f.Name(), err)
		}
		return do()
	}
}

// change lets decide change the trial of that ID, and does what follows. ok is false where the folder has another one, or none.
func change(dir, id string, decide func(Trial) (Trial, Next)) (t Trial, next Next, ok bool, err error) {
	err = locked(dir, func() error {
		if t, ok, err = Read(dir); err != nil || !ok {
			return err
		}
		if ok = t.ID == id; !ok {
			return nil
		}
		t, next = decide(t)
		t, next, err = t.do(dir, next)
		return err
	})
	return t, next, ok, err
}

// do does what a decision says on the disk, and returns what is left of it: there may be nothing to go back to.
func (t Trial) do(dir string, next Next) (Trial, Next, error) {
	if next.Save {
		// A full disk must not keep the old program from its place: a rename needs no room, and the next start sees what was done.
		// Nor must it keep an agent from proving itself.
		if err := t.save(dir); err != nil && !next.Restore {
			return t, Next{Watch: next.Watch}, err
		}
	}
	if next.Restore {
		err := t.restore()
		if errors.Is(err, fs.ErrNotExist) {
			t, next = t.Stay()
			return t.do(dir, next)
		}
		if err != nil {
			return t, Next{}, err
		}
	}
	if next.Clear {
		t.clear()
	}
	return t, next, nil
}

func writeSynced(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return failed("sync", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return failed("sync", dir, err)
	}
	return nil
}

// failed says what a disk that refuses means, and what to do.
func failed(verb, path string, err error) error {
	kind, hint := fleet.Internal, ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind, hint = fleet.Exhausted, "nothing was changed; make room on that disk: df -h "+filepath.Dir(path)
	case errors.Is(err, syscall.EROFS):
		kind, hint = fleet.Unavailable, "nothing was changed; that file system is read-only: upgrade the image that it comes from, or mount -o remount,rw"
	case errors.Is(err, fs.ErrPermission):
		kind, hint = fleet.Denied, "the upgrade changes the agent's program, so it runs as root: leave --user out"
	}
	e := fleet.Errorf(kind, "cannot %s %s: %w", verb, path, bare(err))
	e.Hint = hint
	return e
}

// bare strips operation and path that os puts before an error.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
