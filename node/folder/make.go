package folder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

const (
	identityName = "identity"
	joiningName  = "joining"
	lockName     = "lock"
	outboundName = "outbound"
)

// unfinished is what init and join write before the identity: without an identity it is worth nothing.
var unfinished = []string{"host", "record", "floor", "gossip-keys", "peers", "told", "founding", outboundName}

// lived is what an agent leaves: a folder with any of it was a host once.
var lived = []string{"raft", "ledger", "runs", "reports"}

// Exists reports whether dir holds an identity.
func Exists(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, identityName))
	return err == nil
}

// FleetOf returns the fleet that the host in dir belongs to, without opening the folder; false when that cannot be read.
func FleetOf(dir string) (fleet.ID, bool) {
	i, err := readIdentity(dir, identityName)
	return i.Fleet, err == nil
}

// Create makes the folder of a new host, and clears away what an earlier try left, but for its Joining keys. A folder
// that is or was a host's is refused, and so is one that holds other things and would have to be closed to others.
func Create(dir string) (*Folder, error) {
	if err := checkFresh(dir); err != nil {
		return nil, err
	}
	_, err := os.Lstat(dir)
	made := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError("make", dir, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, diskError("protect", dir, err)
	}
	f, err := lockFolder(dir)
	if err != nil {
		if made {
			_ = os.Remove(dir)
		}
		return nil, err
	}
	f.made = made
	err = checkFresh(dir) // another init or join may have been faster
	if err == nil {
		err = f.clear(unfinished)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkFresh reports why dir cannot become a new host's folder, or nil.
func checkFresh(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return diskError("open", dir, err)
	case !info.IsDir():
		return fleet.Errorf(fleet.Invalid, "%s is no folder", dir).Hinted("choose another with --data-dir")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return diskError("read", dir, err)
	}
	var others []string
	for _, entry := range entries {
		switch name := entry.Name(); {
		case name == identityName:
			return fleet.Errorf(fleet.Conflict, "%s holds a host's identity already", dir).
				Hinted("start it: muster agent --data-dir %s; or choose another folder with --data-dir", dir)
		case slices.Contains(lived, name):
			return fleet.Errorf(fleet.Conflict, "%s was a host's folder: it holds %s, but no identity", dir, name).
				Hinted("restore %s from a backup, or choose an empty folder with --data-dir", filepath.Join(dir, identityName))
		case !ours(name):
			others = append(others, name)
		}
	}
	if len(others) > 0 && info.Mode().Perm()&0o077 != 0 {
		return fleet.Errorf(fleet.Conflict, "%s holds other things (%s), and would be closed to everybody else", dir, others[0]).
			Hinted("choose an empty folder with --data-dir")
	}
	return nil
}

// ours reports whether a file may be there before a folder is a host's.
func ours(name string) bool {
	return name == lockName || name == joiningName || name == "agent.sock" || name == "upgrade.lock" || name == "upgrade.act" || slices.Contains(unfinished, name) || strings.HasPrefix(name, newPrefix)
}

// Open opens the folder of a host that was made by init or join.
func Open(dir string) (*Folder, error) {
	if err := CheckHost(dir); err != nil {
		return nil, err
	}
	f, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	if err := f.clear([]string{joiningName}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// CheckHost reports why dir is no host's folder, or nil. It touches nothing.
func CheckHost(dir string) error {
	path := filepath.Join(dir, identityName)
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return diskError("open", path, err)
	}
	for _, name := range lived {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fleet.Errorf(fleet.NotFound, "%s is missing, but %s was a host's folder", path, dir).
				Hinted("restore the file from a backup; without one the host's key is lost: enrol it anew, in an empty folder, with a new join string")
		}
	}
	return fleet.Errorf(fleet.NotFound, "%s holds no host of a fleet", dir).
		Hinted("found a fleet with muster init, or enrol with muster join STRING")
}

func lockFolder(dir string) (*Folder, error) {
	path := filepath.Join(dir, lockName)
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, diskError("open", path, err)
	}
	if err := takeLock(lock); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fleet.Errorf(fleet.Conflict, "another agent runs in %s", dir).
				Hinted("talk to it: muster --data-dir %s status", dir)
		}
		return nil, diskError("lock", path, err)
	}
	return &Folder{dir: dir, lock: lock}, nil
}

// A lock belongs to the open file, which a process that is just being forked has as well until it runs its program. So it
// is given back in so many words, and taken in several tries: an agent that was killed may have left such a process.
const (
	lockTries = 10
	lockPause = 20 * time.Millisecond
)

func takeLock(f *os.File) (err error) {
	for range lockTries {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		time.Sleep(lockPause)
	}
	return err
}

func unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// clear removes files of those names, and files that were never finished.
func (f *Folder) clear(names []string) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return diskError("read", f.dir, err)
	}
	for _, entry := range entries {
		if name := entry.Name(); slices.Contains(names, name) || strings.HasPrefix(name, newPrefix) {
			if err := f.shred(name); err != nil {
				return diskError("remove", filepath.Join(f.dir, name), err)
			}
		}
	}
	return nil
}

// Discard closes a folder that did not become a host, and removes all that Create and the Puts made of it.
func (f *Folder) Discard() error {
	err := f.clear(append([]string{identityName, joiningName, lockName}, unfinished...))
	if f.made {
		if gone := os.Remove(f.dir); gone != nil && err == nil {
			err = diskError("remove", f.dir, gone)
		}
	}
	return errors.Join(err, f.Close())
}
