package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
	"github.com/muster-fleet/muster/node/session/copy/talk"
	"github.com/muster-fleet/muster/node/session/flow"
	"github.com/muster-fleet/muster/node/session/line"
	"github.com/muster-fleet/muster/node/transport"
)

// Node is what the agent says of one node.
func (w *town) Node(ctx context.Context, text string) (api.Node, error) {
	return newRoll(w.Nodes(ctx)).find(text)
}

// Sessions is empty: no test looks at those of the agent's own host.
func (w *town) Sessions(context.Context) []node.SessionState { return nil }

var _ api.SessionsBackend = (*town)(nil)

// door is where one node of a town takes sessions, over true QUIC, judged as a true node judges. Its programs run here, as
// whoever runs the tests.
type door struct {
	w      *town
	node   *auth.Node
	end    *transport.Endpoint
	folder string

	mu     sync.Mutex
	guests map[fleet.UUID]*guest
	links  map[*transport.Stream]bool // that carry a session's flow
	refuse error                      // what every dial and attachment gets
}

// guest is one session.
type guest struct {
	by    fleet.ID
	state node.SessionState
	line  *line.End
	kill  func()
	cast  *cast.Writer
	over  chan struct{} // of a tunnel: closed when it is killed
	ears  []*net.TCPListener
}

// openDoors lets all nodes take sessions, until t ends.
func (w *town) openDoors(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range w.state.Record.Roster.All() {
		w.doors[n.ID] = w.newDoor(t, n)
	}
}

// newDoor opens a door of a node, until t ends.
func (w *town) newDoor(t testing.TB, n *auth.Node) *door {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	d := &door{w: w, node: n, folder: t.TempDir(), guests: map[fleet.UUID]*guest{}, links: map[*transport.Stream]bool{}}
	if err := os.Mkdir(filepath.Join(d.folder, ".sessions"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.end, err = transport.New(transport.Config{
		Conn: conn, Key: ed25519.NewKeyFromSeed(w.seeds[n.ID]), Fleet: w.who.Fleet, Gate: d,
		Addrs: func(fleet.ID) []netip.AddrPort { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.end.Handle(transport.Session, d.serve)
	if err := d.end.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.end.Close()
		d.killAll()
	})
	return d
}

func (d *door) killAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.guests {
		g.kill()
		if g.line != nil {
			g.line.Close()
		}
	}
}

func (d *door) Prove(transport.Plane) []byte { return d.node.Enrolment.Encode() }

func (d *door) Admit(peer fleet.ID, plane transport.Plane, _ []byte) error {
	return d.Allow(peer, plane)
}

func (d *door) Allow(peer fleet.ID, _ transport.Plane) error {
	_, err := d.record().Charter.Current(peer, time.Now())
	return err
}

func (d *door) record() auth.Record {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	return d.w.state.Record
}

func (d *door) host() node.SessionHost {
	return node.SessionHost{Self: d.node.ID, User: node.DefaultSessionUser}
}

func (d *door) serve(s *transport.Stream) {
	defer s.Close()
	kind, body, err := s.ReadFrame()
	if err == nil {
		err = d.answer(s, kind, body)
	}
	if err != nil {
		_ = s.WriteError(err)
	}
}

func (d *door) answer(s *transport.Stream, kind byte, body []byte) error {
	switch kind {
	case node.SessionOpen:
		return d.open(s, body)
	case node.SessionAttach:
		return d.attach(s, body)
	case node.SessionDial:
		return d.dial(s, body)
	case node.SessionAccept:
		return d.accept(s, body)
	case node.SessionAsk:
		return d.ask(s, body)
	case node.SessionDocument:
		return d.document(s, body)
	case node.SessionKill:
		return d.kill(s, body)
	case node.SessionAPI:
		return d.serveAPI(s)
	}
	return fleet.Errorf(fleet.Invalid, "kind %d", kind)
}

// serveAPI answers as an agent does. All nodes of a town have the one API.
func (d *door) serveAPI(s *transport.Stream) error {
	if err := s.WriteFrame(node.SessionAPI, nil); err != nil {
		return nil
	}
	stands := func() error { return d.Allow(s.Peer(), transport.Session) }
	large := func(context.Context) (func(), bool) { return func() {}, true }
	if d.w.api.Admit(s.Context(), s, api.Operator{Key: s.Peer(), Stands: stands, Large: large}) != nil {
		s.Abort()
	}
	return nil
}

func (d *door) open(s *transport.Stream, body []byte) error {
	signed, err := node.DecodeSessionStatement(node.SessionOpen, body)
	if err != nil {
		return err
	}
	order, err := node.JudgeSessionBy(signed, d.publications(), d.record(), s.Peer(), d.host(), time.Now())
	if err != nil {
		return err
	}
	g := &guest{by: order.By, state: order.State(), kill: func() {}}
	if order.Kind == auth.SessionForward {
		g.over = make(chan struct{})
		g.kill = sync.OnceFunc(func() { g.deafen(); close(g.over) })
		if g.state.Listening, err = g.listenFor(order.Listen); err != nil {
			return err
		}
	} else if err := d.begin(g, order); err != nil {
		return err
	}
	d.mu.Lock()
	d.guests[order.ID] = g
	d.mu.Unlock()
	opened := node.SessionOpened{ID: order.ID, Node: d.node.Name, User: order.User, Idle: order.Idle, Most: order.Most, Grace: order.Grace, Recorded: g.cast != nil, Listening: g.state.Listening}
	if err := s.WriteFrame(node.SessionOpen, node.EncodeSession(opened)); err != nil {
		return nil
	}
	if g.line == nil {
		return d.stay(s, g)
	}
	d.carry(s, g, g.line.Turn(), 0)
	return nil
}

// stay waits until a tunnel or its stream ends.
func (d *door) stay(s *transport.Stream, g *guest) error {
	d.mu.Lock()
	d.links[s] = true
	d.mu.Unlock()
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = s.Read(make([]byte, 1))
	}()
	select {
	case <-left:
		return nil
	case <-g.over:
		return d.ended(g)
	}
}

func (d *door) ended(g *guest) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g.state.Ended == 0 {
		return nil
	}
	return fleet.Errorf(fleet.Expired, "session %s has ended: %s", g.state.ID, g.state.Why)
}

