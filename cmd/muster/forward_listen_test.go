package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// answering serves every connection with its own request in capitals, once the request has ended.
func answering(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				said, _ := io.ReadAll(c)
				_, _ = io.WriteString(c, strings.ToUpper(string(said)))
			}()
		}
	}()
	return l.Addr().String()
}

func dialTCP(ctx context.Context, to string) (half, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return c.(half), nil
}

// askThrough sends a request, ends it, and returns the whole answer.
func askThrough(to net.Addr, text string) (string, error) {
	c, err := net.Dial(to.Network(), to.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	if err := c.(half).CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

// Many connections at once, each with its own bytes, and the end of a request is passed on.
func TestCarry(t *testing.T) {
	t.Parallel()
	for name, local := range map[string]tunnel{
		"tcp": {network: "tcp", local: "127.0.0.1:0"}, "unix": {network: "unix", local: filepath.Join(t.TempDir(), "s")},
	} {
		t.Run(name, func(t *testing.T) {
			to := answering(t)
			l, err := listenTunnel(local)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); carry(ctx, l, to, dialTCP, func(err error) { t.Error(err) }) }()
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					text := strings.Repeat(string(rune('a'+i%26)), 100_000+i)
					got, err := askThrough(l.Addr(), text)
					if err != nil || got != strings.ToUpper(text) {
						t.Errorf("%d: %d bytes come back, %v", i, len(got), err)
					}
				})
			}
			all.Wait()
			stop()
			<-done
			if _, err := askThrough(l.Addr(), "x"); err == nil {
				t.Error("it listens after its end")
			}
		})
	}
}

// A port that refuses is told, its connection is reset, and the next one works.
func TestCarryTellsOfRefusals(t *testing.T) {
	t.Parallel()
	to := answering(t)
	l, err := listenTunnel(tunnel{network: "tcp", local: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	var first atomic.Bool
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		carry(ctx, l, to, func(ctx context.Context, to string) (half, error) {
			if first.CompareAndSwap(false, true) {
				return nil, fleet.Errorf(fleet.Unavailable, "refused")
			}
			return dialTCP(ctx, to)
		}, func(err error) { told <- err })
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) { // it may be so fast that the connection never stands
		t.Errorf("a refused connection ends with %v, as if all were well", err)
	}
	if err := <-told; fleet.KindOf(err) != fleet.Unavailable {
		t.Error(err)
	}
	if got, err := askThrough(l.Addr(), "y"); got != "Y" {
		t.Error(got, err)
	}
	stop()
	<-done
}

// The end of the tunnel ends what it carries.
func TestCarryEndsWhatItCarries(t *testing.T) {
	t.Parallel()
	to := answering(t)
	l, err := listenTunnel(tunnel{network: "tcp", local: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	dialled, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		carry(ctx, l, to, func(ctx context.Context, to string) (half, error) {
			defer close(dialled)
			return dialTCP(ctx, to)
		}, func(err error) { t.Error(err) })
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-dialled
	stop()
	<-done
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection lives on")
	}
}

func TestListenTunnel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := listenTunnel(tunnel{network: "unix", local: path})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may use the socket: %v %v", info.Mode(), err)
	}
	if _, err := listenTunnel(tunnel{network: "unix", local: path}); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("a socket in use is taken: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	l, err = listenTunnel(tunnel{network: "unix", local: path})
	if err != nil {
		t.Errorf("a socket left behind stays: %v", err)
	} else {
		l.Close()
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenTunnel(tunnel{network: "unix", local: file}); err == nil {
		t.Error("it listens at a file")
	}
	if text, err := os.ReadFile(file); string(text) != "mine" {
		t.Errorf("the file is gone: %v", err)
	}
	var e *fleet.Error
	if _, err := listenTunnel(tunnel{network: "tcp", local: "192.0.2.1:1"}); !errors.As(err, &e) || e.Hint == "" {
		t.Errorf("no hint: %v", err)
	}
}
