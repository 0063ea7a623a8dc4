package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// pretender is somebody at an address who has a fleet's acts, which every operator may read, and perhaps no more: it answers as
// an agent does, and lies.
type pretender struct {
	*town
	seed  []byte // of its key
	proof []byte // what it shows
	lie   func(api.Acts) api.Acts
	ahead time.Duration // of its clock
	let   func(fleet.ID) error
	asked atomic.Int64 // things beside the record
}

func (p *pretender) Acts(ctx context.Context, from uint64) (api.Acts, error) {
	acts, err := p.town.Acts(ctx, from)
	if p.lie != nil {
		acts = p.lie(acts)
	}
	return acts, err
}

func (p *pretender) Status(ctx context.Context) node.Status {
	p.asked.Add(1)
	s := p.town.Status(ctx)
	s.Now = s.Now.Add(p.ahead)
	return s
}

func (p *pretender) Nodes(ctx context.Context) []api.Node {
	p.asked.Add(1)
	return p.town.Nodes(ctx)
}

func (p *pretender) Prove(transport.Plane) []byte { return p.proof }

func (p *pretender) Admit(peer fleet.ID, plane transport.Plane, _ []byte) error {
	return p.Allow(peer, plane)
}

func (p *pretender) Allow(peer fleet.ID, _ transport.Plane) error {
	if p.let != nil {
		return p.let(peer)
	}
	return nil
}