// killTunnels ends all tunnels.
func (d *door) killTunnels(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.guests {
		g.state.Ended, g.state.Why = time.Now().UnixMilli(), why
		g.kill()
	}
}

// forget is what the restart of an agent does to tunnels.
func (d *door) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.guests {
		g.deafen()
	}
	clear(d.guests)
	for s := range d.links {
		s.Close()
	}
}

// carry is what ends when a test cuts the lines.
func (d *door) carry(s *transport.Stream, g *guest, turn *line.Turn, theirs uint64) {
	d.mu.Lock()
	d.links[s] = true
	g.state.Attached = true
	d.mu.Unlock()
	_ = turn.Serve(s, theirs)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.links, s)
	g.state.Attached = false
}

// cut ends every connection that carries a session.
func (d *door) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.links {
		s.Close()
	}
}

// refuses answers every dial and attachment with err from now on; nil: with what it asks for.
func (d *door) refuses(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = err
}

func (d *door) find(id fleet.UUID) (*guest, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.guests[id]
	if g == nil {
		return nil, node.NoSession(id)
	}
	return g, nil
}

func (d *door) attach(s *transport.Stream, body []byte) error {
	want, err := node.DecodeSession[node.SessionAttaching](body)
	if err != nil {
		return err
	}
	g, err := d.find(want.ID)
	if err != nil {
		return err
	}
	if g.by != s.Peer() {
		return node.NoSession(want.ID)
	}
	d.mu.Lock()
	refuse := d.refuse
	d.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	if g.line == nil {
		if err := s.WriteFrame(node.SessionAttach, node.EncodeSession(node.SessionAttached{})); err != nil {
			return nil
		}
		return d.stay(s, g)
	}
	turn := g.line.Turn()
	if err := s.WriteFrame(node.SessionAttach, node.EncodeSession(node.SessionAttached{Have: turn.Taken()})); err != nil {
		return nil
	}
	d.carry(s, g, turn, want.Have)
	return nil
}

