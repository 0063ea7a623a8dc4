package consensus

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// A snapshot is a sequence of records {u32 length, u8 kind, canonical msgpack}, in this order: head, acts, tokens by
// // ID, commands by act index, results by act index, requests, documents by name, their versions by name and number,
// parameters by name, their versions by name and number, their labels by name and label, deleted parameters by name, events
// in their order, end. The same state gives the same bytes on every replica, and no other bytes are read.
const (
	snapHead uint8 = iota + 1
	snapAct
	snapToken
	snapCommand
	snapResult
	snapRequest
	snapDocument
	snapVersion
	snapParam
	snapParamVersion
	snapLabel
	snapTombstone
	snapEvent
	snapEnd
)

// SnapshotFormat is the version of that layout as a fleet of the first level has it. Its bytes never change: replicas of
// that level's programs compare by them.
const SnapshotFormat = 3

// SnapshotFormatLevel is the version of the layout of all higher levels: the head ends with the level.
const SnapshotFormatLevel = 4

const snapPrefix = 5 // bytes of length and kind

type snapshotHead struct {
	Format uint8
	Act    uint64
	Time   int64
	Taken  uint64
	Lost   params.EventPos // of the newest parameter event that is not kept any more
	Floor  int64           // the greatest birth of deleted parameters that were forgotten early
}

type snapshotHeadLevel struct {
	Format uint8
	Act    uint64
	Time   int64
	Taken  uint64
	Lost   params.EventPos
	Floor  int64
	Level  fleet.Level // above the first
}

type snapshotToken struct {
	Statement auth.Envelope
	Used      uint32
	Deleted   bool
}

type snapshotCommand struct {
	Order     exec.Order
	Operator  string
	Act       uint64
	Committed int64
	Cancel    []auth.Envelope // none or one
	Cancelled int64
	Cancels   []auth.Envelope
	Rollout   []exec.Rollout // none or one
}

type snapshotDocument struct {
	Name    string
	Default uint32
	Last    uint32
}

type snapshotVersion struct {
	Number    uint32
	Publisher string
	Time      int64
	Statement auth.Envelope
}

type snapshotResult struct {
	Act  uint64
	Key  fleet.UUID
	Time int64
}

// snapshotTail ends a snapshot. Only the record proves itself; the sum tells of damage to all the rest.
type snapshotTail struct {
	Record fleet.ID // the record's head
	Sum    fleet.ID // SHA-256 of all bytes before this record
}

// Digest names the state, by which replicas compare: the SHA-256 of its snapshot with no time. Entries that are refused
// move the time alone, so that replicas that have Taken as many have the same digest.
func (s State) Digest() fleet.ID {
	s.Time = 0
	h := sha256.New()
	_ = s.WriteSnapshot(h) // a hash takes whatever is written
	return fleet.ID(h.Sum(nil))
}

// WriteSnapshot writes the state in canonical form.
func (s State) WriteSnapshot(w io.Writer) error {
	buffered, sum := bufio.NewWriter(w), sha256.New()
	out := io.MultiWriter(buffered, sum)
	var failed error
	put := func(kind uint8, v any) {
		body := wire.Marshal(v)
		frame := append(binary.BigEndian.AppendUint32(make([]byte, 0, snapPrefix+len(body)), uint32(len(body))), kind)
		if _, err := out.Write(append(frame, body...)); err != nil && failed == nil {
			failed = err
		}
	}
	put(snapHead, s.snapshotHead())
	s.acts.Root().Walk(func(_ []byte, act auth.Act) bool {
		put(snapAct, act)
		return failed != nil
	})
	s.tokens.Root().Walk(func(_ []byte, t *Token) bool {
		put(snapToken, snapshotToken{t.Statement, t.Used, t.Deleted})
		return failed != nil
	})
	s.commands.Root().Walk(func(_ []byte, c *Command) bool {
		put(snapCommand, c.snapshot())
		return failed != nil
	})
	for act, a := range s.results.byAct.all() {
		if put(snapResult, snapshotResult{uint64(act), a.key, a.time}); failed != nil {
			break
		}
	}
	for _, r := range s.requests {
		put(snapRequest, r)
	}
	documents := s.Documents()
	for _, d := range documents {
		put(snapDocument, snapshotDocument{d.Name, d.Default, d.Last})
	}
	for _, d := range documents {
		for _, v := range d.Versions {
			put(snapVersion, snapshotVersion{v.Number, v.Publisher, v.Time, v.Statement})
		}
	}
	s.writeParams(func(kind uint8, v any) bool {
		put(kind, v)
		return failed == nil
	})
	put(snapEnd, snapshotTail{s.Record.Head, fleet.ID(sum.Sum(nil))})
	if failed == nil {
		failed = buffered.Flush()
	}
	return failed
}

