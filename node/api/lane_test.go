package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// echo answers each question with its name, and each entry with the length of its data as the act.
type echo struct {
	*stub
	entered chan struct{} // told of each slow question; nil: nobody
	mu      sync.Mutex
	busy    int
	most    int
}

func (e *echo) ReadParams(ctx context.Context, ask ParamsAsk) (ParamsRead, error) {
	e.mu.Lock()
	e.busy++
	e.most = max(e.most, e.busy)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.busy--
	}()
	name := ask.Ask.Get[0].Name
	switch {
	case name == "none":
		return ParamsRead{}, fleet.Errorf(fleet.Denied, "not you").Hinted("ask")
	case name == "slow":
		if e.entered != nil {
			e.entered <- struct{}{}
		}
		<-ctx.Done()
		return ParamsRead{}, ctx.Err()
	}
	return ParamsRead{Answer: params.Answer{Next: name}, Source: node.FromLeader, Age: time.Second}, nil
}

func (e *echo) Propose(_ context.Context, entry consensus.Entry) (consensus.Result, error) {
	if put, ok := entry.(consensus.PutAct); ok {
		return consensus.Result{Act: uint64(len(put.Data))}, nil
	}
	refused := consensus.Result{Kind: fleet.Conflict, Why: "there already", Hint: "look"}
	return refused, refused.Err()
}

func asks(name string) ParamsAsk {
	return ParamsAsk{Ask: params.Ask{Get: []params.Selector{{Name: name}}}}
}

// TestLane: every one of many calls at a time gets its own answer; a refusal is an answer; what ends is said.
func TestLane(t *testing.T) {
	t.Parallel()
	c := serve(t, &echo{stub: &stub{}})
	l, err := c.Lane(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var work sync.WaitGroup
	for i := range 64 {
		work.Go(func() {
			for j := range 20 {
				name := fmt.Sprintf("p%d.%d", i, j)
				if read, err := l.ReadParams(t.Context(), asks(name)); err != nil || read.Answer.Next != name || read.Source != node.FromLeader || read.Age != time.Second {
					t.Errorf("%s: %+v, %v", name, read, err)
				}
				if result, err := l.Propose(t.Context(), consensus.PutAct{Data: make([]byte, 100*i+j)}); err != nil || result.Act != uint64(100*i+j) {
					t.Errorf("%s: %+v, %v", name, result, err)
				}
			}
		})
	}
	work.Wait()
	_, err = l.ReadParams(t.Context(), asks("none"))
	if e, ok := err.(*fleet.Error); !ok || e.Kind != fleet.Denied || e.What != "not you" || e.Hint != "ask" {
		t.Errorf("a refusal: %#v", err)
	}
	if result, err := l.Propose(t.Context(), consensus.PutToken{}); result.Why != "there already" || fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("what the fleet refuses: %+v, %v", result, err)
	}
	if _, err := l.ReadParams(t.Context(), ParamsAsk{}); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("nothing asked: %v", err)
	}
	if _, err := l.Propose(t.Context(), consensus.PutAct{Data: make([]byte, consensus.MaxEntry+1)}); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("too much: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.ReadParams(ctx, asks("slow")); err != context.Canceled {
		t.Errorf("a call that was given up: %v", err)
	}
	waits := make(chan error)
	go func() {
		_, err := l.ReadParams(t.Context(), asks("slow"))
		waits <- err
	}()
	l.Close()
	if err := <-waits; fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("a call on a lane that is closed: %v", err)
	}
	if _, err := l.ReadParams(t.Context(), asks("x")); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("a call on a closed lane: %v", err)
	}
}

// laneFrom upgrades a connection of p to a lane.
func laneFrom(tb testing.TB, p *pairs) (net.Conn, *bufio.Reader) {
	tb.Helper()
	conn := p.dial(tb)
	in := bufio.NewReader(conn)
	if err := upgrade(tb.Context(), conn, in); err != nil {
		tb.Fatal(err)
	}
	return conn, in
}

// TestLaneBounds: who asks without end and reads nothing has only so many answers made, and is read no further.
func TestLaneBounds(t *testing.T) {
	t.Parallel()
	b := &echo{stub: &stub{}, entered: make(chan struct{}, 10*laneUnderway)}
	conn, _ := laneFrom(t, onSocket(t, b))
	defer conn.Close()
	var batch laneAsks
	for i := range 4 * laneUnderway {
		batch.Asks = append(batch.Asks, laneAsk{ID: uint64(i), Read: []node.ParamsAsk{asks("slow")}})
	}
	raw := wire.Marshal(batch)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...)); err != nil {
		t.Fatal(err)
	}
	for range laneUnderway {
		<-b.entered
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.most > laneUnderway {
		t.Errorf("%d asks of a lane under way", b.most)
	}
}

