package testnet

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/muster-fleet/muster/node/api"
)

// The figures of the real binary, on loopback. They print and assert nothing: what a machine is worth, and what else it
// does, decides them. Packets and bytes are the kernel's counts of the whole network namespace, so run them alone:
//
//	unshare -n sh -c 'ip link set lo up && go test -run ^$ -bench . ./testnet'

// ticks is USER_HZ: /proc counts CPU time in hundredths of a second, on every architecture of Linux that Go has.
const ticks = 100

// usage is what the agents and the namespace have used so far.
type usage struct {
	cpu     time.Duration // of all agents, and of the children that they waited for
	packets uint64        // UDP, sent
	bytes   uint64        // IP, sent, headers included
}

func (f *Fleet) usage(b *testing.B) usage {
	b.Helper()
	u := usage{packets: counter(b, "/proc/net/snmp", "Udp:", "OutDatagrams"), bytes: counter(b, "/proc/net/netstat", "IpExt:", "OutOctets")}
	for _, n := range f.Nodes {
		u.cpu += n.cpu(b)
	}
	return u
}

func (u usage) since(before usage) usage {
	return usage{u.cpu - before.cpu, u.packets - before.packets, u.bytes - before.bytes}
}

// cpu reads what the agent and its children that have ended took of the CPU.
func (n *Node) cpu(b *testing.B) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID()))
	if err != nil {
		b.Fatal(err)
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:]) // from the state, field 3, on
	total := 0
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		v, _ := strconv.Atoi(string(field))
		total += v
	}
	return time.Duration(total) * time.Second / ticks
}

// memory reads a line of smaps_rollup or status, in bytes.
func (n *Node) memory(b *testing.B, file, key string) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", n.PID(), file))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			v, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return v * 1024
		}
	}
	b.Fatalf("no %s in %s", key, file)
	return 0
}

// counter reads one number of a file of /proc/net that has a line of names and a line of numbers.
func counter(b *testing.B, file, group, name string) uint64 {
	b.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] != group:
		case names == nil:
			names = fields
		default:
			v, _ := strconv.ParseUint(fields[slices.Index(names, name)], 10, 64)
			return v
		}
	}
	b.Fatalf("no %s in %s", name, file)
	return 0
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// table prints rows of a name, a median, the least and the most, and reports the medians.
type table struct {
	b    *testing.B
	rows []tableRow
}

type tableRow struct {
	name, unit string
	values     []float64
}

func (t *table) add(name, unit string, values ...float64) {
	t.rows = append(t.rows, tableRow{name, unit, values})
}

