package delay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

// MTU of the path, in bytes, as on Ethernet.
const MTU = 1500

// onTheWay bounds how many packets a direction holds: 100 MB, a second of a full gigabit. What comes then waits in the kernel.
const onTheWay = 64 << 10

// Count is what became of the packets of one direction.
type Count struct {
	Passed    int64 // arrived, or on their way
	Lost      int64 // by luck
	Overflown int64 // because too many waited for the rate
	Bytes     int64 // of those that passed
}

// counts is a Count that is being counted.
type counts struct{ passed, lost, overflown, bytes atomic.Int64 }

func (c *counts) note(f fate, size int) {
	switch f {
	case passes:
		c.passed.Add(1)
		c.bytes.Add(int64(size))
	case lost:
		c.lost.Add(1)
	case overflows:
		c.overflown.Add(1)
	}
}

func (c *counts) read() Count {
	return Count{c.passed.Load(), c.lost.Load(), c.overflown.Load(), c.bytes.Load()}
}

// Box joins two namespaces.
type Box struct {
	a, b     *os.File
	addrs    [2]netip.Addr
	there    counts // from a to b
	back     counts
	stop     context.CancelFunc
	finished sync.WaitGroup
}

// The devices' name, and the two addresses that they have, in a network of their own (RFC 2544's, for measuring).
const device = "delay0"

// Ends are the addresses of both ends of any box.
func Ends() (a, b netip.Addr) {
	return netip.AddrFrom4([4]byte{198, 18, 0, 1}), netip.AddrFrom4([4]byte{198, 18, 0, 2})
}

// Join makes a TUN device in each of two network namespaces, given as files like /proc/PID/ns/net or Space.Path, with the addresses
// 198.18.0.1 and 198.18.0.2, and carries packets between them until Close. It needs the right to change both namespaces.
func Join(a, b string, p Path) (*Box, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	var err error
	box := &Box{}
	box.addrs[0], box.addrs[1] = Ends()
	if box.a, err = open(a, box.addrs[0]); err != nil {
		return nil, err
	}
	if box.b, err = open(b, box.addrs[1]); err != nil {
		box.a.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	box.stop = stop
	box.finished.Go(func() { _ = carry(ctx, box.a, box.b, newLane(p, 0), &box.there, nap) }) // they end with Close
	box.finished.Go(func() { _ = carry(ctx, box.b, box.a, newLane(p, 1), &box.back, nap) })
	return box, nil
}

// A is the address in the first namespace.
func (b *Box) A() netip.Addr { return b.addrs[0] }

// B is the address in the second.
func (b *Box) B() netip.Addr { return b.addrs[1] }

// Counts says what became of the packets from the first namespace to the second, and back.
func (b *Box) Counts() (there, back Count) { return b.there.read(), b.back.read() }

// Close ends the box; the devices are gone, and so is what was on its way.
func (b *Box) Close() error {
	b.stop()
	err := errors.Join(b.a.Close(), b.b.Close())
	b.finished.Wait()
	return err
}

// open makes a device in a namespace and brings it up.
func open(netns string, addr netip.Addr) (*os.File, error) {
	file, err := slowlink.Open(netns, device)
	if err != nil {
		return nil, err
	}
	if err := slowlink.Within(netns, func() error { return bringUp(device, addr) }); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// bringUp gives the device its address in a network of two, its queue and its MTU.
func bringUp(name string, addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// The kernel's own IPv6 chatter would draw from the path's luck. A kernel without IPv6 has no such file.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	four := addr.As4()
	for _, step := range []struct {
		what uint
		set  func(*unix.Ifreq) error
	}{
		{unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(MTU); return nil }},
		{unix.SIOCSIFTXQLEN, func(r *unix.Ifreq) error { r.SetUint32(10_000); return nil }}, // losses are the path's alone
		{unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(four[:]) }},
		{unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 252}) }},
		{unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		request, err := unix.NewIfreq(name)
		if err == nil {
			err = step.set(request)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, step.what, request)
		}
		if err != nil {
			return fmt.Errorf("bring up %s: %w", name, err)
		}
	}
	return nil
}

// packet is one on its way.
type packet struct {
	arrives time.Duration
	bytes   []byte
}

// carry takes packets from one device and gives them to the other when they have arrived, in their order, until ctx ends or a
// device fails. Each read and each write is one packet. Ending ctx does not end a read: close the device.
func carry(ctx context.Context, from io.Reader, to io.Writer, l *lane, c *counts, nap func(time.Duration)) error {
	began := time.Now()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	way := make(chan packet, onTheWay)
	buffers := sync.Pool{New: func() any { return new([MTU]byte) }}
	reader := make(chan struct{})
	go func() {
		defer close(reader)
		for {
			buffer := buffers.Get().(*[MTU]byte)
			n, err := from.Read(buffer[:])
			if err != nil {
				stop(err)
				return
			}
			arrives, f := l.next(time.Since(began), n)
			c.note(f, n)
			if f != passes {
				buffers.Put(buffer)
				continue
			}
			select {
			case way <- packet{arrives, buffer[:n]}:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { <-reader }()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case p := <-way:
			for wait := p.arrives - time.Since(began); wait > 0 && ctx.Err() == nil; wait = p.arrives - time.Since(began) {
				nap(min(wait, time.Second))
			}
			if _, err := to.Write(p.bytes); err != nil {
				stop(err)
				return err
			}
			buffers.Put((*[MTU]byte)(p.bytes[:MTU]))
		}
	}
}

// nap sleeps in the kernel, to some 60 microseconds; the runtime's timers round up to a millisecond when nothing else happens.
func nap(d time.Duration) {
	spec := unix.NsecToTimespec(int64(d))
	_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &spec, nil) // woken early, the caller looks at the time and naps again
}
