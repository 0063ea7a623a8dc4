package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// stub answers what it was made with, and keeps what it was asked.
type stub struct {
	keyringStub
	paramsStub
	sessionsStub
	recordStub

	status    node.Status
	nodes     []Node
	operators []auth.Operator
	result    consensus.Result
	answer    node.Answer
	updates   []node.Update
	err       error
	stay      bool // Watch goes on until its context ends

	policy    string
	groups    []auth.Group
	settings  []auth.Setting
	stores    []Store
	pieces    []exec.OutputPiece
	decisions []exec.Decision
	report    auth.Envelope

	proposed consensus.Entry
	signed   auth.Envelope
	node     fleet.ID
	ask      exec.OutputAsk
	order    exec.Order
	left     bool
	hungUp   chan struct{}
}

func (s *stub) Policy(context.Context) string           { return s.policy }
func (s *stub) Groups(context.Context) []auth.Group     { return s.groups }
func (s *stub) Settings(context.Context) []auth.Setting { return s.settings }
func (s *stub) Usage(context.Context) []Store           { return s.stores }

func (s *stub) Output(_ context.Context, id fleet.ID, e auth.Envelope, ask exec.OutputAsk, each func(exec.OutputPiece) error) error {
	s.node, s.signed, s.ask = id, e, ask
	for _, p := range s.pieces {
		if err := each(p); err != nil {
			return err
		}
	}
	return s.err
}

func (s *stub) Decisions(_ context.Context, id fleet.ID, e auth.Envelope) ([]exec.Decision, error) {
	s.node, s.signed = id, e
	return s.decisions, s.err
}

func (s *stub) Direct(_ context.Context, o exec.Order) error {
	s.order = o
	return s.err
}

func (s *stub) NodeReport(_ context.Context, id fleet.ID, e auth.Envelope) (auth.Envelope, error) {
	s.node, s.signed = id, e
	return s.report, s.err
}

func (s *stub) Status(context.Context) node.Status        { return s.status }
func (s *stub) Quorum(context.Context) node.QuorumStatus  { return s.status.Quorum }
func (s *stub) Nodes(context.Context) []Node              { return s.nodes }
func (s *stub) Operators(context.Context) []auth.Operator { return s.operators }
func (s *stub) Leave(context.Context) error               { s.left = true; return s.err }
func (s *stub) Read(_ context.Context, e auth.Envelope) (node.Answer, error) {
	s.signed = e
	return s.answer, s.err
}

func (s *stub) Propose(_ context.Context, e consensus.Entry) (consensus.Result, error) {
	s.proposed = e
	return s.result, s.err
}

func (s *stub) Watch(ctx context.Context, e auth.Envelope, each func(node.Update) error) error {
	s.signed = e
	for _, u := range s.updates {
		if err := each(u); err != nil {
			return err
		}
	}
	if s.stay {
		<-ctx.Done()
		close(s.hungUp)
	}
	return s.err
}

// serve opens b's API and returns a client of it.
func serve(t *testing.T, b Backend) *Client { return serveWith(t, b, Options{Version: "1.2.3"}) }

