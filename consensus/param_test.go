package consensus

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

func hours(n int64) int64 { return n * time.Hour.Milliseconds() }

// One parameter's life: made, changed, labelled, deleted; and what a watch is told of it.
func TestLifeOfAParameter(t *testing.T) {
	q := founded("a")
	q.mustPut(t, q.change(q.set("/app/url", "one", nil)))
	q.mustPut(t, q.change(q.set("/app/url", "two", nil)))
	r := q.mustPut(t, q.change(q.labelled("/app/url", 1, "current")))
	p, ok := q.s.Param("/app/url")
	if !ok || p.Last != 2 || len(p.LabelsOf(1)) != 1 || p.Newest().Operator != "ada" || p.Newest().Act != r.Act-1 || p.Newest().Time != q.Now.UnixMilli() {
		t.Fatalf("%+v", p)
	}
	q.mustPut(t, q.change(q.unset("/app/url")))
	if _, ok := q.s.Param("/app/url"); ok || q.s.ParamCount() != 0 || q.s.ParamBytes() != 0 {
		t.Errorf("it was deleted, and is there, with %d bytes", q.s.ParamBytes())
	}
	want := []params.EventKind{params.EventCreated, params.EventUpdated, params.EventLabelled, params.EventDeleted}
	if got := kinds(t, q.s); !slices.Equal(got, want) {
		t.Errorf("events %v", got)
	}
	wantKind(t, q.put(ParamsDue{}).Err(), fleet.Conflict)
}

// kinds lists the kinds of all events.
func kinds(t testing.TB, s State) (out []params.EventKind) {
	t.Helper()
	events, ok := s.ParamEvents(params.EventPos{}, MaxParamEvents)
	if !ok {
		t.Fatal("events are lost")
	}
	for _, e := range events {
		out = append(out, e.Kind)
	}
	return out
}

// What an item proves to its reader is what the state keeps of it.
func TestReadersCanVerifyWhatIsKept(t *testing.T) {
	q := founded("a")
	q.mustPut(t, q.change(q.set("/t/a", "one", func(p *params.Put) { p.Labels, p.Seq = []string{"first"}, 1 }), q.set("/t/b", "two", nil)))
	q.mustPut(t, q.change(q.labelled("/t/b", 1, "current")))
	s := restore(t, snapshot(t, q.s))
	for _, selector := range []params.Selector{{Name: "/t/a"}, {Name: "/t/a", Label: "first"}, {Name: "/t/b", Version: 1}, {Name: "/t/b", Label: "current"}} {
		p, _ := s.Param(selector.Name)
		v, at, err := p.Find(selector)
		if err != nil {
			t.Fatal(err)
		}
		item := p.Item(selector, v, at)
		item.Content = [][]byte{v.Content}
		if _, err := params.Verify(item, s.Record.Charter); err != nil {
			t.Errorf("%s: %v", selector, err)
		}
	}
}

