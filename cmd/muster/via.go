package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

const (
	// maxViaAddrs bounds how many addresses of a name are tried.
	maxViaAddrs = 8
	// viaNextAddr is how long one address has before the next is tried beside it.
	viaNextAddr = 150 * time.Millisecond
	// viaWait bounds finding a host and being let in.
	viaWait = 15 * time.Second
)

// via is the way to the fleet from where there is no agent: an agent elsewhere, asked over QUIC with the operator's key. What
// it says is believed as far as signatures prove it; see DESIGN.md.
type via struct {
	app    *app
	place  string      // HOST:PORT, as it was given
	client *api.Client // believes the host nothing that the record says
	raw    *api.Client // for the record itself

	mu   sync.Mutex
	who  identity
	gate *viaGate
	end  *transport.Endpoint // nil: not connected yet
	host fleet.ID            // that answers, once it was judged
	own  *ownRecord
}

// viaHost returns the way that was chosen; nil: there is a local agent.
func (a *app) viaHost() *via {
	place := a.viaPlace()
	if place == "" {
		return nil
	}
	if a.via == nil {
		v := &via{app: a, place: place}
		v.raw = api.Over(place, v.openRaw)
		v.own = a.newOwnRecord(v.raw)
		v.client = api.Over(place, v.open).Verified(v)
		a.via = v
	}
	return a.via
}

// viaPlace returns HOST:PORT as given. What is said on the command line itself goes before the environment.
func (a *app) viaPlace() string {
	if a.flags.noVia || a.flags.via == "" && a.flags.socket != "" {
		return ""
	}
	return cmp.Or(a.flags.via, a.getenv("MUSTER_VIA"))
}

// closeVia ends the connection, if there is one.
func (a *app) closeVia() {
	if a.via == nil {
		return
	}
	a.via.client.Close()
	a.via.raw.Close()
	a.via.mu.Lock()
	defer a.via.mu.Unlock()
	if a.via.end != nil {
		_ = a.via.end.Close()
	}
}

// Newest is the fleet's record with all that the host's has, verified here.
func (v *via) Newest(ctx context.Context) (auth.Record, error) {
	if _, err := v.connect(ctx); err != nil {
		return auth.Record{}, err
	}
	return v.own.Newest(ctx)
}

// open opens a connection to the host's API, once the host was judged.
func (v *via) open(ctx context.Context) (net.Conn, error) {
	end, err := v.connect(ctx)
	if err != nil {
		return nil, err
	}
	s, err := end.Open(ctx, v.host, transport.Session)
	if err != nil {
		return nil, v.explain(err)
	}
	return v.begin(ctx, s)
}

// openRaw opens a connection to whoever was reached, to fetch the record that judges it.
func (v *via) openRaw(ctx context.Context) (net.Conn, error) {
	end, peer := v.gate.met()
	if end == nil {
		return nil, fleet.Errorf(fleet.Internal, "%s is not connected", v.place)
	}
	s, err := end.Open(ctx, peer, transport.Session)
	if err != nil {
		return nil, v.explain(err)
	}
	return v.begin(ctx, s)
}

// reach lets the end through to more nodes, and returns it.
func (v *via) reach(ctx context.Context, more places) (*transport.Endpoint, error) {
	end, err := v.connect(ctx)
	if err == nil {
		v.gate.add(more)
	}
	return end, err
}

// begin asks for the API. What is asked over it need not wait for the answer.
func (v *via) begin(ctx context.Context, s *transport.Stream) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.WriteFrame(node.SessionAPI, nil); err != nil {
		s.Close()
		return nil, v.explain(err)
	}
	return &apiConn{Stream: s, via: v}, nil
}

// apiConn is a stream that carries HTTP behind one frame of the host's.
type apiConn struct {
	*transport.Stream
	via   *via
	begun bool // Read is called by one goroutine at a time
}

