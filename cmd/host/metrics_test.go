package host

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/gossip"
	"github.com/muster-fleet/muster/node/metrics"
)

// A whole server on real sockets tells every metric there is. A port that is taken stops nothing: status says so until it is
// free, and nobody listens any more when the host has stopped.
func TestMetricsAreServed(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().String()
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopback()))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	_, operator := signerAndKey()
	_, root := signerAndKey()
	recovery, _ := signerAndKey()
	if _, err := Found(NewHost{Dir: dir, Name: "n1", Bind: socket.LocalAddr().String()}, Founder{
		Fleet: "lone", Operator: "ann", Key: operator, Root: root, Recovery: recovery.Public(),
	}, time.Now()); err != nil {
		t.Fatal(err)
	}
	h, err := Start(Options{
		Dir: dir, Version: "1.2.3", Socket: socket, Supervise: []string{"/bin/false"}, SuperviseSession: []string{"/bin/false"},
		Preset: gossip.LAN(), Timeouts: quorum.LAN(), MetricsAddress: at, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.Ready(t.Context())

	warned := func() bool {
		for _, w := range (desk{h.Agent, h}).Status(t.Context()).Warnings {
			if strings.Contains(w, "metrics are not served") {
				return true
			}
		}
		return false
	}
	eventually(t, "status says that the port is taken", warned)
	taken.Close()
	var text string
	eventually(t, "all metrics are told", func() bool {
		resp, err := http.Get("http://" + at + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		text = string(raw)
		return err == nil && strings.Contains(text, "\nmuster_record_beacon_age_seconds ") && strings.Contains(text, "\nmuster_replica_leader 1\n")
	})
	for _, m := range metrics.List() {
		if m.Name == "muster_gossip_silence_seconds" { // there is nobody to be heard
			continue
		}
		if !strings.Contains(text, "# TYPE "+m.Name+" "+string(m.Kind)+"\n") {
			t.Errorf("%s is not told", m.Name)
		}
	}
	for _, want := range []string{
		`muster_build_info{version="1.2.3",`, "\nmuster_fleet_members{status=\"online\"} 1\n", "\nmuster_quorum_bearable_losses 0\n",
		"\nmuster_runs_capacity 32\n", "\nmuster_fleet_level ", "\nmuster_agent_paused 0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if same := string((desk{h.Agent, h}).Metrics(t.Context())); !strings.Contains(same, "muster_build_info") {
		t.Errorf("the local API tells %q", same)
	}
	if warned() {
		t.Error("status still says that metrics are not served")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", at); err == nil {
		conn.Close()
		t.Error("somebody listens after the host has stopped")
	}
}

// A false address is said at the start, before anything is opened.
func TestFalseMetricsAddress(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := Start(Options{Dir: dir, MetricsAddress: "web1:7981"}); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("%v", err)
	}
}

// What the kernel drops because nobody reads is counted.
func TestSocketDrops(t *testing.T) {
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopback()))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := socket.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if n := socketDrops(socket); n != 0 {
		t.Errorf("%d drops before anything was sent", n)
	}
	from, err := net.Dial("udp", socket.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	for range 200 {
		if _, err := from.Write(make([]byte, 1200)); err != nil {
			t.Fatal(err)
		}
	}
	if n := socketDrops(socket); n == 0 || n > 200 {
		t.Errorf("%d of 200 datagrams were dropped by a socket with room for a few", n)
	}
	if n := socketDrops(noSocketConn{}); n != 0 {
		t.Errorf("%d drops of what is no socket", n)
	}
}

type noSocketConn struct{ net.PacketConn }

func loopback() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:0") }

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			t.Fatal("it never came to it that " + what)
		case <-tick.C:
		}
	}
}
