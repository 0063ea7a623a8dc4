package agent

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

const (
	factsEvery = 5 * time.Second // how often new servers, which lack this node's facts, are looked for
	factsSoon  = time.Second     // after one that could not take them
	factsFresh = 5 * time.Second // how long the facts of others are taken from memory
	factsSlice = 500             // nodes in one answer would fit a frame; the list is cut there and said so
)

type factsCache struct {
	at    time.Duration
	facts map[fleet.ID]fleet.Facts
}

// tellFacts gives this node's facts to every server once, and to servers that come later.
func (a *Agent) tellFacts(ctx context.Context) {
	told := map[fleet.ID]bool{}
	next := time.NewTimer(factsSoon)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		signed := a.signer.Sign(auth.ForFacts, a.cfg.Fleet, factsBody{Header: auth.Header{Issued: a.now().UnixMilli()}, Facts: a.cfg.Facts})
		wait := factsEvery
		for _, id := range a.servers() {
			if !told[id] && a.ask(ctx, id, askPutFacts, signed, nil) != nil {
				wait = factsSoon
				continue
			}
			told[id] = true
		}
		next.Reset(wait)
	}
}

func (a *Agent) takeFacts(peer fleet.ID, body []byte) error {
	var signed auth.Envelope
	if err := wire.Unmarshal(body, &signed); err != nil {
		return err
	}
	if a.reports == nil {
		return a.needReplica()
	}
	if _, err := a.openFacts(signed); err != nil {
		return err
	}
	if signed.Key != peer {
		return fleet.Errorf(fleet.Denied, "a node tells its own facts")
	}
	return a.reports.PutFacts(peer, signed)
}

func (a *Agent) openFacts(signed auth.Envelope) (fleet.Facts, error) {
	entry, err := a.record().Roster.Enrolled(signed.Key)
	if err != nil {
		return fleet.Facts{}, err
	}
	if len(signed.Body) > 1<<10 {
		return fleet.Facts{}, fleet.Errorf(fleet.Exhausted, "facts of %d bytes", len(signed.Body))
	}
	body, err := auth.Open[factsBody](signed, auth.ForFacts, a.cfg.Fleet, entry.Key)
	return body.Facts, err
}

func (a *Agent) answerFacts() ([]byte, error) {
	if a.reports == nil {
		return nil, a.needReplica()
	}
	all, err := a.reports.Facts()
	if err != nil {
		return nil, err
	}
	var out factsList
	for _, signed := range all {
		if len(out.Facts) < factsSlice {
			out.Facts = append(out.Facts, signed)
		}
	}
	return wire.Marshal(out), nil
}

// allFacts returns what nodes say of themselves, from a server or from memory. Without a server the last known stay.
func (a *Agent) allFacts(ctx context.Context) map[fleet.ID]fleet.Facts {
	now := a.cfg.Clock().Boot
	a.mu.Lock()
	cache := a.facts
	a.mu.Unlock()
	if cache.facts != nil && now-cache.at < factsFresh {
		return cache.facts
	}
	facts := map[fleet.ID]fleet.Facts{}
	for id, f := range cache.facts {
		facts[id] = f
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, id := range a.servers() {
		if id != a.self && !a.alive(id) {
			continue
		}
		var list factsList
		if a.ask(ctx, id, askFacts, struct{}{}, &list) != nil {
			continue
		}
		for _, signed := range list.Facts {
			if f, err := a.openFacts(signed); err == nil {
				facts[signed.Key] = f
			}
		}
		break
	}
	facts[a.self] = a.cfg.Facts
	a.mu.Lock()
	a.facts = factsCache{at: now, facts: facts}
	a.mu.Unlock()
	return facts
}
