package node

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// ringTown is a town of eight with a keyring of the five that have role=web: nodes 3 to 7.
func ringTown() *town {
	w := newTown(8, 3)
	w.take(w.NewKeyring("web", "tag.role=web"))
	return w
}

// seedName names the seed of an epoch of the keyring as the record has it.
func (w *town) seedName(number uint32) SeedName {
	k := w.Keyring("web")
	e, ok := k.Epoch(number)
	if !ok {
		panic("no such epoch")
	}
	return SeedName{k.Life, number, e.KeyID()}
}

// holder is a settled host that has seeds on its disk.
func (w *town) holder(t testing.TB, i int, seeds ...SeedName) *host {
	h := w.settled(t, i)
	for _, s := range seeds {
		h.node.keepSeed(s)
	}
	h.pass(10 * time.Second) // longer than settleFor
	return h
}

// catchUp brings the town's newest acts to a host.
func (h *host) catchUp() (out []Effect) {
	h.Helper()
	for _, act := range h.Acts[h.node.record.Length:] {
		out = append(out, h.step(RecordCommitted{Act: act})...)
	}
	return out
}

func (w *town) remove(i int) {
	n := w.Nodes[i]
	w.take(w.RemoveNode(n.ID))
}

// A member that lacks a seed asks the living members one after the other, and nobody else.
func TestSeedIsAskedForOfLivingMembers(t *testing.T) {
	w := ringTown()
	h := w.settled(t, 3)
	sightings := w.sightings(fleet.Online)
	sightings[7].Status = fleet.ConnectionLost
	h.step(Gossiped{sightings})
	var asked []fleet.ID
	for range 20 {
		for _, f := range of[FetchSeeds](h.pass(time.Second)) {
			if f.Keyring != "web" || f.Life != w.Keyring("web").Life || !slices.Equal(f.Numbers, []uint32{1}) {
				t.Fatalf("it asks for %+v", f)
			}
			asked = append(asked, f.From)
			none[FetchSeeds](t, h.pass(3*time.Second)) // one question at a time
			h.step(SeedsFetched{From: f.From, Life: f.Life})
		}
		if len(asked) >= 3 {
			break
		}
	}
	if got, want := sorted(asked[:3]), sorted(w.ids(4, 7)); !slices.Equal(got, want) {
		t.Errorf("it asks %v, want each of %v once", got, want)
	}
	h.step(SeedsFetched{From: asked[0], Life: w.Keyring("web").Life, Kept: []SeedName{w.seedName(1)}})
	none[FetchSeeds](t, h.pass(5*time.Minute))
}

func sorted(ids []fleet.ID) []fleet.ID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, fleet.ID.Compare)
	return ids
}

func TestWhoIsNoMemberAsksForNothing(t *testing.T) {
	w := ringTown()
	h := w.settled(t, 1)
	none[FetchSeeds](t, h.pass(time.Minute))
	w.remove(7)
	out := append(h.catchUp(), h.pass(5*time.Minute)...)
	none[FetchSeeds](t, out)
	none[MakeEpoch](t, out)
}

// Questions that nobody answers become seldom; a bell brings the next at once, and a flood of bells no flood.
func TestSeedNobodyHas(t *testing.T) {
	w := ringTown()
	h := w.settled(t, 3)
	vain := func(d time.Duration) (questions int) {
		for end := h.at.Boot + d; h.at.Boot < end; {
			for _, f := range of[FetchSeeds](h.pass(time.Second)) {
				questions++
				h.step(SeedsFetched{From: f.From, Life: f.Life})
			}
		}
		return questions
	}
	vain(5 * time.Minute)
	if n := vain(10 * time.Minute); n < 10 || n > 80 {
		t.Errorf("%d questions in ten minutes", n)
	}
	rung := BellHeard{Bell{Kind: BellSeed, Statement: w.Keyring("web").Life, Act: 1, Holders: w.ids(6, 7)}}
	f := one[FetchSeeds](t, h.step(rung))
	if f.From != w.Nodes[6].ID {
		t.Errorf("it asks %s", f.From)
	}
	h.step(SeedsFetched{From: f.From, Life: f.Life})
	questions := 0
	for i := range 400 { // ten seconds of lies
		rung.Bell.Holders = w.ids(4+i%4, 5+i%4)
		for _, f := range of[FetchSeeds](append(h.step(rung), h.pass(25*time.Millisecond)...)) {
			questions++
			h.step(SeedsFetched{From: f.From, Life: f.Life})
		}
	}
	if questions > 50 {
		t.Errorf("%d questions", questions)
	}
	for _, b := range []Bell{
		{Kind: BellSeed, Statement: uuid(5), Act: 1, Holders: w.ids(6, 7)},                   // no keyring of this node
		{Kind: BellSeed, Statement: rung.Bell.Statement, Act: 2, Holders: w.ids(6, 7)},       // nothing that is missing
		{Kind: BellSeed, Statement: rung.Bell.Statement, Act: 1},                             // nobody
		{Kind: BellSeed, Statement: rung.Bell.Statement, Act: 1 << 40, Holders: w.ids(6, 7)}, // no number
	} {
		h := w.holder(t, 3)
		h.node.ringOf(w.Keyring("web").Life).fetching = false
		h.node.ringOf(w.Keyring("web").Life).fetchAt = h.at.Boot + time.Hour
		none[FetchSeeds](t, h.step(BellHeard{b}))
	}
}

