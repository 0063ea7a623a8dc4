package session

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

// Config says where and how sessions are kept.
type Config struct {
	Dir      string // the data folder; the folders of sessions lie in it
	Log      *slog.Logger
	Self     []string // what re-executes this binary as a supervisor, for example {"/proc/self/exe", "supervise-session"}
	Copy     []string // argv of the far end of a copy; none: there are no copies
	Node     fleet.ID // for recordings
	NodeName func() string
	// Ended is told of every session that ended, once, also of one that ended while no agent ran; it may be told twice of one
	// around which the agent died. nil: nobody is. It is called by one goroutine per session.
	Ended func(node.SessionState)
	// Wants says of a session that has ended how many servers are to have copies of its recording; that is on the disk before
	// Ended is told. nil: none. It is called as Ended is.
	Wants func(node.SessionState) int
	Keep  cast.Keep            // which ended sessions stay; zero: cast.DefaultKeep
	Age   func() time.Duration // how long they stay, in place of Keep's; nil: Keep's
	Now   func() time.Time     // nil: time.Now

	// What follows is for this package's tests.
	timing  timing
	contain string
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.timing == (timing{}) {
		c.timing = usual()
	}
	if c.NodeName == nil {
		c.NodeName = func() string { return "" }
	}
	if c.Keep == (cast.Keep{}) {
		c.Keep = cast.DefaultKeep()
	}
	return c
}

// Sessions are those of this host that have a program: shells, programs, and the far ends of copies. Its methods may be called
// from any goroutine. Use Open, and Close it; that ends no session.
type Sessions struct {
	cfg  Config
	boot string
	home *os.File // locked

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	making sync.Mutex    // of the default account
	grown  chan struct{} // a session has ended; one at most waits

	mu        sync.Mutex
	closed    bool
	known     map[fleet.UUID]node.SessionState // slim, see Known
	tunnels   map[fleet.UUID]*tunnel           // that run: somebody else serves them, and tells of them
	lingering []fleet.UUID                     // ended, and some of their supervisors wait for their clients; the oldest first
	thinning  bool                             // somebody makes lingering shorter
}

// Open takes up the sessions in cfg.Dir: those whose supervisor lives are followed, those that ended meanwhile are told of,
// and of those whose supervisor died, what is left is killed.
func Open(cfg Config) (*Sessions, error) {
	cfg = cfg.withDefaults()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fleet.Errorf(fleet.Internal, "cannot read the host's boot ID: %w", err).Hinted("mount /proc")
	}
	path := filepath.Join(cfg.Dir, homeName)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fleet.Errorf(fleet.Internal, "cannot make the folder of sessions: %w", err)
	}
	home, err := os.Open(path)
	if err != nil {
		return nil, fleet.Errorf(fleet.Internal, "cannot open the folder of sessions: %w", err)
	}
	if !lockSoon(home) {
		home.Close()
		return nil, fleet.Errorf(fleet.Conflict, "another agent uses %s", path).Hinted("stop it first, or use another data folder")
	}
	s := &Sessions{cfg: cfg, boot: strings.TrimSpace(string(boot)), home: home, known: map[fleet.UUID]node.SessionState{}, tunnels: map[fleet.UUID]*tunnel{}, grown: make(chan struct{}, 1)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	for _, id := range s.all() {
		s.takeUp(id)
	}
	s.prune()
	s.wg.Go(s.pruneOften)
	return s, nil
}

