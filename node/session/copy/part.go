package copy

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// keepFrom is the least content, in bytes, that is worth a part left behind when a copy breaks off.
const keepFrom = 1 << 20

// partName returns the name of a file that is not whole yet, in the folder where it will be. The same file gets the same
// name again, so that a resumed copy finds it; one that has changed at the sender gets another.
func partName(m talk.File) string {
	sum := sha256.Sum256(wire.Marshal(m))
	return ".muster-" + hex.EncodeToString(sum[:12]) + ".part"
}

// part is a file that is written under a name of its own until it is whole.
type part struct {
	in    *folder
	name  string
	file  *os.File
	found bool // under the name by which it is found again
}

// newPart makes an empty part of a file, over one that was left. Where that cannot be had (another copy writes it at this
// moment, it is somebody else's) the part gets a name that nobody finds again.
func newPart(in *folder, m talk.File) (*part, error) {
	p, err := openPart(in, partName(m), unix.O_CREAT)
	if err == nil {
		p.found = true
		if err = p.file.Truncate(0); err != nil {
			p.remove()
		}
		return p, err
	}
	if fleet.KindOf(err) != fleet.Conflict && !errors.Is(err, fs.ErrPermission) { // as may be said of a file of somebody else's
		return nil, err
	}
	return openPart(in, ".muster-"+rand.Text()+".part", unix.O_CREAT|unix.O_EXCL)
}

// openPart opens a part. What is at its place must be a part of this account's that nobody else writes at this moment; it is
// a Conflict otherwise.
func openPart(in *folder, name string, how int) (*part, error) {
	for range 10 { // another copy may put its part in place, or remove it, between two looks
		fd, err := again(func() (int, error) {
			return unix.Openat(in.fd, name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|how, 0o600)
		})
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENXIO) || (errors.Is(err, unix.EACCES) && how == 0) {
			return nil, errNotOurs
		}
		if err != nil {
			return nil, err
		}
		p := &part{in: in, name: name, file: os.NewFile(uintptr(fd), path.Join(in.path, name))}
		mine, err := p.lock()
		if err == nil && mine {
			return p, nil
		}
		p.file.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, errNotOurs
}

var errNotOurs = fleet.Errorf(fleet.Conflict, "the part of the file is another copy's, or somebody else's")

// findPart opens the part that is there of a file; nil: there is none that can be gone on with.
func findPart(in *folder, m talk.File) (*part, error) {
	p, err := openPart(in, partName(m), 0)
	if errors.Is(err, unix.ENOENT) || fleet.KindOf(err) == fleet.Conflict {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	p.found = true
	return p, nil
}

// lock makes the part this copy's alone. It is not, if it has lost its name meanwhile.
func (p *part) lock() (bool, error) {
	fd := int(p.file.Fd())
	var is, named unix.Stat_t
	if err := unix.Fstat(fd, &is); err != nil {
		return false, err
	}
	if is.Mode&unix.S_IFMT != unix.S_IFREG || int(is.Uid) != os.Geteuid() || is.Nlink > 1 {
		return false, errNotOurs
	}
	_, err := again(func() (struct{}, error) { return struct{}{}, unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, errNotOurs
	}
	if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOLCK) { // some file systems have no locks
		return false, err
	}
	if err := unix.Fstatat(p.in.fd, p.name, &named, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		return false, err
	}
	return named.Dev == is.Dev && named.Ino == is.Ino, nil
}

// goOn cuts the part to what is of use, and writes behind it from now on.
func (p *part) goOn(from int64) error {
	if err := p.file.Truncate(from); err != nil {
		return err
	}
	_, err := p.file.Seek(from, io.SeekStart)
	return err
}

// settle puts the whole file in place, over what has its name.
func (p *part) settle(m talk.File) error {
	defer p.file.Close()
	fd := int(p.file.Fd())
	err := unix.Fchmod(fd, uint32(m.Mode&0o777))
	if err == nil {
		err = setTime(p.in.fd, p.name, m.Time)
	}
	if err == nil {
		err = syncIfAble(fd)
	}
	if err == nil {
		err = unix.Renameat(p.in.fd, p.name, p.in.fd, m.Name)
	}
	if err != nil {
		_ = unix.Unlinkat(p.in.fd, p.name, 0)
	}
	return err
}

func (p *part) remove() {
	_ = unix.Unlinkat(p.in.fd, p.name, 0)
	p.file.Close()
}

// leave ends a part whose rest does not come now: it stays if it is worth it.
func (p *part) leave(resumed bool) (kept int64) {
	at, err := p.file.Seek(0, io.SeekCurrent)
	if err != nil || at == 0 || (at < keepFrom && !resumed) || !p.found {
		p.remove()
		return 0
	}
	p.file.Close()
	return at
}

// placeLink makes a link, over a file or a link that has its name.
func placeLink(in *folder, m talk.Link) error {
	name := ".muster-" + rand.Text() + ".part"
	if err := unix.Symlinkat(m.To, in.fd, name); err != nil {
		return err
	}
	err := setTime(in.fd, name, m.Time)
	if err == nil {
		err = unix.Renameat(in.fd, name, in.fd, m.Name)
	}
	if err != nil {
		_ = unix.Unlinkat(in.fd, name, 0)
	}
	return err
}
