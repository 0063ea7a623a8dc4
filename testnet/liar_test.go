package testnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
	"github.com/muster-fleet/muster/node/transport"
)

// liar is an enrolled member in this process, with a real node's keys, that says what it likes.
type liar struct {
	t      *testing.T
	fleet  *Fleet
	id     fleet.ID
	record auth.Record
	status node.Status
	end    *transport.Endpoint
	addrs  map[fleet.ID][]netip.AddrPort

	mu     sync.Mutex
	orders map[fleet.UUID]exec.Order
	served map[fleet.UUID]bool
}

// lie is an order with what is needed to tell it.
type lie struct {
	id    fleet.UUID
	order exec.Order
}

// Kinds of requests between members, as node/agent numbers them.
const (
	askBeacon = 1
	askOrder  = 3
	answered  = 0x40
)

// newLiar takes the place of a node whose agent is stopped, and meets another.
func (f *Fleet) newLiar(t *testing.T, as, hit *Node) *liar {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	status, err := hit.client().Status(t.Context())
	must(err)
	dir, err := folder.Open(as.Dir)
	must(err)
	me, err := dir.Identity()
	must(err)
	keys, err := dir.GossipKeys()
	must(err)
	must(dir.Close())
	addr := netip.MustParseAddrPort(as.Addr)
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	must(err)
	l := &liar{
		t: t, fleet: f, id: me.ID(), record: f.recordOf(hit), status: status, addrs: map[fleet.ID][]netip.AddrPort{},
		orders: map[fleet.UUID]exec.Order{}, served: map[fleet.UUID]bool{},
	}
	for _, n := range f.Nodes {
		l.addrs[l.idOf(n)] = []netip.AddrPort{netip.MustParseAddrPort(n.Addr)}
	}
	l.end, err = transport.New(transport.Config{
		Conn: conn, Key: me.Key(), Fleet: me.Fleet, Gate: open{l.record, me.ID()}, Log: slog.New(slog.DiscardHandler),
		Addrs: func(id fleet.ID) []netip.AddrPort { return l.addrs[id] },
	})
	must(err)
	accept := map[uint32][32]byte{}
	for _, k := range keys {
		accept[k.Epoch] = [32]byte(k.Key)
	}
	l.end.SetKeys(transport.Keys{Send: l.record.Sending.Epoch, Accept: accept})
	l.end.Handle(transport.Peer, l.serve)
	must(l.end.Start())
	t.Cleanup(l.close)
	l.meet(hit)
	return l
}

func (l *liar) close() { _ = l.end.Close() }

// open lets everybody speak, and shows the enrolment of the node whose keys these are.
type open struct {
	record auth.Record
	self   fleet.ID
}

func (o open) Prove(transport.Plane) []byte {
	entry, _ := o.record.Roster.Node(o.self)
	return entry.Enrolment.Encode()
}
func (o open) Admit(fleet.ID, transport.Plane, []byte) error { return nil }
func (o open) Allow(fleet.ID, transport.Plane) error         { return nil }

func (l *liar) idOf(n *Node) fleet.ID {
	entry, ok := l.record.Roster.ByName(n.Name)
	if !ok {
		l.t.Fatalf("the roster has no %s", n.Name)
	}
	return entry.ID
}

// meet makes a connection, by which the other can ask back.
func (l *liar) meet(n *Node) {
	l.t.Helper()
	l.fleet.Until(n.Name+" speaks with the member that lies", func() bool {
		ctx, cancel := context.WithTimeout(l.t.Context(), 5*time.Second)
		defer cancel()
		_, _, err := l.end.Request(ctx, l.idOf(n), transport.Peer, askBeacon, []byte{0x92, 0x00, 0x90}) // no order and no beacon of its own
		return err == nil
	})
}

// serve answers those who fetch an order.
func (l *liar) serve(s *transport.Stream) {
	defer s.Close()
	kind, body, err := s.ReadFrame()
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, o := range l.orders {
		if kind == askOrder && strings.Contains(string(body), string(id[:])) {
			l.served[id] = true
			_ = s.WriteFrame(answered, o.Encode())
			return
		}
	}
	_ = s.WriteError(fleet.Errorf(fleet.NotFound, "no"))
}

// wasAsked reports whether somebody fetched a lie.
func (l *liar) wasAsked(told lie) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.served[told.id]
}

// order is an order for the nodes, signed now.
func (l *liar) order(by auth.Signer, line string, nodes ...*Node) lie {
	return l.orderAt(by, time.Now(), line, nodes...)
}

func (l *liar) orderAt(by auth.Signer, at time.Time, line string, nodes ...*Node) lie {
	var id fleet.UUID
	rand.Read(id[:])
	var ids []fleet.ID
	var names []string
	for _, n := range nodes {
		ids, names = append(ids, l.idOf(n)), append(names, n.Name)
	}
	ids = exec.SortIDs(ids)
	body := exec.Command{
		Header: auth.Header{
			ID: id, Issued: at.UnixMilli(), Expires: at.Add(time.Hour).UnixMilli(), Charter: l.status.CharterHead, Act: l.record.Act, Mode: auth.ByQuorum,
		},
		Target: strings.Join(names, " or "), Count: uint32(len(ids)), Set: exec.SetDigest(ids),
		Run: exec.Run{Argv: []string{line}, Timeout: time.Minute.Milliseconds()},
	}
	return lie{id, exec.Order{Statement: by.Sign(auth.ForCommand, l.status.Fleet, body), Nodes: ids}}
}

// tell rings for a lie twice: without the order, so that the hearer fetches it here, and with it on the bell.
func (l *liar) tell(n *Node, told lie) {
	l.t.Helper()
	l.ring(n, told)
	l.ring(n, told, told.order.Statement)
}

// ring rings once for a lie. As any packet, the bell may get lost.
func (l *liar) ring(n *Node, told lie, rider ...auth.Envelope) {
	l.t.Helper()
	l.mu.Lock()
	l.orders[told.id] = told.order
	l.mu.Unlock()
	act := l.record.Act + uint64(time.Now().UnixNano()%1_000_000) // a bell that was never heard
	bell := node.Bell{Kind: node.BellCommand, Statement: told.id, Act: act, Holders: []fleet.ID{l.id}, Rider: rider}
	if err := l.end.SendPacket(netip.MustParseAddrPort(n.Addr), transport.KindBell, bell.Encode()); err != nil {
		l.t.Fatal(err)
	}
}

// signer is the fleet's first operator.
func (f *Fleet) signer(t *testing.T) auth.Signer { return f.signerIn(t, f.Dir+"/op.key") }

// signerIn reads an operator's key file.
func (f *Fleet) signerIn(t *testing.T, path string) auth.Signer {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if seed, ok := strings.CutPrefix(strings.TrimSpace(line), "signing-seed: "); ok {
			raw, err := base64.RawStdEncoding.DecodeString(seed)
			if err != nil {
				t.Fatal(err)
			}
			return auth.NewSigner(ed25519.NewKeyFromSeed(raw))
		}
	}
	t.Fatalf("no key in %s", path)
	return auth.Signer{}
}

// put brings an order to the quorum, as the command line does.
func (w *badLuck) put(t *testing.T, o lie) {
	t.Helper()
	if _, err := w.propose(o); err != nil {
		t.Fatal(err)
	}
}

func (w *badLuck) propose(o lie) (consensus.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	result, err := w.one.client().Propose(ctx, consensus.PutCommand{Statement: o.order.Statement, Nodes: o.order.Nodes})
	if err == nil {
		err = result.Err()
	}
	return result, err
}
