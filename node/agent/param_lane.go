package agent

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A lane is one stream on which a busy node brings many writes and reads to the leader: what waited while the last frame was
// on its way goes with the next, and answers come back the same way, each as soon as it is there. Only what may be carried
// out twice goes on a lane, for one that breaks takes with it what was under way.
type (
	laneAsks struct{ Asks []laneAsk }
	laneAsk  struct {
		ID   uint32
		Kind byte // askPropose or askParams
		Body []byte
	}
	laneAnswers struct{ Answers []laneAnswer }
	laneAnswer  struct {
		ID   uint32
		Kind byte // done or notLeader
		Body []byte
		Fail []laneFail // none or one: there is no answer
	}
	laneFail struct{ Kind, What, Hint string }
)

const (
	// laneFrame is how many bytes go in one frame, unless one piece alone has more; the plane's frames have 512 KiB.
	laneFrame = 256 << 10
	// laneBody is the most that one ask may have to go on a lane.
	laneBody = 256 << 10
	// laneWaiting bounds what waits to be sent on a lane, in bytes.
	laneWaiting = 4 << 20
	// laneUnderway bounds the asks of one peer's lanes that a server works on; it reads no more until one is answered. One
	// that has more than laneSlot bytes counts as so many more: no peer has more than 4 MiB of asks in a server's memory, and
	// the same once more as they are decoded.
	laneUnderway = 512
	laneSlot     = 8 << 10
	// laneReads bounds the reads of them that hold an answer of up to 400 KiB in memory at the same time.
	laneReads = 16
	// maxLanes is how many lanes one peer may have at a server: the second, when it takes the first for broken.
	maxLanes = 2
	// laneIdle is when a lane that nobody uses is given up.
	laneIdle = 30 * time.Second
)

// laned reports whether a request may go on a lane.
func laned(kind byte, body []byte) bool {
	return kind == askPropose && len(body) <= laneBody || kind == askParams && len(body) <= maxParamsAsk
}

// gather sends pieces in order, each with all that came while the last were on their way.
type gather[T any] struct {
	send func([]T) error
	size func(T) int

	mu      sync.Mutex
	room    sync.Cond // of mu
	waiting []T
	bytes   int
	sending bool
	broken  error
}

func newGather[T any](send func([]T) error, size func(T) int) *gather[T] {
	g := &gather[T]{send: send, size: size}
	g.room.L = &g.mu
	return g
}

// put has a piece sent. It waits while too much waits. The error is of an earlier piece.
func (g *gather[T]) put(piece T) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	size := g.size(piece)
	for g.broken == nil && g.bytes > 0 && g.bytes+size > laneWaiting {
		g.room.Wait()
	}
	if g.broken != nil {
		return g.broken
	}
	g.waiting, g.bytes = append(g.waiting, piece), g.bytes+size
	if !g.sending {
		g.sending = true
		go g.run()
	}
	return nil
}

// run sends until nothing waits.
func (g *gather[T]) run() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.waiting) > 0 && g.broken == nil {
		batch := g.take()
		g.mu.Unlock()
		err := g.send(batch)
		g.mu.Lock()
		if err != nil && g.broken == nil {
			g.fail(err)
		}
	}
	g.sending = false
	g.room.Broadcast()
}

// take returns what fits a frame, at least one piece. mu is held.
func (g *gather[T]) take() []T {
	n, bytes := 0, 0
	for n < len(g.waiting) {
		size := g.size(g.waiting[n])
		if n > 0 && bytes+size > laneFrame {
			break
		}
		n, bytes = n+1, bytes+size
	}
	batch := g.waiting[:n:n]
	if g.waiting = g.waiting[n:]; len(g.waiting) == 0 {
		g.waiting = nil
	}
	g.bytes -= bytes
	g.room.Broadcast()
	return batch
}

// fail ends the gathering. mu is held.
func (g *gather[T]) fail(err error) {
	g.broken, g.waiting, g.bytes = err, nil, 0
	g.room.Broadcast()
}

func (g *gather[T]) close(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken == nil {
		g.fail(err)
	}
}

// drained waits until nobody is sending any more; the other end must have been closed, or nothing wait.
func (g *gather[T]) drained() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.sending {
		g.room.Wait()
	}
}

