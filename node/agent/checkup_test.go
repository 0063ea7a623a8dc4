package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// wall is a prober of a made-up network: what it lets through answers.
type wall struct {
	mu     sync.Mutex
	closed map[netip.AddrPort]bool
	asked  []netip.AddrPort
	wait   time.Duration
}

func (w *wall) Probe(ctx context.Context, to netip.AddrPort) Probed {
	w.mu.Lock()
	w.asked = append(w.asked, to)
	closed := w.closed[to]
	w.mu.Unlock()
	select {
	case <-time.After(w.wait):
	case <-ctx.Done():
	}
	return Probed{Answered: !closed, RTT: time.Millisecond, Largest: 1472}
}

func (w *wall) ProbeFew(ctx context.Context, to netip.AddrPort) Probed {
	p := w.Probe(ctx, to)
	p.Why = "said by a firewall"
	return p
}

// answering are peers who answer as a function does.
type answering struct {
	*stubPeers
	answer func(id fleet.ID, kind byte, body []byte) (byte, []byte, error)
}

func (p answering) Request(_ context.Context, id fleet.ID, kind byte, body []byte) (byte, []byte, error) {
	return p.answer(id, kind, body)
}

// TestSample: few members, servers among them, those who are there first, never this host itself, and whom one asks for alone.
func TestSample(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []fleet.Member
		for i := range rapid.IntRange(0, 30).Draw(t, "members") {
			all = append(all, fleet.Member{
				ID: fleet.Sum([]byte{byte(i)}), Role: rapid.SampledFrom([]fleet.Role{fleet.Plain, fleet.Spare, fleet.Voter, fleet.Lead}).Draw(t, "role"),
				Status: rapid.SampledFrom([]fleet.Status{fleet.Online, fleet.Online, fleet.ConnectionLost, fleet.Left}).Draw(t, "status"),
			})
		}
		self, only := fleet.Sum([]byte{0}), fleet.ID{}
		if rapid.Bool().Draw(t, "one alone") {
			only = fleet.Sum([]byte{byte(rapid.IntRange(0, 31).Draw(t, "only"))})
		}
		may := slices.DeleteFunc(slices.Clone(all), func(m fleet.Member) bool {
			return m.ID == self || m.Status == fleet.Left && only.IsZero() || !only.IsZero() && m.ID != only
		})
		got := sampleOf(all, self, only, rapid.Int64().Draw(t, "seed"))
		if len(got) != min(len(may), checkupSample) {
			t.Fatalf("%d of %d", len(got), len(may))
		}
		servers := func(list []fleet.Member) (online, all int) {
			for _, m := range list {
				if m.Role == fleet.Voter || m.Role == fleet.Lead {
					all++
					if m.Status == fleet.Online {
						online++
					}
				}
			}
			return online, all
		}
		seen := map[fleet.ID]bool{}
		for _, m := range got {
			if seen[m.ID] || !slices.ContainsFunc(may, func(x fleet.Member) bool { return x.ID == m.ID }) {
				t.Fatalf("%+v does not belong there", m)
			}
			seen[m.ID] = true
		}
		onlineThere, there := servers(may)
		onlineHere, here := servers(got)
		if here < min(there, checkupServers) || onlineHere != min(onlineThere, here) {
			t.Fatalf("%d servers, %d online, of %d, %d", here, onlineHere, there, onlineThere)
		}
	})
}

// TestTryForIsBounded: a peer can have packets sent to members' own addresses alone, and to one set of them at a time.
func TestTryForIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		w := &wall{wait: time.Second}
		d.checkups.prober = w
		at := netip.MustParseAddrPort("10.0.0.7:7980")
		var many []netip.AddrPort
		for i := range 10 {
			many = append(many, netip.AddrPortFrom(at.Addr().Next(), uint16(i+1)))
		}
		d.Hint(d.web.ID, many)
		d.Hint(d.db.ID, []netip.AddrPort{at})
		ask := func(peer, of fleet.ID) ([]Tried, error) {
			_, body, err := d.answer(t.Context(), peer, askCheckup, wire.Marshal(checkupAsk{Try: true, Of: of}))
			var got checkupBody
			if err == nil {
				err = wire.Unmarshal(body, &got)
			}
			return triedOf(got.Tried), err
		}
		if tried, err := ask(d.db.ID, d.web.ID); err != nil || len(tried) != checkupAddrs || len(w.asked) != checkupAddrs {
			t.Error(tried, err, w.asked)
		}
		if _, err := ask(d.web.ID, fleet.Sum([]byte("nobody"))); err == nil {
			t.Error("it tries for who is no member")
		}
		var waits sync.WaitGroup
		var refused int
		var mu sync.Mutex
		for range 5 { // the same peer
			waits.Go(func() {
				if _, err := ask(d.db.ID, d.db.ID); fleet.KindOf(err) == fleet.Exhausted && err != nil {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		waits.Wait()
		if refused != 4 {
			t.Errorf("%d of five at once were refused", refused)
		}
		asked := len(w.asked)
		for i := range 3 { // what was found a moment ago is told, and nothing is sent
			if tried, err := ask(fleet.Sum([]byte{byte(i)}), d.db.ID); err != nil || len(tried) != 1 || tried[0].Probed != (Probed{Answered: true}) || len(w.asked) != asked {
				t.Error(tried, err, len(w.asked), asked)
			}
		}
		for range checkupTurns {
			d.checkups.turns <- struct{}{}
		}
		if _, err := ask(d.web.ID, d.db.ID); fleet.KindOf(err) != fleet.Exhausted {
			t.Error("more are served at a time than there are turns:", err)
		}
	})
}

// TestFavours: an address is tried once in a while whoever asks, and few ports of one.
func TestFavours(t *testing.T) {
	t.Parallel()
	var f favours
	at := func(port int) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(port))
	}
	for i := range favourPorts + 3 {
		if mine, _, _ := f.begin(at(i+1), time.Hour); mine != (i < favourPorts) {
			t.Errorf("port %d: %t", i, mine)
		}
	}
	if mine, _, known := f.begin(at(1), time.Hour); mine || known {
		t.Error("one that is under way is tried again, or called silent")
	}
	f.end(at(1), time.Hour, Probed{Answered: true})
	if mine, found, known := f.begin(at(1), time.Hour); mine || !known || !found.Answered {
		t.Error(mine, found, known)
	}
	if mine, _, _ := f.begin(at(1), time.Hour+favourEvery); !mine {
		t.Error("it is never tried again")
	}
}

