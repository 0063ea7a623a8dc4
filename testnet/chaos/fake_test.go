package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// fake is a fleet in memory that keeps the promises, but for one bug that is planted by name. It speaks as muster's command
// line does, and leaves notes as bodies do.
type fake struct {
	shape Shape
	asks  map[int]Ask
	bug   string

	mu       sync.Mutex
	down     map[string]bool
	commands []*fakeCommand
	tags     map[string]map[string]string
	tokens   map[string]int // operation by ID
	notes    map[string]string
	alive    map[string][]Process
	acts     int
	looks    int
	shelf    *fakeShelf
	closed   chan struct{}
}

type fakeCommand struct {
	id        fleet.UUID
	ask       Ask
	argv      string
	expires   time.Time
	cancelled chan struct{}
	on        map[string]*fakeRun
	plain     fakeVersion // that it is told
	sealed    fakeVersion
}

type fakeRun struct {
	status exec.Status
	exit   *int
	stdout string
}

func foundFake(asks map[int]Ask, bug string) Founder {
	return func(_ context.Context, shape Shape) (Driver, error) {
		f := &fake{shape: shape, asks: asks, bug: bug, down: map[string]bool{}, tags: map[string]map[string]string{}, tokens: map[string]int{},
			notes: map[string]string{}, alive: map[string][]Process{}, shelf: newFakeShelf(), closed: make(chan struct{})}
		for _, h := range shape.hosts() {
			f.tags[h] = map[string]string{"role": "host"}
		}
		return f, nil
	}
}

// has reports whether the planted bug is this one.
func (f *fake) has(bug string) bool { return f.bug == bug }

func (f *fake) Begin(_ context.Context, fault Fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch fault.Kind {
	case Kill, Pause, Restart, PowerCut, Full, ReadOnly, Files:
		for _, h := range fault.Hosts {
			f.down[h] = true
		}
	case Split, OneWay, Ring, Loss, Slow, Narrow, Clock, Move:
	}
	return nil
}

func (f *fake) End(_ context.Context, fault Fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range fault.Hosts {
		f.wake(h)
	}
	return nil
}

func (f *fake) Heal(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.shape.hosts() {
		f.wake(h)
	}
	return nil
}

// wake brings a host back, with what it missed.
func (f *fake) wake(h string) {
	delete(f.down, h)
	for _, c := range f.commands {
		if f.has("runs again after a restart") && c.on[h] != nil && c.on[h].status == exec.Success {
			delete(c.on, h)
		}
		f.deliver(c, h)
	}
}

func (f *fake) Settled(context.Context) error {
	if f.has("never settles") {
		return errors.New("n1 saw 2 of 5 nodes")
	}
	return nil
}

func (f *fake) Notes(_ context.Context, host string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.notes[host], nil
}

func (f *fake) Processes(host string) ([]Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.alive[host]), nil
}

func (f *fake) Life(string) int { return 100 }

func (f *fake) Crashes() ([]string, error) {
	if f.has("panics") {
		return []string{"n1: panic: nil map"}, nil
	}
	return nil, nil
}

func (f *fake) Keep(string) error { return nil }

func (f *fake) Close() error {
	close(f.closed)
	return nil
}

func (f *fake) Muster(ctx context.Context, host string, args ...string) Result {
	return f.MusterWith(ctx, host, "", args...)
}

