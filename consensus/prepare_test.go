package consensus

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// Whatever was found out about an entry, and whatever has changed since: it comes to what it would without it.
func TestPreparedSeesWhatHasChanged(t *testing.T) {
	teamTagged := func(team string) func(*params.Put) {
		return func(p *params.Put) { p.Tags = map[string]string{"team": team} }
	}
	for name, c := range map[string]struct {
		want   fleet.Kind
		change func(q *quorum, bob auth.Signer)
	}{
		"the signer was removed": {fleet.Denied, func(q *quorum, bob auth.Signer) { q.mustPut(t, putAct(q.DeleteOperator("bob", bob, false))) }},
		"policy was changed": {fleet.Denied, func(q *quorum, _ auth.Signer) {
			q.mustPut(t, putAct(q.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy})))
		}},
		"the signer lost a team": {fleet.Denied, func(q *quorum, bob auth.Signer) {
			q.mustPut(t, putAct(q.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy + `permit (principal in Team::"web", action, resource);`})))
		}},
		"the parameter is another's": {fleet.Denied, func(q *quorum, _ auth.Signer) { q.mustPut(t, q.change(q.set("/t/x", "one", teamTagged("web")))) }},
		"a rival was faster": {fleet.Conflict, func(q *quorum, bob auth.Signer) {
			q.mustPut(t, q.changeBy(bob, q.set("/t/x", "two", teamTagged("bob"))))
		}},
		"it was deleted": {fleet.Conflict, func(q *quorum, bob auth.Signer) { q.mustPut(t, q.changeBy(bob, q.unset("/t/x"))) }},
		"time passed":    {fleet.Expired, func(q *quorum, _ auth.Signer) { q.Advance(time.Hour) }},
	} {
		q := founded("a")
		bob := addOperator(t, q, "bob")
		q.mustPut(t, q.changeBy(bob, q.set("/t/x", "one", teamTagged("bob"))))
		e := q.changeBy(bob, q.set("/t/x", "rival", teamTagged("bob")))
		item := Encode(e, q.Now.UnixMilli())
		early := q.s.Prepare(item)
		if _, r := q.s.ApplyPrepared(early); r.Err() != nil {
			t.Fatalf("%s: refused before anything changed: %v", name, r.Err())
		}
		c.change(q, bob)
		if item, _ = Stamp(item, q.Now.UnixMilli()); name == "time passed" {
			early = q.s.Prepare(item)
		}
		want, first := q.s.Apply(e, q.Now.UnixMilli())
		got, r := q.s.ApplyPrepared(early)
		wantNamed(t, name, r.Err(), c.want)
		if r != first || got.Digest() != want.Digest() {
			t.Errorf("%s: %+v, and not prepared %+v", name, r, first)
		}
	}
}

// What holds in one fleet says nothing about another, and what could not be found out is found out later.
func TestPreparedElsewhere(t *testing.T) {
	q, other := founded("a"), founded("b")
	good := q.change(q.set("/t/x", "one", nil))
	op := auth.Operator{Name: "twin", Key: q.Operator.Public(), Teams: []string{auth.RootTeam}}
	other.mustPut(t, putAct(other.Charter(auth.CharterPutOperator, op)))
	now := q.Now.UnixMilli()
	for name, s := range map[string]State{"unfounded": NewState(), "another fleet": other.s, "the same": q.s} {
		if _, r := q.s.ApplyPrepared(s.Prepare(Encode(good, now))); r.Err() != nil {
			t.Errorf("prepared by %s: %v", name, r.Err())
		}
	}
	theirs := PutParams{other.Operator.Sign(auth.ForParams, other.ID(), must(peekChange(good))), good.Ops, good.Contents}
	twins := PutParams{q.Operator.Sign(auth.ForParams, other.ID(), must(peekChange(good))), good.Ops, good.Contents}
	for name, e := range map[string]PutParams{"another fleet's": theirs, "for another fleet": twins, "a stranger's": q.changeBy(authtest.Signer("x"), q.set("/t/x", "one", nil))} {
		for _, s := range []State{other.s, q.s} {
			_, r := q.s.ApplyPrepared(s.Prepare(Encode(e, now)))
			wantNamed(t, name, r.Err(), fleet.Denied)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPreparedIsAnItem(t *testing.T) {
	q := founded("a")
	for name, p := range map[string]Prepared{"nothing": {}, "no entry": q.s.Prepare([]byte{1, 2, 3})} {
		s, r := q.s.ApplyPrepared(p)
		if r.Err() == nil || s.Digest() != q.s.Digest() {
			t.Errorf("%s was applied: %+v", name, r)
		}
		if e, err := p.Entry(); e != nil || err == nil {
			t.Errorf("%s has entry %v, %v", name, e, err)
		}
	}
	var items []Prepared
	var want []Result
	s := q.s
	for i, e := range append(oneOfEach(q), PutAct{}) {
		now := q.Now.UnixMilli() + int64(i)
		items = append(items, q.s.Prepare(Encode(e, now)))
		if got, err := items[i].Entry(); err != nil || got.kind() != e.kind() {
			t.Errorf("%T became %T, %v", e, got, err)
		}
		var r Result
		s, r = s.Apply(e, now)
		want = append(want, r)
	}
	all, got := q.s.ApplyAll(items)
	if all.Digest() != s.Digest() || all.Time != s.Time || len(got) != len(want) {
		t.Fatal("all at once came to another state than one by one")
	}
	for i, r := range got {
		if r != want[i] {
			t.Errorf("item %d came to %+v, alone to %+v", i, r, want[i])
		}
	}
}