// A node that was handed a seed tells the others at once.
func TestHandedOverSeedIsTold(t *testing.T) {
	w := ringTown()
	h := w.holder(t, 3)
	r := one[Ring](t, h.step(SeedKept{w.seedName(1)}))
	if got, want := sorted(r.To), sorted(w.ids(4, 8)); !slices.Equal(got, want) || r.Bell.Kind != BellSeed || r.Bell.Holders[0] != h.me {
		t.Errorf("%+v", r)
	}
	none[Ring](t, h.step(SeedKept{w.seedName(1)})) // once more
	if b, err := DecodeBell(r.Bell.Encode()); err != nil || b.Act != 1 {
		t.Errorf("%+v, %v", b, err)
	}
}

// makers lets time pass for hosts that know that an epoch is due, until they would make it; nobody does.
func makers(hosts []*host, d time.Duration) map[fleet.ID][]time.Duration {
	out := map[fleet.ID][]time.Duration{}
	for _, h := range hosts {
		began := h.at.Boot
		for end := h.at.Boot + d; h.at.Boot < end; {
			for range of[MakeEpoch](h.pass(100 * time.Millisecond)) {
				out[h.me] = append(out[h.me], h.at.Boot-began)
				h.step(EpochMade{Life: h.Keyring("web").Life, Failed: true})
			}
		}
	}
	return out
}

// When a member leaves, one of the others makes the next epoch at once; the next only if it does not.
func TestOneMakesTheEpochThenAnother(t *testing.T) {
	for _, leaves := range []string{"removed", "retagged", "another target", "asked for"} {
		t.Run(leaves, func(t *testing.T) {
			w := ringTown()
			var hosts []*host
			for i := 3; i < 7; i++ {
				h := w.holder(t, i, w.seedName(1))
				none[MakeEpoch](t, h.pass(time.Minute)) // nothing is due
				hosts = append(hosts, h)
			}
			living := 4
			switch leaves {
			case "removed":
				w.remove(7)
			case "retagged":
				w.take(w.TagNode(w.Nodes[7].ID, map[string]string{"role": "db"}, false))
			case "another target":
				w.take(w.ChangeKeyring("web", "tag.role=web and id!="+w.Nodes[7].ID.Text(), false))
			case "asked for":
				w.take(w.ChangeKeyring("web", "tag.role=web", true))
				living = 5
			}
			first, last := 0, time.Duration(0)
			var begun []time.Duration
			for _, h := range hosts {
				for _, m := range of[MakeEpoch](append(h.catchUp(), h.pass(time.Millisecond)...)) {
					first++
					if m.Keyring != "web" || m.Life != w.Keyring("web").Life || m.Number != 2 || m.Need != 3 || len(m.Keepers) != 2 {
						t.Errorf("%+v", m)
					}
					begun = append(begun, 0)
					h.step(EpochMade{Life: m.Life, Failed: true})
				}
			}
			for _, at := range makers(hosts, time.Duration(living)*makeGap) {
				begun, last = append(begun, at[0]), max(last, at[0])
			}
			slices.Sort(begun)
			if first > 1 || first == 0 && living == 4 {
				t.Errorf("%d make it at once", first)
			}
			for i, at := range begun[:min(len(begun), 2)] { // later ones mix with those who try again
				if i > 0 && at < makeGap {
					t.Errorf("the next makes one after %s", at)
				}
			}
			if len(begun) < 4 || last > time.Duration(living)*makeGap {
				t.Errorf("%d of 4 made one, the last after %s", len(begun), last)
			}
		})
	}
}

