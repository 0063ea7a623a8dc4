package node

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// set puts a setting of the fleet.
func (d door) set(name, value string) {
	change := auth.SettingChange{Header: d.Header(0), Name: name, Value: value}
	d.MustTake(authtest.Proposal{Kind: auth.ActSetting, Data: wire.Marshal(d.Sign(auth.ForSetting, change))})
}

// hpkeOf lists what a charter has of operators.
func (d door) hpkeOf(names ...string) (out [][]byte) {
	for _, op := range d.Record.Charter.Operators() {
		if slices.Contains(names, op.Name) {
			out = append(out, op.HPKE)
		}
	}
	return out
}

// Recordings are sealed to the auditors who are operators now, each once; where there are none, nothing that others could read is
// recorded, and where it must be, there is no session.
func TestAuditors(t *testing.T) {
	d := newDoor()
	eve := d.AddOperator("eve", "audit", "web")
	d.AddOperator("joe", "audit")
	opens := func() SessionOrder { return mustOpen(t)(d.judge(d.asks(auth.SessionShell, nil))) }
	if o := opens(); o.Auditors != nil || o.Unrecorded != "" {
		t.Errorf("sealed to %d, unrecorded: %s", len(o.Auditors), o.Unrecorded)
	}
	for value, want := range map[string][]string{"eve": {"eve"}, "team:audit": {"eve", "joe"}, "eve,team:audit,nobody": {"eve", "joe"}, "ada,joe": {"ada", "joe"}} {
		d.set(auth.SettingSessionAuditors, value)
		o := opens()
		got := slices.SortedFunc(slices.Values(o.Auditors), bytes.Compare)
		if keys := slices.SortedFunc(slices.Values(d.hpkeOf(want...)), bytes.Compare); !slices.EqualFunc(got, keys, bytes.Equal) || o.Record != RecordBestEffort || o.Unrecorded != "" {
			t.Errorf("%s: sealed to %d keys, recorded by %d, %s", value, len(got), o.Record, o.Unrecorded)
		}
	}
	d.set(auth.SettingSessionAuditors, "eve")
	d.MustTake(d.DeleteOperator("eve", eve, false))
	o := opens()
	if o.Record != RecordNone || o.Auditors != nil || !strings.Contains(o.Unrecorded, "none of its auditors") {
		t.Errorf("recorded by %d for %d, %s", o.Record, len(o.Auditors), o.Unrecorded)
	}
	d.set(auth.SettingSessionRecord, auth.SessionRecordDurable)
	_, err := d.judge(d.asks(auth.SessionShell, nil))
	denied(t, err, fleet.Denied, "to be recorded")
	if _, err := d.judge(d.asks(auth.SessionForward, nil)); err != nil {
		t.Errorf("a tunnel, of which no bytes are recorded: %v", err)
	}
	d.set(auth.SettingSessionAuditors, "team:audit")
	for i := range MaxAuditors {
		d.AddOperator(fmt.Sprintf("auditor%d", i), "audit")
	}
	_, err = d.judge(d.asks(auth.SessionShell, nil))
	denied(t, err, fleet.Denied, "33 auditors")
}

