package consensus

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"testing/iotest"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// busy returns a quorum with something in every list.
func busy(t testing.TB) *quorum {
	t.Helper()
	q := founded("busy")
	for _, e := range oneOfEach(q) {
		q.mustPut(t, e)
		q.Advance(time.Second)
	}
	token := q.NewToken(3, nil)
	q.mustPut(t, PutToken{token.Statement})
	q.mustPut(t, q.enrol(token, q.NewNode("web-1")))
	q.mustPut(t, q.command(ids(q.Nodes...), nil))
	paced := q.command(ids(q.Nodes...), limited(exec.Pace{Errors: 1}))
	q.mustPut(t, paced)
	q.mustPut(t, PutGrants{commandID(paced), []uint32{0}})
	q.mustPut(t, q.cancelOn(commandID(paced), q.Nodes[0].ID))
	q.mustPut(t, q.document("hello", "one")) // the same text under two names
	return q
}

func TestSnapshotRoundTrip(t *testing.T) {
	for name, s := range map[string]State{"not founded": NewState(), "founded": founded("a").s, "busy": busy(t).s} {
		data := snapshot(t, s)
		got := restore(t, data)
		if again := snapshot(t, got); !bytes.Equal(again, data) {
			t.Errorf("%s: another snapshot after it was restored", name)
		}
		if got.Digest() != s.Digest() {
			t.Errorf("%s: digest %s, %s before", name, got.Digest(), s.Digest())
		}
	}
}

// What is not in the bytes must be there as well: indexes, decoded bodies, the order in which results are forgotten.
func TestRestoredStateAnswersAlike(t *testing.T) {
	q := busy(t)
	got := restore(t, snapshot(t, q.s))
	if !reflect.DeepEqual(got.Acts(0, 100), q.s.Acts(0, 100)) || !reflect.DeepEqual(got.Tokens(), q.s.Tokens()) ||
		!reflect.DeepEqual(got.Commands(100), q.s.Commands(100)) || !reflect.DeepEqual(got.Requests(), q.s.Requests()) ||
		!reflect.DeepEqual(got.Documents(), q.s.Documents()) || !reflect.DeepEqual(got.Paced(), q.s.Paced()) || len(got.Paced()) != 2 {
		t.Error("a list differs")
	}
	if got.TextBytes() != q.s.TextBytes() || got.Taken != q.s.Taken || got.TextBytes() != len("one"+"two"+"one") {
		t.Errorf("%d bytes of text, %d taken; were %d, %d", got.TextBytes(), got.Taken, q.s.TextBytes(), q.s.Taken)
	}
	for _, d := range q.s.Documents() {
		for _, v := range d.Versions {
			key := exec.DocumentRef{Name: d.Name, Version: v.Number, Digest: v.Digest}.Key()
			if e, ok := got.Publication(key); !ok || !reflect.DeepEqual(e, v.Statement) {
				t.Errorf("document %s:%d is not found by its key", d.Name, v.Number)
			}
		}
	}
	for _, c := range q.s.Commands(100) {
		if other, ok := got.Command(c.ID()); !ok || !reflect.DeepEqual(other, c) {
			t.Errorf("command %s: %+v", c.ID(), other)
		}
	}
	here, hereNext := q.s.CommandsFor(q.Nodes[0].ID, 0, 10)
	there, thereNext := got.CommandsFor(q.Nodes[0].ID, 0, 10)
	if !reflect.DeepEqual(here, there) || hereNext != thereNext || len(here) != 4 {
		t.Error("the cursor differs")
	}
	for _, l := range q.log { // every statement is known
		if _, known := statementKey(l.e); !known {
			continue
		}
		_, want := q.s.Apply(l.e, q.s.Time)
		if _, r := got.Apply(l.e, q.s.Time); r != want || r.Err() != nil {
			t.Errorf("%T again: %+v, want %+v", l.e, r, want)
		}
	}
	key, _, _ := got.results.byAct.first()
	want, _, _ := q.s.results.byAct.first()
	if key != want || got.results.byAct.length() != got.results.byKey.length() {
		t.Error("results are forgotten in another order")
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	q := founded("a") // every read verifies the record's signatures: keep them few
	for _, e := range oneOfEach(q)[1:] {
		q.mustPut(t, e)
	}
	data := snapshot(t, q.s)
	frames, _ := split(data)
	cut := func(at int) {
		if _, err := ReadSnapshot(bytes.NewReader(data[:at])); err == nil {
			t.Fatalf("cut at byte %d of %d: read", at, len(data))
		}
	}
	end := 0
	for _, f := range frames {
		cut(end)
		cut(end + 1)
		cut(end + snapPrefix)
		end += snapPrefix + len(f.body)
		cut(end - 1)
	}
	for at := 0; at < len(data); at += 3 { // of all bits, those of every third byte in turn
		damaged := bytes.Clone(data)
		damaged[at] ^= 1 << (at % 8)
		if s, err := ReadSnapshot(bytes.NewReader(damaged)); err == nil || s.Act != 0 || s.Record.Charter != nil {
			t.Fatalf("byte %d of %d flipped: %v, act %d", at, len(data), err, s.Act)
		}
	}
	if _, err := ReadSnapshot(bytes.NewReader(append(data, 0))); err == nil {
		t.Error("one byte more: read")
	}
	if _, err := ReadSnapshot(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(data)))); err == nil {
		t.Error("a reader that fails: read")
	}
}

