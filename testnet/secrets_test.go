package testnet

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSecretsAreNowhereElse goes through thousands of acts with secrets that all contain one planted text, on real agents
// of which two of five are readers, and then looks for that text, in all forms in which it might have been written: in every
// file and log of the fleet, in every packet, on every command line, in the memory of the agents that are no readers (which is
// what a core dump of them has). The readers hold it in memory only.
func TestSecretsAreNowhereElse(t *testing.T) {
	rounds := 4
	if os.Getenv("MUSTER_LONG") != "" {
		rounds = 560 // 18 acts each: more than 10,000
	}
	f := New(t, 5)
	first := f.Nodes[0]
	for _, n := range f.Nodes[3:] {
		f.Must(first, "node", "tag", n.Name, "role=web")
	}
	canary := newCanary()
	wire := sniff(t, canary)
	lines := readCommandLines(t, canary)
	v := vault{f: f, canary: canary, random: rand.New(rand.NewPCG(1, 2))}
	v.begin(t)
	for i := range rounds {
		v.round(t, i)
	}
	v.end(t)
	t.Logf("%d acts, %d packets, %d looks at command lines", v.acts, wire.seen.Load(), lines.seen.Load())
	for _, n := range f.Nodes[:3] {
		if found := canary.inMemory(t, n.PID()); found != "" {
			t.Errorf("the secret is in the memory of %s, which is no reader: %s", n.Name, found)
		}
	}
	wire.end(t)
	lines.end(t)
	for _, n := range f.Nodes { // what is still in a cache of the process comes to the disk
		n.Stop()
	}
	canary.inFiles(t, f.Dir)
}

// canary is a text that no program makes by itself, with the forms in which it may be found.
type canary struct {
	text  string
	forms map[string][]byte
}

func newCanary() canary {
	text := fmt.Sprintf("Canary%016x%016xYranac", rand.Uint64(), rand.Uint64())
	c := canary{text, map[string][]byte{"plain": []byte(text), "hex": []byte(hex.EncodeToString([]byte(text)))}}
	for shift := range 3 { // base64 of a longer text has it at one of three places within a group
		padded := append(make([]byte, shift), text...)
		inner := base64.StdEncoding.EncodeToString(padded[:len(padded)/3*3])[4:]
		c.forms[fmt.Sprintf("base64, shifted by %d", shift)] = []byte(inner)
	}
	return c
}

// find returns the form in which data has the text, or "".
func (c canary) find(data []byte) string {
	for name, form := range c.forms {
		if bytes.Contains(data, form) {
			return name
		}
	}
	return ""
}

// findIn looks through a stream in pieces that overlap.
func (c canary) findIn(r io.Reader) string {
	const overlap = 256
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := r.Read(buf[kept:])
		if found := c.find(buf[:kept+n]); found != "" {
			return found
		}
		if err != nil {
			return ""
		}
		rest := min(overlap, kept+n)
		copy(buf, buf[kept+n-rest:kept+n])
		kept = rest
	}
}

// inFiles looks into every file of the fleet.
func (c canary) inFiles(t *testing.T, dir string) {
	files := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		files++
		if found := c.findIn(file); found != "" {
			t.Errorf("the secret is in %s: %s", path, found)
		}
		return nil
	})
	if err != nil || files < 50 {
		t.Errorf("looked into %d files only: %v", files, err)
	}
}

// inMemory looks through a process as a core dump of it would have it.
func (c canary) inMemory(t *testing.T, pid int) string {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	looked := int64(0)
	for line := range strings.Lines(string(maps)) {
		span, rest, _ := strings.Cut(line, " ")
		from, to, _ := strings.Cut(span, "-")
		start, err1 := strconv.ParseInt(from, 16, 64)
		end, err2 := strconv.ParseInt(to, 16, 64)
		if err1 != nil || err2 != nil || !strings.HasPrefix(rest, "rw") { // kernel pages are above int64
			continue
		}
		section := &countingReader{r: io.NewSectionReader(memory, start, end-start)}
		found := c.findIn(section)
		looked += section.n
		if found != "" {
			return found + " at " + span
		}
	}
	if looked < 1<<20 {
		t.Errorf("only %d bytes of the memory of process %d could be read", looked, pid)
	}
	return ""
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// watcher is something that looks for the text until it is ended.
type watcher struct {
	what  string
	seen  atomic.Int64
	mu    sync.Mutex
	found []string
	stop  func()
	done  chan struct{}
}

func (w *watcher) tell(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.found) < 5 {
		w.found = append(w.found, text)
	}
}

func (w *watcher) end(t *testing.T) {
	w.stop()
	<-w.done
	if w.seen.Load() == 0 {
		t.Errorf("nothing was seen of %s", w.what)
	}
	for _, text := range w.found {
		t.Errorf("the secret is in %s: %s", w.what, text)
	}
}

// sniff looks into every packet of the loopback device. It is tried once with a packet that has the text.
func sniff(t *testing.T, c canary) *watcher {
	const everything = 0x0300 // ETH_P_ALL in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything)
	if err != nil {
		t.Fatal(err)
	}
	lo, err := net.InterfaceByName("lo")
	if err == nil {
		err = errors.Join(
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: lo.Index}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
		)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{what: "a packet", done: make(chan struct{})}
	var stopped atomic.Bool
	w.stop = func() { stopped.Store(true) }
	tried := make(chan struct{})
	go func() {
		defer close(w.done)
		defer unix.Close(fd)
		trial := true
		buf := make([]byte, 1<<17)
		for !stopped.Load() {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				continue
			}
			w.seen.Add(1)
			switch found := c.find(buf[:n]); {
			case found == "":
			case bytes.Contains(buf[:n], []byte("TRIAL "+c.text)):
				if trial {
					trial = false
					close(tried)
				}
			default:
				w.tell(found)
			}
		}
	}()
	conn, err := net.Dial("udp", FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for deadline := time.Now().Add(Patience); ; wait(10 * time.Millisecond) {
		_, _ = conn.Write([]byte("TRIAL " + c.text)) // nobody listens there
		select {
		case <-tried:
			return w
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the trial packet was not seen")
		}
	}
}

