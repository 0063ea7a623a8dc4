package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// managed is an app that a service manager has started, and what that hears.
func managed(t *testing.T, extra map[string]string) (*app, func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	a := &app{getenv: func(key string) string {
		if key == "NOTIFY_SOCKET" {
			return path
		}
		return extra[key]
	}}
	return a, func() string {
		buf := make([]byte, 1<<10)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

// pulse is a heart that beats as often as something is sent to it.
type pulse chan struct{}

func (p pulse) Beat(ctx context.Context) error {
	select {
	case _, ok := <-p:
		if ok {
			return nil
		}
		return errors.New("it stands still")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestTheManagerHears(t *testing.T) {
	t.Parallel()
	a, heard := managed(t, map[string]string{"WATCHDOG_USEC": "4000", "WATCHDOG_PID": ""})
	p := make(pulse)
	over := make(chan struct{})
	go func() {
		defer close(over)
		a.keepAlive(t.Context(), p, "node web1\nFORGED=1")
	}()
	if got := heard(); got != "READY=1\nSTATUS=node web1 FORGED=1\n" {
		t.Fatalf("%q", got)
	}
	for range 3 {
		p <- struct{}{}
		if got := heard(); got != "WATCHDOG=1\n" {
			t.Fatalf("%q", got)
		}
	}
	close(p) // a loop that hangs is told by silence
	<-over
	a.notify(stoppingNote)
	if got := heard(); got != "STOPPING=1\n" {
		t.Fatalf("%q", got)
	}
}

func TestNobodyHears(t *testing.T) {
	t.Parallel()
	for _, socket := range []string{"", filepath.Join(t.TempDir(), "none"), "@no-such-socket"} {
		a := &app{getenv: func(key string) string {
			if key == "NOTIFY_SOCKET" {
				return socket
			}
			return ""
		}}
		a.notify(readyNote)
		a.keepAlive(t.Context(), tireless{}, "well") // nobody wants signs of life: it returns
		a.aliveWhile(t.Context(), "waits")()
	}
}

func TestWatchdogTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"120000000", "", 2 * time.Minute}, {"120000000", "7", 2 * time.Minute}, {"120000000", "8", 0}, {"soon", "", 0}, {"-1", "", 0},
		{"99999999999999999999", "", 0},
	} {
		got := watchdogTime(func(key string) string {
			return map[string]string{"WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}[key]
		}, 7)
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if watchdogTime(os.Getenv, os.Getpid()) != 0 {
		t.Error("nobody watches tests")
	}
}
