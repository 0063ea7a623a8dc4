package delay

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

// Space is a network namespace of its own, with nothing in it but a loopback device. It is gone once it is closed and nothing
// in it runs.
type Space struct{ file *os.File }

// NewSpace makes a namespace. It needs the right to.
func NewSpace() (*Space, error) {
	var file *os.File
	err := slowlink.Within("/proc/thread-self/ns/net", func() (err error) {
		file, err = unshare()
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &Space{file}
	if err := s.Within(loopbackUp); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func unshare() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return os.Open("/proc/thread-self/ns/net")
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// Path names the namespace, in this process.
func (s *Space) Path() string { return fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()) }

// Within calls a function in the namespace: sockets that it opens stay there, and so do processes that it starts
// (exec.Cmd.Start). Goroutines that it starts do not.
func (s *Space) Within(do func() error) error { return slowlink.Within(s.Path(), do) }

// Close lets go of the namespace.
func (s *Space) Close() error { return s.file.Close() }