func (d *door) dial(s *transport.Stream, body []byte) error {
	want, err := node.DecodeSession[node.SessionDialling](body)
	if err != nil {
		return err
	}
	g, err := d.find(want.ID)
	if err == nil {
		err = g.state.MayDial(want.To)
	}
	if err == nil {
		err = d.ended(g)
	}
	if err == nil {
		d.mu.Lock()
		err = d.refuse
		d.mu.Unlock()
	}
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", want.To)
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "%s does not take the connection: %w", want.To, err)
	}
	if err := s.WriteFrame(node.SessionDial, node.EncodeSession(node.SessionDialled{Addr: conn.RemoteAddr().String()})); err != nil {
		conn.Close()
		return nil
	}
	_ = splice(conn.(half), s)
	return nil
}

func (d *door) states() []node.SessionState {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []node.SessionState
	for _, g := range d.guests {
		out = append(out, g.state)
	}
	return out
}

func (d *door) ask(s *transport.Stream, body []byte) error {
	signed, err := node.DecodeSessionStatement(node.SessionAsk, body)
	if err != nil {
		return err
	}
	read, reader, err := node.JudgeSessionRead(signed, d.record(), s.Peer(), d.host(), time.Now())
	if err != nil {
		return err
	}
	answer, err := node.AnswerSessions(read, reader, d.states())
	if err != nil {
		return err
	}
	if err := s.WriteFrame(node.SessionAsk, node.EncodeSession(answer)); err != nil || read.What != node.ReadRecording {
		return nil
	}
	file, err := os.Open(d.recording(read.Arg))
	if err != nil {
		return nil
	}
	defer file.Close()
	_, _ = io.Copy(s, file)
	return nil
}

func (d *door) recording(id fleet.UUID) string {
	return filepath.Join(d.folder, ".sessions", id.String())
}

