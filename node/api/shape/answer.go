package shape

import (
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Answer is what the servers answer to a signed read. Lists that were not asked for are empty.
type Answer struct {
	Commands []Command `json:"commands"`
	Tokens   []Token   `json:"tokens"`
	Requests []Request `json:"requests"`

	Documents []DocumentInfo `json:"documents"`
	Version   uint32         `json:"version,omitzero"` // of Text
	Text      []byte         `json:"text,omitempty"`   // of the one document that was asked for; base64
}

// Token is a token without its secret, which nobody keeps.
type Token struct {
	ID       fleet.UUID        `json:"id"`
	Operator string            `json:"operator"`
	Used     uint32            `json:"used"`
	Uses     uint32            `json:"uses"`
	Tags     map[string]string `json:"tags"`
	Pattern  string            `json:"name_pattern"`
	Server   bool              `json:"server"`
	Replace  string            `json:"replace,omitempty"`
	Join     []byte            `json:"join_key"` // public
	Signed
}

// Request is a wish to become an operator.
type Request struct {
	Code   fleet.ID   `json:"code"`
	Nonce  fleet.UUID `json:"nonce"`
	Name   string     `json:"name"`
	Key    []byte     `json:"key"`
	HPKE   []byte     `json:"hpke"`
	Node   fleet.ID   `json:"node"`
	Issued time.Time  `json:"issued"`
}

// Operator is somebody who may sign orders.
type Operator struct {
	ID      fleet.ID  `json:"id"` // of the signing key
	Name    string    `json:"name"`
	Teams   []string  `json:"teams"`
	Expires time.Time `json:"expires,omitzero"`
	Key     []byte    `json:"key"`
	HPKE    []byte    `json:"hpke"`
}

// OfAnswer returns the shape of a.
func OfAnswer(a node.Answer) Answer {
	out := Answer{
		Commands: []Command{}, Tokens: []Token{}, Requests: []Request{}, Documents: []DocumentInfo{}, Version: a.Version, Text: a.Text,
	}
	for _, d := range a.Documents {
		out.Documents = append(out.Documents, ofDocumentInfo(d))
	}
	for _, c := range a.Commands {
		out.Commands = append(out.Commands, OfCommand(c))
	}
	for _, t := range a.Tokens {
		out.Tokens = append(out.Tokens, OfToken(t))
	}
	for _, r := range a.Requests {
		out.Requests = append(out.Requests, OfRequest(r))
	}
	return out
}

// Answer returns what OfAnswer was given.
func (a Answer) Answer() node.Answer {
	out := node.Answer{Version: a.Version, Text: a.Text}
	for _, d := range a.Documents {
		out.Documents = append(out.Documents, d.Info())
	}
	for _, c := range a.Commands {
		out.Commands = append(out.Commands, c.Command())
	}
	for _, t := range a.Tokens {
		out.Tokens = append(out.Tokens, t.Token())
	}
	for _, r := range a.Requests {
		out.Requests = append(out.Requests, r.Request())
	}
	return out
}

// OfToken returns the shape of t.
func OfToken(t node.TokenInfo) Token {
	tags := t.Body.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return Token{
		ID: t.ID, Operator: t.Operator, Used: t.Used, Uses: t.Body.Uses, Tags: tags, Pattern: t.Body.Pattern,
		Server: t.Body.Server, Replace: t.Body.Replace, Join: t.Body.Join, Signed: ofHeader(t.Body.Header),
	}
}

// Token returns what OfToken was given.
func (t Token) Token() node.TokenInfo {
	return node.TokenInfo{ID: t.ID, Operator: t.Operator, Used: t.Used, Body: auth.Token{
		Header: t.header(t.ID), Join: t.Join, Uses: t.Uses, Tags: t.Tags, Pattern: t.Pattern, Server: t.Server, Replace: t.Replace,
	}}
}

// OfRequest returns the shape of r.
func OfRequest(r consensus.OperatorRequest) Request {
	return Request{Code: r.Code(), Nonce: r.Nonce, Name: r.Name, Key: r.Key, HPKE: r.HPKE, Node: r.Node, Issued: At(r.Issued)}
}

// Request returns what OfRequest was given. Its code is computed anew, never taken from the shape.
func (r Request) Request() consensus.OperatorRequest {
	return consensus.OperatorRequest{Nonce: r.Nonce, Name: r.Name, Key: r.Key, HPKE: r.HPKE, Node: r.Node, Issued: Milli(r.Issued)}
}

// OfOperator returns the shape of o.
func OfOperator(o auth.Operator) Operator {
	teams := o.Teams
	if teams == nil {
		teams = []string{}
	}
	return Operator{ID: o.ID(), Name: o.Name, Teams: teams, Expires: At(o.Expires), Key: o.Key, HPKE: o.HPKE}
}

// Operator returns what OfOperator was given.
func (o Operator) Operator() auth.Operator {
	return auth.Operator{Name: o.Name, Teams: o.Teams, Expires: Milli(o.Expires), Key: o.Key, HPKE: o.HPKE}
}
