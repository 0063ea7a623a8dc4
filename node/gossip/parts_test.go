package gossip

import (
	"bytes"
	"crypto/ed25519"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func testKey() (fleet.ID, ed25519.PrivateKey) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	return fleet.Sum(key.Public().(ed25519.PublicKey)), key
}

func TestTagRoundTrip(t *testing.T) {
	_, key := testKey()
	fleetID := fleet.Sum([]byte("f"))
	full := tag{seq: 1 << 63, leaving: true}
	for i := range maxAddrs {
		full.addrs = append(full.addrs, netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}), 65535))
	}
	relays := []fleet.ID{fleet.Sum([]byte("a")), fleet.Sum([]byte("b"))}
	for _, want := range []tag{{seq: 1, addrs: []netip.AddrPort{addrOf(1)}}, full, {seq: 2, via: relays}, {seq: 3, leaving: true, via: relays[:1]}} {
		raw := want.sign(fleetID, key)
		got, err := openTag(fleetID, key.Public().(ed25519.PublicKey), raw)
		if err != nil || got.seq != want.seq || got.leaving != want.leaving || !slices.Equal(got.addrs, want.addrs) || !slices.Equal(got.via, want.via) {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
		if len(raw) > maxTag {
			t.Errorf("%d bytes", len(raw))
		}
		for i := range raw {
			bent := bytes.Clone(raw)
			bent[i] ^= 1
			if _, err := openTag(fleetID, key.Public().(ed25519.PublicKey), bent); err == nil {
				t.Errorf("byte %d may change", i)
			}
		}
	}
	for name, bad := range map[string]tag{
		"no relay":     {seq: 1},
		"three relays": {seq: 1, via: append(relays, fleet.Sum([]byte("c")))},
		"one twice":    {seq: 1, via: []fleet.ID{relays[0], relays[0]}},
		"nobody":       {seq: 1, via: []fleet.ID{{}}},
	} {
		if got, err := openTag(fleetID, key.Public().(ed25519.PublicKey), bad.sign(fleetID, key)); err == nil {
			t.Errorf("%s: taken as %+v", name, got)
		}
	}
	both := wire.Marshal(viaBody{Seq: 1, Addrs: [][]byte{{10, 0, 0, 1, 31, 44}}, Via: [][]byte{relays[0][:]}})
	short := wire.Marshal(viaBody{Seq: 1, Addrs: [][]byte{}, Via: [][]byte{relays[0][:31]}})
	for _, bad := range [][]byte{both, short} {
		if got, err := decodeTag(bad); err == nil {
			t.Errorf("%x is taken as %+v", bad, got)
		}
	}
	for _, bad := range []string{"0.0.0.0:1", "10.0.0.1:0", "224.0.0.1:1", "[::]:1", "[fe80::1%eth0]:1", "[::ffff:10.0.0.1]:1"} {
		if checkAddrs([]netip.AddrPort{netip.MustParseAddrPort(bad)}) == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	if checkAddrs(nil) == nil || checkAddrs(make([]netip.AddrPort, maxAddrs+1)) == nil {
		t.Error("none, or too many addresses are accepted")
	}
}

func FuzzTag(f *testing.F) {
	_, key := testKey()
	fleetID := fleet.Sum([]byte("f"))
	f.Add(tag{seq: 1, addrs: []netip.AddrPort{addrOf(1)}}.sign(fleetID, key))
	f.Add([]byte{0x92, 0xc4, 0, 0xc4, 0})
	f.Add([]byte{0x93, 1, 0xc2, 0x91, 0xc4, 6, 10, 0, 0, 1, 31, 44})
	genuine := tag{seq: 1, addrs: []netip.AddrPort{addrOf(1)}}.sign(fleetID, key)
	hidden := tag{seq: 7, via: []fleet.ID{fleet.Sum([]byte("a")), fleet.Sum([]byte("b"))}}.sign(fleetID, key)
	f.Add(hidden)
	f.Add(hidden[3:])
	f.Add(tag{seq: 1 << 63, leaving: true, addrs: []netip.AddrPort{netip.MustParseAddrPort("[fd00::1]:7980"), addrOf(2)}}.sign(fleetID, key)[4:])
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := openTag(fleetID, key.Public().(ed25519.PublicKey), raw); (err == nil) != (bytes.Equal(raw, genuine) || bytes.Equal(raw, hidden)) {
			t.Fatalf("%x: %v", raw, err)
		}
		got, err := decodeTag(raw)
		if err != nil {
			return
		}
		again, err := openTag(fleetID, key.Public().(ed25519.PublicKey), got.sign(fleetID, key))
		if err != nil || again.seq != got.seq || again.leaving != got.leaving || !slices.Equal(again.addrs, got.addrs) || !slices.Equal(again.via, got.via) {
			t.Fatalf("%+v came back as %+v, %v", got, again, err)
		}
		if hidden := len(got.via) > 0; hidden && (len(got.addrs) > 0 || checkVia(got.via) != nil) || !hidden && checkAddrs(got.addrs) != nil {
			t.Fatalf("%+v came back as %+v, %v", got, again, err)
		}
	})
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		held, offered uint64
		raw           string
		want          verdict
	}{
		{5, 5, "held", same}, {5, 6, "other", newer}, {5, 5, "other", stale}, {5, 4, "other", stale},
	} {
		if got := judge(c.held, "held", c.offered, c.raw); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestAdmit(t *testing.T) {
	ping, user, dead := []byte{msgPing, 0x80}, []byte{8, 0, 1}, []byte{msgDead, 0x80}
	for name, c := range map[string]struct {
		packet, want []byte
	}{
		"a ping":                {ping, ping},
		"a checksum":            {append([]byte{msgCRC, 1, 2, 3, 4}, dead...), dead},
		"a user message":        {user, nil},
		"compressed":            {[]byte{9, 1, 2}, nil},
		"encrypted":             {[]byte{10, 1, 2}, nil},
		"a state":               {[]byte{msgPushPull, 1, 2}, nil},
		"labelled":              {[]byte{244, 1, 2}, nil},
		"empty":                 {nil, nil},
		"a type alone":          {[]byte{msgPing}, nil},
		"two":                   {joinCompound([][]byte{ping, dead}), joinCompound([][]byte{ping, dead})},
		"one of two":            {joinCompound([][]byte{ping, user}), ping},
		"two of three":          {joinCompound([][]byte{ping, user, dead}), joinCompound([][]byte{ping, dead})},
		"none of two":           {joinCompound([][]byte{user, user}), nil},
		"nested":                {joinCompound([][]byte{joinCompound([][]byte{user})}), nil},
		"a nested checksum":     {joinCompound([][]byte{append([]byte{msgCRC, 1, 2, 3, 4}, user...)}), nil},
		"a compound cut short":  {joinCompound([][]byte{ping, dead})[:7], nil},
		"a compound of no part": {[]byte{msgCompound, 0}, nil},
		"bytes behind it":       {append(joinCompound([][]byte{ping}), 0), nil},
	} {
		got, ok := admit(c.packet)
		if ok != (c.want != nil) || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, ok)
		}
	}
}

