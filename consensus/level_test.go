package consensus

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func TestLevelOnlyRises(t *testing.T) {
	q := founded("a")
	if q.s.Level != fleet.LevelFirst {
		t.Fatalf("a fleet begins at level %d", q.s.Level)
	}
	before := q.s
	if r := q.put(SetLevel{fleet.LevelFirst}); fleet.KindOf(r.Err()) != fleet.Conflict || q.s.Digest() != before.Digest() {
		t.Errorf("the same level: %+v", r)
	}
	r := q.mustPut(t, SetLevel{fleet.LevelReleases})
	if q.s.Level != fleet.LevelReleases || r.Act != before.Act || q.s.Taken != before.Taken+1 {
		t.Errorf("level %d after act %d, which was %d; %d taken, which were %d", q.s.Level, r.Act, before.Act, q.s.Taken, before.Taken)
	}
	for _, to := range []fleet.Level{0, fleet.LevelFirst, fleet.LevelReleases} {
		if r := q.put(SetLevel{to}); fleet.KindOf(r.Err()) != fleet.Conflict || q.s.Level != fleet.LevelReleases {
			t.Errorf("from %d to %d: %+v", fleet.LevelReleases, to, r)
		}
	}
}

// Levels rise one by one, and what is refused leaves nothing at all, not even its time: programs from before levels cannot read
// it, and leave nothing of it either.
func TestLevelsRiseOneByOne(t *testing.T) {
	q := founded("a")
	for _, to := range []fleet.Level{0, fleet.LevelFirst, fleet.LevelFirst + 2, 1<<16 - 1} {
		item := Encode(SetLevel{to}, q.s.Time+1000)
		after, r := q.s.ApplyPrepared(q.s.Prepare(item))
		unknown, _ := q.s.ApplyPrepared(q.s.Prepare(append([]byte{kindsEnd}, item[1:]...)))
		if fleet.KindOf(r.Err()) != fleet.Conflict || after.Digest() != q.s.Digest() || after.Digest() != unknown.Digest() || after.Time != q.s.Time {
			t.Errorf("to %d: %+v, time %d after %d", to, r, after.Time, q.s.Time)
		}
		if err := q.s.Beyond(SetLevel{to}); err != nil {
			t.Errorf("to %d stops a replica: %v", to, err)
		}
	}
}

func TestUnfoundedFleetHasNoLevelToRaise(t *testing.T) {
	q := unfounded("a")
	if r := q.put(SetLevel{fleet.LevelReleases}); r.Err() == nil {
		t.Error("a fleet that was not founded has another level")
	}
}

// What a level brought is refused below it, in the same way on every replica, and taken from it on.
func TestSettingWaitsForItsLevel(t *testing.T) {
	q := founded("a")
	act := q.setting(auth.SettingReleaseKeys, "")
	r := q.put(act)
	if fleet.KindOf(r.Err()) != fleet.Unavailable || !strings.Contains(r.Why, "level 2") {
		t.Errorf("at the first level: %+v", r)
	}
	if r := q.put(q.setting(auth.SettingRecordsKeep, "10d")); r.Err() != nil {
		t.Errorf("a setting of the first level: %v", r.Err())
	}
	q.mustPut(t, SetLevel{fleet.LevelReleases})
	q.mustPut(t, act)
}

// A replica must not go past what only a newer version understands, and must not take damage for it.
func TestWhatIsNewer(t *testing.T) {
	q := founded("a")
	at := q.s
	at.Level = fleet.LevelNewest
	good := Encode(q.request("eve"), 1)
	change := func(at int, b byte) []byte {
		out := bytes.Clone(good)
		out[at] = b
		return out
	}
	for name, c := range map[string]struct {
		item  []byte
		newer bool
	}{
		"an entry":        {good, false},
		"kind to come":    {change(0, kindsEnd), false}, // no program writes it below the level that brings it
		"version to come": {change(1, EntryVersion+1), false},
		"level to come":   {Encode(SetLevel{fleet.LevelNewest + 1}, 1), true},
		"level beyond":    {Encode(SetLevel{fleet.LevelNewest + 2}, 1), false},
		"any level":       {Encode(SetLevel{1<<16 - 1}, 1), false},
		"this level":      {Encode(SetLevel{fleet.LevelNewest}, 1), false},
		"kind 0":          {change(0, 0), false},
		"version 0":       {change(1, 0), false},
		"another kind":    {change(0, kindPutToken), false},
		"cut":             {good[:len(good)-1], false},
		"nothing":         {nil, false},
	} {
		e, err := at.Prepare(c.item).Entry()
		if err == nil {
			err = at.Beyond(e)
		}
		if fleet.IsNewer(err) != c.newer {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		head  any
		newer bool
	}{
		"level to come":  {snapshotHeadLevel{SnapshotFormatLevel, 1, 1, 1, q.s.params.lost, 0, fleet.LevelNewest + 1}, true},
		"format to come": {snapshotHeadLevel{SnapshotFormatLevel + 1, 1, 1, 1, q.s.params.lost, 0, 2}, true},
		"old format":     {snapshotHead{SnapshotFormat - 1, 1, 1, 1, q.s.params.lost, 0}, false},
		"format 0":       {snapshotHead{0, 1, 1, 1, q.s.params.lost, 0}, false},
	} {
		_, err := ReadSnapshot(bytes.NewReader(sealed([]frame{{snapHead, wire.Marshal(c.head)}})))
		if err == nil || fleet.IsNewer(err) != c.newer {
			t.Errorf("snapshot, %s: %v", name, err)
		}
	}
}

// Snapshots of the first level keep the bytes that its programs write: replicas of both compare by them. The sums were made
// by the program of that level.
func TestFirstLevelsSnapshotKeepsItsBytes(t *testing.T) {
	q := founded("busy")
	for _, e := range oneOfEach(q) {
		if _, level := e.(SetLevel); level {
			continue
		}
		q.mustPut(t, e)
		q.Advance(time.Second)
	}
	fill(t, q)
	for name, c := range map[string]struct {
		state State
		want  string
	}{
		"founded": {founded("a").s, "8a3891b27691a62a5949a51e53415a5266b80eb18cdd8f5ea84f3a9f53f693c0"},
		"busy":    {q.s, "20633a6afd21627e423d266c20510d51acf40a41a2237a402be59311207e194d"},
	} {
		sum := fleet.Sum(snapshot(t, c.state))
		if got := hex.EncodeToString(sum[:]); got != c.want {
			t.Errorf("%s: the snapshot of the first level has other bytes (%s) than its programs write: give the state a new level, and write what is new from that level on", name, got)
		}
	}
}

func TestLevelSurvivesASnapshot(t *testing.T) {
	q := founded("a")
	q.mustPut(t, SetLevel{fleet.LevelReleases})
	if got := restore(t, snapshot(t, q.s)); got.Level != fleet.LevelReleases || got.Digest() != q.s.Digest() {
		t.Errorf("level %d", got.Level)
	}
	if got := restore(t, snapshot(t, founded("a").s)); got.Level != fleet.LevelFirst {
		t.Errorf("level %d", got.Level)
	}
	if founded("a").s.Digest() == q.s.Digest() {
		t.Error("the level is not in the digest")
	}
}