func (t *table) print(title string) {
	var text bytes.Buffer
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(&text, "%s (load %s)\n", title, strings.Join(strings.Fields(string(load))[:3], " "))
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tmedian\tleast\tmost\tof\t")
	for _, r := range t.rows {
		m := median(r.values)
		fmt.Fprintf(w, "%s, %s\t%.4g\t%.4g\t%.4g\t%d\t\n", r.name, r.unit, m, r.values[0], r.values[len(r.values)-1], len(r.values))
		t.b.ReportMetric(m, strings.ReplaceAll(r.unit+" "+r.name, " ", "-"))
	}
	w.Flush()
	t.b.ReportMetric(0, "ns/op")
	t.b.Log(text.String())
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// form founds a fleet of n agents, all but the first started at once, and returns when everyone sees everyone and the
// quorum is whole. It asks over the sockets: a command line for every look would be most of the load.
func form(b *testing.B, n int) (f *Fleet, took time.Duration) {
	b.Helper()
	if _, err := Build(); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	f = Found(b)
	join := f.Token("--uses", fmt.Sprint(n))
	launch := func(node *Node) { node.Launch("--join", join, "--name", node.Name, "--bind", node.Addr) }
	for range n - 1 {
		launch(f.add())
	}
	f.Voter = 3
	if n >= 20 {
		f.Voter = 5
	}
	for _, node := range f.Nodes {
		client := api.Dial(filepath.Join(node.Dir, "agent.sock"))
		f.Until(node.Name+" sees the fleet", func() bool {
			for _, n := range f.Nodes {
				if !n.Running() { // it found nobody in time and ended: started again, as by its service
					b.Logf("%s is started again", n.Name)
					launch(n)
				}
			}
			ctx, cancel := context.WithTimeout(b.Context(), Patience)
			defer cancel()
			s, err := client.Status(ctx)
			return err == nil && s.Online == n && len(s.Quorum.Voters) >= f.Voter
		})
		client.Close()
	}
	return f, time.Since(start)
}

func benchmarkFormation(b *testing.B, n int) {
	var took []float64
	for b.Loop() {
		for range 3 {
			f, d := form(b, n)
			took = append(took, d.Seconds())
			f.end()
		}
	}
	t := table{b: b}
	t.add("init to whole", "s", took...)
	t.print(fmt.Sprintf("formation of %d agents on one machine", n))
}

// BenchmarkFormation5 measures from muster init until five agents see each other and three vote.
func BenchmarkFormation5(b *testing.B) { benchmarkFormation(b, 5) }

// BenchmarkFormation20 measures from muster init until twenty agents see each other and five vote.
func BenchmarkFormation20(b *testing.B) { benchmarkFormation(b, 20) }

// BenchmarkRunTrue20 measures `muster run --all -- true` on twenty agents: the wall time of the command line, and the CPU
// time that all agents with their runs, and the command line itself, take for it.
func BenchmarkRunTrue20(b *testing.B) {
	const rounds = 10
	f, _ := form(b, 20)
	wait(5 * time.Second) // what formation left to do
	f.Must(f.Nodes[0], "run", "--all", "--yes", "--", "true")
	var wall, agents, line []float64
	for b.Loop() {
		for range rounds {
			before, start := f.usage(b), time.Now()
			cmd := f.Command(f.Nodes[7], "run", "--all", "--yes", "--", "true")
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			wall = append(wall, milliseconds(time.Since(start)))
			wait(time.Second) // until the agents have waited for their supervisors
			agents = append(agents, milliseconds(f.usage(b).since(before).cpu))
			line = append(line, milliseconds(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()))
		}
	}
	t := table{b: b}
	t.add("wall", "ms", wall...)
	t.add("CPU of all agents and runs", "ms", agents...)
	t.add("CPU of the command line", "ms", line...)
	t.print("muster run --all -- true, 20 agents")
}

func benchmarkIdle(b *testing.B, n int) {
	const window = 20 * time.Second
	f, _ := form(b, n)
	wait(30 * time.Second) // until nothing of the formation goes on
	var rss, pss, anon, cpu, packets, octets []float64
	for b.Loop() {
		before, start := f.usage(b), time.Now()
		each := make([]time.Duration, n)
		for i, node := range f.Nodes {
			each[i] = node.cpu(b)
		}
		wait(window)
		seconds := time.Since(start).Seconds()
		used := f.usage(b).since(before)
		packets = append(packets, float64(used.packets)/seconds/float64(n))
		octets = append(octets, float64(used.bytes)/seconds/float64(n))
		for i, node := range f.Nodes {
			cpu = append(cpu, 100*(node.cpu(b)-each[i]).Seconds()/seconds)
			rss = append(rss, node.memory(b, "status", "VmRSS")/(1<<20))
			pss = append(pss, node.memory(b, "smaps_rollup", "Pss")/(1<<20))
			anon = append(anon, node.memory(b, "status", "RssAnon")/(1<<20))
		}
	}
	t := table{b: b}
	t.add("RSS", "MiB", rss...)
	t.add("PSS", "MiB", pss...)
	t.add("RSS without files", "MiB", anon...)
	t.add("CPU", "%", cpu...)
	t.add("UDP sent a node", "packets per s", packets...)
	t.add("IP sent a node", "bytes per s", octets...)
	t.print(fmt.Sprintf("idle, %d agents, each over %s", n, window))
}

// BenchmarkIdle5 measures what each of five agents takes that do nothing.
func BenchmarkIdle5(b *testing.B) { benchmarkIdle(b, 5) }

// BenchmarkIdle20 measures what each of twenty agents takes that do nothing.
func BenchmarkIdle20(b *testing.B) { benchmarkIdle(b, 20) }

// BenchmarkBinary measures the size of the binary, as built here and as it is shipped.
func BenchmarkBinary(b *testing.B) {
	bin, err := Build()
	if err != nil {
		b.Fatal(err)
	}
	shipped := filepath.Join(b.TempDir(), "muster")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", shipped, "github.com/muster-fleet/muster/cmd/muster")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for b.Loop() { // there is nothing to repeat
	}
	t := table{b: b}
	for name, path := range map[string]string{"with symbols": bin, "stripped": shipped} {
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		t.add(name, "MiB", float64(info.Size())/(1<<20))
	}
	t.print("binary")
}