func TestShortForms(t *testing.T) {
	self, _ := testKey()
	other := fleet.Sum([]byte("other"))
	origin := net.ParseIP(everywhere).To4()
	ping := encodeList(msgPing, listPing{1 << 31, self.Text(), origin, everywherePort, other.Text()})
	short := shorten(ping)
	if len(short) != shortPingLen {
		t.Errorf("a ping takes %d bytes", len(short))
	}
	if got, ok := lengthen(short, self, origin); !ok || !bytes.Equal(got, ping) {
		t.Errorf("%q, %v", got, ok)
	}
	if _, ok := lengthen(short, other, origin); ok {
		t.Error("a ping for another node is taken")
	}
	ack := encodeList(msgAck, listAck{9, []byte("12345678")})
	if got, ok := lengthen(shorten(ack), self, origin); !ok || !bytes.Equal(got, ack) || len(shorten(ack)) != 13 {
		t.Errorf("%q, %v", got, ok)
	}
	for _, as := range [][]byte{{msgPing}, {msgPing, 0xc1}, {msgDead, 1, 2}, encodeList(msgPing, listPing{Node: "x"})} {
		if !bytes.Equal(shorten(as), as) {
			t.Errorf("%q does not stay as it is", as)
		}
	}
}

func FuzzPacket(f *testing.F) {
	self, _ := testKey()
	origin := net.ParseIP(everywhere).To4()
	f.Add(lengthenForTest(self, self))
	f.Add(shorten(lengthenForTest(self, self)))
	f.Add(joinCompound([][]byte{{msgPing, 1}, {8, 1}, {msgDead, 2}}))
	f.Add([]byte{shortAck, 0, 0, 0, 1})
	f.Add(append([]byte{msgCRC, 1, 2, 3, 4}, lengthenForTest(self, self)...))
	f.Add(encodeList(msgAck, listAck{9, []byte("12345678")}))
	f.Add(joinCompound([][]byte{alive(self, 1, []byte("tag")), {msgCompound, 1, 0, 2, 8, 1}, {msgSuspect, 0x80}}))
	f.Fuzz(func(t *testing.T, packet []byte) {
		long, ok := lengthen(packet, self, origin)
		if !ok {
			return
		}
		if len(long) > len(packet)+200 {
			t.Fatalf("%d bytes are made of %d", len(long), len(packet))
		}
		msg, ok := admit(long)
		if !ok {
			return
		}
		if again, ok := admit(msg); !ok || !bytes.Equal(again, msg) || len(msg) > len(long) {
			t.Fatalf("%q is admitted as %q, then as %q", packet, msg, again)
		}
		for _, part := range partsOf(msg) { // a second reading of compounds
			switch part[0] {
			case msgPing, msgIndirect, msgAck, msgSuspect, msgAlive, msgDead, msgNack:
			default:
				t.Fatalf("%q lets a message of type %d in", packet, part[0])
			}
		}
		if short := shorten(msg); len(short) > max(len(msg), 5) { // an ack of nothing has 5
			t.Fatalf("%q grows to %q", msg, short)
		}
	})
}

