package main

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// vault is what a town's nodes keep of secrets: true keys, made, held and handed over as the record says.
type vault struct {
	signers  map[fleet.ID]auth.Signer
	private  map[fleet.ID][]byte                      // of nodes, for secrets
	seeds    map[fleet.ID]map[node.SeedName]node.Seed // by node
	recovery []byte                                   // seed of the recovery root
	cut      bool                                     // web01 is cut off: only its copies answer
	refuses  map[string]bool                          // nodes that take no key
	asked    []fleet.ID                               // nodes that were asked for their public key
	after    func()                                   // happens once, right after the next entry
}

func newVault() vault {
	return vault{
		signers: map[fleet.ID]auth.Signer{}, private: map[fleet.ID][]byte{}, seeds: map[fleet.ID]map[node.SeedName]node.Seed{},
		recovery: newSeed(), refuses: map[string]bool{},
	}
}

// admit gives a node its keys and returns the hash that it enrols with.
func (v *vault) admit(key auth.Signer) (fleet.ID, error) {
	private := make([]byte, params.PrivateSize)
	rand.Read(private)
	public, err := params.PublicOf(private)
	v.signers[key.ID()], v.private[key.ID()], v.seeds[key.ID()] = key, private, map[node.SeedName]node.Seed{}
	return fleet.Sum(public), err
}

func (w *town) ReadParams(_ context.Context, ask node.ParamsAsk) (node.ParamsRead, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asker, err := w.asker(ask.Signed, ask.Local)
	if err != nil {
		return node.ParamsRead{}, err
	}
	read := node.ParamsRead{Source: node.FromLeader, As: asker.String()}
	switch {
	case w.vault.cut:
		read.Source, read.Age = node.FromCopy, 2*time.Hour
	case ask.Stale:
		read.Source, read.Age = node.FromReplica, 300*time.Millisecond
	}
	if read.Answer, err = node.AnswerParams(w.state, w.state.Record, asker, ask.Ask); err != nil {
		return read, err
	}
	for _, item := range read.Answer.Items {
		if _, err := params.Verify(item, w.charter()); err != nil {
			return read, err
		}
	}
	return read, nil
}

func (w *town) asker(signed []auth.Envelope, local []node.LocalUser) (node.ParamAsker, error) {
	if len(signed) == 0 {
		return node.NodeAsker(w.state.Record, w.byName("web01").ID, local)
	}
	return node.OpenParamRead(w.state.Record, signed[0], time.Now())
}

func (w *town) WatchParams(ctx context.Context, watch node.ParamsWatch, each func(node.ParamsNews) error) error {
	at := watch.After
	for first := true; ; first = false {
		w.mu.Lock()
		asker, err := w.asker(watch.Signed, watch.Local)
		if err == nil {
			err = asker.CheckWatch(watch.Scope)
		}
		if err != nil {
			w.mu.Unlock()
			return err
		}
		if at == (params.EventPos{}) {
			at = node.PosNow(w.state.Act)
		}
		news, _ := node.NewsOf(w.state, w.charter().Policy(), asker, watch.Scope, at, node.PosNow(w.state.Act))
		changed := w.changed
		w.mu.Unlock()
		at = news.At
		if first || len(news.Events) > 0 {
			if err := each(news); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *town) Keyrings(_ context.Context, name string) node.KeyringList {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := map[fleet.ID]node.SeedsHeld{}
	for id, seeds := range w.vault.seeds {
		if w.status[id] == fleet.Online {
			said[id] = node.NewestHeld(w.state.Record, func(s node.SeedName) bool { _, ok := seeds[s]; return ok })
		}
	}
	return node.ListKeyrings(w.state.Record, name, func(id fleet.ID) bool { return w.status[id] == fleet.Online }, said, time.Now())
}

func (w *town) NodeHPKE(_ context.Context, id fleet.ID) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vault.asked = append(w.vault.asked, id)
	if w.status[id] != fleet.Online {
		return nil, fleet.Errorf(fleet.Unavailable, "it does not answer")
	}
	return params.PublicOf(w.vault.private[id])
}

func (w *town) HandOver(_ context.Context, to fleet.ID, signed auth.Envelope) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, k, err := node.OpenHandOver(w.state.Record, signed, to, time.Now())
	if err != nil {
		return err
	}
	if n, _ := w.state.Record.Roster.Enrolled(to); w.vault.refuses[n.Name] {
		return fleet.Errorf(fleet.Exhausted, "no space left on its disk")
	}
	seed, err := params.OpenSeed(params.SeedBinding{Fleet: w.who.Fleet, Keyring: k.Name, Life: k.Life, Number: h.Number}, h.Box, w.vault.private[to])
	if err != nil {
		return err
	}
	epoch, _ := k.Epoch(h.Number)
	if err := params.CheckSeed(seed, epoch.Key); err != nil {
		return err
	}
	w.keep(to, k, epoch, seed)
	w.passOn()
	return nil
}

func (w *town) keep(id fleet.ID, k *auth.Keyring, e *auth.KeyEpoch, private []byte) {
	name := node.SeedName{Life: k.Life, Number: e.Number, Key: e.KeyID()}
	w.vault.seeds[id][name] = node.Seed{Name: name, Keyring: k.Name, Private: private}
}

