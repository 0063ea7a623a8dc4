package agent

import (
	"context"
	"slices"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// maxShelf is how many publications are kept in memory for peers who ask; the folder keeps more.
const maxShelf = 32

// shelf keeps the publications that were needed last. It is guarded by Agent.mu.
type shelf struct {
	byKey map[fleet.ID]shelved
	age   []fleet.ID // least recently put first
}

// shelved is a publication with the head of the record by which it counts.
type shelved struct {
	publication auth.Envelope
	head        fleet.ID
}

func newShelf() shelf { return shelf{byKey: map[fleet.ID]shelved{}} }

// put keeps a publication that counts by the record of that head; zero: nobody has looked.
func (s *shelf) put(key fleet.ID, e auth.Envelope, head fleet.ID) {
	if _, ok := s.byKey[key]; ok {
		i := slices.Index(s.age, key)
		s.age = slices.Delete(s.age, i, i+1)
	} else if len(s.age) == maxShelf {
		delete(s.byKey, s.age[0])
		s.age = s.age[1:]
	}
	s.byKey[key] = shelved{e, head}
	s.age = append(s.age, key)
}

// fetchDocuments finds publications here, else asks a peer for each.
func (a *Agent) fetchDocuments(ctx context.Context, e node.FetchDocuments) {
	got := node.DocumentsFetched{From: a.self, Command: e.Command}
	for _, key := range e.Digests {
		own, ok := a.goodDocument(key)
		if !ok && e.From == a.self { // nobody else is asked: what does not count says at least why
			own, ok = a.document(key)
		}
		if ok {
			got.Statements = append(got.Statements, own)
			continue
		}
		if got.From = e.From; e.From == a.self {
			continue
		}
		var theirs auth.Envelope
		if err := a.ask(ctx, e.From, askDocument, documentAsk{key}, &theirs); err != nil {
			a.log.Debug("no document", "peer", e.From, "command", e.Command, "err", err)
			continue
		}
		got.Statements = append(got.Statements, theirs)
	}
	a.Post(got)
}

// document returns a publication that is here: one that counts, else what the replica has, so that who asks learns why no
// other is to be had.
func (a *Agent) document(key fleet.ID) (auth.Envelope, bool) {
	if e, ok := a.goodDocument(key); ok || a.replica == nil {
		return e, ok
	}
	return a.replica.State().Publication(key)
}

// goodDocument returns a publication that is here and counts by now: in memory, on disk, or in the replica. What is damaged
// on disk is not here.
func (a *Agent) goodDocument(key fleet.ID) (auth.Envelope, bool) {
	record := a.record()
	a.mu.Lock()
	on, ok := a.shelf.byKey[key]
	a.mu.Unlock()
	if ok && on.head == record.Head && !record.Head.IsZero() {
		return on.publication, true
	}
	e, ok := on.publication, ok && publishes(record, on.publication, key)
	if !ok {
		var err error
		e, err = a.cfg.Folder.Document(key)
		ok = err == nil && publishes(record, e, key)
	}
	if !ok && a.replica != nil {
		e, ok = a.replica.State().Publication(key)
		ok = ok && publishes(record, e, key)
	}
	if !ok {
		return auth.Envelope{}, false
	}
	a.mu.Lock()
	a.shelf.put(key, e, record.Head)
	a.mu.Unlock()
	return e, true
}

// publishes reports whether a publication is the one of that key, by somebody who may publish it now.
func publishes(record auth.Record, e auth.Envelope, key fleet.ID) bool {
	if exec.MayPublish(record, e) != nil {
		return false
	}
	p, err := auth.Peek[exec.Publication](e) // verified
	return err == nil && p.Ref(1).Key() == key
}

func (a *Agent) keepDocument(e node.KeepDocument) {
	a.mu.Lock()
	a.shelf.put(e.Digest, e.Statement, fleet.ID{})
	a.mu.Unlock()
	a.complain("keep a document", a.cfg.Folder.PutDocument(e.Digest, e.Statement))
}

// answerDocument gives a publication to whoever knows its key: those whose order names it, and servers.
func (a *Agent) answerDocument(body []byte) ([]byte, error) {
	var ask documentAsk
	if err := wire.Unmarshal(body, &ask); err != nil {
		return nil, err
	}
	e, ok := a.document(ask.Key)
	if !ok {
		return nil, fleet.Errorf(fleet.NotFound, "no such document here")
	}
	return wire.Marshal(e), nil
}
