package host

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/folder"
	"github.com/muster-fleet/muster/node/gossip"
	"github.com/muster-fleet/muster/node/transport"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// lone is a fleet of one host, with the keys of whoever founded it.
type lone struct {
	*Host
	t        *testing.T
	net      *fabric.Fabric
	addr     netip.AddrPort
	fleet    fleet.ID
	dir      string
	operator ed25519.PrivateKey
	root     ed25519.PrivateKey
}

// noRunner runs nothing.
type noRunner struct{ agent.Runner }

func (noRunner) Recall(func(node.Event)) {}

// founded founds a fleet and starts its first host. It must be called in a bubble of virtual time.
func founded(t *testing.T, opts fabric.Options) *lone {
	t.Helper()
	l := &lone{t: t, net: fabric.New(1, opts), addr: netip.MustParseAddrPort("10.0.0.1:7980"), dir: filepath.Join(t.TempDir(), "data")}
	t.Cleanup(l.net.Close)
	_, l.operator = signerAndKey()
	_, l.root = signerAndKey()
	recovery, _ := signerAndKey()
	var err error
	l.fleet, err = Found(NewHost{Dir: l.dir, Name: "n1", Bind: l.addr.String()}, Founder{
		Fleet: "lone", Operator: "ann", Key: l.operator, Root: l.root, Recovery: recovery.Public(),
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Hour)
	l.Host, err = Start(Options{
		Dir: l.dir, Bind: l.addr.String(), Socket: l.net.Conn(l.addr), Runner: noRunner{}, Preset: gossip.LAN(), Timeouts: quorum.LAN(),
		Clock: func() auth.Instant { return auth.Instant{Wall: time.Now(), Boot: time.Since(began)} }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done; time.Sleep(2 * time.Minute) }) // the timers of gossip run out
	l.Ready(t.Context())
	return l
}

// keyIn returns the key of the host of a data folder that is closed.
func keyIn(t *testing.T, dir string) ed25519.PrivateKey {
	t.Helper()
	f, err := folder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	identity, err := f.Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity.Key()
}

// end is a peer's end of the network with a key, which lets everything out and proves nothing but the key.
func (l *lone) end(n byte, key ed25519.PrivateKey, gate transport.Gate) *transport.Endpoint {
	l.t.Helper()
	conn := l.net.Conn(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 40000))
	end, err := transport.New(transport.Config{
		Conn: conn, Key: key, Fleet: l.fleet, Gate: gate, Addrs: func(fleet.ID) []netip.AddrPort { return []netip.AddrPort{l.addr} },
	})
	if err == nil {
		err = end.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = end.Close() })
	return end
}

// visitor is an operator's command line.
func (l *lone) visitor(conn net.PacketConn, key ed25519.PrivateKey) *transport.Endpoint {
	l.t.Helper()
	end, err := transport.New(transport.Config{
		Conn: conn, Key: key, Fleet: l.fleet, Gate: wide{}, DialOnly: true,
		Addrs: func(fleet.ID) []netip.AddrPort { return []netip.AddrPort{l.addr} },
	})
	if err == nil {
		err = end.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = end.Close() })
	return end
}

// wide is a gate that asks for nothing and shows what it is told.
type wide struct{ proof []byte }

func (w wide) Prove(transport.Plane) []byte                { return w.proof }
func (wide) Admit(fleet.ID, transport.Plane, []byte) error { return nil }
func (wide) Allow(fleet.ID, transport.Plane) error         { return nil }