// partsOf lists the messages of an admitted packet.
func partsOf(packet []byte) (out [][]byte) {
	if packet[0] != msgCompound {
		return [][]byte{packet}
	}
	at := 2 + 2*int(packet[1])
	for i := range int(packet[1]) {
		n := int(packet[2+2*i])<<8 | int(packet[3+2*i])
		out = append(out, packet[at:at+n])
		at += n
	}
	return out
}

func state(t testing.TB, nodes, user int) []byte {
	t.Helper()
	raw := encodeList(msgPushPull, stateHeader{nodes, user, true})
	raw = append(raw, bytes.Repeat([]byte{'n'}, 200)...)
	return append(raw, bytes.Repeat([]byte{'u'}, min(user, 1000))...)
}

func TestStreamGuard(t *testing.T) {
	for name, c := range map[string]struct {
		sent     []byte
		incoming bool
		ok       bool
	}{
		"a state":               {state(t, 1, 0), true, true},
		"an answer":             {state(t, 1, 0), false, true},
		"an error as answer":    {[]byte{msgError, 0x80}, false, true},
		"an error as request":   {[]byte{msgError, 0x80}, true, false},
		"a million nodes":       {state(t, 1_000_000, 0), true, false},
		"no node":               {state(t, 0, 0), true, false},
		"negative":              {state(t, -1, 0), true, false},
		"serf's part":           {state(t, 1, 10), true, false},
		"a ping":                {append([]byte{msgPing}, make([]byte, 100)...), true, false},
		"a user message":        {append([]byte{8}, make([]byte, 100)...), true, false},
		"compressed":            {append([]byte{9}, make([]byte, 100)...), true, false},
		"labelled":              {append([]byte{244, 3}, make([]byte, 100)...), true, false},
		"a header without keys": {append([]byte{msgPushPull, 0x80}, make([]byte, 100)...), true, false},
		"cut short":             {state(t, 1, 0)[:20], true, false},
	} {
		near, far := net.Pipe()
		go func() {
			_, _ = far.Write(c.sent)
			_ = far.Close()
		}()
		closed := 0
		g := guard(near, c.incoming, func() { closed++ })
		got, err := io.ReadAll(g)
		if (err == nil) != c.ok || (c.ok && !bytes.Equal(got, c.sent)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		_ = g.Close()
		if _ = g.Close(); closed != 1 {
			t.Errorf("%s: closed %d times", name, closed)
		}
	}
}

func TestStreamIsCutAtItsClaim(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		_, _ = far.Write(append(state(t, 1, 0), make([]byte, 1<<20)...))
	}()
	got, err := io.ReadAll(guard(near, true, func() {}))
	if err != nil || len(got) > headerRoom+nodeStateSize {
		t.Errorf("%d bytes for one node, %v", len(got), err)
	}
	_ = near.Close()
}

func TestStreamSendsNoUserState(t *testing.T) {
	out, err := withoutUserState(state(t, 3, 100))
	if err != nil || bytes.Contains(out, []byte("uu")) || !bytes.HasSuffix(out, []byte("nn")) {
		t.Errorf("%q, %v", out, err)
	}
	if h, _, err := readHeader(out[1:]); err != nil || h != (stateHeader{3, 0, true}) {
		t.Errorf("%+v, %v", h, err)
	}
	if _, err := withoutUserState(state(t, 3, 1<<30)); err == nil {
		t.Error("more user state than there is")
	}
}

func FuzzStateHeader(f *testing.F) {
	f.Add(state(f, 3, 5)[1:])
	f.Add([]byte{0x83, 0xa5, 'N', 'o', 'd', 'e', 's', 1})
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, n, err := readHeader(data)
		if err != nil {
			return
		}
		raw, _ := msgpack.Marshal(h)
		if again, _, err := readHeader(raw); err != nil || again != h || n > len(data) {
			t.Fatalf("%+v came back as %+v, %v", h, again, err)
		}
	})
}

