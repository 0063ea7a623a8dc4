package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// pipe is one end of a stream in memory. Like QUIC's it lets the writer go on only so far.
type pipe struct {
	ctx   context.Context
	close func()
	peer  fleet.ID
	in    chan frame
	out   chan frame
}

// newPipe returns both ends; each names the node at the other.
func newPipe(asker, giver fleet.ID) (atAsker, atGiver *pipe) {
	ctx, cancel := context.WithCancel(context.Background())
	there, back := make(chan frame, 100), make(chan frame, 100)
	return &pipe{ctx, cancel, giver, back, there}, &pipe{ctx, cancel, asker, there, back}
}

func (p *pipe) Peer() fleet.ID           { return p.peer }
func (p *pipe) Context() context.Context { return p.ctx }
func (p *pipe) Close() error             { p.close(); return nil }
func (p *pipe) ReadFrame() (byte, []byte, error) {
	select {
	case f := <-p.in:
		return heard(f)
	default:
	}
	select {
	case f := <-p.in:
		return heard(f)
	case <-p.ctx.Done():
		select {
		case f := <-p.in: // written before the close
			return heard(f)
		default:
			return 0, nil, io.EOF
		}
	}
}

// heard is a frame as the transport gives it: an error comes as one.
func heard(f frame) (byte, []byte, error) {
	if f.kind != 0xff {
		return f.kind, f.body, nil
	}
	var said struct{ Kind, What string }
	if err := wire.Unmarshal(f.body, &said); err != nil {
		return 0, nil, err
	}
	return 0, nil, &fleet.Error{Kind: fleet.ParseKind(said.Kind), What: said.What}
}

func (p *pipe) WriteFrame(kind byte, body []byte) error {
	if p.ctx.Err() != nil {
		return io.ErrClosedPipe
	}
	select {
	case p.out <- frame{kind, bytes.Clone(body)}:
		return nil
	case <-p.ctx.Done():
		return io.ErrClosedPipe
	}
}

func (p *pipe) WriteError(err error) error {
	return p.WriteFrame(0xff, wire.Marshal(struct{ Kind, What string }{fleet.KindOf(err).String(), err.Error()}))
}

// bulkPeers connects to one giver.
type bulkPeers struct {
	stubPeers
	self  fleet.ID
	giver *Agent
	err   error
	mu    sync.Mutex
	open  []*pipe // the givers' ends
	busy  sync.WaitGroup
}

func (p *bulkPeers) OpenBulk(context.Context, fleet.ID) (Stream, error) {
	if p.err != nil {
		return nil, p.err
	}
	here, there := newPipe(p.self, p.giver.self)
	p.mu.Lock()
	p.open = append(p.open, there)
	p.mu.Unlock()
	p.busy.Go(func() { p.giver.ServeBulk(there) })
	return here, nil
}

// outputRunner keeps one output for every command.
type outputRunner struct {
	stubRunner
	output *memOutput
	err    error
	asked  fleet.UUID
	stream string
}

func (r *outputRunner) OpenOutput(command fleet.UUID, stream string) (KeptOutput, error) {
	r.asked, r.stream = command, stream
	if r.err != nil {
		return nil, r.err
	}
	return r.output, nil
}

// memOutput is an output in memory; a run may still be writing it.
type memOutput struct {
	mu     sync.Mutex
	data   []byte
	size   int64 // that the run wrote, when more than is kept
	digest fleet.ID
	ended  bool
	closed int
	read   int64 // how far it was read
}

func newOutput(data []byte) *memOutput {
	return &memOutput{data: data, digest: sha256.Sum256(data), ended: true}
}

func (o *memOutput) ReadAt(p []byte, off int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if off >= int64(len(o.data)) {
		return 0, io.EOF
	}
	n := copy(p, o.data[off:])
	o.read = max(o.read, off+int64(n))
	return n, nil
}

func (o *memOutput) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed++
	return nil
}

func (o *memOutput) Sum() (exec.OutputSum, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sum := exec.OutputSum{Size: max(o.size, int64(len(o.data))), Kept: int64(len(o.data))}
	sum.Cut = sum.Kept < sum.Size
	if o.ended {
		sum.Digest = o.digest
	}
	return sum, o.ended
}

func (o *memOutput) add(data string, end bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.data = append(o.data, data...)
	if o.ended = end; end {
		o.digest = sha256.Sum256(o.data)
	}
}

