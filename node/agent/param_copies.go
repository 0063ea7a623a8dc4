package agent

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// ParamCopies keeps what was read of parameters on this host's disk, one piece for each parameter.
type ParamCopies interface {
	PutCopy(key fleet.ID, data []byte) error
	// Copy returns what PutCopy kept, or fleet.NotFound.
	Copy(key fleet.ID) ([]byte, error)
	DropCopy(key fleet.ID) error
	// Copies shows all that is kept.
	Copies(each func(key fleet.ID, data []byte)) error
}

const (
	// gatherCopies is how long what is to be kept gathers: a parameter that changes all the time is not written every time.
	gatherCopies = 250 * time.Millisecond
	// maxPending bounds what waits to be written, in bytes; what is beyond it is kept when it is read the next time.
	maxPending = 4 << 20
)

// keptParams are this node's copies: on disk, with what is known of them in memory.
type keptParams struct {
	store ParamCopies // nil: none are kept
	load  sync.Once
	disk  sync.Mutex // held while files are written, and while copies are answered from

	mu      sync.Mutex // of what follows; taken behind disk
	set     *node.CopySet
	pending map[string][]copyNews // by name
	bytes   int                   // of pending
	wake    chan struct{}
}

// copyNews is an item to keep, or a selector that a leader says names nothing.
type copyNews struct {
	item params.Item
	put  params.Put
	at   int64 // Unix milliseconds
	gone bool
}

func newKept() keptParams {
	return keptParams{set: node.NewCopySet(), pending: map[string][]copyNews{}, wake: make(chan struct{}, 1)}
}

func copyKey(name string) fleet.ID { return fleet.Sum([]byte(name)) }

