package main

import (
	"encoding/json"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	ten := []float64{10, 1, 9, 2, 8, 3, 7, 4, 6, 5}
	for _, c := range []struct {
		values []float64
		p      float64
		want   float64
	}{
		{nil, 50, 0}, {[]float64{7}, 0, 7}, {[]float64{7}, 99, 7}, {[]float64{1, 2}, 50, 1}, {[]float64{3, 1, 2}, 50, 2},
		{ten, 0, 1}, {ten, 10, 1}, {ten, 11, 2}, {ten, 50, 5}, {ten, 90, 9}, {ten, 99, 10}, {ten, 100, 10},
	} {
		if got := percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile %v of %v is %v, not %v", c.p, c.values, got, c.want)
		}
	}
	if ten[0] != 10 {
		t.Error("the values were sorted in place")
	}
	if mean(nil) != 0 || mean([]float64{1, 2, 6}) != 3 || largest(ten) != 10 {
		t.Error("mean or largest is wrong")
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		unit  unit
		value float64
		want  string
	}{
		{seconds, 0.0123, "12 ms"}, {seconds, 1.666, "1.67 s"}, {seconds, 12.34, "12.3 s"},
		{seconds, 0.00042, "420 µs"}, {seconds, 0.0042, "4.2 ms"},
		{aSecond, 12345, "12,345 /s"}, {times, 3.456, "3.46×"}, {octets, 24_576, "24,576 B"}, {octets, 25e6, "25.0 MB"}, {octets, 25e9, "25.0 GB"}, {octetsASecond, 1234567.4, "1,234,567 B/s"},
		{octetsASecond, 412.4, "412 B/s"}, {packetsASecond, 6.04, "6 /s"}, {percent, 0.346, "0.35 %"}, {count, 0, "0"}, {count, 3.5, "3.5"},
	} {
		if got := c.unit.text(c.value); got != c.want {
			t.Errorf("%v is %q, not %q", c.value, got, c.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value, aim float64
		least      bool
		met        bool
		mark       string
	}{
		{1, 0, false, true, "1  "}, {1, 2, false, true, "1  "}, {2, 2, false, true, "2  "}, {3, 2, false, false, "3 !"},
		{1, 2, true, false, "1 !"}, {2, 2, true, true, "2  "}, {3, 2, true, true, "3  "},
	} {
		f := figure{value: c.value, aim: c.aim, least: c.least, unit: count}
		if f.met() != c.met || marked(f) != c.mark {
			t.Errorf("%v of %v: met is %v, shown as %q", c.value, c.aim, f.met(), marked(f))
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	known := []string{"true", "idle"}
	o, err := parseOptions(nil, known, io.Discard)
	if err != nil || !slices.Equal(o.nodes, []int{5, 20, 50}) || o.runs != 10 || o.idle != 30*time.Second || !o.wants("true") || o.wants("params") || !o.wantsFleet() || !slices.Equal(o.clients, []int{1, 16, 64, 256}) {
		t.Errorf("without words: %+v, %v", o, err)
	}
	o, err = parseOptions(strings.Fields("--nodes 3,7 --only idle --json - --muster m --runs 1"), known, io.Discard)
	if err != nil || !slices.Equal(o.nodes, []int{3, 7}) || o.wants("true") || !o.wants("idle") || o.json != "-" || o.muster != "m" || o.runs != 1 {
		t.Errorf("got %+v, %v", o, err)
	}
	for line, want := range map[string]string{
		"--nodes 2": "--nodes 2", "--nodes 3,x": "--nodes x", "--nodes 1000": "--nodes 1000", "--nodes ,": "--nodes", "--runs 0": "--runs 0",
		"--load 1ms": "--load 1ms", "--clients 0": "--clients 0", "--clients 1,x": "--clients x", "--idle 1ms": "--idle 1ms", "--rest -1s": "--rest -1s", "--only tru": "--only tru", "more": "more", "--bad": "-bad",
	} {
		if _, err := parseOptions(strings.Fields(line), known, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	all := keys()
	if compact := slices.Compact(slices.Sorted(slices.Values(all))); len(compact) != len(all) {
		t.Errorf("a key twice: %v", all)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	got, err := parseStat("42 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 20 0 9 0 1 2 3")
	if want := (cpu{230 * time.Millisecond, 270 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %v, %v, not %v", got, err, want)
	}
	for _, text := range []string{"", "42 (a) S 1", "42 (a) S 1 2 3 4 5 6 7 8 9 10 x 12 13 14 20 0"} {
		if _, err := parseStat(text); err == nil {
			t.Errorf("%q is taken for a stat", text)
		}
	}
}

func TestMachineText(t *testing.T) {
	t.Parallel()
	if got := parseLoad("1.50 0.25 0.05 1/234 5678\n"); got != (load{1.5, 0.25, 0.05}) {
		t.Errorf("load %v", got)
	}
	const status = "Name:\tmuster\nVmRSS:\t   24000 kB\nThreads:\t9\n"
	if got, ok := kilobytes(status, "VmRSS"); !ok || got != 24_576_000 {
		t.Errorf("VmRSS is %v, %v", got, ok)
	}
	for _, key := range []string{"VmR", "Threads", "Name"} {
		if got, ok := kilobytes(status, key); ok {
			t.Errorf("%s is %v kB", key, got)
		}
	}
	const mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/deep xfs rw 0 0\nover /tmp overlay rw 0 0\n"
	for folder, want := range map[string]string{
		"/": "/dev/vda ext4", "/home": "/dev/vda ext4", "/tmpx": "/dev/vda ext4", "/tmp": "over overlay", "/tmp/deep/er": "/dev/vdb xfs",
	} {
		if device, kind := mountOf(mounts, folder); device+" "+kind != want {
			t.Errorf("%s lies on %s %s", folder, device, kind)
		}
	}
	if m := lookAtMachine(); m.CPUs == 0 || m.Memory == 0 || m.Kernel == "" || m.Disk == "" {
		t.Errorf("machine %+v", m)
	}
}

func TestVictim(t *testing.T) {
	t.Parallel()
	server := func(n string) node.ServerStatus {
		return node.ServerStatus{ID: fleet.ID{n[1]}, Name: n}
	}
	q := node.QuorumStatus{Leader: fleet.ID{'2'}, Voters: []node.ServerStatus{server("n1"), server("n2"), server("n3")}, Spares: []node.ServerStatus{server("n4")}}
	for _, c := range []struct {
		hosts, asker, want string
	}{
		{"n1 n2 n3 n4 n5 n6", "n6", "n5"}, // no server
		{"n1 n2 n3 n4 n5", "n5", "n4"},    // a spare
		{"n1 n2 n3", "n3", "n1"},          // a voter that does not lead
		{"n1 n2 n3", "n1", "n3"},
	} {
		if got := victim(q, strings.Fields(c.hosts), c.asker); got != c.want {
			t.Errorf("of %s: %s", c.hosts, got)
		}
	}
}

func TestIsWhole(t *testing.T) {
	t.Parallel()
	on := node.ServerStatus{Online: true}
	whole := func() node.Status {
		return node.Status{Online: 4, Quorum: node.QuorumStatus{Leader: fleet.ID{1}, Voters: []node.ServerStatus{on, on, on}}}
	}
	if !isWhole(whole(), 4) {
		t.Error("a whole fleet is not")
	}
	for name, spoil := range map[string]func(*node.Status){
		"a node lacks": func(s *node.Status) { s.Online = 3 },
		"no leader":    func(s *node.Status) { s.Quorum.Leader = fleet.ID{} },
		"two voters":   func(s *node.Status) { s.Quorum.Voters = s.Quorum.Voters[:2] },
		"voter lost":   func(s *node.Status) { s.Quorum.Voters[1].Online = false },
	} {
		s := whole()
		if spoil(&s); isWhole(s, 4) {
			t.Errorf("%s: it is called whole", name)
		}
	}
}

func TestLost(t *testing.T) {
	t.Parallel()
	member := func(name string, s fleet.Status) api.Node {
		return api.Node{Member: fleet.Member{Name: name, Status: s}}
	}
	nodes := []api.Node{member("n1", fleet.Online), member("n2", fleet.ConnectionLost), member("n3", fleet.ConnectionLost)}
	if isLost(nodes, "n1") || !isLost(nodes, "n2") || isLost(nodes, "n4") {
		t.Error("the wrong one is lost")
	}
	if n := lostBeside(nodes, "n2"); n != 1 {
		t.Errorf("%d others are lost", n)
	}
}

func TestStages(t *testing.T) {
	t.Parallel()
	var r ran
	r.start = time.UnixMilli(1000)
	const text = `{"command":{"committed":"1970-01-01T00:00:01.02Z"},"nodes":[
		{"started":"1970-01-01T00:00:01.05Z","ended":"1970-01-01T00:00:01.06Z"},{"started":"1970-01-01T00:00:01.04Z","ended":"1970-01-01T00:00:01.07Z"}]}`
	if err := json.Unmarshal([]byte(text), &r.said); err != nil {
		t.Fatal(err)
	}
	if want := (stages{20 * time.Millisecond, 50 * time.Millisecond, 70 * time.Millisecond}); r.stages() != want {
		t.Errorf("got %+v", r.stages())
	}
	early := costs{stages: []stages{{stamped: -time.Millisecond}}}
	if got := early.when(func(s stages) time.Duration { return s.stamped }); got != 0 {
		t.Errorf("a stage before the start is at %v", got)
	}
}

func TestCourse(t *testing.T) {
	t.Parallel()
	got := course{committed: 1000, received: []int64{1005, 999, 1042}}.had()
	if want := []time.Duration{5 * time.Millisecond, 0, 42 * time.Millisecond}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestIdleFigures(t *testing.T) {
	t.Parallel()
	before := []gauge{{cpu: time.Second}, {cpu: time.Second, traffic: lan.Traffic{SentPackets: 100, SentBytes: 5000}}}
	after := []gauge{
		{1100 * time.Millisecond, memory{20e6, 10e6}, lan.Traffic{SentPackets: 10, SentBytes: 1140}},
		{1300 * time.Millisecond, memory{30e6, 12e6}, lan.Traffic{SentPackets: 130, SentBytes: 8420}},
	}
	got := map[string]float64{}
	for _, f := range idleFigures(before, after, 10*time.Second) {
		got[f.key] = f.value
	}
	for key, want := range map[string]float64{
		"idle_rss_p50_bytes": 20e6, "idle_rss_max_bytes": 30e6, "idle_pss_p50_bytes": 10e6, "idle_cpu_mean_percent": 2, "idle_cpu_max_percent": 3,
		"idle_sent_mean_packets_per_second": 2, "idle_sent_mean_bytes_per_second": 200, "idle_sent_max_bytes_per_second": 300,
	} {
		if math.Abs(got[key]-want) > 1e-9*want {
			t.Errorf("%s is %v, not %v", key, got[key], want)
		}
	}
}

func TestPen(t *testing.T) {
	t.Parallel()
	if _, err := parsePen("# mine\nmuster operator key 1\nsigning-seed: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n"); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"", "signing-seed: AAEC\n", "signing-seed: !\n"} {
		if _, err := parsePen(text); err == nil {
			t.Errorf("%q holds a key", text)
		}
	}
}

func aReport() report {
	return report{
		began: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), took: 90 * time.Second, version: "1.2.3",
		machine: machine{2, "A CPU", 8e9, "6.1", "ext4 on /dev/vda", load{1, 2, 3}, load{4, 5, 6}},
		binary:  []figure{{key: "binary_bytes", name: "binary", unit: octets, value: 20e6, aim: 30e6}},
		alone:   []figure{{key: "c_ratio", name: "c", unit: times, value: 3.5, aim: 4, least: true}},
		fleets: []fleetReport{
			{3, load{1}, load{2}, []figure{
				{key: "a_seconds", name: "a", unit: seconds, value: 0.25, aim: 0.3, note: "how"},
				{key: "b_count", name: "b", unit: count, value: 7},
			}, nil},
			{20, load{3}, load{4}, []figure{{key: "a_seconds", name: "a", unit: seconds, value: 0.5, aim: 0.3, note: "how"}}, []string{"b: it broke"}},
		},
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	raw, err := aReport().json()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"format":1,"began":"2026-01-02T03:04:05Z","took_seconds":90,"muster_version":"1.2.3",
"machine":{"cpus":2,"cpu_model":"A CPU","memory_bytes":8000000000,"kernel":"6.1","disk":"ext4 on /dev/vda","load_before":[1,2,3],"load_after":[4,5,6]},
"binary":{"binary_bytes":{"value":20000000,"aim":30000000,"met":true,"what":"binary"}},
"alone":{"c_ratio":{"value":3.5,"aim":4,"at_least":true,"met":false,"what":"c"}},
"fleets":[{"nodes":3,"load_before":[1,0,0],"load_after":[2,0,0],"figures":{
"a_seconds":{"value":0.25,"aim":0.3,"met":true,"what":"a","note":"how"},"b_count":{"value":7,"aim":null,"met":null,"what":"b"}},"failures":[]},
{"nodes":20,"load_before":[3,0,0],"load_after":[4,0,0],"figures":{
"a_seconds":{"value":0.5,"aim":0.3,"met":false,"what":"a","note":"how"}},"failures":["b: it broke"]}]}`
	if got := tight(t, raw); got != tight(t, []byte(want)) {
		t.Errorf("got %s", got)
	}
}

// tight is JSON in one form, with the order of its keys as it is.
func tight(t *testing.T, raw []byte) string {
	t.Helper()
	var b strings.Builder
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		word, err := json.Marshal(token)
		if d, ok := token.(json.Delim); ok {
			word = []byte(d.String())
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(word, ' '))
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := aReport().table(&b); err != nil {
		t.Fatal(err)
	}
	const want = `muster 1.2.3, 2026-01-02 03:04:05, took 1m30s
2 CPUs (A CPU), 8.0 GB of memory, kernel 6.1, ext4 on /dev/vda, load 1.0 2.0 3.0 before, 4.0 5.0 6.0 after
! behind a value: it misses its aim. MB are 1,000,000 bytes, CPU is of one processor.

                      3 nodes   20 nodes     aim
                  a  250 ms    500 ms !   300 ms
                  b       7           -         
load before, after   1.0, 2.0   3.0, 4.0        

binary  20.0 MB    30.0 MB

c  3.50× !  ≥ 4.00×

* a: how
FAILED with 20 nodes: b: it broke
`
	if got := b.String(); lines(got) != lines(want) {
		t.Errorf("got\n%s", got)
	}
}

// lines is text with every run of spaces as one.
func lines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

func TestFailed(t *testing.T) {
	t.Parallel()
	r := aReport()
	if !r.failed() {
		t.Error("what did not work is forgotten")
	}
	r.fleets[1].failures = nil
	if r.failed() {
		t.Error("a missed aim fails the command")
	}
}
