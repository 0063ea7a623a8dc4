package agent

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// Seeds keeps the private keys of the keyrings that this host is in.
type Seeds interface {
	// PutSeed returns when the seed is durable.
	PutSeed(s node.Seed) error
	// Seed returns the seed of that name, or fleet.NotFound.
	Seed(name node.SeedName) (node.Seed, error)
	// Seeds lists what is kept, without Private. With an error it lists what can be read.
	Seeds() ([]node.Seed, error)
	DropSeed(name node.SeedName) error
}

// seedSize is the bytes of a keyring's private key.
const seedSize = 32

// epochLife is how long after it was signed an epoch, or a holding, may be taken.
const epochLife = time.Minute

type seedsAsk struct {
	Keyring string
	Life    fleet.UUID
	Numbers []uint32
}

type seedsBody struct{ Seeds []seedBody }

type seedBody struct {
	Number  uint32
	Private []byte
}

type hpkeBody struct{ Key []byte }

type heldBody struct{ Held []heldSeed }

type heldSeed struct {
	Life   fleet.UUID
	Number uint32
}

// holding is which seeds are on this host's disk.
type holding struct {
	mu  sync.Mutex
	has map[node.SeedName]bool
}

func newHolding() holding { return holding{has: map[node.SeedName]bool{}} }

func (h *holding) put(s node.SeedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.has[s] = true
}

// drop forgets a seed, and says whether it was here.
func (h *holding) drop(s node.SeedName) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	had := h.has[s]
	delete(h.has, s)
	return had
}

func (h *holding) holds(s node.SeedName) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.has[s]
}

// recallSeeds reads which seeds are here.
func (a *Agent) recallSeeds() []node.SeedName {
	if a.seeds == nil {
		return nil
	}
	all, err := a.seeds.Seeds()
	a.complain("read the keys of keyrings", err)
	var out []node.SeedName
	for _, s := range all {
		a.holding.put(s.Name)
		out = append(out, s.Name)
	}
	return out
}

// noSeeds is the error of a host that keeps none.
func (a *Agent) noSeeds() error {
	if a.seeds == nil {
		return fleet.Errorf(fleet.Unavailable, "%s keeps no keys of keyrings", a.cfg.Name)
	}
	return nil
}

// keepSeed makes a seed durable if it is that of an epoch which the record here names.
func (a *Agent) keepSeed(k *auth.Keyring, number uint32, private []byte) (node.SeedName, error) {
	epoch, ok := k.Epoch(number)
	if !ok {
		return node.SeedName{}, fleet.Errorf(fleet.NotFound, "no epoch %d of keyring %s is known here", number, k.Name)
	}
	public, err := params.PublicOf(private)
	if err != nil || !slices.Equal(public, epoch.Key) {
		return node.SeedName{}, fleet.Errorf(fleet.Denied, "that is not the key of epoch %d of keyring %s", number, k.Name)
	}
	name := node.SeedName{Life: k.Life, Number: number, Key: fleet.Sum(public)}
	if a.holding.holds(name) {
		return name, nil
	}
	if err := a.seeds.PutSeed(node.Seed{Name: name, Keyring: k.Name, Private: private}); err != nil {
		return name, err
	}
	a.holding.put(name)
	return name, nil
}

// fetchSeeds asks a member for seeds and keeps those that are the record's.
func (a *Agent) fetchSeeds(ctx context.Context, e node.FetchSeeds) {
	out := node.SeedsFetched{From: e.From, Life: e.Life}
	defer func() { a.Post(out) }()
	var body seedsBody
	err := a.noSeeds()
	if err == nil {
		err = a.ask(ctx, e.From, askSeed, seedsAsk{e.Keyring, e.Life, e.Numbers}, &body)
	}
	k, known := a.record().Keyrings.Get(e.Keyring)
	if err == nil && (!known || k.Life != e.Life) {
		err = fleet.Errorf(fleet.NotFound, "keyring %s is gone", e.Keyring)
	}
	if err != nil {
		a.log.Debug("no keys of a keyring", "peer", e.From, "keyring", e.Keyring, "err", err)
		return
	}
	for _, s := range body.Seeds[:min(len(body.Seeds), len(e.Numbers))] {
		if !slices.Contains(e.Numbers, s.Number) {
			continue
		}
		name, err := a.keepSeed(k, s.Number, s.Private)
		clear(s.Private)
		if err != nil {
			a.log.Warn("the key of a keyring was not kept", "peer", e.From, "keyring", e.Keyring, "epoch", s.Number, "err", err)
			continue
		}
		out.Kept = append(out.Kept, name)
	}
}

