package agent

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

const (
	// standsEvery is how often it is looked whether the operators of sessions are still operators: their keys expire.
	standsEvery = time.Minute
	// lastWords is how long somebody who was removed from the charter is left connected, to be told why his session ended.
	lastWords = 2 * time.Second
)

// watchSessions ends the sessions of those who may not have them any more, whenever the record grew, and the connections of
// those who are no operators any more.
func (a *Agent) watchSessions(ctx context.Context) {
	tick := time.NewTicker(standsEvery)
	defer tick.Stop()
	before := a.record().Charter
	for {
		grown := a.grown.wait()
		record := a.record()
		a.endFallen(record)
		if gone := removedBetween(before, record.Charter, a.now()); len(gone) > 0 {
			a.dropLater(ctx, gone)
		}
		before = record.Charter
		select {
		case <-ctx.Done():
			return
		case <-grown:
		case <-tick.C:
		}
	}
}

func (a *Agent) endFallen(record auth.Record) {
	var host node.SessionHost
	for i, s := range a.knownSessions() {
		if i == 0 {
			host = a.sessionHost()
		}
		if s.Ended != 0 {
			continue
		}
		err := node.SessionStands(s, record, host, a.now())
		if err == nil || fleet.KindOf(err) == fleet.Unavailable {
			continue
		}
		a.log.Info("a session may not go on", "session", s.ID, "operator", s.Operator, "why", err)
		a.complain("end a session", a.endSession(s, err.Error()))
	}
}

// removedBetween lists the operators of an earlier charter who are none by a later one.
func removedBetween(before, after *auth.Charter, now time.Time) (gone []auth.Operator) {
	if before == nil || after == nil || before.Head() == after.Head() {
		return nil
	}
	for _, op := range before.Operators() {
		if _, err := after.Current(op.ID(), now); err != nil {
			gone = append(gone, op)
		}
	}
	return gone
}

func (a *Agent) dropLater(ctx context.Context, gone []auth.Operator) {
	select {
	case <-ctx.Done():
	case <-time.After(lastWords):
	}
	for _, op := range gone {
		a.peers.Drop(op.ID(), "operator "+op.Name+" may not act any more")
	}
}
