package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

const greetText = `schemaVersion: "1.0"
sessionType: NonInteractiveCommands
parameters: {who: {type: String, allowedValues: [ada, bob]}}
properties: {linux: {commands: "echo hello {{ who }}"}}
`

const greetPolicy = lobbyPolicy + `
@id("bob-greets") permit (principal == Operator::"bob", action == Action::"session", resource is Node) when { context.document == "Greet" && !context.shell };
`

// serverThere has the host see a server, which leads.
func (l *lobby) serverThere() fleet.ID {
	server := fleet.Sum([]byte("server"))
	p := *l.picture.Load()
	p.beacon.Voters, p.beacon.Leader = []fleet.ID{server}, server
	l.picture.Store(&p)
	l.seen[server] = node.Sighting{ID: server, Status: fleet.Online}
	return server
}

// asksDocument asks for a document, as somebody.
func (l *lobby) asksDocument(by auth.Signer, name string, words ...string) (node.SessionDocumentAnswer, error) {
	l.t.Helper()
	l.Fleet.Now = time.Now()
	read := node.Read{Header: l.Header(node.ReadLife), What: node.ReadSessionDocument, Name: name, Node: l.self}
	ask := node.SessionDocumentAsk{Statement: by.Sign(auth.ForRequest, l.ID(), read), Words: words}
	_, body, err := l.says(by.ID(), node.SessionDocument, ask.Encode())
	if err != nil {
		return node.SessionDocumentAnswer{}, err
	}
	return node.DecodeSessionDocumentAnswer(body)
}

// greets opens a session by the document, as somebody.
func (l *lobby) greets(by auth.Signer, who string) error {
	l.t.Helper()
	s := l.asks(auth.SessionExec)
	s.Argv, s.Document = nil, []auth.SessionDocument{{Name: "Greet", Version: 4, Digest: fleet.Sum([]byte(greetText)), Values: []auth.SessionValue{{Name: "who", Value: who}}}}
	_, _, err := l.says(by.ID(), node.SessionOpen, l.signed(by, auth.ForSession, s))
	return err
}

// TestSessionByDocument: the node asks the servers which version it is, keeps it, and needs nobody for it from then on.
func TestSessionByDocument(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		l.SetPolicy(greetPolicy)
		l.learn()
		p := exec.Publication{Header: l.Header(time.Hour), Name: "Greet", Text: []byte(greetText)}
		e := l.Sign(auth.ForDocument, p)
		_, err := l.asksDocument(l.bob, "Greet", "who=bob")
		wantKind(t, err, fleet.Unavailable, "no server can be asked")
		wantKind(t, l.greets(l.bob, `"bob"`), fleet.NotFound, "has not got the text")

		server := l.serverThere()
		asked := 0
		l.peers.answer = func(kind byte) (byte, []byte, error) {
			if kind != askNamed {
				return 0, nil, fleet.Errorf(fleet.NotFound, "no")
			}
			asked++
			return done, wire.Marshal(namedBody{4, e}), nil
		}
		_, err = l.asksDocument(l.bob, "Greet", "who=eve")
		wantKind(t, err, fleet.Invalid, "is not one of ada, bob")
		if len(l.cfg.Folder.Documents()) != 0 {
			t.Error("kept for somebody who may not use it")
		}
		answer, err := l.asksDocument(l.bob, "Greet", "who=bob")
		if err != nil || answer.Version != 4 || string(answer.Publication.Body) != string(e.Body) || asked != 2 {
			t.Fatal(answer.Version, asked, err)
		}
		if err := l.greets(l.bob, `"bob"`); err != nil {
			t.Fatal(err)
		}
		wantKind(t, l.greets(l.bob, `"eve"`), fleet.Invalid, "is not one of")

		// The servers are gone, and the agent was started anew: what is in memory is lost.
		delete(l.seen, server)
		l.peers.answer, l.shelf = nil, newShelf()
		if answer, err = l.asksDocument(l.bob, "Greet", "who=ada"); err != nil || answer.Version != 0 {
			t.Error(answer.Version, err)
		}
		if err := l.greets(l.bob, `"ada"`); err != nil {
			t.Error(err)
		}
		s := l.asks(auth.SessionExec)
		_, _, err = l.says(l.bob.ID(), node.SessionOpen, l.signed(l.bob, auth.ForSession, s))
		wantKind(t, err, fleet.Denied, "no rule permits it")
		for _, state := range l.Sessions() {
			if state.Operator != "bob" || state.Text() != `Greet:4 who="bob"` && state.Text() != `Greet:4 who="ada"` {
				t.Errorf("%s: %s", state.Operator, state.Text())
			}
		}
	})
}