// answerSeeds gives a member the seeds of its keyring that are here.
func (a *Agent) answerSeeds(peer fleet.ID, body []byte) ([]byte, error) {
	var ask seedsAsk
	if err := wire.Unmarshal(body, &ask); err != nil {
		return nil, err
	}
	if err := a.noSeeds(); err != nil {
		return nil, err
	}
	if len(ask.Numbers) > node.MaxSeedsAsked {
		return nil, fleet.Errorf(fleet.Exhausted, "%d keys asked for at once; at most %d", len(ask.Numbers), node.MaxSeedsAsked)
	}
	p := a.picture.Load()
	k, err := node.MayHaveSeeds(p.record, p.beacon, peer, ask.Keyring, ask.Life)
	if err != nil {
		a.log.Debug("a node asked for keys of a keyring and gets none", "peer", peer, "keyring", ask.Keyring, "err", err)
		return nil, err
	}
	var out seedsBody
	for _, number := range ask.Numbers {
		epoch, ok := k.Epoch(number)
		if !ok {
			continue
		}
		seed, err := a.seedOf(node.SeedName{Life: k.Life, Number: number, Key: epoch.KeyID()})
		if err != nil {
			continue
		}
		out.Seeds = append(out.Seeds, seedBody{number, seed.Private})
		defer clear(seed.Private)
	}
	return wire.Marshal(out), nil
}

// seedOf reads a seed that is here.
func (a *Agent) seedOf(name node.SeedName) (node.Seed, error) {
	if a.seeds == nil || !a.holding.holds(name) {
		return node.Seed{}, fleet.Errorf(fleet.NotFound, "key %s is not here", name.Key)
	}
	seed, err := a.seeds.Seed(name)
	if err == nil {
		return seed, nil
	}
	if a.holding.drop(name) { // another member has it
		a.log.Error("the key of a keyring cannot be read; it is fetched again", "err", err)
		a.Post(node.SeedLost{Seed: name})
	}
	return seed, fleet.Errorf(fleet.Unavailable, "the key is here and cannot be read: %w", err)
}

// makeEpoch makes a keyring's next epoch and has the quorum take it.
func (a *Agent) makeEpoch(ctx context.Context, e node.MakeEpoch) {
	out := node.EpochMade{Life: e.Life, Failed: true}
	defer func() { a.Post(out) }()
	if a.noSeeds() != nil {
		return
	}
	seed, epoch, err := a.newEpoch(e)
	defer clear(seed.Private)
	if err == nil {
		out.Kept = []node.SeedName{seed.Name}
		err = a.proposeEpoch(ctx, e, epoch)
	}
	if err != nil {
		a.log.Info("a new key of a keyring was not taken", "keyring", e.Keyring, "epoch", e.Number, "err", err)
		return
	}
	out.Failed = false
	a.log.Info("made a new key of a keyring", "keyring", e.Keyring, "epoch", e.Number)
}

// newEpoch draws a seed, or takes the one that was drawn for the same epoch before, makes it durable, and seals it for
// those who have it in escrow.
func (a *Agent) newEpoch(e node.MakeEpoch) (node.Seed, auth.EpochKey, error) {
	digest := node.KeepersDigest(e.Keepers)
	seed, err := a.drawnSeed(e, digest)
	if err != nil {
		return seed, auth.EpochKey{}, err
	}
	public, err := params.PublicOf(seed.Private)
	if err != nil {
		return seed, auth.EpochKey{}, err
	}
	epoch := auth.EpochKey{Key: public}
	bound := params.SeedBinding{Fleet: a.cfg.Fleet, Keyring: e.Keyring, Life: e.Life, Number: e.Number}
	for _, to := range e.Keepers {
		box, err := params.SealSeed(bound, seed.Private, to.Key)
		if err != nil {
			return seed, epoch, err
		}
		epoch.Escrow = append(epoch.Escrow, auth.Escrow{Operator: to.Operator, Key: fleet.Sum(to.Key), Box: box})
	}
	return seed, epoch, nil
}