// listen answers at the address that it returns, until t ends.
func (p *pretender) listen(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	end, err := transport.New(transport.Config{
		Conn: conn, Key: ed25519.NewKeyFromSeed(p.seed), Fleet: p.who.Fleet, Gate: p, Addrs: func(fleet.ID) []netip.AddrPort { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	door := api.NewOperators()
	end.Handle(transport.Session, func(s *transport.Stream) {
		defer s.Close()
		if kind, _, err := s.ReadFrame(); err != nil || kind != node.SessionAPI || s.WriteFrame(kind, nil) != nil {
			return
		}
		large := func(context.Context) (func(), bool) { return func() {}, true }
		_ = door.Admit(s.Context(), s, api.Operator{Key: s.Peer(), Stands: func() error { return nil }, Large: large})
	})
	if err := end.Start(); err != nil {
		t.Fatal(err)
	}
	l, err := api.Listen(filepath.Join(t.TempDir(), "a.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, p, api.Options{Operators: door}) }()
	t.Cleanup(func() {
		stop()
		end.Close()
		<-served
	})
	return end.LocalAddr().String()
}

// pretend makes one that has a node's key.
func (w *town) pretend(name string) *pretender {
	n := w.byName(name)
	return &pretender{town: w, seed: w.seeds[n.ID], proof: n.Enrolment.Encode()}
}

// laptop is a person's computer, with their key and nothing else of the fleet.
type laptop struct {
	t    *testing.T
	home string
	env  map[string]string
}

func newLaptop(t *testing.T, who identity) *laptop {
	t.Helper()
	home := t.TempDir()
	l := &laptop{t, home, map[string]string{"HOME": home, "MUSTER_IDENTITY": filepath.Join(home, "op.key")}}
	if err := l.app(nil, nil).writeIdentity(l.env["MUSTER_IDENTITY"], who); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *laptop) app(stdout, stderr *bytes.Buffer) *app {
	return &app{
		stdin: strings.NewReader(""), stdout: stdout, stderr: stderr, getenv: func(name string) string { return l.env[name] }, euid: 1000,
		interrupts: func() (<-chan os.Signal, func()) { return nil, func() {} },
	}
}

// muster gives a command, and returns its exit code and all that it says.
func (l *laptop) muster(args ...string) (int, string) {
	l.t.Helper()
	var out bytes.Buffer
	code := runApp(l.t.Context(), l.app(&out, &out), args)
	return code, out.String()
}

// wants gives a command that must exit so and say all of that.
func (l *laptop) wants(code int, says []string, args ...string) string {
	l.t.Helper()
	got, said := l.muster(args...)
	if got != code {
		l.t.Errorf("muster %s exits %d, want %d: %s", strings.Join(args, " "), got, code, said)
	}
	for _, text := range says {
		if !strings.Contains(said, text) {
			l.t.Errorf("muster %s does not say %q: %s", strings.Join(args, " "), text, said)
		}
	}
	return said
}

func (l *laptop) kept() string {
	found, _ := filepath.Glob(filepath.Join(l.home, ".local", "state", "muster", "*", "record"))
	if len(found) != 1 {
		l.t.Fatal(found)
	}
	return found[0]
}

func aTown(t *testing.T, nodes int) *town {
	t.Helper()
	w, err := newTown(nodes)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestStrangersLearnNothing: who is no node of the fleet is asked for the record, by which it is found out, and for nothing else.
func TestStrangersLearnNothing(t *testing.T) {
	t.Parallel()
	w := aTown(t, 2)
	shown := w.byName("web02").Enrolment
	forged := shown
	forged.Request.Signature = bytes.Clone(forged.Request.Signature)
	forged.Request.Signature[5] ^= 1
	for name, proof := range map[string][]byte{"nothing": nil, "another's enrolment": shown.Encode(), "a forged one": forged.Encode(), "noise": {1, 2, 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stranger := &pretender{town: w, seed: newSeed(), proof: proof}
			l := newLaptop(t, w.who)
			place := stranger.listen(t)
			for range 2 { // also where the record is known
				l.wants(exec.ExitRefused, []string{"is not believed to be in fleet lab"}, "node", "list", "--via", place)
			}
			if n := stranger.asked.Load(); n != 0 {
				t.Errorf("%d questions", n)
			}
		})
	}
}

// TestRecordsThatLie: what is no record of this fleet, or goes on as no record does, is found out.
func TestRecordsThatLie(t *testing.T) {
	t.Parallel()
	w, other := aTown(t, 2), aTown(t, 2)
	for name, c := range map[string]struct {
		lie  func(api.Acts) api.Acts
		code int
		says string
	}{
		"another fleet's": {func(a api.Acts) api.Acts { a.Acts = other.acts[:2]; return a }, exec.ExitRefused, "is the charter of fleet"},
		"none":            {func(a api.Acts) api.Acts { a.Acts = nil; return a }, exec.ExitUnknown, "gives none"},
		"empty":           {func(api.Acts) api.Acts { return api.Acts{} }, exec.ExitUnknown, "no record of the fleet yet"},
		"another head":    {func(a api.Acts) api.Acts { a.Head[3] ^= 1; return a }, exec.ExitRefused, "are others than those"},
		"the same twice":  {func(a api.Acts) api.Acts { a.Acts = append(a.Acts[:1:1], a.Acts...); return a }, exec.ExitRefused, "does not follow"},
		"changed": {func(a api.Acts) api.Acts {
			a.Acts = append([]auth.Act{}, a.Acts...)
			a.Acts[1].Data = bytes.Clone(a.Acts[1].Data)
			a.Acts[1].Data[len(a.Acts[1].Data)-1] ^= 1
			return a
		}, exec.ExitRefused, "signature"},
		"of next year": {func(a api.Acts) api.Acts {
			a.Acts = append([]auth.Act{}, a.Acts...)
			a.Acts[0].Time += 365 * 24 * time.Hour.Milliseconds()
			return a
		}, exec.ExitRefused, "in the future of this clock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liar := w.pretend("web01")
			liar.lie = c.lie
			l := newLaptop(t, w.who)
			l.wants(c.code, []string{c.says}, "node", "list", "--via", liar.listen(t))
			if n := liar.asked.Load(); n != 0 {
				t.Errorf("%d questions", n)
			}
		})
	}
}

// TestNoWayBack: what was seen once counts, whoever shows less later.
func TestNoWayBack(t *testing.T) {
	t.Parallel()
	w := aTown(t, 3)
	honest := w.pretend("web01").listen(t)
	l := newLaptop(t, w.who)
	before := len(w.acts)
	l.wants(0, []string{"web03"}, "node", "list", "--via", honest)
	l.wants(0, nil, "node", "tag", "web01", "role=web", "--via", honest)
	l.wants(0, nil, "node", "delete", "web03", "--via", honest)
	size := fileSize(t, l.kept())

	old := w.pretend("web02") // a node that shows the fleet as it was
	old.lie = func(a api.Acts) api.Acts {
		record := auth.NewRecord()
		for _, act := range w.acts[:before] {
			record, _ = record.Apply(act, w.who.Fleet)
		}
		return api.Acts{Length: uint64(before), Head: record.Head, Acts: nil}
	}
	said := l.wants(0, []string{"web02", "role=web"}, "node", "list", "--via", old.listen(t))
	if strings.Contains(said, "web03") {
		t.Error(said)
	}
	forked := w.pretend("web02")
	forked.lie = func(a api.Acts) api.Acts { return api.Acts{Length: uint64(before), Head: fleet.Sum([]byte("x"))} }
	l.wants(exec.ExitRefused, []string{"are others than those", "rm '" + l.kept() + "'"}, "node", "list", "--via", forked.listen(t))

	removed := &pretender{town: w, seed: w.seeds[w.removed(t)], proof: nil}
	removed.lie = old.lie
	l.wants(exec.ExitRefused, []string{"was removed from the fleet"}, "node", "list", "--via", removed.listen(t))
	if removed.asked.Load() != 0 || fileSize(t, l.kept()) != size {
		t.Error(removed.asked.Load(), fileSize(t, l.kept()), size)
	}
}

// removed returns the ID of a node that was removed.
func (w *town) removed(t *testing.T) fleet.ID {
	t.Helper()
	for id := range w.seeds {
		if n, ok := w.state.Record.Roster.Node(id); ok && n.Removed != 0 {
			return id
		}
	}
	t.Fatal("none was removed")
	return fleet.ID{}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestClockOfAnother: no host has an operator sign today what holds next year.
func TestClockOfAnother(t *testing.T) {
	t.Parallel()
	w := aTown(t, 2)
	for ahead, want := range map[time.Duration]int{4 * time.Minute: 0, 6 * time.Minute: exec.ExitRefused, -24 * time.Hour: exec.ExitRefused} {
		p := w.pretend("web01")
		p.ahead = ahead
		place := p.listen(t)
		l := newLaptop(t, w.who)
		l.wants(want, nil, "token", "list", "--via", place)
	}
}

// TestWhoIsRefused: who is let in nowhere hears why, and what mends it.
func TestWhoIsRefused(t *testing.T) {
	t.Parallel()
	w, other := aTown(t, 1), aTown(t, 1)
	gate := func(w *town) func(fleet.ID) error {
		return func(peer fleet.ID) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			_, err := w.charter().Current(peer, time.Now())
			return err
		}
	}
	p := w.pretend("web01")
	p.let = gate(w)
	place := p.listen(t)
	stranger, err := newIdentity(w.who.Fleet, "lab", "mallory")
	if err != nil {
		t.Fatal(err)
	}
	newLaptop(t, stranger).wants(exec.ExitRefused, []string{"is no operator of fleet lab", "muster operator approve"}, "status", "--via", place)
	newLaptop(t, other.who).wants(exec.ExitRefused, []string{"another fleet", "op.key is for fleet lab: --identity"}, "status", "--via", place)
	l := newLaptop(t, w.who)
	l.wants(0, nil, "status", "--via", place)
	w.mu.Lock()
	gone := auth.DeleteOperator{Name: "alice", Key: w.who.signer().ID()}
	if err := w.act(auth.ActCharter, auth.SignCharter(w.charter(), w.header(0), auth.CharterDeleteOperator, gone, w.root.signer())); err != nil {
		t.Fatal(err)
	}
	w.mu.Unlock()
	l.wants(exec.ExitRefused, []string{"operator alice was removed"}, "status", "--via", place)
	l.env["MUSTER_IDENTITY"] = filepath.Join(l.home, "none.key")
	l.wants(exec.ExitRefused, []string{"no operator's key at"}, "status", "--via", place)
}

// TestNobodyAnswers: a port at which nothing is, and one at which is something else.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	w := aTown(t, 1)
	deaf, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	newLaptop(t, w.who).wants(exec.ExitUnknown, []string{"no answer from " + deaf.LocalAddr().String() + "/udp", "passes TCP alone"},
		"status", "--via", deaf.LocalAddr().String())
}

// TestKeptRecord: the file is private, grows by what is new alone, outlives a cut and says what to do when it is damaged.
func TestKeptRecord(t *testing.T) {
	t.Parallel()
	w := aTown(t, 2)
	p := w.pretend("web01")
	var froms []uint64
	p.lie = func(a api.Acts) api.Acts { froms = append(froms, a.Length-uint64(len(a.Acts))); return a }
	place := p.listen(t)
	l := newLaptop(t, w.who)
	l.wants(0, nil, "group", "list", "--via", place)
	path := l.kept()
	for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Error(name, info.Mode(), err)
		}
	}
	whole := fileSize(t, path)
	froms = nil
	l.wants(0, nil, "group", "list", "--via", place)
	for _, from := range froms {
		if from != uint64(len(w.acts)) {
			t.Errorf("asked from %d on", from)
		}
	}
	if err := os.Truncate(path, whole-3); err != nil { // a crash
		t.Fatal(err)
	}
	l.wants(0, nil, "group", "list", "--via", place)
	if got := fileSize(t, path); got != whole {
		t.Errorf("%d bytes, not %d", got, whole)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	l.wants(exec.ExitUsage, []string{"damaged at byte", "rm '" + path + "'"}, "group", "list", "--via", place)
}

// TestNoPlaceForTheRecord: where it cannot be kept, that is said, and the rest goes on.
func TestNoPlaceForTheRecord(t *testing.T) {
	t.Parallel()
	w := aTown(t, 1)
	place := w.pretend("web01").listen(t)
	l := newLaptop(t, w.who)
	l.env["XDG_STATE_HOME"] = "/proc/none"
	l.wants(0, []string{"cannot be kept in /proc/none"}, "group", "list", "--via", place)
	l.env["XDG_STATE_HOME"], l.env["HOME"] = "", ""
	if code, said := l.muster("group", "list", "--via", place); code != 0 || strings.Contains(said, "cannot be kept") {
		t.Error(code, said)
	}
}

// TestManyAtOnce: commands that begin together keep one whole record.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := aTown(t, 2)
	place := w.pretend("web01").listen(t)
	l := newLaptop(t, w.who)
	done := make(chan int, 8)
	for range cap(done) {
		go func() {
			var out bytes.Buffer
			done <- runApp(t.Context(), l.app(&out, &out), []string{"node", "list", "--via", place})
		}()
	}
	for range cap(done) {
		if code := <-done; code != 0 {
			t.Error(code)
		}
	}
	raw, err := os.ReadFile(l.kept())
	if err != nil {
		t.Fatal(err)
	}
	if c, size, err := replayOwn(raw, w.who.Fleet); err != nil || size != int64(len(raw)) || c.record.Head != w.state.Record.Head {
		t.Error(size, len(raw), err)
	}
}

// TestPlaces: what is a HOST:PORT and what is none.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10.0.0.1:7980": "10.0.0.1 7980", "10.0.0.1": "10.0.0.1 7980", "web01.example:99": "web01.example 99", "web01": "web01 7980",
		"[fd00::1]:99": "fd00::1 99", "fd00::1": "fd00::1 7980", "[fe80::1%eth0]:99": "fe80::1%eth0 99",
		":99": "", "web01:": "", "web01:0": "", "web01:65536": "", "web01:http": "", "a:b:c": "", "ann@web01:1": "", "udp://web01:1": "", "[fd00::1]": "", " web01": "",
	} {
		name, port, err := splitPlace(text)
		got := ""
		if err == nil {
			got = name + " " + strconv.Itoa(int(port))
		}
		if got != want {
			t.Errorf("%q is %q, not %q (%v)", text, got, want, err)
		}
	}
}
