package transport

import (
	"bytes"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func TestRank(t *testing.T) {
	for name, c := range map[string]struct {
		worse, better rank
	}{
		"silent gives way":        {rank{suspect: true, byLower: true, serial: 9}, rank{serial: 1}},
		"full gives way":          {rank{full: true, byLower: true, serial: 9}, rank{serial: 1}},
		"slow gives way":          {rank{slow: true, byLower: true, serial: 9}, rank{serial: 1}},
		"full is worse than slow": {rank{full: true, serial: 9}, rank{slow: true, serial: 1}},
		"no pipe if it can be":    {rank{piped: true, byLower: true, serial: 9}, rank{serial: 1}},
		"the uplink carries":      {rank{plain: true, byLower: true, serial: 9}, rank{serial: 1}},
		"a pipe beats a slow way": {rank{slow: true, serial: 9}, rank{piped: true, serial: 1}},
		"the lower's dial stands": {rank{serial: 9}, rank{byLower: true, serial: 1}},
		"else the newer":          {rank{byLower: true, serial: 1}, rank{byLower: true, serial: 2}},
	} {
		if !c.worse.before(c.better) || c.better.before(c.worse) {
			t.Error(name)
		}
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	now := time.Unix(1000, 0)
	passed := func(n int) int {
		count := 0
		for range n {
			if b.take(now, 10, 3) {
				count++
			}
		}
		return count
	}
	if n := passed(9); n != 3 {
		t.Fatalf("burst of %d", n)
	}
	now = now.Add(200 * time.Millisecond)
	if n := passed(9); n != 2 {
		t.Fatalf("%d after 200 ms at 10 a second", n)
	}
	now = now.Add(-time.Hour) // a clock that goes back gives nothing, and takes nothing
	if n := passed(9); n != 0 {
		t.Fatalf("%d after the clock went back", n)
	}
	now = now.Add(time.Hour)
	if n := passed(9); n != 3 {
		t.Fatalf("%d after an hour", n)
	}
}

func TestHalfOpenLimits(t *testing.T) {
	d := newDoor()
	var leave []func()
	enter := func(addr string) bool {
		l, err := d.enter(netip.MustParseAddr(addr))
		if err == nil {
			leave = append(leave, l)
		}
		return err == nil
	}
	for range maxHalfOpenPerNet {
		if !enter("192.0.2.1") {
			t.Fatal("refused within the limit")
		}
	}
	if enter("192.0.2.200") || enter("::ffff:192.0.2.7") {
		t.Fatal("the /24 is over its limit")
	}
	if !enter("192.0.3.1") {
		t.Fatal("another /24 pays for it")
	}
	for range maxHalfOpenPerNet {
		enter("2001:db8:0:ff::1")
	}
	if enter("2001:db8:0:01::1") || !enter("2001:db8:0:100::1") {
		t.Fatal("IPv6 is not counted per /56")
	}
	for enter("127.0.0.1") {
		if len(leave) > maxHalfOpen {
			t.Fatal("over the total")
		}
	}
	if len(leave) != maxHalfOpen {
		t.Fatalf("loopback stopped at %d in all, not %d", len(leave), maxHalfOpen)
	}
	if !d.mustProve(time.Unix(1000, 0)) {
		t.Fatal("a full house asks nobody for proof")
	}
	for _, l := range leave {
		l()
		l() // twice does no harm
	}
	if d.halfOpen != 0 || len(d.perNet) != 0 || !enter("192.0.2.1") {
		t.Fatalf("%d places and %d networks left behind", d.halfOpen, len(d.perNet))
	}
}

// TestHalfOpenLimitsOfPipes: they count for the relay, whatever askers it names, and take nothing from the socket.
func TestHalfOpenLimitsOfPipes(t *testing.T) {
	d := newDoor()
	var leave []func()
	fill := func(by, from byte) (n int) {
		for {
			l, err := d.enterPiped(idOf(by), idOf(from))
			if err != nil {
				return n
			}
			n++
			leave = append(leave, l)
		}
	}
	if n := fill(1, 9); n != maxHalfOpenFor {
		t.Errorf("%d for one asker", n)
	}
	sum := maxHalfOpenFor
	for from := byte(10); from < 30; from++ {
		sum += fill(1, from)
	}
	if sum != maxHalfOpenBy {
		t.Errorf("%d of one relay", sum)
	}
	if n := fill(2, 9); n != maxHalfOpenFor {
		t.Errorf("another relay's pays for it: %d", n)
	}
	for by := byte(3); by < 30; by++ {
		for from := byte(10); from < 20; from++ {
			fill(by, from)
		}
	}
	if len(leave) != maxHalfOpenPiped {
		t.Errorf("%d in all", len(leave))
	}
	socket, err := d.enter(netip.MustParseAddr("192.0.2.1"))
	if err != nil || d.halfOpen != 1 {
		t.Errorf("whoever comes by the socket pays for it: %v", err)
	}
	for _, l := range append(leave, socket) {
		l()
		l()
	}
	if d.halfOpen != 0 || len(d.piped) != 0 {
		t.Errorf("left: %d, %v", d.halfOpen, d.piped)
	}
}

func TestRetryAboveARate(t *testing.T) {
	d, now := newDoor(), time.Unix(1000, 0)
	for range retryRate {
		if d.mustProve(now) {
			t.Fatal("asked below the rate")
		}
	}
	if !d.mustProve(now) {
		t.Fatal("not asked above the rate")
	}
	if d.mustProve(now.Add(time.Second)) {
		t.Fatal("asked a second later")
	}
}

func TestJoinLimits(t *testing.T) {
	d, now := newDoor(), time.Unix(1000, 0)
	passed := func(addr string, n int) int {
		count := 0
		for range n {
			if leave, err := d.join(now, netip.MustParseAddr(addr)); err == nil {
				count++
				leave()
			}
		}
		return count
	}
	if n := passed("192.0.2.1", 9); n != joinBurstIP {
		t.Fatalf("one address passed %d times", n)
	}
	if n := passed("192.0.2.2", 9); n != joinBurstIP {
		t.Fatal("its neighbour pays for it")
	}
	if n := passed("127.0.0.1", 20); n != 20 {
		t.Fatalf("%d of 20 agents on one host could join", n)
	}
	if n := passed("127.0.0.1", 99); n != joinBurst-20-2*joinBurstIP {
		t.Fatalf("%d more", n)
	}
	now = now.Add(time.Second)
	if n := passed("::1", 99); n != joinRate {
		t.Fatalf("%d a second in all", n)
	}
	held := 0
	for range 100 {
		now = now.Add(time.Second)
		for range joinRate {
			if _, err := d.join(now, netip.MustParseAddr("127.0.0.1")); err == nil {
				held++
			}
		}
	}
	if held != maxJoins {
		t.Fatalf("%d joining at a time", held)
	}
}

func TestJoinSourcesAreBounded(t *testing.T) {
	d, now := newDoor(), time.Unix(1000, 0)
	addr := netip.MustParseAddr("10.0.0.0")
	for range joinSources + 100 {
		addr = addr.Next()
		d.joinerMayPass(now, addr)
	}
	if len(d.joiners) > joinSources {
		t.Fatalf("%d addresses remembered", len(d.joiners))
	}
	if d.joinerMayPass(now, addr) {
		t.Fatal("an address that cannot be remembered passed")
	}
	if !d.joinerMayPass(now.Add(time.Minute), addr) {
		t.Fatal("old addresses make no room")
	}
}

func TestSightings(t *testing.T) {
	var s sightings
	for n := range byte(20) {
		s.note(idOf(n), addrOf(n%10))
	}
	s.note(idOf(3), addrOf(77))
	got := s.newest()
	if len(got) != maxSeenAddrs || got[0] != addrOf(77) || got[1] != addrOf(9) {
		t.Fatalf("%v", got)
	}
	for n := range 200 {
		s.note(fleet.Sum([]byte{byte(n)}), addrOf(1))
	}
	if len(s.said) > maxSeers {
		t.Fatalf("%d words kept", len(s.said))
	}
}

func TestHelloRoundTripAndRefusals(t *testing.T) {
	want := hello{Fleet: testFleet, Instance: [8]byte{1}, Proof: []byte("p"), Seen: "[fd00::1]:7980"}
	body := want.encode()
	got, err := decodeHello(body)
	if err != nil || got.Fleet != want.Fleet || got.Instance != want.Instance || string(got.Proof) != "p" {
		t.Fatalf("%+v, %v", got, err)
	}
	if a, ok := got.seenAt(); !ok || a.String() != want.Seen {
		t.Fatal(a, ok)
	}
	if _, ok := (hello{Seen: "nonsense"}).seenAt(); ok {
		t.Fatal("nonsense is an address")
	}
	for name, bad := range map[string][]byte{
		"empty":           {},
		"cut":             body[:len(body)-1],
		"newer format":    append([]byte{2}, body[1:]...),
		"not msgpack":     {1, 0xc1},
		"more fields":     append([]byte{1}, wire.Marshal(struct{ A, B, C, D, E int }{})...),
		"proof too large": hello{Proof: make([]byte, MaxProof+1)}.encode(),
	} {
		if _, err := decodeHello(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if len((hello{Proof: make([]byte, MaxProof), Seen: strings.Repeat("x", 60)}).encode()) > maxHello {
		t.Fatal("the largest proof does not fit into a hello")
	}
}

func TestFrames(t *testing.T) {
	for _, size := range []int{0, 1, firstChunk - 1, firstChunk, firstChunk + 1, 100_000} {
		body := bytes.Repeat([]byte{5}, size)
		data := appendFrame(nil, 3, body)
		kind, got, err := readFrame(iotest.HalfReader(bytes.NewReader(data)), 100_000)
		if err != nil || kind != 3 || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	if _, _, err := readFrame(bytes.NewReader(nil), 10); err != io.EOF {
		t.Fatalf("the end between frames gave %v", err)
	}
	for _, cut := range []int{1, 4, 5, 7} {
		_, _, err := readFrame(bytes.NewReader(appendFrame(nil, 3, []byte("abc"))[:cut]), 10)
		wantError(t, err, fleet.Unavailable, "middle of a frame")
	}
	_, _, err := readFrame(bytes.NewReader(appendFrame(nil, 3, make([]byte, 11))), 10)
	wantError(t, err, fleet.Exhausted, "frame of 11 bytes")
}

// A header that claims much must not allocate much.
func TestFrameHeaderCostsNothing(t *testing.T) {
	head := appendFrame(nil, 1, make([]byte, 1<<20))[:frameHeader]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		_, _, _ = readFrame(bytes.NewReader(head), 1<<20)
	}
	runtime.ReadMemStats(&after)
	per := (after.TotalAlloc - before.TotalAlloc) / 100
	if per > 2*firstChunk {
		t.Fatalf("a header alone allocates %d bytes", per)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain – text":                   "plain – text",
		"a\x1b[31mb\r\nc\x00\xff\u202ed": "a [31mb  c   d",
		strings.Repeat("é", maxReason):   strings.Repeat("é", maxReason/2),
	} {
		if got := printable(in); got != want {
			t.Errorf("%q gave %q", in, got)
		}
	}
}

func TestPlanes(t *testing.T) {
	for _, p := range alpns() {
		if _, ok := Plane(p).limits(); !ok {
			t.Errorf("%s has no limits", p)
		}
	}
	if _, ok := Plane("h3").limits(); ok {
		t.Error("h3 is a plane")
	}
}
