package node

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// line is one folder's life after life: its disk, its clock, the voice of the life that goes on, and what it has signed.
type line struct {
	told    uint64
	known   bool // the file can be read
	full    bool // the disk takes nothing
	clock   time.Time
	voice   Voice
	newest  uint64 // what it says now
	echoed  uint64
	yields  bool
	signed  []uint64 // by all lives, sent or not
	strange []uint64
}

var dawn = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newLine() *line {
	l := &line{known: true, clock: dawn}
	l.start()
	return l
}

// start begins another life.
func (l *line) start() {
	l.voice, l.newest, l.echoed = NewVoice(l.told, l.known), 0, 0
}

// tell signs once, as gossip does; crash says after how many of its steps the host dies.
func (l *line) tell(crash int) (sequence uint64, sent bool) {
	least := uint64(0)
	if l.newest > 0 {
		least = max(l.newest, l.echoed) + 1
	}
	next := l.voice.Next(l.clock, least)
	if crash == 1 {
		l.start()
		return 0, false
	}
	if l.full {
		spare, ok := l.voice.Spare(least)
		if !ok {
			return 0, false
		}
		next = spare
	} else {
		l.told, l.known = next, true
	}
	if crash == 2 {
		l.start()
		return 0, false
	}
	l.voice.Said(next, !l.full)
	l.newest = next
	l.signed = append(l.signed, next)
	if crash == 3 { // it was signed, and somebody may have got it
		l.start()
	}
	return next, true
}

func (l *line) hear(sequence uint64) {
	l.echoed = max(l.echoed, sequence)
	if l.voice.Strange(sequence) {
		l.strange = append(l.strange, sequence)
	}
}

func (l *line) jump(t *rapid.T) {
	by := rapid.SampledFrom([]time.Duration{time.Nanosecond, time.Second, time.Hour, 50 * 365 * 24 * time.Hour}).Draw(t, "jump")
	if rapid.Bool().Draw(t, "back") {
		by = -by
	}
	if to := l.clock.Add(by); to.Year() > 1900 && to.Year() < 2200 { // what 64 bits of nanoseconds can say
		l.clock = to
	}
}

// TestNoFalseAlarm: whatever happens to one host alone, nothing that it hears of itself is strange to it.
func TestNoFalseAlarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLine()
		t.Repeat(map[string]func(*rapid.T){
			"restarts":            func(*rapid.T) { l.start() },
			"changes its address": func(t *rapid.T) { l.tell(rapid.IntRange(0, 3).Draw(t, "crash")) },
			"has a wrong clock":   l.jump,
			"time goes on":        func(*rapid.T) { l.clock = l.clock.Add(time.Second) },
			"has a full disk":     func(*rapid.T) { l.full = true },
			"has room":            func(*rapid.T) { l.full = false },
			"loses the file": func(*rapid.T) { // and its clock is not behind what it signed: two faults are not told apart
				l.known, l.told = false, 0
				if len(l.signed) > 0 {
					l.clock = time.Unix(0, int64(maxOf(l.signed))).Add(time.Second)
				}
				l.full = false
				l.start()
				if len(l.signed) > 0 {
					l.hear(maxOf(l.signed))
				}
				l.tell(0)
				l.start()
			},
			"hears of itself": func(t *rapid.T) {
				if len(l.signed) == 0 {
					t.Skip("it has said nothing")
				}
				l.hear(rapid.SampledFrom(l.signed).Draw(t, "one of its own"))
			},
			"hears of itself at last": func(t *rapid.T) {
				if len(l.signed) > 0 {
					l.hear(maxOf(l.signed))
				}
			},
			"": func(t *rapid.T) {
				if len(l.strange) > 0 {
					t.Fatalf("it takes its own %d for another's (signed %d, folder %d)", l.strange, l.signed, l.told)
				}
			},
		})
	})
}

func maxOf(all []uint64) (most uint64) {
	for _, s := range all {
		most = max(most, s)
	}
	return most
}

// word is what a fleet holds of a node: the highest that it heard.
type word struct {
	sequence uint64
	by       *line
	yields   bool
}

