package main

import (
	"context"
	"sync"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Asking the nodes of a command that went out without the quorum: no server tells of it.
const (
	asksAtOnce = 32
	askEvery   = 500 * time.Millisecond
	askFor     = 5 * time.Second // the most that one node may take to answer
)

// askNodes brings each node's own report of a command as news until ctx ends. A node that has ended, or that cannot be
// reached, is not asked.
func (p *pen) askNodes(ctx context.Context, id fleet.UUID, nodes []fleet.ID, news chan<- node.Update) {
	open := nodes
	for {
		if all, err := callRoll(ctx, p.client); err == nil {
			open = p.askRound(ctx, id, open, all, news)
		}
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return
		}
	}
}

// askRound asks every open node once and returns those that are still open.
func (p *pen) askRound(ctx context.Context, id fleet.UUID, open []fleet.ID, all roll, news chan<- node.Update) []fleet.ID {
	var mu sync.Mutex
	var group sync.WaitGroup
	var left []fleet.ID
	slots := make(chan struct{}, asksAtOnce)
	for _, n := range open {
		if !all.online(n) {
			left = append(left, n)
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			report, ok := p.askReport(ctx, id, n)
			if ok {
				select {
				case news <- node.Update{Report: &report}:
				case <-ctx.Done():
				}
			}
			if !ok || !report.Status.Final() {
				mu.Lock()
				left = append(left, n)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return left
}

// askReport asks one node for its report.
func (p *pen) askReport(ctx context.Context, id fleet.UUID, n fleet.ID) (exec.Report, bool) {
	ctx, stop := context.WithTimeout(ctx, askFor)
	defer stop()
	signed, err := p.client.NodeReport(ctx, n, p.requestAt(n, node.ReadReport, id))
	if err != nil {
		return exec.Report{}, false
	}
	report, err := auth.Peek[exec.Report](signed) // the agent has verified it
	return report, err == nil && report.Node == n && report.Command == id
}