func (d *door) kill(s *transport.Stream, body []byte) error {
	signed, err := node.DecodeSessionStatement(node.SessionKill, body)
	if err != nil {
		return err
	}
	state, by, err := node.JudgeSessionKill(signed, d.record(), d.host(), func(id fleet.UUID) (node.SessionState, bool) {
		g, err := d.find(id)
		if err != nil {
			return node.SessionState{}, false
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return g.state, true
	}, time.Now())
	if err != nil {
		return err
	}
	g, err := d.find(state.ID)
	if err != nil {
		return err
	}
	d.mu.Lock()
	if g.state.Ended == 0 {
		g.state.Ended, g.state.Why = time.Now().UnixMilli(), by
	}
	state = g.state
	d.mu.Unlock()
	g.kill()
	return s.WriteFrame(node.SessionKill, node.EncodeSession(node.SessionAnswer{Sessions: []node.SessionState{state}}))
}

// begin runs a session's program.
func (d *door) begin(g *guest, order node.SessionOrder) error {
	argv := order.Argv
	switch { // as true nodes have it
	case order.Kind == auth.SessionShell:
		argv = []string{"/bin/sh"}
	case order.Kind == auth.SessionCopy:
		argv = append([]string{"muster", copyWord}, talk.Grant{Put: order.Put, Deep: order.Deep, Paths: order.Paths}.Words()...) // testscript.Main has put it into the path
	case len(argv) == 1:
		argv = []string{"/bin/sh", "-c", argv[0]}
	}
	cmd := osexec.Command(argv[0], argv[1:]...)
	cmd.Dir = d.folder
	cmd.Env = append(append(os.Environ(), "PS1=$ ", "USER="+order.User, "HOME="+d.folder), order.Env...)
	p := program{door: d, guest: g, cmd: cmd}
	var err error
	g.cast, err = cast.Create(d.recording(order.ID), cast.Header{
		Session: order.ID, Node: d.node.ID, NodeName: d.node.Name, Operator: order.Operator, By: order.By, User: order.User,
		Kind: order.Kind.String(), Argv: order.Argv, Start: time.Now(),
	}, cast.Options{})
	if err != nil {
		return err
	}
	g.line = line.New(flow.ToProgram, flow.Window(len(order.Terminal) > 0), p.urgent)
	if len(order.Terminal) > 0 {
		err = p.onTerminal(order.Terminal[0])
	} else {
		err = p.onPipes()
	}
	if err != nil { // as a true node has it
		why := "command not found: " + argv[0]
		g.state.Ended, g.state.Code, g.state.Why = time.Now().UnixMilli(), 127, why
		return g.line.Push(context.Background(), flow.Exit{Code: 127, Why: why})
	}
	g.kill = func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	go p.wait()
	return nil
}

// program is what runs in a session.
type program struct {
	*door
	*guest
	cmd      *osexec.Cmd
	terminal *os.File
	outputs  sync.WaitGroup
}

func (p *program) onTerminal(t auth.Terminal) error {
	p.cmd.Env = append(p.cmd.Env, "TERM="+t.Name)
	terminal, err := startOn(p.cmd, t.Rows, t.Cols)
	if err != nil {
		return err
	}
	p.terminal = terminal
	p.outputs.Go(func() { p.pump(terminal, func(b []byte) flow.Frame { return flow.Output(b) }) })
	go p.feed(terminal)
	return nil
}

func (p *program) onPipes() error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	p.cmd.Stdout, p.cmd.Stderr = outWrite, errWrite
	err = p.cmd.Start()
	outWrite.Close()
	errWrite.Close()
	if err != nil {
		return err
	}
	p.outputs.Go(func() { p.pump(outRead, func(b []byte) flow.Frame { return flow.Output(b) }) })
	p.outputs.Go(func() { p.pump(errRead, func(b []byte) flow.Frame { return flow.ErrorOutput(b) }) })
	go p.feed(in)
	return nil
}

func (p *program) pump(from *os.File, frame func([]byte) flow.Frame) {
	defer from.Close()
	b := make([]byte, flow.MaxPayload)
	for {
		n, err := from.Read(b)
		if n > 0 {
			_ = p.cast.Output(b[:n])
			if p.line.Push(context.Background(), frame(b[:n])) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *program) feed(to io.WriteCloser) {
	defer func() {
		if p.terminal == nil {
			to.Close()
		}
	}()
	for {
		number, f, err := p.line.Next(context.Background())
		if err != nil {
			return
		}
		if in, ok := f.(flow.Input); ok {
			_, _ = to.Write(in)
		}
		p.line.Done(number)
		if f == (flow.EndOfInput{}) {
			return
		}
	}
}

func (p *program) urgent(f flow.Frame) bool {
	switch f := f.(type) {
	case flow.Resize:
		_ = resize(p.terminal, f.Rows, f.Cols)
		return true
	case flow.Signal:
		_ = syscall.Kill(-p.cmd.Process.Pid, unix.SignalNum("SIG"+string(f)))
		return true
	}
	return false
}

func (p *program) wait() {
	err := p.cmd.Wait()
	p.outputs.Wait()
	exit := flow.Exit{}
	if failed, ok := errors.AsType[*osexec.ExitError](err); ok {
		status := failed.Sys().(syscall.WaitStatus)
		exit.Code = int32(status.ExitStatus())
		if status.Signaled() {
			exit.Signal = strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
		}
	}
	sum, _ := p.cast.Close(cast.End{Code: exit.Code, Signal: exit.Signal})
	p.door.mu.Lock()
	exit.Why = p.state.Why
	if p.state.Ended == 0 {
		p.state.Ended = time.Now().UnixMilli()
	}
	p.state.Code, p.state.Signal, p.state.Recording = exit.Code, exit.Signal, node.SessionRecording{Bytes: sum.Bytes, Digest: sum.Digest}
	p.door.mu.Unlock()
	_ = p.line.Push(context.Background(), exit)
}