// outputPair is a node that has an output, and another that asks for it.
type outputPair struct {
	*desk  // the giver
	asker  *Agent
	peers  *bulkPeers
	runner *outputRunner
	signed auth.Envelope
}

func newOutputPair(t testing.TB, output *memOutput) *outputPair {
	p := &outputPair{desk: newDesk(t), runner: &outputRunner{output: output}}
	p.desk.runner = p.runner
	p.peers = &bulkPeers{self: p.web.ID, giver: p.desk.Agent}
	p.asker = New(Config{Key: p.web.Key, Fleet: p.Fleet.ID(), Name: "web-1", Record: p.Fleet.Record, Clock: p.cfg.Clock, Folder: &stubFolder{}, Log: slog.New(slog.DiscardHandler)})
	p.asker.Attach(Shells{Peers: p.peers, Gossip: stubGossip{}, Runner: stubRunner{}})
	p.signed = p.read(node.ReadOutput)
	return p
}

func (p *outputPair) read(what node.ReadWhat) auth.Envelope {
	at := p.self
	if what == node.ReadCommand {
		at = fleet.ID{}
	}
	return p.readAt(what, at)
}

func (p *outputPair) readAt(what node.ReadWhat, at fleet.ID) auth.Envelope {
	return p.Sign(auth.ForRequest, node.Read{Header: p.Header(node.ReadLife), What: what, Arg: p.commandID(), Node: at})
}

// got is what an asker was given.
type got struct {
	heads []exec.OutputHead
	data  bytes.Buffer
}

func (g *got) take(p exec.OutputPiece) error {
	if p.Head != nil {
		g.heads = append(g.heads, *p.Head)
	}
	g.data.Write(p.Data)
	return nil
}

func (p *outputPair) fetch(t testing.TB, ask exec.OutputAsk) (g got, err error) {
	t.Helper()
	err = p.asker.Output(t.Context(), p.self, p.signed, ask, g.take)
	p.peers.busy.Wait()
	return g, err
}

func noise(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return out
}

var wholeStdout = exec.OutputAsk{Stream: exec.StdoutName}

func TestOutputComesWholeFromItsNode(t *testing.T) {
	for _, size := range []int{0, 1, exec.MaxOutputPiece, exec.MaxOutputPiece + 1, 1_000_000} {
		data := noise(size)
		p := newOutputPair(t, newOutput(data))
		g, err := p.fetch(t, exec.OutputAsk{Stream: exec.StderrName})
		if err != nil || !bytes.Equal(g.data.Bytes(), data) {
			t.Fatalf("%d of %d bytes came, %v", g.data.Len(), size, err)
		}
		if len(g.heads) != 2 || g.heads[0] != g.heads[1] || !g.heads[1].Ended || g.heads[1].Sum.Digest != sha256.Sum256(data) {
			t.Errorf("heads %+v", g.heads)
		}
		if p.runner.asked != p.commandID() || p.runner.stream != exec.StderrName {
			t.Errorf("asked for %s of %s", p.runner.stream, p.runner.asked)
		}
		if p.runner.output.closed != 1 {
			t.Errorf("it was closed %d times", p.runner.output.closed)
		}
	}
}

// The node's own operator asks at the node: no stream is opened.
func TestOutputOfThisNode(t *testing.T) {
	p := newOutputPair(t, newOutput(noise(200_000)))
	var g got
	if err := p.Agent.Output(t.Context(), p.self, p.signed, wholeStdout, g.take); err != nil || g.data.Len() != 200_000 {
		t.Errorf("%d bytes, %v", g.data.Len(), err)
	}
	p.runner.output.data[7] ^= 1
	if err := p.Agent.Output(t.Context(), p.self, p.signed, wholeStdout, g.take); fleet.KindOf(err) != fleet.Internal {
		t.Errorf("a changed file: %v", err)
	}
}

