package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/check"
)

// Patience with a fleet that has been healed: until it is whole, until all commands have ended, until its replicas are
// level. They bound hangs and are promises too: a fleet that does not come to rest in them has broken one.
const (
	settlePatience = 2 * time.Minute
	endPatience    = 75 * time.Second
	levelPatience  = 30 * time.Second
	lookPatience   = 15 * time.Second // of one command line
	lookEvery      = time.Second
	unknownGrace   = 10 * time.Second // in which Unknown may still become the truth
)

// rest heals the fleet, waits until it is at rest, looks at all of it, and returns the broken promises.
func (t *town) rest(ctx context.Context) (violations []check.Violation, took time.Duration, err error) {
	began := time.Now()
	if err := t.d.Heal(ctx); err != nil {
		return nil, 0, fmt.Errorf("the fleet cannot be healed: %w", err)
	}
	t.mu.Lock()
	t.off = map[string]int64{}
	for i := range t.history.Excuses {
		if t.history.Excuses[i].To.IsZero() {
			t.history.Excuses[i].To = time.Now().Add(excuseGrace)
		}
	}
	t.mu.Unlock()
	settling, stop := context.WithTimeout(ctx, settlePatience)
	defer stop()
	go t.explain(settling)
	if err := t.d.Settled(settling); err != nil {
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		return []check.Violation{{Promise: promiseRest, What: err.Error()}}, time.Since(began), nil
	}
	stop()
	took = time.Since(began)
	if err := t.look(ctx); err != nil {
		return nil, took, err
	}
	crashes, err := t.d.Crashes()
	violations = t.judge()
	for _, text := range crashes {
		violations = append(violations, check.Violation{Promise: promiseCrash, What: text})
	}
	return violations, took, err
}

// slowRest is how long a fleet may take to come to rest before the trace says what every host sees.
const slowRest = 15 * time.Second

// explain writes into the trace what keeps a fleet from its rest, for who wonders why it takes so long.
func (t *town) explain(ctx context.Context) {
	for wait(ctx, slowRest) {
		for _, h := range t.shape.hosts() {
			one, stop := context.WithTimeout(ctx, lookPatience)
			r := t.d.Muster(one, h, "-o", "json", "status")
			stop()
			if ctx.Err() != nil {
				return
			}
			t.trace.line(Line{Began: time.Now(), Came: h + " is not at rest yet: " + readSight(r)})
		}
	}
}

// The promises that chaos itself holds the fleet to.
const (
	promiseRest  check.Promise = "a fleet that is whole comes to rest"
	promiseCrash check.Promise = "an agent never crashes"
)

// look asks the fleet and its hosts for all that the checkers need.
func (t *town) look(ctx context.Context) error {
	t.rests++
	for _, one := range []struct {
		at   string
		look func(context.Context) error
	}{
		{"commands", t.lookAtCommands}, {"notes", t.lookAtNotes}, {"processes", t.lookAtProcesses}, {"record", t.lookAtRecord},
		{"parameters", t.lookAtShelf}, {"levels", t.lookAtLevels}, {"replicas", t.lookAtReplicas},
	} {
		began := time.Now()
		if err := one.look(ctx); err != nil {
			return err
		}
		if took := time.Since(began); took > slowLook {
			t.trace.line(Line{Began: began, TookMS: took.Milliseconds(), Came: "it took long to look at " + one.at})
		}
	}
	return nil
}

// slowLook is how long a look may take before the trace tells of it.
const slowLook = 5 * time.Second

// there lists the hosts that were not removed.
func (t *town) there() []string { return without(t.shape.hosts(), t.left) }

// host returns another host each time, so that every one is asked now and then.
func (t *town) host(n int) string {
	all := t.there()
	return all[(n*7+t.rests*3)%len(all)]
}

// answer asks for something that a fleet at rest must answer.
func (t *town) answer(ctx context.Context, host string, args ...string) (string, error) {
	var r Result
	for began := time.Now(); time.Since(began) < lookPatience; {
		one, stop := context.WithTimeout(ctx, lookPatience)
		r = t.d.Muster(one, host, append([]string{"-o", "json"}, args...)...)
		stop()
		nothing := args[0] == "param" && strings.Contains(r.Stderr, notThere)
		if r.Code == 0 || nothing || (args[0] == "command" && r.Stdout != "") { // show exits by what the command came to
			return r.Stdout, nil
		}
		if !wait(ctx, lookEvery) {
			return "", ctx.Err()
		}
	}
	return "", fmt.Errorf("at rest, muster %s on %s exits %d: %s", strings.Join(args, " "), host, r.Code, strings.TrimSpace(r.Stderr))
}

// lookAtCommands finds out which commands there are, and waits for the end of each.
func (t *town) lookAtCommands(ctx context.Context) error {
	text, err := t.answer(ctx, t.host(1), "command", "list")
	if err != nil {
		return err
	}
	list, err := readList(text)
	if err != nil {
		return err
	}
	t.file(list)
	for deadline := time.Now().Add(endPatience); ; {
		open, err := t.askEnds(ctx, list, time.Until(deadline) > endPatience-unknownGrace)
		if err != nil || len(open) == 0 || time.Now().After(deadline) {
			return err // whatever has not ended is for the checkers
		}
		list = open
		if !wait(ctx, lookEvery) {
			return ctx.Err()
		}
	}
}

