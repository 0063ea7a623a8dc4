package testnet

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/transport"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// How much an agent may grow while everybody sends it the worst there is: room is what the kernel gives it beyond what it
// has, resident what it may keep of that. An agent that asks the kernel for more ends at once.
const (
	room     = 256 << 20
	resident = 224 << 20
)

// TestMemoryUnderFire floods one agent through every door at once, under a hard limit of the kernel: strangers at the UDP
// port, a member with the gossip key, the same member on every plane with its own key (it is a server, which is as near as
// a peer comes), and a local user at the socket. The agent lives, goes on working, and has not grown.
func TestMemoryUnderFire(t *testing.T) {
	t.Parallel()
	f := New(t, 3) // so that all vote: raft listens to those it knows
	hit, as := f.Nodes[0], f.Nodes[1]
	as.Stop()
	l := f.newLiar(t, as, hit)
	pid := hit.PID()
	before := memoryOf(t, pid, "VmRSS")
	limit := memoryOf(t, pid, "VmData") + room
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
		t.Fatal(err)
	}
	var fire sync.WaitGroup
	for _, attack := range []func(){
		func() { strangersPackets(t, hit.Addr) }, func() { l.packets(hit) }, func() { l.joins(hit) },
		func() { l.frames(hit, transport.Peer) }, func() { l.frames(hit, transport.Bulk) }, func() { l.pushes(hit) },
		func() { l.raft(hit, transport.Raft) }, func() { l.raft(hit, transport.RaftBulk) },
		func() { localRequests(t, filepath.Join(hit.Dir, "agent.sock")) },
	} {
		fire.Go(attack)
	}
	fire.Wait()
	if !hit.Running() || hit.PID() != pid {
		f.logs()
		t.Fatal("the agent did not live through it")
	}
	if peak := memoryOf(t, pid, "VmHWM"); peak > before+resident {
		t.Errorf("the agent grew from %d to %d MiB", before>>20, peak>>20)
	} else {
		t.Logf("the agent grew from %d to %d MiB at most", before>>20, peak>>20)
	}
	f.Until("the agent works", func() bool { return f.Muster(hit, "run", "--target", hit.Name, "--", "true").Code == 0 })
}

// memoryOf reads a line of a process's status, in bytes.
func memoryOf(t *testing.T, pid int, what string) uint64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if size, ok := strings.CutPrefix(line, what+":"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(size), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s of process %d", what, pid)
	return 0
}

// worst are messages of so many bytes that cost a careless decoder most.
func worst(size int) (out [][]byte) {
	for _, in := range hostile.Full(size) {
		out = append(out, in)
	}
	for _, header := range []string{"\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\x92\xc4\x20", "\x91\x91\x91\x91\x91\x91\x91\x91"} {
		out = append(out, append([]byte(header), bytes.Repeat([]byte{0x91}, max(0, size-len(header)))...))
	}
	return out
}

// strangersPackets sends what anybody can: noise, beginnings of QUIC connections, sealed packets under no key.
func strangersPackets(t *testing.T, addr string) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	random := rand.New(rand.NewPCG(1, 2))
	packet := make([]byte, 1400)
	for i := range 20_000 {
		for at := 0; at < len(packet); at += 8 {
			binary.LittleEndian.PutUint64(packet[at:], random.Uint64())
		}
		switch i % 4 {
		case 0:
			packet[0] &= 0x3f
		case 1: // an Initial of QUIC version 1, with a connection ID of its own
			copy(packet, "\xc3\x00\x00\x00\x01\x08")
			packet[14], packet[15], packet[16], packet[17] = 0, 0, 0x44, 0xd0
		case 2:
			packet[0] |= 0xc0
		}
		size := 1 + random.IntN(len(packet)-1)
		if i%4 == 1 {
			size = 1200 // less is no Initial
		}
		_, _ = conn.Write(packet[:size])
	}
}

// packets sends what a holder of the gossip key can.
func (l *liar) packets(to *Node) {
	addr := netip.MustParseAddrPort(to.Addr)
	bodies := append(worst(transport.MaxPayload-1), worst(300)...)
	for range 40 {
		for _, body := range bodies {
			_ = l.end.SendPacket(addr, transport.KindBell, body)
			_ = l.end.SendPacket(addr, transport.KindBeacon, body)
			for kind := range byte(16) {
				_ = l.end.SendPacket(addr, transport.KindGossip, append([]byte{kind}, body...))
			}
		}
	}
}

// streams opens many streams of a plane and lets talk have each; a stream may be refused, the endpoint never hangs.
func (l *liar) streams(open func(context.Context) (*transport.Stream, error), talk func(n int, s *transport.Stream)) {
	const wide, rounds = 24, 3
	var all sync.WaitGroup
	for i := range wide {
		all.Go(func() {
			for round := range rounds {
				ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
				s, err := open(ctx)
				cancel()
				if err != nil {
					continue
				}
				_ = s.SetDeadline(time.Now().Add(5 * time.Second))
				talk(round*wide+i, s)
				_ = s.Close()
			}
		})
	}
	all.Wait()
}

