package lan

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

// post is a socket on every host. Datagrams go from one to another and are read by tests.
type post struct {
	t      *testing.T
	lan    *Lan
	conns  map[*Host]*net.UDPConn
	series int
}

const postPort = 4000

func newPost(t *testing.T, l *Lan) *post {
	t.Helper()
	p := &post{t: t, lan: l, conns: map[*Host]*net.UDPConn{}}
	for _, h := range l.Hosts() {
		p.open(h)
	}
	t.Cleanup(func() {
		for _, conn := range p.conns {
			conn.Close()
		}
	})
	return p
}

func (p *post) open(h *Host) {
	p.t.Helper()
	must(p.t, slowlink.Within(fmt.Sprintf("/proc/%d/ns/net", h.init.pid), func() error {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: postPort})
		p.conns[h] = conn
		return err
	}))
	must(p.t, p.conns[h].SetReadBuffer(4<<20))
}

// send sends a datagram; its text says which series it belongs to, so that one that comes late spoils no other.
func (p *post) send(from, to *Host, series int, text string) {
	p.t.Helper()
	_, err := p.conns[from].WriteToUDPAddrPort(fmt.Appendf(nil, "%d %s", series, text), netip.AddrPortFrom(to.Addr(), postPort))
	must(p.t, err)
}

func (p *post) begin() int {
	p.series++
	return p.series
}

// read lets one host send a mark to another, and reads there what comes of a series, until the mark is there and so many
// others are: the kernel lets packets from two hosts overtake each other.
func (p *post) read(mark, at *Host, series, want int) []string {
	p.t.Helper()
	end := p.begin()
	p.send(mark, at, end, "")
	buffer := make([]byte, 2000)
	must(p.t, p.conns[at].SetReadDeadline(time.Now().Add(Patience)))
	got, marked := []string{}, false
	for !marked || len(got) < want {
		n, err := p.conns[at].Read(buffer)
		if err != nil {
			p.t.Fatalf("%d of %d came from the host at hand, and then: %v", len(got), want, err)
		}
		number, text, _ := strings.Cut(string(buffer[:n]), " ")
		switch number {
		case fmt.Sprint(end):
			marked = true
		case fmt.Sprint(series):
			got = append(got, text)
		}
	}
	return got
}

// passes sends ten datagrams from one host to another, and says how many came. The mark that ends them comes from another
// host, so it comes also when they do not.
func (p *post) passes(from, to, mark *Host, want int) int {
	p.t.Helper()
	series := p.begin()
	for i := range 10 {
		p.send(from, to, series, fmt.Sprint(i))
	}
	return len(p.read(mark, to, series, want))
}

func TestCables(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Name: lanName("cables"), Hosts: 5})
	p := newPost(t, l)
	n1, n2, n3 := l.Host("n1"), l.Host("n2"), l.Host("n3")
	wants := func(what string, from, to, mark *Host, want int) {
		p.t.Helper()
		if got := p.passes(from, to, mark, want); got != want {
			p.t.Fatalf("%s: %d of 10 came from %s to %s", what, got, from.Name(), to.Name())
		}
	}
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			p.t = t
			test(t)
		})
	}
	run("cut", func(t *testing.T) {
		wants("before", n1, n2, n3, 10)
		must(t, l.Cut([]*Host{n1}, []*Host{n2}))
		wants("cut", n1, n2, n3, 0)
		wants("the other direction", n2, n1, n3, 10)
		must(t, l.Part(n1))
		wants("both", n2, n1, n1, 0)
		must(t, l.Heal())
		wants("healed", n1, n2, n3, 10)
	})
	run("ring", func(t *testing.T) {
		must(t, l.Ring())
		wants("neighbours", n1, n2, n3, 10)
		wants("neighbours", n1, l.Host("n5"), l.Host("n4"), 10)
		wants("not neighbours", n1, n3, n2, 0)
		must(t, l.Heal())
		wants("healed", n1, n3, n2, 10)
	})
	run("lose", func(t *testing.T) { loses(t, p, n1, n2, n3) })
	run("bandwidth", func(t *testing.T) { narrow(t, p, n1, n2) })
	run("slow", func(t *testing.T) { slow(t, p, n1, n2, n3) })
	run("faults outlive a power cut", func(t *testing.T) {
		must(t, l.Cut([]*Host{n1}, []*Host{n2}))
		must(t, n1.Slow(slowlink.Params{Duplicate: 100}))
		must(t, n1.PowerCut())
		must(t, n2.PowerCut())
		must(t, n1.PowerOn())
		must(t, n2.PowerOn())
		p.open(n1)
		p.open(n2)
		wants("cut", n1, n2, n3, 0)
		wants("doubled", n1, n3, n2, 20)
		must(t, l.Heal())
		wants("healed", n1, n2, n3, 10)
	})
	run("move", func(t *testing.T) {
		must(t, n2.Move(netip.MustParseAddr("10.77.1.2")))
		wants("moved", n1, n2, n3, 10)
		wants("from there", n2, n1, n3, 10)
		if has, err := n2.Command(t.Context(), "ip", "-4", "-br", "address", "show", "eth0").Output(); err != nil || strings.Contains(string(has), Addr(2).String()) {
			t.Errorf("it has %s, %v", has, err)
		}
		must(t, l.Cut([]*Host{n2}, []*Host{n1}))
		wants("cut", n2, n1, n3, 0)
		if n1.Move(n3.Addr()) == nil || n1.Move(netip.MustParseAddr("10.78.0.1")) == nil {
			t.Error("it moved to another's address, or out of the subnet")
		}
	})
}

