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
	byKey map[fleet.ID]auth.Envelope
	age   []fleet.ID // least recently put first
}

func newShelf() shelf { return shelf{byKey: map[fleet.ID]auth.Envelope{}} }

func (s *shelf) put(key fleet.ID, e auth.Envelope) {
	if _, ok := s.byKey[key]; ok {
		i := slices.Index(s.age, key)
		s.age = slices.Delete(s.age, i, i+1)
	} else if len(s.age) == maxShelf {
		delete(s.byKey, s.age[0])
		s.age = s.age[1:]
	}
	s.byKey[key] = e
	s.age = append(s.age, key)
}

// fetchDocuments finds publications here, else asks a peer for each.
func (a *Agent) fetchDocuments(ctx context.Context, e node.FetchDocuments) {
	got := node.DocumentsFetched{From: a.self, Command: e.Command}
	for _, key := range e.Digests {
		own, ok := a.document(key)
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

// document returns a publication that is here: in memory, on disk, or in the replica. What is damaged on disk is not.
func (a *Agent) document(key fleet.ID) (auth.Envelope, bool) {
	a.mu.Lock()
	e, ok := a.shelf.byKey[key]
	a.mu.Unlock()
	if ok {
		return e, true
	}
	if e, err := a.cfg.Folder.Document(key); err == nil && a.publishes(e, key) {
		a.mu.Lock()
		a.shelf.put(key, e)
		a.mu.Unlock()
		return e, true
	}
	if a.replica == nil {
		return auth.Envelope{}, false
	}
	return a.replica.State().Publication(key)
}

func (a *Agent) publishes(e auth.Envelope, key fleet.ID) bool {
	_, of, err := exec.OpenPublication(a.record().Charter, e)
	return err == nil && of == key
}

func (a *Agent) keepDocument(e node.KeepDocument) {
	a.mu.Lock()
	a.shelf.put(e.Digest, e.Statement)
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
