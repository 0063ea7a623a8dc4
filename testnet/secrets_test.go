package testnet

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// secretActs is how many acts clerks do; those of the command line come to them.
var secretActs = flag.Int("secrets.acts", 0, "how many acts with secrets (default: some; with MUSTER_LONG=1 10,000)")

const (
	someActs     = 120
	manyActs     = 10_000
	fillingActs  = 1000 // from so many on, servers are made to take snapshots
	actsPerRound = 60   // of clerks, beside some 25 of the command line
)

// TestSecretsAreNowhereElse goes through thousands of acts with secrets that all contain one planted text, on real agents
// of which two of five are readers, and then looks for that text, in all forms in which it might have been written: in every
// file and log of the fleet, in every packet, on every command line, in the memory of the agents that are no readers (which is
// what a core dump of them has). The readers hold it in memory only.
//
// An act is what the fleet has answered as done. The command line does some of each kind, and clerks, who sign and seal within
// this process by the same functions, do the number: several at once, while agents die and come back, keyrings get new keys
// and readers come and go.
func TestSecretsAreNowhereElse(t *testing.T) {
	acts := *secretActs
	switch {
	case acts > 0:
	case os.Getenv("MUSTER_LONG") != "":
		acts = manyActs
	default:
		acts = someActs
	}
	rounds := max(4, acts/actsPerRound)
	f := New(t, 5)
	first := f.Nodes[0]
	for _, n := range f.Nodes[3:] {
		f.Must(first, "node", "tag", n.Name, "role=web")
	}
	canary := newCanary()
	wire := sniff(t, canary)
	lines := readCommandLines(t, canary)
	v := &vault{f: f, canary: canary, random: rand.New(rand.NewPCG(1, 2)), dir: t.TempDir(), tally: newTally()}
	v.begin(t)
	clerks := v.hire(t)
	share := (acts + rounds*len(clerks) - 1) / (rounds * len(clerks))
	began := time.Now()
	for i := range rounds {
		working := clerks.start(t, share)
		v.round(t, i)
		if i == rounds/2 {
			v.guest(t)
		}
		for _, err := range working() {
			t.Fatal(err)
		}
		if i == rounds/2 && acts >= fillingActs {
			v.fill(t, clerks)
		}
		if i%20 == 19 {
			t.Logf("round %d of %d: %d acts in %s", i+1, rounds, v.tally.acts(), time.Since(began).Round(time.Second))
		}
	}
	v.end(t)
	t.Logf("%d rounds in %s, %d packets, %d looks at command lines\n%s",
		rounds, time.Since(began).Round(time.Second), wire.seen.Load(), lines.seen.Load(), v.tally)
	if v.tally.acts() < acts {
		t.Errorf("%d acts only, not %d", v.tally.acts(), acts)
	}
	for _, n := range f.Nodes[:3] {
		v.lookInto(t, n)
	}
	for _, found := range wire.end(t) {
		t.Errorf("the secret is in a packet: %s", found)
	}
	for _, found := range lines.end(t) {
		t.Errorf("the secret is on a command line: %s", found)
	}
	for _, n := range f.Nodes { // what is still in a cache of the process comes to the disk
		n.Stop()
	}
	found, files, err := canary.inFiles(f.Dir)
	if err != nil || files < 50 {
		t.Errorf("looked into %d files only: %v", files, err)
	}
	for _, where := range found {
		t.Errorf("the secret is in a file: %s", where)
	}
}

// tally counts what was done, by whom and by kind. What was refused as it should be is counted beside it, and is no act.
type tally struct {
	mu sync.Mutex
	n  map[string]map[string]int
}

// Who acts, and what is counted but no act.
const (
	byCommandLine = "command line"
	byClerks      = "clerks"
	refused       = "refused"
	noActs        = "beside"
)

func newTally() *tally { return &tally{n: map[string]map[string]int{}} }

func (y *tally) add(by, kind string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.n[by] == nil {
		y.n[by] = map[string]int{}
	}
	y.n[by][kind]++
}