func TestChangeRefusals(t *testing.T) {
	q := founded("a")
	q.mustPut(t, q.change(q.set("/t/old", "one", nil), q.set("/t/twice", "one", nil)))
	q.mustPut(t, q.change(q.set("/t/twice", "two", nil)))
	stranger, bob := authtest.Signer("stranger"), addOperator(t, q, "bob")
	gone := addOperator(t, q, "gone")
	q.mustPut(t, putAct(q.DeleteOperator("gone", gone, false)))
	good := q.change(q.set("/t/new", "one", nil))
	put := func(alter func(*params.Put)) PutParams { return q.change(q.set("/t/new", "one", alter)) }
	header := func(alter func(*auth.Header)) PutParams {
		h := q.Header(10 * time.Minute)
		alter(&h)
		e := q.set("/t/new", "one", func(p *params.Put) { p.Born = h.Issued })
		e.op.Salt = q.NewID()
		change, bodies := params.Commit(h, []params.Op{e.op})
		return PutParams{q.Sign(auth.ForParams, change), bodies, [][]byte{e.content}}
	}
	with := func(alter func(*PutParams)) PutParams {
		e := good
		e.Ops, e.Contents = slices.Clone(good.Ops), slices.Clone(good.Contents)
		alter(&e)
		return e
	}
	op := func(name string, alter func(*params.Op)) PutParams {
		e := q.set(name, "one", nil)
		alter(&e.op)
		return q.change(e)
	}
	for name, c := range map[string]struct {
		want fleet.Kind
		e    PutParams
	}{
		"no operator":                     {fleet.Denied, q.changeBy(stranger, q.set("/t/new", "one", nil))},
		"an operator who was removed":     {fleet.Denied, q.changeBy(gone, q.set("/t/new", "one", nil))},
		"policy":                          {fleet.Denied, q.changeBy(bob, q.set("/t/new", "one", nil))},
		"a node":                          {fleet.Denied, q.changeBy(q.Nodes[0].Signer, q.set("/t/new", "one", nil))},
		"signed for something else":       {fleet.Denied, with(func(e *PutParams) { e.Statement = resigned(q, e.Statement, auth.ForDocument) })},
		"another body":                    {fleet.Denied, with(func(e *PutParams) { e.Statement.Body = append(bytes.Clone(e.Statement.Body), 0) })},
		"another signature":               {fleet.Denied, with(func(e *PutParams) { e.Statement.Signature = make([]byte, ed25519.SignatureSize) })},
		"another key":                     {fleet.Denied, with(func(e *PutParams) { e.Statement.Key[0]++ })},
		"another operation":               {fleet.Denied, with(func(e *PutParams) { e.Ops = q.change(q.set("/t/new", "one", nil)).Ops })},
		"no operation":                    {fleet.Invalid, with(func(e *PutParams) { e.Ops = nil })},
		"one operation too many":          {fleet.Invalid, with(func(e *PutParams) { e.Ops = append(e.Ops, e.Ops[0]) })},
		"another value":                   {fleet.Denied, with(func(e *PutParams) { e.Contents[0] = params.PlainContent([]byte("two")).Encode() })},
		"no value":                        {fleet.Invalid, with(func(e *PutParams) { e.Contents = nil })},
		"a value too many":                {fleet.Invalid, with(func(e *PutParams) { e.Contents = append(e.Contents, e.Contents[0]) })},
		"a huge statement":                {fleet.Exhausted, with(func(e *PutParams) { e.Statement.Body = make([]byte, params.MaxSigned+1) })},
		"two operations on one parameter": {fleet.Invalid, q.change(q.set("/t/new", "one", nil), q.set("/t/new", "one", nil))},
		"an operation that does nothing":  {fleet.Invalid, op("/t/new", func(o *params.Op) { o.Put = nil })},
		"an operation that does two":      {fleet.Invalid, op("/t/new", func(o *params.Op) { o.Delete = []params.Delete{{Name: "/t/new", Born: 1, Version: 1}} })},

		"not issued yet":             {fleet.Denied, header(func(h *auth.Header) { h.Issued += hours(1); h.Expires += hours(1) })},
		"expired":                    {fleet.Expired, header(func(h *auth.Header) { h.Issued -= hours(1); h.Expires -= hours(1) })},
		"for too long":               {fleet.Invalid, header(func(h *auth.Header) { h.Expires += hours(1) })},
		"for ever":                   {fleet.Invalid, header(func(h *auth.Header) { h.Expires = 0 })},
		"under a charter to come":    {fleet.Unavailable, header(func(h *auth.Header) { h.Charter = fleet.Sum([]byte("x")) })},
		"at an act to come":          {fleet.Conflict, header(func(h *auth.Header) { h.Act = q.s.Record.Act + 1 })},
		"for the direct way":         {fleet.Invalid, header(func(h *auth.Header) { h.Mode = auth.Direct })},
		"born at another time":       {fleet.Invalid, put(func(p *params.Put) { p.Born = q.Now.UnixMilli() - 1 })},
		"a name in another spelling": {fleet.Invalid, put(func(p *params.Put) { p.Name = " /t/new" })},
		"a reserved name":            {fleet.Invalid, put(func(p *params.Put) { p.Name = "/aws/new" })},
		"no first version":           {fleet.Conflict, put(func(p *params.Put) { p.Version, p.Born = 2, 1 })},
		"there already":              {fleet.Conflict, q.change(q.set("/t/old", "one", func(p *params.Put) { p.Version, p.Born = 1, 0 }))},
		"of another life":            {fleet.Conflict, q.change(q.set("/t/old", "one", func(p *params.Put) { p.Born++ }))},
		"a version left out":         {fleet.Conflict, q.change(q.set("/t/old", "one", func(p *params.Put) { p.Version++ }))},
		"another type":               {fleet.Invalid, q.change(q.set("/t/old", "one", func(p *params.Put) { p.Type = params.StringList }))},
		"too large for its tier":     {fleet.Invalid, put(func(p *params.Put) { p.Size = 4097 })},
		"another size":               {fleet.Invalid, put(func(p *params.Put) { p.Size++ })},
		"policies in tier Standard": {fleet.Invalid, put(func(p *params.Put) {
			p.Policies = []params.Policy{{Kind: params.NoChangeNotification, After: hours(1)}}
		})},
		"a plain value with readers":   {fleet.Invalid, put(func(p *params.Put) { p.Readers = []params.Reader{recovery(q)} })},
		"a secret that is not sealed":  {fleet.Invalid, put(func(p *params.Put) { p.Type, p.Size, p.Readers = params.SecureString, 64, []params.Reader{recovery(q)} })},
		"a reference in a value":       {fleet.Invalid, q.change(q.set("/t/new", "{{ssm:/t/old}}", nil))},
		"labels without their number":  {fleet.Invalid, put(func(p *params.Put) { p.Labels = []string{"x"} })},
		"labels out of turn":           {fleet.Conflict, q.change(q.set("/t/old", "one", func(p *params.Put) { p.Labels, p.Seq = []string{"x"}, 2 }))},
		"deleted at another version":   {fleet.Conflict, q.change(edit{op: params.Op{Delete: []params.Delete{{Name: "/t/old", Born: bornOf(q, "/t/old"), Version: 2}}}})},
		"deleted in another life":      {fleet.Conflict, q.change(edit{op: params.Op{Delete: []params.Delete{{Name: "/t/old", Born: 1, Version: 1}}}})},
		"deleted, and not there":       {fleet.NotFound, q.change(q.unset("/t/new"))},
		"labelled, and not there":      {fleet.NotFound, q.change(q.labelled("/t/new", 1, "x"))},
		"labelled at no version":       {fleet.NotFound, q.change(q.labelled("/t/old", 7, "x"))},
		"labelled out of turn":         {fleet.Conflict, q.change(edit{op: params.Op{Label: []params.Label{{Name: "/t/old", Born: bornOf(q, "/t/old"), Seq: 2, Version: 1, Add: []string{"x"}}}}})},
		"a label that is none":         {fleet.Invalid, q.change(q.labelled("/t/old", 1, "1x"))},
		"one of three that cannot be":  {fleet.Conflict, q.change(q.set("/t/new", "one", nil), q.unset("/t/old"), q.set("/t/twice", "x", func(p *params.Put) { p.Version = 2 }))},
		"policy, on the second of two": {fleet.Denied, q.changeBy(bob, q.set("/bob/x", "one", nil), q.set("/t/new", "one", nil))},
		"policy, on a deletion":        {fleet.Denied, q.changeBy(bob, q.unset("/t/old"))},
		"policy, on what is not there": {fleet.Denied, q.changeBy(bob, q.unset("/t/none"))},
		"policy, on labels":            {fleet.Denied, q.changeBy(bob, q.labelled("/t/old", 1, "x"))},
	} {
		before := q.s
		wantNamed(t, name, q.put(c.e).Err(), c.want)
		if q.s.Digest() != before.Digest() || q.s.Act != before.Act || !sameParams(q.s, before) {
			t.Errorf("%s: it left something", name)
		}
		prepared, _ := q.s.ApplyPrepared(before.Prepare(Encode(c.e, q.Now.UnixMilli())))
		if prepared.Digest() != before.Digest() {
			t.Errorf("%s, prepared: it left something", name)
		}
	}
	q.mustPut(t, good)
}

