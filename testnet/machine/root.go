package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// rootPackages is what a machine has beside Debian's least: two service managers, and what installs packages of the other kind.
const rootPackages = "systemd,systemd-sysv,dbus,iproute2,openrc,rpm,dnf,createrepo-c,zypper"

// rpmWorld makes of Debian's rpm one that people have: its database is the system's instead of the user's, and knows a package,
// as every database of a host does (zypper takes an empty one for a broken one).
const rpmWorld = `mkdir -p /etc/rpm
echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros
cd /tmp
cat > base.spec <<E
Name: base
Version: 1
Release: 1
Summary: stands for the packages that a host was installed with
License: none
BuildArch: noarch
%description
Nothing.
%files
E
rpmbuild --quiet --define '_topdir /tmp/rpmbuild' -bb base.spec
rpm --install --force-debian rpmbuild/RPMS/noarch/base-1-1.noarch.rpm
rm -r base.spec rpmbuild
apt-get clean
`

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
	recipe := sha256.Sum256([]byte(rootPackages + rpmWorld))
	root := filepath.Join(top, "bookworm-"+hex.EncodeToString(recipe[:6]))
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
	for _, argv := range [][]string{
		{"debootstrap", "--variant=minbase", "--include=" + rootPackages, "bookworm", half},
		{"chroot", half, "/usr/bin/env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-euc", rpmWorld},
	} {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", argv[0], err, out[max(0, len(out)-1000):])
		}
	}
	return root, os.Rename(half, root)
}
