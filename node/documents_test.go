package node

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

const helloText = `{"schemaVersion":"2.2","mainSteps":[{"action":"aws:runShellScript","name":"hello","inputs":{"runCommand":["echo hello"]}}]}`

// publish signs a publication.
func (w *town) publish(by auth.Signer, name, text string) (auth.Envelope, exec.DocumentRef) {
	p := exec.Publication{Header: w.Header(time.Hour), Name: name, Text: []byte(text)}
	return by.Sign(auth.ForDocument, w.ID(), p), p.Ref(1)
}

// runs signs a command for the last two nodes that runs documents.
func (w *town) runs(refs ...exec.DocumentRef) exec.Order {
	return w.command("tag.role=web", w.ids(3, 5), func(c *exec.Command) { c.Run.Argv, c.Documents = nil, refs })
}

func TestDocumentIsFetched(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	e, ref := w.publish(w.Operator, "hello", helloText)
	o := w.runs(ref)
	out := h.step(bell(o, 9, true, w.Nodes[4].ID))
	none[StartRun](t, out)
	f := one[FetchDocuments](t, out)
	if f.From != w.Nodes[4].ID || f.Command != idOf(o) || !slices.Equal(f.Digests, []fleet.ID{ref.Key()}) {
		t.Errorf("%+v", f)
	}
	none[FetchDocuments](t, h.pass(10*time.Second)) // one question at a time
	out = h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{e}})
	if start := one[StartRun](t, out); len(start.Documents) != 1 || string(start.Documents[0]) != helloText {
		t.Errorf("%+v", start)
	}
	if k := one[KeepDocument](t, out); k.Digest != ref.Key() {
		t.Error("keeps it under another key")
	}
	none[FetchDocuments](t, h.step(bell(w.runs(ref), 10, true))) // it is here
}

func TestBuiltInDocument(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	b := document.BuiltIn()[0]
	out := h.step(bell(w.runs(exec.DocumentRef{Name: b.Name, Version: 1, Digest: fleet.Sum(b.Text)}), 9, true))
	none[FetchDocuments](t, out)
	if start := one[StartRun](t, out); string(start.Documents[0]) != string(b.Text) {
		t.Error("runs another text")
	}
}

// Whatever a holder answers with that is not the publication: it is thrown away, and the next is asked.
func TestDocumentLies(t *testing.T) {
	w := newTown(5, 3)
	e, ref := w.publish(w.Operator, "hello", helloText)
	otherText, _ := w.publish(w.Operator, "hello", helloText+" ")
	otherName, _ := w.publish(w.Operator, "hallo", helloText)
	stranger, _ := w.publish(authSigner("nobody"), "hello", helloText)
	for name, lie := range map[string][]auth.Envelope{
		"nothing": nil, "another text": {otherText}, "another name": {otherName}, "nobody's": {stranger},
		"altered": {alter(e, func(p *exec.Publication) { p.VersionName = "v2" })}, "empty": {{}},
		"a command": {w.runs(ref).Statement},
	} {
		t.Run(name, func(t *testing.T) {
			h := w.settled(t, 3)
			f := one[FetchDocuments](t, h.step(bell(w.runs(ref), 9, true, w.Nodes[4].ID)))
			out := h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: lie})
			none[StartRun](t, out)
			none[RefuseRun](t, out)
			none[KeepDocument](t, out)
			next := one[FetchDocuments](t, h.pass(retryAfter))
			if next.From == w.Nodes[4].ID {
				t.Error("asks the liar again")
			}
			one[StartRun](t, h.step(DocumentsFetched{From: next.From, Command: f.Command, Statements: append(lie, e)}))
		})
	}
}

// A publication by somebody who may not publish does not count, and the next one is asked: somebody who may can have
// published the same. What a server has is the last word, and the order is refused for good.
func TestDocumentByTheWrongPerson(t *testing.T) {
	w := newTown(5, 3)
	bob := w.AddOperator("bob", "ops") // may nothing
	h := w.settled(t, 3)
	e, ref := w.publish(bob, "hello", helloText)
	f := one[FetchDocuments](t, h.step(bell(w.runs(ref), 9, true, w.Nodes[4].ID)))
	out := h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{e}})
	none[RefuseRun](t, out)
	none[KeepDocument](t, out)
	f = one[FetchDocuments](t, h.pass(2*retryAfter))
	if !slices.Contains(w.ids(0, 3), f.From) {
		t.Errorf("asks %s, which is no server", f.From)
	}
	out = h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{e}})
	none[KeepDocument](t, out)
	wantSays(t, out, exec.Refused)
}

// Where no server is to be had, enough members without a publication that counts are enough.
func TestDocumentByTheWrongPersonWithoutServers(t *testing.T) {
	w := newTown(5, 3)
	bob := w.AddOperator("bob", "ops")
	h := w.settled(t, 3)
	e, ref := w.publish(bob, "hello", helloText)
	out := h.step(bell(w.runs(ref), 9, true, w.Nodes[4].ID))
	for asked := 0; asked <= maxTries; asked++ {
		if len(of[RefuseRun](out)) > 0 {
			t.Fatalf("refused after %d questions", asked)
		}
		f := one[FetchDocuments](t, out)
		out = h.step(DocumentsFetched{From: w.Nodes[4].ID, Command: f.Command, Statements: []auth.Envelope{e}})
		if asked < maxTries {
			out = append(out, h.pass(20*time.Second)...)
		}
	}
	wantSays(t, out, exec.Refused)
}

