package agent

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Full output comes from the node that has it, on the bulk plane: outputAsk there; back one outputHead, any number of
// outputData, and an outputHead as of the end. The giver sends no more pieces than the asker has room for: outputWindow,
// and one for every outputMore. QUIC's own window would let megabytes gather for a slow reader.
const (
	outputHead byte = 0x42 // exec.OutputHead
	outputData byte = 0x43 // bytes
	outputMore byte = 0x44 // nothing
)

const (
	// outputWindow is how many pieces of one output may be under way, at least; outputMost, at most: 512 KiB, which is 10 MB/s
	// where a round trip takes 50 ms.
	outputWindow = 2
	outputMost   = 16
	// outputRoom is how many pieces an agent wants under way of all outputs that it takes at a time.
	outputRoom = 16
	// outputPoll is how often a run that goes on is looked at.
	outputPoll = 200 * time.Millisecond
	// maxOutputs is how many outputs a node gives at a time, and maxOutputsPerPeer to one peer.
	maxOutputs        = 64
	maxOutputsPerPeer = 32
)

// KeptOutput is one output of a run as its host keeps it.
type KeptOutput interface {
	io.ReaderAt
	io.Closer
	// Sum returns what there is now: Kept bytes can be read. Of a run that has ended it never changes.
	Sum() (sum exec.OutputSum, ended bool)
}

type outputAsk struct {
	Read auth.Envelope // of node.Read: What output, Arg the command, Node the giver
	Ask  exec.OutputAsk
}

// giving counts the outputs that are being given.
type giving struct {
	mu  sync.Mutex
	to  map[fleet.ID]int
	all int
}

func (g *giving) begin(peer fleet.ID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= maxOutputs || g.to[peer] >= maxOutputsPerPeer {
		return fleet.Errorf(fleet.Exhausted, "too many outputs are being read from this node").Hinted("try again when others have been read")
	}
	if g.to == nil {
		g.to = map[fleet.ID]int{}
	}
	g.all++
	g.to[peer]++
	return nil
}

func (g *giving) end(peer fleet.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.to[peer]--; g.to[peer] == 0 {
		delete(g.to, peer)
	}
}

// taking counts the outputs that are being taken.
type taking struct{ all atomic.Int64 }

// begin returns how many pieces beyond outputWindow one more output may have under way.
func (t *taking) begin() int {
	return min(outputMost, outputRoom/int(t.all.Add(1))) - outputWindow
}

func (t *taking) end() { t.all.Add(-1) }

// ServeBulk answers one stream of a member on the bulk plane.
func (a *Agent) ServeBulk(s Stream) {
	defer s.Close()
	kind, body, err := s.ReadFrame()
	if err != nil {
		return
	}
	switch kind {
	case askOutput:
		err = a.serveOutput(s, body)
	case askKeepRecording:
		err = a.keepRecording(s, body)
	case askRelease:
		err = a.serveRelease(s, body)
	case askChunks:
		err = a.serveChunks(s, body)
	default:
		err = fleet.Errorf(fleet.Invalid, "request of kind %d is not understood on the bulk plane by this version", kind)
	}
	if err != nil && !errors.Is(err, context.Canceled) { // there the asker has gone
		_ = s.WriteError(err)
	}
}

