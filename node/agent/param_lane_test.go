package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// tube is one end of a stream in memory.
type tube struct {
	peer  fleet.ID
	ctx   context.Context
	in    chan frame
	out   chan frame
	over  chan struct{} // both ends'
	once  *sync.Once
	sent  atomic.Int64
	takes time.Duration // of a frame
}

func tubes(ctx context.Context, client, server fleet.ID) (at, to *tube) {
	one, two, over, once := make(chan frame), make(chan frame), make(chan struct{}), &sync.Once{}
	return &tube{peer: server, ctx: ctx, in: one, out: two, over: over, once: once}, &tube{peer: client, ctx: ctx, in: two, out: one, over: over, once: once}
}

func (p *tube) Peer() fleet.ID           { return p.peer }
func (p *tube) Context() context.Context { return p.ctx }
func (p *tube) Close() error             { p.once.Do(func() { close(p.over) }); return nil }
func (p *tube) WriteError(err error) error {
	return p.WriteFrame(0xff, []byte(err.Error()))
}

func (p *tube) ReadFrame() (byte, []byte, error) {
	select {
	case f := <-p.in:
		if f.kind == 0xff {
			return 0, nil, fleet.Errorf(fleet.Denied, "%s", f.body)
		}
		return f.kind, f.body, nil
	case <-p.over:
		return 0, nil, io.EOF
	}
}

func (p *tube) WriteFrame(kind byte, body []byte) error {
	if len(body) > frameLimit {
		return fleet.Errorf(fleet.Exhausted, "a frame of %d bytes", len(body))
	}
	p.sent.Add(1)
	time.Sleep(p.takes)
	select {
	case p.out <- frame{kind, body}:
		return nil
	case <-p.over:
		return io.ErrClosedPipe
	}
}

// nextDoor brings requests to one server, with some way in between.
type nextDoor struct {
	stubPeers
	server  *Agent
	client  fleet.ID
	delay   time.Duration
	mu      sync.Mutex
	open    []*tube
	opened  int
	plain   int
	noLanes bool
}

func (p *nextDoor) Request(ctx context.Context, _ fleet.ID, kind byte, body []byte) (byte, []byte, error) {
	p.mu.Lock()
	p.plain++
	p.mu.Unlock()
	time.Sleep(p.delay)
	return p.server.answer(ctx, p.client, kind, body)
}

func (p *nextDoor) Open(context.Context, fleet.ID) (Stream, error) {
	at, to := tubes(context.Background(), p.client, p.server.self)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened++
	if p.noLanes {
		at.Close()
		return at, nil
	}
	at.takes, to.takes = p.delay, p.delay
	p.open = append(p.open, at)
	go p.server.Serve(to)
	return at, nil
}

func (p *nextDoor) Ring(node.Way, []byte) {}

// busy is a node that asks a server next door.
func (d *desk) busy(tb testing.TB) (*Agent, *nextDoor) {
	tb.Helper()
	cfg := d.cfg
	cfg.Key, cfg.Record, cfg.Name = d.web.Key, d.record(), "web-1"
	a := New(cfg)
	door := &nextDoor{server: d.Agent, client: d.web.ID, delay: time.Millisecond}
	a.Attach(Shells{Peers: door, Gossip: stubGossip{}, Runner: stubRunner{}})
	a.setLeader(d.self)
	a.seen[d.self] = node.Sighting{ID: d.self, Status: fleet.Online}
	return a, door
}

// TestLane: many writes and reads of one node share frames, each gets its own answer, and when the lane breaks everything is
// still answered.
func TestLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.quorum = &oneByOne{stubQuorum: stubQuorum{d.replica, d.self}}
		a, door := d.busy(t)
		const clients, each = 64, 4
		var entries [clients][each]consensus.PutParams
		for i := range clients {
			born := int64(0)
			for j := range each {
				entries[i][j], born = d.plain(fmt.Sprintf("/app/%d", i), fmt.Sprintf("%d of %d", j, i), uint32(j+1), born)
			}
		}
		var work sync.WaitGroup
		for i := range clients {
			work.Go(func() {
				for j := range each {
					if i == 0 && j == 2 {
						door.mu.Lock()
						for _, s := range door.open {
							s.Close()
						}
						door.mu.Unlock()
					}
					if result, err := a.Propose(t.Context(), entries[i][j]); err != nil || result.Act == 0 {
						t.Errorf("%d of %d: %+v, %v", j, i, result, err)
					}
					name := fmt.Sprintf("/app/%d", i)
					read, err := a.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, name)})
					if err != nil || value(t, read) != fmt.Sprintf("%d of %d", j, i) || read.Source != node.FromLeader {
						t.Errorf("%s after %d: %d items from %s, %v", name, j, len(read.Answer.Items), read.Source, err)
					}
				}
			})
		}
		work.Wait()
		frames := int64(0)
		for _, s := range door.open {
			frames += s.sent.Load()
		}
		if asks := int64(2 * clients * each); frames == 0 || frames > asks/8 {
			t.Errorf("%d asks went in %d frames and %d streams", asks, frames, door.plain)
		}
		if door.opened > 4 {
			t.Errorf("%d lanes were opened", door.opened)
		}
		a.closeLane()
		synctest.Wait()
	})
}

