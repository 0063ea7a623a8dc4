package quorum

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// tape is a Machine that remembers all items in order.
type tape struct {
	mu    sync.Mutex
	items [][]byte
}

func (t *tape) Apply(index uint64, item []byte) any {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items = append(t.items, bytes.Clone(item))
	return fmt.Sprintf("%d:%s", len(t.items), item[:min(len(item), 20)])
}

func (t *tape) Snapshot() func(io.Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	items := t.items[:len(t.items):len(t.items)]
	return func(w io.Writer) error {
		for _, item := range items {
			if err := binary.Write(w, binary.BigEndian, uint32(len(item))); err != nil {
				return err
			}
			if _, err := w.Write(item); err != nil {
				return err
			}
		}
		return nil
	}
}

func (t *tape) Restore(r io.Reader) error {
	var items [][]byte
	for {
		var size uint32
		err := binary.Read(r, binary.BigEndian, &size)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		item := make([]byte, size)
		if _, err := io.ReadFull(r, item); err != nil {
			return err
		}
		items = append(items, item)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items = items
	return nil
}

func (t *tape) all() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.items[:len(t.items):len(t.items)]
}

func (t *tape) digest() fleet.ID { return fleet.Sum(bytes.Join(t.all(), []byte{0})) }

// fabric joins quorums of one test: streams, confirmations, cuts.
type fabric struct {
	tb       testing.TB
	mu       sync.Mutex
	nodes    map[fleet.ID]*node
	cut      map[fleet.ID]bool
	confirms atomic.Int64 // voters asked for a term
	bulk     atomic.Int64 // streams opened on the bulk plane
	asked    atomic.Int64 // requests sent, or pieces of them
	work     sync.WaitGroup
}

type node struct {
	*Quorum
	id    fleet.ID
	dir   string
	tape  *tape
	conns []*end
}

func newFabric(tb testing.TB) *fabric {
	return &fabric{tb: tb, nodes: map[fleet.ID]*node{}, cut: map[fleet.ID]bool{}}
}

func id(n int) fleet.ID { return fleet.Sum(fmt.Appendf(nil, "node %d", n)) }

type opener struct {
	f    *fabric
	from fleet.ID
}

func (o opener) Open(_ context.Context, to fleet.ID, bulk bool) (net.Conn, error) {
	o.f.mu.Lock()
	defer o.f.mu.Unlock()
	target := o.f.nodes[to]
	if target == nil || target.Quorum == nil || o.f.cut[to] || o.f.cut[o.from] {
		return nil, errors.New("no route")
	}
	if bulk {
		o.f.bulk.Add(1)
	}
	ours, theirs := newPipe()
	ours.wrote = &o.f.asked
	target.conns = append(target.conns, theirs)
	if from := o.f.nodes[o.from]; from != nil {
		from.conns = append(from.conns, ours)
	}
	q := target.Quorum
	o.f.work.Go(func() { _ = q.Accept(theirs, o.from, bulk) })
	return ours, nil
}

// isolate cuts a node off, without anybody being told.
func (f *fabric) isolate(n fleet.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[n] = true
	for _, c := range f.nodes[n].conns {
		c.blackhole()
	}
	f.nodes[n].conns = nil
}

func (f *fabric) heal(n fleet.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cut, n)
}

func (f *fabric) confirm(from fleet.ID) func(context.Context, fleet.ID, uint64, uint64) error {
	return func(ctx context.Context, voter fleet.ID, incarnation, term uint64) error {
		f.confirms.Add(1)
		f.mu.Lock()
		blocked := f.cut[voter] || f.cut[from]
		var target *Quorum
		if x := f.nodes[voter]; x != nil {
			target = x.Quorum
		}
		f.mu.Unlock()
		if blocked || target == nil {
			<-ctx.Done()
			return ctx.Err()
		}
		return target.ConfirmTerm(incarnation, term)
	}
}

