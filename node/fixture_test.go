package node

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// town is a fleet in memory with servers that agree: its first nodes are eligible.
type town struct {
	*authtest.Fleet
	servers int
	act     uint64 // act index of the newest commit
	term    uint64
}

var towns sync.Map // size → func() *town: to found a fleet of 300 takes a moment

func newTown(nodes, servers int) *town {
	found, _ := towns.LoadOrStore([2]int{nodes, servers}, sync.OnceValue(func() *town {
		f := authtest.Found("town")
		token := f.NewToken(uint32(nodes), func(t *auth.Token) { t.Tags = map[string]string{"role": "web"} })
		eligible := f.NewToken(uint32(nodes), func(t *auth.Token) { t.Server = true })
		for i := 1; i < nodes; i++ {
			use := token
			if i < servers {
				use = eligible
			}
			n := f.NewNode(fmt.Sprintf("node-%d", i))
			f.MustTake(authtest.Enrol(f.Enrolment(use, n, f.Nodes[0])))
			f.Nodes = append(f.Nodes, n)
		}
		return &town{Fleet: f, servers: servers, act: f.Record.Act, term: 1}
	}))
	t := found.(func() *town)()
	return &town{Fleet: t.Fleet.Clone(), servers: servers, act: t.act, term: t.term}
}

func (w *town) ids(from, to int) (out []fleet.ID) {
	for _, n := range w.Nodes[from:to] {
		out = append(out, n.ID)
	}
	return out
}

// take takes an act into the record of the town, as its newest commit.
func (w *town) take(p authtest.Proposal) auth.Act {
	w.MustTake(p)
	w.act = max(w.act+1, w.Record.Act)
	return w.Acts[len(w.Acts)-1]
}

// command signs a command for nodes. change, which may be nil, alters it before.
func (w *town) command(target string, nodes []fleet.ID, change func(*exec.Command)) exec.Order {
	return w.commandBy(w.Operator, target, nodes, change)
}

func (w *town) commandBy(op auth.Signer, target string, nodes []fleet.ID, change func(*exec.Command)) exec.Order {
	nodes = exec.SortIDs(append([]fleet.ID(nil), nodes...))
	body := exec.Command{
		Header: w.Header(exec.DefaultExpires), Target: target, Count: uint32(len(nodes)), Set: exec.SetDigest(nodes),
		Run: exec.Run{Argv: []string{"true"}, Timeout: time.Minute.Milliseconds()},
	}
	if change != nil {
		change(&body)
	}
	return exec.Order{Statement: op.Sign(auth.ForCommand, w.ID(), body), Nodes: nodes}
}

func (w *town) cancel(command fleet.UUID) auth.Envelope {
	return w.Sign(auth.ForCancel, exec.Cancel{Header: w.Header(time.Hour), Command: command})
}

func idOf(o exec.Order) fleet.UUID {
	cmd, err := auth.Peek[exec.Command](o.Statement)
	if err != nil {
		panic(err)
	}
	return cmd.Header.ID
}

// beacon signs server i's beacon of the town as it is. change, which may be nil, alters it before.
func (w *town) beacon(i int, change func(*auth.Beacon)) auth.Envelope {
	r := w.Record
	b := auth.Beacon{
		Time: w.Now.UnixMilli(), Epoch: r.Charter.Epoch(), CharterHead: r.Charter.Head(), CharterLen: r.Charter.Len(),
		RecordHead: r.Head, RecordLen: r.Length, Act: w.act, Term: w.term, Leader: w.Nodes[0].ID, Voters: w.ids(0, w.servers),
	}
	if change != nil {
		change(&b)
	}
	return w.Nodes[i].Signer.Sign(auth.ForBeacon, w.ID(), b)
}

func (w *town) sightings(status fleet.Status) (out []Sighting) {
	for i, n := range w.Nodes {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 7980)
		out = append(out, Sighting{ID: n.ID, Status: status, Addrs: []netip.AddrPort{addr}})
	}
	return out
}

// host is one node of a town under test.
type host struct {
	testing.TB
	*town
	node       *Node
	at         auth.Instant
	me         fleet.ID
	leaderless bool // no leader answers by itself; else it says that nothing was cancelled
	ledgerless bool // no ledger answers by itself; else it keeps all
}

// host makes node i with the town's record, and nothing else.
func (w *town) host(t testing.TB, i int) *host {
	at := auth.Instant{Wall: w.Now, Boot: time.Hour}
	n := New(Config{Self: w.Nodes[i].ID, Facts: fleet.Facts{OS: "debian"}, Seed: uint64(i) + 1, Record: w.Record})
	return &host{TB: t, town: w, node: n, at: at, me: w.Nodes[i].ID}
}

// settled makes node i in a fleet where everybody is online and nothing is new.
func (w *town) settled(t testing.TB, i int) *host {
	h := w.host(t, i)
	h.step(Gossiped{w.sightings(fleet.Online)})
	h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)})
	h.node.orders.cursor = w.act
	h.node.orders.asking = false
	return h
}

