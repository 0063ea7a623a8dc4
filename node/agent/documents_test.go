package agent

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func (d *desk) publication(text string) (auth.Envelope, fleet.ID) {
	p := exec.Publication{Header: d.Header(time.Hour), Name: "hello", Text: []byte(text)}
	return d.Sign(auth.ForDocument, p), p.Ref(1).Key()
}

// A publication is looked for in memory, on disk, in the replica, then at a peer.
func TestWhereDocumentsAre(t *testing.T) {
	d := newDesk(t)
	e, key := d.publication(helloText)
	other, _ := d.publication(helloText + " ")
	d.peers.kind = done
	d.peers.body = wire.Marshal(e)
	fetch := func(from fleet.ID) (fleet.ID, int) {
		t.Helper()
		d.fetchDocuments(t.Context(), node.FetchDocuments{From: from, Command: d.commandID(), Digests: []fleet.ID{key}})
		got := d.posted()
		if len(got) != 1 {
			t.Fatalf("%d answers", len(got))
		}
		fetched := got[0].(node.DocumentsFetched)
		return fetched.From, len(fetched.Statements)
	}
	expect := func(what string, from, wantFrom fleet.ID, want int) {
		t.Helper()
		if at, n := fetch(from); at != wantFrom || n != want {
			t.Errorf("%s: %d from %s, want %d from %s", what, n, at, want, wantFrom)
		}
	}
	expect("at a peer", d.web.ID, d.web.ID, 1)
	expect("nowhere", d.self, d.self, 0)
	d.cfg.Folder.(*stubFolder).documents = map[fleet.ID]auth.Envelope{key: other}
	expect("another on disk", d.web.ID, d.web.ID, 1)
	d.cfg.Folder.(*stubFolder).documents[key] = e
	expect("on disk", d.web.ID, d.self, 1)
	d.cfg.Folder.(*stubFolder).documents = nil
	expect("in memory", d.web.ID, d.self, 1)
	d.shelf = newShelf()
	if result, err := d.commit(t.Context(), consensus.PutDocument{Statement: e}); err != nil || result.Err() != nil {
		t.Fatal(err, result.Err())
	}
	expect("in the replica", d.web.ID, d.self, 1)
	d.keepDocument(node.KeepDocument{Digest: key, Statement: e})
	if _, ok := d.cfg.Folder.(*stubFolder).documents[key]; !ok || len(d.shelf.age) != 1 {
		t.Error("it is not kept")
	}
	d.peers.kind = 0
	d.peers.body = nil
	d.shelf, d.cfg.Folder, d.replica = newShelf(), &stubFolder{}, NewReplica()
	expect("the peer has none", d.web.ID, d.web.ID, 0)
}

func TestDocumentIsServed(t *testing.T) {
	d := newDesk(t)
	e, key := d.publication(helloText)
	ask := func() (auth.Envelope, error) {
		var got auth.Envelope
		_, body, err := d.answer(t.Context(), d.web.ID, askDocument, wire.Marshal(documentAsk{key}))
		if err == nil {
			err = wire.Unmarshal(body, &got)
		}
		return got, err
	}
	if _, err := ask(); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("that is not here: %v", err)
	}
	d.keepDocument(node.KeepDocument{Digest: key, Statement: e})
	if got, err := ask(); err != nil || string(got.Body) != string(e.Body) {
		t.Errorf("that is here: %v", err)
	}
}

func TestShelfIsBounded(t *testing.T) {
	s := newShelf()
	for i := range 3 * maxShelf {
		s.put(fleet.Sum([]byte{byte(i)}), auth.Envelope{}, fleet.ID{})
		s.put(fleet.Sum([]byte{0}), auth.Envelope{}, fleet.ID{}) // needed all the time
	}
	if _, ok := s.byKey[fleet.Sum([]byte{0})]; !ok || len(s.byKey) != maxShelf || len(s.age) != maxShelf {
		t.Errorf("%d kept, %d listed", len(s.byKey), len(s.age))
	}
}

func TestReadDocuments(t *testing.T) {
	d := newDesk(t)
	read := func(what node.ReadWhat, name string) (node.Answer, error) {
		return lookUp(d.replica.State(), node.Read{What: what, Name: name})
	}
	for i, version := range []string{"one", "two", "three"} {
		p := exec.Publication{Header: d.Header(time.Hour), Name: "hello", VersionName: version, Text: []byte(helloText + spaces(i))}
		if result, err := d.commit(t.Context(), consensus.PutDocument{Statement: d.Sign(auth.ForDocument, p)}); err != nil || result.Err() != nil {
			t.Fatal(err, result.Err())
		}
	}
	list, err := read(node.ReadDocuments, "")
	if err != nil || len(list.Documents) != 1 || list.Documents[0].Count != 3 || len(list.Documents[0].Versions) != 2 { // default and newest
		t.Errorf("%+v, %v", list.Documents, err)
	}
	for name, number := range map[string]uint32{"hello": 1, "hello:$DEFAULT": 1, "hello:2": 2, "hello:two": 2, "hello:$LATEST": 3} {
		got, err := read(node.ReadDocument, name)
		if err != nil || got.Version != number || string(got.Text) != helloText+spaces(int(number)-1) || len(got.Documents[0].Versions) != 3 {
			t.Errorf("%s: version %d, %v", name, got.Version, err)
		}
		if v := got.Documents[0].Versions[number-1]; v.Digest != fleet.Sum(got.Text) || v.Size != int64(len(got.Text)) || v.Publisher == "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	for _, name := range []string{"", "hallo", "hello:4", "hello:four", "hello:1:2"} {
		if _, err := read(node.ReadDocument, name); fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := read(node.ReadOutput, ""); err == nil {
		t.Error("a server answers for a node")
	}
}

func spaces(n int) string { return "   "[:n] }

// A publication that counted when it came keeps nobody from one that counts now, in memory or on disk.
func TestDocumentThatDoesNotCountAnyMore(t *testing.T) {
	d := newDesk(t)
	must := func(e consensus.Entry) {
		t.Helper()
		if result, err := d.commit(t.Context(), e); err != nil || result.Err() != nil {
			t.Fatal(err, result.Err())
		}
		p := *d.picture.Load()
		p.record = d.replica.State().Record
		d.Fleet.Record = p.record
		d.picture.Store(&p)
	}
	eve, added := d.NewOperator("eve", 0, auth.RootTeam)
	must(consensus.PutAct(added))
	publication := exec.Publication{Header: d.Header(time.Hour), Name: "hello", Text: []byte(helloText)}
	old, key := eve.Sign(auth.ForDocument, d.Fleet.ID(), publication), publication.Ref(1).Key()
	must(consensus.PutDocument{Statement: old})
	d.cfg.Folder.(*stubFolder).documents = map[fleet.ID]auth.Envelope{key: old}
	d.keepDocument(node.KeepDocument{Digest: key, Statement: old})
	for range 2 { // the second time it is known to count
		if e, ok := d.document(key); !ok || e.Key != eve.ID() {
			t.Fatal("not here")
		}
	}
	must(consensus.PutAct(d.DeleteOperator("eve", eve, true)))
	if _, ok := d.goodDocument(key); ok {
		t.Error("it still counts")
	}
	if e, ok := d.document(key); !ok || e.Key != eve.ID() {
		t.Error("nobody learns why it does not count")
	}
	again, _ := d.publication(helloText)
	must(consensus.PutDocument{Statement: again})
	if e, ok := d.document(key); !ok || e.Key != d.Operator.ID() {
		t.Error("the one that counts is not found")
	}
}