func serveWith(t *testing.T, b Backend, o Options) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, b, o) }()
	c := Dial(path)
	t.Cleanup(func() {
		c.Close()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

func id(text string) fleet.ID { return fleet.Sum([]byte(text)) }

func uuid(text string) fleet.UUID { sum := id(text); return fleet.UUID(sum[:16]) }

var moment = time.UnixMilli(1_800_000_000_123).UTC()

func aMember(name string) fleet.Member {
	return fleet.Member{
		ID: id(name), Name: name, Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7980"), netip.MustParseAddrPort("[fd00::1]:7980")},
		Status: fleet.ConnectionLost, LastSeen: moment, Role: fleet.Voter, Server: true, Tags: map[string]string{"role": "web"},
		Facts: fleet.Facts{OS: "debian", OSVersion: "12", Arch: "amd64", Version: "1.2.3", BootID: "b"},
	}
}

func aHeader(name string) auth.Header {
	return auth.Header{ID: uuid(name), Issued: moment.UnixMilli(), Expires: moment.UnixMilli() + 1, Charter: id("head"), Act: 9, Mode: auth.ByQuorum}
}

func aCommand() node.CommandInfo {
	return node.CommandInfo{
		ID: uuid("command"), Operator: "alice", Act: 12, Committed: moment.UnixMilli(), Cancelled: moment.UnixMilli() + 5,
		Nodes: []fleet.ID{id("web01"), id("web02")},
		Body: exec.Command{
			Header: aHeader("command"), Target: "*", Count: 2, Set: id("set"),
			Run: exec.Run{
				Argv: []string{"a", "b"}, Script: []byte{0, 255}, Env: []string{"A=1"}, Dir: "/", User: "bob", Stdin: []byte("in"), Timeout: 5,
				Values: []exec.Argument{{Name: "release", Value: `"7.1"`}},
			},
			Documents: []exec.DocumentRef{{Name: "Deploy", Version: 3, Digest: id("text")}},
			Pace: exec.Pace{
				Limited: true, Concurrency: 2, Errors: 1, Strict: true, Waves: []uint32{1, 2}, Gates: []fleet.UUID{uuid("gate")}, OnStop: uuid("stop"),
			},
			After: exec.After{Command: uuid("main"), Wave: 4}, Comment: "why", OutputTo: "s3://b/c",
		},
		Rollout: exec.Rollout{Nodes: []byte{1, 3}, Running: 1, Granted: 2, Failed: 1, Wave: 1, Waits: true, Stopped: exec.StoppedByErrors},
		Cancels: []fleet.ID{id("web02")},
	}
}

func aReport() exec.Report {
	return exec.Report{
		Command: uuid("command"), Node: id("web01"), Seq: 3, Status: exec.Failed, ExitCode: 7, Signal: "killed", Received: 1, Started: 2, Ended: 3,
		Stdout: exec.Stream{Size: 5, Kept: 4, Digest: id("out"), Head: []byte{0xff, 0}, Tail: []byte("x")},
		Detail: "why", Charter: id("head"), Act: 4, Rule: "r",
		Steps: []exec.StepReport{{
			Name: "install", Action: "aws:runShellScript", Status: exec.Failed, ExitCode: 7, Attempts: 2, Started: 2, Ended: 3,
			Stdout: exec.Span{From: 1, To: 4}, Stderr: exec.Span{To: 2}, Detail: "no",
		}},
	}
}

// TestRoundTrip: what the backend says is what the client gets, to the last field.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	info, report := aCommand(), aReport()
	server := node.ServerStatus{ID: id("web01"), Name: "web01", Online: true}
	b := &stub{
		status: node.Status{
			Version: "1", Fleet: id("fleet"), FleetName: "lab", Self: aMember("web01"), CharterHead: id("head"), CharterLen: 3, Act: 8, RecordLen: 7,
			Now: moment, ClockOff: -2 * time.Second, Online: 1, Lost: 2, Left: 3, Warnings: []string{"w"},
			Observed: []netip.AddrPort{netip.MustParseAddrPort("1.2.3.4:5")},
			Quorum: node.QuorumStatus{Leader: id("web01"), Term: 4, Voters: []node.ServerStatus{server}, Spares: []node.ServerStatus{{ID: id("x"), Name: "x"}}, Danger: "d",
				Replica: node.ReplicaStatus{Act: 9, Digest: id("state")}, Level: node.LevelStatus{Level: 2, Supports: 3, Holding: []node.LevelHolder{{ID: id("x"), Name: "x", Level: 2}}}},
			Agent: node.Usage{RSS: 5 << 20, Goroutines: 6, Files: 7},
		},
		nodes:     []Node{{aMember("web01"), 5}, {aMember("web02"), 0}},
		operators: []auth.Operator{{Name: "alice", Key: []byte("k"), HPKE: []byte("h"), Teams: []string{"root"}, Expires: moment.UnixMilli()}},
		result:    consensus.Result{Act: 3, Time: moment.UnixMilli()},
		answer: node.Answer{
			Commands: []node.CommandInfo{info},
			Tokens: []node.TokenInfo{{ID: uuid("token"), Operator: "alice", Used: 2, Body: auth.Token{
				Header: aHeader("token"), Join: []byte("j"), Uses: 3, Tags: map[string]string{"a": "b"}, Pattern: "web*", Server: true, Replace: "r",
			}}},
			Documents: []node.DocumentInfo{{Name: "Deploy", Default: 1, Last: 2, Count: 1, Versions: []node.DocumentVersion{
				{Number: 1, VersionName: "one", Digest: id("text"), Publisher: "alice", Time: 4, Size: 5},
			}}},
			Version: 1, Text: []byte("schemaVersion: \"2.2\"\n"),
			Requests: []consensus.OperatorRequest{{Nonce: uuid("n"), Name: "bob", Key: []byte("k"), HPKE: []byte("h"), Node: id("web01"), Issued: 7}},
		},
		updates: []node.Update{{Info: &info, Servers: 2}, {Report: &report, Servers: 1}},
	}
	c, ctx := serve(t, b), t.Context()
	same := func(what string, got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", what, got, err, want)
		}
	}
	status, err := c.Status(ctx)
	same("status", status, err, b.status)
	quorum, err := c.Quorum(ctx)
	same("quorum", quorum, err, b.status.Quorum)
	nodes, err := c.Nodes(ctx)
	same("nodes", nodes, err, b.nodes)
	ops, err := c.Operators(ctx)
	same("operators", ops, err, b.operators)
	version, err := c.Version(ctx)
	same("version", version, err, "1.2.3")

	signed := auth.Envelope{Format: 1, Algorithm: auth.Ed25519, Key: id("key"), Body: []byte("body"), Signature: []byte("s")}
	entry := consensus.PutCommand{Statement: signed, Nodes: []fleet.ID{id("web01")}}
	result, err := c.Propose(ctx, entry)
	same("result", result, err, b.result)
	same("entry", b.proposed, nil, consensus.Entry(entry))
	b.result = consensus.Result{Kind: fleet.Unavailable, Why: "no", Hint: "ask"}
	if result, err = c.Propose(ctx, entry); result != b.result || err == nil || err.Error() != "no" || fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("the fleet's no: %+v, %v", result, err)
	}
	b.result = consensus.Result{}
	answer, err := c.Read(ctx, signed)
	same("answer", answer, err, b.answer)
	same("signed", b.signed, nil, signed)
	var updates []node.Update
	err = c.Watch(ctx, signed, func(u node.Update) error { updates = append(updates, u); return nil })
	same("updates", updates, nil, b.updates)
	if fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("a watch that the agent ends is %v", err)
	}
	if err := c.Leave(ctx); err != nil || !b.left {
		t.Errorf("leave: %v", err)
	}
}

