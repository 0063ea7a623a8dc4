package agent

import (
	"context"
	"maps"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// hashes names the gossip keys of this host, by epoch.
func (a *Agent) hashes() map[uint32]fleet.ID {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[uint32]fleet.ID{}
	for epoch, key := range a.keys {
		out[epoch] = fleet.Sum(key[:])
	}
	return out
}

// useKeys tells the transport which gossip keys count now.
func (a *Agent) useKeys() {
	record := a.record()
	a.mu.Lock()
	accept := map[uint32][32]byte{}
	for _, g := range node.AcceptedKeys(record) {
		if key, ok := a.keys[g.Epoch]; ok && fleet.Sum(key[:]) == g.Hash {
			accept[g.Epoch] = key
		}
	}
	if len(accept) == 0 { // before the first act: whatever the join brought
		accept = maps.Clone(a.keys)
	}
	send := record.Sending.Epoch
	if _, ok := accept[send]; !ok {
		for epoch := range accept {
			send = max(send, epoch)
		}
	}
	a.mu.Unlock()
	if len(accept) > 0 {
		a.peers.UseKeys(send, accept)
	}
}

// keepKey makes a key durable, then used.
func (a *Agent) keepKey(epoch uint32, key [32]byte) error {
	record := a.record()
	a.mu.Lock()
	a.keys[epoch] = key
	for old := range a.keys { // what is older than the epoch that is sent with opens nothing any more
		if old < record.Sending.Epoch {
			delete(a.keys, old)
		}
	}
	keys := maps.Clone(a.keys)
	a.mu.Unlock()
	if err := a.cfg.Folder.PutKeys(keys); err != nil {
		return err
	}
	a.useKeys()
	a.Post(node.KeyKept{Epoch: epoch, Hash: fleet.Sum(key[:])})
	return nil
}

func (a *Agent) fetchKey(ctx context.Context, e node.FetchGossipKey) {
	var body keyBody
	err := a.ask(ctx, e.From, askKey, keyAsk{e.Epoch.Epoch}, &body)
	if err == nil && (len(body.Key) != 32 || fleet.Sum(body.Key) != e.Epoch.Hash) {
		err = fleet.Errorf(fleet.Denied, "the gossip key from %s is not the one that the record names", e.From)
	}
	if err != nil {
		a.log.Debug("no gossip key yet", "peer", e.From, "err", err)
		a.Post(node.PeerSilent{Peer: e.From})
		return
	}
	a.complain("keep the gossip key", a.keepKey(e.Epoch.Epoch, [32]byte(body.Key)))
}

func (a *Agent) answerKey(body []byte) ([]byte, error) {
	var ask keyAsk
	if err := wire.Unmarshal(body, &ask); err != nil {
		return nil, err
	}
	a.mu.Lock()
	key, ok := a.keys[ask.Epoch]
	a.mu.Unlock()
	if !ok {
		return nil, fleet.Errorf(fleet.NotFound, "no gossip key of epoch %d here", ask.Epoch)
	}
	return wire.Marshal(keyBody{key[:]}), nil
}
