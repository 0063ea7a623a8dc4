package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Probed is what came of packets to one address.
type Probed struct {
	Answered bool          // to a packet as large as QUIC's first ones
	RTT      time.Duration // of the first answer
	// Largest is the largest UDP payload that passed and was answered, in bytes; 0: none. Where Answered is false it is below
	// QUIC's least.
	Largest int
	Err     error // why nothing could be sent, or that the address itself said no; nil where there was only silence
}

// LeastPayload is QUIC's least: a path that does not take a UDP payload of so many bytes takes no connection (RFC 9000, 14).
const LeastPayload = 1200

// When a probe asks again, and how long it waits for the last answers. With patience for both sizes it takes 2.6 s.
const (
	probeAgain = 400 * time.Millisecond
	probeLast  = 700 * time.Millisecond
	probeTries = 3
)

// largeSizes are tried where QUIC's least passes: sealed packets at their largest, IPv6's least MTU over IPv4, and what fits
// into the MTUs of tunnels, of PPPoE and of Ethernet. smallSizes are tried where it does not: a path that takes those is no
// firewall.
var (
	largeSizes = [...]int{MaxPacket, 1252, 1372, 1432, 1464, 1472}
	smallSizes = [...]int{100, 548, 1000, 1172}
)

// Probe asks whether packets pass between here and a QUIC endpoint at an address, and how large they may be, from a port
// that nobody knows: it is what a new member or an operator's command line would meet. It needs no key, and any version of
// muster answers: to a QUIC version that does not exist with its list of versions, to a connection that does not exist with a
// stateless reset. So it says nothing of who is there.
func Probe(ctx context.Context, to netip.AddrPort) Probed {
	return probeOf(ctx, to, true)
}

// ProbeFew is Probe that sends three packets, and more only to who answered one: for an address that somebody else chose. One alone
// would have a lost packet taken for a closed way.
func ProbeFew(ctx context.Context, to netip.AddrPort) Probed { return probeOf(ctx, to, false) }

func probeOf(ctx context.Context, to netip.AddrPort, small bool) Probed {
	p, err := newProbe(to)
	if err != nil {
		return Probed{Err: err}
	}
	defer p.conn.Close()
	defer context.AfterFunc(ctx, func() { _ = p.conn.SetReadDeadline(time.Unix(1, 0)) })()

	rtts := p.ask(ctx, []int{LeastPayload}, probeTries, probeAgain, probeLast)
	rtt, answered := rtts[LeastPayload]
	if !answered && !small {
		return Probed{Err: p.said}
	}
	if !answered {
		return Probed{Largest: largestSmall(ctx, to), Err: p.said}
	}
	out := Probed{Answered: true, RTT: rtt, Largest: LeastPayload}
	soon := max(probeAgain/2, 3*rtt)
	for size := range p.ask(ctx, largeSizes[:], probeTries, soon, max(probeLast, soon)) {
		out.Largest = max(out.Largest, size)
	}
	return out
}

// probe is the asking end: one socket of its own.
type probe struct {
	conn *net.UDPConn
	said error // what the system said last of a packet
}

func newProbe(to netip.AddrPort) (*probe, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, unsent(err)
	}
	if err := neverFragment(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &probe{conn: conn}, nil
}

// neverFragment makes packets that do not fit fail, instead of going in pieces, whatever the kernel believes of the path.
func neverFragment(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		four := syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_PROBE)
		six := syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_MTU_DISCOVER, syscall.IPV6_PMTUDISC_PROBE)
		if four != nil && six != nil {
			failed = four
		}
	})
	return errors.Join(err, failed)
}