// frames makes requests of every kind, as large as frames may be, all at once; half of them are never ended.
func (l *liar) frames(to *Node, plane transport.Plane) {
	bodies := worst(512 << 10)
	l.streams(func(ctx context.Context) (*transport.Stream, error) { return l.end.Open(ctx, l.idOf(to), plane) }, func(n int, s *transport.Stream) {
		body := bodies[n%len(bodies)]
		if n%4 == 0 { // a frame that claims more than there is
			_, _ = s.Write(append(binary.BigEndian.AppendUint32(nil, 512<<10), byte(n%16)))
			_, _ = s.Write(body[:1000])
			return
		}
		if n%4 == 1 { // an envelope or a list that holds all that
			body = append([]byte{0x91}, body[:len(body)-1]...)
		}
		if s.WriteFrame(byte(n%16), body) == nil && n%2 == 0 {
			_, _, _ = s.ReadFrame()
		}
	})
}

// joins does the same where anybody may.
func (l *liar) joins(to *Node) {
	addr := netip.MustParseAddrPort(to.Addr)
	bodies := worst(16 << 10)
	l.streams(func(ctx context.Context) (*transport.Stream, error) { return l.end.OpenAddr(ctx, addr, transport.Join) }, func(n int, s *transport.Stream) {
		if s.WriteFrame(1, bodies[n%len(bodies)]) == nil {
			_, _, _ = s.ReadFrame()
		}
	})
}

// pushes sends push/pulls that claim as many members as they may.
func (l *liar) pushes(to *Node) {
	header := []byte("\x06\x83\xa5Nodes\xcd\x4e\x20\xacUserStateLen\x00\xa4Join\xc3")
	bodies := worst(1 << 20)
	l.streams(func(ctx context.Context) (*transport.Stream, error) {
		return l.end.Open(ctx, l.idOf(to), transport.Gossip)
	}, func(n int, s *transport.Stream) {
		body := bodies[n%len(bodies)]
		if n%2 == 0 { // 20,000 empty members; or one with all that in it
			body = bytes.Repeat([]byte{0x80}, 1<<20)
		} else if n%3 == 0 {
			body = append([]byte("\x81\xa4Meta"), body...)
		}
		_, _ = s.Write(append(bytes.Clone(header), body...))
	})
}

// raft sends requests of raft that are full of empty entries, or claim what is not there.
func (l *liar) raft(to *Node, plane transport.Plane) {
	ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
	defer cancel()
	_, answer, err := l.end.Request(ctx, l.idOf(to), transport.Peer, askReplica, []byte{0x90})
	var replica struct{ Incarnation uint64 }
	if err != nil || wire.Unmarshal(answer, &replica) != nil {
		l.t.Errorf("no replica: %v", err)
		return
	}
	hello := binary.BigEndian.AppendUint64([]byte{1}, replica.Incarnation)
	hello = binary.BigEndian.AppendUint64(hello, 1)
	entries := func(item string) []byte {
		return append([]byte("\x00\x81\xa7Entries\xdd\x00\x1f\x00\x00"), bytes.Repeat([]byte(item), 2<<20/len(item))...)
	}
	requests := [][]byte{
		entries("\x80"), entries("\xc0"), entries("\x81\xa4Data\xc0"), append([]byte("\x02"), worst(2 << 20)[0]...),
		append([]byte("\x00\x81\xa7Entries\x91\x81\xa4Data\xc6\x7f\xff\xff\xff"), make([]byte, 12<<20)...),
		append([]byte("\x02\x81\xadConfiguration\xc6\x7f\xff\xff\xff"), make([]byte, 12<<20)...),
	}
	l.streams(func(ctx context.Context) (*transport.Stream, error) { return l.end.Open(ctx, l.idOf(to), plane) }, func(n int, s *transport.Stream) {
		_, _ = s.Write(hello)
		_, _ = s.Write(requests[n%len(requests)])
	})
}

// askReplica is the request for a server's incarnation.
const askReplica = 10

// localRequests is what a local user can do at the agent's socket.
func localRequests(t *testing.T, path string) {
	body := func(path string, in []byte) []byte {
		return append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: muster\r\nContent-Length: %d\r\n\r\n", path, len(in)), in...)
	}
	var says [][]byte
	for _, in := range hostile.JSON(1<<20, "entry", "statement") {
		says = append(says, body("/v1/entries", in), body("/v1/read", in), body("/v1/watch", in))
	}
	says = append(says, bytes.Repeat([]byte("G"), 4<<20), append([]byte("GET / HTTP/1.1\r\nX: "), bytes.Repeat([]byte("x"), 4<<20)...),
		append([]byte("POST /v1/read HTTP/1.1\r\nHost: muster\r\nTransfer-Encoding: chunked\r\n\r\n800000\r\n"), bytes.Repeat([]byte("["), 8<<20)...))
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for n := i; n < 4*len(says); n += 32 {
				conn, err := net.Dial("unix", path)
				if err != nil {
					continue
				}
				_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
				_, _ = conn.Write(says[n%len(says)])
				_, _ = conn.Read(make([]byte, 512))
				_ = conn.Close()
			}
		})
	}
	all.Wait()
}
