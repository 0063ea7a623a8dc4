package fabric

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

var (
	addrA = netip.MustParseAddrPort("10.0.0.1:7980")
	addrB = netip.MustParseAddrPort("10.0.0.2:7980")
)

func pair(t *testing.T, opts Options) (*Fabric, net.PacketConn, net.PacketConn) {
	t.Helper()
	f := New(1, opts)
	t.Cleanup(f.Close)
	return f, f.Conn(addrA), f.Conn(addrB)
}

func send(t *testing.T, c net.PacketConn, text string, to netip.AddrPort) {
	t.Helper()
	if _, err := c.WriteTo([]byte(text), net.UDPAddrFromAddrPort(to)); err != nil {
		t.Fatal(err)
	}
}

// drain reads until nothing has come for a virtual second.
func drain(c net.PacketConn) int {
	n := 0
	for {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, _, err := c.ReadFrom(make([]byte, 64)); err != nil {
			return n
		}
		n++
	}
}

func TestLatencyAndSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, Options{Latency: 30 * time.Millisecond})
		start := time.Now()
		send(t, a, "hello", addrB)
		buf := make([]byte, 3)
		n, from, err := b.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "hel" || from.String() != addrA.String() {
			t.Fatalf("%q from %v: %v", buf[:n], from, err)
		}
		if d := time.Since(start); d != 30*time.Millisecond {
			t.Fatalf("took %v of virtual time", d)
		}
	})
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		opts      Options
		low, high int
	}{
		"perfect":    {Options{}, 1000, 1000},
		"loss":       {Options{Loss: 0.25}, 700, 800},
		"all lost":   {Options{Loss: 1}, 0, 0},
		"duplicates": {Options{Duplicate: 0.5}, 1450, 1550},
		"partition":  {Options{Partition: func(from, to netip.AddrPort) bool { return from == addrA && to == addrB }}, 0, 0},
		"one way":    {Options{Partition: func(from, to netip.AddrPort) bool { return from == addrB }}, 1000, 1000},
		"chosen":     {Options{Lose: func(from, to netip.AddrPort, data []byte) bool { return from == addrA && to == addrB && data[0] == 'x' }}, 0, 0},
		"not chosen": {Options{Lose: func(from, to netip.AddrPort, data []byte) bool { return data[0] != 'x' }}, 1000, 1000},
		"full queue": {Options{Queue: 10}, 10, 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.opts.Queue == 0 {
					c.opts.Queue = 5000
				}
				f, a, b := pair(t, c.opts)
				for range 1000 {
					send(t, a, "x", addrB)
				}
				if n := drain(b); n < c.low || n > c.high {
					t.Fatalf("%d arrived, want %d to %d", n, c.low, c.high)
				}
				if got := f.Counts(); got.Sent != 1000 {
					t.Fatalf("%+v", got)
				}
			})
		})
	}
}

func TestSilentTowardsNobody(t *testing.T) {
	f, a, b := pair(t, Options{})
	_ = b.Close()
	send(t, a, "x", addrB)
	send(t, a, "x", netip.MustParseAddrPort("[fd00::1]:1"))
	if f.Counts().Dropped != 2 {
		t.Fatalf("%+v", f.Counts())
	}
	_ = f.Conn(addrB) // the address is free again
}

func TestDeadlineAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, Options{})
		_ = a.SetReadDeadline(time.Now().Add(time.Minute))
		_, _, err := a.ReadFrom(nil)
		var timeout net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("deadline gave %v", err)
		}
		_ = a.SetReadDeadline(time.Time{})
		got := make(chan error)
		go func() { _, _, err := a.ReadFrom(nil); got <- err }()
		synctest.Wait()
		_ = a.SetReadDeadline(time.Now()) // a deadline in the past ends a read that waits
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		go func() { _, _, err := b.ReadFrom(nil); got <- err }()
		synctest.Wait()
		_ = b.Close()
		if err := <-got; !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if _, err := b.WriteTo(nil, a.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	})
}

func TestChangeAtRunTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, b := pair(t, Options{})
		f.Change(func(o *Options) { o.Loss = 1 })
		send(t, a, "x", addrB)
		f.Change(func(o *Options) { o.Loss, o.Jitter = 0, time.Second })
		send(t, a, "x", addrB)
		if n := drain(b); n != 1 {
			t.Fatalf("%d arrived", n)
		}
	})
}