// serveLane answers a peer's lane until the peer ends it.
func (a *Agent) serveLane(s Stream, body []byte) error {
	peer := s.Peer()
	share, ok := a.lanes.served.begin(peer)
	if !ok {
		return fleet.Errorf(fleet.Exhausted, "this node has %d lanes to %s", maxLanes, a.cfg.Name)
	}
	defer a.lanes.served.end(peer)
	ctx, stop := context.WithCancel(s.Context())
	out := newGather(func(batch []laneAnswer) error { return s.WriteFrame(done, wire.Marshal(laneAnswers{batch})) }, answerSize)
	var work sync.WaitGroup
	defer func() { // the asks first, then what they answer with
		stop()
		s.Close()
		out.close(errLaneOver)
		work.Wait()
		out.drained()
	}()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	for {
		var batch laneAsks
		if err := wire.Unmarshal(body, &batch); err != nil {
			return err
		}
		for _, ask := range batch.Asks {
			if len(ask.Body) > laneBody {
				err := fleet.Errorf(fleet.Exhausted, "a request of %d bytes on a lane; at most %d", len(ask.Body), laneBody)
				if out.put(laneAnswer{ID: ask.ID, Fail: []laneFail{failOf(err)}}) != nil {
					return nil
				}
				continue
			}
			slots := 1 + len(ask.Body)/laneSlot
			if !share.take(ctx, slots) {
				return nil
			}
			work.Go(func() {
				defer share.give(slots)
				if err := a.answerLane(ctx, peer, ask, share.reads, out); err != nil {
					stop()
				}
			})
		}
		kind, next, err := s.ReadFrame()
		if err != nil || kind != askLane {
			return nil // the peer is done
		}
		body = next
	}
}

// servedLanes are the lanes that peers have here, by peer.
type servedLanes struct {
	mu sync.Mutex
	of map[fleet.ID]*laneShare
}

// laneShare is what one peer's lanes may have under way, together.
type laneShare struct {
	lanes int // of servedLanes.mu
	slots chan struct{}
	reads chan struct{}
}

func (s *servedLanes) begin(peer fleet.ID) (*laneShare, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	share := s.of[peer]
	if share == nil {
		if s.of == nil {
			s.of = map[fleet.ID]*laneShare{}
		}
		share = &laneShare{slots: make(chan struct{}, laneUnderway), reads: make(chan struct{}, laneReads)}
		s.of[peer] = share
	}
	if share.lanes == maxLanes {
		return nil, false
	}
	share.lanes++
	return share, true
}

func (s *servedLanes) end(peer fleet.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[peer].lanes--; s.of[peer].lanes == 0 {
		delete(s.of, peer)
	}
}

// take waits for n slots, or reports that ctx ended. Each lane takes for one ask at a time, and what waits holds no more than
// laneBody/laneSlot of them: two lanes cannot wait for each other.
func (s *laneShare) take(ctx context.Context, n int) bool {
	for i := range n {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			s.give(i)
			return false
		}
	}
	return true
}

func (s *laneShare) give(n int) {
	for range n {
		<-s.slots
	}
}

var errLaneOver = fleet.Errorf(fleet.Unavailable, "the lane to the leader ended")

// answerLane answers one ask of a lane. A read waits for the quorum's round beside all others, and only then takes one of the
// places for answers in memory.
func (a *Agent) answerLane(ctx context.Context, peer fleet.ID, ask laneAsk, reads chan struct{}, out *gather[laneAnswer]) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer := laneAnswer{ID: ask.ID}
	var err error
	switch ask.Kind {
	case askPropose:
		answer.Kind, answer.Body, err = a.answer(ctx, peer, ask.Kind, ask.Body)
	case askParams:
		var question node.ParamsAsk
		if question, err = decodeParamsAsk(ask.Body); err == nil {
			err = a.confirm(ctx, question)
		}
		if err == nil {
			select {
			case reads <- struct{}{}:
				defer func() { <-reads }() // behind put: what waits to be sent counts
				answer.Kind = done
				answer.Body, err = a.paramsBody(peer, question)
			case <-ctx.Done():
				err = fleet.Errorf(fleet.Unavailable, "%s has too much to answer", a.cfg.Name)
			}
		}
		if lead, ok := errors.AsType[NotLeader](err); ok {
			answer.Kind, answer.Body, err = notLeader, wire.Marshal(leaderBody(lead)), nil
		}
	default:
		err = fleet.Errorf(fleet.Invalid, "request of kind %d does not go on a lane", ask.Kind)
	}
	if err != nil {
		answer = laneAnswer{ID: ask.ID, Fail: []laneFail{failOf(err)}}
	}
	return out.put(answer)
}

func answerSize(a laneAnswer) int { return 64 + len(a.Body) }

// failOf says an error as the transport does: of one that is not for people, only that there was one.
func failOf(err error) laneFail {
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok {
		return laneFail{Kind: fleet.Internal.String(), What: "internal error"}
	}
	return laneFail{Kind: e.Kind.String(), What: cutText(e.Error()), Hint: cutText(e.Hint)}
}

// cutText bounds what an error says.
func cutText(text string) string { return text[:min(len(text), 4<<10)] }

func (f laneFail) err() error {
	return &fleet.Error{Kind: fleet.ParseKind(f.Kind), What: f.What, Hint: f.Hint}
}

