package main

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// handOversAtOnce is how many nodes are given a key at a time. Members pass it on among themselves, so a few are enough.
const (
	handOversAtOnce = 8
	handOverTo      = 16
	handOverTime    = 10 * time.Second
	// handOverPatience is how long a node may take to hear of a keyring that was made just now.
	handOverPatience = 5 * time.Second
)

// madeKeyring is what making a keyring came to.
type madeKeyring struct {
	members int
	away    []string         // members that are not up: they get the key from others later
	given   []string         // who took the key
	failed  map[string]error // who is up and did not
}

// makeKeyring makes a keyring of a target: a key, sealed in escrow for its maker and for recovery, and handed over to
// members that are up.
func (c *cabinet) makeKeyring(ctx context.Context, name string, target fleet.Target) (madeKeyring, error) {
	rings, err := c.keyrings(ctx)
	if err != nil {
		return madeKeyring{}, err
	}
	seed := make([]byte, params.PrivateSize)
	rand.Read(seed)
	defer clear(seed)
	public, err := params.PublicOf(seed)
	if err != nil {
		return madeKeyring{}, err
	}
	change := auth.KeyringChange{Header: c.pen.header(0), Name: name, Target: target.String()}
	binding := params.SeedBinding{Fleet: c.status.Fleet, Keyring: name, Life: change.Header.ID, Number: 1}
	escrow, err := c.escrowOf(binding, seed, rings)
	if err != nil {
		return madeKeyring{}, err
	}
	change.First = []auth.EpochKey{{Key: public, Escrow: escrow}}
	if err := change.Check(); err != nil {
		return madeKeyring{}, err
	}
	if err := proposeAct(ctx, c.client, auth.ActKeyring, c.pen.sign(auth.ForKeyring, change)); err != nil {
		return madeKeyring{}, err
	}
	return c.giveFirst(ctx, binding, seed)
}

// giveFirst hands a new keyring's key over to its members, by the record that has the keyring: who was removed or lost his tag
// since the target was read gets nothing.
func (c *cabinet) giveFirst(ctx context.Context, b params.SeedBinding, seed []byte) (madeKeyring, error) {
	c.forgetKeyrings()
	k, err := c.keyring(ctx, b.Keyring)
	if fleet.KindOf(err) == fleet.NotFound { // this host has not caught up: who waits can be given the key later
		return madeKeyring{}, nil
	}
	if err != nil {
		return madeKeyring{}, err
	}
	made := madeKeyring{members: len(k.Members)}
	var up []node.KeyringMember
	for _, m := range k.Members {
		if m.Alive {
			up = append(up, m)
		} else {
			made.away = append(made.away, m.Name)
		}
	}
	made.given, made.failed = c.handOverAll(ctx, b, seed, up[:min(len(up), handOverTo)])
	return made, nil
}

// escrowOf seals an epoch's seed for the operator and for recovery.
func (c *cabinet) escrowOf(b params.SeedBinding, seed []byte, rings node.KeyringList) ([]auth.Escrow, error) {
	mine, err := params.PublicOf(c.pen.who.HPKE)
	if err != nil {
		return nil, err
	}
	keepers := []auth.Keeper{{Operator: c.pen.who.Operator, Key: mine}}
	if len(rings.Recovery) > 0 {
		keepers = append(keepers, auth.Keeper{Key: rings.Recovery})
	}
	var out []auth.Escrow
	for _, k := range keepers {
		box, err := params.SealSeed(b, seed, k.Key)
		if err != nil {
			return nil, err
		}
		out = append(out, auth.Escrow{Operator: k.Operator, Key: fleet.Sum(k.Key), Box: box})
	}
	return out, nil
}

// handOverAll gives a seed to nodes, and says who took it.
func (c *cabinet) handOverAll(ctx context.Context, b params.SeedBinding, seed []byte, to []node.KeyringMember) (given []string, failed map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	failed = map[string]error{}
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := make(chan struct{}, handOversAtOnce)
	for _, m := range to {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			err := c.handOverSoon(ctx, b, seed, m.ID)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[m.Name] = err
				return
			}
			given = append(given, m.Name)
		})
	}
	group.Wait()
	slices.Sort(given)
	return given, failed
}

// handOverSoon is handOver to a node that may not have heard of the keyring yet.
func (c *cabinet) handOverSoon(ctx context.Context, b params.SeedBinding, seed []byte, to fleet.ID) error {
	for deadline := time.Now().Add(handOverPatience); ; {
		err := c.handOver(ctx, b, seed, to)
		switch fleet.KindOf(err) {
		case fleet.NotFound, fleet.Unavailable:
		default:
			return err
		}
		if time.Now().After(deadline) || pause(ctx, keyringLook) != nil {
			return err
		}
	}
}

// handOver gives a seed to one node, sealed to the key that the node enrolled with.
func (c *cabinet) handOver(ctx context.Context, b params.SeedBinding, seed []byte, to fleet.ID) error {
	public, err := c.keys.NodeHPKE(ctx, to)
	if err != nil {
		return err
	}
	box, err := params.SealSeed(b, seed, public)
	if err != nil {
		return err
	}
	return c.client.HandOver(ctx, to, c.pen.sign(auth.ForHandOver, node.HandOver{
		Header: c.pen.header(node.HandOverLife), To: to, Keyring: b.Keyring, Life: b.Life, Number: b.Number, Box: box,
	}))
}

// tell says who of a new keyring's members has its key, and who waits for it.
func (m madeKeyring) tell(a *app, name string) {
	switch {
	case m.members == 0:
		a.say("nobody is in it now; nodes get the key when they are: muster keyring hand-over %s", name)
	case len(m.given) == 0:
		a.say("no member has the key yet; later: muster keyring hand-over %s", name)
	case len(m.given) == m.members:
		a.say("%s took the key", fleet.FoldNames(m.given))
	default:
		a.say("%s took the key, and passes it on to the others", fleet.FoldNames(m.given))
	}
	for _, n := range sortedKeys(m.failed) {
		a.say("%s: %s", n, m.failed[n])
	}
	if len(m.away) > 0 {
		a.say("not up now: %s; they get the key from the others when they are", fleet.FoldNames(m.away))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
