package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/check"
)

// Patience with one operation, and with one that another is about.
const (
	askPatience = 20 * time.Second
	refPatience = 10 * time.Second
)

// town is one fleet through its rounds, with all that is known of it.
type town struct {
	d     Driver
	shape Shape
	trace *trace
	tally *tally

	mu      sync.Mutex // of all below
	history check.History
	asks    map[int]Ask          // by operation
	came    map[int]*outcome     // by operation
	struck  map[int]*struckFault // by step
	off     map[string]int64     // seconds by which a host's clock is off
	known   map[int]fleet.UUID   // commands by operation
	closed  map[fleet.UUID]bool  // commands whose end everywhere is known
	said    map[heard]check.Report
	shelf   check.Shelf
	canary  string            // that all secrets begin with
	toldOf  map[heard]bool    // what runs were told is known
	own     int               // operations that are in no plan
	broken  []check.Violation // promises, as was seen while looking
	left    string            // the host that was removed in the end
	rests   int               // how often the fleet came to rest
	counted int               // runs that the tally has
}

// heard is a command on a node.
type heard struct {
	command fleet.UUID
	node    string
}

// outcome is what an operation came to, once it has.
type outcome struct {
	done            chan struct{}
	came            came
	asked, answered time.Time
}

// struckFault is a fault that has begun.
type struckFault struct {
	begun chan struct{}
	fault Fault // names hosts, never Leader
}

func newTown(d Driver, shape Shape, tr *trace, ta *tally) *town {
	return &town{
		d: d, shape: shape, trace: tr, tally: ta, asks: map[int]Ask{}, came: map[int]*outcome{}, struck: map[int]*struckFault{},
		off: map[string]int64{}, known: map[int]fleet.UUID{}, closed: map[fleet.UUID]bool{}, said: map[heard]check.Report{}, canary: newCanary(),
		toldOf: map[heard]bool{},
	}
}

// storm executes the steps of a round, each at its time, and returns when all have come to an end.
func (t *town) storm(ctx context.Context, steps []Step) {
	began := time.Now()
	t.prepare(steps)
	var group sync.WaitGroup
	for _, s := range steps {
		group.Go(func() {
			if !wait(ctx, time.Until(began.Add(ms(s.AtMS)))) {
				t.skip(s)
				return
			}
			at := time.Now()
			said := t.do(ctx, s)
			t.trace.line(Line{Step: &s, Began: at, TookMS: time.Since(at).Milliseconds(), Came: said})
		})
	}
	group.Wait()
}

// prepare makes room for what steps will wait for.
func (t *town) prepare(steps []Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range steps {
		switch {
		case s.Fault != nil:
			t.struck[s.Number] = &struckFault{begun: make(chan struct{})}
		case s.Ask != nil:
			t.asks[s.Ask.Op] = *s.Ask
			t.came[s.Ask.Op] = &outcome{done: make(chan struct{}), came: came{skipped: true}}
		}
	}
}

// skip lets nobody wait for a step that never comes.
func (t *town) skip(s Step) {
	switch {
	case s.Fault != nil:
		close(t.fault(s.Number).begun)
	case s.Ask != nil:
		close(t.outcomeOf(s.Ask.Op).done)
	}
}

func (t *town) fault(step int) *struckFault {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.struck[step]
}

func (t *town) outcomeOf(op int) *outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.came[op]
}

// wait lets time pass; it is false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(max(d, 0)):
		return ctx.Err() == nil
	}
}

// do executes one step, and says what came of it.
func (t *town) do(ctx context.Context, s Step) string {
	switch {
	case s.Fault != nil:
		return t.strike(ctx, s.Number, *s.Fault)
	case s.Lift != 0:
		return t.lift(ctx, s.Lift)
	case s.Ask != nil:
		return t.ask(ctx, *s.Ask)
	}
	return "nothing to do"
}

func (t *town) strike(ctx context.Context, step int, f Fault) string {
	it := t.fault(step)
	defer close(it.begun)
	said := ""
	if slices.Contains(f.Hosts, Leader) {
		leader := t.leader(ctx)
		f.Hosts = []string{leader}
		said = "the leader is " + leader + "; "
	}
	t.mu.Lock()
	it.fault = f
	t.tally.faults[f.Kind]++
	t.excuse(f)
	if f.Kind == Clock {
		for _, h := range f.Hosts {
			t.off[h] = f.Amount
		}
		if off := (time.Duration(abs(f.Amount)) * time.Second); off < 5*time.Minute {
			t.history.Skew = max(t.history.Skew, off)
			t.shelf.Skew = t.history.Skew
		}
	}
	t.mu.Unlock()
	if err := t.d.Begin(ctx, f); err != nil {
		return said + "trouble: " + err.Error()
	}
	return said + "begun"
}

func abs(n int64) int64 { return max(n, -n) }

// excuse notes what a fault does to the knowledge of its hosts.
func (t *town) excuse(f Fault) {
	switch f.Kind {
	case PowerCut, Full, ReadOnly, Files, Kill:
		for _, h := range f.Hosts {
			t.history.Excuses = append(t.history.Excuses, check.Excuse{Node: h, From: time.Now(), Why: f.String(), Starting: f.Kind == Kill})
		}
	case Pause, Restart, Split, OneWay, Ring, Loss, Slow, Narrow, Clock, Move:
	}
}

// excuseGrace is how long after its end a fault may still tell: an agent starts in it.
const excuseGrace = 2 * time.Second