func (c *Command) snapshot() snapshotCommand {
	out := snapshotCommand{
		Order: c.Order, Operator: c.Operator, Act: c.Act, Committed: c.Committed, Cancelled: c.Cancelled, Cancels: c.Cancels,
	}
	if c.Cancel != nil {
		out.Cancel = []auth.Envelope{*c.Cancel}
	}
	if c.Body.Pace.Limited {
		out.Rollout = []exec.Rollout{c.Rollout}
	}
	return out
}

// ReadSnapshot reads what WriteSnapshot wrote, to the end of r, and nothing else. The record is verified again from its
// genesis on. Tokens and commands are not: whoever acts on them verifies them.
func ReadSnapshot(r io.Reader) (State, error) {
	restored := restoring{state: NewState(), statements: map[uint64]stated{}, names: map[string]string{}}
	restored.state.params.by = math.MaxUint64 // no act's
	in, sum := bufio.NewReader(r), sha256.New()
	for {
		var prefix [snapPrefix]byte
		if _, err := io.ReadFull(in, prefix[:]); err != nil {
			return NewState(), snapshotCut(err)
		}
		size, kind := binary.BigEndian.Uint32(prefix[:4]), prefix[4]
		if size > 2*MaxEntry {
			return NewState(), fleet.Errorf(fleet.Invalid, "snapshot has a record of %d bytes", size)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(in, body); err != nil {
			return NewState(), snapshotCut(err)
		}
		if kind == snapEnd {
			if err := restored.finish(body, fleet.ID(sum.Sum(nil))); err != nil {
				return NewState(), err
			}
			return restored.state, snapshotEnds(in)
		}
		sum.Write(prefix[:])
		sum.Write(body)
		if err := restored.take(kind, body); err != nil {
			return NewState(), err
		}
	}
}

func snapshotCut(err error) error {
	return fleet.Errorf(fleet.Invalid, "snapshot is cut: %v", err)
}

func snapshotEnds(in *bufio.Reader) error {
	switch _, err := in.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return fleet.Errorf(fleet.Invalid, "snapshot goes on behind its end")
	default:
		return fleet.Errorf(fleet.Unavailable, "snapshot cannot be read: %v", err)
	}
}

// restoring is a snapshot as far as it was read.
type restoring struct {
	state State
	head  snapshotHead
	kind  uint8  // of the record before
	key   []byte // of the record before, where its kind has keys

	statements map[uint64]stated // of parameters, by act
	names      map[string]string // of operators, each once
}

// follows reports whether a record with key stands behind the one before it, and notes it.
func (r *restoring) follows(key []byte) error {
	if bytes.Compare(key, r.key) <= 0 {
		return snapshotDisorder()
	}
	r.key = key
	return nil
}

func snapshotDisorder() error {
	return fleet.Errorf(fleet.Invalid, "snapshot is not in canonical order")
}

func (r *restoring) take(kind uint8, body []byte) error {
	if (kind == snapHead) != (r.kind == 0) || kind < r.kind {
		return snapshotDisorder()
	}
	if kind != r.kind {
		r.kind, r.key = kind, nil
	}
	switch kind {
	case snapHead:
		return r.takeHead(body)
	case snapAct:
		return r.takeAct(body)
	case snapToken:
		return r.takeToken(body)
	case snapCommand:
		return r.takeCommand(body)
	case snapResult:
		return r.takeResult(body)
	case snapRequest:
		return r.takeRequest(body)
	case snapDocument:
		return r.takeDocument(body)
	case snapVersion:
		return r.takeVersion(body)
	case snapParam:
		return r.takeParam(body)
	case snapParamVersion:
		return r.takeParamVersion(body)
	case snapLabel:
		return r.takeLabel(body)
	case snapTombstone:
		return r.takeTombstone(body)
	case snapEvent:
		return r.takeEvent(body)
	}
	return fleet.Errorf(fleet.Invalid, "snapshot has a record of kind %d, not understood by this version", kind)
}