// Read reads HTTP.
func (c *apiConn) Read(p []byte) (int, error) {
	if !c.begun {
		kind, _, err := c.ReadFrame()
		if err == nil && kind != node.SessionAPI {
			err = fleet.Errorf(fleet.Internal, "%s answers a frame of kind %d with one of kind %d", c.via.place, node.SessionAPI, kind)
		}
		if err != nil {
			return 0, c.via.explain(err)
		}
		c.begun = true
	}
	return c.Stream.Read(p)
}

// connect returns the end that is connected to the host, which has been judged.
func (v *via) connect(ctx context.Context) (*transport.Endpoint, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.end != nil {
		return v.end, nil
	}
	ctx, cancel := context.WithTimeout(ctx, viaWait)
	defer cancel()
	who, err := v.app.readIdentity(v.app.identityPath())
	if err != nil {
		return nil, err
	}
	kept, err := v.own.kept(who.Fleet)
	if err != nil {
		return nil, err
	}
	addrs, err := resolvePlace(ctx, v.place)
	if err != nil {
		return nil, err
	}
	gate := newViaGate(kept)
	end, err := newOperatorEnd(who, gate)
	if err != nil {
		return nil, err
	}
	gate.use(end)
	v.who, v.gate = who, gate
	if err := v.meet(ctx, end, gate, addrs); err != nil {
		_ = end.Close()
		return nil, err
	}
	v.end = end
	return end, nil
}

// meet connects to whoever answers at one of the addresses, fetches the record that it has, and judges it by that.
func (v *via) meet(ctx context.Context, end *transport.Endpoint, gate *viaGate, addrs []netip.AddrPort) error {
	peer, addr, err := reachOne(ctx, end, addrs)
	if err != nil {
		return v.explain(err)
	}
	gate.meet(peer, addr)
	record, err := v.own.Newest(ctx)
	if err != nil {
		return err
	}
	if err := judgeHost(record, peer, gate.proof(peer)); err != nil {
		return fleet.Errorf(fleet.KindOf(err), "%s is not believed to be in fleet %s: %w", v.place, record.Charter.Name(), err)
	}
	v.host = peer
	gate.admit(peer)
	return nil
}

