package release

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// TestGiver: of its own accord a host gives each chunk Copies times, the least given first; to one host never more than
// GivesPerPeer times the build.
func TestGiver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chunks := rapid.IntRange(1, 20).Draw(t, "chunks")
		g, have := NewGiver(chunks, rapid.Uint64().Draw(t, "seed")), NewBits(chunks)
		given, own, insisted := map[int]int{}, map[fleet.ID]int{}, map[int]int{}
		for step := range rapid.IntRange(0, 200).Draw(t, "steps") {
			have.Put(rapid.IntRange(0, chunks-1).Draw(t, "new"))
			want := NewBits(chunks)
			for range rapid.IntRange(0, 4).Draw(t, "wants") {
				want.Put(rapid.IntRange(0, chunks-1).Draw(t, "wanted"))
			}
			to, insist := simID(rapid.IntRange(0, 3).Draw(t, "to")), rapid.Bool().Draw(t, "insists")
			now := time.Duration(step) * time.Second
			index, ok, spent, err := g.Give(now, to, have, Ask{want, insist})
			if !ok {
				if err == nil && !spent && want.and(have).Count() > 0 {
					t.Fatal("what is here is not given, and it is not said why")
				}
				continue
			}
			if !have.Has(index) || !want.Has(index) {
				t.Fatalf("chunk %d is given", index)
			}
			for _, n := range want.and(have).All() {
				if given[n] < given[index] {
					t.Fatalf("chunk %d was given less than %d", n, index)
				}
			}
			if given[index] >= Copies {
				if !insist {
					t.Fatalf("chunk %d is given a %d. time", index, given[index]+1)
				}
				insisted[index]++
			}
			given[index]++
			if own[to]++; own[to] > GivesPerPeer*chunks {
				t.Fatal("one host is given too much")
			}
			if rapid.IntRange(0, 9).Draw(t, "lost") == 0 {
				g.Lost(to, index)
				given[index]--
				own[to]--
			}
			names := g.Names(now, to)
			if len(names) > MaxNames {
				t.Fatal("too many are named")
			}
			for _, id := range names {
				if id == to {
					t.Fatal("who asks is named to itself")
				}
			}
		}
		sum := 0
		for _, n := range given {
			sum += n
		}
		if g.Given() != sum {
			t.Fatalf("%d were given, and %d are counted", sum, g.Given())
		}
	})
}

// TestGiverForgets: however many ask, no more than so many are remembered; and who comes back after an hour begins anew.
func TestGiverForgets(t *testing.T) {
	g, have := NewGiver(1, 1), Bits{1}
	for n := range maxTakers + 10 {
		_, _, _, _ = g.Give(time.Duration(n), simID(n), have, Ask{have, true})
	}
	if len(g.takers) > maxTakers {
		t.Errorf("%d are remembered", len(g.takers))
	}
	for range GivesPerPeer {
		if _, ok, _, err := g.Give(time.Minute, simID(-7), have, Ask{have, true}); !ok || err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := g.Give(time.Minute, simID(-7), have, Ask{have, true}); fleet.KindOf(err) != fleet.Exhausted {
		t.Error("a host is given a chunk without end:", err)
	}
	if _, ok, _, err := g.Give(time.Minute+forgetAfter+1, simID(-7), have, Ask{have, true}); !ok || err != nil {
		t.Error("it is never given again:", err)
	}
}

// TestSwarmWhateverIsSaid: whatever others say and in whatever order, a Swarm asks only whom it has a stream to, few of them, for
// what it has not; it holds back from liars, and its memory is bounded.
func TestSwarmWhateverIsSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chunks := rapid.IntRange(1, 40).Draw(t, "chunks")
		bits := func(what string) Bits {
			b := NewBits(chunks)
			for range rapid.IntRange(0, 10).Draw(t, what) {
				b.Put(rapid.IntRange(0, chunks-1).Draw(t, what))
			}
			return b
		}
		who := func() fleet.ID { return simID(rapid.IntRange(0, 12).Draw(t, "who")) }
		names := func() []fleet.ID {
			out := make([]fleet.ID, rapid.IntRange(0, MaxNames).Draw(t, "names"))
			for i := range out {
				out[i] = simID(rapid.IntRange(0, 200).Draw(t, "name"))
			}
			return out
		}
		now := time.Hour
		s := NewSwarm(simID(0), chunks, bits("had"), []fleet.ID{simID(1), simID(2)}, now, rapid.Uint64().Draw(t, "seed"))
		open, liars := map[fleet.ID]int{}, map[fleet.ID]bool{} // asks under way
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond
			id := who()
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				s.Opened(now, id, Hello{bits("have"), names(), rapid.Bool().Draw(t, "busy")})
			case 1, 2:
				held := rapid.IntRange(0, 5).Draw(t, "held") > 0
				index := rapid.IntRange(0, chunks-1).Draw(t, "index")
				had := s.Have().Has(index)
				if s.Took(now, id, Chunk{index, bits("have"), names(), nil}, held) && (!held || had) {
					t.Fatal("what is no chunk, or was here, counts as new")
				}
			case 3:
				s.None(now, id, None{bits("have"), rapid.Bool().Draw(t, "spent"), names()})
			case 4:
				s.Lost(now, id, "lost")
				delete(open, id)
			case 5:
				s.Lied(id)
			case 6:
				s.Meet(names()...)
			}
			for id := range s.peers {
				if s.Banned(id) {
					liars[id] = true
					delete(open, id)
				}
			}
			moves, wake, err := s.Next(now)
			if err != nil {
				if len(moves) > 0 {
					t.Fatal("it gives up and goes on")
				}
				return
			}
			if wake <= now {
				t.Fatal("it never sleeps")
			}
			for _, m := range moves {
				switch m := m.(type) {
				case Dial:
					if m.Peer == simID(0) || liars[m.Peer] {
						t.Fatalf("%v is dialled", m.Peer)
					}
				case Want:
					if p := s.peers[m.Peer]; p == nil || p.state != peerOpen || len(p.asks) > asksPerPeer {
						t.Fatal("somebody is asked who is not there, or too much")
					}
					if m.Ask.Want.and(s.Have()).Count() > 0 {
						t.Fatal("it asks for what it has")
					}
				case HangUp:
				}
			}
			if s.inUse() > maxOpen || len(s.peers) > maxPeers {
				t.Fatalf("%d streams, %d hosts", s.inUse(), len(s.peers))
			}
		}
	})
}

func TestOpenPutAsk(t *testing.T) {
	f := authtest.Found("release")
	sign := func(by auth.Signer, life time.Duration) auth.Envelope {
		return by.Sign(ForPut, f.ID(), PutAsk{f.Header(life), fleet.Sum([]byte("a release"))})
	}
	if ask, _, err := OpenPut(f.Record.Charter, sign(f.Operator, PutLife), f.Now); err != nil || ask.Digest != fleet.Sum([]byte("a release")) {
		t.Fatal(ask, err)
	}
	for name, e := range map[string]auth.Envelope{
		"a stranger":      sign(key("eve"), PutLife),
		"for good":        sign(f.Operator, 0),
		"too long":        sign(f.Operator, PutLife+time.Minute),
		"another purpose": f.Operator.Sign(auth.ForRequest, f.ID(), PutAsk{f.Header(PutLife), fleet.ID{}}),
	} {
		if _, _, err := OpenPut(f.Record.Charter, e, f.Now); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	if _, _, err := OpenPut(f.Record.Charter, sign(f.Operator, PutLife), f.Now.Add(2*PutLife)); fleet.KindOf(err) != fleet.Expired {
		t.Error("it never ends:", err)
	}
}