// serveOutput gives a part of a run's output, as fast as the asker takes it.
func (a *Agent) serveOutput(s Stream, body []byte) error {
	var ask outputAsk
	if err := wire.Unmarshal(body, &ask); err != nil {
		return err
	}
	output, err := a.openOutput(ask.Read, ask.Ask)
	if err != nil {
		return err
	}
	defer output.Close()
	if err := a.giving.begin(s.Peer()); err != nil {
		return err
	}
	defer a.giving.end(s.Peer())
	ctx, stop := context.WithCancel(s.Context())
	defer stop()
	room := make(chan struct{}, outputMost)
	for range outputWindow {
		room <- struct{}{}
	}
	go hearMore(s, room, stop)
	return giveOutput(ctx, output, ask.Ask, func(p exec.OutputPiece) error {
		if p.Head != nil {
			return s.WriteFrame(outputHead, wire.Marshal(*p.Head))
		}
		select {
		case <-room:
			return s.WriteFrame(outputData, p.Data)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// hearMore makes room for a piece with every outputMore. The asker's end, and everything else that it says, ends the giving.
func hearMore(s Stream, room chan<- struct{}, stop func()) {
	defer stop()
	for {
		kind, _, err := s.ReadFrame()
		if err != nil || kind != outputMore {
			return
		}
		select {
		case room <- struct{}{}:
		default:
			return // more than anybody may ask for
		}
	}
}

// openOutput opens what a signed request asks for: an operator who may read signed it, for this node.
func (a *Agent) openOutput(signed auth.Envelope, ask exec.OutputAsk) (KeptOutput, error) {
	read, err := node.OpenNodeRead(a.record(), signed, a.self, node.ReadOutput, a.now())
	if err == nil {
		err = ask.Check()
	}
	if err != nil {
		return nil, err
	}
	return a.runner.OpenOutput(read.Arg, ask.Stream)
}

// giveOutput gives the part that is asked for, piece by piece; where that is to be followed, until the run has ended.
func giveOutput(ctx context.Context, output KeptOutput, ask exec.OutputAsk, give func(exec.OutputPiece) error) error {
	head := headOf(output)
	if err := give(exec.OutputPiece{Head: &head}); err != nil {
		return err
	}
	at, buf := ask.From, make([]byte, exec.MaxOutputPiece)
	for {
		for end := ask.Ends(head.Sum.Kept); at < end; {
			n, err := output.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
			if n == 0 {
				return fleet.Errorf(fleet.Internal, "the kept output cannot be read at byte %d of %d: %w", at, head.Sum.Kept, err)
			}
			if err := give(exec.OutputPiece{Data: buf[:n]}); err != nil {
				return err
			}
			at += int64(n)
		}
		if head.Ended || !ask.Follow || (ask.To > 0 && at >= ask.To) {
			return give(exec.OutputPiece{Head: &head})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(outputPoll):
		}
		head = headOf(output)
	}
}

func headOf(output KeptOutput) exec.OutputHead {
	sum, ended := output.Sum()
	return exec.OutputHead{Sum: sum, Ended: ended}
}

// Output gives each piece of a run's output as the node that ran it has it: a head, the data, a head as of the end. What
// came was verified by then: where all of an ended run's output was asked for, against the node's digest, which the caller
// compares with what was reported. A node that cannot be reached is Unavailable, one that was removed NotFound.
func (a *Agent) Output(ctx context.Context, from fleet.ID, signed auth.Envelope, ask exec.OutputAsk, each func(exec.OutputPiece) error) error {
	if err := ask.Check(); err != nil {
		return err
	}
	r := &receiving{check: exec.NewOutputCheck(ask), each: each}
	if from == a.self {
		output, err := a.openOutput(signed, ask)
		if err != nil {
			return err
		}
		defer output.Close()
		return giveOutput(ctx, output, ask, r.take)
	}
	if err := a.mayHaveOutput(from); err != nil {
		return err
	}
	err := a.receiveOutput(ctx, from, outputAsk{signed, ask}, r)
	a.hearRefusal(err)
	if ctx.Err() == nil && fleet.KindOf(err) == fleet.Unavailable {
		return a.lostWith(from, r, err)
	}
	return err
}

// mayHaveOutput refuses to wait for nodes that nobody will hear of again.
func (a *Agent) mayHaveOutput(id fleet.ID) error {
	entry, known := a.record().Roster.Node(id)
	switch {
	case !known:
		return fleet.Errorf(fleet.NotFound, "no node %s is known here", id)
	case entry.Removed != 0:
		return fleet.Errorf(fleet.NotFound, "the full output is lost with %s: it was removed from the fleet", entry.Name)
	}
	return nil
}

// lostWith says what it means that a node cannot be reached.
func (a *Agent) lostWith(id fleet.ID, r *receiving, err error) error {
	name := a.nameOf(id)
	if r.check.At() > r.check.From() {
		return fleet.Errorf(fleet.Unavailable, "the rest of the output, from byte %d on, is lost with %s, unless it comes back: %w", r.check.At(), name, err)
	}
	return fleet.Errorf(fleet.Unavailable, "the full output is lost with %s, unless it comes back: %w", name, err).
		Hinted("muster command show has what %s reported of it; --output-to keeps full output elsewhere", name)
}

func (a *Agent) receiveOutput(ctx context.Context, from fleet.ID, ask outputAsk, r *receiving) error {
	dial, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := a.peers.OpenBulk(dial, from)
	if err != nil {
		return err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	silent := time.AfterFunc(askTimeout, func() { s.Close() })
	defer silent.Stop()
	if err := s.WriteFrame(askOutput, wire.Marshal(ask)); err != nil {
		return err
	}
	for range a.taking.begin() {
		_ = s.WriteFrame(outputMore, nil) // the answer says what is wrong
	}
	defer a.taking.end()
	for !r.over {
		kind, body, err := s.ReadFrame()
		if !silent.Stop() && r.heads == 0 && ctx.Err() == nil {
			return fleet.Errorf(fleet.Unavailable, "no answer in time")
		}
		if err == nil {
			err = r.frame(kind, body)
		}
		if err == nil && kind == outputData {
			err = s.WriteFrame(outputMore, nil)
			if err != nil {
				continue // what the giver has written, perhaps why it gave up, is still to be read
			}
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return fleet.Errorf(fleet.Unavailable, "the stream ended too soon")
		default:
			return err
		}
	}
	return nil
}

// receiving is an output that comes.
type receiving struct {
	check *exec.OutputCheck
	each  func(exec.OutputPiece) error
	heads int
	over  bool
}

// frame takes one frame of the giver.
func (r *receiving) frame(kind byte, body []byte) error {
	switch kind {
	case outputHead:
		var head exec.OutputHead
		if err := wire.Unmarshal(body, &head); err != nil {
			return err
		}
		return r.take(exec.OutputPiece{Head: &head})
	case outputData:
		return r.take(exec.OutputPiece{Data: body})
	}
	return fleet.Errorf(fleet.Invalid, "frame of kind %d among output", kind)
}

// take verifies a piece and passes it on.
func (r *receiving) take(p exec.OutputPiece) error {
	if p.Head == nil {
		if r.heads != 1 {
			return fleet.Errorf(fleet.Invalid, "output came before what is to be known of it")
		}
		if err := r.check.Take(p.Data); err != nil {
			return err
		}
		return r.each(p)
	}
	if err := p.Head.Check(); err != nil {
		return err
	}
	r.heads++
	if r.over = r.heads > 1; r.over {
		if err := r.check.End(*p.Head); err != nil {
			return err
		}
	}
	return r.each(p)
}