func (r *restoring) takeHead(body []byte) error {
	head, err := readHead(body)
	if err != nil {
		return err
	}
	r.state.Level = head.Level
	r.head = snapshotHead{head.Format, head.Act, head.Time, head.Taken, head.Lost, head.Floor}
	return nil
}

func (r *restoring) takeAct(body []byte) error {
	var act auth.Act
	if err := wire.Unmarshal(body, &act); err != nil {
		return err
	}
	record, err := r.state.Record.Apply(act, fleet.ID{})
	if err != nil {
		return err
	}
	r.state.acts, _, _ = r.state.acts.Insert(key64(r.state.Record.Length), act)
	r.state.Record = record
	return nil
}

func (r *restoring) takeToken(body []byte) error {
	var st snapshotToken
	if err := wire.Unmarshal(body, &st); err != nil {
		return err
	}
	t, err := auth.Peek[auth.Token](st.Statement)
	if err == nil {
		err = r.follows(t.Header.ID[:])
	}
	if err != nil {
		return err
	}
	r.state.tokens, _, _ = r.state.tokens.Insert(t.Header.ID[:], &Token{Statement: st.Statement, Body: t, Used: st.Used, Deleted: st.Deleted})
	return within(r.state.tokens.Len(), MaxTokensKept, "tokens")
}

func (r *restoring) takeCommand(body []byte) error {
	var sc snapshotCommand
	if err := wire.Unmarshal(body, &sc); err != nil {
		return err
	}
	cmd, err := auth.Peek[exec.Command](sc.Order.Statement)
	if err == nil {
		err = r.follows(key64(sc.Act))
	}
	if err != nil {
		return err
	}
	if _, ok := r.state.Command(cmd.Header.ID); ok || len(sc.Cancel) > 1 {
		return fleet.Errorf(fleet.Invalid, "snapshot has command %s twice", cmd.Header.ID)
	}
	c := &Command{Order: sc.Order, Body: cmd, Operator: sc.Operator, Act: sc.Act, Committed: sc.Committed, Cancelled: sc.Cancelled, Cancels: sc.Cancels}
	if len(sc.Cancel) == 1 {
		c.Cancel = &sc.Cancel[0]
	}
	if err := c.restore(sc); err != nil {
		return err
	}
	r.state.keep(c)
	return within(r.state.commands.Len(), MaxCommands, "commands")
}

// restore takes the parts of a command that must fit what it says itself.
func (c *Command) restore(sc snapshotCommand) error {
	if len(sc.Cancels) > MaxNodeCancels || len(sc.Rollout) > 1 {
		return fleet.Errorf(fleet.Invalid, "snapshot has too much of command %s", c.ID())
	}
	for _, e := range sc.Cancels {
		cancel, err := auth.Peek[exec.Cancel](e)
		if err == nil {
			err = cancel.Check()
		}
		if err != nil {
			return err
		}
		c.cancelled = append(c.cancelled, cancel.Nodes)
	}
	if c.Body.Pace.Limited != (len(sc.Rollout) == 1) {
		return fleet.Errorf(fleet.Invalid, "snapshot has command %s without its rollout, or with one that it has not", c.ID())
	}
	if !c.Body.Pace.Limited {
		return nil
	}
	if err := c.Body.Check(); err != nil { // a rollout is checked against its limits
		return err
	}
	c.Rollout = sc.Rollout[0]
	return c.Rollout.Check(c.Body)
}

func (r *restoring) takeDocument(body []byte) error {
	var sd snapshotDocument
	if err := wire.Unmarshal(body, &sd); err != nil {
		return err
	}
	if err := r.follows([]byte(sd.Name)); err != nil {
		return err
	}
	if err := exec.CheckDocumentName(sd.Name); err != nil {
		return err
	}
	r.state.keepDocument(&Document{Name: sd.Name, Default: sd.Default, Last: sd.Last})
	return within(r.state.documents.Len(), MaxDocuments, "documents")
}

