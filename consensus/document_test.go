package consensus

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestDocumentVersions(t *testing.T) {
	q := founded("a")
	first := q.document("greet", "one")
	r := q.mustPut(t, first)
	q.Advance(time.Second)
	named := PutDocument{q.Sign(auth.ForDocument, exec.Publication{Header: q.Header(exec.PublishLife), Name: "greet", VersionName: "v2", Text: []byte("two")})}
	q.mustPut(t, named)
	q.mustPut(t, q.document("another", "one")) // a text may stand under two names
	if again := q.mustPut(t, first); again != r || q.s.Documents()[1].Last != 2 {
		t.Errorf("the same statement again came to %+v", again)
	}
	d, ok := q.s.Document("greet")
	if !ok || d.Default != 1 || len(d.Versions) != 2 || d.Latest().Number != 2 || d.Latest().Publisher != authtest.OperatorName || d.Latest().Time != q.s.Time || d.Versions[0].Time == q.s.Time {
		t.Fatalf("%+v", d)
	}
	if v, ok := d.Named("v2"); !ok || v.Number != 2 {
		t.Error("the version is not found by its name")
	}
	if _, ok := d.Named(""); ok {
		t.Error("a version without name is found by no name")
	}
	if v, ok := d.Version(1); !ok || v.Digest != fleet.Sum([]byte("one")) {
		t.Error("version 1 is not found")
	}
	if list := q.s.Documents(); len(list) != 2 || list[0].Name != "another" || q.s.TextBytes() != 9 {
		t.Errorf("%d documents of %d bytes", len(list), q.s.TextBytes())
	}
	key := exec.DocumentRef{Name: "greet", Version: 2, Digest: fleet.Sum([]byte("two"))}.Key()
	if e, ok := q.s.Publication(key); !ok || e.Key != named.Statement.Key {
		t.Error("the publication is not found by its key")
	}

	q.mustPut(t, q.changeDocument("greet", func(c *exec.DocumentChange) { c.Default = 2 }))
	if d, _ := q.s.Document("greet"); d.Default != 2 {
		t.Error("the default is another")
	}
	q.mustPut(t, q.changeDocument("greet", func(c *exec.DocumentChange) { c.Delete, c.Version = true, 1 }))
	if now, _ := q.s.Document("greet"); len(now.Versions) != 1 || len(d.Versions) != 2 || q.s.TextBytes() != 6 {
		t.Error("version 1 was not deleted, or from an old value too")
	}
	third := q.document("greet", "one") // deleted, it may come again; numbers do not
	q.mustPut(t, third)
	if d, _ := q.s.Document("greet"); d.Latest().Number != 3 {
		t.Errorf("the next is version %d", d.Latest().Number)
	}
	q.mustPut(t, q.changeDocument("greet", func(c *exec.DocumentChange) { c.Delete = true }))
	if _, ok := q.s.Document("greet"); ok || q.s.TextBytes() != 3 || q.s.publications.Len() != 1 {
		t.Error("the document was not deleted")
	}
	if _, ok := q.s.Publication(key); ok {
		t.Error("a deleted publication is found")
	}
}

func TestDocumentRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		want fleet.Kind
		make func(q *quorum) Entry
	}{
		"the text again":   {fleet.Conflict, func(q *quorum) Entry { return q.document("greet", "one") }},
		"a version's name": {fleet.Conflict, func(q *quorum) Entry { return named(q, "greet", "v2", "three") }},
		"a reserved name":  {fleet.Invalid, func(q *quorum) Entry { return q.document("AWS-RunShellScript", "x") }},
		"no text":          {fleet.Invalid, func(q *quorum) Entry { return q.document("greet", "") }},
		"too large":        {fleet.Invalid, func(q *quorum) Entry { return q.document("greet", strings.Repeat("x", exec.MaxDocument+1)) }},
		"a huge statement": {fleet.Exhausted, func(q *quorum) Entry { return q.document("greet", strings.Repeat("x", exec.MaxPublication+1)) }},
		"for another thing": {fleet.Denied, func(q *quorum) Entry {
			return PutDocument{q.changeDocument("greet", func(*exec.DocumentChange) {}).Statement}
		}},
		"a stranger's": {fleet.Denied, func(q *quorum) Entry {
			return PutDocument{authtest.Signer("stranger").Sign(auth.ForDocument, q.ID(), exec.Publication{Header: q.Header(exec.PublishLife), Name: "greet", Text: []byte("three")})}
		}},
		"without the right": {fleet.Denied, func(q *quorum) Entry {
			return PutDocument{bobOf(q).Sign(auth.ForDocument, q.ID(), exec.Publication{Header: q.Header(exec.PublishLife), Name: "greet", Text: []byte("three")})}
		}},
		"expired": {fleet.Expired, func(q *quorum) Entry {
			e := q.document("greet", "three")
			q.Advance(exec.PublishLife)
			return e
		}},
		"valid for ever": {fleet.Invalid, func(q *quorum) Entry {
			return PutDocument{q.Sign(auth.ForDocument, exec.Publication{Header: q.Header(0), Name: "greet", Text: []byte("three")})}
		}},
		"default of none": {fleet.NotFound, func(q *quorum) Entry {
			return q.changeDocument("other", func(c *exec.DocumentChange) { c.Default = 1 })
		}},
		"default not there": {fleet.NotFound, func(q *quorum) Entry {
			return q.changeDocument("greet", func(c *exec.DocumentChange) { c.Default = 3 })
		}},
		"delete of none": {fleet.NotFound, func(q *quorum) Entry {
			return q.changeDocument("other", func(c *exec.DocumentChange) { c.Delete = true })
		}},
		"delete not there": {fleet.NotFound, func(q *quorum) Entry {
			return q.changeDocument("greet", func(c *exec.DocumentChange) { c.Delete, c.Version = true, 3 })
		}},
		"delete the default": {fleet.Conflict, func(q *quorum) Entry {
			return q.changeDocument("greet", func(c *exec.DocumentChange) { c.Delete, c.Version = true, 1 })
		}},
		"a change of nothing":    {fleet.Invalid, func(q *quorum) Entry { return q.changeDocument("greet", func(*exec.DocumentChange) {}) }},
		"a change with no right": {fleet.Denied, func(q *quorum) Entry { return changeBy(q, exec.DocumentChange{Name: "greet", Default: 2}) }},
		"a delete with half of it": {fleet.Denied, func(q *quorum) Entry {
			q.put(putAct(q.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy + `permit (principal, action == Action::"document.put", resource is Document);`})))
			return changeBy(q, exec.DocumentChange{Name: "greet", Delete: true})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q := founded("a")
			q.mustPut(t, q.document("greet", "one"))
			q.mustPut(t, named(q, "greet", "v2", "two"))
			e := c.make(q)
			before := q.s.Digest()
			wantKind(t, q.put(e).Err(), c.want)
			if q.s.Digest() != before {
				t.Error("a refused entry left something")
			}
		})
	}
}

func named(q *quorum, name, version, text string) PutDocument {
	return PutDocument{q.Sign(auth.ForDocument, exec.Publication{Header: q.Header(exec.PublishLife), Name: name, VersionName: version, Text: []byte(text)})}
}

// bobOf returns an operator without rights.
func bobOf(q *quorum) auth.Signer {
	bob, p := q.NewOperator("bob", 0, "web")
	q.put(putAct(p))
	return bob
}

func changeBy(q *quorum, body exec.DocumentChange) ChangeDocument {
	bob := bobOf(q)
	body.Header = q.Header(exec.PublishLife)
	return ChangeDocument{bob.Sign(auth.ForDocumentChange, q.ID(), body)}
}

func TestDocumentsAreBounded(t *testing.T) {
	q := founded("a")
	for i := range MaxDocuments {
		d := &Document{Name: fmt.Sprintf("doc-%03d", i), Default: 1, Last: 1, Versions: []Version{{Number: 1}}}
		q.s.keepDocument(d)
	}
	wantKind(t, q.put(q.document("another", "text")).Err(), fleet.Exhausted)
	q.mustPut(t, q.document("doc-000", "text"))

	full, _ := q.s.Document("doc-001")
	more := *full
	for len(more.Versions) < MaxVersions {
		more.Versions = append(more.Versions, Version{Number: uint32(len(more.Versions) + 1)})
	}
	q.s.keepDocument(&more)
	wantKind(t, q.put(q.document("doc-001", "text")).Err(), fleet.Exhausted)

	q.s.texts = MaxDocumentText - 3
	wantKind(t, q.put(q.document("doc-002", "text")).Err(), fleet.Exhausted)
	q.mustPut(t, q.document("doc-002", "txt"))
}

// As many as may be there can be written down and read back.
func TestFullDocumentsAreReadBack(t *testing.T) {
	q := founded("a")
	put := func(name string, number uint32) {
		e := q.document(name, fmt.Sprint(name, number))
		v := Version{Number: number, Digest: fleet.Sum([]byte(fmt.Sprint(name, number))), Statement: e.Statement}
		d, ok := q.s.Document(name)
		if !ok {
			d = &Document{Name: name, Default: 1}
		}
		next := *d
		next.Last, next.Versions = number, append(d.Versions, v)
		q.s.keepDocument(&next)
		q.s.published(name, v)
		q.s.texts += textLen(v)
	}
	for i := range MaxDocuments {
		put(fmt.Sprintf("doc-%03d", i), 1)
	}
	for i := uint32(2); i <= MaxVersions; i++ {
		put("doc-007", i)
	}
	if got := restore(t, snapshot(t, q.s)); got.Digest() != q.s.Digest() || got.texts != q.s.texts {
		t.Error("read back as another state")
	}
}