// Looking on at somebody else's session takes a rule for it; at one's own, none.
func TestJudgeSessionWatch(t *testing.T) {
	d := newDoor()
	d.SetPolicy(`
		permit (principal in Team::"root", action, resource);
		permit (principal in Team::"web", action == Action::"read", resource is Fleet);
		permit (principal in Team::"audit", action in [Action::"read", Action::"session.watch"], resource) when { action == Action::"read" || context.user != "root" };`)
	eve := d.AddOperator("eve", "audit")
	runs := map[fleet.UUID]SessionState{}
	add := func(n int, by auth.Signer, kind auth.SessionKind, user string) fleet.UUID {
		runs[uuid(n)] = SessionState{ID: uuid(n), By: by.ID(), Kind: kind, User: user}
		return uuid(n)
	}
	bobs, hers, roots := add(1, d.bob, auth.SessionShell, "www-data"), add(2, d.Operator, auth.SessionExec, "www-data"), add(3, d.Operator, auth.SessionShell, "root")
	tunnel := add(4, d.Operator, auth.SessionForward, "")
	find := func(id fleet.UUID) (SessionState, bool) {
		s, ok := runs[id]
		return s, ok
	}
	watch := func(by auth.Signer, what ReadWhat, id fleet.UUID) (string, error) {
		body := Read{Header: d.Header(ReadLife), What: what, Arg: id, Node: d.host.Self}
		s, who, err := JudgeSessionWatch(by.Sign(auth.ForRequest, d.ID(), body), d.Record, by.ID(), d.host, find, d.Now)
		if err == nil && s.ID != id {
			t.Errorf("%s in place of %s", s.ID, id)
		}
		if err == nil {
			err = WatchStands(s, by.ID(), d.Record, d.host, d.Now)
		}
		return who, err
	}
	for _, c := range []struct {
		by   auth.Signer
		id   fleet.UUID
		who  string
		kind fleet.Kind
		says string
	}{
		{d.bob, bobs, "bob", 0, ""}, {eve, bobs, "eve", 0, ""}, {eve, hers, "eve", 0, ""}, {d.Operator, roots, "ada", 0, ""},
		{d.bob, hers, "", fleet.Denied, "may not session.watch"}, {eve, roots, "", fleet.Denied, "may not session.watch"},
		{eve, uuid(9), "", fleet.NotFound, "no session"}, {d.Operator, tunnel, "", fleet.Invalid, "nothing to look at"},
	} {
		who, err := watch(c.by, ReadWatch, c.id)
		if c.says != "" {
			denied(t, err, c.kind, c.says)
		} else if err != nil || who != c.who {
			t.Errorf("%s at %s: %q, %v", c.who, c.id, who, err)
		}
	}
	_, err := watch(eve, ReadRecording, hers)
	denied(t, err, fleet.Invalid, "none to look on")
	s, _ := find(hers)
	d.SetPolicy(`permit (principal in Team::"root", action, resource);`)
	denied(t, WatchStands(s, eve.ID(), d.Record, d.host, d.Now), fleet.NotFound, "no session")
	d.MustTake(d.DeleteOperator("eve", eve, false))
	denied(t, WatchStands(s, eve.ID(), d.Record, d.host, d.Now), fleet.Denied, "removed")
}

// copyOf makes what a node of the fixture says of a recording.
func (d door) copyOf(i int, s SessionState) CopyKept {
	n := d.Nodes[i]
	note := NoteOf(s, n.ID)
	return CopyKept{SessionCopy{n.Signer.Public(), n.Signer.Sign(auth.ForRecording, d.ID(), note)}, note}
}

func recorded(n int, by fleet.ID) SessionState {
	return SessionState{ID: uuid(n), By: by, Started: int64(n), Ended: int64(n + 1), User: "www-data", Recording: SessionRecording{Bytes: 9, Digest: fleet.Sum([]byte{byte(n)}), Sealed: true}}
}

