package params

import (
	"slices"
)

// Policies are those of the newest version, as Systems Manager has it: a version brings its own, and says so.

// Expired reports whether a parameter whose newest version is p is over at now (Unix milliseconds): for copies, which nobody
// takes away.
func (p Put) Expired(now int64) bool {
	at, ok := expiry(p.Policies)
	return ok && at <= now
}

// Expired reports whether the parameter's time is over at now (Unix milliseconds). Whoever reads it must not see it any
// more, even if nobody has taken it away yet.
func (p *Param) Expired(now int64) bool {
	return p.Newest().Put.Expired(now)
}

// NextDue returns when time itself next does something to the parameter, in Unix milliseconds; ok is false if never.
func (p *Param) NextDue() (at int64, ok bool) {
	for i, policy := range p.Newest().Put.Policies {
		if p.told(i) {
			continue
		}
		if due := p.dueAt(policy); !ok || due < at {
			at, ok = due, true
		}
	}
	return at, ok
}

// Due returns the parameter after what is due at now (Unix milliseconds), nil if it has expired, and the events of it. If
// nothing is due it is p itself, without events. Their Act and Part are the caller's to give. A notice is given once; none
// is given of an expiry that has come.
func (p *Param) Due(now int64) (next *Param, events []Event) {
	if p.Expired(now) {
		return nil, []Event{p.timed(EventExpired, now)}
	}
	next = p
	for i, policy := range p.Newest().Put.Policies {
		if p.told(i) || p.dueAt(policy) > now {
			continue
		}
		kind := EventUnchanged
		if policy.Kind == ExpirationNotification {
			kind = EventExpires
		}
		if next == p {
			changed := *p
			changed.Told = slices.Clone(p.Told)
			next = &changed
		}
		next.Told = append(next.Told, Told{Policy: uint32(i), At: now})
		events = append(events, p.timed(kind, now))
	}
	return next, events
}

func (p *Param) timed(kind EventKind, now int64) Event {
	return Event{Time: now, Kind: kind, Name: p.Name, Born: p.Born, Version: p.Last, Tags: p.Newest().Put.Tags}
}

func (p *Param) told(policy int) bool {
	return slices.ContainsFunc(p.Told, func(t Told) bool { return int(t.Policy) == policy })
}

func (p *Param) dueAt(policy Policy) int64 {
	switch policy.Kind {
	case Expiration:
		return policy.At
	case ExpirationNotification:
		at, _ := expiry(p.Newest().Put.Policies)
		return at - policy.Before
	case NoChangeNotification:
		return p.Newest().Time + policy.After
	}
	return 1<<63 - 1
}

// stillTold returns the notices that need not be given again when put follows: those of an expiry that does not move.
func (p *Param) stillTold(put *Put) (out []Told) {
	before := p.Newest().Put.Policies
	was, _ := expiry(before)
	if at, ok := expiry(put.Policies); !ok || at != was {
		return nil
	}
	for _, t := range p.Told {
		if int(t.Policy) >= len(before) || before[t.Policy].Kind != ExpirationNotification {
			continue
		}
		if i := slices.Index(put.Policies, before[t.Policy]); i >= 0 {
			out = append(out, Told{Policy: uint32(i), At: t.At})
		}
	}
	return out
}