// frame is one record of a snapshot.
type frame struct {
	kind uint8
	body []byte
}

func split(data []byte) (out []frame, ok bool) {
	for len(data) > 0 {
		if len(data) < snapPrefix {
			return nil, false
		}
		size := uint64(binary.BigEndian.Uint32(data))
		if uint64(len(data)) < snapPrefix+size {
			return nil, false
		}
		out = append(out, frame{data[4], data[snapPrefix : snapPrefix+size]})
		data = data[snapPrefix+size:]
	}
	return out, true
}

// sealed joins frames and ends them with a checksum that holds, as somebody would who means harm.
func sealed(frames []frame) []byte {
	var out []byte
	add := func(f frame) {
		out = append(append(binary.BigEndian.AppendUint32(out, uint32(len(f.body))), f.kind), f.body...)
	}
	var tail snapshotTail
	for _, f := range frames {
		if f.kind == snapEnd {
			_ = wire.Unmarshal(f.body, &tail)
			continue
		}
		add(f)
	}
	tail.Sum = fleet.ID(sha256.Sum256(out))
	add(frame{snapEnd, wire.Marshal(tail)})
	return out
}

func TestMadeUpSnapshotIsRefused(t *testing.T) {
	good := snapshot(t, busy(t).s)
	frames, _ := split(good)
	if !bytes.Equal(sealed(frames), good) {
		t.Fatal("the test's own reading is wrong")
	}
	at := func(frames []frame, kind uint8) int {
		for i, f := range frames {
			if f.kind == kind {
				return i
			}
		}
		t.Fatalf("no record of kind %d", kind)
		return 0
	}
	insert := func(frames []frame, i int, f frame) []frame {
		return append(frames[:i:i], append([]frame{f}, frames[i:]...)...)
	}
	drop := func(frames []frame, i int) []frame { return append(frames[:i:i], frames[i+1:]...) }
	swap := func(frames []frame, i int) []frame {
		out := append([]frame(nil), frames...)
		out[i], out[i+1] = out[i+1], out[i]
		return out
	}
	replace := func(kind uint8, v any) []frame {
		out := append([]frame(nil), frames...)
		out[at(out, kind)].body = wire.Marshal(v)
		return out
	}
	var command snapshotCommand
	if err := wire.Unmarshal(frames[at(frames, snapCommand)].body, &command); err != nil {
		t.Fatal(err)
	}
	twice := command
	twice.Act--
	twoCancels := command
	twoCancels.Cancel = []auth.Envelope{command.Order.Statement, command.Order.Statement}
	var head snapshotHead
	if err := wire.Unmarshal(frames[0].body, &head); err != nil {
		t.Fatal(err)
	}
	last := func(kind uint8) int { // of the records of a kind
		i := at(frames, kind)
		for frames[i+1].kind == kind {
			i++
		}
		return i
	}
	alterPaced := func(alter func(*snapshotCommand)) []frame {
		i := last(snapCommand)
		var sc snapshotCommand
		if err := wire.Unmarshal(frames[i].body, &sc); err != nil {
			t.Fatal(err)
		}
		alter(&sc)
		out := append([]frame(nil), frames...)
		out[i].body = wire.Marshal(sc)
		return out
	}
	alterDocument := func(alter func(*snapshotDocument)) []frame {
		var sd snapshotDocument
		if err := wire.Unmarshal(frames[at(frames, snapDocument)].body, &sd); err != nil {
			t.Fatal(err)
		}
		alter(&sd)
		return replace(snapDocument, sd)
	}
	alterVersion := func(alter func(*snapshotVersion)) []frame {
		var sv snapshotVersion
		if err := wire.Unmarshal(frames[at(frames, snapVersion)].body, &sv); err != nil {
			t.Fatal(err)
		}
		alter(&sv)
		return replace(snapVersion, sv)
	}
	other := founded("a")
	for name, made := range map[string][]frame{
		"no head":              drop(frames, 0),
		"two heads":            insert(frames, 0, frames[0]),
		"another format":       replace(snapHead, snapshotHead{SnapshotFormat + 1, head.Act, head.Time, head.Taken, head.Lost, head.Floor}),
		"ends before its acts": replace(snapHead, snapshotHead{SnapshotFormat, head.Act - 1, head.Time, head.Taken, head.Lost, head.Floor}),
		"older than its acts":  replace(snapHead, snapshotHead{SnapshotFormat, head.Act, 1, head.Taken, head.Lost, head.Floor}),
		"took less":            replace(snapHead, snapshotHead{SnapshotFormat, head.Act, head.Time, head.Act - 1, head.Lost, head.Floor}),
		"no rollout":           alterPaced(func(c *snapshotCommand) { c.Rollout = nil }),
		"two rollouts":         alterPaced(func(c *snapshotCommand) { c.Rollout = append(c.Rollout, c.Rollout[0]) }),
		"rollout miscounted":   alterPaced(func(c *snapshotCommand) { c.Rollout[0].Running-- }),
		"rollout of a set":     alterPaced(func(c *snapshotCommand) { c.Rollout[0].Nodes = c.Rollout[0].Nodes[1:] }),
		"too many cancels": alterPaced(func(c *snapshotCommand) {
			for range MaxNodeCancels {
				c.Cancels = append(c.Cancels, c.Cancels[0])
			}
		}),
		"a cancel that is none": alterPaced(func(c *snapshotCommand) { c.Cancels[0].Body = []byte{1} }),
		"rollout without limits": replace(snapCommand, func() snapshotCommand {
			unlimited := command
			unlimited.Rollout = []exec.Rollout{{}}
			return unlimited
		}()),
		"document without versions": drop(frames, last(snapVersion)),
		"versions of no document":   drop(frames, at(frames, snapDocument)),
		"documents swapped":         swap(frames, at(frames, snapDocument)),
		"versions swapped":          swap(frames, at(frames, snapVersion)),
		"a version twice":           insert(frames, at(frames, snapVersion), frames[at(frames, snapVersion)]),
		"default not there":         alterDocument(func(d *snapshotDocument) { d.Default = 3 }),
		"version above the last":    alterDocument(func(d *snapshotDocument) { d.Last = 1 }),
		"a reserved document":       alterDocument(func(d *snapshotDocument) { d.Name = "AWS-X" }),
		"version 0":                 alterVersion(func(v *snapshotVersion) { v.Number = 0 }),
		"a version of another":      alterVersion(func(v *snapshotVersion) { v.Statement = other.document("hello", "two").Statement }),
		"a version that is none":    alterVersion(func(v *snapshotVersion) { v.Statement.Body = []byte{1} }),

		"no genesis":          drop(frames, at(frames, snapAct)),
		"an act less":         drop(frames, at(frames, snapToken)-1),
		"acts swapped":        swap(frames, at(frames, snapAct)),
		"tokens swapped":      swap(frames, at(frames, snapToken)),
		"commands swapped":    swap(frames, at(frames, snapCommand)),
		"results swapped":     swap(frames, at(frames, snapResult)),
		"a token twice":       insert(frames, at(frames, snapToken), frames[at(frames, snapToken)]),
		"a command twice":     insert(frames, at(frames, snapCommand), frame{snapCommand, wire.Marshal(twice)}),
		"two cancels":         replace(snapCommand, twoCancels),
		"a result twice":      insert(frames, at(frames, snapResult), frames[at(frames, snapResult)]),
		"sections swapped":    swap(frames, at(frames, snapCommand)-1),
		"unknown kind":        insert(frames, len(frames)-1, frame{snapEnd + 1, []byte{0x90}}),
		"kind 0":              insert(frames, 1, frame{0, []byte{0x90}}),
		"only an end":         {{snapEnd, nil}},
		"a request, no fleet": {frames[0], frames[at(frames, snapRequest)], {snapEnd, nil}},
	} {
		if _, err := ReadSnapshot(bytes.NewReader(sealed(made))); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	huge := append([]byte{0xff, 0xff, 0xff, 0xff, snapHead}, good[snapPrefix:]...)
	if _, err := ReadSnapshot(bytes.NewReader(huge)); err == nil {
		t.Error("a record of 4 GiB: read")
	}
}

func TestSnapshotListsAreBounded(t *testing.T) {
	frames, _ := split(snapshot(t, founded("a").s))
	for i := range MaxRequests + 1 {
		body := wire.Marshal(OperatorRequest{Name: "eve", Issued: int64(i)})
		frames = append(frames[:len(frames)-1], frame{snapRequest, body}, frames[len(frames)-1])
	}
	_, err := ReadSnapshot(bytes.NewReader(sealed(frames)))
	wantKind(t, err, fleet.Exhausted)
	frames = append(frames[:len(frames)-2], frames[len(frames)-1])
	if _, err := ReadSnapshot(bytes.NewReader(sealed(frames))); err != nil {
		t.Error(err)
	}
}

func TestWriteSnapshotSaysThatItFailed(t *testing.T) {
	s := busy(t).s
	size := len(snapshot(t, s))
	for _, room := range []int{0, size / 2, size - 1} {
		if err := s.WriteSnapshot(&fullDisk{room}); !errors.Is(err, errFull) {
			t.Errorf("room for %d of %d bytes: %v", room, size, err)
		}
	}
	if err := s.WriteSnapshot(&fullDisk{size}); err != nil {
		t.Error(err)
	}
}

var errFull = errors.New("disk full")

type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}
