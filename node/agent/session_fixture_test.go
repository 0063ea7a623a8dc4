package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// lobby is a host with sessions, and people before it: ada, who may do everything, and bob, who may have a shell.
type lobby struct {
	*Agent
	*authtest.Fleet
	t     *testing.T
	bob   auth.Signer
	shell *stubSessions
	peers *droppedPeers
	notes *stubDecisions
	far   *farEnd // where tunnels lead
	all   []*wireEnd
}

const lobbyPolicy = `
permit (principal in Team::"root", action, resource);
@id("bobs-shell") permit (principal in Team::"web", action == Action::"session", resource is Node) when { context.kind == "shell" };
`

// inLobby runs a test in virtual time. Nothing of the agent's may be left at its end.
func inLobby(t *testing.T, test func(t *testing.T, l *lobby)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := authtest.Found("lobby")
		time.Sleep(time.Until(f.Now) + time.Hour) // bubbles begin before the fixture's fleets
		f.Now = time.Now()
		l := &lobby{
			t: t, Fleet: f, bob: f.AddOperator("bob", "web"), shell: newStubSessions(), peers: &droppedPeers{},
			notes: &stubDecisions{}, far: &farEnd{},
		}
		f.SetPolicy(lobbyPolicy)
		began := time.Now()
		l.Agent = New(Config{
			Key: f.Nodes[0].Key, Fleet: f.ID(), Name: "node-0", Record: f.Record, Folder: &stubFolder{}, Log: slog.New(slog.DiscardHandler),
			Clock: func() auth.Instant { return auth.Instant{Wall: time.Now(), Boot: time.Hour + time.Since(began)} },
			SessionHost: func() node.SessionHost {
				return node.SessionHost{User: node.DefaultSessionUser, Roots: []string{"root"}}
			},
		})
		l.shell.ended = l.SessionEnded
		l.Attach(Shells{
			Peers: l.peers, Gossip: stubGossip{}, Runner: stubRunner{}, Decisions: l.notes, Sessions: l.shell, Dial: l.far.dial, Listen: l.far.listen,
		})
		defer func() {
			l.Agent.sessions.tunnels.close(time.Now())
			for _, s := range l.all {
				s.Close()
			}
			for _, c := range l.far.conns {
				c.Close()
			}
		}()
		test(t, l)
	})
}

// asks returns a session's body of a kind.
func (l *lobby) asks(kind auth.SessionKind) auth.Session {
	l.Fleet.Now = time.Now()
	s := auth.Session{Header: l.Header(auth.DefaultSessionLife), Node: l.self, Kind: kind}
	s.Header.Mode = auth.Direct
	switch kind {
	case auth.SessionShell:
		s.Terminal = []auth.Terminal{{Name: "xterm", Rows: 24, Cols: 80}}
	case auth.SessionExec:
		s.Argv = []string{"cat", "-"}
	case auth.SessionForward:
		s.Forward = []string{"10.0.0.5:5432"}
	case auth.SessionCopy:
		s.Paths = []string{"/srv/www/"}
	}
	return s
}

func (l *lobby) signed(by auth.Signer, purpose auth.Purpose, body any) []byte {
	return node.EncodeSession(by.Sign(purpose, l.ID(), body))
}

// says opens a stream as somebody, says one frame on it and returns the stream with the answer.
func (l *lobby) says(by fleet.ID, kind byte, body []byte) (*wireEnd, []byte, error) {
	l.t.Helper()
	near, far := newWire(by)
	l.all = append(l.all, near)
	go l.ServeSession(far)
	go func() { _ = near.WriteFrame(kind, body) }() // of what is too long, nobody reads all
	got, answer, err := near.ReadFrame()
	if err == nil && got != kind {
		l.t.Fatalf("a frame of kind %d is answered by one of kind %d", kind, got)
	}
	return near, answer, err
}

// open opens a session as ada and returns its stream and ID.
func (l *lobby) open(kind auth.SessionKind) (*wireEnd, fleet.UUID) {
	l.t.Helper()
	s := l.asks(kind)
	near, answer, err := l.says(l.Operator.ID(), node.SessionOpen, l.signed(l.Operator, auth.ForSession, s))
	if err != nil {
		l.t.Fatal(err)
	}
	opened := decoded[node.SessionOpened](l.t, answer)
	if opened.ID != s.Header.ID || opened.Node != "node-0" || opened.Grace == 0 || opened.Most == 0 {
		l.t.Fatalf("%+v", opened)
	}
	return near, opened.ID
}