func TestOutputFromAndTo(t *testing.T) {
	data := noise(300_000)
	p := newOutputPair(t, newOutput(data))
	for _, c := range []struct{ from, to, want int64 }{
		{100_000, 0, 300_000}, {0, 70_000, 70_000}, {65_535, 65_537, 65_537}, {300_000, 0, 300_000}, {400_000, 0, 400_000}, {299_999, 1 << 40, 300_000}, {5, 5, 5},
	} {
		g, err := p.fetch(t, exec.OutputAsk{Stream: exec.StdoutName, From: c.from, To: c.to})
		if want := data[min(c.from, 300_000):min(c.want, 300_000)]; err != nil || !bytes.Equal(g.data.Bytes(), want) {
			t.Errorf("%d to %d: %d bytes, %v", c.from, c.to, g.data.Len(), err)
		}
	}
	for _, ask := range []exec.OutputAsk{{Stream: "stdin"}, {Stream: exec.StdoutName, From: -1}, {Stream: exec.StdoutName, From: 5, To: 4}} {
		if _, err := p.fetch(t, ask); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%+v: %v", ask, err)
		}
		if _, err := p.openOutput(p.signed, ask); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%+v at the node: %v", ask, err)
		}
	}
}

func TestOutputThatWasChangedIsSaid(t *testing.T) {
	data := noise(200_000)
	p := newOutputPair(t, newOutput(data))
	data[150_000] ^= 1
	g, err := p.fetch(t, wholeStdout)
	if fleet.KindOf(err) != fleet.Internal || !strings.Contains(err.Error(), "does not match its digest") {
		t.Errorf("got %v", err)
	}
	if len(g.heads) != 1 {
		t.Errorf("%d heads: the last says that all is well", len(g.heads))
	}
	p.runner.output.data = data[:100_000]
	p.runner.output.size = 200_000
	p.runner.output.digest = sha256.Sum256(data[:100_000])
	if g, err := p.fetch(t, wholeStdout); err != nil || !g.heads[1].Sum.Cut || g.heads[1].Sum.Size != 200_000 || g.data.Len() != 100_000 {
		t.Errorf("cut at its node: %+v, %v", g.heads, err)
	}
}

func TestOutputOfARunThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newOutputPair(t, &memOutput{data: []byte("one ")})
		g, err := p.fetch(t, wholeStdout)
		if err != nil || g.data.String() != "one " || g.heads[1].Ended || !g.heads[1].Sum.Digest.IsZero() {
			t.Errorf("what is there now: %q, %+v, %v", g.data.String(), g.heads, err)
		}
		go func() {
			for _, word := range []string{"two ", "three ", strings.Repeat("x", 200_000)} {
				time.Sleep(time.Hour)
				p.runner.output.add(word, false)
			}
			time.Sleep(time.Minute)
			p.runner.output.add(" end", true)
		}()
		began := time.Now()
		g, err = p.fetch(t, exec.OutputAsk{Stream: exec.StdoutName, Follow: true})
		if want := "one two three " + strings.Repeat("x", 200_000) + " end"; err != nil || g.data.String() != want {
			t.Errorf("followed: %d bytes, %v", g.data.Len(), err)
		}
		if len(g.heads) != 2 || g.heads[0].Ended || !g.heads[1].Ended || g.heads[1].Sum.Digest.IsZero() {
			t.Errorf("heads %+v", g.heads)
		}
		if took := time.Since(began); took > 3*time.Hour+time.Minute+time.Second {
			t.Errorf("the end was seen after %s", took)
		}
	})
}

// A span of a run that goes on ends where it ends, not with the run.
func TestFollowedSpanEndsWithTheSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newOutputPair(t, &memOutput{data: []byte("0123456789")})
		go func() {
			time.Sleep(time.Second)
			p.runner.output.add("more", false)
		}()
		g, err := p.fetch(t, exec.OutputAsk{Stream: exec.StdoutName, From: 8, To: 12, Follow: true})
		if err != nil || g.data.String() != "89mo" {
			t.Errorf("%q, %v", g.data.String(), err)
		}
	})
}

// Whoever reads slowly has a few pieces under way at most: more when it takes nothing else, few when it takes many.
func TestOutputWaitsForItsReader(t *testing.T) {
	for others, most := range map[int]int64{0: 600 << 10, 1: 300 << 10, 7: 100 << 10, 100: 100 << 10} {
		outputUnderWay(t, others, most)
	}
}