// oneByOne applies one entry at a time, as a quorum does.
type oneByOne struct {
	stubQuorum
	mu sync.Mutex
}

func (q *oneByOne) Propose(ctx context.Context, item []byte) (any, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stubQuorum.Propose(ctx, item)
}

// TestLaneRefusals: on a lane refusals are answers, a leader elsewhere is one, and what may not go on a lane does not.
func TestLaneRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		a, door := d.busy(t)
		say := func(kind byte, body []byte) (byte, []byte, error) {
			return a.askOnLane(t.Context(), d.self, kind, body)
		}
		if _, _, err := say(askParams, wire.Marshal(node.ParamsAsk{Ask: get(t, "/a/b"), Signed: []auth.Envelope{{}}})); fleet.KindOf(err) != fleet.Denied && fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("a forged read: %v", err)
		}
		if _, _, err := say(askParams, []byte{1}); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("no question: %v", err)
		}
		if _, _, err := say(askKey, nil); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("another request: %v", err)
		}
		d.quorum = elsewhere{stubQuorum{d.replica, d.db.ID}}
		d.quorum = deposed{d.quorum, d.db.ID}
		if kind, body, err := say(askParams, wire.Marshal(node.ParamsAsk{Ask: get(t, "/a/b")})); err != nil || kind != notLeader || len(body) == 0 {
			t.Errorf("a leader elsewhere: %d, %v", kind, err)
		}
		if laned(askParams, make([]byte, laneBody+1)) || laned(askRead, nil) {
			t.Error("what is too large, or another request, goes on a lane")
		}
		if door.opened != 1 {
			t.Errorf("%d lanes", door.opened)
		}
		time.Sleep(2 * laneIdle)
		if a.lanes.to.stands() {
			t.Error("a lane that nobody uses stays")
		}
		// A server that knows no lanes is asked all the same.
		door.noLanes = true
		a.lanes.busy.Add(1)
		if kind, _, err := a.askSoon(t.Context(), d.self, askParams, wire.Marshal(node.ParamsAsk{Ask: get(t, "/a/b"), Stale: true})); err != nil || kind != done {
			t.Errorf("without lanes: %d, %v", kind, err)
		}
	})
}

// deposed is a replica that does not lead any more.
type deposed struct {
	Quorum
	leader fleet.ID
}

func (q deposed) Read(context.Context) error { return NotLeader{q.leader} }

// TestLaneBounds: a peer that sends without reading fills no memory, one that has its lanes gets no more, and what a lane says
// that nobody asked for is dropped.
func TestLaneBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.putPlain(t, "/app/a", strings.Repeat("x", 3000), 1, 0)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		at, to := tubes(ctx, d.web.ID, d.self)
		served := make(chan struct{})
		go func() { d.Serve(to); close(served) }()
		ask := wire.Marshal(node.ParamsAsk{Ask: get(t, "/app/a")})
		var batch laneAsks
		for i := range 100 {
			batch.Asks = append(batch.Asks, laneAsk{ID: uint32(i), Kind: askParams, Body: ask})
		}
		var sent atomic.Int64
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			for at.WriteFrame(askLane, wire.Marshal(batch)) == nil {
				sent.Add(int64(len(batch.Asks)))
			}
		}()
		time.Sleep(2 * askTimeout)
		if n := sent.Load(); n > 4*laneWaiting/3000 {
			t.Errorf("a server takes %d asks of a peer that reads no answer", n)
		}
		for range maxLanes {
			if _, ok := d.lanes.served.begin(d.web.ID); !ok {
				break
			}
		}
		s := &frames{peer: d.web.ID, in: []frame{{askLane, wire.Marshal(laneAsks{})}}}
		d.Serve(s)
		if len(s.fails) != 1 || fleet.KindOf(s.fails[0]) != fleet.Exhausted {
			t.Errorf("one lane too many: %v", s.fails)
		}
		at.Close()
		<-served
		<-taken
	})
	l := &lane{stream: &frames{in: []frame{{done, wire.Marshal(laneAnswers{[]laneAnswer{{ID: 7}, {ID: 8}}})}}}, asked: map[uint32]chan laneAnswer{}}
	l.out = newGather(func([]laneAsk) error { return nil }, func(laneAsk) int { return 1 })
	l.idle = time.NewTimer(time.Hour)
	l.hear()
	if l.stands() {
		t.Error("a lane outlives its stream")
	}
}