// TestNodesRoundTrip: the same of what one node is asked, and of what this host alone says.
func TestNodesRoundTrip(t *testing.T) {
	t.Parallel()
	sum := exec.OutputSum{Size: 9, Kept: 8, Digest: id("out"), Cut: true}
	b := &stub{
		policy: "permit (principal, action, resource);\n", groups: []auth.Group{{Name: "web", Target: "tag.role=web", Changed: 3, By: "alice", Act: 4}},
		settings:  []auth.Setting{{Name: auth.SettingOutputKeep, Value: "4GiB", Changed: 3, By: "alice", Act: 4}},
		stores:    []Store{{What: "runs", Path: "/var/lib/muster/runs", Bytes: 1, Bound: 2, Items: 3, Free: 4}},
		decisions: []exec.Decision{{At: 5, What: exec.DecidedPolicy, Detail: "permitted by r"}},
		report:    auth.Envelope{Format: 1, Algorithm: auth.Ed25519, Key: id("web01"), Body: []byte("report"), Signature: []byte("s")},
		pieces: []exec.OutputPiece{
			{Head: &exec.OutputHead{Sum: exec.OutputSum{Size: 5, Kept: 5}}}, {Data: []byte("\xff\x00one")}, {Data: bytes.Repeat([]byte("x"), exec.MaxOutputPiece)},
			{Head: &exec.OutputHead{Sum: sum, Ended: true}},
		},
	}
	c, ctx := serve(t, b), t.Context()
	same := func(what string, got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", what, got, err, want)
		}
	}
	policy, err := c.Policy(ctx)
	same("policy", policy, err, b.policy)
	groups, err := c.Groups(ctx)
	same("groups", groups, err, b.groups)
	settings, err := c.Settings(ctx)
	same("settings", settings, err, b.settings)
	stores, err := c.Usage(ctx)
	same("stores", stores, err, b.stores)

	signed := auth.Envelope{Format: 1, Algorithm: auth.Ed25519, Key: id("key"), Body: []byte("body"), Signature: []byte("s")}
	decisions, err := c.Decisions(ctx, id("web01"), signed)
	same("decisions", decisions, err, b.decisions)
	same("asked node", b.node, nil, id("web01"))
	report, err := c.NodeReport(ctx, id("web02"), signed)
	same("report", report, err, b.report)
	same("asked node", b.node, nil, id("web02"))
	same("signed", b.signed, nil, signed)
	order := exec.Order{Statement: signed, Nodes: []fleet.ID{id("web01")}}
	same("order", order, c.Direct(ctx, order), b.order)

	ask := exec.OutputAsk{Stream: exec.StderrName, From: 3, To: 70_000, Follow: true}
	var heads []exec.OutputHead
	var data []byte
	err = c.Output(ctx, id("web03"), signed, ask, func(p exec.OutputPiece) error {
		if p.Head != nil {
			heads = append(heads, *p.Head)
		}
		data = append(data, p.Data...)
		return nil
	})
	same("output", data, err, append([]byte("\xff\x00one"), b.pieces[2].Data...))
	same("heads", heads, nil, []exec.OutputHead{*b.pieces[0].Head, *b.pieces[3].Head})
	same("ask", b.ask, nil, ask)
	same("asked node", b.node, nil, id("web03"))
}

