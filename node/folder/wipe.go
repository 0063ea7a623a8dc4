package folder

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// kept is what an agent of any version leaves in its folder, beside what unfinished and lived list: what Wipe may remove
// without being told so.
var kept = []string{
	identityName, joiningName, lockName, "agent.sock", quarantineName, readmitName, copiesName, keyringsName, documentsName,
	"ledger.spare", "ledger.new", "decisions", "copies", "sessions", "recordings", "recordings-leaving",
	"releases", "upgrade", "upgrade.lock", "upgrade.new", "upgrade.act", "paused", "budget-restart", "budget-restart.new",
}

// leftovers begin the names of files that live for a moment, and longer where somebody pulled the plug.
var leftovers = []string{newPrefix, ".doctor-"}

// WasHost reports whether dir holds anything that only a host's folder has: its identity, keys that wait for one, or what
// an agent left.
func WasHost(dir string) bool {
	return slices.ContainsFunc(append([]string{identityName, joiningName}, lived...), func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	})
}

// Strangers lists what is in dir and no agent has put there.
func Strangers(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, diskError("read", dir, err)
	}
	var out []string
	for _, entry := range entries {
		name := entry.Name()
		if !ours(name) && !slices.Contains(kept, name) && !slices.Contains(lived, name) && !isLeftover(name) {
			out = append(out, name)
		}
	}
	return out, nil
}

func isLeftover(name string) bool {
	return slices.ContainsFunc(leftovers, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// Wipe makes a folder as if it never was a host's: every file in it is overwritten and removed, keys first. It takes the
// folder's lock, so that no agent runs in it; the empty folder stays. Who is interrupted repeats it.
//
// What the disk itself keeps of a file that was overwritten, nobody can say here: file systems that copy on write and flash
// write elsewhere.
func Wipe(dir string) (files int, err error) {
	f, err := lockFolder(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unlock(f.lock)) }()
	root, err := os.OpenRoot(dir) // no link leads out of it: a run's own user may have made one
	if err != nil {
		return 0, diskError("open", dir, err)
	}
	defer root.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, diskError("read", dir, err)
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return urgency(a.Name()) - urgency(b.Name()) })
	for _, entry := range entries {
		if entry.Name() == lockName {
			continue // held until the rest is gone
		}
		n, err := wipeTree(root, entry.Name())
		if files += n; err != nil {
			return files, diskError("remove", filepath.Join(dir, entry.Name()), err)
		}
	}
	if err := root.Remove(lockName); err != nil {
		return files, diskError("remove", filepath.Join(dir, lockName), err)
	}
	if err := syncDir(dir); err != nil {
		return files, diskError("write", dir, err)
	}
	return files, nil
}

// shred overwrites and removes a file of the folder, which may hold keys, so that the disk does not keep them.
func (f *Folder) shred(name string) error {
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if err == nil && info.Mode().IsRegular() {
		_ = overwrite(root, name, info) // on a disk that takes nothing it goes all the same
	}
	return root.Remove(name)
}

// urgency puts keys first: whoever pulls the plug half-way leaves a folder without them.
func urgency(name string) int {
	switch {
	case name == identityName, name == joiningName, isLeftover(name):
		return 0
	case name == keyringsName, name == "gossip-keys", name == "founding":
		return 1
	}
	return 2
}

// wipeTree overwrites and removes a file, or a folder with all in it.
func wipeTree(root *os.Root, name string) (files int, err error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if info.IsDir() {
		if files, err = wipeDir(root, name); err != nil {
			return files, err
		}
		return files, root.Remove(name)
	}
	if info.Mode().IsRegular() {
		files++
		if err := overwrite(root, name, info); err != nil {
			return files, err
		}
	}
	return files, root.Remove(name)
}

func wipeDir(root *os.Root, name string) (files int, err error) {
	if err := root.Chmod(name, 0o700); err != nil { // a run may have closed a folder of its own
		return 0, err
	}
	d, err := root.Open(name)
	if err != nil {
		return 0, err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return 0, err
	}
	for _, inside := range names {
		n, err := wipeTree(root, filepath.Join(name, inside))
		if files += n; err != nil {
			return files, err
		}
	}
	return files, nil
}

// overwrite writes zeros over a file, on the disk. A file that has another name too is left as it is: it is somebody else's,
// who linked it here.
func overwrite(root *os.Root, name string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Nlink > 1 || info.Size() == 0 {
		return nil
	}
	f, err := root.OpenFile(name, os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil // a file that nobody may write, such as one marked immutable, fails where it is removed
	}
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, nothing{}, info.Size())
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

type nothing struct{}

func (nothing) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