func (a *Agent) drawnSeed(e node.MakeEpoch, digest fleet.ID) (node.Seed, error) {
	all, err := a.seeds.Seeds()
	a.complain("read the keys of keyrings", err)
	for _, s := range all {
		if s.Name.Life == e.Life && s.Name.Number == e.Number && s.For == digest {
			return a.seeds.Seed(s.Name)
		}
	}
	seed := node.Seed{Keyring: e.Keyring, For: digest, Private: make([]byte, seedSize)}
	rand.Read(seed.Private)
	public, err := params.PublicOf(seed.Private)
	if err != nil {
		return seed, err
	}
	seed.Name = node.SeedName{Life: e.Life, Number: e.Number, Key: fleet.Sum(public)}
	if err := a.seeds.PutSeed(seed); err != nil {
		return seed, err
	}
	a.holding.put(seed.Name)
	return seed, nil
}

func (a *Agent) proposeEpoch(ctx context.Context, e node.MakeEpoch, epoch auth.EpochKey) error {
	return a.proposeAct(ctx, auth.ActKeyringEpoch, a.signer.Sign(auth.ForKeyringEpoch, a.cfg.Fleet, auth.KeyringEpoch{
		Header: a.headerFor(epochLife), Keyring: e.Keyring, Life: e.Life, Number: e.Number, Epoch: epoch, Need: e.Need,
	}))
}

// tellHolding tells the fleet that a seed is on this host's disk.
func (a *Agent) tellHolding(ctx context.Context, e node.TellHolding) {
	err := a.proposeAct(ctx, auth.ActKeyringHolding, a.signer.Sign(auth.ForKeyringHolding, a.cfg.Fleet, auth.KeyringHolding{
		Header: a.headerFor(epochLife), Keyring: e.Keyring, Life: e.Life, Number: e.Number,
	}))
	if err != nil { // others were faster, more often than not
		a.log.Debug("nobody was told that a key is held here", "keyring", e.Keyring, "epoch", e.Number, "err", err)
	}
	a.Post(node.HoldingTold{Life: e.Life, Failed: err != nil})
}

// headerFor begins a statement of this node.
func (a *Agent) headerFor(life time.Duration) auth.Header {
	r, now := a.record(), a.now()
	var id fleet.UUID
	rand.Read(id[:])
	return auth.Header{ID: id, Issued: now.UnixMilli(), Expires: now.Add(life).UnixMilli(), Charter: r.Charter.Head(), Act: r.Act, Mode: auth.ByQuorum}
}

func (a *Agent) proposeAct(ctx context.Context, kind auth.ActKind, signed auth.Envelope) error {
	_, err := a.Propose(ctx, consensus.PutAct{Kind: kind, Data: wire.Marshal(signed)})
	return err
}

// dropSeed removes a seed that opens nothing.
func (a *Agent) dropSeed(e node.DropSeed) {
	if a.seeds == nil {
		return
	}
	a.holding.drop(e.Seed)
	a.complain("remove a key that opens nothing", a.seeds.DropSeed(e.Seed))
}

// answerHPKE tells the key that secrets for this node are sealed to.
func (a *Agent) answerHPKE() ([]byte, error) {
	if len(a.cfg.HPKE) == 0 {
		return nil, fleet.Errorf(fleet.Unavailable, "%s takes no keys of keyrings", a.cfg.Name)
	}
	public, err := params.PublicOf(a.cfg.HPKE)
	return wire.Marshal(hpkeBody{public}), err
}

// takeHandOver keeps a seed that an operator gives to this node. Whoever brings it does not matter.
func (a *Agent) takeHandOver(ctx context.Context, body []byte) error {
	var signed auth.Envelope
	if err := wire.Unmarshal(body, &signed); err != nil {
		return err
	}
	if err := a.noSeeds(); err != nil {
		return err
	}
	h, k, err := a.openHandOver(ctx, signed)
	if err != nil {
		return err
	}
	bound := params.SeedBinding{Fleet: a.cfg.Fleet, Keyring: h.Keyring, Life: h.Life, Number: h.Number}
	private, err := params.OpenSeed(bound, h.Box, a.cfg.HPKE)
	if err != nil {
		return err
	}
	defer clear(private)
	name, err := a.keepSeed(k, h.Number, private)
	if err != nil {
		return err
	}
	a.log.Info("an operator handed over the key of a keyring", "keyring", h.Keyring, "epoch", h.Number)
	a.Post(node.SeedKept{Seed: name})
	return nil
}