// enrolled enrols one more host and returns its key, with the proof that it shows.
func (l *lone) enrolled(name string) (ed25519.PrivateKey, []byte) {
	l.t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	header := auth.Header{ID: newUUID(), Issued: l.Agent.Now().UnixMilli(), Charter: l.Agent.Record().Charter.Head(), Act: l.Agent.Record().Act, Mode: auth.ByQuorum}
	header.Expires = header.Issued + time.Hour.Milliseconds()
	token := auth.Token{Header: header, Join: auth.NewSigner(ed25519.NewKeyFromSeed(seed)).Public(), Uses: 1}
	put := consensus.PutToken{Statement: auth.NewSigner(l.operator).Sign(auth.ForToken, l.fleet, token)}
	if result, err := l.Agent.Propose(l.t.Context(), put); err != nil || result.Err() != nil {
		l.t.Fatal(err, result.Err())
	}
	dir, addr := filepath.Join(l.t.TempDir(), name), netip.MustParseAddrPort("10.0.0.200:7980")
	join := auth.JoinString{Seed: seed, Token: header.ID, Fleet: l.fleet, Head: header.Charter, Addrs: []string{l.addr.String()}}
	began := time.Now().Add(-time.Hour)
	clock := func() auth.Instant { return auth.Instant{Wall: time.Now(), Boot: time.Since(began)} }
	if _, err := Join(l.t.Context(), NewHost{Dir: dir, Name: name, Bind: addr.String(), Socket: l.net.Conn(addr)}, join, clock, slog.New(slog.DiscardHandler)); err != nil {
		l.t.Fatal(err)
	}
	key := keyIn(l.t, dir)
	entry, known := l.Agent.Record().Roster.Node(auth.NewSigner(key).ID())
	if !known {
		l.t.Fatal("the roster does not know the new host")
	}
	return key, entry.Enrolment.Encode()
}

// removes takes an operator out of the charter, by the root's signature.
func (l *lone) removes(name string, key ed25519.PrivateKey) {
	l.t.Helper()
	charter := l.Agent.Record().Charter
	entry := auth.SignCharter(charter, auth.Header{ID: newUUID(), Issued: l.Agent.Now().UnixMilli(), Charter: charter.Head(), Mode: auth.ByQuorum},
		auth.CharterDeleteOperator, auth.DeleteOperator{Name: name, Key: auth.NewSigner(key).ID()}, auth.NewSigner(l.root))
	result, err := l.Agent.Propose(l.t.Context(), consensus.PutAct{Kind: auth.ActCharter, Data: wire.Marshal(entry)})
	if err != nil || result.Err() != nil {
		l.t.Fatal(err, result.Err())
	}
	time.Sleep(time.Minute) // until the host's own record has it
}

// knock opens a stream on a plane and returns what is said to a frame that nobody understands.
func knock(t *testing.T, end *transport.Endpoint, id fleet.ID, plane transport.Plane) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, _, err := end.Request(ctx, id, plane, 0x3f, nil)
	if err == nil {
		t.Fatalf("%s: a frame that means nothing was answered", plane)
	}
	return err
}

var everyPlane = []transport.Plane{transport.Gossip, transport.Raft, transport.RaftBulk, transport.Peer, transport.Bulk, transport.Session}

// TestWhoMaySpeakOnThePlaneOfSessions tries every plane with every kind of key.
func TestWhoMaySpeakOnThePlaneOfSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := founded(t, fabric.Options{Latency: time.Millisecond})
		_, stranger := signerAndKey()
		nodeKey, proof := l.enrolled("n2")

		ann := l.end(2, l.operator, wide{})
		for _, plane := range everyPlane {
			err := knock(t, ann, l.ID, plane)
			if got, want := fleet.KindOf(err) == fleet.Denied, plane != transport.Session; got != want {
				t.Errorf("an operator's key on %s: %v", plane, err)
			}
		}
		if err := knock(t, ann, l.ID, transport.Session); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("the agent does not answer an operator: %v", err)
		}
		// An enrolment is public; shown with an operator's key it opens nothing either.
		if err := knock(t, l.end(3, l.operator, wide{proof}), l.ID, transport.Peer); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("an operator's key with a node's proof: %v", err)
		}
		n2 := l.end(4, nodeKey, wide{proof})
		if err := knock(t, n2, l.ID, transport.Session); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("a node's key: %v", err)
		}
		if err := knock(t, n2, l.ID, transport.Peer); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("a node is no member any more: %v", err)
		}
		if err := knock(t, l.end(5, stranger, wide{proof}), l.ID, transport.Session); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("a stranger's key: %v", err)
		}
		if err := knock(t, l.visitor(l.net.Conn(netip.MustParseAddrPort("10.0.0.6:40000")), l.operator), l.ID, transport.Session); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("an operator's command line: %v", err)
		}
		l.removes("ann", l.operator)
		if err := knock(t, ann, l.ID, transport.Session); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("a removed operator, by the connection that stood: %v", err)
		}
		if err := knock(t, l.end(7, l.operator, wide{}), l.ID, transport.Session); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("a removed operator, by a new connection: %v", err)
		}
	})
}
