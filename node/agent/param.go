package agent

import (
	"context"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// How this node reads parameters: from the leader; where age does not matter, from any replica, or cut off from its own
// copies. For itself and its accounts, whose programs must go on, it does so too where nobody leads, and says how old the
// answer is; an operator is told that nobody knows. Whatever comes is verified here.

// How long a reader waits for a leader before it takes what is older: an election takes three seconds. Where nobody who
// could lead can be seen, waiting helps nobody. staleTry is how long one replica has to answer.
const (
	paramPatience = 6 * time.Second
	paramAlone    = time.Second
	staleTry      = 2 * time.Second
	staleTries    = 3 // replicas that are asked, one after another
	behindRecord  = 3 * time.Second
)

// ReadParams answers a question about parameters. Denied: policy says no to the asker as a whole, or a server lied.
// Unavailable: nobody answers, and no copy is here.
func (a *Agent) ReadParams(ctx context.Context, ask node.ParamsAsk) (node.ParamsRead, error) {
	if err := ask.Ask.Check(); err != nil {
		return node.ParamsRead{}, err
	}
	read, err := a.readParams(ctx, ask)
	for rest := ask; err == nil && read.Answer.More && len(ask.Ask.Get) > 0; { // what did not fit one answer
		if rest.Ask.Get = ask.Ask.Get[min(len(ask.Ask.Get), len(read.Answer.Items)+len(read.Answer.Missing)):]; len(rest.Ask.Get) == 0 {
			break
		}
		var more node.ParamsRead
		if more, err = a.readParams(ctx, rest); err != nil {
			break
		}
		read = followed(read, more)
	}
	return read, err
}

// followed returns an answer with the answer to the rest behind it.
func followed(first, rest node.ParamsRead) node.ParamsRead {
	out := rest
	out.Answer.Items = slices.Concat(first.Answer.Items, rest.Answer.Items)
	out.Answer.Missing = slices.Concat(first.Answer.Missing, rest.Answer.Missing)
	out.Age = max(first.Age, rest.Age)
	if first.Source != node.FromLeader && rest.Source == node.FromLeader {
		out.Source = first.Source
	}
	return out
}

func (a *Agent) readParams(ctx context.Context, ask node.ParamsAsk) (node.ParamsRead, error) {
	seen := a.floorsSeen()
	var last error
	if !ask.Stale {
		answer, err := a.askLeader(ctx, ask)
		if err == nil {
			return a.takeParams(ctx, ask, answer, node.FromLeader, seen)
		}
		if !retriable(err) || ctx.Err() != nil {
			return node.ParamsRead{}, err
		}
		if len(ask.Signed) > 0 { // what an operator sees he acts upon
			return node.ParamsRead{}, fleet.Errorf(fleet.Unavailable, "no leader answers, so nobody knows the newest: %w", err).
				Hinted("--stale shows what a server or this host has seen last, and how old that is; muster quorum status")
		}
		last = err
		ask.Stale = true
	}
	read, err := a.readReplica(ctx, ask, seen)
	if err == nil || !retriable(err) {
		return read, err
	}
	if last == nil {
		last = err
	}
	return a.readCopies(ask, last)
}

// askLeader asks the leader, until it answers or patience ends.
func (a *Agent) askLeader(ctx context.Context, ask node.ParamsAsk) (paramsBody, error) {
	ctx, cancel := context.WithTimeout(ctx, a.paramPatience())
	defer cancel()
	if a.quorum != nil { // if it leads, without a way through bytes; else it says so at once
		if err := a.confirm(ctx, ask); err == nil {
			return a.paramsHere(a.self, ask)
		}
	}
	var out paramsBody
	answer, err := a.atLeader(ctx, askParams, wire.Marshal(ask))
	if err == nil {
		err = wire.Unmarshal(answer, &out)
	}
	return out, err
}

func (a *Agent) paramPatience() time.Duration {
	for _, id := range a.servers() {
		if a.alive(id) {
			return paramPatience
		}
	}
	return paramAlone
}

// readReplica asks this host's own replica, else servers that can be seen.
func (a *Agent) readReplica(ctx context.Context, ask node.ParamsAsk, seen node.Floors) (node.ParamsRead, error) {
	servers := slices.DeleteFunc(a.servers(), func(id fleet.ID) bool { return !a.alive(id) })
	if i := slices.Index(servers, a.self); i > 0 {
		servers[0], servers[i] = servers[i], servers[0]
	}
	var last error = fleet.Errorf(fleet.Unavailable, "no server can be seen")
	for _, id := range servers[:min(staleTries, len(servers))] {
		answer, err := a.askReplicaOnce(ctx, id, ask)
		if err == nil {
			var read node.ParamsRead
			if read, err = a.takeParams(ctx, ask, answer, node.FromReplica, seen); err == nil {
				return read, nil
			}
			err = fleet.Errorf(fleet.Unavailable, "%s: %w", a.nameOf(id), err) // another may be less behind, or honest
		}
		if !retriable(err) {
			return node.ParamsRead{}, err
		}
		last = err
	}
	return node.ParamsRead{}, last
}

func (a *Agent) askReplicaOnce(ctx context.Context, id fleet.ID, ask node.ParamsAsk) (paramsBody, error) {
	if id == a.self {
		if err := a.confirm(ctx, ask); err != nil {
			return paramsBody{}, err
		}
		return a.paramsHere(a.self, ask)
	}
	ctx, cancel := context.WithTimeout(ctx, staleTry)
	defer cancel()
	var out paramsBody
	kind, answer, err := a.askRaw(ctx, id, askParams, wire.Marshal(ask))
	switch {
	case err != nil && ctx.Err() != nil:
		return out, fleet.Errorf(fleet.Unavailable, "%s does not answer", a.nameOf(id))
	case err != nil:
		return out, err
	case kind != done:
		return out, fleet.Errorf(fleet.Unavailable, "%s gave no answer", a.nameOf(id))
	}
	return out, wire.Unmarshal(answer, &out)
}

// maxAge bounds what a server may say of its age, in milliseconds: a hundred years.
const maxAge = 100 * 366 * 24 * 3600 * 1000

// takeParams verifies what a server says. A node that is behind the server's record catches up first: it may not know the
// operator yet.
func (a *Agent) takeParams(ctx context.Context, ask node.ParamsAsk, body paramsBody, source node.ParamsSource, seen node.Floors) (node.ParamsRead, error) {
	record := a.record()
	taken, err := node.TakeParams(a.now().UnixMilli(), a.reading.proved.by(record.Charter), ask.Ask, body.Answer, seen)
	if err != nil && body.RecordLen > record.Length {
		ctx, cancel := context.WithTimeout(ctx, behindRecord)
		defer cancel()
		if a.await(ctx, func(r auth.Record) bool { return r.Length >= body.RecordLen }) == nil {
			record = a.record()
			taken, err = node.TakeParams(a.now().UnixMilli(), a.reading.proved.by(record.Charter), ask.Ask, body.Answer, seen)
		}
	}
	if err != nil {
		return node.ParamsRead{}, err
	}
	a.reading.floors.put(taken.Floors)
	out := node.ParamsRead{Answer: body.Answer, Source: source}
	if source != node.FromLeader {
		out.Age = time.Duration(min(max(0, body.Age), maxAge)) * time.Millisecond
	}
	a.keepCopies(ask, body.Answer, taken.Puts, source, out.Age)
	return a.shownTo(record, ask, out, taken.Puts)
}

// shownTo hides what this node's policy denies to an account of its host, and says who asked.
func (a *Agent) shownTo(record auth.Record, ask node.ParamsAsk, read node.ParamsRead, puts []params.Put) (node.ParamsRead, error) {
	if len(ask.Signed) > 0 { // the server has judged the operator
		return read, nil
	}
	asker, err := node.NodeAsker(record, a.self, ask.Local)
	if err != nil {
		return node.ParamsRead{}, err
	}
	read.As = asker.String()
	if len(ask.Local) > 0 {
		read.Answer, _ = node.HideParams(record.Charter.Policy(), asker, read.Answer, puts)
	}
	return read, nil
}
