package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/testnet/lan"
)

const (
	patience = 2 * time.Minute       // for any one thing to come true; it bounds hangs and is no figure
	look     = 20 * time.Millisecond // between two looks for something that is timed
	kills    = 3                     // how often something is killed, when so many runs are asked for
)

// bench is a fleet that is being measured.
type bench struct {
	lan     *lan.Lan
	hosts   []*lan.Host
	clients map[string]*api.Client // by host; sockets keep their place when agents come and go
	runs    int
	idle    time.Duration
	rest    time.Duration
	formed  formed
}

// newBench founds a fleet of n nodes, which the caller ends with down, also after an error.
func newBench(ctx context.Context, o options, binary string, n int) (*bench, error) {
	l, err := lan.Up(ctx, lan.Options{Bin: binary, Hosts: n})
	if err != nil {
		return nil, err
	}
	b := &bench{lan: l, hosts: l.Hosts(), clients: map[string]*api.Client{}, runs: o.runs, idle: o.idle, rest: o.rest}
	for _, h := range b.hosts {
		c, err := h.Client()
		if err != nil {
			return b, err
		}
		b.clients[h.Name()] = c
	}
	if err := b.form(ctx); err != nil {
		return b, err
	}
	return b, b.settle(ctx)
}

// down ends the fleet; it may be called of none.
func (b *bench) down() error {
	if b == nil {
		return nil
	}
	for _, c := range b.clients {
		c.Close()
	}
	return b.lan.Down()
}

// asker is the node whose command line is used: the last one, which is no server in a larger fleet.
func (b *bench) asker() *lan.Host { return b.hosts[len(b.hosts)-1] }

// voters is how many voters a fleet of n nodes grows to.
func voters(n int) int {
	switch {
	case n < 3:
		return 1
	case n < 20:
		return 3
	}
	return 5
}

// whole waits until every node sees every node, the voters stand, and there is a leader.
func (b *bench) whole(ctx context.Context) error {
	return b.all(ctx, "sees the whole fleet", func(s node.Status) bool { return isWhole(s, len(b.hosts)) })
}

// all waits until every node says something. It asks over the agents' sockets: a command line for every look would be most
// of the machine's load.
func (b *bench) all(ctx context.Context, what string, says func(node.Status) bool) error {
	for _, h := range b.hosts {
		if err := until(ctx, look, h.Name()+" "+what, func() (bool, error) {
			if err := b.allRun(); err != nil {
				return false, err
			}
			s, err := b.clients[h.Name()].Status(ctx)
			return err == nil && says(s), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// isWhole judges what one node of a fleet of n says.
func isWhole(s node.Status, n int) bool {
	if s.Online != n || s.Quorum.Leader.IsZero() || len(s.Quorum.Voters) < voters(n) {
		return false
	}
	return !slices.ContainsFunc(s.Quorum.Voters, func(v node.ServerStatus) bool { return !v.Online })
}

func (b *bench) allRun() error {
	for _, h := range b.hosts {
		if !h.Running() {
			return fmt.Errorf("the agent of %s has ended: %s", h.Name(), lastWords(h.Log()))
		}
	}
	return nil
}

// lastWords returns the end of a log, which is gone with the fleet.
func lastWords(log string) string {
	raw, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-1<<10):])
}

// until looks again and again whether something has come true.
func until(ctx context.Context, every time.Duration, what string, holds func() (bool, error)) error {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		if err := pause(ctx, every); errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s: not within %s", what, patience)
		} else if err != nil {
			return err
		}
	}
}

// pause lets real processes go on.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cpu is what all processes of all hosts have taken so far.
func (b *bench) cpu() (time.Duration, error) {
	spaces := map[string]bool{}
	for _, h := range b.hosts {
		if pid := h.PID(); pid != 0 {
			space, err := spaceOf(pid)
			if err != nil {
				return 0, err
			}
			spaces[space] = true
		}
	}
	return cpuIn(spaces)
}

// quorum asks a node who serves.
func (b *bench) quorum(ctx context.Context, h *lan.Host) (q node.QuorumStatus, err error) {
	return b.clients[h.Name()].Quorum(ctx)
}

// leader returns the host that leads, as the asker sees it.
func (b *bench) leader(ctx context.Context) (*lan.Host, error) {
	q, err := b.quorum(ctx, b.asker())
	if err != nil {
		return nil, err
	}
	for _, v := range q.Voters {
		if v.ID == q.Leader {
			return b.lan.Host(v.Name), nil
		}
	}
	return nil, errors.New("no leader is known")
}

// victim returns the host whose death touches the quorum least: no server where there is one, else a spare, else a voter
// that does not lead. It is never the asker.
func victim(q node.QuorumStatus, hosts []string, asker string) string {
	best, least := "", 3
	for _, name := range hosts {
		if w := weight(q, name); w < least && name != asker {
			best, least = name, w
		}
	}
	return best
}

// weight is 0 for no server, 1 for a spare, 2 for a voter, 3 for the leader.
func weight(q node.QuorumStatus, name string) int {
	named := func(s node.ServerStatus) bool { return s.Name == name }
	if i := slices.IndexFunc(q.Voters, named); i >= 0 {
		if q.Voters[i].ID == q.Leader {
			return 3
		}
		return 2
	}
	if slices.ContainsFunc(q.Spares, named) {
		return 1
	}
	return 0
}

// revive starts a killed agent again and waits until the fleet is whole and at rest.
func (b *bench) revive(ctx context.Context, h *lan.Host) error {
	if err := h.Start(); err != nil {
		return err
	}
	if err := b.whole(ctx); err != nil {
		return err
	}
	return b.settle(ctx)
}

// settle lets a fleet that became whole come to rest: records, beacons and connections of newcomers.
func (b *bench) settle(ctx context.Context) error { return pause(ctx, b.rest/2) }
