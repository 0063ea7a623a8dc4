package transport

import (
	"net"
	"net/netip"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// TestProbe: an endpoint answers a stranger's probe in every size that loopback takes, and a port at which nobody listens says so.
func TestProbe(t *testing.T) {
	t.Parallel()
	end := startNode(t, listenUDP(t, "127.0.0.1:0"), 1, newBook()).LocalAddr()
	got := Probe(t.Context(), end)
	if !got.Answered || got.Largest != largeSizes[len(largeSizes)-1] || got.RTT <= 0 || got.Err != nil {
		t.Fatalf("%+v", got)
	}
	if small := largestSmall(t.Context(), end); small != smallSizes[len(smallSizes)-1] {
		t.Errorf("small packets pass to %d bytes", small)
	}
	closed, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	nobody := addrPort(closed.LocalAddr())
	closed.Close()
	if got := Probe(t.Context(), nobody); got.Answered || got.Largest != 0 || fleet.KindOf(got.Err) != fleet.Unavailable {
		t.Errorf("nobody: %+v", got)
	}
}

// TestALostPacketIsNoClosedWay: what is tried for others is tried again, and so is every size.
func TestALostPacketIsNoClosedWay(t *testing.T) {
	t.Parallel()
	end := startNode(t, listenUDP(t, "127.0.0.1:0"), 1, newBook()).LocalAddr()
	front := listenUDP(t, "127.0.0.1:0")
	go func() { // it loses the first two packets of every size
		lost, buf := map[int]int{}, make([]byte, 2000)
		for {
			n, from, err := front.ReadFrom(buf)
			if err != nil {
				return
			}
			if lost[n]++; lost[n] <= 2 {
				continue
			}
			behind, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(end))
			if err != nil {
				return
			}
			_, _ = behind.Write(buf[:n])
			n, _ = behind.Read(buf)
			_, _ = front.WriteTo(buf[:n], from)
			_ = behind.Close()
		}
	}()
	if got := ProbeFew(t.Context(), addrPort(front.LocalAddr())); !got.Answered || got.Largest != largeSizes[len(largeSizes)-1] {
		t.Errorf("%+v", got)
	}
}
