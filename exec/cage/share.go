package cage

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// NoteSize is the size of an end file: one block, written before anything begins, so that a full disk cannot lose the end,
// and so that one sync makes it last. A block that was torn does not match its checksum and counts as no end.
const NoteSize = 4096

// SealNote encodes a note as {u32 length, body, SHA-256}; zeros may follow.
func SealNote(v any) []byte {
	body := wire.Marshal(v)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	out = append(out, body...)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// OpenNote reads what SealNote wrote; it is Invalid when it is cut short or does not match its checksum.
func OpenNote(data []byte, v any) error {
	if len(data) < 4 {
		return fleet.Errorf(fleet.Invalid, "the note is cut short")
	}
	end := 4 + uint64(binary.BigEndian.Uint32(data))
	if end+sha256.Size > uint64(len(data)) {
		return fleet.Errorf(fleet.Invalid, "the note is cut short")
	}
	if sha256.Sum256(data[:end]) != [32]byte(data[end:end+sha256.Size]) {
		return fleet.Errorf(fleet.Invalid, "the note does not match its checksum")
	}
	return wire.Unmarshal(data[4:end], v)
}

// Lock locks an open end file for whoever has it open, also a process that inherits it; false: another one holds it.
func Lock(end *os.File) bool {
	return unix.Flock(int(end.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// Alive reports whether somebody holds the lock on the end file: its supervisor does from before it is started, and a
// lock cannot outlive its holder as a PID can.
func Alive(endFile string) bool {
	f, err := os.OpenFile(endFile, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Listen makes a socket in a folder, however long its path is, and returns it as a file that a supervisor can be given.
func Listen(dir, name string) (*os.File, error) {
	path, at, err := socketPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// Dial connects to a socket that Listen made.
func Dial(dir, name string) (*net.UnixConn, error) {
	path, at, err := socketPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}

// socketPath gives the socket a path that fits into a socket address (108 bytes).
func socketPath(folder, name string) (string, *os.File, error) {
	dir, err := os.OpenFile(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name), dir, nil
}

// MemoryFile returns a file without a disk, read from its start.
func MemoryFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = f.Write(data); err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// KeepDescriptors keeps what is forked from inheriting our files from number first on, and whatever our own launcher left open.
func KeepDescriptors(first int) {
	if unix.CloseRange(uint(first), 1<<31-1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	entries, _ := os.ReadDir("/proc/self/fd") // before Linux 5.11
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
}

// SyncDir makes the names in a folder last.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