func decoded[T node.SessionOpened | node.SessionAttached | node.SessionDialled | node.SessionAccepted | node.SessionAnswer](t *testing.T, data []byte) T {
	t.Helper()
	body, err := node.DecodeSession[T](data)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (l *lobby) attach(by fleet.ID, id fleet.UUID, have uint64) (*wireEnd, uint64, error) {
	l.t.Helper()
	near, answer, err := l.says(by, node.SessionAttach, node.EncodeSession(node.SessionAttaching{ID: id, Have: have}))
	if err != nil {
		return near, 0, err
	}
	return near, decoded[node.SessionAttached](l.t, answer).Have, nil
}

func (l *lobby) dials(id fleet.UUID, to string) (*wireEnd, error) {
	l.t.Helper()
	near, answer, err := l.says(l.Operator.ID(), node.SessionDial, node.EncodeSession(node.SessionDialling{ID: id, To: to}))
	if err == nil && decoded[node.SessionDialled](l.t, answer).Addr == "" {
		l.t.Fatal("nothing is said of where it leads")
	}
	return near, err
}

// kills ends a session as somebody.
func (l *lobby) kills(by auth.Signer, id fleet.UUID, reason string) (node.SessionState, error) {
	l.t.Helper()
	l.Fleet.Now = time.Now()
	h := l.Header(node.ReadLife)
	h.Mode = auth.Direct
	body := auth.SessionKill{Header: h, Node: l.self, Session: id, Reason: reason}
	_, answer, err := l.says(by.ID(), node.SessionKill, l.signed(by, auth.ForSessionKill, body))
	if err != nil {
		return node.SessionState{}, err
	}
	return decoded[node.SessionAnswer](l.t, answer).Sessions[0], nil
}

// reads asks what the host knows of sessions.
func (l *lobby) reads(by auth.Signer, what node.ReadWhat, id fleet.UUID) (*wireEnd, node.SessionAnswer, error) {
	l.t.Helper()
	l.Fleet.Now = time.Now()
	body := node.Read{Header: l.Header(node.ReadLife), What: what, Arg: id, Node: l.self}
	near, answer, err := l.says(by.ID(), node.SessionAsk, l.signed(by, auth.ForRequest, body))
	if err != nil {
		return near, node.SessionAnswer{}, err
	}
	return near, decoded[node.SessionAnswer](l.t, answer), nil
}

// learn lets the host have the newest record.
func (l *lobby) learn() {
	p := *l.picture.Load()
	p.record = l.Fleet.Record
	l.picture.Store(&p)
	l.grown.tell()
}

// wireEnd is one end of a stream in memory.
type wireEnd struct {
	peer   fleet.ID
	r      *io.PipeReader
	w      *io.PipeWriter
	ctx    context.Context // ends when nothing more can be written
	ended  context.CancelFunc
	other  *wireEnd
	reads  sync.Mutex
	header [5]byte
	alarm  *time.Timer
	limit  time.Time     // of a Write
	under  chan error    // the end of a Write whose time was over and that is still under way; the next one goes on with it
	took   *atomic.Int64 // bytes that were taken of it, and not told yet
}

var errAborted = errors.New("the peer broke the stream off")

// newWire returns the operator's end of a stream, and the agent's.
func newWire(by fleet.ID) (near, far *wireEnd) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	near, far = &wireEnd{r: r1, w: w2}, &wireEnd{peer: by, r: r2, w: w1}
	near.ctx, near.ended = context.WithCancel(context.Background())
	far.ctx, far.ended = context.WithCancel(context.Background())
	near.other, far.other = far, near
	return near, far
}

func (e *wireEnd) Peer() fleet.ID             { return e.peer }
func (e *wireEnd) Context() context.Context   { return e.ctx }
func (e *wireEnd) Addr() netip.AddrPort       { return netip.MustParseAddrPort("10.9.9.9:40000") }
func (e *wireEnd) Read(p []byte) (int, error) { return e.r.Read(p) }
func (e *wireEnd) CloseWrite() error          { e.ended(); return e.w.Close() }

func (e *wireEnd) Write(p []byte) (int, error) {
	if e.limit.IsZero() {
		return e.w.Write(p)
	}
	if e.under == nil {
		e.under, e.took = make(chan error, 1), new(atomic.Int64)
		go func(under chan<- error, took *atomic.Int64) {
			for i := range p { // byte by byte: who gives up is told how much was taken
				if _, err := e.w.Write(p[i : i+1]); err != nil {
					under <- err
					return
				}
				took.Add(1)
			}
			under <- nil
		}(e.under, e.took)
	}
	select {
	case err := <-e.under:
		e.under = nil
		return int(e.took.Swap(0)), err
	case <-time.After(time.Until(e.limit)):
		return int(e.took.Swap(0)), os.ErrDeadlineExceeded
	}
}

func (e *wireEnd) SetWriteDeadline(at time.Time) error {
	e.limit = at
	return nil
}

func (e *wireEnd) Close() error {
	e.ended()
	e.other.ended()
	_ = e.w.Close()
	return e.r.Close()
}

