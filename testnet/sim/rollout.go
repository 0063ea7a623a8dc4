package main

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/check"
)

// rollout is a paced command, and the truth of what became of it.
type rollout struct {
	signed
	main    *rollout // that it waits for; nil: it is one itself
	gates   []*rollout
	onStop  *rollout
	fate    fate
	granted []time.Duration          // by place in the set; -1: never
	freed   map[uint32]time.Duration // by place in the set: when who was silent, later, had been granted first
	parts   []part
	open    map[*host]int // index in parts of what goes on
	agreed  time.Duration // when the quorum took it; -1: not yet
	stopped time.Duration // when it was agreed that nothing more starts; -1: never
	ended   time.Duration // when it was agreed that nothing runs and nothing will; -1: not yet
	wanted  bool          // somebody cancelled it
	refused string        // why the quorum did not take it, or one that belongs to it
}

// part is one beginning.
type part struct {
	h           *host
	granted     time.Duration
	began, gone time.Duration // gone -1: it goes on
	bad         bool
}

// fate is how a command's runs end.
type fate struct {
	fails, hangs   float64 // chances
	least, longest time.Duration
}

const never = time.Duration(-1)

func (w *world) newRollout(s signed, f fate) *rollout {
	r := &rollout{
		signed: s, fate: f, open: map[*host]int{}, freed: map[uint32]time.Duration{}, agreed: never, stopped: never, ended: never,
		granted: slices.Repeat([]time.Duration{never}, len(s.Nodes)),
	}
	w.rollouts[s.id] = r
	w.listed = append(w.listed, r)
	return r
}

// The targets of random commands, with whom they select.
var targets = []struct {
	text string
	has  func(t *town, index int) bool
}{
	{"*", func(*town, int) bool { return true }},
	{"tag.role=web", func(t *town, i int) bool { return i >= t.servers && i%4 != 0 }},
	{"tag.role=db", func(t *town, i int) bool { return i >= t.servers && i%4 == 0 }},
}

// launch signs a random rollout, with its gates and what is run on a stop, and has it proposed by somebody.
func (w *world) launch() *rollout {
	target := targets[w.weighted(0.6, 0.25, 0.15)]
	var to []*host
	for i, h := range w.hosts {
		if target.has(w.town, i) {
			to = append(to, h)
		}
	}
	timeout := w.between(4*time.Second, 20*time.Second).Milliseconds()
	pace := w.pace(uint32(len(to)))
	id := w.fleet.NewID()
	padded := len(w.hosts) > wholeView && !w.fetched[target.text] // see spreadOne
	w.fetched[target.text] = true
	plain := func(c *exec.Command) {
		c.Run.Argv, c.Run.Timeout = []string{"true"}, timeout
		if padded {
			c.Run.Argv, c.Run.Script = nil, slices.Repeat([]byte("#"), padding)
		}
	}
	fates := w.fate4()
	var first []*rollout
	follower := func(wave uint32, f fate) *rollout {
		s := w.order(to, target.text, func(c *exec.Command) {
			plain(c)
			c.After = exec.After{Command: id, Wave: wave}
			c.Pace = exec.Pace{Limited: true, Concurrency: pace.Concurrency, Errors: uint32(w.rand.IntN(2)), Strict: pace.Strict}
		})
		r := w.newRollout(s, f)
		first = append(first, r)
		return r
	}
	var gates []*rollout
	var onStop *rollout
	if len(pace.Waves) > 1 && w.chance(0.5) {
		for i := range pace.Waves[1:] {
			g := follower(uint32(i)+1, w.fate4())
			gates, pace.Gates = append(gates, g), append(pace.Gates, g.id)
		}
	}
	if w.chance(0.3) {
		onStop = follower(0, w.fate4())
		pace.OnStop = onStop.id
	}
	r := w.newRollout(w.order(to, target.text, func(c *exec.Command) {
		plain(c)
		c.Header.ID, c.Pace = id, pace
	}), fates)
	r.gates, r.onStop = gates, onStop
	for _, f := range first {
		f.main = r
	}
	w.proposeInOrder(append(first, r))
	return r
}