// loses counts what arrives of a thousand when one end loses some.
func loses(t *testing.T, p *post, n1, n2, n3 *Host) {
	const many = 1000
	sent := func(from, to *Host, least int) int {
		series := p.begin()
		for i := range many {
			p.send(from, to, series, fmt.Sprint(i))
		}
		must(t, p.lan.Lose(0))
		return len(p.read(from, to, series, least))
	}
	for _, way := range [][2]*Host{{n1, n2}, {n2, n1}} { // what the lossy host gets, and what it sends
		must(t, p.lan.Lose(30, n2))
		if got := sent(way[0], way[1], 0); got < many*60/100 || got > many*80/100 {
			t.Errorf("%d of %d came from %s", got, many, way[0].Name())
		}
	}
	must(t, p.lan.Lose(30, n2))
	sent(n1, n3, many) // hosts that lose nothing
	must(t, p.lan.Lose(100))
	if got := sent(n1, n3, 0); got != 0 {
		t.Errorf("%d came of what was all lost", got)
	}
	if p.lan.Lose(101) == nil {
		t.Error("more than all can be lost")
	}
}

// narrow compares what passes of a burst with and without a bound.
func narrow(t *testing.T, p *post, n1, n2 *Host) {
	const many = 1500
	burst := func(from, to *Host) int {
		series := p.begin()
		text := fmt.Appendf(nil, "%d %s", series, strings.Repeat(".", 1300))
		for range many {
			_, _ = p.conns[from].WriteToUDPAddrPort(text, netip.AddrPortFrom(to.Addr(), postPort)) // a full queue may say so
		}
		must(t, n1.Bandwidth(0))
		return len(p.read(from, to, series, 0))
	}
	free := burst(n1, n2)
	for _, way := range [][2]*Host{{n1, n2}, {n2, n1}} { // the bound holds for what is sent and for what is received
		must(t, n1.Bandwidth(500_000))
		if got := burst(way[0], way[1]); got == 0 || got > free/5 {
			t.Errorf("%d came through the bound from %s, %d without", got, way[0].Name(), free)
		}
	}
}

// slow watches what a receiver sees of a sender on a slow cable.
func slow(t *testing.T, p *post, n1, n2, n3 *Host) {
	must(t, n1.Slow(slowlink.Params{Delay: 2 * time.Second}))
	series := p.begin()
	p.send(n1, n2, series, "late")
	p.send(n3, n2, series, "early")
	if got := p.read(n3, n2, series, 2); !slices.Equal(got, []string{"early", "late"}) {
		t.Errorf("delay: %v", got)
	}
	if got := p.passes(n2, n1, n3, 10); got != 10 {
		t.Errorf("the other direction: %d", got)
	}
	var sent []string
	burst := func(params slowlink.Params) []string {
		must(t, n1.Slow(params))
		series, sent = p.begin(), nil
		for i := range 50 {
			sent = append(sent, fmt.Sprintf("%02d", i))
			p.send(n1, n2, series, sent[i])
		}
		return p.read(n3, n2, series, len(sent)*(1+params.Duplicate/100))
	}
	if got := burst(slowlink.Params{Jitter: 50 * time.Millisecond}); !slices.Equal(got, sent) {
		t.Errorf("jitter: %v", got)
	}
	if got := burst(slowlink.Params{Duplicate: 100}); !slices.Equal(slices.Compact(got), sent) {
		t.Errorf("doubled: %v", got)
	}
	got := burst(slowlink.Params{Delay: 500 * time.Millisecond, Reorder: 50})
	if slices.Equal(got, sent) {
		t.Error("none overtook")
	}
	slices.Sort(got)
	if !slices.Equal(got, sent) {
		t.Errorf("overtaking: %v", got)
	}
	before, err := n1.Traffic()
	must(t, err)
	burst(slowlink.Params{Delay: time.Millisecond})
	after, err := n1.Traffic()
	must(t, err)
	if more := after.SentPackets - before.SentPackets; more < 50 || more > 80 { // a slow cable's packets are counted once
		t.Errorf("%d packets were counted of 50", more)
	}
	must(t, n1.Slow(slowlink.Params{}))
	if got := p.passes(n1, n2, n3, 10); got != 10 {
		t.Errorf("lifted: %d", got)
	}
	if links, err := n1.Command(t.Context(), "ip", "-o", "link").Output(); err != nil || strings.Contains(string(links), slowDevice) {
		t.Errorf("the device is still there: %s %v", links, err)
	}
	if n1.Slow(slowlink.Params{Reorder: 5}) == nil {
		t.Error("a cable was made that cannot be")
	}
}