// stuckQuorum has no majority: a read waits.
type stuckQuorum struct{ stubQuorum }

func (q *stuckQuorum) Read(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// TestLaneMemory: while nothing can be answered, what a server holds of a peer is bounded in bytes, over all of its lanes; and
// what is too large to be a question is none.
func TestLaneMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.quorum = &stuckQuorum{stubQuorum{d.replica, d.self}}
		var values []string
		for range params.MaxFilterValues {
			values = append(values, strings.Repeat("x", params.MaxFilterValue-4))
		}
		ask := wire.Marshal(node.ParamsAsk{Ask: params.Ask{List: []params.ListAsk{{Filters: []params.Filter{{Key: "Name", Values: values}}}}}})
		var held atomic.Int64
		var open []*tube
		for range maxLanes {
			at, to := tubes(t.Context(), d.web.ID, d.self)
			open = append(open, at)
			go d.Serve(to)
			go func() {
				for at.WriteFrame(askLane, wire.Marshal(laneAsks{[]laneAsk{{Kind: askParams, Body: ask}}})) == nil {
					held.Add(int64(len(ask)))
				}
			}()
		}
		time.Sleep(askTimeout / 2)
		if n := held.Load(); n < 2<<20 || n > laneUnderway*laneSlot+int64(maxLanes*frameLimit) {
			t.Errorf("a peer's lanes have %d bytes at the server", n)
		}
		for _, at := range open {
			at.Close()
		}
		time.Sleep(2 * askTimeout)
		for kind, size := range map[byte]int{askParams: maxParamsAsk + 1, askPropose: laneBody + 1} {
			at, to := tubes(t.Context(), d.web.ID, d.self)
			go d.Serve(to)
			if err := at.WriteFrame(askLane, wire.Marshal(laneAsks{[]laneAsk{{Kind: kind, Body: make([]byte, size)}}})); err != nil {
				t.Fatal(err)
			}
			_, body, err := at.ReadFrame()
			var batch laneAnswers
			if err == nil && wire.Unmarshal(body, &batch) == nil && len(batch.Answers) == 1 && len(batch.Answers[0].Fail) == 1 {
				err = batch.Answers[0].Fail[0].err()
			}
			if err == nil || !strings.Contains(err.Error(), "at most") {
				t.Errorf("a request of kind %d with %d bytes: %v", kind, size, err)
			}
			at.Close()
		}
		synctest.Wait()
		if n := len(d.lanes.served.of); n != 0 {
			t.Errorf("%d peers have a share and no lane", n)
		}
	})
}

// TestGather: pieces come in order, those that waited together, none larger than a frame unless alone; an error ends it.
func TestGather(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []int
		sends := 0
		g := newGather(func(batch []int) error {
			time.Sleep(time.Second)
			size := 0
			for _, n := range batch {
				size += n
			}
			if len(batch) > 1 && size > laneFrame {
				t.Errorf("a frame of %d bytes", size)
			}
			got, sends = append(got, batch...), sends+1
			if batch[0] == laneFrame {
				return errors.New("enough")
			}
			return nil
		}, func(n int) int { return n })
		for i := range 100 {
			if err := g.put(i); err != nil {
				t.Fatal(err)
			}
		}
		g.drained()
		if len(got) != 100 || sends > 3 {
			t.Errorf("%d pieces in %d sends", len(got), sends)
		}
		for range 3 {
			_ = g.put(laneFrame)
		}
		g.drained()
		if err := g.put(1); err == nil {
			t.Error("a piece is taken after an error")
		}
		for i, n := range got[:100] {
			if i != n {
				t.Fatalf("out of order: %v", got)
			}
		}
	})
}