// TestLaneSlots: what a lane has under way is bounded in bytes, too; and an account's answers count.
func TestLaneSlots(t *testing.T) {
	t.Parallel()
	large := asks("a")
	large.Ask.List = []params.ListAsk{{Filters: []params.Filter{{Key: "Name", Values: []string{strings.Repeat("x", 100<<10)}}}}}
	large.Signed = []auth.Envelope{{Body: make([]byte, 100<<10)}}
	for what, tc := range map[string]struct {
		ask   laneAsk
		other bool
		most  int
		bytes int // that it must count for, at least
	}{
		"root's question":       {laneAsk{Read: []node.ParamsAsk{asks("a")}}, false, laneUnderway, 1},
		"a large question":      {laneAsk{Read: []node.ParamsAsk{large}}, false, laneUnderway, 200 << 10},
		"an account's question": {laneAsk{Read: []node.ParamsAsk{asks("a")}}, true, laneUnderwayOther, laneAnswerSize},
		"an entry":              {laneAsk{Entry: make([]byte, consensus.MaxEntry)}, true, laneUnderwayOther, consensus.MaxEntry},
		"more than a lane has":  {laneAsk{Entry: make([]byte, 2*laneBytes)}, true, laneUnderwayOther, laneBytes},
	} {
		n := laneSlots(tc.ask, tc.other, tc.most)
		if n < 1 || n > tc.most || n*(laneBytes/tc.most) < tc.bytes || tc.bytes == 1 && n > 1 {
			t.Errorf("%s takes %d of %d slots", what, n, tc.most)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	slots := make(chan struct{}, 4)
	if !takeSlots(ctx, slots, 3) {
		t.Fatal("no slots")
	}
	stop()
	if takeSlots(ctx, slots, 4) || len(slots) != 3 {
		t.Errorf("slots are taken of a lane that is over, or kept: %d", len(slots))
	}
	s := newDesk(&echo{stub: &stub{}}, Options{})
	if a := s.answerLane(t.Context(), laneAsk{Entry: make([]byte, consensus.MaxEntry+1)}, laneCaller{}); len(a.Fail) != 1 || a.Fail[0].Kind != fleet.Exhausted.String() {
		t.Errorf("an entry that is too large: %+v", a)
	}
}

// TestLaneRefused: a lane is asked for in the one way, and an account that is not root's has only so many.
func TestLaneRefused(t *testing.T) {
	t.Parallel()
	p := onSocket(t, &stub{})
	if answer := p.say(t, request("GET", "/v1/lane", "", nil)); !strings.Contains(string(answer), "Upgrade: "+laneProtocol) || !strings.Contains(string(answer), "400") {
		t.Errorf("without an upgrade: %s", answer)
	}
	s := newDesk(&stub{}, Options{})
	for range lanesOther {
		if !s.takeLane("www") {
			t.Fatal("no lane")
		}
	}
	if s.takeLane("www") || !s.takeLane("other") {
		t.Error("an account has more lanes than its share, or takes another's")
	}
	s.giveLane("www")
	if !s.takeLane("www") {
		t.Error("a lane that was given back cannot be taken")
	}
}

// FuzzLane: whatever comes down a lane brings neither the desk nor other callers down.
func FuzzLane(f *testing.F) {
	frame := func(batch laneAsks) []byte {
		raw := wire.Marshal(batch)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...)
	}
	f.Add(frame(laneAsks{[]laneAsk{{ID: 1, Read: []node.ParamsAsk{asks("a")}}, {ID: 2, Entry: consensus.Encode(consensus.PutAct{Data: []byte("x")}, 0)}}}))
	f.Add(frame(laneAsks{[]laneAsk{{ID: 1, Read: []node.ParamsAsk{asks("a"), asks("b")}, Entry: []byte{1}}}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0, 0, 0, 9, 0x91})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newDesk(&stub{}, Options{})
		at, to := net.Pipe()
		served := make(chan struct{})
		go func() { s.serveLane(t.Context(), bufio.NewReader(to), to, laneCaller{}, 4); close(served) }()
		go func() {
			_ = at.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = at.Write(data)
			_ = at.Close()
		}()
		in := bufio.NewReader(at)
		for {
			var batch laneAnswers
			if readFrame(in, laneAnswering, &batch) != nil {
				break
			}
		}
		<-served
	})
}

// TestLaneMemory: a frame costs what it weighs, whatever it claims.
func TestLaneMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	sample := wire.Marshal(laneAsks{[]laneAsk{{ID: 1, Read: []node.ParamsAsk{asks("a")}}, {ID: 2, Entry: []byte("entry")}}})
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 80}, func(in []byte) {
		framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(in))), in...)
		var batch laneAsks
		_ = readFrame(bufio.NewReader(strings.NewReader(string(framed))), laneFrame, &batch)
	}, hostile.Inputs(1<<15, sample))
}