func TestOpenSessionCopy(t *testing.T) {
	d := newDoor()
	good := d.copyOf(0, recorded(1, d.bob.ID()))
	n, err := OpenSessionCopy(good.Copy, d.ID())
	if err != nil || n.Node != d.host.Self || n.Session.ID != uuid(1) {
		t.Fatal(n, err)
	}
	signed := func(change func(*RecordingNote)) SessionCopy {
		note := good.Note
		change(&note)
		return SessionCopy{good.Copy.Key, d.Nodes[0].Signer.Sign(auth.ForRecording, d.ID(), note)}
	}
	forged := good.Copy
	forged.Note.Body = wire.Marshal(NoteOf(recorded(2, d.bob.ID()), d.host.Self))
	for name, c := range map[string]struct {
		copy SessionCopy
		kind fleet.Kind
	}{
		"another body":          {forged, fleet.Denied},
		"another key":           {SessionCopy{d.bob.Public(), good.Copy.Note}, fleet.Denied},
		"of another node":       {signed(func(n *RecordingNote) { n.Node[0]++ }), fleet.Denied},
		"one that runs":         {signed(func(n *RecordingNote) { n.Session.Ended = 0 }), fleet.Invalid},
		"no digest":             {signed(func(n *RecordingNote) { n.Session.Recording.Digest = fleet.ID{} }), fleet.Invalid},
		"no bytes":              {signed(func(n *RecordingNote) { n.Session.Recording.Bytes = 0 }), fleet.Invalid},
		"too many bytes":        {signed(func(n *RecordingNote) { n.Session.Recording.Bytes = MaxRecording + 1 }), fleet.Exhausted},
		"for another purpose":   {SessionCopy{good.Copy.Key, d.Nodes[0].Signer.Sign(auth.ForReport, d.ID(), good.Note)}, fleet.Denied},
		"a note beyond measure": {SessionCopy{good.Copy.Key, auth.Envelope{Body: make([]byte, maxRecordingNote+1)}}, fleet.Exhausted},
	} {
		_, err := OpenSessionCopy(c.copy, d.ID())
		if err == nil || fleet.KindOf(err) != c.kind {
			t.Errorf("%s: %v (%s)", name, err, fleet.KindOf(err))
		}
	}
	if _, err := OpenSessionCopy(good.Copy, fleet.Sum([]byte("another fleet"))); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("of another fleet: %v", err)
	}
}

// What servers keep is read as it would be at the session's own node: by its tags and its rules.
func TestAnswerCopies(t *testing.T) {
	d := newDoor()
	db := d.AddNode("db1", map[string]string{"role": "db"}, nil)
	d.SetPolicy(`
		permit (principal in Team::"root", action, resource);
		permit (principal in Team::"audit", action == Action::"read", resource is Fleet);
		permit (principal in Team::"audit", action == Action::"session.replay", resource is Node) when { resource.hasTag("role") && resource.getTag("role") == "db" };`)
	eve := d.AddOperator("eve", "audit")
	have := []CopyKept{d.copyOf(1, recorded(3, d.bob.ID())), d.copyOf(1, recorded(2, d.Operator.ID())), d.copyOf(0, recorded(1, d.Operator.ID()))}
	ask := func(by auth.Signer, what ReadWhat, arg fleet.UUID, name string) (SessionCopies, error) {
		body := Read{Header: d.Header(ReadLife), What: what, Arg: arg, Name: name, Node: d.host.Self}
		read, reader, err := JudgeSessionRead(by.Sign(auth.ForRequest, d.ID(), body), d.Record, by.ID(), d.host, d.Now)
		if err != nil {
			t.Fatal(err)
		}
		return AnswerCopies(read, reader, d.Record, slices.Values(have))
	}
	for name, c := range map[string]struct {
		by   auth.Signer
		arg  fleet.UUID
		want []int // places in have
	}{
		"all": {eve, fleet.UUID{}, []int{0, 1, 2}}, "one": {eve, uuid(2), []int{1}}, "one's own": {d.bob, fleet.UUID{}, []int{0}}, "not others'": {d.bob, uuid(1), nil},
	} {
		got, err := ask(c.by, ReadCopies, c.arg, "")
		var want []SessionCopy
		for _, i := range c.want {
			want = append(want, have[i].Copy)
		}
		if err != nil || fmt.Sprint(got.Copies) != fmt.Sprint(want) || got.More {
			t.Errorf("%s: %d, %v", name, len(got.Copies), err)
		}
	}
	if _, err := ask(eve, ReadCopy, uuid(2), db.ID.Text()); err != nil {
		t.Error(err)
	}
	if _, err := ask(d.bob, ReadCopy, uuid(3), db.ID.Text()); err != nil {
		t.Error(err)
	}
	_, err := ask(eve, ReadCopy, uuid(1), d.host.Self.Text())
	denied(t, err, fleet.Denied, "may not session.replay on node-0")
	_, err = ask(d.bob, ReadCopy, uuid(1), d.host.Self.Text())
	denied(t, err, fleet.NotFound, "no copy")
	_, err = ask(eve, ReadCopy, uuid(2), d.host.Self.Text())
	denied(t, err, fleet.NotFound, "no copy")
	d.MustTake(d.RemoveNode(db.ID))
	if _, err := ask(d.Operator, ReadCopy, uuid(2), db.ID.Text()); err != nil {
		t.Errorf("of a node that was removed: %v", err)
	}
	_, err = ask(eve, ReadCopy, uuid(2), db.ID.Text()) // its tags went with it
	denied(t, err, fleet.Denied, "may not session.replay on db1")
}

