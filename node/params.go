package node

import (
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// ReadParams is what a signed read of parameters is for. Its Name is the scope: a canonical name, which is that parameter
// with its history, or a path that ends in "/", which is all below it; "/" is all there is. What is asked beside it, which
// nobody signs, must lie within. Policy is asked about each parameter, not about the fleet.
const ReadParams ReadWhat = "params"

// ParamsAsk is one question about parameters, on the socket and between members.
type ParamsAsk struct {
	Signed []auth.Envelope // none or one: a Read of ReadParams. None: the node asks for itself
	Local  []LocalUser     // none or one: an account of the asking node for which it asks; the node vouches for it
	Ask    params.Ask
	Stale  bool // any replica answers, or the node's own copies
}

// LocalUser is an account of a host, as the kernel names whoever opened the agent's socket.
type LocalUser struct{ Name string }

// ParamsRead is an answer to a ParamsAsk, verified on this node.
type ParamsRead struct {
	Answer params.Answer
	Age    time.Duration // since when a newer version may be there that this does not show; 0 from the leader
	Source ParamsSource
	As     string // who asked, as policy saw it: "operator ada", "node web1", "user www on web1"
}

// ParamsSource says who answered.
type ParamsSource string

// Who may answer.
const (
	FromLeader  ParamsSource = "leader"  // linearizable
	FromReplica ParamsSource = "replica" // of any server, with its age
	FromCopy    ParamsSource = "copy"    // of this node, with its age
)

// ParamsWatch asks for what happens to parameters.
type ParamsWatch struct {
	Signed []auth.Envelope // as in ParamsAsk
	Local  []LocalUser
	Scope  string          // as in ReadParams
	After  params.EventPos // the last that the watcher has seen; zero: from now on
}

// ParamsNews is what a watch tells: first where it begins, then events in order.
type ParamsNews struct {
	Events []params.Event
	At     params.EventPos // everything that the watcher may see up to here has been told
	Lost   bool            // what came after the watcher's position is no longer kept: read what there is, and go on from At
}

// ParamAsker is somebody who asks for parameters. Policy must permit each of Who.
type ParamAsker struct {
	Who     []auth.Principal
	Scope   string
	Expires int64       // Unix milliseconds: of the signed request; 0: a node asks
	Key     fleet.ID    // that signed the request; zero: a node asks
	Node    fleet.ID    // that asks; zero: an operator does
	Local   []LocalUser // for which the node asks
}

// Everything is the scope of all parameters.
const Everything = "/"

// OpenParamRead verifies a signed request to read parameters. Policy is asked later, about each parameter.
func OpenParamRead(record auth.Record, e auth.Envelope, now time.Time) (ParamAsker, error) {
	read, op, err := auth.OpenOrder(record.Charter, e, auth.ForRequest, now, func(r Read) auth.Header { return r.Header })
	switch {
	case err != nil:
		return ParamAsker{}, err
	case read.What != ReadParams:
		return ParamAsker{}, fleet.Errorf(fleet.Invalid, "the request to read %q is none for %q", read.What, ReadParams)
	case !read.Node.IsZero() || !read.Arg.IsZero():
		return ParamAsker{}, fleet.Errorf(fleet.Invalid, "a request to read parameters names a scope alone")
	}
	if err := read.checkLife(); err != nil {
		return ParamAsker{}, err
	}
	if err := params.CheckScope(read.Name); err != nil {
		return ParamAsker{}, err
	}
	out := ParamAsker{Who: []auth.Principal{op.AsPrincipal()}, Scope: read.Name, Expires: read.Header.Expires, Key: e.Key}
	if op.Expires != 0 {
		out.Expires = min(out.Expires, op.Expires)
	}
	return out, nil
}

// NodeAsker is a node that asks for itself, or for an account of its host.
func NodeAsker(record auth.Record, id fleet.ID, local []LocalUser) (ParamAsker, error) {
	entry, err := record.Roster.Enrolled(id)
	if err != nil {
		return ParamAsker{}, err
	}
	out := ParamAsker{Who: []auth.Principal{entry.AsPrincipal()}, Scope: Everything, Node: id, Local: local}
	switch {
	case len(local) > 1:
		return out, fleet.Errorf(fleet.Invalid, "one account asks at a time, not %d", len(local))
	case len(local) == 0:
		return out, nil
	case local[0].Name == "" || len(local[0].Name) > maxAccount:
		return out, fleet.Errorf(fleet.Invalid, "an account's name of %d bytes; 1 to %d", len(local[0].Name), maxAccount)
	}
	out.Who = append(out.Who, entry.LocalUser(local[0].Name))
	return out, nil
}

// maxAccount bounds the name of an account of a host, in bytes; Linux allows 32, directories more.
const maxAccount = 256

// String names the asker for people: the one on whose account it is.
func (p ParamAsker) String() string {
	if len(p.Who) == 0 {
		return "nobody"
	}
	who := p.Who[len(p.Who)-1]
	switch who.Type {
	case "LocalUser":
		return "user " + who.Name + " on " + who.Node
	default:
		return strings.ToLower(who.Type) + " " + who.Name
	}
}

// may reports whether policy permits the asker to act on a parameter with these tags.
func (p ParamAsker) may(policy *auth.Policy, action auth.Action, name string, tags map[string]string) error {
	if len(p.Who) == 0 {
		return fleet.Errorf(fleet.Denied, "nobody asks")
	}
	for _, who := range p.Who {
		if _, err := policy.Decide(auth.Ask{
			Principal: who, Action: action, Resource: auth.ParameterResource(name, tags),
		}); err != nil {
			return err
		}
	}
	return nil
}