func (w *town) OpenParam(_ context.Context, ref node.SecretRef, user string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	self := w.byName("web01").ID
	param, ok := w.state.Param(ref.Name)
	if !ok {
		return nil, fleet.Errorf(fleet.NotFound, "parameter %s not found (ParameterNotFound)", ref.Name)
	}
	s := params.Selector{Name: ref.Name, Version: ref.Version}
	version, at, err := param.Find(s)
	if err != nil {
		return nil, err
	}
	item := param.Item(s, version, at)
	item.Content = [][]byte{version.Content}
	put, sealed, err := node.CheckSecret(w.state.Record, item, ref)
	if err != nil {
		return nil, err
	}
	if err := node.MayOpen(w.state.Record, self, user, put); err != nil {
		return nil, err
	}
	seeds := w.vault.seeds[self]
	i, err := node.SecretReader(w.state.Record, self, put, func(name node.SeedName) bool { _, ok := seeds[name]; return ok })
	if err != nil {
		return nil, err
	}
	return sealed.Open(node.SecretPlace(w.who.Fleet, put), put.Readers, i, seeds[node.SeedOf(put.Readers[i])].Private)
}

// tendKeyrings does at once what members would do in seconds: they pass keys on, and make new ones where one is due.
func (w *town) tendKeyrings() {
	w.passOn()
	for _, k := range w.state.Record.Keyrings.All() {
		members := w.members(k.Name)
		if _, due := w.state.Record.KeyringDue(k.Name, time.Now().UnixMilli()); due && len(members) > 0 {
			w.nextEpoch(k, members)
		}
	}
	w.passOn()
	w.hold()
}

// hold has members say that they hold a key that waits for them.
func (w *town) hold() {
	for _, k := range w.state.Record.Keyrings.All() {
		for _, id := range w.members(k.Name) {
			next, _ := w.state.Record.Keyrings.Get(k.Name)
			e := next.Newest()
			_, has := w.vault.seeds[id][node.SeedName{Life: k.Life, Number: e.Number, Key: e.KeyID()}]
			if e.Used == 0 && has && !slices.Contains(e.Holders, id) {
				w.nodeAct(id, auth.ActKeyringHolding, auth.ForKeyringHolding, auth.KeyringHolding{
					Header: w.header(time.Minute), Keyring: k.Name, Life: k.Life, Number: e.Number,
				})
			}
		}
	}
}

// members lists those of a keyring that are there.
func (w *town) members(keyring string) (out []fleet.ID) {
	for n := range w.state.Record.KeyringMembers(keyring) {
		if w.status[n.ID] == fleet.Online {
			out = append(out, n.ID)
		}
	}
	return out
}

// nextEpoch has the first of members make a key.
func (w *town) nextEpoch(k *auth.Keyring, members []fleet.ID) {
	seed := make([]byte, params.PrivateSize)
	rand.Read(seed)
	public, err := params.PublicOf(seed)
	if err != nil {
		panic(err)
	}
	number := k.Newest().Number + 1
	epoch := auth.EpochKey{Key: public}
	b := params.SeedBinding{Fleet: w.who.Fleet, Keyring: k.Name, Life: k.Life, Number: number}
	for _, keeper := range w.state.Record.EscrowFor(k.Name, time.Now().UnixMilli()) {
		box, err := params.SealSeed(b, seed, keeper.Key)
		if err != nil {
			panic(err)
		}
		epoch.Escrow = append(epoch.Escrow, auth.Escrow{Operator: keeper.Operator, Key: fleet.Sum(keeper.Key), Box: box})
	}
	w.nodeAct(members[0], auth.ActKeyringEpoch, auth.ForKeyringEpoch, auth.KeyringEpoch{
		Header: w.header(time.Minute), Keyring: k.Name, Life: k.Life, Number: number, Epoch: epoch, Need: uint8(min(auth.MaxNeed, max(len(members), w.state.Record.LeastNeed(k.Name, time.Now().UnixMilli())))),
	})
	next, _ := w.state.Record.Keyrings.Get(k.Name)
	e, _ := next.Epoch(number)
	w.keep(members[0], next, e, seed)
}

// nodeAct brings what a node signed to the record.
func (w *town) nodeAct(id fleet.ID, kind auth.ActKind, purpose auth.Purpose, body any) {
	w.must(consensus.PutAct{Kind: kind, Data: wire.Marshal(w.vault.signers[id].Sign(purpose, w.who.Fleet, body))})
}

// passOn has members give each other the keys that one of them has.
func (w *town) passOn() {
	for _, k := range w.state.Record.Keyrings.All() {
		members := w.members(k.Name)
		for i := range k.Epochs {
			e := &k.Epochs[i]
			name := node.SeedName{Life: k.Life, Number: e.Number, Key: e.KeyID()}
			for _, holder := range members {
				seed, ok := w.vault.seeds[holder][name]
				if !ok {
					continue
				}
				for _, id := range members {
					if n, _ := w.state.Record.Roster.Enrolled(id); n == nil || !w.vault.refuses[n.Name] {
						w.keep(id, k, e, seed.Private)
					}
				}
			}
		}
	}
}