// keepCopies keeps what this node read for itself or for its own accounts, for when it is cut off; what an operator read is
// the operator's. What the leader says is gone is noted, and forgotten if it goes on saying so.
func (a *Agent) keepCopies(ask node.ParamsAsk, answer params.Answer, puts []params.Put, source node.ParamsSource, age time.Duration) {
	k := &a.kept
	if k.store == nil || len(ask.Signed) > 0 || !ask.Ask.Values {
		return
	}
	at := a.now().Add(-age).UnixMilli()
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, item := range answer.Items {
		if len(item.Content) == 1 && (len(k.pending[puts[i].Name]) > 0 || !k.set.Fresh(item, puts[i], at)) {
			k.add(puts[i].Name, copyNews{item: item, put: puts[i], at: at})
		}
	}
	if source == node.FromLeader && len(ask.Local) == 0 {
		for _, m := range answer.Missing {
			k.forget(m.Selector.Name, m.Selector.Suffix(), at)
		}
		for _, p := range ask.Ask.Path {
			for _, name := range node.Gone(p, answer, puts, k.set.Names()) {
				k.forget(name, "", at)
			}
		}
	}
	if len(k.pending) > 0 {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

func (k *keptParams) forget(name, selector string, at int64) {
	if k.set.Has(name) || len(k.pending[name]) > 0 {
		k.add(name, copyNews{item: params.Item{Selector: selector}, at: at, gone: true})
	}
}

// add puts news in the place of older ones of the same selector. A word that something is gone takes the place of such a word
// alone: what was shown has been seen all the same.
func (k *keptParams) add(name string, n copyNews) {
	size := copySize(name, n)
	if k.bytes+size > maxPending || slices.ContainsFunc(k.pending[name], n.isBehind) {
		return
	}
	k.pending[name] = append(slices.DeleteFunc(k.pending[name], func(o copyNews) bool {
		same := o.item.Selector == n.item.Selector && (o.gone || !n.gone)
		if same {
			k.bytes -= copySize(name, o)
		}
		return same
	}), n)
	k.bytes += size
}

// isBehind reports whether an item is older than one of the same selector that waits: answers may come out of order.
func (n copyNews) isBehind(o copyNews) bool {
	if n.gone || o.gone || n.item.Selector != o.item.Selector {
		return false
	}
	return n.put.Born < o.put.Born || n.put.Born == o.put.Born && (n.item.Newest < o.item.Newest || n.item.Seq < o.item.Seq)
}

func copySize(name string, n copyNews) int {
	size := 512 + len(name) + len(n.item.Change.Body) + len(n.item.Body)
	for _, c := range n.item.Content {
		size += len(c)
	}
	for _, p := range n.item.Proof {
		size += len(p.Change.Body) + len(p.Body)
	}
	return size
}

// tendCopies writes what is to be kept until ctx ends.
func (a *Agent) tendCopies(ctx context.Context) {
	if a.kept.store == nil {
		return
	}
	a.loadCopies()
	for {
		select {
		case <-ctx.Done():
			a.flushCopies()
			return
		case <-a.kept.wake:
		}
		select {
		case <-ctx.Done():
		case <-time.After(gatherCopies):
		}
		a.flushCopies()
	}
}

// loadCopies finds out once what is on disk, and what this node has seen of each parameter in former lives.
func (a *Agent) loadCopies() {
	a.kept.load.Do(func() {
		k := &a.kept
		k.disk.Lock()
		defer k.disk.Unlock()
		var strip, drop []string
		err := k.store.Copies(func(key fleet.ID, data []byte) {
			c, ok := decodeCopies(key, data)
			if !ok {
				a.complain("drop a damaged copy", k.store.DropCopy(key))
				return
			}
			a.reading.floors.put(map[string]params.Floor{c.Name: c.Floor()})
			k.mu.Lock()
			defer k.mu.Unlock()
			bare, gone := k.set.Note(c, int64(len(data)))
			strip, drop = append(strip, bare...), append(drop, gone...)
		})
		a.complain("look through the copies of parameters", err)
		a.complain("drop copies", a.dropCopies(strip, drop))
	})
}

// floorsSeen returns what has been seen, by memory, or where that has let go of a name, by the disk.
func (a *Agent) floorsSeen() node.Floors {
	k := &a.kept
	if k.store == nil {
		return a.reading.floors.picture()
	}
	a.loadCopies() // before the picture is taken: what it finds has been seen
	seen := a.reading.floors.picture()
	return func(name string) (params.Floor, bool) {
		floor, ok := seen(name)
		if ok || a.reading.floors.knows(name) { // what was seen after the reader began does not bind it
			return floor, ok
		}
		k.mu.Lock()
		ok = k.set.Knows(name)
		k.mu.Unlock()
		if !ok {
			return params.Floor{}, false
		}
		k.disk.Lock()
		defer k.disk.Unlock()
		c := a.readCopy(name)
		return c.Floor(), c.Born > 0
	}
}

func decodeCopies(key fleet.ID, data []byte) (node.ParamCopies, bool) {
	var c node.ParamCopies
	err := wire.Unmarshal(data, &c)
	return c, err == nil && copyKey(c.Name) == key && c.Check() == nil
}

// readCopy returns what is on disk of a parameter; nothing if there is nothing, or it is damaged. disk is held.
func (a *Agent) readCopy(name string) node.ParamCopies {
	data, err := a.kept.store.Copy(copyKey(name))
	if err != nil {
		return node.ParamCopies{}
	}
	c, _ := decodeCopies(copyKey(name), data)
	return c
}

// flushCopies writes what is to be kept.
func (a *Agent) flushCopies() {
	k := &a.kept
	k.disk.Lock()
	defer k.disk.Unlock()
	k.mu.Lock()
	pending := k.pending
	k.pending, k.bytes = map[string][]copyNews{}, 0
	k.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(pending)) {
		a.complain("keep a copy of a parameter", a.writeCopy(name, pending[name]))
	}
}

// writeCopy brings a parameter's copies up to date. disk is held.
func (a *Agent) writeCopy(name string, news []copyNews) error {
	before := a.readCopy(name)
	c := before
	for _, n := range news {
		if n.gone {
			c = c.Forget(n.item.Selector, n.at)
		} else {
			c = c.Keep(n.item, n.put, n.at)
		}
	}
	if c.Name == "" || bytes.Equal(wire.Marshal(c), wire.Marshal(before)) {
		return nil
	}
	return a.putCopy(c)
}

// putCopy writes what is to be on disk of a parameter, and makes room for it. disk is held.
func (a *Agent) putCopy(c node.ParamCopies) error {
	k := &a.kept
	data := wire.Marshal(c)
	if err := k.store.PutCopy(copyKey(c.Name), data); err != nil {
		return err
	}
	k.mu.Lock()
	strip, drop := k.set.Note(c, int64(len(data)))
	k.mu.Unlock()
	return a.dropCopies(strip, drop)
}

// dropCopies takes copies from the disk, of some all but what was seen. disk is held.
func (a *Agent) dropCopies(strip, drop []string) error {
	for _, name := range strip {
		c := a.readCopy(name)
		if c.Name == "" { // damaged meanwhile
			drop = append(drop, name)
			continue
		}
		if err := a.putCopy(c.Bare()); err != nil {
			return err
		}
	}
	for _, name := range drop {
		if err := a.kept.store.DropCopy(copyKey(name)); err != nil {
			return err
		}
	}
	return nil
}

// readCopies answers from this node's copies; why says why nobody else answered.
func (a *Agent) readCopies(ask node.ParamsAsk, why error) (node.ParamsRead, error) {
	record, now := a.record(), a.now()
	asker, err := a.reading.asker(record, a.self, ask.Signed, ask.Local, now)
	if err != nil {
		return node.ParamsRead{}, err
	}
	if a.kept.store == nil {
		return node.ParamsRead{}, fleet.Errorf(fleet.Unavailable, "no server answers: %w", why).Hinted("muster quorum status")
	}
	a.loadCopies()
	a.flushCopies()
	k := &a.kept
	k.disk.Lock()
	defer k.disk.Unlock()
	k.mu.Lock()
	names := k.set.Names()
	k.mu.Unlock()
	used := copiesUsed{agent: a, record: record, now: now, of: map[string]copyUsed{}}
	answer, err := node.AnswerParams(node.CopiedParams{Names: names, Load: used.load(len(ask.Ask.Get)+len(ask.Ask.History) > 0)}, record, asker, ask.Ask)
	if err != nil {
		return node.ParamsRead{}, err
	}
	read := node.ParamsRead{Source: node.FromCopy, As: asker.String()}
	read.Answer, read.Age = used.judge(answer, why)
	if len(read.Answer.Items) == 0 && len(ask.Ask.List) == 0 {
		return node.ParamsRead{}, noCopy(ask.Ask, read.Answer, why)
	}
	return read, nil
}

// noCopy is the answer when there is none.
func noCopy(ask params.Ask, answer params.Answer, why error) error {
	if len(answer.Missing) > 0 {
		m := answer.Missing[0]
		if strings.HasPrefix(m.Why, "policy") {
			return fleet.Errorf(fleet.Denied, "%s", m.Why)
		}
		return node.ErrNoCopy(m.Selector, why)
	}
	if len(ask.Path) > 0 {
		return node.ErrNoCopy(params.Selector{Name: ask.Path[0].Path}, why)
	}
	return node.ErrNoCopy(params.Selector{Name: "any parameter"}, why)
}

// copiesUsed are the copies that an answer is made from.
type copiesUsed struct {
	agent  *Agent
	record auth.Record
	now    time.Time
	of     map[string]copyUsed
}

type copyUsed struct {
	copies node.ParamCopies
	param  *params.Param
	old    bool // no version of it was ever seen to be the newest
}

// load returns how parameters are read from disk, each once. Pages show only such as have a newest version; by name older
// ones may be asked for.
func (u *copiesUsed) load(byName bool) func(name string) (*params.Param, bool) {
	return func(name string) (*params.Param, bool) {
		used, ok := u.of[name]
		if !ok {
			used.copies = u.agent.readCopy(name)
			used.param, used.old, _ = used.copies.Param(u.record.Charter, u.now.UnixMilli())
			if byName {
				u.of[name] = used
			} else {
				u.of[name] = copyUsed{copies: used.copies.Times(), param: nil, old: used.old}
			}
		}
		return used.param, used.param != nil && (byName || !used.old)
	}
}

// judge takes out of an answer what the copies do not really show, and says how old it is.
func (u *copiesUsed) judge(a params.Answer, why error) (params.Answer, time.Duration) {
	out := a
	out.Items, out.Missing = nil, nil
	oldest := u.now.UnixMilli()
	for _, item := range a.Items {
		op, err := params.DecodeOp(item.Body)
		if err != nil {
			continue
		}
		used := u.of[op.Name()]
		at, ok := used.copies.At(item.Selector)
		if !ok && item.Selector == "" && !used.old {
			at, ok = used.copies.Newest()
		}
		if !ok {
			s, err := params.ParseSelector(op.Name() + item.Selector)
			if err != nil {
				s = params.Selector{Name: op.Name()}
			}
			out.Missing = append(out.Missing, params.Missing{Selector: s, Why: node.ErrNoCopy(s, why).Error()})
			continue
		}
		oldest = min(oldest, at)
		out.Items = append(out.Items, item)
	}
	for _, m := range a.Missing {
		if !strings.HasPrefix(m.Why, "policy") {
			m.Why = node.ErrNoCopy(m.Selector, why).Error()
		}
		out.Missing = append(out.Missing, m)
	}
	return out, u.now.Sub(time.UnixMilli(oldest))
}
