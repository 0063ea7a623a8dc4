package host

import (
	"context"
	"fmt"
	"maps"
	"net"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/metrics"
	"github.com/muster-fleet/muster/node/transport"
)

// listenAgain is how long the listener of metrics waits for its port to be free.
const listenAgain = 2 * time.Second

// serveMetrics answers who scrapes until ctx ends. An agent goes on without it: what is wrong is logged once, and status says
// it until it is mended.
func (h *Host) serveMetrics(ctx context.Context) {
	at, open, err := metrics.ParseAddress(h.opts.MetricsAddress)
	if err != nil { // Start has looked
		return
	}
	if open {
		h.opts.Log.Warn("metrics can be read by whoever reaches this address", "at", at.String())
	}
	said := ""
	for ctx.Err() == nil {
		l, err := net.Listen("tcp", at.String())
		if err == nil {
			h.unmeasured.Store(nil)
			said = ""
			h.opts.Log.Info("metrics are served", "at", at.String())
			err = metrics.Serve(ctx, l, h.snapshot, h.opts.Log)
		}
		if err == nil {
			continue
		}
		trouble := fmt.Sprintf("metrics are not served: %s (ss -ltnp sport = :%d shows who has the port)", err, at.Port())
		h.unmeasured.Store(&trouble)
		if trouble != said {
			said = trouble
			h.opts.Log.Warn("metrics are not served; trying again", "at", at.String(), "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
	}
}

// Metrics returns this host's metrics as Prometheus reads them.
func (d desk) Metrics(context.Context) []byte { return metrics.Text(nil, d.host.snapshot()) }

// snapshot asks every part of this host how it does.
func (h *Host) snapshot() metrics.Snapshot {
	status, agent := desk{h.Agent, h}.Status(context.Background()), h.Agent.Stats()
	s := metrics.Snapshot{
		Build:   metrics.Build{Version: h.opts.Version, Go: runtime.Version(), Arch: runtime.GOARCH, Level: uint32(fleet.LevelNewest)},
		Started: h.started, Process: processOf(status.Agent),
		Fleet: metrics.Fleet{
			Online: status.Online, Lost: status.Lost, Left: status.Left, Act: status.Act, Acts: status.RecordLen,
			CharterEntries: status.CharterLen, BeaconAge: agent.BeaconAge, Level: uint32(h.Agent.Level()),
		},
		Agent: metrics.Agent{
			Turns: agent.Turns, Queue: agent.Queue, BellsLost: agent.BellsLost, Requests: agent.Requests, Refused: agent.Refused,
			ClockOff: status.ClockOff, Warnings: len(status.Warnings), PeersRefuse: agent.Gone, OutboundOnly: status.Outbound,
			Uplinks: len(status.Uplinks), Paused: h.Agent.Consent().Paused != "", Drained: fleet.DrainOf(status.Self.Tags) != "",
		},
		Quorum: quorumOf(status.Quorum),
		Gossip: metrics.Gossip{KeyEpoch: agent.KeyEpoch, Silence: -1},
		Disk:   diskOf(h.opts.Dir),
		Budget: h.budgetStats(),
	}
	carried := h.Agent.ReleaseStats()
	s.Release = metrics.Release{SentBytes: uint64(carried.Sent), ReceivedBytes: uint64(carried.Got)}
	if h.quorum != nil {
		s.Replica = h.replicaStats()
	}
	if h.runner != nil {
		s.Runs = h.runStats()
	}
	if h.sessions != nil {
		kept := h.sessions.Stats()
		s.Sessions = &metrics.Sessions{Running: kept.Running, Attached: kept.Attached, Kept: kept.Kept}
	}
	if h.reports != nil {
		kept := h.reports.Stats()
		s.Reports = &metrics.Reports{Bytes: kept.Bytes, Bound: kept.Bound, Kept: kept.Kept, Watchers: kept.Watchers}
	}
	if h.end != nil {
		s.Network = networkOf(h.end.Stats())
		s.Network.SocketDrops = socketDrops(h.socket)
	}
	if h.gossip != nil {
		heard := h.gossip.Stats()
		s.Gossip.Health = heard.Health
		if !heard.Heard.IsZero() {
			s.Gossip.Silence = max(0, time.Since(heard.Heard))
		}
	}
	return s
}

func (h *Host) budgetStats() metrics.Budget {
	holds, tally := h.Config().Budgets(), h.BudgetTally()
	return metrics.Budget{
		MemoryBytes: holds.MemoryBytes, CPUPercent: holds.CPUPercent,
		Acts: []metrics.Count{{Of: "refuse", N: tally.Refused}, {Of: "restart", N: tally.Restarts}, {Of: "return", N: tally.Returned}},
	}
}

// processOf adds what the runtime and the kernel know to what status tells of this process.
func processOf(u node.Usage) metrics.Process {
	p := metrics.Process{RSS: u.RSS, Goroutines: u.Goroutines, Files: u.Files}
	samples := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}}
	runtimemetrics.Read(samples)
	if samples[0].Value.Kind() == runtimemetrics.KindUint64 {
		p.Heap = samples[0].Value.Uint64()
	}
	if samples[1].Value.Kind() == runtimemetrics.KindFloat64 {
		p.GCSeconds = samples[1].Value.Float64()
	}
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		p.CPUSeconds = float64(micros(used.Utime)+micros(used.Stime)) / 1e6
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		p.MaxFiles = files.Cur
	}
	return p
}

