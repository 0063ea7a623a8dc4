package params

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// timed returns a parameter whose newest version has policies, put at d.Now.
func timed(t *testing.T, d *desk, p *Param, all ...Policy) *Param {
	t.Helper()
	version, at := uint32(1), d.Now.UnixMilli()
	if p != nil {
		version, at = p.Last+1, p.Born
	}
	put, raw := plainPut("P", version, "x")
	put.Born, put.Tier, put.Policies = at, Advanced, all
	return d.take(t, p, put, raw)
}

// dueAt asks p what is due at, and fails unless it is these kinds.
func dueAt(t *testing.T, p *Param, at int64, want ...EventKind) *Param {
	t.Helper()
	next, events := p.Due(at)
	if len(events) != len(want) {
		t.Fatalf("at %d: %+v, want %v", at, events, want)
	}
	for i, e := range events {
		if e.Kind != want[i] || e.Name != "P" || e.Born != p.Born || e.Version != p.Last || e.Time != at || e.By != "" {
			t.Errorf("%+v, want %s", e, want[i])
		}
	}
	return next
}

func TestDue(t *testing.T) {
	d := newDesk("due")
	now := d.Now.UnixMilli()
	end := now + 10*day
	p := timed(t, d, nil, Policy{Kind: ExpirationNotification, Before: 2 * day}, Policy{Kind: Expiration, At: end}, Policy{Kind: NoChangeNotification, After: 5 * day})
	step := func(p *Param, next int64) {
		t.Helper()
		if at, ok := p.NextDue(); !ok || at != next {
			t.Errorf("next due %d, %v; want %d", at-now, ok, next-now)
		}
	}
	step(p, now+5*day)
	if same := dueAt(t, p, now+5*day-1); same != p {
		t.Error("another value, though nothing was due")
	}
	p = dueAt(t, p, now+5*day, EventUnchanged)
	step(p, end-2*day)
	p = dueAt(t, p, now+6*day)
	before := p
	p = dueAt(t, p, end-2*day, EventExpires)
	if len(before.Told) != 1 || len(p.Told) != 2 || p.Check() != nil {
		t.Errorf("%+v, then %+v", before.Told, p.Told)
	}
	step(p, end)
	if p.Expired(end-1) || !p.Expired(end) {
		t.Error("it does not expire at its end")
	}

	// A new version with the same expiry is not announced again; the count of days without a change begins anew.
	d.Advance(9 * 24 * time.Hour)
	again := timed(t, d, p, Policy{Kind: Expiration, At: end}, Policy{Kind: NoChangeNotification, After: 5 * day}, Policy{Kind: ExpirationNotification, Before: 2 * day})
	step(again, end)
	if gone := dueAt(t, dueAt(t, again, end-1), end, EventExpired); gone != nil {
		t.Error("it is there after its end")
	}
	// One with another expiry is.
	later := timed(t, d, p, Policy{Kind: ExpirationNotification, Before: 2 * day}, Policy{Kind: Expiration, At: end + day})
	dueAt(t, later, end-day, EventExpires)
	// One without any lives on.
	free := timed(t, d, p)
	if _, ok := free.NextDue(); ok || free.Expired(end) {
		t.Error("a version without policies has something due")
	}
	dueAt(t, free, end)
	// All at once: only the end counts.
	dueAt(t, timed(t, d, nil, Policy{Kind: ExpirationNotification, Before: day}, Policy{Kind: Expiration, At: d.Now.UnixMilli() + 1}, Policy{Kind: NoChangeNotification, After: hour}), end+day, EventExpired)
	// Two notices at once.
	dueAt(t, timed(t, d, nil, Policy{Kind: NoChangeNotification, After: hour}, Policy{Kind: NoChangeNotification, After: 2 * hour}), end+30*day, EventUnchanged, EventUnchanged)
}

// However often and however late one looks, every notice is given exactly once, none before its time, and Due does
// something exactly when NextDue says so.
func TestDueOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &Param{Name: "P", Born: 1, Last: 1, Versions: []*Version{{Number: 1, Time: born, Put: &Put{Name: "P", Policies: drawPolicies(t)}}}}
		given := map[EventKind]int{}
		now := born
		for range rapid.IntRange(1, 30).Draw(t, "looks") {
			now += rapid.Int64Range(0, 40*hour).Draw(t, "step")
			at, ok := p.NextDue()
			next, events := p.Due(now)
			if (ok && at <= now) != (len(events) > 0) {
				t.Fatalf("next due %d, %v at %d: %+v", at, ok, now, events)
			}
			for _, e := range events {
				given[e.Kind]++
			}
			if next == nil {
				if !p.Expired(now) {
					t.Fatal("it went before its end")
				}
				return
			}
			if p = next; p.Expired(now) {
				t.Fatal("it stayed after its end")
			}
		}
		if most := countKind(p.Newest().Put.Policies, NoChangeNotification); given[EventUnchanged] > most {
			t.Fatalf("%d notices of %d policies", given[EventUnchanged], most)
		}
		if most := countKind(p.Newest().Put.Policies, ExpirationNotification); given[EventExpires] > most {
			t.Fatalf("%d notices of %d policies", given[EventExpires], most)
		}
	})
}
