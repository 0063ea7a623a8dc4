package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec/cage/cagetest"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/attach"
	"github.com/muster-fleet/muster/node/session/flow"
)

// The test binary also plays the supervisor, the far end of a copy, an agent that can be killed, and programs that hide.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "supervise-session":
			os.Exit(Supervise(os.Args[2:]))
		case "copy":
			io.Copy(os.Stdout, os.Stdin)
			os.Exit(0)
		case cagetest.HideArg:
			cagetest.Hide(os.Args[2])
		case cagetest.HiddenArg:
			cagetest.Hidden(os.Args[2])
		}
	}
	os.Exit(m.Run())
}

func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

func newID() (id fleet.UUID) {
	rand.Read(id[:])
	return id
}

var ann = fleet.Sum([]byte("ann's key"))

// brisk is the tests' timing: as usual, but for what a test would wait for.
func brisk() timing {
	return timing{Mercy: 200 * time.Millisecond, Linger: 200 * time.Millisecond, Stay: time.Minute, Stall: time.Minute}
}

// house is an agent's sessions, and who was told of which end.
type house struct {
	*Sessions
	t   testing.TB
	cfg Config

	mu   sync.Mutex
	told map[fleet.UUID][]node.SessionState
}

func open(t testing.TB, cfg Config) *house {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.timing == (timing{}) {
		cfg.timing = brisk()
	}
	cfg.Self, cfg.Copy = []string{self(t), "supervise-session"}, []string{"/proc/self/exe", "copy"}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	h := &house{t: t, told: map[fleet.UUID][]node.SessionState{}}
	cfg.Ended = func(s node.SessionState) {
		h.mu.Lock()
		h.told[s.ID] = append(h.told[s.ID], s)
		h.mu.Unlock()
	}
	h.cfg = cfg
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Sessions = s
	t.Cleanup(func() {
		for _, id := range h.all() {
			until(t, "the supervisor is gone", func() bool {
				_ = h.Kill(id, "the test is over") // those that live; then those that wait for their client
				return !h.folder(id).alive()
			})
		}
		h.Close()
		h.noComplaints()
	})
	return h
}

// noComplaints looks into what the supervisors wrote: a crash, or the race detector's finding.
func (h *house) noComplaints() {
	names, _ := filepath.Glob(filepath.Join(h.cfg.Dir, homeName, "*", errorsName))
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil && len(data) > 0 {
			h.t.Errorf("a supervisor complained: %s", data)
		}
	}
}

// reopen is a restart of the agent.
func (h *house) reopen() *house {
	h.t.Helper()
	h.Close()
	return open(h.t, h.cfg)
}

func order1(kind auth.SessionKind) node.SessionOrder {
	now := time.Now()
	return node.SessionOrder{ID: newID(), By: ann, Operator: "ann", Kind: kind, Opened: now.UnixMilli(), Expires: now.Add(time.Minute).UnixMilli(),
		Most: time.Hour.Milliseconds(), Grace: time.Minute.Milliseconds(), Record: node.RecordBestEffort}
}

// program1 is an order of a program without a terminal.
func program1(argv ...string) node.SessionOrder {
	o := order1(auth.SessionExec)
	o.Argv = argv
	return o
}

// onTerminal is an order of a program with one.
func onTerminal(argv ...string) node.SessionOrder {
	o := program1(argv...)
	o.Terminal = []auth.Terminal{{Name: "xterm", Rows: 24, Cols: 80}}
	return o
}

func (h *house) open(o node.SessionOrder) fleet.UUID {
	h.t.Helper()
	if err := h.Sessions.Open(h.t.Context(), o); err != nil {
		h.t.Fatalf("open: %v", err)
	}
	return o.ID
}

// ended waits until the end of a session is told.
func (h *house) ended(id fleet.UUID) (s node.SessionState) {
	h.t.Helper()
	until(h.t, "the end of a session is told", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, s = range h.told[id] {
			return true
		}
		return false
	})
	return s
}

// until polls for something that another process does without telling anybody.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited 30 s until %s", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// text is what somebody sees, while he sees it.
type text struct {
	mu   sync.Mutex
	b    bytes.Buffer
	each chan struct{} // nil: nobody waits for each Write
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.each != nil {
		x.each <- struct{}{}
	}
	return x.b.Write(p)
}

// tail is the end of it, for messages.
func (x *text) tail() string {
	all := x.String()
	return all[max(0, len(all)-500):]
}

// watched returns a channel that hears of each Write from now on.
func (x *text) watched() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.each = make(chan struct{}, 1000)
	return x.each
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// person is a client that is attached.
type person struct {
	t       testing.TB
	stdin   *io.PipeWriter
	out     *text
	errs    *text
	notices *text
	resizes chan flow.Resize
	signals chan flow.Signal
	leave   context.CancelFunc
	over    chan struct{}
	exit    flow.Exit
	err     error

	mu   sync.Mutex
	at   *house
	conn io.Closer // the newest
	gone bool      // no network
	lost int       // how many connections there were
}

// attach has somebody attached to a session, from its beginning.
func (h *house) attach(id fleet.UUID, terminal bool) *person {
	h.t.Helper()
	r, w := io.Pipe()
	p := &person{t: h.t, at: h, stdin: w, out: &text{}, errs: &text{}, notices: &text{}, resizes: make(chan flow.Resize), signals: make(chan flow.Signal), over: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	p.leave = cancel
	c := &attach.Client{Terminal: terminal, Stdin: r, Stdout: p.out, Stderr: p.errs, Resizes: p.resizes, Signals: p.signals,
		Notice: func(s string) { fmt.Fprintln(p.notices, s) },
		Open: func(ctx context.Context, have uint64) (io.ReadWriteCloser, uint64, error) {
			p.mu.Lock()
			gone, at := p.gone, p.at
			p.mu.Unlock()
			if gone {
				return nil, 0, fleet.Errorf(fleet.Unavailable, "no network")
			}
			conn, theirs, err := at.Attach(ctx, id, ann, have)
			if err == nil {
				p.mu.Lock()
				p.conn, p.lost = conn, p.lost+1
				p.mu.Unlock()
			}
			return conn, theirs, err
		}}
	go func() {
		defer close(p.over)
		p.exit, p.err = c.Run(ctx)
	}()
	h.t.Cleanup(func() {
		cancel()
		w.Close()
		<-p.over
	})
	return p
}

// cut ends the connection, and lets no other come until back.
func (p *person) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.conn.Close()
}

// moves has the next connection lead to another agent.
func (p *person) moves(to *house) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.gone = to, false
}

func (p *person) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *person) back() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = false
}

func (p *person) types(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *person) sees(want string) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("%q is seen", want), func() bool {
		select {
		case <-p.over:
			if !strings.Contains(p.out.String(), want) {
				p.t.Fatalf("the session ended (%+v, %v), and %q is not in %q %q", p.exit, p.err, want, p.out.tail(), p.errs.tail())
			}
		default:
		}
		return strings.Contains(p.out.String(), want)
	})
}

func (p *person) leaves() flow.Exit {
	p.t.Helper()
	select {
	case <-p.over:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("waited 30 s for the program's end; seen: %q %q", p.out.tail(), p.errs.tail())
	}
	if p.err != nil {
		p.t.Fatalf("the session could not go on: %v", p.err)
	}
	return p.exit
}
