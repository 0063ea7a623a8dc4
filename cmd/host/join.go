package host

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
	"github.com/muster-fleet/muster/node/transport"
)

// joinTimeout bounds one request at one address; an enrolment may wait for an election.
const joinTimeout = 20 * time.Second

// ErrNobodyAnswers says that no address of a join string led to a host of its fleet that answered: it may be worth
// another try.
var ErrNobodyAnswers = fleet.Errorf(fleet.Unavailable, "no host of the fleet answers")

// Join enrols this host with a join string and makes its data folder. It returns the name of the server's fleet. The
// folder is a host's only when everything that came was verified. After a refusal nothing is left of it; after a request
// that may have been counted the host's new keys are, so that join can be repeated and is not counted twice.
func Join(ctx context.Context, n NewHost, join auth.JoinString, clock func() auth.Instant, log *slog.Logger) (string, error) {
	if err := n.check(); err != nil {
		return "", err
	}
	if err := mayHide(n.Outbound, n.Advertise); err != nil {
		return "", err
	}
	if len(join.Addrs) == 0 {
		return "", fleet.Errorf(fleet.Invalid, "the join string names no address").Hinted("on a host of the fleet: muster token create")
	}
	f, err := folder.Create(n.Dir)
	if err != nil {
		return "", err
	}
	j, err := newJoiner(f, n, join, clock, log)
	if err != nil {
		return "", discard(f, err)
	}
	joined, from, err := j.enrol(ctx)
	if err != nil {
		if j.begun || (j.asked && doubtful(err)) {
			return "", errors.Join(again(err, n), f.Close())
		}
		return "", discard(f, err)
	}
	if err := keep(f, n, j.identity, joined, from); err != nil {
		return "", errors.Join(counted(err), f.Close())
	}
	return joined.Record.Charter.Name(), f.Close()
}

// doubtful reports whether, after an error, the request may have been counted all the same.
func doubtful(err error) bool {
	kind := fleet.KindOf(err)
	return kind == fleet.Unavailable || kind == fleet.Internal
}

// again says that join may be repeated.
func again(err error, n NewHost) error {
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || e.Hint != "" || !doubtful(err) {
		return err
	}
	return e.Hinted("join again with the same name and data folder: nothing is counted twice")
}

// counted says what to do when the fleet knows this host, but its folder could not be written.
func counted(err error) error {
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok {
		return err
	}
	return fleet.Errorf(e.Kind, "the fleet has enrolled this host, but the data folder could not be finished: %w", err).
		Hinted("mend that, then join again with the same name and data folder: nothing is counted twice (%s)", e.Hint)
}

// joiner is one try to enrol.
type joiner struct {
	n        NewHost
	join     auth.JoinString
	identity folder.Identity
	request  auth.Envelope
	log      *slog.Logger
	begun    bool // by an earlier try, which may have been counted
	asked    bool // somebody was sent the request
}

// newJoiner makes keys and request, or takes up those of an earlier try. That the folder can be written shows here,
// before a use is counted.
func newJoiner(f *folder.Folder, n NewHost, join auth.JoinString, clock func() auth.Instant, log *slog.Logger) (*joiner, error) {
	identity, begun := f.Joining(join.Fleet, n.Name)
	if !begun {
		var err error
		if identity, _, err = newIdentity(n.Name); err != nil {
			return nil, err
		}
		identity.Fleet = join.Fleet
		if err := f.PutJoining(identity); err != nil {
			return nil, err
		}
	}
	public, err := identity.HPKEKey()
	if err != nil {
		return nil, err
	}
	request := join.Signer().Sign(auth.ForEnrol, join.Fleet, auth.EnrolRequest{
		Header: auth.Header{ID: newUUID(), Issued: clock().Wall.UnixMilli(), Charter: join.Head, Mode: auth.ByQuorum},
		Token:  join.Token, Key: auth.NewSigner(identity.Key()).Public(), HPKE: fleet.Sum(public), Name: identity.Name,
	})
	return &joiner{n: n, join: join, identity: identity, request: request, log: log, begun: begun}, nil
}

