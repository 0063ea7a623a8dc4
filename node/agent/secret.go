package agent

import (
	"context"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// OpenSecret decrypts one version of a secret as this node. Unavailable: it may work later, as no server answers or the
// key is not here yet; anything else: it never will. The caller clears the value when it is done with it.
func (a *Agent) OpenSecret(ctx context.Context, ref node.SecretRef) (node.Opened, error) {
	return a.openSecret(ctx, ref, "")
}

// OpenParam decrypts one version of a secret for a local account; empty: for root and the agent's own, who are the host.
func (a *Agent) OpenParam(ctx context.Context, ref node.SecretRef, account string) ([]byte, error) {
	opened, err := a.openSecret(ctx, ref, account)
	return opened.Value, err
}

func (a *Agent) openSecret(ctx context.Context, ref node.SecretRef, account string) (node.Opened, error) {
	record := a.record()
	if record.Charter == nil {
		return node.Opened{}, fleet.Errorf(fleet.Unavailable, "%s has no charter yet", a.cfg.Name)
	}
	item, err := a.readVersion(ctx, ref, "")
	if err != nil {
		return node.Opened{}, err
	}
	put, sealed, err := node.CheckSecret(record, item, ref)
	if err == nil {
		err = node.MayOpen(record, a.self, account, put)
	}
	if err == nil && account != "" { // whoever answers knows the tags of now: the version's are those of then
		_, err = a.readVersion(ctx, ref, account)
	}
	if err != nil {
		return node.Opened{}, err
	}
	at, err := node.SecretReader(record, a.self, put, a.holding.holds)
	if err != nil {
		return node.Opened{}, err
	}
	seed, err := a.seedOf(node.SeedOf(put.Readers[at]))
	if err != nil {
		return node.Opened{}, err
	}
	defer clear(seed.Private)
	value, err := sealed.Open(node.SecretPlace(a.cfg.Fleet, put), put.Readers, at, seed.Private)
	return node.Opened{Value: value, Tags: put.Tags}, err
}

// readVersion reads a version of a secret as this node, or for an account of it, with what is sealed. A version never
// changes, so that any replica will do, and this node's own copy where it is cut off; what a replica does not know yet the
// leader is asked for. Who answers asks policy by the tags that the parameter has now.
func (a *Agent) readVersion(ctx context.Context, ref node.SecretRef, account string) (params.Item, error) {
	ask := node.ParamsAsk{Stale: true, Ask: params.Ask{Get: []params.Selector{{Name: ref.Name, Version: ref.Version}}, Values: true}}
	if account != "" {
		ask.Local = []node.LocalUser{{Name: account}}
	}
	read, err := a.ReadParams(ctx, ask)
	if err == nil && len(read.Answer.Items) == 1 && len(read.Answer.Items[0].Content) == 1 {
		return read.Answer.Items[0], nil
	}
	ask.Stale = false
	if read, err = a.ReadParams(ctx, ask); err != nil {
		return params.Item{}, err
	}
	return node.SecretItem(read, ref)
}