// TestOutputBreaks: an output that breaks off after it has begun is told from a whole one, with the words of the error;
// one that never begins is an error like any other.
func TestOutputBreaks(t *testing.T) {
	t.Parallel()
	b := &stub{
		pieces: []exec.OutputPiece{{Head: &exec.OutputHead{}}, {Data: []byte("half")}},
		err:    fleet.Errorf(fleet.Unavailable, "it is lost with wéb01\n\x7f").Hinted("wait"),
	}
	c := serve(t, b)
	ask := exec.OutputAsk{Stream: exec.StdoutName}
	check := func() {
		t.Helper()
		var got []byte
		err := c.Output(t.Context(), id("web01"), auth.Envelope{}, ask, func(p exec.OutputPiece) error { got = append(got, p.Data...); return nil })
		e, ok := errors.AsType[*fleet.Error](err)
		if !ok || e.Kind != fleet.Unavailable || e.What != "it is lost with wéb01\n\x7f" || e.Hint != "wait" {
			t.Errorf("got %#v after %q", err, got)
		}
	}
	check()
	b.pieces = nil
	check()
	b.err = nil
	if err := c.Output(t.Context(), id("web01"), auth.Envelope{}, ask, func(exec.OutputPiece) error { return nil }); err == nil {
		t.Error("a node that says nothing has an output")
	}
	b.pieces = []exec.OutputPiece{{Head: &exec.OutputHead{}}, {Data: []byte("all")}}
	enough := errors.New("enough")
	if err := c.Output(t.Context(), id("web01"), auth.Envelope{}, ask, func(exec.OutputPiece) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if err := c.Output(t.Context(), id("web01"), auth.Envelope{}, exec.OutputAsk{Stream: "stdlog"}, nil); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("got %v", err)
	}
}

// TestErrors: an error keeps its kind, its words and its hint; a watch also tells one after it has begun.
func TestErrors(t *testing.T) {
	t.Parallel()
	info := aCommand()
	for kind := fleet.Internal; kind <= fleet.Exhausted; kind++ {
		b := &stub{err: fleet.Errorf(kind, "it is %s", kind).Hinted("do this")}
		c := serve(t, b)
		check := func(err error) {
			t.Helper()
			e, ok := errors.AsType[*fleet.Error](err)
			if !ok || e.Kind != kind || e.What != "it is "+kind.String() || e.Hint != "do this" {
				t.Errorf("%s: got %#v", kind, err)
			}
		}
		_, err := c.Propose(t.Context(), consensus.PutAct{})
		check(err)
		_, err = c.Read(t.Context(), auth.Envelope{})
		check(err)
		check(c.Leave(t.Context()))
		check(c.Direct(t.Context(), exec.Order{}))
		_, err = c.Decisions(t.Context(), id("web01"), auth.Envelope{})
		check(err)
		_, err = c.NodeReport(t.Context(), id("web01"), auth.Envelope{})
		check(err)
		check(c.Watch(t.Context(), auth.Envelope{}, func(node.Update) error { return nil }))
		b.updates = []node.Update{{Info: &info}}
		check(c.Watch(t.Context(), auth.Envelope{}, func(node.Update) error { return nil }))
	}
}

// TestLiarsText: bytes that are no UTF-8 in a node's words do not silence an answer.
func TestLiarsText(t *testing.T) {
	t.Parallel()
	report := aReport()
	report.Detail = "\xff bad"
	c := serve(t, &stub{updates: []node.Update{{Report: &report}}})
	seen := 0
	err := c.Watch(t.Context(), auth.Envelope{}, func(u node.Update) error { seen++; return nil })
	if seen != 1 || fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("%d updates, %v", seen, err)
	}
}

