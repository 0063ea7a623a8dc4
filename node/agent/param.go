package agent

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// How this node reads parameters: from the leader; where nobody leads, or age does not matter, from any replica; cut off,
// from its own copies. Whatever comes is verified here.

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
	seen := a.reading.floors.picture()
	body := wire.Marshal(ask)
	var last error
	if !ask.Stale {
		answer, err := a.askLeader(ctx, body)
		if err == nil {
			return a.takeParams(ctx, ask, answer, node.FromLeader, seen)
		}
		if !retriable(err) || ctx.Err() != nil {
			return node.ParamsRead{}, err
		}
		last = err
		ask.Stale = true
		body = wire.Marshal(ask)
	}
	read, err := a.readReplica(ctx, ask, body, seen)
	if err == nil || !retriable(err) {
		return read, err
	}
	if last == nil {
		last = err
	}
	return a.readCopies(ask, last)
}

// askLeader asks the leader, until it answers or patience ends.
func (a *Agent) askLeader(ctx context.Context, ask []byte) (paramsBody, error) {
	ctx, cancel := context.WithTimeout(ctx, a.paramPatience())
	defer cancel()
	var out paramsBody
	body, err := a.atLeader(ctx, askParams, ask)
	if err == nil {
		err = wire.Unmarshal(body, &out)
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
func (a *Agent) readReplica(ctx context.Context, ask node.ParamsAsk, body []byte, seen *floorPicture) (node.ParamsRead, error) {
	servers := slices.DeleteFunc(a.servers(), func(id fleet.ID) bool { return !a.alive(id) })
	if i := slices.Index(servers, a.self); i > 0 {
		servers[0], servers[i] = servers[i], servers[0]
	}
	var last error = fleet.Errorf(fleet.Unavailable, "no server can be seen")
	for _, id := range servers[:min(staleTries, len(servers))] {
		answer, err := a.askReplicaOnce(ctx, id, body)
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

func (a *Agent) askReplicaOnce(ctx context.Context, id fleet.ID, body []byte) (paramsBody, error) {
	ctx, cancel := context.WithTimeout(ctx, staleTry)
	defer cancel()
	var out paramsBody
	kind, answer, err := a.askRaw(ctx, id, askParams, body)
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
func (a *Agent) takeParams(ctx context.Context, ask node.ParamsAsk, body paramsBody, source node.ParamsSource, seen *floorPicture) (node.ParamsRead, error) {
	record := a.record()
	taken, err := node.TakeParams(a.reading.proved.by(record.Charter), ask.Ask, body.Answer, seen.get)
	if err != nil && body.RecordLen > record.Length {
		ctx, cancel := context.WithTimeout(ctx, behindRecord)
		defer cancel()
		if a.await(ctx, func(r auth.Record) bool { return r.Length >= body.RecordLen }) == nil {
			record = a.record()
			taken, err = node.TakeParams(a.reading.proved.by(record.Charter), ask.Ask, body.Answer, seen.get)
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

// maxFloors bounds how many names a node remembers the newest version of.
const maxFloors = 20_000

// floors is the newest that this node has seen of parameters. A reader takes a picture before it asks: what others see
// meanwhile does not make its answer a lie.
type floors struct {
	mu  sync.Mutex // of put
	now atomic.Pointer[floorPicture]
}

// floorPicture is what had been seen at one moment, an immutable value.
type floorPicture struct {
	of  *iradix.Tree[params.Floor] // by name
	old *iradix.Tree[params.Floor] // of before of was full
}

func (f *floors) picture() *floorPicture {
	if now := f.now.Load(); now != nil {
		return now
	}
	return &floorPicture{iradix.New[params.Floor](), iradix.New[params.Floor]()}
}

func (p *floorPicture) get(name string) (params.Floor, bool) {
	floor, ok := p.of.Get([]byte(name))
	if !ok {
		floor, ok = p.old.Get([]byte(name))
	}
	return floor, ok
}

// put remembers what was seen. Answers may come out of order: what is higher stays.
func (f *floors) put(seen map[string]params.Floor) {
	if f.known(seen) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next := *f.picture()
	for name, floor := range seen {
		if had, ok := next.get(name); ok {
			floor = had.Higher(floor)
		}
		if next.of.Len() >= maxFloors/2 {
			next.of, next.old = iradix.New[params.Floor](), next.of
		}
		next.of, _, _ = next.of.Insert([]byte(name), floor)
	}
	f.now.Store(&next)
}

// known reports whether seen tells nothing new, as most reads do.
func (f *floors) known(seen map[string]params.Floor) bool {
	now := f.picture()
	for name, floor := range seen {
		had, ok := now.get(name)
		if !ok || had.Born != floor.Born || had.Version < floor.Version || had.Seq < floor.Seq || len(floor.Labels) > 0 {
			return false
		}
	}
	return true
}
