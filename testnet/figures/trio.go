package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// trio is three processes that hold a replica each and nothing else: what the quorum takes without parameters, signatures and
// agents around it.
type trio struct {
	dir     string
	running []*exec.Cmd
	talks   []io.Closer // to each process's standard input; their end ends it
	lane    *lane       // to the one that leads
}

// part is what one process of a trio is told, as a line of JSON on its standard input.
type part struct {
	Dir    string
	Index  int
	Seeds  [][]byte
	Addrs  []netip.AddrPort
	Socket string
}

const trioSize = 3

func startTrio(ctx context.Context, dir string) (t *trio, err error) {
	t = &trio{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.end())
			t = nil
		}
	}()
	p := part{Dir: dir}
	for range trioSize {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return t, err
		}
		addr, err := freeAddr()
		if err != nil {
			return t, err
		}
		p.Seeds, p.Addrs = append(p.Seeds, key.Seed()), append(p.Addrs, addr)
	}
	ready := make([]func() error, trioSize)
	for p.Index = range trioSize {
		p.Socket = filepath.Join(dir, fmt.Sprintf("socket%d", p.Index))
		if ready[p.Index], err = t.startPart(ctx, p); err != nil {
			return t, err
		}
	}
	for _, wait := range ready {
		if err := wait(); err != nil {
			return t, err
		}
	}
	conn, err := net.Dial("unix", filepath.Join(dir, "socket0"))
	if err != nil {
		return t, err
	}
	t.lane = newLane(conn)
	return t, nil
}

// startPart starts one process; what it returns waits until it says that it stands.
func (t *trio) startPart(ctx context.Context, p part) (ready func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, replicaVerb)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.running, t.talks = append(t.running, cmd), append(t.talks, in)
	if err := json.NewEncoder(in).Encode(p); err != nil {
		return nil, err
	}
	return func() error {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "ready\n" {
			return fmt.Errorf("replica %d says %q: %w", p.Index, line, err)
		}
		return nil
	}, nil
}

func (t *trio) end() error {
	var all error
	if t.lane != nil {
		all = t.lane.Close()
	}
	for _, talk := range t.talks {
		all = errors.Join(all, talk.Close())
	}
	for _, cmd := range t.running {
		all = errors.Join(all, cmd.Wait())
	}
	return all
}

// freeAddr finds an address of the loopback network that nobody takes by chance while its process is stopped: the kernel gives
// away higher ports, to whoever asks for any.
func freeAddr() (netip.AddrPort, error) {
	const low, high, tries = 10_000, 32_768, 100
	for range tries {
		host := netip.AddrFrom4([4]byte{127, byte(1 + mathrand.IntN(250)), byte(mathrand.IntN(250)), byte(1 + mathrand.IntN(250))})
		addr := netip.AddrPortFrom(host, uint16(low+mathrand.IntN(high-low)))
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err == nil {
			err = conn.Close()
		}
		return addr, err
	}
	return netip.AddrPort{}, fmt.Errorf("%d addresses of the loopback network are in use", tries)
}

// lane is a connection that many clients share: what waited while the last frame was on its way goes with the next.
type lane struct {
	conn net.Conn

	mu      sync.Mutex
	waiting []byte // whole frames
	writing bool
	next    uint32
	asked   map[uint32]chan<- reply
	broken  error
}

type reply struct {
	body []byte
	err  error
}

func newLane(conn net.Conn) *lane {
	l := &lane{conn: conn, asked: map[uint32]chan<- reply{}}
	go l.hear()
	return l
}

// Close ends the lane.
func (l *lane) Close() error { return l.conn.Close() }

// ask sends one request and waits for its answer.
func (l *lane) ask(ctx context.Context, kind byte, body []byte) ([]byte, error) {
	answer := make(chan reply, 1)
	l.mu.Lock()
	if l.broken != nil {
		l.mu.Unlock()
		return nil, l.broken
	}
	l.next++
	l.asked[l.next] = answer
	l.waiting = appendTrioFrame(l.waiting, l.next, kind, body)
	write := !l.writing
	l.writing = true
	l.mu.Unlock()
	if write {
		go l.write()
	}
	select {
	case r := <-answer:
		return r.body, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *lane) write() {
	for {
		l.mu.Lock()
		data := l.waiting
		l.waiting = nil
		if len(data) == 0 {
			l.writing = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		if _, err := l.conn.Write(data); err != nil {
			l.fail(err)
			return
		}
	}
}

func (l *lane) hear() {
	in := bufio.NewReaderSize(l.conn, 64<<10)
	for {
		id, kind, body, err := readTrioFrame(in)
		if err != nil {
			l.fail(err)
			return
		}
		l.mu.Lock()
		to := l.asked[id]
		delete(l.asked, id)
		l.mu.Unlock()
		switch {
		case to == nil:
		case kind == trioError:
			to <- reply{err: fleet.Errorf(fleet.Unavailable, "%s", body)}
		default:
			to <- reply{body: body}
		}
	}
}

func (l *lane) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
	for id, to := range l.asked {
		delete(l.asked, id)
		to <- reply{err: err}
	}
}