// lockSoon waits a little for the lock: an agent that was killed is gone a moment later.
func lockSoon(f *os.File) bool {
	for range 100 {
		if cage.Lock(f) {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// Close stops following; every session goes on.
func (s *Sessions) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	_ = unix.Flock(int(s.home.Fd()), unix.LOCK_UN) // a process that is just being forked may have it open as well
	s.home.Close()
}

// takeUp follows a session that lives, and settles one that does not.
func (s *Sessions) takeUp(id fleet.UUID) {
	dir := s.folder(id)
	about, err := dir.about()
	alive := dir.alive()
	if err != nil && !alive { // its making was cut short: nothing of it began
		s.cfg.Log.Info("a session that was never begun is forgotten", "session", id.String(), "err", err)
		s.bury(id)
		os.RemoveAll(string(dir))
		return
	}
	about.State.ID = id // also where the note cannot be read, and the supervisor lives all the same
	e, unended := dir.end()
	if unended == nil && dir.told() {
		s.know(e.put(about.State))
		return
	}
	s.know(about.State)
	s.wg.Go(func() { s.follow(id, about) })
}

func (s *Sessions) folder(id fleet.UUID) folder {
	return folder(filepath.Join(s.cfg.Dir, homeName, id.String()))
}

// all lists the folders.
func (s *Sessions) all() []fleet.UUID {
	entries, err := os.ReadDir(filepath.Join(s.cfg.Dir, homeName))
	if err != nil {
		s.cfg.Log.Error("the sessions cannot be listed", "err", err)
		return nil
	}
	var out []fleet.UUID
	for _, e := range entries {
		if id, err := fleet.ParseUUID(e.Name()); err == nil {
			out = append(out, id)
		}
	}
	return out
}

// Open starts a session and returns when its program runs. Errors: NotFound for a user or a login shell that is not there,
// Denied where this agent cannot act as the user, Conflict for a session that was opened before, Exhausted for a full disk,
// Unavailable for want of a terminal, Invalid for a kind that has no program. A program that cannot be executed is no error:
// the session ends with the code that a shell would have.
func (s *Sessions) Open(ctx context.Context, o node.SessionOrder) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.wg.Done()
	if err := s.makeUser(ctx, o.User); err != nil {
		return err
	}
	work, err := s.order(o)
	if err != nil {
		return err
	}
	note := about{Format: noteFormat, State: o.State(), Opened: s.boot}
	if err := s.register(o); err != nil {
		return err
	}
	conn, err := s.launch(ctx, work, note)
	if err != nil {
		s.forget(o.ID)
		return err
	}
	s.wg.Go(func() {
		s.listen(conn)
		s.follow(o.ID, note)
	})
	return nil
}

// makeUser makes the account of sessions that name none, where it is missing.
func (s *Sessions) makeUser(ctx context.Context, name string) error {
	if name != node.DefaultSessionUser || os.Geteuid() != 0 {
		return nil
	}
	s.making.Lock()
	defer s.making.Unlock()
	return account.Make(ctx, name)
}

// order checks all that can be checked before anything is made.
func (s *Sessions) order(o node.SessionOrder) (order, error) {
	switch o.Kind {
	case auth.SessionShell:
		if len(o.Terminal) == 0 {
			return order{}, fleet.Errorf(fleet.Invalid, "a shell needs a terminal, and session %s has none", o.ID)
		}
	case auth.SessionExec:
		if len(o.Argv) == 0 {
			return order{}, fleet.Errorf(fleet.Invalid, "session %s says nothing to run", o.ID)
		}
	case auth.SessionCopy:
		if len(s.cfg.Copy) == 0 {
			return order{}, fleet.Errorf(fleet.Unavailable, "this agent copies no files")
		}
	case auth.SessionForward:
		return order{}, fleet.Errorf(fleet.Invalid, "session %s is a tunnel and has no program", o.ID)
	default:
		return order{}, fleet.Errorf(fleet.Invalid, "session %s is of a kind that this node does not know", o.ID)
	}
	who, drop, err := account.Resolve(o.User)
	if err != nil {
		return order{}, err
	}
	return order{Format: noteFormat, Session: o, Node: s.cfg.Node, NodeName: s.cfg.NodeName(), Account: who, Drop: drop, Copy: s.cfg.Copy,
		Contain: s.cfg.contain, Cgroup: cage.Name(string(s.folder(o.ID))), Timing: s.cfg.timing}, nil
}

// enter has Close wait for the caller.
func (s *Sessions) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fleet.Errorf(fleet.Unavailable, "this agent is stopping")
	}
	s.wg.Add(1)
	return nil
}

func (s *Sessions) register(o node.SessionOrder) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, is := s.known[o.ID]; is {
		return again(o.ID)
	}
	s.known[o.ID] = slim(o.State())
	return nil
}

// slim leaves out what can be long: a thousand sessions are remembered.
func slim(state node.SessionState) node.SessionState {
	state.Argv, state.Forward, state.Reason = nil, nil, ""
	state.Document = node.DocumentNames(state.Document)
	if state.Ended != 0 { // of one that runs, policy is asked about them again
		state.Paths = nil
	}
	return state
}

func (s *Sessions) know(state node.SessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[state.ID] = slim(state)
}

func again(id fleet.UUID) error {
	return fleet.Errorf(fleet.Conflict, "session %s was opened before", id).Hinted("open another one")
}

func (s *Sessions) forget(id fleet.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, id)
}

// Attach connects to a session that lives, or ended a moment ago: have is how many frames the client has taken, theirs how many
// the session has; flow follows both ways. The newest attachment wins, an older one is closed. NotFound: there is no such session
// of that key. Expired: it has ended, and nothing of it is left to say.
func (s *Sessions) Attach(ctx context.Context, id fleet.UUID, by fleet.ID, have uint64) (_ io.ReadWriteCloser, theirs uint64, err error) {
	about, err := s.folder(id).about()
	if err != nil || about.State.By != by {
		return nil, 0, node.NoSession(id)
	}
	conn, r, err := s.ask(ctx, id, ask{Kind: askAttach, Have: have})
	if err != nil {
		return nil, 0, s.explain(id, about, err)
	}
	return attachment{conn}, r.Have, nil
}

// attachment is a connection to a supervisor.
type attachment struct{ *net.UnixConn }

// Gone reports whether the supervisor has hung up, also while what it said before was not read.
func (a attachment) Gone() bool {
	raw, err := a.SyscallConn()
	if err != nil {
		return true
	}
	gone := true
	if err := raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(poll, 0)
		gone = err == nil && n > 0
	}); err != nil {
		return true
	}
	return gone
}