func (f *fabric) config(n fleet.ID, dir string, t *tape) Config {
	return Config{
		Dir: dir, Self: n, Machine: t, Streams: opener{f, n}, Confirm: f.confirm(n),
		Eligible: func(peer fleet.ID) bool { return peer != stranger },
		Log:      slog.New(slog.NewTextHandler(testLog{f.tb}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

var stranger = fleet.Sum([]byte("stranger"))

type testLog struct{ tb testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Fprint(os.Stderr, string(p))
	}
	return len(p), nil
}

// start opens a node's replica in its folder.
func (f *fabric) start(n int, tune ...func(*Config)) *node {
	f.tb.Helper()
	f.mu.Lock()
	x := f.nodes[id(n)]
	if x == nil {
		x = &node{id: id(n), dir: filepath.Join(f.tb.TempDir(), "quorum")}
		f.nodes[x.id] = x
	}
	f.mu.Unlock()
	t := &tape{}
	cfg := f.config(x.id, x.dir, t)
	for _, t := range tune {
		t(&cfg)
	}
	q, err := Open(cfg)
	if err != nil {
		f.tb.Fatalf("open %d: %v", n, err)
	}
	f.mu.Lock()
	x.Quorum, x.tape = q, t
	f.mu.Unlock()
	return x
}

// stop closes a node's replica; its folder stays.
func (f *fabric) stop(x *node) {
	f.tb.Helper()
	f.mu.Lock()
	q := x.Quorum
	x.Quorum = nil
	f.mu.Unlock()
	if err := q.Close(); err != nil {
		f.tb.Errorf("close: %v", err)
	}
}

func (f *fabric) stopAll() {
	for _, x := range f.nodes {
		if x.Quorum != nil {
			f.stop(x)
		}
	}
	f.work.Wait()
}

// grow starts voters and spares as one quorum, led by the first.
func (f *fabric) grow(voters, spares int, tune ...func(*Config)) []*node {
	f.tb.Helper()
	first := f.start(1, tune...)
	if err := first.Bootstrap(); err != nil {
		f.tb.Fatal(err)
	}
	f.until("the first leads", func() bool { return first.Status().State == Leading })
	nodes := []*node{first}
	for n := 2; n <= voters+spares; n++ {
		x := f.start(n, tune...)
		nodes = append(nodes, x)
		f.join(first, x, n <= voters)
	}
	return nodes
}

func (f *fabric) join(leader, x *node, voter bool) {
	f.tb.Helper()
	f.change(leader, AddSpare, x)
	if !voter {
		return
	}
	f.until("the spare has caught up", func() bool {
		for _, s := range leader.Status().Spares {
			if s.ID == x.id && s.CaughtUp {
				return true
			}
		}
		return false
	})
	f.change(leader, Promote, x)
	// A voter that has not heard of another's promotion refuses it its vote: a test that cuts the leader off that very
	// moment would be about that (see voting.together).
	f.until("all know the new voter", func() bool {
		for _, n := range f.nodes {
			if !n.knowsVoter(x.id) {
				return false
			}
		}
		return true
	})
}

func (n *node) knowsVoter(id fleet.ID) bool {
	return n.Quorum == nil || slices.ContainsFunc(n.Status().Voters, func(s Server) bool { return s.ID == id })
}

func (f *fabric) change(leader *node, do Action, x *node) {
	f.tb.Helper()
	f.changeReplica(leader, do, Replica{x.id, x.Incarnation()})
}

func (f *fabric) changeReplica(leader *node, do Action, r Replica) {
	f.tb.Helper()
	var err error
	f.until("the configuration changes", func() bool {
		err = leader.Change(f.tb.Context(), Change{Do: do, Replica: r, Prev: leader.Status().Index})
		return fleet.KindOf(err) != fleet.Conflict
	})
	if err != nil {
		f.tb.Fatalf("%s %s: %v", do, r, err)
	}
}

// until waits in steps of 10 ms for what must come within a minute.
func (f *fabric) until(what string, done func() bool) {
	f.tb.Helper()
	for range 6000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.tb.Fatalf("a minute was not enough: %s", what)
}

// leader waits for a leader among nodes.
func (f *fabric) leader(nodes ...*node) (leader *node) {
	f.tb.Helper()
	f.until("a leader", func() bool {
		for _, x := range nodes {
			if x.Quorum != nil && x.Status().State == Leading {
				leader = x
				return true
			}
		}
		return false
	})
	return leader
}

func (f *fabric) same(nodes ...*node) {
	f.tb.Helper()
	f.until("the replicas are equal", func() bool {
		for _, x := range nodes[1:] {
			if x.tape.digest() != nodes[0].tape.digest() {
				return false
			}
		}
		return true
	})
}

func (f *fabric) propose(x *node, items ...string) {
	f.tb.Helper()
	for _, item := range items {
		if _, err := x.Propose(f.tb.Context(), []byte(item)); err != nil {
			f.tb.Fatalf("propose %q: %v", item, err)
		}
	}
}

func without(nodes []*node, x *node) (rest []*node) {
	for _, n := range nodes {
		if n != x {
			rest = append(rest, n)
		}
	}
	return rest
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, run func(t *testing.T, f *fabric)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		defer f.stopAll()
		run(t, f)
	})
}

// A pipe is two ends of a buffered, in-memory connection with deadlines.
type end struct {
	in, out  chan []byte
	mine     chan struct{} // closed by Close
	other    chan struct{} // closed by the other's Close
	once     *sync.Once
	peer     *end
	dead     atomic.Bool
	mu       sync.Mutex
	rest     []byte
	readBy   time.Time
	writeBy  time.Time
	deadline chan struct{} // replaced when a deadline is set
	wrote    *atomic.Int64 // counts Writes; may be nil
}

func newPipe() (a, b *end) {
	x, y := make(chan []byte, 64), make(chan []byte, 64)
	ca, cb := make(chan struct{}), make(chan struct{})
	a = &end{in: x, out: y, mine: ca, other: cb, once: new(sync.Once), deadline: make(chan struct{})}
	b = &end{in: y, out: x, mine: cb, other: ca, once: new(sync.Once), deadline: make(chan struct{})}
	a.peer, b.peer = b, a
	return a, b
}

// blackhole drops all bytes from now on, both ways.
func (e *end) blackhole() { e.dead.Store(true); e.peer.dead.Store(true) }

func (e *end) wait(by *time.Time) (<-chan time.Time, *time.Timer, chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if by.IsZero() {
		return nil, nil, e.deadline
	}
	timer := time.NewTimer(time.Until(*by))
	return timer.C, timer, e.deadline
}

func (e *end) Read(p []byte) (int, error) {
	for len(e.rest) == 0 {
		expired, timer, moved := e.wait(&e.readBy)
		ended := e.other
		if e.dead.Load() {
			ended = nil // a cut is silent
		}
		select {
		case e.rest = <-e.in:
		case <-e.mine:
			return 0, net.ErrClosed
		case <-expired:
			return 0, os.ErrDeadlineExceeded
		case <-moved:
		case <-ended:
			select {
			case e.rest = <-e.in:
			default:
				return 0, io.EOF
			}
		}
		if timer != nil {
			timer.Stop()
		}
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func (e *end) Write(p []byte) (int, error) {
	if e.wrote != nil {
		e.wrote.Add(1)
	}
	if e.dead.Load() {
		return len(p), nil
	}
	expired, timer, _ := e.wait(&e.writeBy)
	if timer != nil {
		defer timer.Stop()
	}
	select {
	case <-e.mine:
		return 0, net.ErrClosed
	case <-e.other:
		return 0, io.ErrClosedPipe
	default:
	}
	select {
	case e.out <- bytes.Clone(p):
		return len(p), nil
	case <-e.mine:
		return 0, net.ErrClosed
	case <-e.other:
		return 0, io.ErrClosedPipe
	case <-expired:
		return 0, os.ErrDeadlineExceeded
	}
}

func (e *end) Close() error         { e.once.Do(func() { close(e.mine) }); return nil }
func (e *end) LocalAddr() net.Addr  { return address("here") }
func (e *end) RemoteAddr() net.Addr { return address("there") }

func (e *end) set(read, write *time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if read != nil {
		e.readBy = *read
	}
	if write != nil {
		e.writeBy = *write
	}
	close(e.deadline)
	e.deadline = make(chan struct{})
	return nil
}

func (e *end) SetDeadline(t time.Time) error      { return e.set(&t, &t) }
func (e *end) SetReadDeadline(t time.Time) error  { return e.set(&t, nil) }
func (e *end) SetWriteDeadline(t time.Time) error { return e.set(nil, &t) }