func outputUnderWay(t *testing.T, others int, most int64) {
	synctest.Test(t, func(t *testing.T) {
		data := noise(10 << 20)
		p := newOutputPair(t, newOutput(data))
		for range others {
			p.asker.taking.begin()
		}
		taken, furthest := int64(0), int64(0)
		err := p.asker.Output(t.Context(), p.self, p.signed, wholeStdout, func(piece exec.OutputPiece) error {
			synctest.Wait() // the node goes as far as it may
			p.runner.output.mu.Lock()
			ahead := p.runner.output.read - taken
			p.runner.output.mu.Unlock()
			furthest = max(furthest, ahead)
			taken += int64(len(piece.Data))
			return nil
		})
		if err != nil || taken != int64(len(data)) {
			t.Errorf("%d bytes, %v", taken, err)
		}
		if furthest > most || furthest < most/2 {
			t.Errorf("beside %d others %d bytes are under way, at most %d may be", others, furthest, most)
		}
		if p.asker.taking.all.Load() != int64(others) {
			t.Error("it is still counted")
		}
	})
}

// Whoever stops reading, or goes, ends the giving: nothing is left behind at the node.
func TestOutputEndsWithItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newOutputPair(t, newOutput(noise(1<<20)))
		enough := errors.New("enough")
		if err := p.asker.Output(t.Context(), p.self, p.signed, wholeStdout, func(exec.OutputPiece) error { return enough }); !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
		p.runner.output.ended = false
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := p.asker.Output(ctx, p.self, p.signed, exec.OutputAsk{Stream: exec.StdoutName, Follow: true}, func(exec.OutputPiece) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if p.giving.all != 0 || len(p.giving.to) != 0 || p.runner.output.closed != 2 {
			t.Errorf("%d are still given, closed %d times", p.giving.all, p.runner.output.closed)
		}
	})
}

func TestOutputIsForOperatorsAlone(t *testing.T) {
	p := newOutputPair(t, newOutput([]byte("secret")))
	stale := p.Sign(auth.ForRequest, node.Read{Header: p.Header(exec.DefaultExpires), What: node.ReadOutput, Arg: p.commandID(), Node: p.self})
	mine := p.web.Signer.Sign(auth.ForRequest, p.Fleet.ID(), node.Read{Header: p.Header(node.ReadLife), What: node.ReadOutput, Arg: p.commandID(), Node: p.self})
	forged := p.read(node.ReadOutput)
	forged.Body = bytes.Replace(forged.Body, []byte("output"), []byte("outpux"), 1)
	for what, c := range map[string]struct {
		signed auth.Envelope
		kind   fleet.Kind
	}{
		"nobody": {auth.Envelope{}, fleet.Denied}, "a node": {mine, fleet.Denied}, "changed": {forged, fleet.Denied}, "for too long": {stale, fleet.Invalid},
		"for the command alone": {p.read(node.ReadCommand), fleet.Invalid}, "for decisions": {p.read(node.ReadWhy), fleet.Invalid},
		"for another node": {p.readAt(node.ReadOutput, p.web.ID), fleet.Denied}, "for no node": {p.readAt(node.ReadOutput, fleet.ID{}), fleet.Invalid},
	} {
		p.signed = c.signed
		if g, err := p.fetch(t, wholeStdout); fleet.KindOf(err) != c.kind || g.data.Len() > 0 || err == nil {
			t.Errorf("signed by %s: %q, %v", what, g.data.String(), err)
		}
	}
	if p.runner.asked != (fleet.UUID{}) {
		t.Error("the output was opened")
	}
	p.SetPolicy(`forbid (principal, action == Action::"read", resource); permit (principal, action, resource);`)
	p.Agent.picture.Store(&picture{record: p.Fleet.Record})
	p.signed = p.read(node.ReadOutput)
	if _, err := p.fetch(t, wholeStdout); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("policy forbids it: %v", err)
	}
}