// TestProbeable: for others nothing is sent to this host itself or to its link, unless they are there.
func TestProbeable(t *testing.T) {
	t.Parallel()
	var all []netip.AddrPort
	for _, text := range []string{"10.0.0.1:1", "127.0.0.1:2", "[::1]:3", "169.254.169.254:4", "[fe80::1]:5", "224.0.0.1:6", "[::ffff:127.0.0.1]:7"} {
		all = append(all, netip.MustParseAddrPort(text))
	}
	if got := probeable(all, netip.MustParseAddrPort("10.0.0.5:9")); len(got) != 1 || got[0] != all[0] {
		t.Error(got)
	}
	if got := probeable(all, netip.AddrPort{}); len(got) != 1 {
		t.Error(got)
	}
	if got := probeable(all, netip.MustParseAddrPort("127.0.0.1:9")); len(got) != 6 {
		t.Error(got)
	}
}

// TestCheckup: what of a way works, what does not, and what a peer of an older version cannot tell.
func TestCheckup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		webAt, dbAt, backAt := netip.MustParseAddrPort("10.0.0.2:7980"), netip.MustParseAddrPort("10.0.0.3:7980"), netip.MustParseAddrPort("10.0.0.1:7980")
		d.checkups.prober = &wall{closed: map[netip.AddrPort]bool{dbAt: true}}
		d.Hint(d.web.ID, []netip.AddrPort{webAt})
		d.Hint(d.db.ID, []netip.AddrPort{dbAt})
		older := false
		d.Agent.peers = answering{d.peers, func(id fleet.ID, kind byte, body []byte) (byte, []byte, error) {
			var ask checkupAsk
			if err := wire.Unmarshal(body, &ask); err != nil || kind != askCheckup {
				t.Error(kind, err)
			}
			if id == d.db.ID {
				return 0, nil, fleet.Errorf(fleet.Unavailable, "no answer")
			}
			if older {
				return 0, nil, fleet.Errorf(fleet.Invalid, "request of kind %d is not understood by this version", kind)
			}
			answer := checkupBody{Time: d.Fleet.Now.Add(time.Minute).UnixMicro(), Version: "7", Level: 3}
			switch {
			case ask.Try && ask.Of == d.db.ID:
				answer.Tried = []triedInfo{{Addr: dbAt.String(), Answered: true, Largest: 1452}}
			case ask.Try:
				answer.Tried = []triedInfo{{Addr: backAt.String(), Why: "silence"}}
			}
			return done, wire.Marshal(answer), nil
		}}
		ways, err := d.Checkup(t.Context(), fleet.ID{})
		if err != nil || len(ways) != 2 {
			t.Fatal(ways, err)
		}
		slices.SortFunc(ways, func(a, b WayCheck) int { return strings.Compare(b.Name, a.Name) })
		web, db := ways[0], ways[1]
		if !web.There[0].Answered || !web.Asked.OK || web.Asked.ClockOff != time.Minute || web.Asked.Version != "7" || web.Asked.Level != 3 ||
			len(web.Back) != 1 || web.Back[0].Answered || web.Back[0].Addr != backAt || web.BackErr != nil || len(web.Others) != 0 {
			t.Errorf("%+v", web)
		}
		if db.There[0].Answered || db.Asked.OK || db.Asked.Err == nil || len(db.Others) != 1 || db.Others[0].By != d.web.ID || !db.Others[0].Tried[0].Answered {
			t.Errorf("%+v", db)
		}
		older = true
		ways, err = d.Checkup(t.Context(), d.web.ID)
		if err != nil || len(ways) != 1 || !ways[0].Asked.Older || ways[0].Asked.Err != nil || len(ways[0].Back) != 0 {
			t.Errorf("%+v, %v", ways, err)
		}
	})
}

// FuzzCheckupAnswer: whatever a peer answers, what is kept of it is bounded.
func FuzzCheckupAnswer(f *testing.F) {
	f.Add(wire.Marshal(checkupBody{Time: 1, Version: "1", Tried: []triedInfo{{Addr: "10.0.0.1:7980", Answered: true, RTT: 1 << 62, Largest: 1 << 31}}}))
	f.Add(wire.Marshal(checkupBody{Tried: slices.Repeat([]triedInfo{{Addr: "[::1]:1"}}, 100)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var body checkupBody
		if wire.Unmarshal(data, &body) != nil {
			return
		}
		tried := triedOf(body.Tried)
		if len(tried) > checkupAddrs {
			t.Fatal(len(tried))
		}
		for _, x := range tried {
			if !x.Addr.IsValid() {
				t.Fatal(fmt.Sprint(x))
			}
		}
	})
}
