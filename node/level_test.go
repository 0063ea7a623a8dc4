package node

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestNextLevel(t *testing.T) {
	id := func(n byte) fleet.ID { return fleet.ID{n} }
	server := func(n byte, online bool, l fleet.Level) Supporter {
		return Supporter{ID: id(n), Server: true, Online: online, Level: l}
	}
	host := func(n byte, online bool, l fleet.Level) Supporter {
		return Supporter{ID: id(n), Online: online, Level: l}
	}
	for _, c := range []struct {
		name    string
		hosts   []Supporter
		to      fleet.Level
		holding []byte
	}{
		{"alone", []Supporter{server(1, true, 3)}, 3, nil},
		{"all the same", []Supporter{server(1, true, 3), host(2, true, 3)}, 3, nil},
		{"an old server", []Supporter{server(1, true, 3), server(2, true, 1)}, 1, []byte{2}},
		{"half-way", []Supporter{server(1, true, 3), host(2, true, 2)}, 2, []byte{2}},
		{"a server that is silent", []Supporter{server(1, true, 3), server(2, false, 0)}, 1, []byte{2}},
		{"a server that is away and has said", []Supporter{server(1, true, 3), server(2, false, 3)}, 3, nil},
		{"a host that is silent", []Supporter{server(1, true, 3), host(2, true, 0)}, 1, []byte{2}},
		{"a host that is away", []Supporter{server(1, true, 3), host(2, false, 0), host(3, false, 1)}, 3, []byte{2, 3}},
		{"a newer one", []Supporter{server(1, true, 3), host(2, true, 9)}, 3, nil},
		{"who counts comes first", []Supporter{host(1, false, 0), host(2, true, 1), server(3, true, 1), server(4, true, 3)}, 1, []byte{3, 2, 1}},
	} {
		to, holding := NextLevel(1, 3, c.hosts)
		var got []byte
		for _, h := range holding {
			got = append(got, h.ID[0])
		}
		if to != c.to || !slices.Equal(got, c.holding) {
			t.Errorf("%s: to %d, held by %v; want %d, %v", c.name, to, got, c.to, c.holding)
		}
	}
}

func TestVersionSkew(t *testing.T) {
	for want, hosts := range map[string]map[string]int{
		"":                                 {"1.0": 5, "1.1": 3},
		"(1.0 on 5, 1.1 on 3, 1.2 on 1): ": {"1.1": 3, "1.0": 5, "1.2": 1},
	} {
		if got := VersionSkew(hosts); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%v: %q", hosts, got)
		}
	}
}

// The level never goes back, never beyond what this program or a host that counts supports, and is held back by nobody only
// when it is reached.
func TestNextLevelBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.Custom(func(t *rapid.T) fleet.Level { return fleet.Level(rapid.IntRange(0, 4).Draw(t, "level")) })
		have, own := max(1, level.Draw(t, "have")), max(1, level.Draw(t, "own"))
		var hosts []Supporter
		for i := range rapid.IntRange(0, 6).Draw(t, "hosts") {
			hosts = append(hosts, Supporter{
				ID: fleet.ID{byte(i)}, Server: rapid.Bool().Draw(t, "server"), Online: rapid.Bool().Draw(t, "online"), Level: level.Draw(t, "supports"),
			})
		}
		to, holding := NextLevel(have, own, hosts)
		if to < have || to > max(have, own) {
			t.Fatalf("from %d to %d with a program of %d", have, to, own)
		}
		for _, h := range hosts {
			if to > have && (h.Server || h.Online) && h.Level < to {
				t.Fatalf("to %d, which %+v does not support", to, h)
			}
			if (h.Level < own) != slices.Contains(holding, h) {
				t.Fatalf("%+v among those who hold %d back: %v", h, own, holding)
			}
		}
	})
}

// A node that meets an act which only a newer version understands keeps what it has, says so once, asks again, and goes on
// when it can.
func TestRecordOutgrowsNode(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	server, before := w.Nodes[1].ID, h.node.record.Length
	good := w.take(w.TagNode(w.Nodes[4].ID, map[string]string{"role": "db"}, false))
	strange := auth.Act{Index: good.Index + 1, Time: good.Time, Kind: 200, Data: []byte{1}}
	h.step(BeaconHeard{From: server, Envelope: w.beacon(1, func(b *auth.Beacon) { b.RecordLen++; b.Act = strange.Index; b.RecordHead = fleet.ID{9} })})
	out := h.step(ActsFetched{From: server, Acts: []auth.Act{good, strange}})
	if said := of[Outgrown](out); len(said) != 1 || !strings.Contains(said[0].Why, "act of kind 200") || len(of[Warn](out)) != 1 {
		t.Fatalf("it says %+v, %+v", said, of[Warn](out))
	}
	if h.node.record.Length != before+1 {
		t.Errorf("record of %d acts, want %d", h.node.record.Length, before+1)
	}
	out = h.step(ActsFetched{From: server, Acts: []auth.Act{strange}})
	if len(of[Outgrown](out)) != 0 || len(of[Warn](out)) != 0 {
		t.Error("it says so again")
	}
	if out := h.pass(newerAfter / 2); len(of[FetchActs](out)) != 0 {
		t.Error("it asks again at once")
	}
	if out := h.pass(newerAfter); len(of[FetchActs](out)) != 1 {
		t.Error("it does not ask again")
	}
	next := w.take(w.TagNode(w.Nodes[4].ID, map[string]string{"role": "web"}, false))
	out = h.step(ActsFetched{From: server, Acts: []auth.Act{next}})
	if said := of[Outgrown](out); len(said) != 1 || said[0].Why != "" {
		t.Errorf("it goes on, and says %+v", said)
	}
}

// A member, whose word on the order of acts does not count, cannot make a node say that it is outgrown.
func TestMemberCannotOutgrowNode(t *testing.T) {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	act := auth.Act{Index: w.act + 1, Time: w.Record.Time, Kind: 200, Data: []byte{1}}
	h.step(BellHeard{Bell{Kind: BellRecord, Act: act.Index, Holders: []fleet.ID{w.Nodes[4].ID}}})
	if said := of[Outgrown](h.step(ActsFetched{From: w.Nodes[4].ID, Acts: []auth.Act{act}})); len(said) != 0 {
		t.Errorf("it says %+v", said)
	}
}
