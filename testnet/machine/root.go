package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// rootPackages is what a machine has beside Debian's least: two service managers, and rpm.
const rootPackages = "systemd,systemd-sysv,dbus,iproute2,openrc,rpm"

// ErrNoRoot is why no root can be made: debootstrap is missing.
var ErrNoRoot = errors.New("debootstrap is not installed")

// MakeRoot makes a root of Debian bookworm's packages in the folder that is kept for it, unless it is there, and returns it.
// It takes a minute and the network the first time.
func MakeRoot(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = "/var/cache"
	}
	top := filepath.Join(cache, "muster-test")
	if err := os.MkdirAll(top, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(top, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // another test process may be making it
		return "", err
	}
	root := filepath.Join(top, "bookworm-"+strings.ReplaceAll(rootPackages, ",", "-"))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		return "", ErrNoRoot
	}
	half := root + ".half"
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", "--include="+rootPackages, "bookworm", half)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("debootstrap: %w: %s", err, out[max(0, len(out)-1000):])
	}
	return root, os.Rename(half, root)
}
