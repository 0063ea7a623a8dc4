package host

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
	"github.com/muster-fleet/muster/node/transport"
)

// joinTimeout bounds one try at one address; an enrolment may wait for an election.
const joinTimeout = 20 * time.Second

// Join enrols this host with a join string and makes its data folder. It returns the name of the server's fleet. The
// folder is there only when everything that came was verified.
func Join(ctx context.Context, n NewHost, join auth.JoinString, clock func() auth.Instant, log *slog.Logger) (string, error) {
	if err := n.check(); err != nil {
		return "", err
	}
	f, err := folder.Create(n.Dir)
	if err != nil {
		return "", err
	}
	defer f.Close()
	identity, hpkeHash, err := newIdentity(n.Name)
	if err != nil {
		return "", err
	}
	identity.Fleet = join.Fleet
	joined, from, err := enrol(ctx, n, join, identity, hpkeHash, clock, log)
	if err != nil {
		return "", err
	}
	return joined.Record.Charter.Name(), keep(f, n, identity, joined, from)
}

// enrol asks one address after the other.
func enrol(ctx context.Context, n NewHost, join auth.JoinString, identity folder.Identity, hpkeHash fleet.ID, clock func() auth.Instant, log *slog.Logger) (agent.Joined, netip.AddrPort, error) {
	bind, err := ParseBind(n.Bind)
	if err != nil {
		return agent.Joined{}, bind, err
	}
	conn := n.Socket
	if conn == nil {
		if conn, err = listen(bind); err != nil { // the real address: a port that is taken shows before a use is counted
			return agent.Joined{}, bind, err
		}
	}
	end, err := transport.New(transport.Config{
		Conn: conn, Key: identity.Key(), Fleet: join.Fleet, Gate: joining{}, Addrs: func(fleet.ID) []netip.AddrPort { return nil }, Log: log,
	})
	if err == nil {
		err = end.Start()
	}
	if err != nil {
		return agent.Joined{}, bind, errors.Join(err, conn.Close())
	}
	defer end.Close()
	request := join.Signer().Sign(auth.ForEnrol, join.Fleet, auth.EnrolRequest{
		Header: auth.Header{ID: newUUID(), Issued: clock().Wall.UnixMilli(), Charter: join.Head, Mode: auth.ByQuorum},
		Token:  join.Token, Key: auth.NewSigner(identity.Key()).Public(), HPKE: hpkeHash, Name: identity.Name,
	})
	var failures []error
	for _, text := range join.Addrs {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			continue
		}
		joined, err := askAt(ctx, end, addr, join, request, identity.ID())
		if err == nil {
			return joined, addr, nil
		}
		if kind := fleet.KindOf(err); kind != fleet.Unavailable && kind != fleet.Internal {
			return joined, addr, err // an answer, and it is no
		}
		failures = append(failures, err)
	}
	return agent.Joined{}, bind, nobody(failures)
}

func nobody(failures []error) error {
	if len(failures) == 0 {
		return fleet.Errorf(fleet.Invalid, "the join string names no address").Hinted("on a host of the fleet: muster token create")
	}
	e := fleet.Errorf(fleet.Unavailable, "no host of the fleet answers: %w", errors.Join(failures...))
	return e.Hinted("is an agent running there, and does a firewall let UDP through?")
}

func askAt(ctx context.Context, end *transport.Endpoint, addr netip.AddrPort, join auth.JoinString, request auth.Envelope, self fleet.ID) (agent.Joined, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	s, err := end.OpenAddr(ctx, addr, transport.Join)
	if err != nil {
		return agent.Joined{}, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	return agent.AskJoin(s, join, request, self)
}

// keep writes the folder. The identity comes last: without it the folder is no host, and join may be repeated.
func keep(f *folder.Folder, n NewHost, identity folder.Identity, joined agent.Joined, from netip.AddrPort) error {
	peers := []folder.Peer{{ID: joined.Server, Addrs: []string{from.String()}}}
	for _, p := range joined.Head.Peers {
		if p.ID != joined.Server {
			peers = append(peers, folder.Peer{ID: p.ID, Addrs: p.Addrs})
		}
	}
	if _, err := f.LoadRecord(identity.Fleet); err != nil {
		return err
	}
	for _, put := range []func() error{
		func() error { return f.AppendActs(joined.Acts, joined.Heads) },
		func() error { return f.PutHost(folder.Host{Bind: n.Bind, Advertise: n.Advertise}) },
		func() error {
			return f.PutGossipKeys([]folder.GossipKey{{Epoch: joined.Head.Epoch, Key: joined.Head.Key}})
		},
		func() error { return f.PutPeers(peers) },
		func() error { return f.PutIdentity(identity) },
	} {
		if err := put(); err != nil {
			return err
		}
	}
	return nil
}

// joining is the gate of a host that belongs to nothing yet: it speaks on the join plane alone, and what it hears
// there proves itself.
type joining struct{}

func (joining) Prove(transport.Plane) []byte { return nil }

func (joining) Admit(_ fleet.ID, plane transport.Plane, _ []byte) error {
	if plane != transport.Join {
		return fleet.Errorf(fleet.Denied, "this host is not enrolled yet")
	}
	return nil
}

func (j joining) Allow(id fleet.ID, plane transport.Plane) error { return j.Admit(id, plane, nil) }