// A document that was pinned, and is not here any more, is fetched by its digest.
func TestDocumentOfASessionIsFetched(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		l.SetPolicy(greetPolicy)
		l.learn()
		e := l.Sign(auth.ForDocument, exec.Publication{Header: l.Header(time.Hour), Name: "Greet", Text: []byte(greetText)})
		l.serverThere()
		given := l.bob.Sign(auth.ForDocument, l.ID(), exec.Publication{Header: l.Header(time.Hour), Name: "Greet", Text: []byte(greetText)})
		l.peers.answer = func(kind byte) (byte, []byte, error) { return done, wire.Marshal(given), nil }
		wantKind(t, l.greets(l.bob, `"bob"`), fleet.Denied, "may not document.put")
		given = e
		if err := l.greets(l.bob, `"bob"`); err != nil {
			t.Error(err)
		}
	})
}

func TestDocumentAsksAreJudged(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		read := node.Read{Header: l.Header(node.ReadLife), What: node.ReadSessionDocument, Name: "Greet", Node: l.self}
		ask := node.SessionDocumentAsk{Statement: l.Sign(auth.ForRequest, read)}
		_, _, err := l.says(l.bob.ID(), node.SessionDocument, ask.Encode())
		wantKind(t, err, fleet.Denied, "another key")
		_, _, err = l.says(l.bob.ID(), node.SessionDocument, []byte{1})
		wantKind(t, err, fleet.Invalid, "")
		ask.Words = []string{strings.Repeat("x", maxFirstFrame)}
		if _, _, err = l.says(l.bob.ID(), node.SessionDocument, ask.Encode()); err == nil {
			t.Error("taken")
		}
	})
}

// A server gives a document to the node that an operator asks, and to no other.
func TestNamedDocuments(t *testing.T) {
	d := newDesk(t)
	for i, version := range []string{"one", "two", "three"} {
		p := exec.Publication{Header: d.Header(time.Hour), Name: "Greet", VersionName: version, Text: []byte(greetText + spaces(i))}
		if result, err := d.commit(t.Context(), consensus.PutDocument{Statement: d.Sign(auth.ForDocument, p)}); err != nil || result.Err() != nil {
			t.Fatal(err, result.Err())
		}
	}
	ask := func(peer, at fleet.ID, what node.ReadWhat, name string) (namedBody, error) {
		var got namedBody
		signed := d.Sign(auth.ForRequest, node.Read{Header: d.Header(node.ReadLife), What: what, Name: name, Node: at})
		_, body, err := d.answer(t.Context(), peer, askNamed, wire.Marshal(signed))
		if err == nil {
			err = wire.Unmarshal(body, &got)
		}
		return got, err
	}
	for name, number := range map[string]uint32{"Greet": 1, "Greet:$DEFAULT": 1, "Greet:2": 2, "Greet:two": 2, "Greet:$LATEST": 3} {
		got, err := ask(d.web.ID, d.web.ID, node.ReadSessionDocument, name)
		p, _ := auth.Peek[exec.Publication](got.Publication)
		if err != nil || got.Number != number || string(p.Text) != greetText+spaces(int(number)-1) {
			t.Errorf("%s: %d %v", name, got.Number, err)
		}
	}
	_, err := ask(d.web.ID, d.db.ID, node.ReadSessionDocument, "Greet")
	wantKind(t, err, fleet.Denied, "another node")
	_, err = ask(d.web.ID, d.web.ID, node.ReadSession, "Greet")
	wantKind(t, err, fleet.Invalid, "none for a session's document")
	_, err = ask(d.web.ID, d.web.ID, node.ReadSessionDocument, "Greed")
	wantKind(t, err, fleet.NotFound, "no document Greed")
	_, err = ask(d.web.ID, d.web.ID, node.ReadSessionDocument, "Greet:4")
	wantKind(t, err, fleet.NotFound, "no version 4")
	if _, body, err := d.answer(t.Context(), d.web.ID, askNamed, wire.Marshal(d.web.Signer.Sign(auth.ForRequest, d.Fleet.ID(),
		node.Read{Header: d.Header(node.ReadLife), What: node.ReadSessionDocument, Name: "Greet", Node: d.web.ID}))); err == nil {
		t.Errorf("a node looks through the documents by itself: %d bytes", len(body))
	}
}