// Whatever a session was, its note is small, and is taken.
func TestNotesAreSmall(t *testing.T) {
	d := newDoor()
	long := strings.Repeat("ü", 64<<10)
	s := recorded(1, d.bob.ID())
	s.Operator, s.Rule, s.Reason, s.Why, s.From, s.Signal = "bob", long, long, long, long, "KILL"
	s.Argv, s.Paths = slices.Repeat([]string{long}, 300), slices.Repeat([]string{long}, 300)
	s.Forward, s.Listen, s.Listening = make([]string, 5000), slices.Repeat([]string{"x"}, 5000), slices.Repeat([]string{long}, 32)
	s.Recent = slices.Repeat([]SessionConnection{{To: long, From: long, Why: long}}, MaxRecentConnections)
	s.Document = []auth.SessionDocument{{Name: strings.Repeat("n", auth.MaxDocumentName), Values: slices.Repeat([]auth.SessionValue{{Name: "n", Value: long}}, 32)}}
	k := d.copyOf(0, s)
	if _, err := OpenSessionCopy(k.Copy, d.ID()); err != nil {
		t.Errorf("%d bytes: %v", len(k.Copy.Note.Body), err)
	}
	if s.Recent[MaxRecentConnections-1].To != long || k.Note.Session.Argv[0] == long {
		t.Error("the session itself is cut, or the note is not")
	}
}