func (y *tally) acts() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	sum := 0
	for _, by := range []string{byCommandLine, byClerks} {
		for _, n := range y.n[by] {
			sum += n
		}
	}
	return sum
}

func (y *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d acts", y.acts())
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, by := range slices.Sorted(maps.Keys(y.n)) {
		sum := 0
		var kinds []string
		for _, kind := range slices.Sorted(maps.Keys(y.n[by])) {
			sum += y.n[by][kind]
			kinds = append(kinds, fmt.Sprintf("%s %d", kind, y.n[by][kind]))
		}
		fmt.Fprintf(&b, "\n%s: %d: %s", by, sum, strings.Join(kinds, ", "))
	}
	return b.String()
}

// vault acts with secrets as its users would.
type vault struct {
	f      *Fleet
	canary canary
	random *rand.Rand
	dir    string // of this test, where the text may be
	tally  *tally
}

const showSecret = `schemaVersion: "2.2"
mainSteps:
- action: aws:runShellScript
  name: show
  inputs:
    runCommand:
    - echo "the secret is {{ ssm-secure:/app/s1 }}"
    - echo "{{ ssm-secure:/app/s1 }}" >&2
    - printf %s "{{ ssm-secure:/app/s1 }}" | wc -c
    - test "{{ ssm-secure:/app/s1 }}" = "x" || exit 3
`

const setSecret = `schemaVersion: "2.2"
mainSteps:
- action: aws:runShellScript
  name: set
  inputs:
    runCommand:
    - test -n "{{ ssm-secure:/app/rotated:pending }}"
    - echo "set to {{ ssm-secure:/app/rotated:pending }}"
`

func (v *vault) begin(t *testing.T) {
	t.Helper()
	for name, text := range map[string]string{"Show": showSecret, "Set": setSecret} {
		v.must(t, 0, v.f.Nodes[0], "doc", "put", v.write(t, name+".yaml", text), "--name", name)
	}
	v.put(t, "/app/s1", "--readers", "tag.role=web")
	v.put(t, "/app/rotated", "--readers", "tag.role=web")
	v.f.Until("the readers can read", func() bool {
		return v.read(v.f.Nodes[3]) && v.read(v.f.Nodes[4])
	})
}

