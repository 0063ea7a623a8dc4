package delay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// end is a device in memory. It notes when what is written.
type end struct {
	in    chan string
	began time.Time
	out   []string
	when  []time.Duration
}

func (e *end) Read(p []byte) (int, error) {
	text, ok := <-e.in
	if !ok {
		return 0, io.EOF
	}
	return copy(p, text), nil
}

func (e *end) Write(p []byte) (int, error) {
	e.out, e.when = append(e.out, string(p)), append(e.when, time.Since(e.began))
	return len(p), nil
}

func TestCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := &end{in: make(chan string)}, &end{began: time.Now()}
		var c counts
		done := make(chan error)
		go func() {
			done <- carry(t.Context(), from, to, newLane(Path{Delay: 25 * ms, Rate: 1000}, 0), &c, time.Sleep)
		}()
		from.in <- "abcde"
		from.in <- "f"
		time.Sleep(100 * ms)
		from.in <- "g"
		time.Sleep(time.Minute)
		close(from.in)
		if err := <-done; !errors.Is(err, io.EOF) {
			t.Errorf("it ended with %v", err)
		}
		if !slices.Equal(to.out, []string{"abcde", "f", "g"}) || !slices.Equal(to.when, []time.Duration{30 * ms, 31 * ms, 126 * ms}) {
			t.Errorf("%q at %v", to.out, to.when)
		}
		if got := c.read(); got != (Count{Passed: 3, Bytes: 7}) {
			t.Errorf("%+v", got)
		}
	})
}

func TestCarryEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &end{in: make(chan string)}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- carry(ctx, from, io.Discard, newLane(Path{Delay: time.Hour}, 0), new(counts), time.Sleep)
		}()
		from.in <- "late"
		stop()
		close(from.in)
		if err := <-done; err == nil {
			t.Error("it ended with nothing to say")
		}
	})
}

func space(t testing.TB) *Space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	s, err := NewSpace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// joined makes two namespaces and a box between them.
func joined(t testing.TB, p Path) (a, b *Space, box *Box) {
	t.Helper()
	spaces := []*Space{space(t), space(t)}
	box, err := Join(spaces[0].Path(), spaces[1].Path(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() }) // a test may have closed it
	return spaces[0], spaces[1], box
}

// echo answers every packet that comes to an address in a namespace.
func echo(t *testing.T, s *Space, at netip.Addr) netip.AddrPort {
	t.Helper()
	var c *net.UDPConn
	err := s.Within(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, MTU)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// dial connects from a namespace.
func dial(t testing.TB, s *Space, network string, to netip.AddrPort) net.Conn {
	t.Helper()
	var c net.Conn
	err := s.Within(func() (err error) {
		c, err = net.Dial(network, to.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A packet takes its time there and back, never less.
func TestRoundTrip(t *testing.T) {
	a, b, box := joined(t, Path{Delay: 25 * ms})
	c := dial(t, a, "udp4", echo(t, b, box.B()))
	buf := make([]byte, 16)
	var took []time.Duration
	for range 5 {
		began := time.Now()
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	t.Logf("there and back in %v", took)
	if slices.Min(took) < 50*ms {
		t.Errorf("there and back in %v", slices.Min(took))
	}
}

// served sends data to whoever connects to an address in a namespace, and closes.
func served(t testing.TB, s *Space, at netip.Addr, data []byte) netip.AddrPort {
	t.Helper()
	var l net.Listener
	err := s.Within(func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(at, 0).String())
		return err
	})
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
			_, _ = c.Write(data)
			_ = c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TCP crosses it whole, at no more than the rate, with losses too.
func TestTCP(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcde\n"), 16<<10) // 256 KiB
	for name, p := range map[string]Path{
		"plain":  {},
		"far":    {Delay: 25 * ms},
		"lossy":  {Delay: 5 * ms, Loss: 0.02, Seed: 1},
		"narrow": {Delay: ms, Rate: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, box := joined(t, p)
			at := served(t, b, box.B(), data)
			began := time.Now()
			c := dial(t, a, "tcp4", at)
			opened := time.Since(began)
			got, err := io.ReadAll(c)
			took := time.Since(began)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came, %v", len(got), err)
			}
			there, back := box.Counts()
			t.Logf("open in %v, all in %v; there %+v, back %+v", opened, took, there, back)
			if opened < 2*p.Delay || back.Bytes < int64(len(data)) {
				t.Errorf("open in %v; %+v", opened, back)
			}
			if p.Rate > 0 && took < time.Duration(float64(len(data))/float64(p.Rate)*float64(time.Second)) {
				t.Errorf("%d bytes in %v, at %d a second", len(data), took, p.Rate)
			}
			if p.Loss == 0 && p.Rate == 0 && there.Lost+back.Lost+there.Overflown+back.Overflown > 0 {
				t.Errorf("lost: %+v, %+v", there, back)
			}
			if p.Loss > 0 && back.Lost == 0 {
				t.Errorf("none is lost: %+v", back)
			}
		})
	}
}

// A closed box leaves no device, so that the same namespaces can be joined anew.
func TestJoinAgain(t *testing.T) {
	a, b, box := joined(t, Path{})
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Join(a.Path(), b.Path(), Path{})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, a, "udp4", echo(t, b, again.B()))
	c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Join(a.Path(), "/nowhere", Path{}); err == nil {
		t.Error("joined to nothing")
	}
	if _, err := Join(a.Path(), b.Path(), Path{Loss: 2}); err == nil {
		t.Error("a path that is none")
	}
}

// BenchmarkTCP is what the box itself can carry.
func BenchmarkTCP(b *testing.B) {
	data := make([]byte, 16<<20)
	one, two, box := joined(b, Path{})
	at := served(b, two, box.B(), data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if n, err := io.Copy(io.Discard, dial(b, one, "tcp4", at)); err != nil || n != int64(len(data)) {
			b.Fatal(n, err)
		}
	}
}
