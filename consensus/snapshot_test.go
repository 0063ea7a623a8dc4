package consensus

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// busy returns a quorum with something in every list.
func busy(t testing.TB) *quorum {
	t.Helper()
	q := founded("busy")
	for _, e := range oneOfEach(q) {
		q.mustPut(t, e)
		q.Advance(time.Second)
	}
	fill(t, q)
	return q
}

// fill puts more into a quorum that has one of each.
func fill(t testing.TB, q *quorum) {
	t.Helper()
	token := q.NewToken(3, nil)
	q.mustPut(t, PutToken{token.Statement})
	q.mustPut(t, q.enrol(token, q.NewNode("web-1")))
	q.mustPut(t, q.command(ids(q.Nodes...), nil))
	paced := q.command(ids(q.Nodes...), limited(exec.Pace{Errors: 1}))
	q.mustPut(t, paced)
	q.mustPut(t, PutGrants{commandID(paced), []uint32{0}})
	q.mustPut(t, q.cancelOn(commandID(paced), q.Nodes[0].ID))
	q.mustPut(t, q.document("hello", "one")) // the same text under two names
	q.mustPut(t, q.change(q.set("/app/a", "one", nil), q.set("/app/b", "one", func(p *params.Put) { p.Labels, p.Seq = []string{"first"}, 1 }), q.set("gone", "one", nil), q.set("gone2", "x", nil)))
	q.mustPut(t, q.change(q.set("/app/a", "two", func(p *params.Put) { p.Tags = map[string]string{"a": "b"} })))
	q.mustPut(t, q.change(q.labelled("/app/a", 1, "current", "old"), q.labelled("/app/b", 1, "second"), q.unset("gone"), q.unset("gone2")))
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

// parametersOf writes down all parameters with everything that is kept of them.
func parametersOf(s State) string {
	out := fmt.Sprint(s.params.lost, s.params.floor)
	for name, p := range s.params.byName.all() {
		out += fmt.Sprintf("%s %+v\n", name, *p)
		for _, v := range p.Versions {
			out += fmt.Sprintf("%+v %+v %+v\n", *v.Put, *v.Change, [][]byte{v.Body, v.Content})
		}
		for _, l := range p.Labels {
			out += fmt.Sprintf("%+v %+v\n", *l.Change, l.Body)
		}
	}
	for at, e := range s.params.events.all() {
		out += fmt.Sprintf("%v %+v\n", at, *e)
	}
	for name, stone := range s.params.gone.all() {
		out += fmt.Sprintf("%s %+v\n", name, stone)
	}
	for at := range s.params.due.all() {
		out += fmt.Sprintf("%+v\n", at)
	}
	return regexp.MustCompile(`0x[0-9a-f]+`).ReplaceAllString(out, "") // pointers
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
	checkCounts(t, q.s)
	checkCounts(t, got)
	if parametersOf(got) != parametersOf(q.s) || !sameParams(got, q.s) || got.ParamCount() != 3 {
		t.Error("the parameters differ")
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
	var head snapshotHeadLevel // the sample's level is above the first
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
	version := func(i int, alter func(*snapshotParamVersion)) []frame { // the i-th
		var sv snapshotParamVersion
		return altered(t, frames, at(frames, snapParamVersion)+i, &sv, func() { alter(&sv) })
	}
	var sp snapshotParam
	param := func(alter func(*snapshotParam)) []frame {
		return altered(t, frames, at(frames, snapParam), &sp, func() { alter(&sp) })
	}
	label := func(i int, alter func(*snapshotLabel)) []frame {
		var sl snapshotLabel
		return altered(t, frames, at(frames, snapLabel)+i, &sl, func() { alter(&sl) })
	}
	var stone snapshotTombstone
	tombstone := func(alter func(*snapshotTombstone)) []frame {
		return altered(t, frames, at(frames, snapTombstone), &stone, func() { alter(&stone) })
	}
	var event params.Event
	events := func(alter func(*params.Event)) []frame {
		return altered(t, frames, last(snapEvent), &event, func() { alter(&event) })
	}
	var shared snapshotParamVersion
	if err := wire.Unmarshal(frames[at(frames, snapParamVersion)].body, &shared); err != nil || len(shared.Statement) != 1 {
		t.Fatal("the first version came with no statement", err)
	}
	q := founded("a")
	unlabelled := wire.Marshal(q.labelled("/app/a", 1, "other").op)
	other := founded("a")
	for name, made := range map[string][]frame{
		"no head":              drop(frames, 0),
		"two heads":            insert(frames, 0, frames[0]),
		"another format":       replace(snapHead, snapshotHeadLevel{SnapshotFormatLevel + 1, head.Act, head.Time, head.Taken, head.Lost, head.Floor, head.Level}),
		"an older format":      replace(snapHead, snapshotHead{SnapshotFormat - 1, head.Act, head.Time, head.Taken, head.Lost, head.Floor}),
		"the first level":      replace(snapHead, snapshotHeadLevel{SnapshotFormatLevel, head.Act, head.Time, head.Taken, head.Lost, head.Floor, fleet.LevelFirst}),
		"a level to come":      replace(snapHead, snapshotHeadLevel{SnapshotFormatLevel, head.Act, head.Time, head.Taken, head.Lost, head.Floor, fleet.LevelNewest + 1}),
		"a level too many":     replace(snapHead, snapshotHeadLevel{SnapshotFormat, head.Act, head.Time, head.Taken, head.Lost, head.Floor, head.Level}),
		"no level":             replace(snapHead, snapshotHead{SnapshotFormatLevel, head.Act, head.Time, head.Taken, head.Lost, head.Floor}),
		"ends before its acts": replace(snapHead, snapshotHeadLevel{SnapshotFormatLevel, head.Act - 1, head.Time, head.Taken, head.Lost, head.Floor, head.Level}),
		"older than its acts":  replace(snapHead, snapshotHeadLevel{SnapshotFormatLevel, head.Act, 1, head.Taken, head.Lost, head.Floor, head.Level}),
		"took less":            replace(snapHead, snapshotHeadLevel{SnapshotFormatLevel, head.Act, head.Time, head.Act - 1, head.Lost, head.Floor, head.Level}),
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

		"a parameter without versions":     insert(frames, at(frames, snapParam), frame{snapParam, wire.Marshal(snapshotParam{Name: "/app/0", Born: 1, Last: 1})}),
		"a parameter twice":                insert(frames, at(frames, snapParam), frames[at(frames, snapParam)]),
		"versions of no parameter":         drop(frames, at(frames, snapParam)),
		"parameters swapped":               swap(frames, at(frames, snapParam)),
		"versions of parameters swapped":   swap(frames, at(frames, snapParamVersion)),
		"a version of a parameter less":    drop(frames, at(frames, snapParamVersion)+1),
		"another last version":             param(func(p *snapshotParam) { p.Last++ }),
		"another birth":                    param(func(p *snapshotParam) { p.Born++ }),
		"fewer label changes":              param(func(p *snapshotParam) { p.Seq = 0 }),
		"a notice of no policy":            param(func(p *snapshotParam) { p.Told = []params.Told{{Policy: 3}} }),
		"another value":                    version(0, func(v *snapshotParamVersion) { v.Content[3]++ }),
		"no value":                         version(0, func(v *snapshotParamVersion) { v.Content = nil }),
		"a version by an act to come":      version(1, func(v *snapshotParamVersion) { v.Act = head.Act + 1 }),
		"a version that nothing made":      version(0, func(v *snapshotParamVersion) { v.Body = []byte{0xc0} }),
		"a version made by a label":        version(0, func(v *snapshotParamVersion) { v.Body = unlabelled }),
		"no statement":                     version(0, func(v *snapshotParamVersion) { v.Statement = nil }),
		"an empty list of statements":      version(2, func(v *snapshotParamVersion) { v.Statement = []auth.Envelope{} }),
		"two statements":                   version(0, func(v *snapshotParamVersion) { v.Statement = append(v.Statement, v.Statement[0]) }),
		"a statement twice":                version(2, func(v *snapshotParamVersion) { v.Act, v.Statement = shared.Act, shared.Statement }),
		"a label of no version":            label(0, func(l *snapshotLabel) { l.Version = 9 }),
		"a label of no parameter":          label(0, func(l *snapshotLabel) { l.Name = "/app/0" }),
		"a label that is none":             label(0, func(l *snapshotLabel) { l.Label = "aws" }),
		"a label that nothing put there":   label(0, func(l *snapshotLabel) { l.Body = unlabelled }),
		"a label without its operation":    label(0, func(l *snapshotLabel) { l.Body = nil }),
		"labels swapped":                   swap(frames, at(frames, snapLabel)),
		"a label with its version, proved": label(2, func(l *snapshotLabel) { l.Body = shared.Body }),
		"deleted ones swapped":             swap(frames, at(frames, snapTombstone)),
		"deleted after the end":            tombstone(func(s *snapshotTombstone) { s.Tombstone.At = head.Time + 1 }),
		"deleted, of no such name":         tombstone(func(s *snapshotTombstone) { s.Name = "/aws/x" }),
		"events swapped":                   swap(frames, at(frames, snapEvent)),
		"an event to come":                 events(func(e *params.Event) { e.Act = head.Act + 1 }),
		"an event that is lost":            replace(snapHead, snapshotHeadLevel{SnapshotFormatLevel, head.Act, head.Time, head.Taken, params.EventPos{Act: head.Act - 1}, head.Floor, head.Level}),
		"lost events to come":              replace(snapHead, snapshotHeadLevel{SnapshotFormatLevel, head.Act, head.Time, head.Taken, params.EventPos{Act: head.Act + 1}, head.Floor, head.Level}),
		"only parameters":                  slices.Concat(frames[:1], frames[at(frames, snapParam):at(frames, snapParam)+1], []frame{{snapEnd, nil}}),

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

// altered returns frames with a change of what one of them holds.
func altered(t *testing.T, frames []frame, i int, into any, alter func()) []frame {
	t.Helper()
	if err := wire.Unmarshal(frames[i].body, into); err != nil {
		t.Fatal(err)
	}
	alter()
	out := slices.Clone(frames)
	out[i].body = wire.Marshal(into)
	return out
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