// write makes a file that is none of the fleet's.
func (v *vault) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(v.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// put makes a version of a secret that contains the text.
func (v *vault) put(t *testing.T, name string, more ...string) {
	t.Helper()
	args := append([]string{"param", "put", name, "--type", "SecureString", "--stdin", "--overwrite"}, more...)
	v.mustWith(t, v.canary.secret(v.random), 0, v.f.Nodes[v.random.IntN(5)], args...)
}

// secret makes a value that contains the text; one in ten is large.
func (c canary) secret(random *rand.Rand) string {
	value := fmt.Sprintf("before %d %s behind", random.IntN(1000), c.text)
	if random.IntN(10) == 0 {
		value += strings.Repeat(" "+c.text, 100)
	}
	return value
}

// read reads a secret as the host itself.
func (v *vault) read(n *Node) bool {
	r := v.f.Muster(n, "param", "get", "/app/s1", "--decrypt", "--as-host")
	if r.Code != 0 || !strings.Contains(r.Stdout, v.canary.text) {
		return false
	}
	v.tally.add(byCommandLine, "param get")
	return true
}

// must is an act that has to succeed, or to end as it should.
func (v *vault) must(t *testing.T, code int, n *Node, args ...string) string {
	t.Helper()
	return v.mustWith(t, "", code, n, args...)
}

// mustWith is must with standard input.
func (v *vault) mustWith(t *testing.T, stdin string, code int, n *Node, args ...string) string {
	t.Helper()
	r := v.f.MusterWith(n, stdin, args...)
	if r.Code != code {
		v.f.logs()
		t.Fatalf("muster %s: exit %d, not %d\n%s%s", strings.Join(args, " "), r.Code, code, r.Stdout, r.Stderr)
	}
	kind, by := args[0], byCommandLine
	if kind != "run" {
		kind += " " + args[1]
	}
	if code == 3 {
		by = refused
	}
	v.tally.add(by, kind)
	return r.Stdout
}

// mustShow is must that has to print the text.
func (v *vault) mustShow(t *testing.T, n *Node, args ...string) {
	t.Helper()
	if out := v.must(t, 0, n, args...); v.canary.find([]byte(out)) == "" {
		t.Fatalf("muster %s: not the secret: %s", strings.Join(args, " "), out)
	}
}

// round does each kind of act on the command line.
func (v *vault) round(t *testing.T, i int) {
	t.Helper()
	n := v.f.Nodes
	any, reader := n[i%5], n[3+i%2]
	name := fmt.Sprintf("/app/s%d", 1+i%8)
	v.put(t, name, "--readers", "tag.role=web", "--label", "prior")
	v.put(t, name)
	v.must(t, 0, any, "param", "get", name)
	v.must(t, 0, any, "param", "list", "/app")
	v.must(t, 0, any, "param", "history", "/app/s1")
	v.must(t, 0, n[1], "param", "label", "/app/s1", "latest", fmt.Sprintf("l%d", i%7))
	for _, reader := range n[3:5] {
		if !v.read(reader) {
			t.Fatalf("%s cannot read its secret", reader.Name)
		}
	}
	v.must(t, 3, n[2], "param", "get", "/app/s1", "--decrypt", "--as-host") // no reader
	v.mustShow(t, any, "param", "get", name, "--decrypt")
	v.mustShow(t, any, "param", "get", name, "--decrypt", "--recovery-key", filepath.Join(v.f.Dir, "recovery.key"))
	v.mustShow(t, any, "param", "history", name, "--decrypt", "-o", "json")
	v.mustShow(t, any, "param", "diff", name, "prior", "latest", "--decrypt", "-o", "json")
	v.must(t, 0, any, "param", "rollback", name, "prior")
	out := v.must(t, 1, n[0], "run", "--doc", "Show", "--target", "tag.role=web")
	if !strings.Contains(out, "the secret is ") || v.canary.find([]byte(out)) != "" {
		t.Fatalf("masked: %s", out)
	}
	v.must(t, 0, n[0], "run", "--target", n[3].Name, "--env", "S={{ssm-secure:/app/s1}}", "--", `test -n "$S" && echo "$S"`)
	v.must(t, 3, n[0], "run", "--doc", "Show", "--target", n[2].Name) // refused there
	v.must(t, 0, n[4], "param", "run", "--path", "/app", "--as-host", "--", `test -n "$S1"`)
	v.mustShow(t, reader, "param", "render", v.write(t, "template", `s={{ secret "/app/s1" }}`), "--as-host")
	exported := filepath.Join(v.f.Dir, fmt.Sprintf("export%d.json", i%3))
	v.must(t, 0, any, "param", "export", "--path", "/app", "--out", exported)
	v.mustWith(t, fmt.Sprintf(`{"Parameters": [{"Name": "/in/a", "Type": "SecureString", "Value": "a%d %s"}, {"Name": "/in/b", "Type": "SecureString", "Value": %[2]q}]}`,
		i, v.canary.text), 0, any, "param", "import", "-", "--overwrite", "--readers", "keyring:role-web")
	v.must(t, 0, any, "keyring", "show", "role-web")
	switch i % 5 {
	case 0:
		v.mustWith(t, v.canary.secret(v.random), 0, any, "param", "rotate", "/app/rotated", "--doc", "Set", "--target", "tag.role=web", "--stdin", "--yes")
		v.must(t, 0, any, "param", "delete", "/in/a", "/in/b")
	case 1:
		v.must(t, 0, n[0], "keyring", "rotate", "role-web")
	case 3: // an agent of no reader and one of a reader die and come back
		v.restart(t, n[i%3], n[3+i%2])
	case 4:
		if i%10 == 4 && i > 4 {
			v.leave(t, n[4])
			v.comeBack(t, n[4])
		}
	}
}

// restart kills agents and starts them again. What was in the memory of one that is no reader is searched before, and its
// folder, as it is then, is kept as a backup would.
func (v *vault) restart(t *testing.T, other, reader *Node) {
	t.Helper()
	v.lookInto(t, other)
	other.Kill()
	kept := filepath.Join(v.f.Dir, "backup-"+other.Name)
	if err := os.RemoveAll(kept); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", other.Dir, kept).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	other.Start()
	reader.Kill()
	reader.Start()
	v.f.Settled()
	v.tally.add(noActs, "backups")
	v.tally.add(noActs, "kills")
	v.tally.add(noActs, "kills")
}

// lookInto searches the memory of an agent that is no reader.
func (v *vault) lookInto(t *testing.T, n *Node) {
	t.Helper()
	found, looked := v.canary.inMemory(t, n.PID())
	if found != "" {
		t.Errorf("the secret is in the memory of %s, which is no reader: %s", n.Name, found)
	}
	if looked < 1<<20 {
		t.Errorf("only %d bytes of the memory of %s could be read", looked, n.Name)
	}
	v.tally.add(noActs, "looks into memory")
}

// leave takes a reader away: what is put then is closed to it.
func (v *vault) leave(t *testing.T, n *Node) {
	t.Helper()
	v.must(t, 0, v.f.Nodes[0], "node", "tag", n.Name, "role=db")
	v.put(t, "/app/s1")
	if v.read(n) {
		t.Errorf("%s, which has left the keyring, can read what was put later", n.Name)
	}
	v.f.Until("the one that stayed can read it", func() bool { return v.read(v.f.Nodes[3]) })
	if out := v.must(t, 0, v.f.Nodes[0], "keyring", "show", "role-web"); !strings.Contains(out, n.Name) {
		t.Errorf("keyring show does not say that %s had been able to read: %s", n.Name, out)
	}
}

func (v *vault) comeBack(t *testing.T, n *Node) {
	t.Helper()
	v.must(t, 0, v.f.Nodes[0], "node", "tag", n.Name, "role=web")
	v.put(t, "/app/s1")
	v.f.Until(n.Name+" can read again", func() bool { return v.read(n) })
}

// guest is a host that joins the fleet, becomes a reader, and is removed. Its files stay.
func (v *vault) guest(t *testing.T) {
	t.Helper()
	v.f.Grow(1)
	guest := v.f.Nodes[5]
	v.comeBack(t, guest)
	v.must(t, 0, v.f.Nodes[0], "node", "delete", guest.Name)
	guest.Stop()
	v.f.Nodes = v.f.Nodes[:5]
	v.f.Settled()
	v.put(t, "/app/s1")
	v.tally.add(noActs, "guests")
}

// fill puts until every voter has made a snapshot of the state, which is due after 64 MiB. The clerks' acts count as such.
func (v *vault) fill(t *testing.T, all clerks) {
	t.Helper()
	for _, c := range all {
		c.fills = true
		defer func() { c.fills = false }()
	}
	const most = 60 // times 5 MB
	for range most {
		for _, err := range all.start(t, 5)() {
			t.Fatal(err)
		}
		paths, err := filepath.Glob(filepath.Join(v.f.Dir, "n*", "raft", "replica", "snapshots", "*", "state.bin"))
		if err != nil {
			t.Fatal(err)
		}
		made := map[string]bool{}
		for _, path := range paths {
			rest, _ := strings.CutPrefix(path, v.f.Dir+"/")
			if node, _, _ := strings.Cut(rest, "/"); !strings.Contains(rest, ".tmp/") {
				made[node] = true
			}
		}
		if len(made) >= v.f.Voter {
			for range paths {
				v.tally.add(noActs, "snapshots")
			}
			return
		}
	}
	t.Fatal("the servers have made no snapshots")
}

// end takes a reader away for good.
func (v *vault) end(t *testing.T) {
	t.Helper()
	v.leave(t, v.f.Nodes[4])
}