// explain says why a session cannot be reached.
func (s *Sessions) explain(id fleet.UUID, about about, err error) error {
	if e, gone := s.folder(id).end(); gone == nil {
		state := e.put(about.State)
		return fleet.Errorf(fleet.Expired, "session %s ended at %s: %s", id, time.UnixMilli(state.Ended).UTC().Format(time.DateTime+"Z"), endText(state))
	}
	if _, ok := errors.AsType[*fleet.Error](err); ok {
		return err
	}
	return fleet.Errorf(fleet.Unavailable, "session %s does not answer: %w", id, err)
}

func endText(state node.SessionState) string {
	why := ""
	if state.Why != "" {
		why = ", " + state.Why
	}
	if state.Signal != "" {
		return "signal " + state.Signal + why
	}
	return "exit " + itoa(state.Code) + why
}

// ask asks a supervisor. The caller closes the connection.
func (s *Sessions) ask(ctx context.Context, id fleet.UUID, a ask) (*net.UnixConn, reply, error) {
	conn, err := cage.Dial(string(s.folder(id)), socketName)
	if err != nil {
		return nil, reply{}, err
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	conn.SetDeadline(time.Now().Add(startPatience))
	var r reply
	if err = say(conn, a); err == nil {
		err = hear(conn, &r)
	}
	if err == nil {
		err = r.err()
	}
	if err != nil {
		conn.Close()
		return nil, r, err
	}
	conn.SetDeadline(time.Time{})
	return conn, r, nil
}

// Kill ends a session: SIGHUP, SIGTERM, SIGKILL. why is told to whoever is attached. It does not wait for the end. NotFound:
// there is no such session; Expired: it has ended.
func (s *Sessions) Kill(id fleet.UUID, why string) error {
	about, err := s.folder(id).about()
	if err != nil {
		return node.NoSession(id)
	}
	conn, _, err := s.ask(s.ctx, id, ask{Kind: askKill, Text: why[:min(len(why), maxWhy)]})
	if err != nil {
		return s.explain(id, about, err)
	}
	return conn.Close()
}

// Recording opens a session's recording as it is so far. NotFound: there is none.
func (s *Sessions) Recording(id fleet.UUID) (io.ReadCloser, error) {
	f, err := os.Open(s.folder(id).path(recordingName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fleet.Errorf(fleet.NotFound, "session %s has no recording on this node", id).Hinted("muster session show %s", id)
	}
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the recording of session %s cannot be read: %w", id, err)
	}
	return f, nil
}

// Get returns one session, running or ended. NotFound: there is none.
func (s *Sessions) Get(id fleet.UUID) (node.SessionState, error) {
	dir := s.folder(id)
	about, err := dir.about()
	if err != nil {
		return node.SessionState{}, node.NoSession(id)
	}
	if e, err := dir.end(); err == nil {
		return e.put(about.State), nil
	}
	state := about.State
	conn, r, err := s.ask(s.ctx, id, ask{Kind: askState})
	if err != nil { // it may have ended just now, or is about to be found dead
		if e, err := dir.end(); err == nil {
			return e.put(about.State), nil
		}
		state.Recording = dir.recorded()
		return state, nil
	}
	conn.Close()
	state.Active, state.Attached, state.In, state.Out = r.Active, r.Attached, r.In, r.Out
	state.Recording = node.SessionRecording{Bytes: r.Recorded, Sealed: r.Sealed && r.Recorded > 0}
	return state, nil
}

// List returns all sessions, running and ended, the newest first. It asks every supervisor.
func (s *Sessions) List() []node.SessionState {
	var mu sync.Mutex
	var out []node.SessionState
	var all sync.WaitGroup
	places := make(chan struct{}, askedAtOnce)
	for _, id := range s.all() {
		if s.servedElsewhere(id) {
			continue
		}
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if state, err := s.Get(id); err == nil {
				mu.Lock()
				defer mu.Unlock()
				out = append(out, state)
			}
		})
	}
	all.Wait()
	slices.SortFunc(out, newestFirst)
	return out
}

func (s *Sessions) servedElsewhere(id fleet.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tunnels[id] != nil
}

// askedAtOnce is how many supervisors are asked at a time: one that hangs holds up nobody.
const askedAtOnce = 16

func newestFirst(a, b node.SessionState) int {
	return cmp.Or(cmp.Compare(b.Started, a.Started), strings.Compare(a.ID.String(), b.ID.String()))
}

// Known returns the same sessions without asking anybody or reading anything, but for the locks of those that ended a moment
// ago: those that run as they began, and none of them with its Argv, Forward and Reason. It is what admitting one more session
// takes.
func (s *Sessions) Known() []node.SessionState {
	lingering := s.stillHere()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.SortedFunc(maps.Values(s.known), newestFirst)
	all = slices.DeleteFunc(all, func(state node.SessionState) bool { return s.tunnels[state.ID] != nil })
	for i := range all {
		all[i].Lingers = all[i].Ended != 0 && slices.Contains(lingering, all[i].ID)
	}
	return all
}