// TestHangUp: a client that goes away ends its watch at the backend, and so does the end of the agent.
func TestHangUp(t *testing.T) {
	t.Parallel()
	info := aCommand()
	b := &stub{updates: []node.Update{{Info: &info}}, stay: true, hungUp: make(chan struct{})}
	c := serve(t, b)
	enough := errors.New("enough")
	if err := c.Watch(t.Context(), auth.Envelope{}, func(node.Update) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	<-b.hungUp

	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	b.hungUp = make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, b, Options{}) }()
	err = Dial(path).Watch(t.Context(), auth.Envelope{}, func(node.Update) error { stop(); return nil })
	if fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("got %v", err)
	}
	<-b.hungUp
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestGuard: web pages, other hosts, too much and too strange bodies are refused, with the shape of an error.
func TestGuard(t *testing.T) {
	t.Parallel()
	routes := newDesk(&stub{}, Options{}).routes()
	for name, c := range map[string]struct {
		method, path, body string
		change             func(*http.Request)
		want               int
	}{
		"status for anyone":      {"GET", "/v1/status", "", nil, 200},
		"web page":               {"GET", "/v1/status", "", func(r *http.Request) { r.Header.Set("Origin", "http://evil") }, 403},
		"web page without cors":  {"GET", "/v1/status", "", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"rebound name":           {"GET", "/v1/status", "", func(r *http.Request) { r.Host = "evil.example" }, 403},
		"localhost":              {"GET", "/v1/status", "", func(r *http.Request) { r.Host = "localhost" }, 200},
		"caller without a name":  {"GET", "/v1/nodes", "", nil, 403},
		"stranger lists nodes":   {"GET", "/v1/nodes", "", as(12345), 403},
		"root lists nodes":       {"GET", "/v1/nodes", "", as(0), 200},
		"stranger takes it down": {"POST", "/v1/leave", "{}", as(12345), 403},
		"stranger posts":         {"POST", "/v1/entries", `{"entry":""}`, as(12345), 400},
		"stranger sees policy":   {"GET", "/v1/policy", "", as(12345), 403},
		"stranger sees groups":   {"GET", "/v1/groups", "", as(12345), 403},
		"stranger sees settings": {"GET", "/v1/settings", "", as(12345), 403},
		"stranger sees usage":    {"GET", "/v1/usage", "", as(12345), 403},
		"root sees usage":        {"GET", "/v1/usage", "", as(0), 200},
		"stranger asks why":      {"POST", "/v1/why/" + id("web01").Text(), `{"statement":""}`, as(12345), 400},
		"no node":                {"POST", "/v1/why/web01", `{"statement":"kA=="}`, nil, 400},
		"no order":               {"POST", "/v1/direct", `{"order":"kA=="}`, nil, 400},
		"no stream":              {"POST", "/v1/output/" + id("web01").Text(), `{"statement":"","stream":"x"}`, nil, 400},
		"no path":                {"GET", "/v2/status", "", nil, 404},
		"wrong method":           {"DELETE", "/v1/status", "", nil, 404},
		"no JSON":                {"POST", "/v1/entries", `x`, nil, 400},
		"unknown field":          {"POST", "/v1/read", `{"statement":"kA","more":1}`, nil, 400},
		"not canonical":          {"POST", "/v1/read", `{"statement":"gA=="}`, nil, 400},
		"two values":             {"POST", "/v1/read", `{"statement":""}{}`, nil, 400},
		"too much":               {"POST", "/v1/read", `{"statement":"` + strings.Repeat("A", maxStatementBody) + `"}`, nil, 429},
		"too large an entry":     {"POST", "/v1/entries", `{"entry":"` + strings.Repeat("A", maxEntryBody) + `"}`, nil, 429},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(c.method, "http://muster"+c.path, strings.NewReader(c.body))
			if c.change != nil {
				c.change(r)
			}
			w := httptest.NewRecorder()
			routes.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%d %s, want %d", w.Code, w.Body, c.want)
			}
			var failure shape.Failure
			if c.want != 200 && (shape.Unmarshal(w.Body.Bytes(), &failure) != nil || failure.Error.What == "") {
				t.Errorf("%s is no failure", w.Body)
			}
		})
	}
}