// With few members alive, few need to hold an epoch.
func TestNeedIsOfTheLiving(t *testing.T) {
	w := ringTown()
	h := w.holder(t, 3, w.seedName(1))
	sightings := w.sightings(fleet.Online)
	for i := 5; i < 8; i++ {
		sightings[i].Status = fleet.ConnectionLost
	}
	h.step(Gossiped{sightings})
	w.remove(7)
	if m := one[MakeEpoch](t, append(h.catchUp(), h.pass(makeGap+time.Second)...)); m.Need != 2 {
		t.Errorf("%d of 2 need to hold it", m.Need)
	}
	sightings[4].Status = fleet.Left
	w = ringTown()
	h = w.holder(t, 3, w.seedName(1))
	h.step(Gossiped{sightings})
	w.take(w.ChangeKeyring("web", "tag.role=web", true))
	m := one[MakeEpoch](t, append(h.catchUp(), h.pass(makeGap+time.Second)...))
	if m.Need != 2 { // the others may be down, or it alone does not see them
		t.Errorf("%d need to hold it", m.Need)
	}
	h.step(EpochMade{Life: m.Life})
	w.take(w.KeyringEpoch("web", w.Nodes[3], m.Need))
	out := append(h.catchUp(), h.pass(auth.EpochPatience*time.Millisecond/2)...)
	none[MakeEpoch](t, out)
	if m := one[MakeEpoch](t, h.pass(auth.EpochPatience*time.Millisecond)); m.Need != 1 { // nobody came
		t.Errorf("%d of 1 need to hold it", m.Need)
	}
}

// Who knows that its record is behind makes nothing, and a host that just started looks around first.
func TestWhoMakesNoEpoch(t *testing.T) {
	w := ringTown()
	w.remove(7)
	h := w.host(t, 3)
	none[MakeEpoch](t, h.step(Tick{}))
	none[MakeEpoch](t, h.pass(settleFor-time.Millisecond))
	one[MakeEpoch](t, h.pass(time.Second))

	h = w.host(t, 3)
	h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, func(b *auth.Beacon) { b.RecordLen++ })})
	none[MakeEpoch](t, h.pass(time.Minute))
}

// An epoch that was not taken is tried again, ever more seldom.
func TestEpochIsTriedAgain(t *testing.T) {
	w := ringTown()
	h := w.holder(t, 3, w.seedName(1))
	w.remove(7)
	h.catchUp()
	tries := makers([]*host{h}, 20*time.Minute)[h.me]
	if len(tries) < 15 || len(tries) > 40 {
		t.Errorf("%d tries in twenty minutes", len(tries))
	}
	none[MakeEpoch](t, h.pass(time.Second))
	w.take(w.KeyringEpoch("web", w.Nodes[4], 2))
	w.take(w.KeyringHolding("web", w.Nodes[5]))
	none[MakeEpoch](t, append(h.catchUp(), h.pass(5*time.Minute)...))
}

// A new epoch waits for members to hold it: those who have it say so, a few at once.
func TestHoldingsAreTold(t *testing.T) {
	w := newTown(24, 3)
	w.take(w.NewKeyring("web", "tag.role=web"))
	w.take(w.ChangeKeyring("web", "tag.role=web", true))
	w.take(w.KeyringEpoch("web", w.Nodes[3], 3))
	told := map[time.Duration]int{}
	for i := 4; i < 24; i++ {
		h := w.settled(t, i)
		h.node.keepSeed(w.seedName(1))
		h.step(Tick{})
		began := h.at.Boot
		held := of[TellHolding](h.step(SeedsFetched{From: w.Nodes[3].ID, Life: w.Keyring("web").Life, Kept: []SeedName{w.seedName(2)}}))
		for len(held) == 0 && h.at.Boot < began+time.Minute {
			held = of[TellHolding](h.pass(holdGap))
		}
		if len(held) != 1 || held[0].Number != 2 || held[0].Keyring != "web" {
			t.Fatalf("%+v", held)
		}
		told[(h.at.Boot-began)/time.Second]++
		none[TellHolding](t, h.pass(time.Minute)) // no answer yet
		h.step(HoldingTold{Life: held[0].Life, Failed: true})
		if i == 4 {
			one[TellHolding](t, h.pass(time.Minute))
			h.step(HoldingTold{Life: held[0].Life, Failed: true})
		}
		w.wantsNothing(t, h)
	}
	if told[0] > 8 || told[0] < holdFirst-1 {
		t.Errorf("%d tell at once that they hold it: %v", told[0], told)
	}
	h := w.settled(t, 4)
	h.node.keepSeed(w.seedName(1))
	w.take(w.KeyringHolding("web", w.Nodes[5]))
	w.take(w.KeyringHolding("web", w.Nodes[6]))
	h.catchUp()
	h.step(SeedsFetched{From: w.Nodes[3].ID, Life: w.Keyring("web").Life, Kept: []SeedName{w.seedName(2)}})
	none[TellHolding](t, h.pass(time.Minute)) // it is used: nobody needs to know
}