func (e *wireEnd) Abort() {
	e.ended()
	e.other.ended()
	_ = e.w.CloseWithError(errAborted)
	_ = e.r.CloseWithError(errAborted)
}

func (e *wireEnd) WriteFrame(kind byte, body []byte) error {
	_, err := e.Write(append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body))), body...))
	return err
}

func (e *wireEnd) WriteError(err error) error {
	return e.WriteFrame(0xff, []byte(fleet.KindOf(err).String()+"|"+err.Error()))
}

func (e *wireEnd) SetReadDeadline(at time.Time) error {
	if e.alarm != nil {
		e.alarm.Stop()
	}
	if !at.IsZero() {
		e.alarm = time.AfterFunc(time.Until(at), func() { _ = e.other.w.CloseWithError(os.ErrDeadlineExceeded) })
	}
	return nil
}

func (e *wireEnd) ReadFrame() (byte, []byte, error) { return e.ReadFrameOf(512 << 10) }

func (e *wireEnd) ReadFrameOf(most int) (byte, []byte, error) {
	e.reads.Lock()
	defer e.reads.Unlock()
	if _, err := io.ReadFull(e, e.header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(e.header[1:])
	if size > uint32(most) {
		return 0, nil, fleet.Errorf(fleet.Exhausted, "frame of %d bytes; at most %d", size, most)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(e, body); err != nil {
		return 0, nil, err
	}
	if e.header[0] == 0xff {
		kind, text, _ := strings.Cut(string(body), "|")
		return 0, nil, &fleet.Error{Kind: fleet.ParseKind(kind), What: text}
	}
	return e.header[0], body, nil
}

// talk writes and reads back.
func (e *wireEnd) talk(t *testing.T, say, hear string) {
	t.Helper()
	if _, err := e.Write([]byte(say)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(hear))
	if _, err := io.ReadFull(e, got); err != nil || string(got) != hear {
		t.Fatalf("%q, %v; want %q", got, err, hear)
	}
}

// stubSessions runs nothing: whatever is attached is answered in capitals.
type stubSessions struct {
	mu             sync.Mutex
	orders         []node.SessionOrder
	states         map[fleet.UUID]node.SessionState
	open           map[fleet.UUID]net.Conn // the supervisor's ends
	have           uint64                  // of the last attachment
	fails          error                   // of Open
	killed         map[fleet.UUID]string
	slow           time.Duration // that Open takes
	recorded       string
	conns          []node.SessionConnection // of tunnels, that have ended
	ended          func(node.SessionState)
	recordingFails error // behind what was recorded
}

func newStubSessions() *stubSessions {
	return &stubSessions{states: map[fleet.UUID]node.SessionState{}, open: map[fleet.UUID]net.Conn{}, killed: map[fleet.UUID]string{}}
}

func (s *stubSessions) Open(_ context.Context, o node.SessionOrder) error {
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return s.fails
	}
	s.orders, s.states[o.ID] = append(s.orders, o), o.State()
	return nil
}

func (s *stubSessions) Attach(_ context.Context, id fleet.UUID, by fleet.ID, have uint64) (io.ReadWriteCloser, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.states[id].By != by {
		return nil, 0, node.NoSession(id)
	}
	if older := s.open[id]; older != nil {
		older.Close()
	}
	near, far := net.Pipe()
	gone := &atomic.Bool{}
	s.open[id], s.have = far, have
	go func() {
		defer gone.Store(true)
		buf := make([]byte, 4096)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			if _, err := far.Write([]byte(strings.ToUpper(string(buf[:n])))); err != nil {
				return
			}
		}
	}()
	return goneConn{near, gone}, have + 7, nil
}

func (s *stubSessions) OpenTunnel(o node.SessionOrder) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fails
}

func (s *stubSessions) TunnelConnection(id fleet.UUID, c node.SessionConnection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
}

func (s *stubSessions) EndTunnel(state node.SessionState) {
	s.mu.Lock()
	s.states[state.ID] = state
	s.mu.Unlock()
	s.ended(state)
}

// connections returns what was recorded so far.
func (s *stubSessions) connections() []node.SessionConnection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns)
}

func (s *stubSessions) Known() []node.SessionState { return s.List() }

func (s *stubSessions) Get(id fleet.UUID) (node.SessionState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state, ok := s.states[id]; ok {
		return state, nil
	}
	return node.SessionState{}, node.NoSession(id)
}

func (s *stubSessions) List() (out []node.SessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, state := range s.states {
		out = append(out, state)
	}
	return out
}

func (s *stubSessions) Kill(id fleet.UUID, by string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.states[id]
	state.Ended, state.Why = time.Now().UnixMilli(), by
	s.states[id], s.killed[id] = state, by
	if conn := s.open[id]; conn != nil {
		conn.Close()
	}
	return nil
}

