package exec

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

var day0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func id(b byte) fleet.UUID { return fleet.UUID{15: b} }

func started(b byte, at time.Time) StartedRecord {
	return StartedRecord{Command: id(b), Digest: fleet.Sum([]byte{b}), Issued: at, Expires: at.Add(time.Hour), BootID: "boot", Time: at}
}

func TestMayStart(t *testing.T) {
	l := NewLedger(day0, time.Time{})
	for _, r := range []Record{
		started(1, day0),
		RefusedRecord{Command: id(2), Reason: "policy", Time: day0},
		CancelledRecord{Command: id(3), Time: day0},
		started(4, day0), EndedRecord{Command: id(4), Status: Unknown, Time: day0},
	} {
		if err := l.Fold(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		command fleet.UUID
		issued  time.Time
		valid   time.Duration
		want    string
		kind    fleet.Kind
	}{
		{"running", id(1), day0, time.Hour, "already started", fleet.Conflict},
		{"refused", id(2), day0, time.Hour, "already refused: policy", fleet.Conflict},
		{"cancelled before it was seen", id(3), day0, time.Hour, "was cancelled", fleet.Conflict},
		{"ended unknown", id(4), day0, time.Hour, "already started", fleet.Conflict},
		{"older than the ledger", id(5), day0.Add(-1), time.Hour, "before this node's ledger", fleet.Denied},
		{"valid too long", id(5), day0, MaxValidity + 1, "valid for longer", fleet.Invalid},
		{"new", id(5), day0, MaxValidity, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := l.MayStart(c.command, c.issued, c.issued.Add(c.valid))
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || fleet.KindOf(err) != c.kind {
				t.Fatalf("got %v, want %q (%v)", err, c.want, c.kind)
			}
		})
	}
}

func TestFoldRefusesWhatCannotFollow(t *testing.T) {
	ended := EndedRecord{Command: id(1), Status: Success, Time: day0}
	unknown := EndedRecord{Command: id(1), Status: Unknown, Time: day0}
	refused := RefusedRecord{Command: id(1), Time: day0}
	cancelled := CancelledRecord{Command: id(1), Time: day0}
	for name, c := range map[string]struct {
		records []Record // the last one is judged
		ok      bool
		status  Status
	}{
		"started twice":         {[]Record{started(1, day0), started(1, day0)}, false, InProgress},
		"ended unstarted":       {[]Record{ended}, false, Pending},
		"ended twice":           {[]Record{started(1, day0), ended, ended}, false, Success},
		"unknown becomes truth": {[]Record{started(1, day0), unknown, ended}, true, Success},
		"refused when running":  {[]Record{started(1, day0), refused}, false, InProgress},
		"started when refused":  {[]Record{refused, started(1, day0)}, false, Refused},
		"started when cancelled": {[]Record{cancelled, started(1, day0)}, false,
			Cancelled},
		"cancelled twice":        {[]Record{cancelled, cancelled}, true, Cancelled},
		"cancelled when running": {[]Record{started(1, day0), cancelled}, true, InProgress},
		"cancelled after end":    {[]Record{started(1, day0), ended, cancelled}, true, Success},
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLedger(day0, time.Time{})
			last := len(c.records) - 1
			for _, r := range c.records[:last] {
				if err := l.Fold(r); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Fold(c.records[last]); (err == nil) != c.ok {
				t.Fatalf("fold: %v", err)
			}
			if s, _ := l.Get(id(1)); s.Status() != c.status {
				t.Fatalf("status %s, want %s", s.Status(), c.status)
			}
		})
	}
}

func anyRecord(t *rapid.T, at time.Time) Record {
	command := id(rapid.Byte().Filter(func(b byte) bool { return b < 6 }).Draw(t, "command"))
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return RefusedRecord{command, fleet.Sum(command[:]), rapid.StringN(0, 40, 200).Draw(t, "reason"), at, rapid.SampledFrom([]Status{"", Failed, DeliveryTimedOut}).Draw(t, "status")}
	case 1:
		r := started(command[15], at)
		r.Expires = at.Add(time.Duration(rapid.IntRange(1, 30*24).Draw(t, "hours")) * time.Hour)
		return r
	case 2:
		out := OutputSum{rapid.Int64Min(0).Draw(t, "size"), 7, fleet.Sum(nil), true}
		status := rapid.SampledFrom([]Status{Success, Failed, TimedOut, Unknown}).Draw(t, "status")
		return EndedRecord{command, status, rapid.IntRange(-1, 255).Draw(t, "code"), 9, out, OutputSum{}, "detail", at}
	default:
		return CancelledRecord{command, at}
	}
}

// No history lets a command start twice, whatever is folded, pruned or compacted between, wherever the clock steps.
func TestNothingStartsTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := NewLedger(day0, time.Time{}), day0
		starts := map[fleet.UUID]StartedRecord{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(-48, 24*12).Draw(t, "hours")) * time.Hour)
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				l.Prune(now)
			case 1:
				next := NewLedger(l.Created(), l.Horizon())
				for _, r := range l.Records() {
					if err := next.Fold(r); err != nil {
						t.Fatalf("compaction wrote what cannot be read: %v", err)
					}
				}
				if !reflect.DeepEqual(l, next) {
					t.Fatalf("compaction changed the ledger:\n%v\n%v", l, next)
				}
				l = next
			default:
				r := anyRecord(t, now)
				s, isStart := r.(StartedRecord)
				if isStart && l.MayStart(s.Command, s.Issued, s.Expires) != nil {
					continue
				}
				if isStart {
					if _, twice := starts[s.Command]; twice {
						// A second order under the same ID is a different order: only one replayed as it was must be refused.
						continue
					}
					starts[s.Command] = s
				}
				_ = l.Fold(r)
			}
			for _, s := range starts {
				if l.MayStart(s.Command, s.Issued, s.Expires) == nil {
					t.Fatalf("command %s could start again", s.Command)
				}
			}
		}
	})
}