func micros(t unix.Timeval) int64 { return int64(t.Sec)*1e6 + int64(t.Usec) }

func quorumOf(q node.QuorumStatus) metrics.Quorum {
	out := metrics.Quorum{LeaderKnown: !q.Leader.IsZero(), Voters: len(q.Voters), Spares: len(q.Spares)}
	for _, v := range q.Voters {
		if v.Online {
			out.VotersOnline++
		}
	}
	return out
}

func (h *Host) replicaStats() *metrics.Replica {
	s := h.quorum.Status()
	own := func(o quorum.Server) bool { return o.ID == h.ID }
	return &metrics.Replica{
		Member:  slices.ContainsFunc(s.Voters, own) || slices.ContainsFunc(s.Spares, own),
		Leading: s.State == quorum.Leading, Stalled: s.Stalled, Term: s.Term, Commit: s.Commit, Applied: s.Applied,
		Act: h.replica.State().Taken, Bytes: h.quorum.LogBytes(),
	}
}

func (h *Host) runStats() *metrics.Runs {
	s := h.runner.Stats()
	out := &metrics.Runs{
		Running: s.Running, Queued: s.Queued, Capacity: s.Capacity, Started: s.Started, Bytes: s.Bytes, Bound: s.Bound, Ledger: s.Ledger,
	}
	for _, status := range []exec.Status{exec.Success, exec.Failed, exec.TimedOut, exec.Cancelled, exec.Refused, exec.Unknown} { // from the start, so that a first one is seen as growth
		if _, there := s.Ended[status]; !there {
			s.Ended[status] = 0
		}
	}
	for _, status := range slices.Sorted(maps.Keys(s.Ended)) {
		out.Ended = append(out.Ended, metrics.Count{Of: string(status), N: s.Ended[status]})
	}
	return out
}

func networkOf(s transport.Stats) metrics.Network {
	out := metrics.Network{
		Peers: s.Peers, Opened: s.Opened, HalfOpen: s.HalfOpen, Pipes: s.Pipes,
		PacketsSent: s.Sealed, PacketsReceived: s.Genuine, PacketsDropped: s.Strange,
	}
	for _, plane := range []transport.Plane{
		transport.Bulk, transport.Gossip, transport.Join, transport.Peer, transport.Raft, transport.RaftBulk, transport.Relay, transport.Session,
	} {
		out.Connections = append(out.Connections, metrics.Count{Of: planeName(plane), N: uint64(s.Connections[plane])})
	}
	return out
}

// planeName is a plane without what all have in common.
func planeName(p transport.Plane) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(string(p), "muster-"), "/")
	return name
}

func diskOf(dir string) metrics.Disk {
	var disk unix.Statfs_t
	if unix.Statfs(dir, &disk) != nil {
		return metrics.Disk{}
	}
	return metrics.Disk{Free: int64(disk.Bavail) * int64(disk.Bsize), Size: int64(disk.Blocks) * int64(disk.Bsize)}
}