func TestDrift(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	var d drift
	asked := 0
	differ := func(from, to int) (asks []int) {
		for s := from; s < to; s++ {
			if d.compare(start.Add(time.Duration(s)*time.Second), 1, 2) {
				asks = append(asks, s-from)
				asked++
			}
		}
		return asks
	}
	if got := differ(0, 100); !slices.Equal(got, []int{3, 13, 33, 73}) {
		t.Errorf("exchanges at %v", got)
	}
	for s := 100; s < 110; s++ { // agreement ends the waiting
		d.compare(start.Add(time.Duration(s)*time.Second), 1, 1)
	}
	if got := differ(160, 180); len(got) == 0 || got[0] > 5 {
		t.Errorf("exchanges at %v", got)
	}
	var one drift // a single one who is behind is no reason for us
	for s := range 100 {
		theirs := uint64(1)
		if s%5 == 0 {
			theirs = 2
		}
		if one.compare(start.Add(time.Duration(s)*time.Second), 1, theirs) {
			t.Error("an exchange because of one who is behind")
		}
	}
}

func TestFeedKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFeed()
		last := make(map[fleet.ID]Event)
		for i := range rapid.IntRange(1, 100).Draw(t, "events") {
			id := fleet.ID{byte(rapid.IntRange(0, 5).Draw(t, "member"))}
			e := Event{Change(rapid.IntRange(1, 4).Draw(t, "change")), Member{ID: id, Seq: uint64(i)}}
			f.put(e)
			if held, ok := last[id]; ok && e.Change == Updated {
				e.Change = held.Change
			}
			last[id] = e
			if len(f.order) > 6 {
				t.Fatalf("%d events of 6 members", len(f.order))
			}
		}
		for range len(last) {
			e, ok := f.take()
			if !ok || e.Change != last[e.Member.ID].Change || e.Member.Seq != last[e.Member.ID].Member.Seq {
				t.Fatalf("%+v, want %+v", e, last[e.Member.ID])
			}
		}
		if _, ok := f.take(); ok {
			t.Fatal("one too many")
		}
	})
}

func TestChooseAddress(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	ago := func(s int) time.Time { return now.Add(-time.Duration(s) * time.Second) }
	for _, c := range []struct {
		heard []time.Time
		turn  int
		want  int
	}{
		{[]time.Time{{}}, 3, 0},
		{[]time.Time{{}, {}}, 0, 0},
		{[]time.Time{{}, {}}, 1, 1},
		{[]time.Time{ago(20), ago(5)}, 0, 1},
		{[]time.Time{ago(5), ago(20)}, 1, 0},
		{[]time.Time{ago(50), ago(40)}, 2, 0},
	} {
		if got := choose(c.heard, now, c.turn); got != c.want {
			t.Errorf("%v at turn %d: %d", c.heard, c.turn, got)
		}
	}
}

func TestBookDigest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := newBook(), newBook()
		n := rapid.IntRange(1, 6).Draw(t, "members")
		for i := range n {
			id := fleet.ID{byte(i)}
			one := tag{seq: uint64(i) + 1, addrs: []netip.AddrPort{addrOf(i)}}
			a.take(id, "x", tag{seq: 0, addrs: one.addrs})
			a.turned(id.Text(), true)
			a.take(id, "one", one)
			b.take(id, "one", one)
			if a.summary() == b.summary() {
				t.Fatal("a member that is not there counts")
			}
			b.turned(id.Text(), true)
		}
		if a.summary() != b.summary() {
			t.Fatal("the way there matters")
		}
		gone := fleet.ID{byte(rapid.IntRange(0, n-1).Draw(t, "gone"))}
		a.evict(gone)
		b.turned(gone.Text(), false)
		if a.summary() != b.summary() || len(a.byAddr) != n-1 {
			t.Fatal("evicted and lost differ")
		}
	})
}

func TestLogLines(t *testing.T) {
	var out bytes.Buffer
	logger := newListLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	logger.Printf("[WARN] memberlist: text %d", 1)
	logger.Print("Err: bare")
	if got := out.String(); !strings.Contains(got, `level=DEBUG msg="memberlist: text 1" said=warn`) || !strings.Contains(got, `msg="Err: bare" said=info`) {
		t.Error(got)
	}
	out.Reset()
	quiet := newListLog(slog.New(slog.NewTextHandler(&out, nil)))
	quiet.Print("[ERR] serf: x")
	if out.Len() != 0 {
		t.Error("logged above debug level")
	}
}
