package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/params"
)

// What parameters are to reach beside etcd: so many times as many at so many clients.
func aimOf(op loadOp, clients int) float64 {
	switch {
	case op == loadPut && clients == 1:
		return 1.2
	case op == loadGet && clients == 1:
		return 3
	case op == loadStale || op == loadEach || clients == 16:
		return 0
	}
	return 4
}

// measureParams loads three agents and three etcd servers in turns, on the same machine and disk. Clients of both ask the
// server that leads. etcd's speak in the clear and sign nothing; muster's sign every write, and every replica verifies it: those
// of one program sign what waits in it together (api.Writer), and beside that is measured how many writers with keys of their
// own would write.
func measureParams(ctx context.Context, p place) (out []figure, err error) {
	rival, err := startEtcd(ctx, p.folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rival.end()) }()
	f, err := startPlain(ctx, p, trioSize)
	if err != nil {
		return nil, errors.Join(err, f.end())
	}
	defer func() { err = errors.Join(err, f.end()) }()
	b, err := newParamBench(ctx, f)
	if err != nil {
		return nil, err
	}
	defer b.close()
	for _, clients := range p.clients {
		var theirs rates
		for _, op := range []loadOp{loadPut, loadEach, loadGet, loadStale} {
			if op != loadEach {
				if theirs, err = rival.load(op, clients, p.over); err != nil {
					return out, err
				}
			}
			ours, cost, err := b.load(ctx, op, clients, p.over)
			if err != nil {
				return out, fmt.Errorf("%s, %d clients: %w", op, clients, err)
			}
			out = append(out, compared(op, clients, ours, theirs, cost)...)
		}
	}
	return out, nil
}

// compared makes figures of what both came to.
func compared(op loadOp, clients int, ours, theirs rates, cost loadCost) []figure {
	out := ours.figures("params", "muster", op, clients)
	if op != loadEach {
		out = append(out, theirs.figures("etcd", "etcd", op, clients)...)
	}
	key, name := fmt.Sprintf("params_%s_%d", op, clients), fmt.Sprintf("muster, %s, %d at a time", op.words(), clients)
	ratio := figure{key: key + "_ratio", name: name + ", as many as etcd", unit: times, value: ours.Rate / theirs.Rate}
	if aim := aimOf(op, clients); aim > 0 {
		ratio.aim, ratio.least = aim, true
	}
	late := figure{key: key + "_p99_ratio", name: name + ", p99 of etcd's", unit: times, value: ours.P99 / theirs.P99}
	if op != loadStale && op != loadEach {
		late.aim = 1
	}
	per := func(who string, spent time.Duration) figure {
		return figure{
			key: key + "_cpu_" + who + "_seconds", name: name + ", CPU each, " + who, unit: seconds, value: spent.Seconds() / float64(max(1, ours.Done)),
		}
	}
	return append(out, ratio, late, per("clients", cost.clients), per("leader", cost.leader), per("followers", cost.followers))
}

// loadCost is the processor time that a load took.
type loadCost struct{ clients, leader, followers time.Duration }

// paramBench is a fleet with connections to its leader.
type paramBench struct {
	fleet   *plain
	leader  *plainAgent
	rest    []*plainAgent
	pen     paramPen
	value   []byte
	lane    *api.Lane
	writer  *api.Writer
	readers map[loadOp]*api.Reader

	had []*written // each is one client's under any load

	mu      sync.Mutex
	signed  auth.Envelope
	renewed time.Time
}

func newParamBench(ctx context.Context, f *plain) (*paramBench, error) {
	b := &paramBench{fleet: f, value: make([]byte, loadValue)}
	for i := range b.value { // text, as SSM has it
		b.value[i] = 'a' + byte(i%26)
	}
	var err error
	if b.leader, b.rest, err = f.leader(ctx); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(f.identity())
	if err != nil {
		return nil, err
	}
	key, err := parsePen(string(raw))
	if err != nil {
		return nil, err
	}
	s, err := b.leader.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	b.pen = newParamPen(key, s)
	if b.lane, err = b.leader.client.Lane(ctx); err != nil {
		return nil, err
	}
	b.readers = map[loadOp]*api.Reader{loadGet: api.NewReader(b.lane, b.read, false), loadStale: api.NewReader(b.lane, b.read, true)}
	b.writer = api.NewWriter(b.lane, b.pen.signer, b.pen.fleet, func() auth.Header { return b.pen.header(10 * time.Minute) })
	for n := range loadKeys {
		b.had = append(b.had, &written{name: loadKey(n)})
	}
	return b, nil
}

func (b *paramBench) close() {
	b.lane.Close()
}

// read returns a signed request that lives for a while yet.
func (b *paramBench) read() auth.Envelope {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.renewed) > node.ReadLife/2 {
		b.signed, b.renewed = b.pen.mayRead(), time.Now()
	}
	return b.signed
}

// load has the fleet loaded. Reads find what was written before.
func (b *paramBench) load(ctx context.Context, op loadOp, clients int, over time.Duration) (rates, loadCost, error) {
	before, err := b.spent()
	if err != nil {
		return rates{}, loadCost{}, err
	}
	there := b.there()
	if there == 0 && (op == loadGet || op == loadStale) {
		return rates{}, loadCost{}, errors.New("nothing was written that could be read")
	}
	r, err := drive(ctx, clients, over, func(ctx context.Context, client, i int) error {
		if op == loadPut || op == loadEach {
			value := b.value
			if i%64 == 0 { // not all of them the same
				value = fmt.Append(nil, rand.Text(), string(b.value))[:loadValue]
			}
			had := b.had[loadPlace(client, i, clients)]
			if op == loadEach {
				_, err := b.lane.Propose(ctx, b.pen.put(params.Standard, value, had))
				return err
			}
			_, err := b.writer.Do(ctx, had.next(params.Standard, value))
			return err
		}
		answer, err := b.readers[op].Get(ctx, params.Selector{Name: b.had[loadPlace(client, i, clients)%there].name})
		switch {
		case err != nil:
			return err
		case len(answer.Answer.Items) != 1 || len(answer.Answer.Items[0].Content) != 1:
			return errors.New("a parameter that was written is not there")
		case op == loadGet && answer.Source != node.FromLeader:
			return fmt.Errorf("a linearizable read was answered by a %s", answer.Source)
		}
		return nil
	})
	after, spentErr := b.spent()
	return r, after.less(before), errors.Join(err, spentErr)
}

// there is how many parameters, from the first on, were written.
func (b *paramBench) there() int {
	if n := slices.IndexFunc(b.had, func(w *written) bool { return w.version == 0 }); n >= 0 {
		return n
	}
	return len(b.had)
}

// spent is what clients and agents have taken so far.
func (b *paramBench) spent() (c loadCost, err error) {
	own, err := cpuOf(os.Getpid())
	if err != nil {
		return c, err
	}
	leader, err := cpuOf(b.leader.cmd.Process.Pid)
	if err != nil {
		return c, err
	}
	c.clients, c.leader = own.own, leader.own
	for _, a := range b.rest {
		one, err := cpuOf(a.cmd.Process.Pid)
		if err != nil {
			return c, err
		}
		c.followers += one.own
	}
	return c, nil
}

func (c loadCost) less(o loadCost) loadCost {
	return loadCost{c.clients - o.clients, c.leader - o.leader, c.followers - o.followers}
}