func as(uid uint32) func(*http.Request) {
	return func(r *http.Request) {
		*r = *r.WithContext(context.WithValue(r.Context(), callerKey{}, caller{uid: uid}))
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	const self, group = 100, 7
	for _, c := range []struct {
		who   caller
		need  need
		group bool
		want  bool
	}{
		{caller{uid: 0}, owner, false, true},
		{caller{uid: self}, owner, false, true},
		{caller{uid: 1, groups: []uint32{group}}, owner, true, false},
		{caller{uid: 1, groups: []uint32{3, group}}, member, true, true},
		{caller{uid: 1, groups: []uint32{3}}, member, true, false},
		{caller{uid: 1, groups: []uint32{0}}, member, false, false}, // no such group: its ID is not 0
		{caller{uid: 1}, anyone, false, true},
	} {
		err := c.who.admit(c.need, self, func() (uint32, bool) { return map[bool]uint32{true: group}[c.group], c.group })
		if (err == nil) != c.want {
			t.Errorf("%+v needs %d: %v", c.who, c.need, err)
		}
	}
}

// TestCaller: the kernel's word on a real connection.
func TestCaller(t *testing.T) {
	t.Parallel()
	l, err := Listen(filepath.Join(t.TempDir(), "a.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	who, err := callerOf(conn.(*net.UnixConn))
	if err != nil || who.uid != uint32(os.Getuid()) || len(who.groups) == 0 || who.groups[len(who.groups)-1] != uint32(os.Getgid()) {
		t.Errorf("got %+v, %v", who, err)
	}
}

// TestShare: one account cannot take all connections, root always gets one, and what is closed is given back.
func TestShare(t *testing.T) {
	t.Parallel()
	d := &door{open: map[uint32]int{}}
	for i := range maxPerUser {
		if !d.take(1) {
			t.Fatalf("refused at %d", i)
		}
	}
	if d.take(1) || !d.take(2) || !d.take(0) {
		t.Error("shares are not kept apart")
	}
	d.give(1)
	if !d.take(1) {
		t.Error("a share was not given back")
	}
	for uid := uint32(10); d.take(uid); uid++ {
	}
	if d.all > maxConnections+1 || !d.take(0) {
		t.Errorf("%d connections", d.all)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "a.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := Listen(path); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("a second agent: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as when the agent is killed
	first.Close()
	second, err := Listen(path)
	if err != nil {
		t.Fatalf("over a dead agent's socket: %v", err)
	}
	second.Close()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("over a file: %v", err)
	}
	if raw, _ := os.ReadFile(file); string(raw) != "precious" {
		t.Error("the file is gone")
	}
	long := filepath.Join(dir, strings.Repeat("x", 120))
	if _, err := Listen(long); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("long path: %v", err)
	}
	if _, err := Dial(long).Status(t.Context()); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("long path: %v", err)
	}
}

// TestNoAgent: what is said when nobody answers names the socket and the command that starts the agent.
func TestNoAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	_, err := Dial(path).Status(t.Context())
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || e.Kind != fleet.Unavailable || e.What != "no agent answers at "+path || e.Hint != "muster agent --data-dir "+dir {
		t.Errorf("got %#v", err)
	}
	for want, manager := range map[string]string{
		"sudo systemctl start muster; ": "/run/systemd/system", "sudo rc-service muster start; ": "/run/openrc/softlevel", "sudo muster agent; ": "",
	} {
		if hint := start("/run/muster/agent.sock", func(path string) bool { return path == manager }); !strings.HasPrefix(hint, want) {
			t.Errorf("%q: %s", manager, hint)
		}
	}
}

func ExampleDial() {
	c := Dial("/nowhere/agent.sock")
	_, err := c.Status(context.Background())
	fmt.Println(err)
	// Output: no agent answers at /nowhere/agent.sock
}

// faulty is a backend with a slip.
type faulty struct{ *stub }

func (faulty) Nodes(context.Context) []Node { panic("a slip") }

// A handler that panics fails its own request in words; the next is served.
func TestFaultOfTheAgentIsSaid(t *testing.T) {
	c := serve(t, faulty{&stub{}})
	for range 2 {
		if _, err := c.Nodes(t.Context()); fleet.KindOf(err) != fleet.Internal || !strings.Contains(err.Error(), "failed at /v1/nodes") {
			t.Fatal(err)
		}
	}
}