// step takes an event and checks what must hold after every step.
func (h *host) step(ev Event) []Effect {
	h.Helper()
	out := h.node.Step(h.at, ev)
	for _, f := range of[FetchCancel](out) {
		if !h.leaderless {
			out = append(out, h.node.Step(h.at, CancelFetched{Command: f.Command})...)
		}
	}
	for _, r := range of[RefuseRun](out) {
		if !h.ledgerless {
			out = append(out, h.node.Step(h.at, RefusalKept{r.Command})...)
		}
	}
	deadline := h.node.Deadline(h.at)
	switch {
	case deadline < h.at.Boot:
		h.Errorf("after %T the deadline is %s in the past", ev, h.at.Boot-deadline)
	case deadline > h.at.Boot+2*digestEvery:
		h.Errorf("after %T the next step is %s away", ev, deadline-h.at.Boot)
	case h.busy() && deadline > h.at.Boot+retryAfter:
		h.Errorf("after %T something waits, and the next step is %s away", ev, deadline-h.at.Boot)
	}
	for _, r := range of[Ring](out) {
		for _, id := range r.To {
			if id == h.me || h.node.seen[id].Status == fleet.Left {
				h.Errorf("after %T it rings itself or a node that left", ev)
			}
		}
	}
	return out
}

// busy reports whether something waits.
func (h *host) busy() bool {
	_, lacksKey := h.node.keys.missing(h.node.record)
	return slices.ContainsFunc(h.node.orders.open, func(x *order) bool { return !x.leave.passed }) || h.node.outbox.owing() || h.node.behind() || lacksKey
}

// pass lets time pass, ticking as the deadline says.
func (h *host) pass(d time.Duration) (out []Effect) {
	h.Helper()
	for end := h.at.Boot + d; ; {
		next := max(h.node.Deadline(h.at), h.at.Boot+time.Millisecond)
		if next > end {
			h.to(end)
			return out
		}
		h.to(next)
		out = append(out, h.step(Tick{})...)
	}
}

func (h *host) to(boot time.Duration) {
	h.at.Wall = h.at.Wall.Add(boot - h.at.Boot)
	h.Now = h.Now.Add(boot - h.at.Boot)
	h.at.Boot = boot
}

// bell makes the bell of an order that holder rings, with or without its statement.
func bell(o exec.Order, act uint64, rider bool, holders ...fleet.ID) BellHeard {
	b := Bell{Kind: BellCommand, Statement: idOf(o), Act: act, Holders: holders}
	if rider {
		b.Rider = []auth.Envelope{o.Statement}
	}
	return BellHeard{b}
}

func of[T Effect](effects []Effect) (out []T) {
	for _, e := range effects {
		if x, ok := e.(T); ok {
			out = append(out, x)
		}
	}
	return out
}

// one returns the only effect of its kind.
func one[T Effect](t testing.TB, effects []Effect) T {
	t.Helper()
	got := of[T](effects)
	if len(got) != 1 {
		var none T
		t.Fatalf("%d effects of %T, want 1: %s", len(got), none, kinds(effects))
	}
	return got[0]
}

func none[T Effect](t testing.TB, effects []Effect) {
	t.Helper()
	if got := of[T](effects); len(got) != 0 {
		t.Errorf("unwanted: %T %+v", got[0], got[0])
	}
}

func kinds(effects []Effect) (out []string) {
	for _, e := range effects {
		out = append(out, fmt.Sprintf("%T", e))
	}
	return out
}

// says returns the reports that a step sends, by status, without the copies.
func says(effects []Effect) (out []exec.Status) {
	seen := map[string]bool{}
	for _, s := range of[SendReport](effects) {
		if key := fmt.Sprint(s.Report.Command, s.Report.Seq); !seen[key] {
			seen[key] = true
			out = append(out, s.Report.Status)
		}
	}
	return out
}

func wantSays(t testing.TB, effects []Effect, want ...exec.Status) {
	t.Helper()
	if got := says(effects); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("reports %v, want %v", got, want)
	}
}

func uuid(n int) (u fleet.UUID) {
	u[0], u[1], u[2], u[15] = byte(n), byte(n>>8), byte(n>>16), 1
	return u
}

func authSigner(seed string) auth.Signer { return authtest.Signer(seed) }

// alter changes what a statement says behind its signature; it still decodes.
func alter[T any](e auth.Envelope, change func(*T)) auth.Envelope {
	body, err := auth.Peek[T](e)
	if err != nil {
		panic(err)
	}
	change(&body)
	e.Body = wire.Marshal(body)
	return e
}

func longer(c *exec.Command) { c.Run.Timeout++ }

// seq returns the Seq of a command's newest report.
func (h *host) seq(command fleet.UUID) uint32 { return h.node.outbox.byID[command].report.Seq }