// ask sends a packet of each size until it is answered, and returns how soon the answers came.
func (p *probe) ask(ctx context.Context, sizes []int, tries int, again, last time.Duration) map[int]time.Duration {
	type question struct {
		size int
		at   time.Time
	}
	answered, asked := map[int]time.Duration{}, map[[8]byte]question{}
	buf := make([]byte, MaxPacket)
	for try := 0; try < tries && len(answered) < len(sizes) && ctx.Err() == nil; try++ {
		wait := again
		if try == tries-1 {
			wait = last
		}
		for _, size := range sizes {
			if _, ok := answered[size]; !ok {
				packet, id := versionQuestion(size)
				asked[id] = question{size, time.Now()}
				_, err := p.conn.Write(packet)
				p.note(err)
			}
		}
		_ = p.conn.SetReadDeadline(time.Now().Add(wait))
		for len(answered) < len(sizes) {
			n, err := p.conn.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
				break
			}
			p.note(err) // an answer of ICMP says nothing of the next packet
			q, ours := asked[versionAnswer(buf[:n])]
			if _, before := answered[q.size]; ours && !before {
				answered[q.size] = time.Since(q.at)
			}
		}
	}
	return answered
}

// note keeps what the system says. That a packet is too large for this host's own interface is a size's answer, no error.
func (p *probe) note(err error) {
	if err != nil && !errors.Is(err, syscall.EMSGSIZE) {
		p.said = unsent(err)
	}
}

// unsent says why a packet was not sent, or who refused it.
func unsent(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fleet.Errorf(fleet.Unavailable, "refused: no agent listens there")
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fleet.Errorf(fleet.Denied, "this host's own firewall does not let it out")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return fleet.Errorf(fleet.Unavailable, "no route to there, or no host")
	case errors.Is(err, syscall.ENETDOWN):
		return fleet.Errorf(fleet.Unavailable, "the network is down on this host")
	}
	return err
}

// noSuchVersion is a version of QUIC that is reserved for being unknown to everybody (RFC 9000, 15).
const noSuchVersion = 0x1a2a3a4a

// versionQuestion makes a first packet of a QUIC version that there is not. id comes back in the answer.
func versionQuestion(size int) (packet []byte, id [8]byte) {
	packet = make([]byte, size)
	_, _ = rand.Read(packet[:32]) // never fails
	packet[0] |= 0xc0
	binary.BigEndian.PutUint32(packet[1:], noSuchVersion)
	packet[5], packet[14] = 8, 8
	return packet, [8]byte(packet[15:])
}

// versionAnswer returns the id of the question that a list of versions answers; zero for any other packet.
func versionAnswer(b []byte) (id [8]byte) {
	if len(b) < 14 || b[0]&0x80 == 0 || !bytes.Equal(b[1:5], make([]byte, 4)) || b[5] != 8 {
		return id
	}
	return [8]byte(b[6:])
}

// largestSmall returns the largest of the small sizes that is answered; 0: none is. Each has a socket of its own, for a stateless
// reset does not say which packet it answers.
func largestSmall(ctx context.Context, to netip.AddrPort) int {
	var passed [len(smallSizes)]int
	var tries sync.WaitGroup
	for i, size := range smallSizes {
		tries.Go(func() {
			if asksForReset(ctx, to, size) {
				passed[i] = size
			}
		})
	}
	tries.Wait()
	largest := 0
	for _, size := range passed {
		largest = max(largest, size)
	}
	return largest
}

// asksForReset sends a packet of a connection that there is not, and reports whether anything came back.
func asksForReset(ctx context.Context, to netip.AddrPort, size int) bool {
	p, err := newProbe(to)
	if err != nil {
		return false
	}
	defer p.conn.Close()
	packet := make([]byte, size)
	_, _ = rand.Read(packet)
	packet[0] = packet[0]&0x3f | 0x40
	for range 2 {
		if _, err := p.conn.Write(packet); err != nil {
			return false
		}
		_ = p.conn.SetReadDeadline(time.Now().Add(probeLast / 2))
		if ctx.Err() != nil {
			return false
		}
		if n, err := p.conn.Read(make([]byte, MaxPacket)); err == nil && n > 0 {
			return true
		}
	}
	return false
}