// sameParams compares what a snapshot does not have word for word.
func sameParams(a, b State) bool {
	return a.params.bytes == b.params.bytes && a.params.standard == b.params.standard && a.params.advanced == b.params.advanced &&
		a.params.due.length() == b.params.due.length() && a.params.shared.length() == b.params.shared.length()
}

func wantNamed(t *testing.T, name string, err error, want fleet.Kind) {
	t.Helper()
	if err == nil || fleet.KindOf(err) != want {
		t.Errorf("%s: got %v (%s), want a refusal that says %s", name, err, fleet.KindOf(err), want)
	}
}

func bornOf(q *quorum, name string) int64 {
	p, _ := q.s.Param(name)
	return p.Born
}

// bobsPolicy lets bob put and delete below /bob, and whatever is tagged team=bob.
const bobsPolicy = auth.FirstPolicy + `
permit (principal == Operator::"bob", action in [Action::"param.put", Action::"param.delete"], resource is Parameter)
when { resource.name like "/bob/*" || resource.hasTag("team") && resource.getTag("team") == "bob" };
`

func addOperator(t testing.TB, q *quorum, name string) auth.Signer {
	t.Helper()
	signer, p := q.NewOperator(name, 0)
	q.mustPut(t, putAct(p))
	q.mustPut(t, putAct(q.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: bobsPolicy})))
	return signer
}

