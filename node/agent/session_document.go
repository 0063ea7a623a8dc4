package agent

import (
	"context"
	"errors"
	"strings"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// namedBody answers askNamed: a version of a document, with its number; 0: nobody could say.
type namedBody struct {
	Number      uint32
	Publication auth.Envelope
}

// giveDocument answers an operator who asks for the document that a session here is to be by, and keeps it for that session.
func (a *Agent) giveDocument(s SessionStream, body []byte) error {
	ask, err := node.DecodeSessionDocumentAsk(body)
	if err != nil {
		return err
	}
	host := a.sessionHost()
	var read node.Read
	var op auth.Operator
	err = a.caughtUp(s.Context(), func(record auth.Record) (err error) {
		if ask.Statement.Key != s.Peer() {
			return fleet.Errorf(fleet.Denied, "the request was signed by another key than the connection's")
		}
		read, op, err = node.OpenDocumentRead(ask.Statement, record, a.self, !host.ClockOff, a.now())
		return err
	})
	if err != nil {
		return err
	}
	found, err := a.findDocument(s.Context(), ask.Statement, read.Name)
	if err != nil {
		return err
	}
	err = a.caughtUp(s.Context(), func(record auth.Record) error {
		return node.MayHaveDocument(found.Publication, ask, op, record, host, a.now())
	})
	if err != nil {
		return err
	}
	if p, key, err := exec.OpenPublication(a.record().Charter, found.Publication); err == nil {
		a.log.Debug("a document for a session", "document", p.Name, "version", found.Number, "operator", op.Name)
		a.keepDocument(node.KeepDocument{Digest: key, Statement: found.Publication})
	}
	return s.WriteFrame(node.SessionDocument, node.SessionDocumentAnswer{Version: found.Number, Publication: found.Publication}.Encode())
}

// findDocument finds the version of a document that a name and a selector mean: as the servers have it, the leader first;
// else in this host's own replica; else among the publications that it keeps.
func (a *Agent) findDocument(ctx context.Context, signed auth.Envelope, name string) (namedBody, error) {
	if a.replica != nil && a.newest(a.picture.Load()).Leader == a.self { // what is committed is here
		return a.named(name)
	}
	ahead := a.othersAhead()
	first := min(1, len(ahead))
	for _, some := range [][]fleet.ID{ahead[:first], ahead[first:]} {
		if out, err, answered := a.askNamedOf(ctx, some, signed); answered {
			return out, err
		}
	}
	if a.replica != nil {
		if out, err := a.named(name); err == nil {
			return out, nil
		}
	}
	kept, err := node.KeptDocument(a.cfg.Folder.Documents(), name, a.record())
	return namedBody{0, kept}, err
}

// askNamedOf asks some servers at once, and takes the first that has the document; else that one says there is none.
func (a *Agent) askNamedOf(ctx context.Context, whom []fleet.ID, signed auth.Envelope) (out namedBody, err error, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, askAhead)
	defer cancel()
	type answer struct {
		body namedBody
		err  error
	}
	answers := make(chan answer, len(whom))
	for _, id := range whom {
		go func() {
			var x answer
			x.err = a.ask(ctx, id, askNamed, signed, &x.body)
			answers <- x
		}()
	}
	for range whom {
		x := <-answers
		switch {
		case x.err == nil:
			return x.body, nil, true
		case fleet.KindOf(x.err) == fleet.NotFound:
			err, answered = x.err, true
		default:
			a.log.Debug("no document for a session", "err", x.err)
		}
	}
	return out, err, answered
}

// named looks into this host's replica.
func (a *Agent) named(nameAndSelector string) (namedBody, error) {
	state := a.replica.State()
	if state.Record.Charter == nil {
		return namedBody{}, fleet.Errorf(fleet.Unavailable, "this host's replica is empty so far")
	}
	name, selector, _ := strings.Cut(nameAndSelector, ":")
	d, ok := state.Document(name)
	if !ok {
		return namedBody{}, fleet.Errorf(fleet.NotFound, "no document %s", name).Hinted("muster doc list")
	}
	v, err := node.FindVersion(d, selector)
	if err != nil {
		return namedBody{}, err
	}
	e, ok := state.Publication(exec.DocumentRef{Name: name, Digest: v.Digest}.Key())
	if !ok {
		e = v.Statement
	}
	return namedBody{v.Number, e}, nil
}

// answerNamed gives a version of a document to a node at which an operator asks for it: his request is for that node alone, so
// nobody can look through the documents with it.
func (a *Agent) answerNamed(peer fleet.ID, body []byte) ([]byte, error) {
	var signed auth.Envelope
	if err := errors.Join(wire.Unmarshal(body, &signed), a.needReplica()); err != nil {
		return nil, err
	}
	read, _, err := node.OpenDocumentRead(signed, a.record(), peer, true, a.now())
	if err != nil {
		return nil, err
	}
	out, err := a.named(read.Name)
	if err != nil {
		return nil, err
	}
	return wire.Marshal(out), nil
}

// publicationsFor returns the publication that judging a session takes, if it is to be had: from here, else from a server.
func (a *Agent) publicationsFor(ctx context.Context, keys []fleet.ID) (out []auth.Envelope) {
	for _, key := range keys {
		e, ok := a.goodDocument(key)
		for _, id := range a.othersAhead() {
			if ok {
				break
			}
			ask, cancel := context.WithTimeout(ctx, askAhead)
			ok = a.ask(ask, id, askDocument, documentAsk{key}, &e) == nil
			cancel()
		}
		if ok {
			out = append(out, e)
		}
	}
	return out
}
