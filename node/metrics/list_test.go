package metrics

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The list of what is told changes by intent only: dashboards and alerts of others hang on it.
func TestListIsTheGoldenOne(t *testing.T) {
	var b strings.Builder
	for _, m := range List() {
		fmt.Fprintf(&b, "%s %s %s\n", m.Name, m.Kind, m.Help)
	}
	golden(t, "testdata/metrics.txt", b.String())
}

func TestTextIsTheGoldenOne(t *testing.T) { golden(t, "testdata/text.txt", string(Text(nil, full()))) }

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what there is now; if that is meant: go test ./node/metrics -update, and look at packaging/observe\n%s", path, got)
	}
}

// Names and types are as Prometheus wants them: base units at the end, _total for counters alone, one help each.
func TestNames(t *testing.T) {
	name := regexp.MustCompile(`^muster_[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	for _, m := range List() {
		if !name.MatchString(m.Name) {
			t.Errorf("%s is not muster_<noun>_<unit>", m.Name)
		}
		if seen[m.Name] {
			t.Errorf("%s is there twice", m.Name)
		}
		seen[m.Name] = true
		if (m.Kind == Counter) != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		if m.Help == "" || strings.ContainsAny(m.Help, "\n\\") || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s has the help %q", m.Name, m.Help)
		}
		for _, unit := range []string{"_ms", "_millis", "_kb", "_mib", "_percent", "_count"} {
			if strings.HasSuffix(strings.TrimSuffix(m.Name, "_total"), unit) {
				t.Errorf("%s has no base unit", m.Name)
			}
		}
	}
}

// A full snapshot tells everything on the list, and each line is well formed; one of a host without any role tells no group
// that it does not have.
func TestEverythingIsTold(t *testing.T) {
	line := regexp.MustCompile(`^(muster_[a-z_]+)(\{[a-z]+="([^"\\\n]|\\["\\n])*"(,[a-z]+="([^"\\\n]|\\["\\n])*")*\})? -?[0-9]+(\.[0-9]+)?$`)
	told := map[string]bool{}
	for l := range strings.Lines(string(Text(nil, full()))) {
		if strings.HasPrefix(l, "# ") {
			continue
		}
		m := line.FindStringSubmatch(strings.TrimSuffix(l, "\n"))
		if m == nil {
			t.Fatalf("%q is no line of the text format", l)
		}
		told[m[1]] = true
	}
	for _, m := range List() {
		if !told[m.Name] {
			t.Errorf("%s is on the list, and nothing is told of it", m.Name)
		}
	}
	bare := string(Text(nil, Snapshot{Fleet: Fleet{BeaconAge: -1}, Gossip: Gossip{Silence: -1}}))
	for _, absent := range []string{"muster_replica_", "muster_runs_", "muster_sessions_", "muster_reports_", "muster_record_beacon_age", "muster_gossip_silence"} {
		if strings.Contains(bare, absent) {
			t.Errorf("a host without it tells of %s", absent)
		}
	}
}

func TestLabelsCannotBreakOut(t *testing.T) {
	s := Snapshot{Build: Build{Version: "1\"} 9\nmuster_evil 1\\"}}
	text := string(Text(nil, s))
	if strings.Contains(text, "\nmuster_evil") || !strings.Contains(text, `version="1\"} 9\nmuster_evil 1\\"`) {
		t.Errorf("a label became a line:\n%s", strings.SplitN(text, "\n", 5)[2])
	}
}

func TestBearableLosses(t *testing.T) {
	for _, c := range []struct{ voters, online, want int }{{0, 0, 0}, {1, 1, 0}, {1, 0, -1}, {3, 3, 1}, {3, 2, 0}, {3, 1, -1}, {5, 5, 2}, {5, 2, -1}} {
		if got := (Quorum{Voters: c.voters, VotersOnline: c.online}).Bearable(); got != c.want {
			t.Errorf("%d of %d voters: %d, want %d", c.online, c.voters, got, c.want)
		}
	}
}

// full has something of everything, and a different number everywhere.
func full() Snapshot {
	return Snapshot{
		Build:    Build{Version: "1.2.0", Go: "go1.26", Arch: "amd64", Level: 2},
		Started:  time.UnixMilli(1_800_000_000_250),
		Process:  Process{CPUSeconds: 1.25, RSS: 20 << 20, Heap: 6 << 20, GCSeconds: 0.125, Goroutines: 101, Files: 31, MaxFiles: 1024},
		Fleet:    Fleet{Online: 48, Lost: 2, Left: 1, Level: 2, Act: 105, Acts: 77, CharterEntries: 3, BeaconAge: 1500 * time.Millisecond},
		Agent:    Agent{Turns: 900, Queue: 4, BellsLost: 5, Requests: 1200, Refused: 7, ClockOff: 400 * time.Second, Warnings: 1, PeersRefuse: true, Paused: true, Drained: true, OutboundOnly: true, Uplinks: 2},
		Quorum:   Quorum{LeaderKnown: true, Voters: 5, VotersOnline: 4, Spares: 2},
		Replica:  &Replica{Member: true, Leading: true, Stalled: true, Term: 9, Commit: 110, Applied: 109, Act: 104, Bytes: 1 << 20},
		Runs:     &Runs{Running: 3, Queued: 6, Capacity: 32, Started: 40, Ended: []Count{{"Failed", 8}, {"Success", 29}}, Bytes: 5000, Bound: 4 << 30, Ledger: 8192},
		Sessions: &Sessions{Running: 2, Attached: 1, Kept: 11},
		Network: Network{Connections: []Count{{"peer", 12}, {"raft", 4}}, Peers: 13, Opened: 66, HalfOpen: 14, Pipes: 15, PacketsSent: 5001,
			PacketsReceived: 5002, PacketsDropped: 16, SocketDrops: 17},
		Gossip:  Gossip{Health: 1, Silence: 250 * time.Millisecond, KeyEpoch: 3},
		Reports: &Reports{Bytes: 65536, Bound: 1 << 30, Kept: 333, Watchers: 18},
		Disk:    Disk{Free: 10 << 30, Size: 20 << 30},
		Budget:  Budget{MemoryBytes: 64 << 20, CPUPercent: 50, Acts: []Count{{"collect", 19}, {"refuse", 20}, {"restart", 21}}},
		Release: Release{SentBytes: 22, ReceivedBytes: 23},
		Scrapes: 24,
	}
}