// MusterWith acts at the end of the millisecond that it takes: what was asked for when it was answered comes after it.
func (f *fake) MusterWith(_ context.Context, host, stdin string, args ...string) Result {
	time.Sleep(time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down[host] || f.shelf.removed[host] && !f.has("opens after it was removed") {
		return Result{Stderr: "muster: no agent answers", Code: 5}
	}
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-o" || a == "json" })
	switch args[0] {
	case "run":
		return f.run(args)
	case "command":
		return f.command(args[1:])
	case "node":
		return f.node(args[1:])
	case "token":
		return f.token(args[1:])
	case "doc":
		return answer(map[string]any{"name": docName})
	case "param":
		return f.param(host, stdin, args[1:])
	case "keyring":
		f.newEpoch()
		return answer(map[string]any{"name": ringName})
	case "status":
		f.looks++
		more := 0
		if f.has("leaks") {
			more = f.looks * 20
		}
		return answer(map[string]any{"agent": map[string]any{"goroutines": 200 + more, "files": 30, "rss_bytes": 30 << 20}})
	case "quorum":
		return f.quorum(host)
	}
	return Result{Code: 2, Stderr: "muster: what is " + args[0]}
}

func answer(v any) Result {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return Result{Stdout: string(raw)}
}

func (f *fake) quorum(host string) Result {
	replica := map[string]any{"act": f.acts, "digest": "state"}
	if f.has("replicas differ") && host == "n2" {
		replica["digest"] = "another"
	}
	if !slices.Contains(f.shape.servers(), host) {
		return answer(map[string]any{"leader": map[string]string{"name": "n1"}})
	}
	return answer(map[string]any{"leader": map[string]string{"name": "n1"}, "replica": replica})
}

func (f *fake) newID() fleet.UUID {
	f.acts++
	sum := sha256.Sum256([]byte(strconv.Itoa(f.acts)))
	return fleet.UUID(sum[:16])
}

func (f *fake) run(args []string) Result {
	if f.has("refuses everything") {
		return Result{Code: 3, Stderr: "muster: no"}
	}
	op := 0
	for _, a := range args {
		if n, ok := strings.CutPrefix(strings.Replace(a, docOp+"=", opVar+"=", 1), opVar+"="); ok {
			op, _ = strconv.Atoi(n)
		}
	}
	a := f.asks[op]
	c := &fakeCommand{id: f.newID(), ask: a, argv: args[len(args)-1], expires: time.Now().Add(ms(a.ExpiresMS)), cancelled: make(chan struct{}), on: map[string]*fakeRun{}}
	if !f.pin(c) {
		return noParam(a.Name)
	}
	f.commands = append(f.commands, c)
	for _, h := range a.meant(f.shape.hosts()) {
		f.deliver(c, h)
	}
	if f.has("answers nothing") && op%2 == 0 {
		return Result{Code: 5, Stderr: "muster: no server answers"}
	}
	return answer(map[string]any{"id": c.id})
}

// deliver lets a host act on a command, unless it has or cannot.
func (f *fake) deliver(c *fakeCommand, h string) {
	if f.down[h] || c.on[h] != nil || !slices.Contains(c.ask.meant(f.shape.hosts()), h) {
		return
	}
	r := &fakeRun{status: exec.InProgress}
	select {
	case <-c.cancelled:
		c.on[h], r.status = r, exec.Cancelled
		return
	default:
	}
	if time.Now().After(c.expires) {
		c.on[h], r.status = r, exec.DeliveryTimedOut
		return
	}
	if !f.has("starts more than it may") && !c.hasRoom() {
		return // it waits for its turn
	}
	c.on[h] = r
	if c.ask.Sealed != "" && !f.opens(h, c.sealed) {
		r.status = exec.Refused
		return
	}
	did := fingerprint(c.argv)
	if f.has("runs another body") {
		did = fingerprint(c.argv + "; evil")
	}
	if c.ask.Body == Reads {
		did = c.ask.does()
	}
	f.note(c, h, "start", did)
	if c.ask.Body == Tells || c.ask.Body == Reads {
		f.note(c, h, "told", md5Of(c.plain.value)+md5Of(c.sealed.value))
	}
	go f.live(c, h, r)
}

// hasRoom reports whether one host more may start.
func (c *fakeCommand) hasRoom() bool {
	p := c.ask.Pace
	if p == nil {
		return true
	}
	running, failed := c.count()
	return failed <= p.Errors && running < p.Concurrency && (!p.Strict || failed+running <= p.Errors)
}

func (c *fakeCommand) count() (running, failed int) {
	for _, r := range c.on {
		switch r.status {
		case exec.InProgress:
			running++
		case exec.Failed, exec.TimedOut:
			failed++
		}
	}
	return running, failed
}

// goOn gives room that came free to those that wait, or ends their waiting.
func (f *fake) goOn(c *fakeCommand) {
	if c.ask.Pace == nil {
		return
	}
	for _, h := range c.ask.meant(f.shape.hosts()) {
		if _, failed := c.count(); failed > c.ask.Pace.Errors && c.on[h] == nil {
			c.on[h] = &fakeRun{status: exec.Terminated}
		}
		f.deliver(c, h)
	}
}

func (f *fake) note(c *fakeCommand, h, what, rest string) {
	f.notes[h] += fmt.Sprintf("%s %d %s %s %d 1 %s\n", what, time.Now().UnixNano(), c.id, h, c.ask.Op, rest)
}

// live is a run from its start to its end.
func (f *fake) live(c *fakeCommand, h string, r *fakeRun) {
	lasts := ms(c.ask.LastsMS)
	select {
	case <-f.closed:
	case <-c.cancelled:
		f.end(c, h, r, exec.Cancelled)
	case <-time.After(max(time.Millisecond, min(lasts, ms(c.ask.TimeoutMS)))): // no run takes no time
		if lasts > ms(c.ask.TimeoutMS) {
			f.end(c, h, r, exec.TimedOut)
		} else {
			f.end(c, h, r, exec.Success)
		}
	}
}

func (f *fake) end(c *fakeCommand, h string, r *fakeRun, status exec.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.goOn(c)
	r.status = status
	if status != exec.Success {
		f.note(c, h, "stop", "")
		if f.has("leaves what it kills") {
			f.alive[h] = append(f.alive[h], Process{PID: 9, Argv: []string{"sleep", "60", mark(c.ask.Op)}})
		}
		return
	}
	code := 0
	if c.ask.Body == Fails || c.ask.Body == Wavers && wavers(h) {
		code, r.status = failsWith, exec.Failed
	}
	f.note(c, h, "end", strconv.Itoa(code))
	if f.has("calls failures successes") {
		code, r.status = 0, exec.Success
	}
	r.exit, r.stdout = &code, c.ask.writes(h)
}

// wavers reports whether a host is one of every third.
func wavers(host string) bool {
	n, _ := strconv.Atoi(strings.TrimPrefix(host, "n"))
	return n%3 == 0
}

func (f *fake) command(args []string) Result {
	if args[0] == "list" {
		return f.list()
	}
	id, err := fleet.ParseUUID(args[1])
	i := slices.IndexFunc(f.commands, func(c *fakeCommand) bool { return c.id == id })
	if err != nil || i < 0 {
		return Result{Code: 1, Stderr: "muster: no command"}
	}
	c := f.commands[i]
	if args[0] == "cancel" {
		select {
		case <-c.cancelled:
		default:
			close(c.cancelled)
			for _, h := range c.ask.meant(f.shape.hosts()) {
				f.deliver(c, h)
			}
		}
		return answer(map[string]any{"id": c.id})
	}
	return f.show(c)
}

func (f *fake) list() Result {
	out := []map[string]any{}
	for i, c := range slices.Backward(f.commands) {
		if f.has("lists what was a while ago") && i == len(f.commands)-1 {
			continue
		}
		if f.has("forgets a command") && i == 2 {
			continue
		}
		run := map[string]any{"argv": []string{c.argv}, "env": []string{fmt.Sprintf("%s=%d", opVar, c.ask.Op)}}
		if c.ask.Body == Reads {
			run = map[string]any{"argv": []string{}, "values": []map[string]string{{"name": docOp, "value": strconv.Quote(strconv.Itoa(c.ask.Op))}}}
		}
		out = append(out, map[string]any{"id": c.id, "expires": c.expires, "run": run})
	}
	return answer(out)
}

func (f *fake) show(c *fakeCommand) Result {
	nodes := []map[string]any{}
	for _, h := range c.ask.meant(f.shape.hosts()) {
		n := map[string]any{"name": h, "status": exec.Pending}
		if r := c.on[h]; r != nil {
			n["status"], n["exit_code"] = r.status, r.exit
			n["stdout"] = map[string]any{"size": len(r.stdout), "text": r.stdout}
			if f.has("changes its mind") && r.status == exec.Success {
				f.looks++
				n["exit_code"] = f.looks % 2 * 7
			}
		}
		nodes = append(nodes, n)
	}
	r := answer(map[string]any{"id": c.id, "nodes": nodes})
	r.Code = 1 // as if some had failed
	return r
}

func (f *fake) node(args []string) Result {
	if args[0] == "list" {
		out := []map[string]any{}
		for _, h := range f.shape.hosts() {
			out = append(out, map[string]any{"name": h, "tags": maps.Clone(f.tags[h])})
		}
		return answer(out)
	}
	if args[0] == "delete" {
		f.shelf.removed[args[1]] = true
		f.newEpoch()
		return answer(map[string]any{"removed": args[1]})
	}
	tags, before := f.tags[args[1]], len(f.members())
	if k, v, ok := strings.Cut(args[2], "="); ok {
		if !f.has("forgets a tag") {
			tags[k] = v
		}
	} else {
		delete(tags, strings.TrimSuffix(args[2], "-"))
	}
	f.acts++
	if len(f.members()) < before {
		f.newEpoch()
	}
	f.handOver()
	return answer(map[string]any{"name": args[1]})
}

func (f *fake) token(args []string) Result {
	switch args[0] {
	case "create":
		_, text, _ := strings.Cut(args[2], "=")
		op, _ := strconv.Atoi(text)
		id := f.newID()
		f.tokens[id.String()] = op
		return answer(map[string]any{"id": id})
	case "delete":
		delete(f.tokens, args[1])
		return answer(map[string]any{"id": args[1]})
	}
	out := []map[string]any{{"id": f.newID(), "tags": map[string]string{}}}
	for id, op := range f.tokens {
		out = append(out, map[string]any{"id": id, "tags": map[string]string{opTag: strconv.Itoa(op)}})
	}
	return answer(out)
}