func (r *restoring) takeVersion(body []byte) error {
	var sv snapshotVersion
	if err := wire.Unmarshal(body, &sv); err != nil {
		return err
	}
	p, err := auth.Peek[exec.Publication](sv.Statement)
	if err == nil {
		err = p.CheckFace()
	}
	if err == nil {
		err = r.follows(versionKey(p.Name, sv.Number))
	}
	if err != nil {
		return err
	}
	d, ok := r.state.Document(p.Name)
	if !ok || sv.Number == 0 || sv.Number > d.Last {
		return fleet.Errorf(fleet.Invalid, "snapshot has version %d of document %s, which has not", sv.Number, p.Name)
	}
	if err := checkVersionName(d, p); err != nil { // a text may be there twice: whose counts changes with the record
		return err
	}
	version := Version{sv.Number, p.VersionName, fleet.Sum(p.Text), sv.Publisher, sv.Time, sv.Statement}
	next := *d
	next.Versions = append(d.Versions, version) // one reader builds it, front to back
	r.state.keepDocument(&next)
	r.state.published(p.Name, version)
	r.state.texts += len(p.Text)
	return errors.Join(within(len(next.Versions), MaxVersions, "versions of a document"), within(r.state.texts, MaxDocumentText, "bytes of documents"))
}

// checkDocuments reports which document has no version, or not the one that it says is the default; or nil.
func (r *restoring) checkDocuments() error {
	for _, d := range r.state.Documents() {
		if _, ok := d.Version(d.Default); !ok {
			return fleet.Errorf(fleet.Invalid, "snapshot has document %s without its default version %d", d.Name, d.Default)
		}
	}
	return nil
}

func (r *restoring) takeResult(body []byte) error {
	var sr snapshotResult
	if err := wire.Unmarshal(body, &sr); err != nil {
		return err
	}
	if err := r.follows(key64(sr.Act)); err != nil {
		return err
	}
	if _, ok := r.state.results.find(sr.Key); ok {
		return fleet.Errorf(fleet.Invalid, "snapshot has two results of one statement")
	}
	if r.state.results.byAct.length() >= MaxResults {
		return fleet.Errorf(fleet.Exhausted, "snapshot with more than %d results", MaxResults)
	}
	r.state.results = r.state.results.with(sr.Key, Result{Act: sr.Act, Time: sr.Time})
	return nil
}

func (r *restoring) takeRequest(body []byte) error {
	var request OperatorRequest
	if err := wire.Unmarshal(body, &request); err != nil {
		return err
	}
	r.state.requests = append(r.state.requests, request)
	return within(len(r.state.requests), MaxRequests, "operator requests")
}

func within(n, limit int, what string) error {
	if n > limit {
		return fleet.Errorf(fleet.Exhausted, "snapshot with more than %d %s", limit, what)
	}
	return nil
}

func (r *restoring) finish(body []byte, sum fleet.ID) error {
	var tail snapshotTail
	if err := wire.Unmarshal(body, &tail); err != nil {
		return err
	}
	s := &r.state
	newest := max(s.Record.Act, lastAct(s.commands.Root().Maximum()), s.results.newest())
	switch {
	case r.kind == 0:
		return fleet.Errorf(fleet.Invalid, "snapshot has no head")
	case tail.Sum != sum:
		return fleet.Errorf(fleet.Invalid, "snapshot is damaged: its checksum differs")
	case tail.Record != s.Record.Head:
		return fleet.Errorf(fleet.Invalid, "snapshot's record ends at %s, not at %s", s.Record.Head, tail.Record)
	case s.Record.Charter == nil && s.Record.Length+uint64(s.tokens.Len()+s.commands.Len()+len(s.requests)+s.documents.Len()+s.params.byName.length()+s.params.gone.length()+s.params.events.length()) > 0:
		return fleet.Errorf(fleet.Invalid, "snapshot of a fleet that was not founded")
	case newest > r.head.Act || s.Record.Time > r.head.Time:
		return fleet.Errorf(fleet.Invalid, "snapshot holds act %d, but says that it ends at %d", newest, r.head.Act)
	case r.head.Taken < r.head.Act:
		return fleet.Errorf(fleet.Invalid, "snapshot took %d entries, but holds act %d", r.head.Taken, r.head.Act)
	}
	s.Act, s.Time, s.Taken = r.head.Act, r.head.Time, r.head.Taken
	return cmp.Or(r.checkDocuments(), r.finishParams())
}

func lastAct[T any](key []byte, _ T, ok bool) uint64 {
	if !ok {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}
