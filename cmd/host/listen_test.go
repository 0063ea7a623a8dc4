package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// listens is somebody else's listener of this host, which may be willing to share its port.
func listens(t *testing.T, network, at string, shared bool) netip.AddrPort {
	t.Helper()
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if !shared {
			return nil
		}
		if broken := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); broken != nil {
			return broken
		}
		return err
	}}
	l, err := c.Listen(context.Background(), network, at)
	switch {
	case err != nil && network == "tcp4":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// No port at which somebody listens already is shared or taken over by an operator's tunnel, at whatever address of it; nor by
// somebody else while a tunnel has it.
func TestAPortIsNeitherSharedNorTakenOver(t *testing.T) {
	for name, c := range map[string]struct {
		network, theirs string
		shared          bool
		ours            string // without the port
	}{
		"the same":                    {"tcp4", "127.0.0.1:0", false, "127.0.0.1"},
		"the same, that shares":       {"tcp4", "127.0.0.1:0", true, "127.0.0.1"},
		"all addresses":               {"tcp4", "0.0.0.0:0", false, "127.0.0.1"},
		"all addresses, that shares":  {"tcp4", "0.0.0.0:0", true, "127.0.0.1"},
		"one, and we all":             {"tcp4", "127.0.0.1:0", true, "0.0.0.0"},
		"all of both versions":        {"tcp", "[::]:0", false, "127.0.0.1"},
		"all of both, and it shares":  {"tcp", "[::]:0", true, "127.0.0.1"},
		"loopback of the new version": {"tcp6", "[::1]:0", true, "::"},
	} {
		t.Run(name, func(t *testing.T) {
			theirs := listens(t, c.network, c.theirs, c.shared)
			at := netip.AddrPortFrom(netip.MustParseAddr(c.ours), theirs.Port()).String()
			if l, err := listenAt(at); !errors.Is(err, syscall.EADDRINUSE) {
				t.Error(err)
				if err == nil {
					l.Close()
				}
			}
		})
	}
	l, err := listenAt("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	shared := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	if theirs, err := shared.Listen(t.Context(), "tcp4", l.Addr().String()); err == nil {
		theirs.Close()
		t.Error("somebody else shares a tunnel's port")
	}
}

func TestListenAt(t *testing.T) {
	for at, network := range map[string]string{"127.0.0.1:0": "tcp4", "[::1]:0": "tcp6"} {
		t.Run(network, func(t *testing.T) {
			listens(t, network, at, false) // this host has such addresses
			l, err := listenAt(at)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if got := l.Addr().(*net.TCPAddr).AddrPort().Addr(); got.Is4() != (network == "tcp4") || !got.IsLoopback() {
				t.Errorf("%s listens at %s", at, got)
			}
		})
	}
	for _, at := range []string{"localhost:0", ":0", "/run/x", ""} {
		if l, err := listenAt(at); err == nil {
			l.Close()
			t.Errorf("listens at %q", at)
		}
	}
}