func TestOutputThatIsNotThere(t *testing.T) {
	p := newOutputPair(t, newOutput(nil))
	for _, kind := range []fleet.Kind{fleet.NotFound, fleet.Expired} {
		p.runner.err = fleet.Errorf(kind, "the output is not there")
		if _, err := p.fetch(t, wholeStdout); fleet.KindOf(err) != kind || !strings.Contains(err.Error(), "not there") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	p.runner.err, p.runner.output = nil, &memOutput{data: noise(100_000), size: 200_000, ended: true}
	broken := p.runner.output
	broken.ended = true
	p.desk.runner = &shrinking{p.runner}
	if _, err := p.fetch(t, wholeStdout); fleet.KindOf(err) != fleet.Internal || !strings.Contains(err.Error(), "byte 100000") {
		t.Errorf("a file that lacks its end: %v", err)
	}
}

// shrinking claims more than can be read.
type shrinking struct{ *outputRunner }

func (s *shrinking) OpenOutput(command fleet.UUID, stream string) (KeptOutput, error) {
	return claims{s.output}, nil
}

type claims struct{ *memOutput }

func (c claims) Sum() (exec.OutputSum, bool) {
	return exec.OutputSum{Size: 200_000, Kept: 200_000}, true
}

func TestOutputIsLostWithItsNode(t *testing.T) {
	p := newOutputPair(t, newOutput(noise(1<<20)))
	p.peers.err = fleet.Errorf(fleet.Unavailable, "no answer")
	if _, err := p.fetch(t, wholeStdout); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "lost with node-0") {
		t.Errorf("a node that is not there: %v", err)
	}
	p.peers.err = nil
	pieces := 0
	err := p.asker.Output(t.Context(), p.self, p.signed, wholeStdout, func(exec.OutputPiece) error {
		if pieces++; pieces == 3 { // a head and two pieces of data
			p.peers.open[0].Close()
		}
		return nil
	})
	if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "the rest of the output, from byte ") || !strings.Contains(err.Error(), "lost with node-0") {
		t.Errorf("a node that goes: %v", err)
	}
	p.Fleet.MustTake(p.RemoveNode(p.db.ID))
	p.asker.picture.Store(&picture{record: p.Fleet.Record})
	if err := p.asker.Output(t.Context(), p.db.ID, p.signed, wholeStdout, nil); fleet.KindOf(err) != fleet.NotFound || !strings.Contains(err.Error(), "lost with db-1: it was removed") {
		t.Errorf("a removed node: %v", err)
	}
	if err := p.asker.Output(t.Context(), fleet.ID{9}, p.signed, wholeStdout, nil); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("an unknown node: %v", err)
	}
}

// A node that hangs is given up.
func TestOutputOfANodeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newOutputPair(t, newOutput(nil))
		here, _ := newPipe(p.web.ID, p.self)
		p.asker.peers = &oneStream{stream: here}
		began := time.Now()
		if _, err := p.fetch(t, wholeStdout); fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "in time") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != askTimeout {
			t.Errorf("after %s", took)
		}
	})
}

type oneStream struct {
	stubPeers
	stream Stream
}

func (o *oneStream) OpenBulk(context.Context, fleet.ID) (Stream, error) { return o.stream, nil }