func (w *world) proposeInOrder(rest []*rollout) {
	if len(rest) == 0 {
		return
	}
	r := rest[0]
	w.propose(w.hosts[w.rand.IntN(len(w.hosts))], consensus.PutCommand{Statement: r.Statement, Nodes: r.Nodes}, func(result consensus.Result) {
		if result.Why != "" {
			rest[len(rest)-1].refused = result.Why
			return
		}
		w.proposeInOrder(rest[1:])
	})
}

// weighted picks an index by its weight; the weights sum to 1.
func (w *world) weighted(weights ...float64) int {
	x := w.rand.Float64()
	for i, weight := range weights {
		if x -= weight; x < 0 {
			return i
		}
	}
	return len(weights) - 1
}

func pick[T any](w *world, of ...T) T { return of[w.rand.IntN(len(of))] }

// pace draws random limits for that many nodes.
func (w *world) pace(count uint32) exec.Pace {
	p := exec.Pace{
		Limited: true, Strict: w.chance(0.4),
		Concurrency: min(count, pick(w, 0, 1, 2, 3, 5, 10, max(1, count/10), max(1, count/2), count)),
		Errors:      min(count, pick(w, 0, 0, 1, 2, 5, count/10, count)),
	}
	if len(w.hosts) > wholeView { // one at a time would take ten thousand nodes a day
		p.Concurrency = min(count, pick(w, 0, count/50, count/20, count/10, count/2))
		p.Errors = min(count, pick(w, 0, 5, count/100, count/20, count))
		if p.Strict {
			p.Errors = max(p.Errors, count/100)
		}
	} else if p.Strict && p.Errors == 0 {
		p.Concurrency = pick[uint32](w, 0, 1, 5)
	}
	if w.chance(0.4) {
		for n := uint32(0); n < count; {
			n = min(count, n+1+uint32(w.rand.IntN(int(count))))
			p.Waves = append(p.Waves, n)
		}
	}
	return p
}

// fate4 draws how a command's runs end.
func (w *world) fate4() fate {
	f := fate{fails: pick(w, 0, 0, 0, 0.02, 0.1, 0.3, 1), hangs: pick(w, 0, 0, 0.02), least: time.Millisecond}
	f.longest = pick(w, 20*time.Millisecond, 500*time.Millisecond, 3*time.Second)
	return f
}

// fate decides how long a command runs on a host and how it ends.
func (w *world) fate(h *host, c exec.Command) (time.Duration, exec.Status) {
	r := w.rollouts[c.Header.ID]
	if r == nil {
		return w.between(2*time.Millisecond, runsFor), exec.Success
	}
	timeout := time.Duration(c.Run.Timeout) * time.Millisecond
	if w.chance(r.fate.hangs) {
		return timeout, exec.TimedOut
	}
	takes := w.between(r.fate.least, r.fate.longest)
	if w.chance(r.fate.fails) {
		return takes, exec.Failed
	}
	return takes, exec.Success
}

// began notes that a process is there.
func (w *world) began(h *host, id fleet.UUID) {
	r := w.rollouts[id]
	if r == nil {
		return
	}
	i, _ := slices.BinarySearchFunc(r.Nodes, h.id, fleet.ID.Compare)
	r.open[h] = len(r.parts)
	r.parts = append(r.parts, part{h: h, granted: r.granted[i], began: w.now, gone: never})
}

// ended notes that a process is gone.
func (w *world) ended(h *host, id fleet.UUID, s exec.Status) {
	w.gone(h, id, s != exec.Success && s != exec.Cancelled)
}

// lost notes that a process is gone with its machine.
func (w *world) lost(h *host, id fleet.UUID) { w.gone(h, id, true) }

func (w *world) gone(h *host, id fleet.UUID, bad bool) {
	r := w.rollouts[id]
	if r == nil {
		return
	}
	x := &r.parts[r.open[h]]
	x.gone, x.bad = w.now, bad
	delete(r.open, h)
}