// file fits the fleet's list of commands to what was asked.
func (t *town) file(list []listed) {
	t.history.Listed = idsOf(list)
	if t.history.Present == nil {
		t.history.Present = map[string]string{}
	}
	orders := map[string]int{} // by fingerprint of what was asked, which holds the operation
	for i, o := range t.history.Orders {
		orders[o.Does] = i
	}
	for _, l := range list {
		a, ours := t.asks[l.op()]
		if !ours || a.Kind != AskRun {
			continue // the checkers will wonder who asked for it
		}
		i, ok := orders[a.does()]
		if !ok {
			continue
		}
		o := &t.history.Orders[i]
		if o.ID.IsZero() {
			o.ID = l.ID
		}
		t.known[a.Op] = o.ID
		o.Expires = l.Expires
		if a.Body == Reads {
			continue
		}
		if len(l.Run.Argv) != 1 || fingerprint(l.Run.Argv[0]) != o.Does {
			o.Does = "what is listed as " + strings.Join(l.Run.Argv, " ")
		}
	}
}

// askEnds asks for every command that is not known to have ended everywhere, and returns those that still are not. With
// hope, Unknown is no end yet.
func (t *town) askEnds(ctx context.Context, list []listed, hope bool) (open []listed, err error) {
	for i, l := range list {
		if t.closed[l.ID] {
			continue
		}
		by := t.host(i)
		text, err := t.answer(ctx, by, "command", "show", l.ID.String())
		if err != nil {
			return nil, err
		}
		t.hear(text, by)
		reports, err := readReports(text, by)
		if err != nil {
			return nil, err
		}
		ended := !slices.ContainsFunc(reports, func(r check.Report) bool {
			return !r.Status.Final() && (hope || r.Status != "Unknown")
		})
		if ended {
			t.closed[l.ID] = true
			t.tally.checked++
			continue
		}
		open = append(open, l)
	}
	return open, nil
}

func (t *town) lookAtNotes(ctx context.Context) error {
	t.history.Runs = nil
	for _, h := range t.shape.hosts() {
		text, err := t.d.Notes(ctx, h)
		if err != nil {
			return err
		}
		all := readNotes(text)
		t.history.Runs = append(t.history.Runs, runsOf(h, all, t.asks)...)
		t.told(h, all)
	}
	return nil
}

func (t *town) lookAtProcesses(context.Context) error {
	t.history.Processes = nil
	for _, h := range t.shape.hosts() {
		all, err := t.d.Processes(h)
		if err != nil {
			return err
		}
		for _, p := range all {
			if id, supervisor, ours := p.owner(t.known); ours {
				t.history.Processes = append(t.history.Processes, check.Process{
					Node: h, PID: p.PID, Text: clip(strings.Join(p.Argv, " ")), Command: id, Supervisor: supervisor,
				})
			}
		}
	}
	return nil
}

func clip(text string) string { return text[:min(len(text), 200)] }

// lookAtRecord reads tags and tokens, the tags through two hosts that must agree.
func (t *town) lookAtRecord(ctx context.Context) error {
	present := map[string]string{}
	text, err := t.answer(ctx, t.host(2), "token", "list")
	if err != nil {
		return err
	}
	if err := readTokens(text, present); err != nil {
		return err
	}
	if text, err = t.answer(ctx, t.host(3), "node", "list"); err != nil {
		return err
	}
	t.history.Present = present
	return readTags(text, present)
}

func (t *town) lookAtLevels(ctx context.Context) error {
	for _, h := range t.shape.hosts() {
		text, err := t.answer(ctx, h, "status")
		if err != nil {
			continue
		}
		if l, ok := readLevel(text, h, t.d.Life(h)); ok {
			t.history.Levels = append(t.history.Levels, l)
		}
	}
	return nil
}

// lookAtReplicas compares the servers' replicas, which are level a moment after the last write.
func (t *town) lookAtReplicas(ctx context.Context) error {
	for deadline := time.Now().Add(levelPatience); ; {
		t.history.Last = nil
		acts := map[string]bool{}
		for _, h := range t.shape.hosts() {
			text, err := t.answer(ctx, h, "quorum", "status")
			if err != nil {
				return err
			}
			if r, ok := readReplica(text, h); ok {
				t.history.Last = append(t.history.Last, r)
				acts[r.Digest] = true
			}
		}
		if len(acts) <= 1 || time.Now().After(deadline) {
			return nil
		}
		if !wait(ctx, lookEvery) {
			return ctx.Err()
		}
	}
}

// judge holds what is known to the promises.
func (t *town) judge() []check.Violation {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.history
	h.Ended = time.Now()
	h.Orders = slices.DeleteFunc(slices.Clone(h.Orders), func(o check.Order) bool { return o.ID == fleet.UUID{} })
	t.tally.runs += len(h.Runs) - t.counted
	t.counted = len(h.Runs)
	if t.history.Last != nil && len(t.history.Last) == 0 {
		return []check.Violation{{Promise: check.PromiseReplicas, What: "no server tells of its replica"}}
	}
	return slices.Concat(t.broken, check.All(h), check.Params(t.shelf))
}