// lanes are this node's to leaders, and those that it serves.
type lanes struct {
	served servedLanes
	busy   atomic.Int64 // asks under way that may go on a lane
	mu     sync.Mutex
	to     *lane // the newest; the leader's
}

// lane is one to a leader.
type lane struct {
	id     fleet.ID
	stream Stream
	out    *gather[laneAsk]
	idle   *time.Timer

	mu     sync.Mutex
	asked  map[uint32]chan laneAnswer
	next   uint32
	broken bool
}

// askSoon makes one request that may go on a lane: there if others are under way, else, and where the lane breaks, on a
// stream of its own. One alone is no slower so.
func (a *Agent) askSoon(ctx context.Context, id fleet.ID, kind byte, body []byte) (byte, []byte, error) {
	defer a.lanes.busy.Add(-1)
	if a.lanes.busy.Add(1) > 1 {
		kindBack, answer, err := a.askOnLane(ctx, id, kind, body)
		if !errors.Is(err, errLaneOver) {
			return kindBack, answer, err
		}
	}
	return a.peers.Request(ctx, id, kind, body)
}

// askOnLane makes one request on the lane to a server, opening it if need be. errLaneOver: nobody knows what came of it.
func (a *Agent) askOnLane(ctx context.Context, id fleet.ID, kind byte, body []byte) (byte, []byte, error) {
	l, err := a.laneTo(ctx, id)
	if err != nil {
		return 0, nil, err
	}
	ask, answer, ok := l.begin(kind, body)
	if !ok {
		return 0, nil, errLaneOver
	}
	defer l.end(ask.ID)
	if err := l.out.put(ask); err != nil {
		l.fail()
		return 0, nil, errLaneOver
	}
	select {
	case got, ok := <-answer:
		switch {
		case !ok:
			return 0, nil, errLaneOver
		case len(got.Fail) > 0:
			return 0, nil, got.Fail[0].err()
		}
		return got.Kind, got.Body, nil
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

// laneTo returns the lane to a server.
func (a *Agent) laneTo(ctx context.Context, id fleet.ID) (*lane, error) {
	a.lanes.mu.Lock()
	l := a.lanes.to
	a.lanes.mu.Unlock()
	if l != nil && l.id == id && l.stands() {
		return l, nil
	}
	s, err := a.peers.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	a.lanes.mu.Lock()
	defer a.lanes.mu.Unlock()
	if other := a.lanes.to; other != l && other != nil && other.id == id && other.stands() { // somebody was faster
		s.Close()
		return other, nil
	}
	if l != nil {
		l.fail()
	}
	l = &lane{id: id, stream: s, asked: map[uint32]chan laneAnswer{}}
	l.out = newGather(func(batch []laneAsk) error { return s.WriteFrame(askLane, wire.Marshal(laneAsks{batch})) }, func(a laneAsk) int { return 32 + len(a.Body) })
	l.idle = time.AfterFunc(laneIdle, func() { l.fail() })
	a.lanes.to = l
	go l.hear()
	return l, nil
}

// closeLane ends what is open when the agent stops.
func (a *Agent) closeLane() {
	a.lanes.mu.Lock()
	defer a.lanes.mu.Unlock()
	if a.lanes.to != nil {
		a.lanes.to.fail()
	}
}

func (l *lane) stands() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.broken
}

// begin notes a request that is about to be sent.
func (l *lane) begin(kind byte, body []byte) (laneAsk, chan laneAnswer, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return laneAsk{}, nil, false
	}
	l.next++
	for l.asked[l.next] != nil {
		l.next++
	}
	l.idle.Stop()
	answer := make(chan laneAnswer, 1)
	l.asked[l.next] = answer
	return laneAsk{ID: l.next, Kind: kind, Body: body}, answer, true
}

// end forgets a request, answered or not.
func (l *lane) end(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.asked, id)
	if len(l.asked) == 0 && !l.broken {
		l.idle.Reset(laneIdle)
	}
}

// fail ends the lane: who waits for an answer asks again.
func (l *lane) fail() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return
	}
	l.broken = true
	l.idle.Stop()
	for id, answer := range l.asked {
		close(answer)
		delete(l.asked, id)
	}
	l.stream.Close()
	l.out.close(errLaneOver)
}

// hear hands answers to those who wait. Answers that nobody asked for are dropped.
func (l *lane) hear() {
	for {
		_, body, err := l.stream.ReadFrame()
		var batch laneAnswers
		if err == nil {
			err = wire.Unmarshal(body, &batch)
		}
		if err != nil {
			l.fail()
			return
		}
		l.mu.Lock()
		for _, answer := range batch.Answers {
			if waits, ok := l.asked[answer.ID]; ok {
				delete(l.asked, answer.ID)
				waits <- answer
			}
		}
		l.mu.Unlock()
	}
}