// How long a hand-over waits for this node to catch up: it may come faster than the act that made the keyring.
const (
	handOverWait = 4 * time.Second // below askTimeout
	handOverLook = 25 * time.Millisecond
)

// openHandOver verifies a hand-over, as soon as this node knows what it is about.
func (a *Agent) openHandOver(ctx context.Context, signed auth.Envelope) (node.HandOver, *auth.Keyring, error) {
	ctx, cancel := context.WithTimeout(ctx, handOverWait)
	defer cancel()
	look := time.NewTicker(handOverLook)
	defer look.Stop()
	for {
		record := a.record()
		h, k, err := node.OpenHandOver(record, signed, a.self, a.now())
		if err == nil || !node.MayCatchUp(record, h, err) {
			return h, k, err
		}
		for a.record().Length == record.Length {
			select {
			case <-ctx.Done():
				return h, k, err
			case <-look.C:
			}
		}
	}
}

// answerHeld tells which seeds are here, never more of them.
func (a *Agent) answerHeld() ([]byte, error) {
	var out heldBody
	held := node.NewestHeld(a.record(), a.holding.holds)
	for life, number := range held {
		out.Held = append(out.Held, heldSeed{life, number})
	}
	return wire.Marshal(out), nil
}

// How members are asked what they hold, for people.
const (
	heldWait  = 2 * time.Second
	heldAtOne = 32  // at a time
	heldMost  = 256 // in all; of a larger keyring the first by name
)

// Keyrings says what there is to say of the fleet's keyrings, or of one, and asks its living members what they hold.
func (a *Agent) Keyrings(ctx context.Context, which string) node.KeyringList {
	record := a.record()
	if record.Charter == nil {
		return node.KeyringList{}
	}
	alive := func(id fleet.ID) bool { return a.alive(id) }
	return node.ListKeyrings(record, which, alive, a.askHeldOf(ctx, a.holdersToAsk(record, which)), a.now())
}

// holdersToAsk lists the living members of a keyring, or of all.
func (a *Agent) holdersToAsk(record auth.Record, which string) []fleet.ID {
	var out []fleet.ID
	for _, k := range record.Keyrings.All() {
		if which != "" && k.Name != which {
			continue
		}
		for entry := range record.KeyringMembers(k.Name) {
			if len(out) == heldMost {
				return out
			}
			if a.alive(entry.ID) && !slices.Contains(out, entry.ID) {
				out = append(out, entry.ID)
			}
		}
	}
	return out
}

func (a *Agent) askHeldOf(ctx context.Context, nodes []fleet.ID) map[fleet.ID]node.SeedsHeld {
	ctx, cancel := context.WithTimeout(ctx, heldWait)
	defer cancel()
	var mu sync.Mutex
	said := map[fleet.ID]node.SeedsHeld{}
	room := make(chan struct{}, heldAtOne)
	var asked sync.WaitGroup
	for _, id := range nodes {
		room <- struct{}{}
		asked.Go(func() {
			defer func() { <-room }()
			var body heldBody
			if a.ask(ctx, id, askHeld, struct{}{}, &body) != nil {
				return
			}
			held := node.SeedsHeld{}
			for _, h := range body.Held {
				held[h.Life] = h.Number
			}
			mu.Lock()
			defer mu.Unlock()
			said[id] = held
		})
	}
	asked.Wait()
	return said
}

// NodeHPKE asks a node for the key that secrets for it are sealed to, and checks it against the roster.
func (a *Agent) NodeHPKE(ctx context.Context, id fleet.ID) ([]byte, error) {
	entry, err := a.record().Roster.Enrolled(id)
	if err != nil {
		return nil, err
	}
	var body hpkeBody
	if err := a.ask(ctx, id, askHPKE, struct{}{}, &body); err != nil {
		return nil, err
	}
	if fleet.Sum(body.Key) != entry.HPKE {
		return nil, fleet.Errorf(fleet.Denied, "%s answers with another key than it enrolled with", entry.Name).
			Hinted("do not hand anything over to it; enrol the host anew")
	}
	return body.Key, nil
}

// HandOver brings a hand-over that an operator signed to its node.
func (a *Agent) HandOver(ctx context.Context, to fleet.ID, signed auth.Envelope) error {
	return a.ask(ctx, to, askHandOver, signed, nil)
}