// readCommandLines looks at the command lines of all processes, again and again.
func readCommandLines(t *testing.T, c canary) *watcher {
	w := &watcher{what: "a command line", done: make(chan struct{})}
	stop := make(chan struct{})
	w.stop = func() { close(stop) }
	go func() {
		defer close(w.done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range processes {
				if data, err := os.ReadFile(path); err == nil && c.find(data) != "" {
					w.tell(strings.ReplaceAll(strings.ReplaceAll(string(data), "\x00", " "), c.text, "…"))
				}
			}
			w.seen.Add(1)
		}
	}()
	return w
}

// vault acts with secrets as its users would.
type vault struct {
	f      *Fleet
	canary canary
	random *rand.Rand
	acts   int
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

func (v *vault) begin(t *testing.T) {
	doc := filepath.Join(t.TempDir(), "show.yaml")
	if err := os.WriteFile(doc, []byte(showSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	v.f.Must(v.f.Nodes[0], "doc", "put", doc, "--name", "Show")
	v.put(t, 1, "--readers", "tag.role=web")
	v.f.Until("the readers can read", func() bool {
		return v.read(v.f.Nodes[3]) && v.read(v.f.Nodes[4])
	})
}

// put makes a version of secret k that contains the text.
func (v *vault) put(t *testing.T, k int, more ...string) {
	t.Helper()
	value := fmt.Sprintf("before %d %s behind", v.random.IntN(1000), v.canary.text)
	args := append([]string{"param", "put", fmt.Sprintf("/app/s%d", k), "--type", "SecureString", "--stdin", "--overwrite"}, more...)
	if r := v.f.MusterWith(v.f.Nodes[v.random.IntN(5)], value, args...); r.Code != 0 {
		t.Fatalf("put: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	v.acts++
}

// read reads a secret as the host itself.
func (v *vault) read(n *Node) bool {
	v.acts++
	r := v.f.Muster(n, "param", "get", "/app/s1", "--decrypt", "--as-host")
	return r.Code == 0 && strings.Contains(r.Stdout, v.canary.text)
}

// must is an act that has to succeed, or to end as it should.
func (v *vault) must(t *testing.T, code int, n *Node, args ...string) string {
	t.Helper()
	v.acts++
	r := v.f.Muster(n, args...)
	if r.Code != code {
		t.Fatalf("muster %s: exit %d, not %d\n%s%s", strings.Join(args, " "), r.Code, code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func (v *vault) round(t *testing.T, i int) {
	n := v.f.Nodes
	k := 1 + i%8
	v.put(t, k, "--readers", "tag.role=web")
	v.put(t, k)
	v.must(t, 0, n[i%5], "param", "get", fmt.Sprintf("/app/s%d", k))
	v.must(t, 0, n[i%5], "param", "list", "/app")
	v.must(t, 0, n[i%5], "param", "history", "/app/s1")
	v.must(t, 0, n[1], "param", "label", "/app/s1", "latest", fmt.Sprintf("l%d", i%7))
	for _, reader := range n[3:] {
		if !v.read(reader) {
			t.Fatalf("%s cannot read its secret", reader.Name)
		}
	}
	v.must(t, 3, n[2], "param", "get", "/app/s1", "--decrypt", "--as-host") // no reader
	out := v.must(t, 1, n[0], "run", "--doc", "Show", "--target", "tag.role=web")
	if !strings.Contains(out, "the secret is ") || v.canary.find([]byte(out)) != "" {
		t.Fatalf("masked: %s", out)
	}
	v.must(t, 0, n[0], "run", "--target", n[3].Name, "--env", "S={{ssm-secure:/app/s1}}", "--", `test -n "$S" && echo "$S"`)
	v.must(t, 3, n[0], "run", "--doc", "Show", "--target", n[2].Name) // refused there
	v.must(t, 0, n[4], "param", "run", "--path", "/app", "--as-host", "--", `test -n "$S1"`)
	v.must(t, 0, n[i%5], "param", "export", "--path", "/app", "--out", filepath.Join(v.f.Dir, fmt.Sprintf("export%d.json", i%3)))
	v.must(t, 0, n[i%5], "keyring", "show", "role-web")
	switch i % 5 {
	case 1:
		v.must(t, 0, n[0], "keyring", "rotate", "role-web")
	case 3: // an agent of no reader and one of a reader die and come back
		for _, dies := range []*Node{n[i%3], n[3+i%2]} {
			dies.Kill()
			dies.Start()
		}
		v.f.Settled()
	}
}

// end takes a reader away: what is put then is closed to it.
func (v *vault) end(t *testing.T) {
	left := v.f.Nodes[4]
	v.must(t, 0, v.f.Nodes[0], "node", "tag", left.Name, "role=db")
	v.put(t, 1)
	if v.read(left) {
		t.Errorf("%s, which has left the keyring, can read what was put later", left.Name)
	}
	v.f.Until("the one that stayed can read it", func() bool { return v.read(v.f.Nodes[3]) })
	if out := v.must(t, 0, v.f.Nodes[0], "keyring", "show", "role-web"); !strings.Contains(out, left.Name) {
		t.Errorf("keyring show does not say that %s had been able to read: %s", left.Name, out)
	}
}