// TestClonesStop: two hosts with one folder, copied at any moment of its life, both find out, whatever their clocks, and
// whoever speaks first; and so does a folder that was put back from an older copy.
func TestClonesStop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := newLine()
		var held word
		say := func(l *line) {
			if seq, ok := l.tell(0); ok && seq > held.sequence {
				held = word{seq, l, l.yields}
			}
		}
		for range rapid.IntRange(0, 4).Draw(t, "life before") {
			one.jump(t)
			say(one)
			if rapid.Bool().Draw(t, "restart") {
				one.start()
			}
		}
		two := &line{told: one.told, known: true, clock: one.clock}
		two.start()
		if rapid.Bool().Draw(t, "the first goes on alone") {
			one.start()
			say(one)
		}
		two.jump(t)
		sides := []*line{one, two}
		if rapid.Bool().Draw(t, "the second speaks first") {
			sides = []*line{two, one}
		}
		for _, l := range sides {
			say(l)
		}
		for range 8 { // both are there, and hear what the fleet holds
			for _, l := range sides {
				l.hear(held.sequence)
				if len(l.strange) > 0 && !l.yields { // it stops, and says so from its next start on
					l.yields = true
					l.start()
					say(l)
					l.hear(held.sequence)
				}
				if held.by != l && held.sequence >= l.newest && !(l.yields && held.yields) {
					say(l)
				}
			}
		}
		if !one.yields || !two.yields {
			t.Fatalf("the first stops: %v, the second: %v (%d and %d; the fleet holds %d)", one.yields, two.yields, one.signed, two.signed, held.sequence)
		}
	})
}

// TestPutBack: a folder that was put back from an older copy, while the fleet saw it speak since, stops as soon as it hears.
func TestPutBack(t *testing.T) {
	l := newLine()
	l.tell(0)
	old := *l
	l.clock = l.clock.Add(time.Hour)
	l.start()
	later, _ := l.tell(0)
	back := line{told: old.told, known: true, clock: l.clock.Add(time.Hour)}
	back.start()
	back.tell(0)
	if back.hear(old.newest); len(back.strange) > 0 {
		t.Error("what the older copy itself said is strange")
	}
	if back.hear(later); len(back.strange) == 0 {
		t.Error("what was said since is not")
	}
}

// TestFullDisk: a host whose disk takes nothing goes on to tell, for a while, and knows all of it in its next life.
func TestFullDisk(t *testing.T) {
	l := newLine()
	l.tell(0)
	l.clock = l.clock.Add(time.Hour)
	l.tell(0)
	l.full = true
	for range 3 {
		if _, sent := l.tell(0); !sent {
			t.Fatal("it cannot tell")
		}
	}
	l.start()
	for _, seq := range l.signed {
		l.hear(seq)
	}
	if len(l.strange) > 0 {
		t.Errorf("%d are strange", l.strange)
	}
	fresh := newLine()
	fresh.full = true
	if _, sent := fresh.tell(0); sent {
		t.Error("a host that never wrote anything tells what nobody will know for its own")
	}
}

// TestVoiceIsBounded: a host that tells for years remembers a bounded number, and takes none of them for another's.
func TestVoiceIsBounded(t *testing.T) {
	v := NewVoice(0, true)
	var first uint64
	for i := range 3 * maxMade {
		seq := v.Next(dawn.Add(time.Duration(i)*time.Second), 0)
		v.Said(seq, true)
		if first == 0 {
			first = seq
		}
	}
	if len(v.made) > maxMade || v.Strange(first) || v.Strange(v.newest) {
		t.Errorf("%d are remembered; the first is strange: %v, the last: %v", len(v.made), v.Strange(first), v.Strange(v.newest))
	}
	if !v.Strange(v.newest+1) || !v.Strange(v.newest-1) {
		t.Error("another's are not strange")
	}
	full := NewVoice(1<<64-2, true)
	if full.Strange(1<<64-1) || full.Next(dawn, 0) != 1<<64-1 {
		t.Error("the end of the numbers")
	}
}