// agreed notes what an entry changed, at the moment from which it is agreed.
func (w *world) agreed(e consensus.Entry, result consensus.Result, s consensus.State) {
	if result.Why != "" {
		return
	}
	switch e := e.(type) {
	case consensus.PutCommand:
		id := s.Commands(1)[0].ID()
		if r := w.rollouts[id]; r != nil {
			r.agreed = w.now
			w.look(r, s)
		}
		if w.onAgreed != nil {
			w.onAgreed(id)
		}
	case consensus.PutGrants:
		r := w.rollouts[e.Command]
		for _, i := range e.Nodes {
			r.granted[i] = w.now
			if w.chance(w.cruel) {
				w.hit(w.byID[r.Nodes[i]])
			}
		}
		w.look(r, s)
	case consensus.PutEndings:
		r := w.rollouts[e.Command]
		for _, x := range e.Ends {
			if r != nil && x.As == exec.EndFreed {
				if _, before := r.freed[x.Node]; !before {
					r.freed[x.Node] = r.granted[x.Node]
				}
			}
		}
		w.look(r, s)
	case consensus.PutCancel:
		if c, err := auth.Peek[exec.Cancel](e.Statement); err == nil {
			w.look(w.rollouts[c.Command], s)
		}
	}
}

// look notes whether a rollout, or one that it is linked with, was stopped or has ended.
func (w *world) look(r *rollout, s consensus.State) {
	if r == nil {
		return
	}
	if r.main != nil {
		r = r.main
	}
	all := append([]*rollout{r}, r.gates...)
	if r.onStop != nil {
		all = append(all, r.onStop)
	}
	for _, x := range all {
		c, ok := s.Command(x.id)
		if !ok {
			continue
		}
		if c.Rollout.Stopped != "" && x.stopped == never {
			x.stopped = w.now
		}
		switch done := c.Rollout.Done(); {
		case done && x.ended == never:
			x.ended = w.now
		case !done:
			x.ended = never // a silent node spoke again
		}
	}
}

// over reports whether nothing of a rollout goes on or can begin.
func (r *rollout) over() bool {
	return (r.ended != never || r.refused != "" || r.main != nil && r.main.refused != "") && len(r.open) == 0
}

// paced is the truth of a rollout in the words of its checker.
func (w *world) paced(r *rollout) check.Paced {
	p := check.Paced{
		Command: r.id, Pace: r.body.Pace, Timeout: time.Duration(r.body.Run.Timeout) * time.Millisecond,
		Stopped: w.moment(r.stopped), StartBy: exec.StartBy + startSlack, Parts: w.partsOf(r),
	}
	p.Parts = append(p.Parts, w.places(r)...)
	for _, g := range r.gates {
		p.Gates = append(p.Gates, w.partsOf(g))
	}
	return p
}

func (w *world) partsOf(r *rollout) []check.Part {
	out := make([]check.Part, 0, len(r.parts))
	for _, x := range r.parts {
		out = append(out, check.Part{
			Node: x.h.key.Name, Granted: w.moment(x.granted), Began: w.moment(x.began), Gone: w.moment(x.gone), Bad: x.bad,
		})
	}
	return out
}

// places lists the nodes that had their turn in a wave before a process of it was there, or without one: those that were
// silent, and those whose ledger says that a run began, for the host was lost in between.
func (w *world) places(r *rollout) (out []check.Part) {
	began := map[*host]bool{}
	for _, x := range r.parts {
		began[x.h] = true
	}
	for i, id := range r.Nodes {
		h := w.byID[id]
		granted, silent := r.freed[uint32(i)]
		if known, ok := h.ledger.Get(r.id); !silent && !began[h] && r.granted[i] != never && ok && known.Status() == exec.Unknown {
			granted, silent = r.granted[i], true
		}
		if silent {
			out = append(out, check.Part{Node: h.key.Name, Granted: w.moment(granted)})
		}
	}
	return out
}

// moment is a time of the simulation as a date; never is none.
func (w *world) moment(d time.Duration) time.Time {
	if d == never {
		return time.Time{}
	}
	return w.start.Add(d)
}

// cancel has a rollout cancelled by somebody.
func (w *world) cancel(r *rollout) {
	r.wanted = true
	w.fleet.Now = w.wall()
	statement := w.fleet.Sign(auth.ForCancel, exec.Cancel{Header: w.fleet.Header(time.Hour), Command: r.id})
	w.propose(w.hosts[w.rand.IntN(len(w.hosts))], consensus.PutCancel{Statement: statement}, func(consensus.Result) {})
}
