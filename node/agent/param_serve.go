package agent

import (
	"context"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// How a server answers about parameters: the leader after a round of the quorum, any other as of its replica.

// paramsBody is the answer to a node.ParamsAsk.
type paramsBody struct {
	Answer    params.Answer
	Age       int64  // milliseconds: what is newer than that may be missing; 0 from the leader
	RecordLen uint64 // of the record by which it was judged
}

// maxParamReads is how many questions about parameters one peer may have under way at a server: their answers are up to
// half a megabyte each.
const maxParamReads = 64

// maxParamsAsk bounds one question, in bytes: ten names of two kilobytes and a signed request have less, and ten filters with
// fifty values each of a hundred.
const maxParamsAsk = 64 << 10

// decodeParamsAsk refuses what is no question before it waits for a round of the quorum.
func decodeParamsAsk(body []byte) (node.ParamsAsk, error) {
	var ask node.ParamsAsk
	if len(body) > maxParamsAsk {
		return ask, fleet.Errorf(fleet.Exhausted, "a question about parameters of %d bytes; at most %d", len(body), maxParamsAsk).
			Hinted("give filters fewer or shorter values")
	}
	if err := wire.Unmarshal(body, &ask); err != nil {
		return node.ParamsAsk{}, err
	}
	if len(ask.Signed) > 1 || len(ask.Local) > 1 {
		return node.ParamsAsk{}, fleet.Errorf(fleet.Invalid, "one question has one asker")
	}
	return ask, ask.Ask.Check()
}

func (a *Agent) answerParams(ctx context.Context, peer fleet.ID, body []byte) ([]byte, error) {
	ask, err := decodeParamsAsk(body)
	if err != nil {
		return nil, err
	}
	if peer != a.self {
		if !a.reading.peers.begin(peer, maxParamReads) {
			return nil, fleet.Errorf(fleet.Exhausted, "this node has %d reads of parameters under way at %s", maxParamReads, a.cfg.Name)
		}
		defer a.reading.peers.end(peer)
	}
	if err := a.confirm(ctx, ask); err != nil {
		return nil, err
	}
	return a.paramsBody(peer, ask)
}

// confirm waits until this host's replica may answer: as the newest, if the question is not content with less.
func (a *Agent) confirm(ctx context.Context, ask node.ParamsAsk) error {
	if err := a.needReplica(); err != nil || ask.Stale {
		return err
	}
	return a.quorum.Read(ctx)
}

// paramsBody answers from this host's replica, as it is by now.
func (a *Agent) paramsBody(peer fleet.ID, ask node.ParamsAsk) ([]byte, error) {
	out, err := a.paramsHere(peer, ask)
	if err != nil {
		return nil, err
	}
	return wire.Marshal(out), nil
}

func (a *Agent) paramsHere(peer fleet.ID, ask node.ParamsAsk) (paramsBody, error) {
	var age time.Duration
	if ask.Stale {
		age = a.replicaAge() // before the state is looked at, which may be newer then, never older
	}
	state := a.replica.State()
	asker, err := a.reading.asker(state.Record, peer, ask.Signed, ask.Local, a.now())
	if err != nil {
		return paramsBody{}, err
	}
	out := paramsBody{RecordLen: state.Record.Length}
	var from node.Parameters = state
	if ask.Stale {
		from, out.Age = node.Unexpired(state, a.now().UnixMilli()), age.Milliseconds()
	}
	if out.Answer, err = node.AnswerParams(from, state.Record, asker, ask.Ask); err != nil {
		return paramsBody{}, err
	}
	out.Answer.Act, out.Answer.Time = state.Act, state.Time
	return out, nil
}

// fresh is a Quorum that knows how far its replica may be behind.
type fresh interface {
	// Age returns how old a read of the replica is: every write that was acknowledged longer ago shows. ok: that is known.
	Age() (age time.Duration, ok bool)
}

// replicaAge returns how far this host's replica may be behind: without a word of the quorum, as long as nothing was
// committed that it knows of.
func (a *Agent) replicaAge() time.Duration {
	if q, ok := a.quorum.(fresh); ok {
		if age, known := q.Age(); known {
			return age
		}
	}
	return max(0, time.Duration(a.stamp()-a.replica.State().Time)*time.Millisecond)
}

// maxOpened is how many signed reads a server remembers as verified: one is used for many questions within its two minutes.
const maxOpened = 1024

// opened remembers verified requests to read.
type opened struct {
	mu    sync.Mutex
	byKey map[fleet.ID]openedRead
	age   []fleet.ID
	next  int
}

type openedRead struct {
	asker   node.ParamAsker
	charter fleet.ID // head of the charter by which it was verified
}

// get returns who a request was verified to be of, by that charter and within its life.
func (o *opened) get(key, charter fleet.ID, now time.Time) (node.ParamAsker, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	read, ok := o.byKey[key]
	return read.asker, ok && read.charter == charter && now.UnixMilli() < read.asker.Expires
}

// put remembers a request; the one that was remembered for longest goes.
func (o *opened) put(key fleet.ID, read openedRead) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byKey == nil {
		o.byKey, o.age = map[fleet.ID]openedRead{}, make([]fleet.ID, 0, maxOpened)
	}
	if _, ok := o.byKey[key]; !ok {
		if len(o.age) < maxOpened {
			o.age = append(o.age, key)
		} else {
			delete(o.byKey, o.age[o.next])
			o.age[o.next] = key
			o.next = (o.next + 1) % maxOpened
		}
	}
	o.byKey[key] = read
}

// asker returns who asks: the operator who signed, or the peer itself.
func (p *paramReading) asker(record auth.Record, peer fleet.ID, signed []auth.Envelope, local []node.LocalUser, now time.Time) (node.ParamAsker, error) {
	switch {
	case len(signed) > 1:
		return node.ParamAsker{}, fleet.Errorf(fleet.Invalid, "%d signed requests beside one question", len(signed))
	case len(signed) == 0:
		return node.NodeAsker(record, peer, local)
	}
	key := fleet.Sum(wire.Marshal(signed[0]))
	if record.Charter != nil {
		if asker, ok := p.opened.get(key, record.Charter.Head(), now); ok {
			return asker, nil
		}
	}
	asker, err := node.OpenParamRead(record, signed[0], now)
	if err == nil {
		p.opened.put(key, openedRead{asker, record.Charter.Head()})
	}
	return asker, err
}

// paramReading is what an agent remembers for reading them.
type paramReading struct {
	opened  opened
	peers   perPeer // reads under way here, for peers
	watches perPeer // the same of watches
	floors  floors
	proved  proved
}