// However much a server keeps, no more of it is read than the answer has room for.
func TestCopiesAreReadAsFarAsAnswered(t *testing.T) {
	d := newDoor()
	s := recorded(1, d.bob.ID())
	s.Argv = []string{strings.Repeat("x", 2000)}
	one, reads := d.copyOf(0, s), 0
	read := Read{Header: d.Header(ReadLife), What: ReadCopies, Node: d.host.Self}
	_, reader, err := JudgeSessionRead(d.bob.Sign(auth.ForRequest, d.ID(), read), d.Record, d.bob.ID(), d.host, d.Now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := AnswerCopies(read, reader, d.Record, func(yield func(CopyKept) bool) {
		for reads < 20_000 && yield(one) {
			reads++
		}
	})
	if n := len(EncodeSession(got)); err != nil || !got.More || n > 512<<10 || reads != len(got.Copies) {
		t.Errorf("%d were read for %d of %d bytes, %v", reads, len(got.Copies), n, err)
	}
}

func TestWantsCopies(t *testing.T) {
	d := newDoor()
	sealed := recorded(1, d.bob.ID())
	plain, running, none := sealed, sealed, sealed
	plain.Recording.Sealed, running.Ended, none.Recording = false, 0, SessionRecording{}
	for value, want := range map[string][4]int{"": {2, 0, 0, 0}, "sealed": {2, 0, 0, 0}, "all": {2, 2, 0, 0}, "off": {0, 0, 0, 0}} {
		d.set(auth.SettingSessionCopies, value)
		for i, s := range []SessionState{sealed, plain, running, none} {
			if got := WantsCopies(s, d.Record.Settings); got != want[i] {
				t.Errorf("%q, %d: %d", value, i, got)
			}
		}
	}
}

// Copies go to as many servers as are wanted, never twice to one, and what is lost with a node is made again.
func TestNextCopy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var servers []fleet.ID
		for i := range rapid.IntRange(0, 6).Draw(t, "servers") {
			servers = append(servers, fleet.Sum([]byte{byte(i)}))
		}
		up, gone := map[fleet.ID]bool{}, map[fleet.ID]bool{}
		for _, id := range servers {
			up[id] = rapid.Bool().Draw(t, "up")
		}
		standing := func(id fleet.ID) bool { return !gone[id] }
		c := RecordingCopies{Want: rapid.IntRange(0, 3).Draw(t, "want")}
		step := func() {
			for {
				to, ok := NextCopy(uuid(1), c, servers, standing, func(id fleet.ID) bool { return up[id] })
				if !ok {
					break
				}
				if slices.Contains(c.At, to) || !up[to] || CopiesMade(c, standing) {
					t.Fatalf("to %s, of %+v", to, c)
				}
				c.At = append(c.At, to)
			}
			free := 0
			for _, id := range servers {
				if up[id] && !slices.Contains(c.At, id) {
					free++
				}
			}
			if !CopiesMade(c, standing) && free > 0 {
				t.Fatal("one more could have been made")
			}
		}
		step()
		if len(c.At) > c.Want {
			t.Fatalf("%d copies", len(c.At))
		}
		for _, id := range c.At {
			if gone[id] = rapid.Bool().Draw(t, "gone"); gone[id] {
				servers = slices.DeleteFunc(servers, func(o fleet.ID) bool { return o == id })
			}
		}
		step()
	})
	var servers []fleet.ID
	for i := range 5 {
		servers = append(servers, fleet.Sum([]byte{byte(i)}))
	}
	first := map[fleet.ID]int{}
	yes := func(fleet.ID) bool { return true }
	for i := range 500 {
		to, _ := NextCopy(fleet.UUID{byte(i), byte(i >> 8)}, RecordingCopies{Want: 2}, servers, yes, yes)
		first[to]++
	}
	for id, n := range first {
		if n < 50 {
			t.Errorf("%s gets %d of 500", id, n)
		}
	}
}

// Whatever a node sends as a copy, it is refused, or signed by that node and about a recording of its own; memory is bounded.
func FuzzSessionCopy(f *testing.F) {
	d := newDoor()
	good := d.copyOf(0, recorded(1, d.bob.ID()))
	f.Add(wire.Marshal(good.Copy))
	f.Add(wire.Marshal(SessionCopies{Copies: []SessionCopy{good.Copy}, More: true}))
	f.Add(wire.Marshal(SessionCopy{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		same(t, data, DecodeSession[SessionCopies], EncodeSession)
		var c SessionCopy
		if wire.Unmarshal(data, &c) != nil {
			return
		}
		n, err := OpenSessionCopy(c, d.ID())
		if err == nil && (fmt.Sprint(n) != fmt.Sprint(good.Note) || fleet.Sum(c.Key) != n.Node) {
			t.Fatalf("accepted what nobody signed: %+v", n)
		}
	})
}

func TestSessionCopyMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	d := newDoor()
	good := d.copyOf(0, recorded(1, d.bob.ID()))
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 100}, func(in []byte) {
		var c SessionCopy
		if wire.Unmarshal(in, &c) == nil {
			_, _ = OpenSessionCopy(c, d.ID())
		}
		_, _ = DecodeSession[SessionCopies](in)
	}, hostile.Inputs(1<<16, wire.Marshal(good.Copy), wire.Marshal(SessionCopies{Copies: []SessionCopy{good.Copy}})))
}