func (j *joiner) enrol(ctx context.Context) (agent.Joined, netip.AddrPort, error) {
	bind, err := ParseBind(j.n.Bind)
	if err != nil {
		return agent.Joined{}, bind, err
	}
	conn := j.n.Socket
	if conn == nil {
		if conn, err = listen(bind); err != nil { // the real address: a port that is taken shows before a use is counted
			return agent.Joined{}, bind, err
		}
	}
	end, err := transport.New(transport.Config{
		Conn: conn, Key: j.identity.Key(), Fleet: j.join.Fleet, Gate: joining{}, Addrs: func(fleet.ID) []netip.AddrPort { return nil }, Log: j.log,
	})
	if err == nil {
		err = end.Start()
	}
	if err != nil {
		return agent.Joined{}, bind, errors.Join(err, conn.Close())
	}
	defer end.Close()
	return j.askAll(ctx, end)
}

// door is an address that was knocked at.
type door struct {
	addr   netip.AddrPort
	stream *transport.Stream
	err    error
}

// askAll knocks at every address at once, so that dead ones cost no time, and asks those that open one after the other
// until one has an answer.
func (j *joiner) askAll(ctx context.Context, end *transport.Endpoint) (agent.Joined, netip.AddrPort, error) {
	knock, stop := context.WithCancel(ctx)
	doors := make(chan door)
	left := 0
	for _, text := range j.join.Addrs {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			continue
		}
		left++
		go func() {
			s, err := end.OpenAddr(knock, addr, transport.Join)
			doors <- door{addr, s, err}
		}()
	}
	defer func() {
		stop()
		go closeRest(doors, left)
	}()
	var said []door
	for left > 0 {
		d := <-doors
		left--
		if d.err == nil {
			var joined agent.Joined
			if joined, d.err = j.askAt(ctx, d.stream); d.err == nil || final(d.err) {
				return joined, d.addr, refused(d.err)
			}
		}
		said = append(said, d)
	}
	return agent.Joined{}, netip.AddrPort{}, nobody(said)
}

// closeRest lets go of doors that opened too late.
func closeRest(doors <-chan door, left int) {
	for range left {
		if d := <-doors; d.err == nil {
			d.stream.Close()
		}
	}
}

func (j *joiner) askAt(ctx context.Context, s *transport.Stream) (agent.Joined, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	j.asked = true
	return agent.AskJoin(s, j.join, j.request, j.identity.ID())
}

// final reports whether who was asked gave an answer, and it was no.
func final(err error) bool {
	switch fleet.KindOf(err) {
	case fleet.Invalid, fleet.Denied, fleet.NotFound, fleet.Conflict, fleet.Expired, fleet.Exhausted:
		return true
	case fleet.Unavailable, fleet.Internal:
	}
	return false
}

// refused turns the fleet's no into one: that it knows no such token, or that its uses are spent, is a refusal here.
func refused(err error) error {
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || (e.Kind != fleet.NotFound && e.Kind != fleet.Exhausted) {
		return err
	}
	return &fleet.Error{Kind: fleet.Denied, What: e.What, Hint: e.Hint, Err: e.Err}
}

// nobody says in one line what became of every address.
func nobody(said []door) error {
	slices.SortFunc(said, func(a, b door) int { return a.addr.Compare(b.addr) })
	strangers := 0
	var texts []string
	for _, d := range said {
		if errors.Is(d.err, transport.ErrAnotherFleet) {
			strangers++
		}
		texts = append(texts, d.err.Error())
	}
	text := strings.Join(texts, "; ")
	if strangers == len(said) {
		return fleet.Errorf(fleet.Denied, "the join string is for another fleet than the hosts at its addresses: %s", text).
			Hinted("their addresses have changed hands; on a host of the right fleet: muster token create")
	}
	return fleet.Errorf(fleet.Unavailable, "%w: %s", ErrNobodyAnswers, text).
		Hinted("is an agent running there, and does a firewall let UDP through?")
}

// keep writes the folder. The identity comes last: without it the folder is no host, and join may be repeated.
func keep(f *folder.Folder, n NewHost, identity folder.Identity, joined agent.Joined, from netip.AddrPort) error {
	peers := []folder.Peer{{ID: joined.Server, Addrs: []string{from.String()}}}
	for _, p := range joined.Head.Peers {
		if p.ID != joined.Server {
			peers = append(peers, folder.Peer{ID: p.ID, Addrs: p.Addrs})
		}
	}
	if _, err := f.LoadRecord(identity.Fleet); err != nil { // begins an empty one
		return err
	}
	for _, put := range []func() error{
		func() error { return f.AppendActs(joined.Acts, joined.Heads) },
		func() error { return f.PutHost(folder.Host{Bind: n.Bind, Advertise: n.Advertise}) },
		func() error { return f.PutOutbound(folder.Outbound{Only: n.Outbound}) },
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
