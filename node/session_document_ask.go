package node

import (
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// SessionDocument is the kind of frame by which an operator's end asks a node for the document that a session there is to be
// by: SessionDocumentAsk → SessionDocumentAnswer; the stream ends. Of one that is built in nobody asks.
//
// The node is asked, and not the servers, for it is the node that acts by the text: it finds the version with them while they
// can be reached, and among those that it keeps when they cannot; and it has the text when the session is opened. What it
// answers is pinned in the session's statement, and no other session is opened by it.
const SessionDocument byte = 10

// SessionDocumentAsk asks for a document. Who may not read the fleet's documents may have one by which policy permits him a
// session; so what the session would be stands beside.
type SessionDocumentAsk struct {
	Statement auth.Envelope // of Read: ReadSessionDocument
	User      string        // of the session; empty: none is named
	Words     []string      // NAME=VALUE, as a person types them
}

// SessionDocumentAnswer answers it.
type SessionDocumentAnswer struct {
	Version     uint32 // 0: the servers could not be asked
	Publication auth.Envelope
}

// maxDocumentAsk bounds the frame: what is signed, an account, and values with their names.
const maxDocumentAsk = maxSessionAsk + auth.MaxUser + 2*auth.MaxSessionValueBytes

// Encode returns the wire form.
func (a SessionDocumentAsk) Encode() []byte { return wire.Marshal(a) }

// Encode returns the wire form.
func (a SessionDocumentAnswer) Encode() []byte { return wire.Marshal(a) }

// DecodeSessionDocumentAsk reads what anybody sent.
func DecodeSessionDocumentAsk(data []byte) (SessionDocumentAsk, error) {
	var ask SessionDocumentAsk
	if len(data) > maxDocumentAsk {
		return ask, fleet.Errorf(fleet.Exhausted, "request of %d bytes for a document; at most %d", len(data), maxDocumentAsk)
	}
	err := wire.Unmarshal(data, &ask)
	return ask, err
}

// DecodeSessionDocumentAnswer reads what a node sent.
func DecodeSessionDocumentAnswer(data []byte) (SessionDocumentAnswer, error) {
	var answer SessionDocumentAnswer
	if len(data) > exec.MaxPublication+maxSessionAsk {
		return answer, fleet.Errorf(fleet.Exhausted, "a document of %d bytes", len(data))
	}
	err := wire.Unmarshal(data, &answer)
	return answer, err
}

// OpenDocumentRead verifies a request for the document of a session at a node. It asks no policy: who answers the operator
// does, by MayHaveDocument. timed: the time of the request is judged.
func OpenDocumentRead(e auth.Envelope, record auth.Record, at fleet.ID, timed bool, now time.Time) (Read, auth.Operator, error) {
	read, op, err := openHere(e, auth.ForRequest, record, timed, now, func(r Read) auth.Header {
		r.Header.Act = 0 // one that is a little behind may still tell what it has
		return r.Header
	})
	if err == nil {
		err = read.checkLife()
	}
	switch {
	case err != nil:
		return read, op, err
	case read.What != ReadSessionDocument:
		return read, op, fleet.Errorf(fleet.Invalid, "the request to read %q is none for a session's document", printableWhat(read.What))
	case read.Node != at:
		return read, op, fleet.Errorf(fleet.Denied, "the request to read was signed for another node")
	}
	return read, op, nil
}

// MayHaveDocument reports why an operator gets no publication for a session on this host, or nil: he may read the fleet's
// documents, or have that session by this one.
func MayHaveDocument(e auth.Envelope, ask SessionDocumentAsk, op auth.Operator, record auth.Record, host SessionHost, now time.Time) error {
	p, _, err := exec.OpenPublication(record.Charter, e)
	if err == nil {
		err = exec.MayPublish(record, e)
	}
	if err != nil {
		return err
	}
	d, err := document.ParseSession(p.Text)
	if err != nil {
		return ofDocument(p.Name, err)
	}
	if _, err := record.Charter.Policy().Decide(auth.Ask{
		Principal: op.AsPrincipal(), Action: auth.ActRead, Resource: auth.Resource{Type: "Fleet", Name: record.Charter.Name()},
	}); err == nil {
		return nil
	}
	given, err := d.ParseArguments(ask.Words)
	if err != nil {
		return ofDocument(p.Name, err)
	}
	s := auth.Session{Node: host.Self, User: ask.User, Document: []auth.SessionDocument{PinSessionDocument(p.Ref(0), given)}}
	terminal := false
	if s.Kind, terminal = SessionKindOf(d.Type()); terminal {
		s.Terminal = []auth.Terminal{{}}
	}
	m, err := host.make(s, []auth.Envelope{e}, record)
	if err != nil {
		return err
	}
	o := host.order(m.as, record, now)
	m.mark(&o)
	_, err = maySession(o.State(), op, record, host)
	return err
}

// PinSessionDocument returns what a session's statement says of its document.
func PinSessionDocument(ref exec.DocumentRef, values []document.Argument) auth.SessionDocument {
	d := auth.SessionDocument{Name: ref.Name, Version: ref.Version, Digest: ref.Digest}
	for _, v := range values {
		d.Values = append(d.Values, auth.SessionValue(v))
	}
	return d
}

// KeptDocument chooses among publications that a node keeps the one that a name and a selector (see ReadDocument) mean, where
// no server can be asked: without a selector the newest. Which number a version has, only servers know.
func KeptDocument(kept []auth.Envelope, nameAndSelector string, record auth.Record) (auth.Envelope, error) {
	name, selector, _ := strings.Cut(nameAndSelector, ":")
	var newest int64
	var found []auth.Envelope
	known := false
	for _, e := range kept {
		p, _, err := exec.OpenPublication(record.Charter, e)
		if err != nil || p.Name != name || exec.MayPublish(record, e) != nil {
			continue
		}
		known = true
		switch selector {
		case "", "$DEFAULT", "$LATEST", p.VersionName:
			if len(found) == 0 || p.Header.Issued > newest {
				newest, found = p.Header.Issued, []auth.Envelope{e}
			}
		}
	}
	if known && len(found) == 0 {
		return auth.Envelope{}, fleet.Errorf(fleet.Unavailable, "no server can be asked which text version %s of document %s is", selector, name).
			Hinted("--doc %s is the newest that this node has used", name)
	}
	if len(found) == 0 {
		return auth.Envelope{}, fleet.Errorf(fleet.Unavailable, "no server can be asked for document %s, and this node has not used it before", nameAndSelector).
			Hinted("what is built in needs nobody: muster doc list")
	}
	return found[0], nil
}