// What one member hands out that does not count keeps nobody from what does, neither now nor later.
func TestPoisonedDocument(t *testing.T) {
	w := newTown(5, 3)
	bob := w.AddOperator("bob", "ops") // may nothing
	h := w.settled(t, 3)
	good, ref := w.publish(w.Operator, "hello", helloText)
	bad, _ := w.publish(bob, "hello", helloText)
	f := one[FetchDocuments](t, h.step(bell(w.runs(ref), 9, true, w.Nodes[4].ID)))
	none[RefuseRun](t, h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{bad}}))
	out := h.step(bell(w.runs(ref), 10, true, w.Nodes[0].ID))
	none[RefuseRun](t, out)
	f = one[FetchDocuments](t, out)
	one[StartRun](t, h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{bad, good}}))
	one[StartRun](t, h.pass(2*retryAfter)) // the first
}

// A copy that counted when it came makes room for one that counts now.
func TestDocumentThatDoesNotCountAnyMore(t *testing.T) {
	w := newTown(5, 3)
	eve := w.AddOperator("eve", auth.RootTeam)
	h := w.settled(t, 3)
	old, ref := w.publish(eve, "hello", helloText)
	f := one[FetchDocuments](t, h.step(bell(w.runs(ref), 9, true)))
	one[StartRun](t, h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{old}}))
	w.MustTake(w.DeleteOperator("eve", eve, true))
	h.node.record = w.Record
	out := h.step(bell(w.runs(ref), 10, true))
	none[RefuseRun](t, out)
	f = one[FetchDocuments](t, out)
	again, _ := w.publish(w.Operator, "hello", helloText)
	one[StartRun](t, h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{again}}))
	none[FetchDocuments](t, h.step(bell(w.runs(ref), 11, true)))
}

// The publisher may be newer than this node's record.
func TestDocumentByANewcomer(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	eve := w.AddOperator("eve", auth.RootTeam)
	e, ref := w.publish(eve, "hello", helloText)
	o := w.command("tag.role=web", w.ids(3, 5), func(c *exec.Command) {
		c.Run.Argv, c.Documents, c.Header.Act, c.Header.Charter = nil, []exec.DocumentRef{ref}, 0, h.node.record.Charter.Head()
	})
	f := one[FetchDocuments](t, h.step(bell(o, 9, true, w.Nodes[4].ID)))
	out := h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{e}})
	none[RefuseRun](t, out)
	acts := one[FetchActs](t, out)
	h.step(ActsFetched{From: acts.From, Acts: w.Acts[len(w.Acts)-1:]})
	w.act = w.Record.Act
	h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)})
	f = one[FetchDocuments](t, h.pass(2*retryAfter))
	one[StartRun](t, h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{e}}))
}

// A document that nobody has is asked for less and less often, of servers, until the order expires.
func TestDocumentNobodyHas(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	_, ref := w.publish(w.Operator, "hello", helloText)
	out := h.step(bell(w.runs(ref), 9, true, w.Nodes[4].ID))
	asked := 0
	for range 61 * 60 {
		for _, f := range of[FetchDocuments](out) {
			if asked++; asked > 1 && !slices.Contains(w.ids(0, 3), f.From) {
				t.Fatalf("asks %s, which is no server", f.From)
			}
			out = append(out, h.step(DocumentsFetched{From: f.From, Command: f.Command})...)
		}
		if says := of[RefuseRun](out); len(says) > 0 {
			if says[0].As != exec.DeliveryTimedOut || asked < 100 || asked > 300 {
				t.Errorf("%+v after %d questions", says[0], asked)
			}
			return
		}
		out = h.pass(time.Second)
	}
	t.Error("it waits for ever")
}

// Documents are read before a grant is asked for: a grant waits for nobody's disk.
func TestDocumentBeforeGrant(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	e, ref := w.publish(w.Operator, "hello", helloText)
	o := w.command("tag.role=web", w.ids(3, 5), func(c *exec.Command) {
		paced1(c)
		c.Run.Argv, c.Documents = nil, []exec.DocumentRef{ref}
	})
	out := h.step(bell(o, 9, true))
	none[AskGrant](t, out)
	f := one[FetchDocuments](t, out)
	out = h.step(DocumentsFetched{From: f.From, Command: f.Command, Statements: []auth.Envelope{e}})
	asked := asks(t, append(out, h.pass(10*time.Millisecond)...))
	h.node.library = newLibrary() // others took its place
	f = one[FetchDocuments](t, h.answers(asked[0], Granted))
	out = h.step(DocumentsFetched{From: h.me, Command: f.Command, Statements: []auth.Envelope{e}})
	none[KeepDocument](t, out)
	one[StartRun](t, out)
}

func TestLibraryIsBounded(t *testing.T) {
	l := newLibrary()
	big := auth.Envelope{Body: make([]byte, exec.MaxPublication)}
	for i := range 200 {
		l.put(fleet.Sum([]byte{byte(i)}), big)
		l.get(fleet.Sum([]byte{0}))
		if len(l.byDigest) != len(l.age) || len(l.age) > maxLibrary || l.bytes > maxLibraryBytes || l.bytes != len(l.age)*len(big.Body) {
			t.Fatalf("%d publications, %d listed, %d bytes", len(l.byDigest), len(l.age), l.bytes)
		}
	}
	if _, ok := l.get(fleet.Sum([]byte{0})); !ok {
		t.Error("what is needed all the time went")
	}
}

// The fixture of the fuzz targets has an order that waits for its document.
func TestFixtureWaitsForItsDocument(t *testing.T) {
	n := newNewer(t)
	out := n.step(n.hear(5, wire.Marshal([]auth.Envelope{n.text})))
	if start := one[StartRun](t, out); start.Command.Header.ID != idOf(n.paper) {
		t.Error("it runs something else")
	}
}