func TestACancelOutlivesItsOrder(t *testing.T) {
	l := NewLedger(day0, time.Time{})
	_ = l.Fold(CancelledRecord{id(1), day0})
	_ = l.Fold(CancelledRecord{id(2), day0.Add(-time.Hour)})
	l.Prune(day0.Add(MaxValidity + LedgerGrace))
	if _, kept := l.Get(id(1)); !kept {
		t.Fatal("the cancel was forgotten while its order could still be valid")
	}
	l.Prune(day0.Add(MaxValidity + LedgerGrace + 1))
	if l.Len() != 0 {
		t.Fatal("an old cancel is kept for ever")
	}
	if l.MayStart(id(1), day0, day0.Add(MaxValidity)) == nil {
		t.Fatal("a forgotten cancel makes the command startable")
	}
}

func TestPruneKeepsWhatRuns(t *testing.T) {
	l := NewLedger(day0, time.Time{})
	_ = l.Fold(started(1, day0))
	if gone := l.Prune(day0.AddDate(10, 0, 0)); gone != nil {
		t.Fatalf("forgot a run without an end: %v", gone)
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var data []byte
		var want []Record
		chain := fleet.Sum([]byte("header"))
		sum := chain
		for range rapid.IntRange(1, 8).Draw(t, "n") {
			r := anyRecord(t, day0)
			data, sum = AppendRecord(data, sum, r)
			want = append(want, r)
		}
		for i, at := 0, 0; i < len(want); i++ {
			got, next, n, err := DecodeRecord(data[at:], chain)
			if err != nil || !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("record %d: %v, got %v, want %v", i, err, got, want[i])
			}
			chain, at = next, at+n
		}
		if chain != sum {
			t.Fatal("the chain differs")
		}
	})
}

// Every bit of every record counts, and no record can be left out or moved.
func TestDecodeNoticesEveryFlip(t *testing.T) {
	chain := fleet.Sum([]byte("header"))
	first, sum := AppendRecord(nil, chain, started(1, day0))
	second, _ := AppendRecord(nil, sum, EndedRecord{Command: id(1), Status: Success, Time: day0})
	for _, c := range []struct {
		data  []byte
		chain fleet.ID
	}{{first, chain}, {second, sum}} {
		for bit := range len(c.data) * 8 {
			bad := bytes.Clone(c.data)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, _, _, err := DecodeRecord(bad, c.chain); err == nil {
				t.Fatalf("bit %d flipped, nothing noticed", bit)
			}
		}
		for n := range c.data {
			if _, _, _, err := DecodeRecord(c.data[:n], c.chain); err == nil {
				t.Fatalf("cut at %d, nothing noticed", n)
			}
		}
	}
	if _, _, _, err := DecodeRecord(second, chain); err == nil {
		t.Fatal("the first record was left out, nothing noticed")
	}
}

func TestTheLargestRecordFits(t *testing.T) {
	long := strings.Repeat("\xff€", 2000)
	for _, r := range []Record{
		RefusedRecord{id(1), fleet.Sum(nil), long, day0, Failed},
		StartedRecord{id(1), fleet.Sum(nil), day0, day0, long, day0},
		EndedRecord{id(1), DeliveryTimedOut, -1 << 63, -1 << 63, OutputSum{1 << 62, 1 << 62, fleet.Sum(nil), true},
			OutputSum{1 << 62, 1 << 62, fleet.Sum(nil), true}, long, day0},
	} {
		data, _ := AppendRecord(nil, fleet.ID{}, r)
		if _, _, _, err := DecodeRecord(data, fleet.ID{}); err != nil || len(data) > MaxRecord {
			t.Fatalf("%T: %d bytes, %v", r, len(data), err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, r := range []Record{started(1, day0), CancelledRecord{id(1), day0}, RefusedRecord{Command: id(2), Reason: "no", Time: day0},
		EndedRecord{Command: id(1), Status: Failed, ExitCode: 3, Time: day0}} {
		data, _ := AppendRecord(nil, fleet.ID{}, r)
		f.Add(data[4], data[recordHead:len(data)-recordTail])
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		_, _, _, _ = DecodeRecord(body, fleet.ID{})
		// Past the checksum: what was read once is read back the same.
		r, err := decodeBody(kind, body)
		if err != nil {
			return
		}
		data, _ := AppendRecord(nil, fleet.ID{}, r)
		again, _, _, err := DecodeRecord(data, fleet.ID{})
		if err != nil {
			t.Fatalf("%v was read but cannot be read back: %v", r, err)
		}
		if same, _ := AppendRecord(nil, fleet.ID{}, again); !bytes.Equal(same, data) {
			t.Fatalf("%v does not survive a round trip", r)
		}
	})
}
