package lan

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// makeDisks makes the empty disk that every host's is a copy of: ext4 without a journal, which after a power cut is as
// good as its page cache, and that is the machine's.
func (l *Lan) makeDisks() error {
	f, err := os.OpenFile(l.blank(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(DiskSize), f.Close()); err != nil {
		return err
	}
	return run("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", "-E", "lazy_itable_init=1", l.blank())
}

func (l *Lan) blank() string { return filepath.Join(l.opts.Dir, "blank.img") }

func (h *Host) disk() string { return filepath.Join(h.dir(), "disk.img") }

// makeDisk gives the host an empty disk, unless it has one.
func (h *Host) makeDisk() error {
	if _, err := os.Stat(h.disk()); err == nil {
		return nil
	}
	return run("cp", "--sparse=always", h.lan.blank(), h.disk())
}

func run(argv ...string) error {
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// released waits until the kernel has let go of disks below a folder: it unmounts those of an ended host when it likes.
func released(dir string) error {
	for deadline := time.Now().Add(Patience); ; {
		held, err := loopsBelow(dir)
		if err != nil || len(held) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the kernel still holds %s", strings.Join(held, ", "))
		}
		<-time.After(nap)
	}
}

// loopsBelow lists loop devices whose disks lie below a folder.
func loopsBelow(dir string) ([]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, file := range files {
		if image, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(image), dir+"/") {
			out = append(out, strings.Split(file, "/")[3])
		}
	}
	return out, nil
}

// FillDisk takes all room on the disk of the data folder. FreeDisk gives it back.
func (h *Host) FillDisk() error {
	return h.inside(func(root string) error {
		f, err := os.OpenFile(filepath.Join(root, ballast), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		at, err := f.Seek(0, 2)
		for size := int64(DiskSize); size >= 4096 && err == nil; {
			switch err = unix.Fallocate(int(f.Fd()), 0, at, size); {
			case errors.Is(err, unix.ENOSPC):
				size, err = size/2, nil
			case err == nil:
				at += size
			}
		}
		return err
	})
}

// FreeDisk undoes FillDisk.
func (h *Host) FreeDisk() error {
	return h.inside(func(root string) error {
		if err := os.Remove(filepath.Join(root, ballast)); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
}

// ballast lies on the data disk and outside the data folder.
const ballast = "disk/ballast"

// inside does something with the host's files as they are seen from here.
func (h *Host) inside(do func(root string) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.init.alive() {
		return h.isOff()
	}
	return do(h.root())
}

// root is where this process sees the host's files while the host is on.
func (h *Host) root() string { return fmt.Sprintf("/proc/%d/root", h.init.pid) }

func copyFile(from, to string) error {
	return run("cp", "--reflink=auto", "--preserve=mode", from, to)
}