func TestOutputsAtATimeAreFew(t *testing.T) {
	p := newOutputPair(t, newOutput([]byte("x")))
	var peers []fleet.ID
	for i := range maxOutputs {
		peers = append(peers, fleet.ID{byte(i / maxOutputsPerPeer)})
		if err := p.giving.begin(peers[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.fetch(t, wholeStdout); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("one more: %v", err)
	}
	for _, id := range peers[maxOutputsPerPeer:] {
		p.giving.end(id)
	}
	if err := p.giving.begin(peers[0]); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("one more for a peer that has many: %v", err)
	}
	if _, err := p.fetch(t, wholeStdout); err != nil {
		t.Errorf("with room: %v", err)
	}
}

// A node that lies is caught at its first lie.
func TestOutputOfALyingNode(t *testing.T) {
	head := func(kept int64, ended bool, of string) frame {
		return frame{outputHead, wire.Marshal(exec.OutputHead{Sum: exec.OutputSum{Size: kept, Kept: kept, Digest: sha256.Sum256([]byte(of))}, Ended: ended})}
	}
	data := func(s string) frame { return frame{outputData, []byte(s)} }
	for what, c := range map[string]struct {
		ask exec.OutputAsk
		in  []frame
		err string
	}{
		"data first":          {wholeStdout, []frame{data("a"), head(1, true, "a")}, "before"},
		"another digest":      {wholeStdout, []frame{head(1, true, "a"), data("b"), head(1, true, "a")}, "digest"},
		"too little":          {wholeStdout, []frame{head(2, true, "ab"), data("a"), head(2, true, "ab")}, "ends at byte 1"},
		"too much":            {wholeStdout, []frame{head(1, true, "a"), data("a"), data("b"), head(1, true, "a")}, "more output"},
		"more than asked for": {exec.OutputAsk{Stream: exec.StdoutName, To: 1}, []frame{head(5, true, "abcde"), data("ab")}, "nobody asked"},
		"an empty piece":      {wholeStdout, []frame{head(1, true, "a"), data("")}, "nobody asked"},
		"a huge piece":        {wholeStdout, []frame{head(1, true, "a"), data(strings.Repeat("x", exec.MaxOutputPiece+1))}, "nobody asked"},
		"more kept than made": {wholeStdout, []frame{{outputHead, wire.Marshal(exec.OutputHead{Sum: exec.OutputSum{Size: 1, Kept: 2}})}}, "cannot have kept"},
		"no head":             {wholeStdout, []frame{{outputHead, []byte{0x90}}}, "malformed"},
		"another frame":       {wholeStdout, []frame{{done, nil}}, "kind 64"},
		"no end":              {wholeStdout, []frame{head(1, true, "a"), data("a")}, "too soon"},
		"nothing":             {wholeStdout, nil, "too soon"},
	} {
		p := newOutputPair(t, newOutput(nil))
		p.asker.peers = &stubPeers{stream: c.in}
		if _, err := p.fetch(t, c.ask); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whatever comes on the bulk plane, it gets output only if an operator signed for it, and the node is left as it was.
func FuzzServeBulk(f *testing.F) {
	p := newOutputPair(f, newOutput([]byte("0123456789")))
	p.runner.err = fleet.Errorf(fleet.NotFound, "not here")
	good := wire.Marshal(outputAsk{p.signed, wholeStdout})
	f.Add(joined([]frame{{askOutput, good}}))
	f.Add(joined([]frame{{askOutput, good}, {outputMore, nil}, {outputMore, nil}}))
	f.Add(joined([]frame{{askRead, wire.Marshal(p.signed)}}))
	f.Add([]byte{askOutput, 0, 0, 0, 9, 0x92})
	f.Fuzz(func(t *testing.T, data []byte) {
		p.runner.asked = fleet.UUID{}
		in := cut(data)
		s := &frames{peer: p.web.ID, in: in}
		p.ServeBulk(s)
		if len(s.out) > 0 || len(s.fails) > 1 || p.giving.all != 0 {
			t.Fatalf("%d frames, %d errors, %d given", len(s.out), len(s.fails), p.giving.all)
		}
		if p.runner.asked != (fleet.UUID{}) && (p.runner.asked != p.commandID() || in[0].kind != askOutput) {
			t.Fatalf("%s was opened", p.runner.asked)
		}
	})
}

// Whatever a node gives for output, what is passed on is no more than was asked for, and all of it is what the last head
// names, or there is an error.
func FuzzReceiveOutput(f *testing.F) {
	sum := exec.OutputSum{Size: 10, Kept: 10, Digest: sha256.Sum256([]byte("0123456789"))}
	head := frame{outputHead, wire.Marshal(exec.OutputHead{Sum: sum, Ended: true})}
	f.Add(joined([]frame{head, {outputData, []byte("0123456789")}, head}), int64(0), int64(0))
	f.Add(joined([]frame{head, {outputData, []byte("34")}, head}), int64(3), int64(5))
	f.Add(joined([]frame{head, {outputData, []byte("0123")}, {outputData, []byte("456789")}, head}), int64(0), int64(0))
	p := newOutputPair(f, newOutput(nil))
	peers := &stubPeers{}
	p.asker.peers = peers
	f.Fuzz(func(t *testing.T, data []byte, from, to int64) {
		peers.stream = cut(data)
		ask := exec.OutputAsk{Stream: exec.StdoutName, From: from, To: to}
		g, err := p.fetch(t, ask)
		if to > 0 && int64(g.data.Len()) > max(0, to-from) {
			t.Fatalf("%d bytes of %d to %d", g.data.Len(), from, to)
		}
		if err != nil {
			return
		}
		last := g.heads[len(g.heads)-1]
		if len(g.heads) != 2 || int64(g.data.Len()) != max(0, ask.Ends(last.Sum.Kept)-from) {
			t.Fatalf("%d bytes and %d heads pass for %+v", g.data.Len(), len(g.heads), last)
		}
		if ask.Whole() && last.Ended && !last.Sum.Digest.IsZero() && last.Sum.Digest != sha256.Sum256(g.data.Bytes()) {
			t.Fatal("another output passes")
		}
	})
}
