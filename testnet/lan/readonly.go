package lan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadOnly makes the disk of the data folder read-only, or writable again.
//
// A disk that nothing writes to is remounted. One in use cannot be: it is made so the way the kernel does it by itself, after
// an error of the file system, and then, as in life, only a new start of the host makes it writable: every process on it is
// ended, the disk is checked, and an agent that ran is started again.
func (h *Host) ReadOnly(yes bool) error {
	if yes {
		return h.inside(h.makeReadOnly)
	}
	err := h.inside(func(string) error { return h.remount("rw") })
	if err == nil || !h.On() {
		return err
	}
	ran := h.Running()
	if err := h.PowerCut(); err != nil {
		return err
	}
	if err := errors.Join(released(h.dir()), checkDisk(h.disk())); err != nil || !ran {
		return errors.Join(err, h.PowerOn())
	}
	return h.Restart()
}

func (h *Host) makeReadOnly(root string) error {
	if h.remount("ro") == nil {
		return nil
	}
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "disk"), &stat); err != nil {
		return err
	}
	trigger := fmt.Sprintf("/sys/fs/ext4/loop%d/trigger_fs_error", unix.Minor(stat.Dev))
	return os.WriteFile(trigger, []byte(h.name), 0)
}

func (h *Host) remount(how string) error {
	out, err := h.command(context.Background(), "mount", "-o", "remount,"+how, "/disk").CombinedOutput()
	if err != nil {
		return fmt.Errorf("remount the disk of %s: %w: %s", h.name, err, out)
	}
	return nil
}

// checkDisk mends the file system: it is marked as one that had an error.
func checkDisk(image string) error {
	cmd := exec.Command("e2fsck", "-p", image)
	out, err := cmd.CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == 1 {
		return nil // it has mended what it found
	}
	if err != nil {
		return fmt.Errorf("check %s: %w: %s", image, err, out)
	}
	return nil
}

// readOnlyAt finds a mount in /proc/PID/mountinfo and reports whether its file system takes no writes, by a person's wish or
// after an error.
func readOnlyAt(point, mountinfo string) bool {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) > 4 && fields[4] == point {
			options := strings.Split(fields[len(fields)-1], ",")
			return slices.Contains(options, "ro") || slices.Contains(options, "emergency_ro")
		}
	}
	return false
}