// wantsNothing checks that a host that holds all seeds asks for none.
func (w *town) wantsNothing(t testing.TB, h *host) {
	t.Helper()
	none[FetchSeeds](t, h.pass(time.Minute))
}

// A new epoch is fetched from those who are said to hold it.
func TestNewEpochIsFetchedFromItsMaker(t *testing.T) {
	w := ringTown()
	h := w.holder(t, 4, w.seedName(1))
	w.take(w.ChangeKeyring("web", "tag.role=web", true))
	w.take(w.KeyringEpoch("web", w.Nodes[5], 3))
	out := append(h.catchUp(), h.pass(10*time.Second)...)
	if f := one[FetchSeeds](t, out); f.From != w.Nodes[5].ID || !slices.Equal(f.Numbers, []uint32{2}) {
		t.Errorf("%+v", f)
	}
}

// Of two who made the same epoch, the one that was late lets its seed go; so does everybody with one that was given up.
func TestUselessSeedsGo(t *testing.T) {
	w := ringTown()
	lost := SeedName{w.Keyring("web").Life, 2, fleet.Sum([]byte("another"))}
	h := w.holder(t, 4, w.seedName(1))
	h.step(EpochMade{Life: lost.Life, Kept: []SeedName{lost}, Failed: true})
	w.take(w.ChangeKeyring("web", "tag.role=web", true))
	none[DropSeed](t, h.catchUp()) // it may be taken yet
	w.take(w.KeyringEpoch("web", w.Nodes[5], 3))
	if d := one[DropSeed](t, h.catchUp()); d.Seed != lost {
		t.Errorf("%+v goes", d)
	}
	second := w.seedName(2)
	h.node.keepSeed(second)
	w.Now = w.Now.Add(2 * auth.EpochPatience * time.Millisecond)
	w.take(w.KeyringEpoch("web", w.Nodes[6], 3))
	if d := one[DropSeed](t, h.catchUp()); d.Seed != second {
		t.Errorf("%+v goes", d)
	}
	w.take(w.DeleteKeyring("web"))
	none[DropSeed](t, h.catchUp()) // what was sealed to the first is readable for ever
}

func TestDeletedAndMadeAgain(t *testing.T) {
	w := ringTown()
	old := w.seedName(1)
	h := w.holder(t, 4, old)
	w.take(w.DeleteKeyring("web"))
	w.Now = w.Now.Add(time.Second)
	w.take(w.NewKeyring("web", "tag.role=web"))
	out := append(h.catchUp(), h.pass(time.Second)...)
	if f := one[FetchSeeds](t, out); f.Life == old.Life || f.Life != w.Keyring("web").Life {
		t.Errorf("%+v", f)
	}
	h.step(SeedsFetched{From: w.Nodes[5].ID, Life: old.Life}) // about the other life
	none[DropSeed](t, h.pass(time.Minute))
}

// Time alone makes an epoch due: an operator's key expires.
func TestDueByTime(t *testing.T) {
	w := newTown(8, 3)
	_, added := w.NewOperator("bob", time.Hour, auth.RootTeam)
	w.take(added)
	bob := authtest.Public(w.OperatorPrivate("bob"))
	ada := authtest.Public(w.OperatorPrivate(authtest.OperatorName))
	change := auth.KeyringChange{Header: w.Header(0), Name: "web", Target: "tag.role=web"}
	box := []byte("box")
	change.First = []auth.EpochKey{{Key: authtest.Public(authtest.Private("x")), Escrow: []auth.Escrow{
		{Operator: authtest.OperatorName, Key: fleet.Sum(ada), Box: box}, {Operator: "bob", Key: fleet.Sum(bob), Box: box},
		{Key: fleet.Sum(w.Record.Charter.Recovery()), Box: box},
	}}}
	w.take(authtest.Proposal{Kind: auth.ActKeyring, Data: wire.Marshal(w.Sign(auth.ForKeyring, change))})
	h := w.holder(t, 4, w.seedName(1))
	none[MakeEpoch](t, h.pass(58*time.Minute))
	m := one[MakeEpoch](t, h.pass(3*time.Minute))
	if len(m.Keepers) != 2 {
		t.Errorf("sealed for %v", m.Keepers)
	}
}