// reachOne connects to the first address that answers, each having a moment before the next is tried beside it.
func reachOne(ctx context.Context, end *transport.Endpoint, addrs []netip.AddrPort) (fleet.ID, netip.AddrPort, error) {
	type outcome struct {
		addr netip.AddrPort
		s    *transport.Stream
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	outcomes := make(chan outcome)
	next, flying := 0, 0
	start := func() {
		addr := addrs[next]
		next, flying = next+1, flying+1
		go func() {
			s, err := end.OpenAddr(ctx, addr, transport.Session)
			outcomes <- outcome{addr, s, err}
		}()
	}
	defer func() { // those that were slower
		cancel()
		for ; flying > 0; flying-- {
			if o := <-outcomes; o.s != nil {
				o.s.Close()
			}
		}
	}()
	start()
	var failed error
	for flying > 0 {
		timer := time.NewTimer(viaNextAddr)
		select {
		case <-timer.C:
		case o := <-outcomes:
			flying--
			if o.err == nil {
				defer o.s.Close() // nothing was said on it: the peer never sees it
				return o.s.Peer(), o.addr, nil
			}
			failed = moreTelling(failed, o.err)
		}
		timer.Stop()
		if next < len(addrs) {
			start()
		}
	}
	return fleet.ID{}, netip.AddrPort{}, failed
}

// moreTelling prefers what a host said over that nobody answered.
func moreTelling(before, now error) error {
	if before == nil || fleet.KindOf(before) == fleet.Unavailable && fleet.KindOf(now) != fleet.Unavailable {
		return now
	}
	return before
}

// explain says what mends it that the host is not reached, or says no.
func (v *via) explain(err error) error {
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok {
		return fleet.Errorf(fleet.Unavailable, "--via %s: %w", v.place, err)
	}
	hinted := func(hint string) error {
		return &fleet.Error{Kind: e.Kind, What: e.What, Hint: cmp.Or(hint, e.Hint), Err: e.Err}
	}
	switch {
	case errors.Is(err, transport.ErrAnotherFleet):
		return hinted("the key at " + v.app.identityPath() + " is for fleet " + v.who.FleetName + ": --identity FILE names another key, --via another host")
	case e.Kind == fleet.Denied || e.Kind == fleet.Expired:
		return hinted("whoever has a root key takes you in (again): muster operator request on a host of the fleet, then muster operator approve CODE")
	case e.Kind == fleet.Invalid:
		return hinted("is the host of the same version? muster version, here and there")
	case e.Kind == fleet.Unavailable:
		return hinted("HOST:PORT is where the host's agent is reached over UDP (muster node show NODE names it; usually port " +
			strconv.Itoa(host.DefaultPort) + "); a firewall that passes TCP alone lets nothing through")
	}
	return e
}

// resolvePlace returns the addresses of HOST:PORT; a port that is left out is the usual one.
func resolvePlace(ctx context.Context, place string) ([]netip.AddrPort, error) {
	name, port, err := splitPlace(place)
	if err != nil {
		return nil, err
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), port)}, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil || len(found) == 0 {
		return nil, fleet.Errorf(fleet.Unavailable, "--via %s: the name %s is not found: %w", place, name, err).Hinted("--via IP:PORT needs no name")
	}
	var out []netip.AddrPort
	for _, addr := range found[:min(len(found), maxViaAddrs)] {
		out = append(out, netip.AddrPortFrom(addr.Unmap(), port))
	}
	return out, nil
}

func splitPlace(place string) (name string, port uint16, err error) {
	if addr, err := netip.ParseAddr(place); err == nil { // also an IPv6 address without brackets
		return addr.String(), host.DefaultPort, nil
	}
	name, text, err := net.SplitHostPort(place)
	if err != nil {
		name, text = place, strconv.Itoa(host.DefaultPort)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 || name == "" || len(name) > 255 || bytes.ContainsAny([]byte(name), " /@:[]") && !isAddr(name) {
		return "", 0, fleet.Errorf(fleet.Invalid, "--via %q is no HOST:PORT", place).Hinted("--via 10.0.0.1:%d", host.DefaultPort)
	}
	return name, uint16(number), nil
}

func isAddr(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// newOperatorEnd makes an end of QUIC with the operator's key, on a free port.
func newOperatorEnd(who identity, places operatorGate) (*transport.Endpoint, error) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot open a UDP socket: %w", err)
	}
	quietBuffers()
	end, err := transport.New(transport.Config{
		Conn: conn, Key: ed25519.NewKeyFromSeed(who.Seed), Fleet: who.Fleet, Gate: places, DialOnly: true, NoRelay: true,
		Addrs: places.addrs, Relays: places.relays,
	})
	if err == nil {
		err = end.Start()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return end, nil
}

// refuseVia refuses --via to what is done on the host itself. A MUSTER_VIA in the environment is passed over there.
func (a *app) refuseVia(cmd *cobra.Command) error {
	if a.flags.via == "" || !doneHere(cmd) {
		return nil
	}
	return fleet.Errorf(fleet.Invalid, "%s is done on the host itself: there is no --via for it", cmd.CommandPath())
}

// doneHere reports whether a command has to do with this host alone, or with no fleet at all.
func doneHere(cmd *cobra.Command) bool {
	noun, verb, _ := strings.Cut(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "), " ")
	switch noun {
	case "init", "join", "agent", "config", "debug", "demo", "version", "manual", "completion", "help":
		return true
	case "node":
		return verb == "leave"
	case "operator":
		return verb == "request" // of somebody whom no host lets in yet
	}
	return false
}