// A command pins versions that are there, and nothing else.
func TestCommandOfDocuments(t *testing.T) {
	q := founded("a")
	q.mustPut(t, q.document("greet", "one"))
	q.mustPut(t, q.document("greet", "two"))
	q.mustPut(t, q.document("other", "one"))
	ref := func(name string, number uint32, text string) exec.DocumentRef {
		return exec.DocumentRef{Name: name, Version: number, Digest: fleet.Sum([]byte(text))}
	}
	put := func(refs ...exec.DocumentRef) error {
		return q.put(q.command(ids(q.Nodes...), func(c *exec.Command) { c.Run.Argv, c.Documents = nil, refs })).Err()
	}
	for name, refs := range map[string][]exec.DocumentRef{
		"one": {ref("greet", 1, "one")}, "two": {ref("greet", 2, "two"), ref("other", 1, "one")},
		"built in": {ref("AWS-RunShellScript", 1, "whatever this version has")}, // the nodes compare it with theirs
	} {
		if err := put(refs...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	q.mustPut(t, q.changeDocument("greet", func(c *exec.DocumentChange) { c.Default = 2 }))
	q.mustPut(t, q.changeDocument("greet", func(c *exec.DocumentChange) { c.Delete, c.Version = true, 1 }))
	for name, c := range map[string]struct {
		refs []exec.DocumentRef
		want fleet.Kind
	}{
		"no document":               {[]exec.DocumentRef{ref("nobody", 1, "one")}, fleet.NotFound},
		"no version":                {[]exec.DocumentRef{ref("greet", 3, "two")}, fleet.NotFound},
		"a deleted version":         {[]exec.DocumentRef{ref("greet", 1, "one")}, fleet.NotFound},
		"another version's text":    {[]exec.DocumentRef{ref("greet", 2, "one")}, fleet.Conflict},
		"the second is not there":   {[]exec.DocumentRef{ref("greet", 2, "two"), ref("other", 2, "one")}, fleet.NotFound},
		"a text that nobody signed": {[]exec.DocumentRef{ref("other", 1, "three")}, fleet.Conflict},
	} {
		err := put(c.refs...)
		wantKind(t, err, c.want)
		if refusal, ok := errors.AsType[*fleet.Error](err); !ok || refusal.Hint == "" {
			t.Errorf("%s: no hint: %v", name, err)
		}
	}
}

// A text whose publisher may not publish any more may be published again, by somebody who may; who asks for it gets the
// one that counts.
func TestPublicationThatStands(t *testing.T) {
	q := founded("a")
	q.put(putAct(q.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy + `permit (principal in Team::"web", action == Action::"document.put", resource is Document);`})))
	bob := bobOf(q)
	by := func(s auth.Signer) PutDocument {
		return PutDocument{s.Sign(auth.ForDocument, q.ID(), exec.Publication{Header: q.Header(exec.PublishLife), Name: "greet", Text: []byte("one")})}
	}
	key := exec.DocumentRef{Name: "greet", Digest: fleet.Sum([]byte("one"))}.Key()
	from := func(s State, want auth.Signer) {
		t.Helper()
		if e, ok := s.Publication(key); !ok || e.Key != want.ID() {
			t.Error("the publication of another, or none")
		}
	}
	q.mustPut(t, by(bob))
	wantKind(t, q.put(q.document("greet", "one")).Err(), fleet.Conflict)
	q.mustPut(t, putAct(q.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy})))
	from(q.s, bob) // so that who asks learns why
	q.mustPut(t, q.document("greet", "one"))
	from(q.s, q.Operator)
	wantKind(t, q.put(q.document("greet", "one")).Err(), fleet.Conflict)
	q.mustPut(t, putAct(q.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy + `permit (principal in Team::"web", action == Action::"document.put", resource is Document);`})))
	from(restore(t, snapshot(t, q.s)), q.Operator) // both count: the newest
	only := q.clone()
	only.mustPut(t, putAct(only.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: `permit (principal in Team::"web", action == Action::"document.put", resource is Document);`})))
	from(only.s, bob) // the older one alone counts
	q.mustPut(t, q.changeDocument("greet", func(c *exec.DocumentChange) { c.Default = 1 }))
	q.mustPut(t, q.changeDocument("greet", func(c *exec.DocumentChange) { c.Delete, c.Version = true, 2 }))
	from(q.s, bob)
	from(restore(t, snapshot(t, q.s)), bob)
	if q.s.TextBytes() != 3 || q.s.publications.Len() != 1 {
		t.Errorf("%d bytes of %d publications", q.s.TextBytes(), q.s.publications.Len())
	}
}
