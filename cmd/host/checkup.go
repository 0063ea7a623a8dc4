package host

import (
	"context"
	"net/netip"
	"os"
	"time"

	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// prober tries addresses over UDP.
type prober struct{}

func (prober) Probe(ctx context.Context, to netip.AddrPort) agent.Probed {
	return probed(transport.Probe(ctx, to))
}

func (prober) ProbeFew(ctx context.Context, to netip.AddrPort) agent.Probed {
	return probed(transport.ProbeFew(ctx, to))
}

func probed(p transport.Probed) agent.Probed {
	out := agent.Probed{Answered: p.Answered, RTT: p.RTT, Largest: p.Largest}
	if p.Err != nil {
		out.Why = p.Err.Error()
	}
	return out
}

var (
	_ api.CheckupBackend = desk{}
	_ api.InsideBackend  = desk{}
)

// Checkup is what this host finds of itself, and of the ways to others.
func (d desk) Checkup(ctx context.Context, ask shape.CheckupAsk) (shape.Checkup, error) {
	h := d.host
	var only fleet.ID
	if ask.Node != "" {
		m, err := d.Find(ask.Node)
		if err != nil {
			return shape.Checkup{}, err
		}
		if m.ID == h.ID {
			return shape.Checkup{}, fleet.Errorf(fleet.Invalid, "%s is this host itself: there is no way between", m.Name).Hinted("muster doctor looks at the ways to a sample")
		}
		only = m.ID
	}
	out := shape.Checkup{
		Format: shape.Format, Node: shape.Named{ID: h.ID, Name: h.Name}, Now: h.opts.Clock().Wall.UTC(), Port: int(h.end.LocalAddr().Port()),
		Outbound: d.Outbound(), Process: h.processCheck(), Host: Examine(h.opts.Dir), Keys: d.keyCheck(), Config: []string{},
		Budget: h.budgetCheck(), Beacon: shape.BeaconCheck{Supports: int(fleet.LevelNewest)}, Members: []shape.MemberCheck{},
	}
	if beacon, age, ok := d.Beacon(); ok {
		ms := age.Milliseconds()
		out.Beacon.Age, out.Beacon.Level = &ms, int(beacon.FleetVersion)
	}
	for _, m := range d.Agent.Nodes(ctx) {
		out.Members = append(out.Members, shape.MemberCheck{Name: m.Name, Version: m.Facts.Version, Status: string(m.Status)})
	}
	out.Process.Stuck = !h.beats(ctx)
	ways, err := d.Agent.Checkup(ctx, only)
	out.Ways = wayChecks(ways)
	return out, err
}

// beatWait is how long the agent's loop has for a turn: a slow disk may hold it for a while.
const beatWait = 3 * time.Second

func (h *Host) beats(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, beatWait)
	defer cancel()
	return h.Agent.Beat(ctx) == nil
}

func (d desk) keyCheck() shape.KeyCheck {
	r := d.Record()
	k := shape.KeyCheck{GossipEpoch: r.Gossip.Epoch, HasGossip: d.HasGossipKey(), Operators: []shape.OperatorKey{}}
	if r.KeyedAt != 0 {
		k.GossipSince = moment(r.KeyedAt)
	}
	if entry, ok := r.Roster.Node(d.host.ID); ok {
		k.Enrolled = moment(entry.Enrolled)
	}
	if r.Charter == nil {
		return k
	}
	for _, op := range r.Charter.Operators() {
		key := shape.OperatorKey{Name: op.Name}
		if op.Expires != 0 {
			key.Expires = moment(op.Expires)
		}
		k.Operators = append(k.Operators, key)
	}
	return k
}

func moment(ms int64) *time.Time {
	t := time.UnixMilli(ms).UTC()
	return &t
}

func wayChecks(ways []agent.WayCheck) []shape.WayCheck {
	out := make([]shape.WayCheck, 0, len(ways))
	for _, w := range ways {
		o := shape.WayCheck{
			Peer: shape.Named{ID: w.Peer, Name: w.Name}, Status: string(w.Status), Voter: w.Voter, Outbound: w.Outbound,
			There: probes(w.There), Back: probes(w.Back), BackError: errorText(w.BackErr), Others: []shape.OtherProbe{},
			Asked: shape.Asked{
				OK: w.Asked.OK, Older: w.Asked.Older, Refused: w.Asked.Err != nil && fleet.KindOf(w.Asked.Err) == fleet.Denied, Error: errorText(w.Asked.Err), RTT: w.Asked.RTT.Microseconds(),
				ClockOff: w.Asked.ClockOff.Microseconds(), Version: w.Asked.Version, Level: int(w.Asked.Level),
			},
		}
		for _, by := range w.Others {
			o.Others = append(o.Others, shape.OtherProbe{By: shape.Named{ID: by.By, Name: by.Name}, Probes: probes(by.Tried), Error: errorText(by.Err)})
		}
		out = append(out, o)
	}
	return out
}

func probes(tried []agent.Tried) []shape.Probe {
	out := make([]shape.Probe, 0, len(tried))
	for _, t := range tried {
		out = append(out, shape.Probe{Address: t.Addr.String(), Answered: t.Answered, RTT: t.RTT.Microseconds(), Largest: t.Largest, Error: t.Why})
	}
	return out
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// RecentDecisions returns the newest n lines about what was decided here.
func (d desk) RecentDecisions(n int) ([]string, error) {
	if d.host.decisions == nil {
		return nil, fleet.Errorf(fleet.Unavailable, "this host keeps no decisions")
	}
	recent, err := d.host.decisions.Recent(n)
	lines := make([]string, 0, len(recent))
	for _, r := range recent {
		lines = append(lines, r.Command.String()+"  "+r.Line())
	}
	return lines, err
}

// Try probes one address of a member, from this process: for where no agent is there to do it.
func Try(ctx context.Context, to netip.AddrPort) shape.Probe {
	p := prober{}.Probe(ctx, to)
	return probes([]agent.Tried{{Addr: to, Probed: p}})[0]
}

func (h *Host) processCheck() shape.ProcessCheck {
	u := usage()
	return shape.ProcessCheck{
		PID: os.Getpid(), Version: h.opts.Version, Began: h.started.UTC(), RSS: int64(u.RSS), Files: u.Files, FileLimit: fileLimit(),
		Sockets: ownSockets(), Dumpable: dumpable(), Replaced: replaced(), Root: os.Geteuid() == 0, Metrics: h.opts.MetricsAddress,
	}
}
