package agent

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// desk is a server's agent whose shells are stand-ins: what it is asked is answered from memory at once.
type desk struct {
	*Agent
	*authtest.Fleet
	web   authtest.Node  // an enrolled member that is no server
	db    authtest.Node  // another server
	join  authtest.Token // a token of two uses
	order exec.Order     // committed, for all
	peers *stubPeers
	held  *stubReports
}

func newDesk(tb testing.TB) *desk {
	tb.Helper()
	d := &desk{Fleet: authtest.Empty("agent"), held: &stubReports{facts: map[fleet.ID]auth.Envelope{}}, peers: &stubPeers{}}
	replica := NewReplica()
	put := func(e consensus.Entry) {
		result, _ := replica.Apply(0, consensus.Encode(e, d.Fleet.Now.UnixMilli())).(consensus.Result)
		if err := result.Err(); err != nil {
			tb.Fatal(err)
		}
		d.Fleet.Record = replica.State().Record
	}
	for _, p := range d.Founding() {
		put(consensus.PutAct(p))
	}
	token := d.NewToken(1, nil)
	put(consensus.PutToken{Statement: token.Statement})
	d.web = d.NewNode("web-1")
	put(consensus.PutAct(authtest.Enrol(d.Enrolment(token, d.web, d.Fleet.Nodes[0]))))
	server := d.NewToken(1, func(t *auth.Token) { t.Server = true })
	put(consensus.PutToken{Statement: server.Statement})
	d.db = d.NewNode("db-1")
	put(consensus.PutAct(authtest.Enrol(d.Enrolment(server, d.db, d.Fleet.Nodes[0]))))
	d.Fleet.Nodes = append(d.Fleet.Nodes, d.web, d.db)
	d.join = d.NewToken(2, func(t *auth.Token) { t.Pattern = "n*" })
	put(consensus.PutToken{Statement: d.join.Statement})
	nodes := exec.SortIDs([]fleet.ID{d.Fleet.Nodes[0].ID, d.web.ID})
	d.order = exec.Order{Nodes: nodes, Statement: d.Sign(auth.ForCommand, exec.Command{
		Header: d.Header(exec.DefaultExpires), Target: "all", Count: 2, Set: exec.SetDigest(nodes), Run: exec.Run{Argv: []string{"true"}, Timeout: 1000},
	})}
	put(consensus.PutCommand{Statement: d.order.Statement, Nodes: nodes})
	now := d.Fleet.Now
	d.Agent = New(Config{
		Key: d.Fleet.Nodes[0].Key, Fleet: d.Fleet.ID(), Name: "node-0", Record: d.Fleet.Record, Folder: &stubFolder{acts: acts(replica.State())},
		Keys: map[uint32][32]byte{0: {1}}, Clock: func() auth.Instant { return auth.Instant{Wall: now, Boot: time.Hour} }, Log: slog.New(slog.DiscardHandler),
	})
	d.Attach(Shells{Peers: d.peers, Gossip: stubGossip{}, Runner: stubRunner{}, Reports: d.held, Quorum: stubQuorum{replica, d.Fleet.Nodes[0].ID}, Replica: replica})
	return d
}

func acts(s consensus.State) []auth.Act { return s.Acts(0, 1000) }

// commandID is the committed command's.
func (d *desk) commandID() fleet.UUID { return idOf(d.order) }

func idOf(o exec.Order) fleet.UUID {
	body, err := auth.Peek[exec.Command](o.Statement)
	if err != nil {
		panic(err)
	}
	return body.Header.ID
}

// posted takes what was posted to the loop, which nobody runs.
func (d *desk) posted() (out []node.Event) {
	for {
		select {
		case ev := <-d.queue:
			out = append(out, ev)
		default:
			return out
		}
	}
}

// over is a context that has ended: nothing waits for what does not come.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// frames is a stream's other end: it reads prepared frames and keeps what is written.
type frames struct {
	peer  fleet.ID
	in    []frame
	out   []frame
	fails []error
}

type frame struct {
	kind byte
	body []byte
}

func (f *frames) Peer() fleet.ID           { return f.peer }
func (f *frames) Context() context.Context { return over() }
func (f *frames) Close() error             { return nil }
func (f *frames) ReadFrame() (byte, []byte, error) {
	if len(f.in) == 0 {
		return 0, nil, io.EOF
	}
	next := f.in[0]
	f.in = f.in[1:]
	return next.kind, next.body, nil
}

func (f *frames) WriteFrame(kind byte, body []byte) error {
	f.out = append(f.out, frame{kind, body})
	return nil
}

func (f *frames) WriteError(err error) error {
	f.fails = append(f.fails, err)
	return nil
}

// cut reads frames {u8 kind, u32 length, body} out of bytes; the last takes what is left.
func cut(data []byte) (out []frame) {
	for len(data) >= 5 {
		size := min(uint64(binary.BigEndian.Uint32(data[1:])), uint64(len(data)-5))
		out = append(out, frame{data[0], data[5 : 5+size]})
		data = data[5+size:]
	}
	return out
}