// resigned signs the body of a statement for another purpose.
func resigned(q *quorum, e auth.Envelope, purpose auth.Purpose) auth.Envelope {
	change, err := auth.Peek[params.Change](e)
	if err != nil {
		panic(err)
	}
	return q.Sign(purpose, change)
}

// A change of many parameters is taken whole, with one act index.
func TestChangeOfMany(t *testing.T) {
	q := founded("a")
	q.mustPut(t, q.change(q.set("/t/gone", "one", nil), q.set("/t/kept", "one", nil)))
	act := q.s.Act
	r := q.mustPut(t, q.change(q.set("/t/new", "one", nil), q.unset("/t/gone"), q.labelled("/t/kept", 1, "x"), q.set("/t/also", "two", nil)))
	events, ok := q.s.ParamEvents(params.EventPos{Act: act, Part: 1}, 10)
	if r.Act != act+1 || q.s.Act != r.Act || !ok || len(events) != 4 {
		t.Fatalf("act %d after %d, events %v", r.Act, act, events)
	}
	for i, e := range events {
		if e.Act != r.Act || e.Part != uint32(i) || e.By != "ada" || e.Time != q.s.Time {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	also, _ := q.s.Param("/t/also")
	if string(also.Newest().Content) != string(params.PlainContent([]byte("two")).Encode()) || also.Newest().Op != 3 {
		t.Errorf("%+v", also.Newest())
	}
}

func TestPolicyJudgesOldAndNewTags(t *testing.T) {
	q := founded("a")
	bob := addOperator(t, q, "bob")
	tagged := func(team string) func(*params.Put) {
		return func(p *params.Put) { p.Tags = map[string]string{"team": team} }
	}
	wantKind(t, q.put(q.changeBy(bob, q.set("/t/x", "one", tagged("web")))).Err(), fleet.Denied)
	q.mustPut(t, q.changeBy(bob, q.set("/t/x", "one", tagged("bob"))))
	wantKind(t, q.put(q.changeBy(bob, q.set("/t/x", "one", tagged("web")))).Err(), fleet.Denied) // out of his hands into theirs
	wantKind(t, q.put(q.changeBy(bob, q.set("/t/x", "one", nil))).Err(), fleet.Denied)
	q.mustPut(t, q.changeBy(bob, q.labelled("/t/x", 1, "mine")))
	q.mustPut(t, q.change(q.set("/t/x", "one", tagged("web"))))
	wantKind(t, q.put(q.changeBy(bob, q.set("/t/x", "one", tagged("bob")))).Err(), fleet.Denied) // into his from theirs
	wantKind(t, q.put(q.changeBy(bob, q.labelled("/t/x", 1, "mine"))).Err(), fleet.Denied)
	wantKind(t, q.put(q.changeBy(bob, q.unset("/t/x"))).Err(), fleet.Denied)
	q.mustPut(t, q.change(q.set("/t/x", "one", tagged("bob"))))
	q.mustPut(t, q.changeBy(bob, q.unset("/t/x")))
	// One that is gone belongs to nobody.
	q.Advance(time.Second)
	q.mustPut(t, q.change(q.set("/t/y", "one", func(p *params.Put) { tagged("web")(p); expiring(q, 1)(p) })))
	q.Advance(time.Hour)
	q.put(PutAct{}) // anything: the fleet's time moves
	q.mustPut(t, q.changeBy(bob, q.set("/t/y", "one", tagged("bob"))))
}

// expiring gives a parameter hours to live.
func expiring(q *quorum, n int64) func(*params.Put) {
	return func(p *params.Put) {
		p.Tier, p.Policies = params.Advanced, []params.Policy{{Kind: params.Expiration, At: q.Now.UnixMilli() + hours(n)}}
	}
}

func recovery(q *quorum) params.Reader {
	return params.Reader{Kind: params.ByRecovery, Key: fleet.Sum(q.s.Record.Charter.Recovery())}
}

// secret is the Put of a secret for readers.
func (q *quorum) secret(t testing.TB, name, value string, to ...params.Recipient) edit {
	t.Helper()
	e := q.set(name, value, nil)
	put := &e.op.Put[0]
	place := params.Binding{Fleet: q.ID(), Name: name, Born: put.Born, Version: put.Version}
	if place.Born == 0 {
		place.Born = q.Now.UnixMilli()
	}
	sealed, readers, err := params.Seal(place, []byte(value), [32]byte{1}, to)
	if err != nil {
		t.Fatal(err)
	}
	e.content = params.SealedContent(sealed).Encode()
	put.Type, put.Digest, put.Size, put.Readers = params.SecureString, fleet.Sum(e.content), uint32(params.SealedSize(len(value))), readers
	return e
}

func TestReadersAreThoseOfTheRecord(t *testing.T) {
	q := founded("a")
	q.mustPut(t, putAct(q.NewKeyring("web", "*")))
	q.mustPut(t, putAct(q.NewKeyring("db", "*")))
	bob := addOperator(t, q, "bob")
	_, temp := q.NewOperator("temp", time.Hour)
	q.mustPut(t, putAct(temp))
	q.Advance(time.Hour)
	web := q.Keyring("web")
	first := web.Newest()
	keyring := func(alter func(*params.Reader)) params.Recipient {
		r := params.Reader{Kind: params.ByKeyring, Name: "web", Life: web.Life, Epoch: first.Number}
		if alter != nil {
			alter(&r)
		}
		return params.Recipient{Reader: r, Public: first.Key}
	}
	operator := func(name, key string) params.Recipient {
		return params.Recipient{Reader: params.Reader{Kind: params.ByOperator, Name: name}, Public: authtest.Public(q.OperatorPrivate(key))}
	}
	root := params.Recipient{Reader: params.Reader{Kind: params.ByRecovery}, Public: q.s.Record.Charter.Recovery()}
	other := params.Recipient{Reader: params.Reader{Kind: params.ByRecovery}, Public: authtest.Public(authtest.Private("other"))}
	q.mustPut(t, q.change(q.secret(t, "/t/good", "s3cret", keyring(nil), operator("ada", "ada"), operator("bob", "bob"), root)))
	for name, c := range map[string]struct {
		want fleet.Kind
		to   params.Recipient
	}{
		"no keyring":                  {fleet.NotFound, keyring(func(r *params.Reader) { r.Name = "none" })},
		"the key of another keyring":  {fleet.Conflict, keyring(func(r *params.Reader) { r.Name = "db"; r.Life = q.Keyring("db").Life })},
		"another life of the keyring": {fleet.Conflict, keyring(func(r *params.Reader) { r.Life = fleet.UUID{9} })},
		"another epoch":               {fleet.Conflict, keyring(func(r *params.Reader) { r.Epoch = 2 })},
		"another key":                 {fleet.Conflict, params.Recipient{Reader: keyring(nil).Reader, Public: other.Public}},
		"no operator":                 {fleet.NotFound, operator("eve", "eve")},
		"another operator's key":      {fleet.Conflict, operator("bob", "ada")},
		"an operator's expired key":   {fleet.Expired, operator("temp", "temp")},
		"another recovery key":        {fleet.Conflict, other},
	} {
		wantNamed(t, name, q.put(q.change(q.secret(t, "/t/x", "s3cret", root, c.to))).Err(), c.want)
	}
	stale, late := q.change(q.secret(t, "/t/x", "s3cret", keyring(nil))), q.change(q.secret(t, "/t/y", "s3cret", operator("bob", "bob")))
	q.mustPut(t, putAct(q.ChangeKeyring("web", "*", true)))
	q.mustPut(t, putAct(q.KeyringEpoch("web", q.Nodes[0], 1)))
	wantKind(t, q.put(stale).Err(), fleet.Conflict) // sealed for an epoch that is over
	q.mustPut(t, putAct(q.DeleteOperator("bob", bob, false)))
	wantKind(t, q.put(late).Err(), fleet.NotFound)
	if q.s.ParamCount() != 1 {
		t.Errorf("%d parameters", q.s.ParamCount())
	}
}

// What time does: notices, each once, and the end, which readers see at once and a watch with the sweep.
func TestTime(t *testing.T) {
	q := founded("a")
	q.mustPut(t, q.change(q.set("/t/lease", "one", func(p *params.Put) {
		expiring(q, 48)(p)
		p.Policies = append(p.Policies, params.Policy{Kind: params.ExpirationNotification, Before: hours(24)}, params.Policy{Kind: params.NoChangeNotification, After: hours(30)})
	}), q.set("/t/stays", "one", nil)))
	var due func(want ...params.EventKind)
	due = func(want ...params.EventKind) {
		t.Helper()
		before := q.s
		if q.s.ParamsDue(q.Now.UnixMilli()) != (len(want) > 0) {
			t.Fatalf("due: %t", len(want) == 0)
		}
		r := q.put(ParamsDue{})
		if len(want) == 0 {
			wantKind(t, r.Err(), fleet.Conflict)
			return
		}
		events, _ := q.s.ParamEvents(params.EventPos{Act: before.Act, Part: 1<<32 - 1}, 10)
		if len(events) != len(want) || r.Act != before.Act+1 {
			t.Fatalf("%+v at act %d", events, r.Act)
		}
		for i, e := range events {
			if e.Kind != want[i] || e.By != "" || e.Name != "/t/lease" || e.Version != 1 {
				t.Errorf("%+v, want %s", e, want[i])
			}
		}
		due()
	}
	due()
	q.Advance(23 * time.Hour)
	due()
	q.Advance(time.Hour)
	due(params.EventExpires)
	q.Advance(6 * time.Hour)
	due(params.EventUnchanged)
	q.Advance(18*time.Hour - time.Millisecond)
	due()
	if _, ok := q.s.Param("/t/lease"); !ok {
		t.Error("gone before its time")
	}
	q.Advance(time.Millisecond)
	q.put(PutAct{}) // anything: the fleet's time moves
	if _, ok := q.s.Param("/t/lease"); ok {
		t.Error("there after its time")
	}
	listed := 0
	q.s.Params("", func(*params.Param) bool { listed++; return true })
	if listed != 1 {
		t.Errorf("%d parameters are listed", listed)
	}
	due(params.EventExpired)
}

// ParamsDue does at most MaxDueAtOnce; what is left is still due.
func TestDueIsBounded(t *testing.T) {
	q := founded("a")
	for i := range MaxDueAtOnce/50 + 1 {
		var edits []edit
		for j := range 50 {
			edits = append(edits, q.set(fmt.Sprintf("/a/%d-%d", i, j), "one", expiring(q, 1)))
		}
		q.mustPut(t, q.change(edits...))
	}
	q.Advance(time.Hour)
	for _, left := range []int{50, 0} {
		q.mustPut(t, ParamsDue{})
		if q.s.ParamCount() != left || q.s.ParamsDue(q.Now.UnixMilli()) != (left > 0) {
			t.Fatalf("%d left, want %d", q.s.ParamCount(), left)
		}
	}
	if got := len(kinds(t, q.s)); got != 300 {
		t.Errorf("%d events", got)
	}
}

// One that has expired and was not swept is swept by whoever makes it anew, and a watch hears of both.
func TestExpiredIsMadeAnew(t *testing.T) {
	q := founded("a")
	first := q.set("/t/a", "one", expiring(q, 1))
	q.mustPut(t, q.change(first))
	second := q.set("/t/a", "two", nil)
	label, gone := q.labelled("/t/a", 1, "x"), q.unset("/t/a")
	q.Advance(time.Hour)
	for name, e := range map[string]edit{"another version": second, "labels": label, "a deletion": gone} {
		if err := q.put(q.change(e)).Err(); err == nil {
			t.Errorf("%s of what has expired was taken", name)
		}
	}
	if q.s.ParamCount() != 1 {
		t.Fatal("a refused change swept")
	}
	q.mustPut(t, q.change(q.set("/t/a", "two", nil)))
	want := []params.EventKind{params.EventCreated, params.EventExpired, params.EventCreated}
	if got := kinds(t, q.s); !slices.Equal(got, want) || q.s.ParamsDue(q.Now.UnixMilli()) {
		t.Errorf("events %v", got)
	}
}

// What was signed in one life of a parameter does nothing in the next.
func TestReplays(t *testing.T) {
	q := founded("a")
	first := q.change(q.set("/t/a", "one", nil))
	q.mustPut(t, first)
	second, label, gone := q.change(q.set("/t/a", "two", nil)), q.change(q.labelled("/t/a", 1, "x")), q.change(q.unset("/t/a"))
	rival := q.change(q.set("/t/a", "rival", func(p *params.Put) { p.Version, p.Born = 1, 0 }))
	q.mustPut(t, gone)
	replays := map[string]PutParams{"the first version": first, "the second": second, "labels": label, "the deletion": gone, "a rival's first": rival}
	q.s.results = NewState().results // an insider waits until they are forgotten
	for name, e := range replays {
		if err := q.put(e).Err(); err == nil {
			t.Errorf("after the deletion: %s was taken again", name)
		}
	}
	q.Advance(time.Second)
	q.mustPut(t, q.change(q.set("/t/a", "new", nil)))
	for name, e := range replays {
		if err := q.put(e).Err(); err == nil {
			t.Errorf("in another life: %s was taken again", name)
		}
	}
	if p, _ := q.s.Param("/t/a"); p.Last != 1 || !strings.Contains(string(p.Newest().Content), "new") {
		t.Errorf("%+v", p)
	}
}

// A statement that comes again gets its first result, remembered or not; but no other statement does.
func TestRepeatedChangeIsKnown(t *testing.T) {
	q := founded("a")
	first := q.change(q.set("/t/a", "one", nil), q.set("/t/b", "one", nil))
	want := q.mustPut(t, first)
	q.Advance(time.Second)
	second := q.change(q.set("/t/a", "two", nil), q.unset("/t/b"))
	wantSecond := q.mustPut(t, second)
	for range 2 {
		if r := q.put(first); r != want {
			t.Errorf("%+v, want %+v", r, want)
		}
		if r := q.put(second); r != wantSecond {
			t.Errorf("%+v, want %+v", r, wantSecond)
		}
		q.Advance(time.Hour) // beyond their life, and forgotten
		q.s.results = NewState().results
	}
	state := q.s.Digest()
	forged := first
	forged.Statement = second.Statement
	wantKind(t, q.put(forged).Err(), fleet.Denied)
	if q.s.Digest() != state {
		t.Error("a repetition changed something")
	}
}

// The first operations of a change that is refused do not make it look taken.
func TestRefusedChangeIsNotTaken(t *testing.T) {
	q := founded("a")
	q.mustPut(t, q.change(q.set("/t/z", "one", nil)))
	e := q.change(q.set("/t/a", "one", nil), q.set("/t/z", "one", func(p *params.Put) { p.Version, p.Born = 1, 0 }))
	wantKind(t, q.put(e).Err(), fleet.Conflict)
	if _, ok := q.s.Param("/t/a"); ok {
		t.Error("half of it was taken")
	}
}

func TestTombstonesFade(t *testing.T) {
	q := founded("a")
	deleted := func(n int) {
		for i := range n {
			q.s.params.bury(&params.Param{Name: fmt.Sprintf("/gone/%d", i), Born: q.Now.UnixMilli() - 1000 + int64(i%7)}, q.Now.UnixMilli())
		}
	}
	deleted(10)
	deleted(5) // some of them again
	q.Advance(KeepTombstones)
	deleted(1)
	if n := q.s.params.gone.length(); n != 10 || q.s.params.fading.length() != n {
		t.Errorf("%d are remembered", n)
	}
	q.Advance(time.Millisecond)
	deleted(1)
	if n := q.s.params.gone.length(); n != 1 || q.s.params.fading.length() != n || q.s.params.floor != 0 {
		t.Errorf("%d are remembered, floor %d", n, q.s.params.floor)
	}
	deleted(MaxTombstones + 5)
	if n := q.s.params.gone.length(); n != MaxTombstones || q.s.params.fading.length() != n || q.s.params.floor == 0 {
		t.Errorf("%d are remembered, floor %d", n, q.s.params.floor)
	}
	// What a forgotten one refused is refused all the same.
	q.s.params.floor = q.Now.UnixMilli()
	wantKind(t, q.put(q.change(q.set("/gone/0", "one", nil))).Err(), fleet.Conflict)
	q.Advance(time.Millisecond)
	q.mustPut(t, q.change(q.set("/gone/0", "one", nil)))
}

func TestEventsAreBounded(t *testing.T) {
	q := founded("a")
	before := q.s.Act
	for i := range MaxParamEvents + 10 {
		q.s.Act++
		q.s.Taken++
		part := uint32(0)
		q.s.params.say(q.s.Act, 1, &part, []params.Event{{Kind: params.EventUpdated, Name: "/t/a", Version: uint32(i)}})
	}
	if _, ok := q.s.ParamEvents(params.EventPos{Act: before + 9}, 10); ok {
		t.Error("events that were dropped are not missed")
	}
	events, ok := q.s.ParamEvents(params.EventPos{Act: before + 10}, 3)
	if !ok || len(events) != 3 || events[0].Act != before+11 || events[2].Act != before+13 {
		t.Errorf("%v, %t", events, ok)
	}
	if all, _ := q.s.ParamEvents(params.EventPos{Act: before + 10}, 2*MaxParamEvents); len(all) != MaxParamEvents {
		t.Errorf("%d events", len(all))
	}
	for _, after := range []params.EventPos{{Act: q.s.Act}, {Act: q.s.Act, Part: 1<<32 - 1}, {Act: q.s.Act + 99}} {
		if events, ok := q.s.ParamEvents(after, 10); !ok || len(events) != 0 {
			t.Errorf("after %+v: %v, %t", after, events, ok)
		}
	}
	s := restore(t, snapshot(t, q.s))
	if _, ok := s.ParamEvents(params.EventPos{Act: before + 9}, 10); ok {
		t.Error("after a restore nothing is missed")
	}
}

func TestParametersAreBounded(t *testing.T) {
	q := founded("a")
	for i := 0; i < MaxStandard; i += params.MaxOps {
		var edits []edit
		for j := range params.MaxOps {
			edits = append(edits, q.set(fmt.Sprintf("/a/%d", i+j), "x", nil))
		}
		q.fast(t, edits...)
	}
	wantKind(t, q.put(q.change(q.set("/t/b", "x", nil))).Err(), fleet.Exhausted)
	q.mustPut(t, q.change(q.set("/a/1", "y", nil)))
	q.mustPut(t, q.change(q.set("/t/b", "x", func(p *params.Put) { p.Tier = params.Advanced })))
	q.mustPut(t, q.change(q.set("/a/1", "z", func(p *params.Put) { p.Tier = params.Advanced })))
	q.mustPut(t, q.change(q.set("/t/c", "x", nil)))
	wantKind(t, q.put(q.change(q.set("/t/d", "x", nil))).Err(), fleet.Exhausted)
	q.mustPut(t, q.change(q.unset("/a/2"), q.set("/t/d", "x", nil))) // one goes, one comes
	if q.s.params.standard != MaxStandard || q.s.params.advanced != 2 || q.s.ParamCount() != MaxStandard+2 {
		t.Errorf("%d and %d", q.s.params.standard, q.s.params.advanced)
	}
	q.s.params.advanced = MaxAdvanced
	wantKind(t, q.put(q.change(q.set("/t/e", "x", func(p *params.Put) { p.Tier = params.Advanced }))).Err(), fleet.Exhausted)
	q.s.params.advanced, q.s.params.bytes = 2, MaxParamBytes-100
	wantKind(t, q.put(q.change(q.set("/t/d", "x", nil))).Err(), fleet.Exhausted)
	q.mustPut(t, q.change(q.unset("/t/d")))
}

// Of a parameter that is put again and again the last hundred versions are kept, and nothing more is weighed.
func TestOldVersionsGo(t *testing.T) {
	q := founded("a")
	for range params.MaxVersions {
		q.fast(t, q.set("/t/a", "one", nil))
	}
	full := q.s.ParamBytes()
	for range 5 {
		q.fast(t, q.set("/t/a", "one", nil))
	}
	p, _ := q.s.Param("/t/a")
	if len(p.Versions) != params.MaxVersions || p.Versions[0].Number != 6 || q.s.ParamBytes()-full > 10*5 || q.s.ParamBytes() < full {
		t.Errorf("%d versions from %d on, %d bytes after %d", len(p.Versions), p.Versions[0].Number, q.s.ParamBytes(), full)
	}
	q.mustPut(t, q.change(q.labelled("/t/a", 6, "kept")))
	wantKind(t, q.put(q.change(q.set("/t/a", "one", nil))).Err(), fleet.Exhausted)
}

func TestListing(t *testing.T) {
	q := founded("a")
	var edits []edit
	for _, name := range []string{"/b/x", "/a/b", "/a/b/c", "/ab/x", "plain", "/a/a", "/a/z"} {
		edits = append(edits, q.set(name, "x", func(p *params.Put) {
			if name == "/a/z" {
				expiring(q, 1)(p)
			}
		}))
	}
	q.mustPut(t, q.change(edits...))
	q.Advance(time.Hour)
	q.put(PutAct{})
	for _, c := range []struct{ path, after, want string }{
		{"/", "", "/a/a /a/b /a/b/c /ab/x /b/x plain"},
		{"/a", "", "/a/a /a/b /a/b/c"},
		{"/a", "/a/a", "/a/b /a/b/c"},
		{"/a", "/a/b/c", ""},
		{"/a", "/0", "/a/a /a/b /a/b/c"},
		{"/a/b", "", "/a/b/c"},
		{"/", "/ab/x", "/b/x plain"},
		{"/", "/ac", "/b/x plain"},
		{"/c", "", ""},
		{"/", "plain", ""},
	} {
		var got []string
		q.s.ParamsBelow(c.path, c.after, func(p *params.Param) bool {
			got = append(got, p.Name)
			return true
		})
		if strings.Join(got, " ") != c.want {
			t.Errorf("below %s after %q: %v, want %s", c.path, c.after, got, c.want)
		}
	}
	n := 0
	q.s.Params("", func(*params.Param) bool { n++; return n < 2 })
	if n != 2 {
		t.Errorf("%d were shown after it was enough", n)
	}
}