// why returns what a session was killed with; empty: it was not.
func (s *stubSessions) why(id fleet.UUID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killed[id]
}

func (s *stubSessions) Recording(fleet.UUID) (io.ReadCloser, error) {
	if s.recordingFails != nil {
		return io.NopCloser(io.MultiReader(strings.NewReader(s.recorded), iotest.ErrReader(s.recordingFails))), nil
	}
	return io.NopCloser(strings.NewReader(s.recorded)), nil
}

// droppedPeers notes whom the agent dropped.
type droppedPeers struct {
	stubPeers
	mu      sync.Mutex
	dropped []fleet.ID
	answer  func(kind byte) (byte, []byte, error)
}

func (p *droppedPeers) Drop(id fleet.ID, _ string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped = append(p.dropped, id)
}

func (p *droppedPeers) Request(_ context.Context, _ fleet.ID, kind byte, _ []byte) (byte, []byte, error) {
	if p.answer == nil {
		return 0, nil, fleet.Errorf(fleet.Unavailable, "nobody answers")
	}
	return p.answer(kind)
}

func (p *droppedPeers) has(id fleet.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.dropped, id)
}

// stubDecisions keeps lines.
type stubDecisions struct {
	mu  sync.Mutex
	all map[fleet.UUID][]string
}

func (d *stubDecisions) Put(id fleet.UUID, x exec.Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = map[fleet.UUID][]string{}
	}
	d.all[id] = append(d.all[id], x.What+" "+x.Detail)
}

func (d *stubDecisions) Of(fleet.UUID) ([]exec.Decision, error) { return nil, nil }

// of returns what was decided about a session, in one text.
func (d *stubDecisions) of(id fleet.UUID) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.all[id], "\n")
}

// farEnd is what tunnels lead to.
type farEnd struct {
	mu    sync.Mutex
	asked []string
	err   error
	conns []*tcpEnd // this end of each connection, in order
	ports map[string]*port
}

func (f *farEnd) dial(_ context.Context, to string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, to)
	if f.err != nil {
		return nil, f.err
	}
	near, far := newTCP()
	f.conns = append(f.conns, far)
	return near, nil
}

func (f *farEnd) last() *tcpEnd {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns[len(f.conns)-1]
}

// listen listens in memory, at each place once.
func (f *farEnd) listen(at string) (net.Listener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if strings.HasSuffix(at, ":0") {
		at = strings.TrimSuffix(at, "0") + strconv.Itoa(40_000+len(f.ports))
	}
	if f.ports[at] != nil {
		return nil, &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}
	}
	p := &port{f: f, at: at, queue: make(chan net.Conn, 100), over: make(chan struct{})}
	if f.ports == nil {
		f.ports = map[string]*port{}
	}
	f.ports[at] = p
	return p, nil
}

// connects is somebody who connects to where the host listens; nil: nothing does there.
func (f *farEnd) connects(at string) *tcpEnd {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.ports[at]
	if p == nil {
		return nil
	}
	near, far := newTCP()
	p.queue <- near
	f.conns = append(f.conns, far)
	return far
}

// port is a listener in memory.
type port struct {
	f     *farEnd
	at    string
	queue chan net.Conn
	over  chan struct{}
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.queue:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	delete(p.f.ports, p.at)
	close(p.over)
	return nil
}

func (p *port) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(p.at)) }

// tcpEnd is one end of a connection as TCP makes them: each direction has an end of its own, and may break.
type tcpEnd struct {
	*wireEnd
	mu     sync.Mutex
	linger bool
}

func newTCP() (near, far *tcpEnd) {
	a, b := newWire(fleet.ID{})
	return &tcpEnd{wireEnd: a}, &tcpEnd{wireEnd: b}
}

func (c *tcpEnd) SetLinger(sec int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.linger = sec == 0
	return nil
}

func (c *tcpEnd) Close() error {
	c.mu.Lock()
	broken := c.linger
	c.mu.Unlock()
	if broken {
		c.Abort()
		return nil
	}
	return c.wireEnd.Close()
}

func (c *tcpEnd) LocalAddr() net.Addr { return c.RemoteAddr() }
func (c *tcpEnd) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.5:5432"))
}
func (c *tcpEnd) SetDeadline(time.Time) error      { return nil }
func (c *tcpEnd) SetReadDeadline(time.Time) error  { return nil }
func (c *tcpEnd) SetWriteDeadline(time.Time) error { return nil }

func wantKind(t *testing.T, err error, kind fleet.Kind, says string) {
	t.Helper()
	if err == nil || fleet.KindOf(err) != kind || !strings.Contains(err.Error(), says) {
		t.Errorf("%v (%s); want %s with %q", err, fleet.KindOf(err), kind, says)
	}
}
