package main

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// pen signs statements of the operator's and brings them to the fleet.
type pen struct {
	client *api.Client
	who    identity
	status node.Status
	off    time.Duration // the fleet's time minus this process's
	via    *via          // nil: there is a local agent
}

// inFleet asks the local agent for its status, which must be of a fleet.
func (a *app) inFleet(ctx context.Context, c *api.Client) (node.Status, error) {
	s, err := c.Status(ctx)
	if err == nil && s.Fleet.IsZero() {
		err = fleet.Errorf(fleet.Unavailable, "this host is in no fleet yet").Hinted("muster init --fleet NAME, or muster join JOIN-STRING")
	}
	return s, err
}

// takePen reads the operator's key and makes sure that it is one of this fleet.
func (a *app) takePen(ctx context.Context) (*pen, error) {
	client := a.client()
	status, err := a.inFleet(ctx, client)
	if err != nil {
		return nil, err
	}
	who, err := a.readIdentity(a.identityPath())
	if err != nil {
		return nil, err
	}
	if who.Fleet != status.Fleet {
		return nil, otherFleet(a.identityPath(), who.FleetName, status.FleetName)
	}
	off, err := a.clockOff(status)
	return &pen{client: client, who: who, status: status, off: off, via: a.viaHost()}, err
}

// clockOff returns the fleet's time minus this process's, as the agent has it. An agent elsewhere could have an operator sign
// today what holds next year: it is believed no more than clocks of a healthy fleet are apart.
func (a *app) clockOff(s node.Status) (time.Duration, error) {
	off := time.Until(s.Now)
	if a.viaHost() != nil && off.Abs() > auth.MaxSkew {
		return 0, fleet.Errorf(fleet.Denied, "the clock of %s differs from this one by %s", a.viaPlace(), off.Abs().Round(time.Second)).
			Hinted("compare both clocks: date -u; if this one is right, ask another host")
	}
	return off, nil
}

func otherFleet(path, theirs, ours string) error {
	return fleet.Errorf(fleet.Conflict, "the key at %s is for another fleet (%s) than this host's (%s)", path, theirs, ours).
		Hinted("--identity FILE names another key, --data-dir another agent")
}

// now returns the time as the fleet sees it.
func (p *pen) now() time.Time { return time.Now().Add(p.off) }

// header begins a statement that lives so long; 0: for good.
func (p *pen) header(life time.Duration) auth.Header {
	return newHeader(p.status, p.now(), life)
}

func newHeader(s node.Status, now time.Time, life time.Duration) auth.Header {
	h := auth.Header{ID: newUUID(), Issued: now.UnixMilli(), Charter: s.CharterHead, Act: s.Act, Mode: auth.ByQuorum}
	if life != 0 {
		h.Expires = now.Add(life).UnixMilli()
	}
	return h
}

func newUUID() fleet.UUID {
	var u fleet.UUID
	rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80 // RFC 9562, version 4
	return u
}

func (p *pen) sign(purpose auth.Purpose, body any) auth.Envelope {
	return p.who.signer().Sign(purpose, p.status.Fleet, body)
}

// request signs a request to the servers to read.
func (p *pen) request(what node.ReadWhat, arg fleet.UUID) auth.Envelope {
	return p.requestAt(fleet.ID{}, what, arg)
}

// requestAt signs a request to one node to read, which no other answers.
func (p *pen) requestAt(at fleet.ID, what node.ReadWhat, arg fleet.UUID) auth.Envelope {
	return p.sign(auth.ForRequest, node.Read{Header: p.header(node.ReadLife), What: what, Arg: arg, Node: at})
}

// readNamed reads what has a name rather than an ID.
func (p *pen) readNamed(ctx context.Context, what node.ReadWhat, name string) (node.Answer, error) {
	return p.client.Read(ctx, p.sign(auth.ForRequest, node.Read{Header: p.header(node.ReadLife), What: what, Name: name}))
}

func (p *pen) read(ctx context.Context, what node.ReadWhat, arg fleet.UUID) (node.Answer, error) {
	return p.client.Read(ctx, p.request(what, arg))
}

// propose brings an entry to the fleet; its refusal is an error.
func propose(ctx context.Context, c *api.Client, e consensus.Entry) (consensus.Result, error) {
	result, err := c.Propose(ctx, e)
	if err == nil {
		err = result.Err()
	}
	return result, err
}

// proposeAct brings an act of the record to the fleet and waits, briefly, until this host has taken it in: who tags a
// node and lists the nodes wants to see the tag.
func proposeAct(ctx context.Context, c *api.Client, kind auth.ActKind, data any) error {
	result, err := propose(ctx, c, consensus.PutAct{Kind: kind, Data: wire.Marshal(data)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for tick := time.NewTicker(30 * time.Millisecond); ; {
		if s, err := c.Status(ctx); err != nil || s.Act >= result.Act {
			return nil // the act is committed, whatever this host knows of it
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