// joined writes frames so that cut reads them.
func joined(all []frame) (out []byte) {
	for _, f := range all {
		out = binary.BigEndian.AppendUint32(append(out, f.kind), uint32(len(f.body)))
		out = append(out, f.body...)
	}
	return out
}

// stubPeers answers every request with the same, and every stream with the same frames.
type stubPeers struct {
	kind   byte
	body   []byte
	stream []frame
	notes  [][]byte // sent
}

func (p *stubPeers) Request(context.Context, fleet.ID, byte, []byte) (byte, []byte, error) {
	return p.kind, p.body, nil
}
func (p *stubPeers) Open(_ context.Context, id fleet.ID) (Stream, error) {
	return &frames{peer: id, in: p.stream}, nil
}
func (p *stubPeers) OpenBulk(ctx context.Context, id fleet.ID) (Stream, error) {
	return p.Open(ctx, id)
}
func (p *stubPeers) Ring(node.Way, []byte)               {}
func (p *stubPeers) Note(_ node.Way, note []byte)        { p.notes = append(p.notes, note) }
func (p *stubPeers) Drop(fleet.ID, string)               {}
func (p *stubPeers) UseKeys(uint32, map[uint32][32]byte) {}
func (p *stubPeers) Observed() []netip.AddrPort          { return nil }

type stubGossip struct{}

func (stubGossip) Members() []node.Sighting { return nil }
func (stubGossip) Changed() <-chan struct{} { return nil }
func (stubGossip) Join(context.Context, map[fleet.ID][]netip.AddrPort) int {
	return 0
}
func (stubGossip) Evict(fleet.ID)              {}
func (stubGossip) Leave(context.Context) error { return nil }

type stubRunner struct{ Runner }

// stubQuorum leads alone.
type stubQuorum struct {
	*Replica
	self fleet.ID
}

func (q stubQuorum) Propose(_ context.Context, item []byte) (any, error) {
	return q.Apply(0, item), nil
}
func (q stubQuorum) Read(context.Context) error { return nil }
func (q stubQuorum) Status() Replication {
	return Replication{Leader: q.self, Leading: true, Term: 1, Voters: []fleet.ID{q.self}, Member: true}
}
func (q stubQuorum) ConfirmTerm(uint64, uint64) error { return nil }
func (q stubQuorum) Incarnation() uint64              { return 1 }
func (q stubQuorum) Changed() <-chan struct{}         { return nil }
func (q stubQuorum) Bootstrap() error                 { return nil }
func (q stubQuorum) StepDown(context.Context) error   { return nil }
func (q stubQuorum) Tend(context.Context, int, []Candidate) (string, error) {
	return "", nil
}

// stubReports keeps the newest of each.
type stubReports struct {
	puts  []exec.Report
	facts map[fleet.ID]auth.Envelope
}

func (s *stubReports) Put(r exec.Report, _ auth.Envelope) error {
	s.puts = append(s.puts, r)
	return nil
}
func (s *stubReports) Watch(context.Context, fleet.UUID, func(auth.Envelope) error) error {
	return nil
}
func (s *stubReports) PutFacts(id fleet.ID, e auth.Envelope) error {
	s.facts[id] = e
	return nil
}
func (s *stubReports) Facts() (map[fleet.ID]auth.Envelope, error) { return s.facts, nil }
func (s *stubReports) Of(fleet.UUID) ([]auth.Envelope, error)     { return nil, nil }
func (s *stubReports) Prune() (int, error)                        { return 0, nil }

// stubFolder reads from memory.
type stubFolder struct {
	acts      []auth.Act
	keys      map[uint32][32]byte
	documents map[fleet.ID]auth.Envelope
}

func (f *stubFolder) AppendActs([]auth.Act, []fleet.ID) error { return nil }
func (f *stubFolder) ReadActs(from uint64, _ int) ([]auth.Act, error) {
	return f.acts[min(from, uint64(len(f.acts))):], nil
}
func (f *stubFolder) PutFloor(int64, uint64, fleet.ID) error       { return nil }
func (f *stubFolder) PutKeys(keys map[uint32][32]byte) error       { f.keys = keys; return nil }
func (f *stubFolder) PutPeers(map[fleet.ID][]netip.AddrPort) error { return nil }
func (f *stubFolder) PutDocument(key fleet.ID, e auth.Envelope) error {
	if f.documents == nil {
		f.documents = map[fleet.ID]auth.Envelope{}
	}
	f.documents[key] = e
	return nil
}
func (f *stubFolder) Documents() (all []auth.Envelope) {
	for _, e := range f.documents {
		all = append(all, e)
	}
	return all
}
func (f *stubFolder) Document(key fleet.ID) (auth.Envelope, error) {
	e, ok := f.documents[key]
	if !ok {
		return e, fleet.Errorf(fleet.NotFound, "no document")
	}
	return e, nil
}