func (t *town) excused(f Fault) {
	for i, e := range t.history.Excuses {
		if e.To.IsZero() && e.Why == f.String() && slices.Contains(f.Hosts, e.Node) {
			t.history.Excuses[i].To = time.Now().Add(excuseGrace)
		}
	}
}

func (t *town) lift(ctx context.Context, step int) string {
	it := t.fault(step)
	if it == nil {
		return "trouble: it never began"
	}
	select {
	case <-it.begun:
	case <-ctx.Done():
		return "trouble: it never began"
	}
	err := t.d.End(ctx, it.fault)
	if err != nil { // perhaps its host was switched off meanwhile: it lasts until all is healed
		return "trouble: " + err.Error()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.excused(it.fault)
	if it.fault.Kind == Clock {
		for _, h := range it.fault.Hosts {
			delete(t.off, h)
		}
	}
	return "lifted " + it.fault.String()
}

// leader asks around who leads. When nobody knows, the first server will do.
func (t *town) leader(ctx context.Context) string {
	for _, h := range t.shape.servers() {
		ctx, stop := context.WithTimeout(ctx, 2*time.Second)
		name := readLeader(t.d.Muster(ctx, h, "-o", "json", "quorum", "status").Stdout)
		stop()
		if slices.Contains(t.shape.hosts(), name) {
			return name
		}
	}
	return t.shape.servers()[0]
}

// ask asks for one operation and notes what its sender was told.
func (t *town) ask(ctx context.Context, a Ask) string {
	out := t.outcomeOf(a.Op)
	defer close(out.done)
	ref, ok := t.ref(ctx, a)
	if !ok {
		return "skipped: what it is about never came to be"
	}
	did, r := t.operate(ctx, a, ref)
	out.asked, out.answered, out.came = did.asked, did.answered, did.came
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tally.ask(a.Kind, did.came.ack)
	return sayAnswer(did.came.ack, did.came.id, r)
}

// ref waits until the operation that another is about has come to its end.
func (t *town) ref(ctx context.Context, a Ask) (came, bool) {
	if a.Ref == 0 {
		return came{}, true
	}
	of := t.outcomeOf(a.Ref)
	if of == nil {
		return came{}, false
	}
	ctx, stop := context.WithTimeout(ctx, refPatience)
	defer stop()
	select {
	case <-of.done:
		return of.came, of.came.ack == check.Accepted
	case <-ctx.Done():
		return came{}, false
	}
}

// take notes what an operation tells about the fleet.
func (t *town) take(a Ask, out outcome, ref came, r Result) {
	ack, h := out.came.ack, &t.history
	write := func(what, value string) {
		h.Writes = append(h.Writes, check.Write{What: what, Value: value, Ack: ack, Asked: out.asked, Answered: out.answered})
	}
	switch a.Kind {
	case AskRun:
		if !out.came.id.IsZero() {
			t.known[a.Op] = out.came.id
		}
		h.Orders = append(h.Orders, check.Order{
			ID: out.came.id, Does: a.does(), Nodes: a.meant(t.shape.hosts()), Ack: ack, Asked: out.asked, Answered: out.answered,
			Timeout: ms(a.TimeoutMS), Pace: a.Pace.exec(), Permitted: true, Loose: t.looseOf(a),
		})
		if a.Wait {
			t.hear(r.Stdout, a.From)
		}
	case AskCancel:
		h.Cancels = append(h.Cancels, check.Cancel{Command: ref.id, Ack: ack, Asked: out.asked})
	case AskTag:
		write(tagName(a.Node, a.Key), a.Value)
	case AskUntag:
		write(tagName(a.Node, a.Key), "")
	case AskToken:
		write(tokenName(a.Op), "there")
	case AskUntoken:
		write(tokenName(a.Ref), "")
	case AskList:
		if list, err := readList(r.Stdout); err == nil && ack == check.Accepted {
			h.Reads = append(h.Reads, check.Read{By: a.From, Asked: out.asked, Answered: out.answered, Listed: idsOf(list)})
		}
	case AskShow:
		t.hear(r.Stdout, a.From)
	case AskNodes:
	case AskPut, AskCAS, AskImport, AskDelete, AskLabel, AskSecret, AskGet, AskOpen, AskRotate:
	}
	t.shelve(a, out, ref, r)
}

// looseOf says why nodes may refuse a command, or "".
func (t *town) looseOf(a Ask) string {
	if a.Sealed != "" {
		return "it needs a secret that only members of the keyring open"
	}
	return t.loose(a.From)
}

// loose says why nodes may refuse what is signed on a host now, or "".
func (t *town) loose(host string) string {
	if off, ok := t.off[host]; ok {
		return fmt.Sprintf("it was signed on %s, whose clock was off by %d s", host, off)
	}
	return ""
}

// hear takes what the fleet says of a command. What was said already is not noted again.
func (t *town) hear(text, by string) {
	reports, err := readReports(text, by)
	if err != nil {
		return
	}
	for _, r := range reports {
		k := heard{r.Command, r.Node}
		if last, ok := t.said[k]; !ok || !last.Equal(r) {
			t.said[k] = r
			t.history.Reports = append(t.history.Reports, r)
		}
	}
}

// sayAnswer says an answer for the trace.
func sayAnswer(ack check.Ack, id fleet.UUID, r Result) string {
	out := string(ack)
	if !id.IsZero() {
		out += " " + id.String()
	}
	if r.Code != 0 {
		out += fmt.Sprintf(", exit %d", r.Code)
		if line, _, _ := strings.Cut(strings.TrimSpace(r.Stderr), "\n"); line != "" {
			out += ": " + line
		}
	}
	return out
}
