package agent

import (
	"bytes"
	"testing"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// seedDesk is a desk that is in a keyring with web-1, and has the first epoch's seed.
type seedDesk struct {
	*desk
	ring  *auth.Keyring
	seed  []byte
	seeds *memSeeds
}

func newSeedDesk(tb testing.TB) *seedDesk {
	tb.Helper()
	d := &seedDesk{desk: newDesk(tb), seeds: &memSeeds{}}
	sealFor(d.Fleet)
	d.take(tb, d.NewKeyring("web", "id="+d.self.Text()+" or id="+d.web.ID.Text()))
	d.Agent.seeds, d.cfg.HPKE = d.seeds, authtest.Private("node-0")
	d.seed = d.EpochSeed("web", d.ring.Life, 1)
	if _, err := d.keepSeed(d.ring, 1, d.seed); err != nil {
		tb.Fatal(err)
	}
	return d
}

// take takes an act, and shows the newest record to everybody on this host.
func (d *seedDesk) take(tb testing.TB, p authtest.Proposal) {
	tb.Helper()
	result, _ := d.replica.Apply(0, consensus.Encode(consensus.PutAct(p), d.Fleet.Now.UnixMilli())).(consensus.Result)
	if err := result.Err(); err != nil {
		tb.Fatal(err)
	}
	p2 := *d.picture.Load()
	p2.record = d.replica.State().Record
	d.picture.Store(&p2)
	d.Fleet.Record = p2.record
	d.ring = d.Keyring("web")
}

func (d *seedDesk) handOver(tb testing.TB) auth.Envelope {
	tb.Helper()
	bound := params.SeedBinding{Fleet: d.Fleet.ID(), Keyring: "web", Life: d.ring.Life, Number: 1}
	box, err := params.SealSeed(bound, d.seed, authtest.Public(d.cfg.HPKE))
	if err != nil {
		tb.Fatal(err)
	}
	return d.Sign(auth.ForHandOver, node.HandOver{
		Header: d.Header(node.HandOverLife), To: d.self, Keyring: "web", Life: d.ring.Life, Number: 1, Box: box,
	})
}

// keyringBodies are requests about keyrings as members make them, by kind.
func (d *seedDesk) keyringBodies(tb testing.TB) map[byte][]byte {
	return map[byte][]byte{
		askSeed: wire.Marshal(seedsAsk{Keyring: "web", Life: d.ring.Life, Numbers: []uint32{1, 2}}), askHandOver: wire.Marshal(d.handOver(tb)),
		askHPKE: wire.Marshal(struct{}{}), askHeld: wire.Marshal(struct{}{}),
	}
}

// FuzzKeyringRequest: whatever is asked, a seed goes to members alone, and none is kept that is not the record's.
func FuzzKeyringRequest(f *testing.F) {
	d := newSeedDesk(f)
	for kind, body := range d.keyringBodies(f) {
		f.Add(kind, body, false)
		f.Add(kind, body, true)
	}
	f.Add(askSeed, []byte{0x93, 0xa3, 'w', 'e', 'b', 0xc4, 0x10, 0xdd, 0xff, 0xff, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, kind byte, body []byte, member bool) {
		if kind < askSeed || kind > askHeld {
			return
		}
		peer := d.db.ID
		if member {
			peer = d.web.ID
		}
		d.seeds.all, d.holding = map[node.SeedName]node.Seed{}, newHolding()
		if kind != askHandOver {
			if _, err := d.keepSeed(d.ring, 1, d.seed); err != nil {
				t.Fatal(err)
			}
		}
		before := d.replica.State().Digest()
		s := &frames{peer: peer, in: []frame{{kind, body}}}
		d.Serve(s)
		d.posted()
		if len(s.out)+len(s.fails) != 1 || d.replica.State().Digest() != before {
			t.Fatalf("%d answers, %d refusals", len(s.out), len(s.fails))
		}
		for _, answer := range s.out {
			if told := bytes.Contains(answer.body, d.seed); told && !(member && kind == askSeed) {
				t.Fatal("the seed is told to who must not have it")
			}
			if len(answer.body) > frameLimit {
				t.Fatalf("an answer of %d bytes", len(answer.body))
			}
		}
		for name, seed := range d.seeds.all {
			if name != nameOf(d.ring, d.ring.Newest()) || !bytes.Equal(seed.Private, d.seed) {
				t.Fatal("a seed is kept that is not the record's")
			}
		}
	})
}

// FuzzSeedsAnswer: whatever a peer answers, what is kept and told to the loop is the record's.
func FuzzSeedsAnswer(f *testing.F) {
	d := newSeedDesk(f)
	f.Add(wire.Marshal(seedsBody{[]seedBody{{1, d.seed}}}))
	f.Add(wire.Marshal(seedsBody{[]seedBody{{1, authtest.Private("another")}, {1, d.seed}, {2, d.seed}, {1, nil}}}))
	f.Add(wire.Marshal(heldBody{[]heldSeed{{d.ring.Life, 7}}}))
	f.Add(wire.Marshal(hpkeBody{authtest.Public(d.seed)}))
	f.Add([]byte{0x91, 0xdd, 0xff, 0xff, 0xff, 0xff, 0x92})
	f.Fuzz(func(t *testing.T, body []byte) {
		d.seeds.all, d.holding = map[node.SeedName]node.Seed{}, newHolding()
		d.peers.kind, d.peers.body = done, bytes.Clone(body)
		d.fetchSeeds(t.Context(), node.FetchSeeds{From: d.web.ID, Keyring: "web", Life: d.ring.Life, Numbers: []uint32{1, 2}})
		events := d.posted()
		if len(events) != 1 {
			t.Fatalf("%d events", len(events))
		}
		kept := events[0].(node.SeedsFetched).Kept
		if len(kept) > 2 || len(kept) == 0 && len(d.seeds.all) > 0 || len(d.seeds.all) > 1 {
			t.Fatalf("%d kept, %d on disk", len(kept), len(d.seeds.all))
		}
		for _, name := range kept {
			if name != nameOf(d.ring, d.ring.Newest()) || !bytes.Equal(d.seeds.all[name].Private, d.seed) {
				t.Fatal("a seed is kept that is not the record's")
			}
		}
		d.askHeldOf(t.Context(), []fleet.ID{d.web.ID})
		if key, err := d.NodeHPKE(t.Context(), d.web.ID); err == nil && fleet.Sum(key) != d.web.HPKE {
			t.Fatal("another key than the roster's")
		}
	})
}

// What members ask and answer costs what its frames weigh.
func TestKeyringMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	d := newSeedDesk(t)
	for kind, seed := range d.keyringBodies(t) {
		hostile.Check(t, hostile.Bound{Base: 128 << 10, PerByte: 80}, func(in []byte) {
			d.Serve(&frames{peer: d.web.ID, in: []frame{{kind, in}}})
			d.posted()
		}, hostile.Join(hostile.Some(19, hostile.Inputs(1<<15, seed)), hostile.Corpus(t, "FuzzKeyringRequest")))
	}
	sample := wire.Marshal(seedsBody{[]seedBody{{1, d.seed}}})
	hostile.Check(t, hostile.Bound{Base: 256 << 10, PerByte: 80}, func(in []byte) {
		d.peers.kind, d.peers.body = done, in
		d.fetchSeeds(over(), node.FetchSeeds{From: d.web.ID, Keyring: "web", Life: d.ring.Life, Numbers: []uint32{1}})
		d.posted()
		d.askHeldOf(over(), []fleet.ID{d.web.ID})
		_, _ = d.NodeHPKE(over(), d.web.ID)
	}, hostile.Join(hostile.Some(19, hostile.Inputs(1<<15, sample)), hostile.Corpus(t, "FuzzSeedsAnswer")))
}
