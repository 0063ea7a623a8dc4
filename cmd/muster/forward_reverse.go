package main

import (
	"context"
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// inlet is one REMOTE:HOST:PORT of forward --reverse: where the node listens, and where this host connects to.
type inlet struct {
	listen  string // ADDRESS:PORT, in canonical form
	network string // tcp or unix
	to      string // HOST:PORT or a path, as this host sees it
}

const inletForm = "REMOTE:HOST:PORT or REMOTE:PATH with a /; REMOTE is [ADDRESS:]PORT"

// parseInlet reads REMOTE:HOST:PORT. Without an address the node listens at 127.0.0.1; * is all addresses of version 4, and port
// 0 takes a free one.
func parseInlet(text string) (inlet, error) {
	var in inlet
	rest, last, ok := cutLast(text)
	if !ok {
		return in, notAnInlet(text, "it has too few parts")
	}
	remote := rest
	if slash := strings.Index(text, "/"); slash >= 0 { // before it a path may have more of a name
		if remote, in.to, ok = cutLast(text[:slash]); !ok {
			return in, notAnInlet(text, "it has too few parts")
		}
		in.network, in.to = "unix", in.to+text[slash:]
	} else {
		var host string
		if remote, host, ok = cutLast(rest); !ok {
			return in, notAnInlet(text, "it has too few parts")
		}
		port, err := strconv.ParseUint(last, 10, 16)
		if err != nil || port == 0 || host == "" {
			return in, notAnInlet(text, strconv.Quote(host+":"+last)+" is nowhere to connect to")
		}
		in.network, in.to = "tcp", net.JoinHostPort(host, last)
	}
	var err error
	if in.listen, err = auth.CanonicalListen(remotePlace(remote)); err != nil {
		return in, notAnInlet(text, err.Error())
	}
	return in, nil
}

// remotePlace writes out what people leave away.
func remotePlace(remote string) string {
	host, port, ok := cutLast(remote)
	inner, bracketed := strings.CutPrefix(host, "[")
	switch {
	case !ok:
		host, port = "127.0.0.1", remote
	case bracketed:
		host = strings.TrimSuffix(inner, "]")
	case strings.Contains(host, ":"): // of version 6, and who knows where it ends
		return remote
	case host == "localhost":
		host = "127.0.0.1"
	case host == "*":
		host = "0.0.0.0"
	}
	return net.JoinHostPort(host, port)
}

func notAnInlet(text, why string) error {
	return fleet.Errorf(fleet.Invalid, "%q is nothing to listen for: %s", text, why).Hinted("%s, as in 8080:127.0.0.1:3000", inletForm)
}

func (a *app) forwardReverse(ctx context.Context, f sessionFlags, name string, texts []string) error {
	s := f.session(auth.SessionForward)
	var inlets []inlet
	for _, text := range texts {
		in, err := parseInlet(text)
		if err != nil {
			return err
		}
		inlets, s.Listen = append(inlets, in), append(s.Listen, in.listen)
	}
	if err := f.check(); err != nil {
		return err
	}
	ctx, stop := a.untilTold(ctx)
	defer stop()
	v, err := a.visit(ctx, name)
	if err != nil {
		return err
	}
	defer v.Close()
	p, err := openPassage(ctx, v, s)
	if err != nil {
		return err
	}
	defer p.Close()
	r := &reversed{app: a, passage: p, inlets: inlets, slots: make(chan struct{}, tunnelConns)}
	if err := r.tell(p.listens()); err != nil {
		return err
	}
	for n := range inlets {
		for range waiting {
			r.open.Go(func() { r.takeAll(uint16(n)) })
		}
	}
	r.open.Wait()
	if err := context.Cause(p.ctx); isOver(err) {
		return err
	}
	return nil // whoever began it has ended it
}

// waiting is how many connections to one place may come at the same moment without a round trip for each.
const waiting = 8

// reversed brings connections that come in at a node to this host.
type reversed struct {
	*app
	*passage
	inlets []inlet
	slots  chan struct{}
	open   sync.WaitGroup

	mu   sync.Mutex
	told string // where the node listens, as was said last
}

// tell says where the node listens, once, and again when it listens elsewhere: on standard output for programs, which may have
// asked for port 0.
func (r *reversed) tell(listening []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if all := strings.Join(listening, " "); all == r.told {
		return nil
	} else {
		r.told = all
	}
	enc := json.NewEncoder(r.stdout)
	enc.SetEscapeHTML(false)
	for i, at := range listening {
		if r.forPeople() {
			r.say("%s of %s → %s", at, r.at.Name, r.inlets[i].to)
			continue
		}
		err := enc.Encode(struct {
			Remote string `json:"remote"`
			To     string `json:"to"`
			Node   string `json:"node"`
		}{at, r.inlets[i].to, r.at.Name})
		if err != nil {
			return err
		}
	}
	return nil
}

// takeAll takes one connection after the other at a place, until the passage ends.
func (r *reversed) takeAll(n uint16) {
	for r.ctx.Err() == nil {
		select {
		case r.slots <- struct{}{}:
		case <-r.ctx.Done():
			return
		}
		id := r.current()
		far, err := r.accept(r.ctx, id, n)
		if err != nil {
			<-r.slots
			r.notTaken(id, err)
			continue
		}
		r.open.Go(func() {
			defer func() { <-r.slots }()
			r.bring(far, r.inlets[n])
		})
	}
}

// notTaken opens the session anew where the node has forgotten it, and else waits before the next attempt.
func (r *reversed) notTaken(id fleet.UUID, err error) {
	if fleet.KindOf(err) == fleet.NotFound {
		if _, err = r.renew(r.ctx, id); err == nil {
			err = r.tell(r.listens())
		}
	}
	switch {
	case err == nil || r.ctx.Err() != nil:
		return
	case isOver(err):
		r.end(err)
		return
	case fleet.KindOf(err) != fleet.Unavailable: // that the node is away is said by nobody: it comes back
		r.say("%s: %s", r.at.Name, err)
	}
	select {
	case <-r.ctx.Done():
	case <-time.After(comeBackEvery):
	}
}

// bring connects here for a connection that came in there. One that nobody takes here is reset there.
func (r *reversed) bring(far half, in inlet) {
	dialler := net.Dialer{Timeout: nearWait}
	near, err := dialler.DialContext(r.ctx, in.network, in.to)
	if err != nil {
		breakOff(far)
		if r.ctx.Err() == nil {
			r.say("%s is not reached from here: %s", in.to, err)
		}
		return
	}
	defer context.AfterFunc(r.ctx, func() { breakOff(far); breakOff(near.(half)) })()
	_ = splice(near.(half), far) // how a connection ends is between its two programs
}

// nearWait bounds how long a connection of this host may take to stand.
const nearWait = 10 * time.Second
