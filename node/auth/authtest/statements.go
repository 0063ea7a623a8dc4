package authtest

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Charter makes the next charter entry, signed by the working root.
func (f *Fleet) Charter(kind auth.CharterKind, content any) Proposal {
	entry := auth.SignCharter(f.Record.Charter, f.Header(0), kind, content, f.Roots[0])
	return Proposal{auth.ActCharter, wire.Marshal(entry)}
}

func (f *Fleet) operator(name string, teams ...string) auth.Operator {
	return auth.Operator{Name: name, Key: f.Operator.Public(), HPKE: Public(f.OperatorPrivate(name)), Teams: teams}
}

// NewOperator makes an operator's key and the act that adds it. life is how long the key is good for; 0: for ever.
func (f *Fleet) NewOperator(name string, life time.Duration, teams ...string) (auth.Signer, Proposal) {
	signer := f.signer("operator " + name)
	op := auth.Operator{Name: name, Key: signer.Public(), HPKE: Public(f.OperatorPrivate(name)), Teams: teams}
	if life != 0 {
		op.Expires = f.Now.Add(life).UnixMilli()
	}
	return signer, f.Charter(auth.CharterPutOperator, op)
}

// AddOperator adds an operator whose key does not expire.
func (f *Fleet) AddOperator(name string, teams ...string) auth.Signer {
	signer, p := f.NewOperator(name, 0, teams...)
	f.MustTake(p)
	return signer
}

// DeleteOperator makes the act that removes an operator.
func (f *Fleet) DeleteOperator(name string, key auth.Signer, compromised bool) Proposal {
	return f.Charter(auth.CharterDeleteOperator, auth.DeleteOperator{Name: name, Key: key.ID(), Compromised: compromised})
}

// SetPolicy replaces the fleet's policy.
func (f *Fleet) SetPolicy(cedar string) {
	f.MustTake(f.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: cedar}))
}

// Sign signs a statement as the operator.
func (f *Fleet) Sign(purpose auth.Purpose, body any) auth.Envelope {
	return f.Operator.Sign(purpose, f.ID(), body)
}

// Token is a token with its secret.
type Token struct {
	Body      auth.Token
	Statement auth.Envelope
	Join      auth.Signer
}

// NewToken makes a token for so many uses, signed by the operator. change, which may be nil, alters it before.
func (f *Fleet) NewToken(uses uint32, change func(*auth.Token)) Token {
	join := f.signer("join")
	body := auth.Token{Header: f.Header(TokenLife), Join: join.Public(), Uses: uses}
	if change != nil {
		change(&body)
	}
	return Token{body, f.Sign(auth.ForToken, body), join}
}

// NewNode makes a node's keys. It is not enrolled.
func (f *Fleet) NewNode(name string) Node {
	key := f.key("node " + name)
	signer := auth.NewSigner(key)
	n := Node{Name: name, ID: signer.ID(), Key: key, Signer: signer, HPKE: fleet.Sum([]byte("hpke " + name))}
	if f.Secrets {
		n.Private = Private(f.Seed + " node " + name + " " + n.ID.Text())
		n.HPKE = fleet.Sum(Public(n.Private))
	}
	return n
}

// Enrolment makes the three signatures by which n enrols with a token, countersigned by server.
func (f *Fleet) Enrolment(t Token, n, server Node) auth.Enrolment {
	return f.enrol(f.ID(), t.Statement, t.Body, t.Join, n, server, f.Header(0))
}

func (f *Fleet) enrol(id fleet.ID, token auth.Envelope, body auth.Token, join auth.Signer, n, server Node, head auth.Header) auth.Enrolment {
	head.ID, head.Expires = f.NewID(), 0
	request := join.Sign(auth.ForEnrol, id, auth.EnrolRequest{
		Header: head, Token: body.Header.ID, Key: n.Signer.Public(), HPKE: n.HPKE, Name: n.Name,
	})
	return auth.Enrolment{Token: token, Request: request, Countersign: Countersign(id, request, head, n, server)}
}

// Countersign is server's word that the quorum counted n's use.
func Countersign(id fleet.ID, request auth.Envelope, head auth.Header, n, server Node) auth.Envelope {
	return server.Signer.Sign(auth.ForCountersign, id, auth.Countersign{
		Header: head, Request: request.Digest(auth.ForEnrol, id), Node: n.ID,
	})
}

// AddNode enrols a node with a token of its own, countersigned by the first node. change, which may be nil, alters the
// token before it is signed.
func (f *Fleet) AddNode(name string, tags map[string]string, change func(*auth.Token)) Node {
	token := f.NewToken(1, func(t *auth.Token) {
		t.Tags = tags
		if change != nil {
			change(t)
		}
	})
	n := f.NewNode(name)
	f.MustTake(Enrol(f.Enrolment(token, n, f.Nodes[0])))
	f.Nodes = append(f.Nodes, n)
	return n
}

// Enrol makes the act of an enrolment.
func Enrol(e auth.Enrolment) Proposal { return Proposal{auth.ActEnrol, e.Encode()} }

// TagNode makes the act by which the operator sets a node's tags and its eligibility as a server.
func (f *Fleet) TagNode(id fleet.ID, tags map[string]string, server bool) Proposal {
	var seq uint64
	if n, ok := f.Record.Roster.Node(id); ok {
		seq = n.Seq
	}
	body := auth.NodeTags{Header: f.Header(0), Node: id, Seq: seq + 1, Tags: tags, Server: server}
	return Proposal{auth.ActNodeTags, wire.Marshal(f.Sign(auth.ForNodeTags, body))}
}

// RemoveNode makes the act by which the operator removes a node.
func (f *Fleet) RemoveNode(id fleet.ID) Proposal {
	var seq uint64
	if n, ok := f.Record.Roster.Node(id); ok {
		seq = n.Seq
	}
	body := auth.NodeRemove{Header: f.Header(0), Node: id, Seq: seq + 1}
	return Proposal{auth.ActNodeRemove, wire.Marshal(f.Sign(auth.ForNodeRemove, body))}
}

// Member returns a node as others see it: what the roster has of it, online, with no facts.
func (f *Fleet) Member(id fleet.ID) fleet.Member {
	n := must(f.Record.Roster.Enrolled(id))
	return fleet.Member{ID: n.ID, Name: n.Name, Status: fleet.Online, Role: fleet.Plain, Server: n.Server, Tags: n.Tags, LastSeen: f.Now}
}
