package testnet

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a test waits for something to come true. It bounds hangs; no test asserts a time.
const Patience = 60 * time.Second

// Build builds the binary once per test process and returns its path.
var Build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "muster-testnet-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "muster")
	cmd := exec.Command("go", "build", "-o", bin, "github.com/muster-fleet/muster/cmd/muster")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return bin, nil
})

// Fleet is a fleet of agent processes on this machine, under one operator.
type Fleet struct {
	t     testing.TB
	bin   string
	Dir   string
	Nodes []*Node
	Voter int // voters that the fleet should have
}

// Node is one agent.
type Node struct {
	fleet *Fleet
	Name  string
	Dir   string
	Addr  string
	bin   string // of another version; "": the fleet's
	proc  *exec.Cmd
	ended chan struct{}
}

// Result is what a command line printed and returned.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// New founds a fleet of n nodes, n1 to nN, and waits until all see each other and the quorum has grown.
func New(t testing.TB, n int) *Fleet {
	t.Helper()
	f := Found(t)
	f.Grow(n - 1)
	return f
}

// Found founds a fleet of one node and starts it.
func Found(t testing.TB) *Fleet {
	t.Helper()
	bin, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	f := &Fleet{t: t, bin: bin, Dir: shortTemp(t)}
	t.Cleanup(f.end)
	first := f.add()
	f.Must(first, "init", "--fleet", "test", "--operator", "tester", "--name", first.Name, "--bind", first.Addr,
		"--recovery-file", filepath.Join(f.Dir, "recovery.key"))
	first.Start()
	return f
}

// shortTemp makes a folder with a short path: unix sockets have 108 bytes.
func shortTemp(t testing.TB) string {
	dir, err := os.MkdirTemp("", "mt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (f *Fleet) add() *Node {
	name := fmt.Sprintf("n%d", len(f.Nodes)+1)
	addr := FreeAddr(f.t)
	for slices.ContainsFunc(f.Nodes, func(n *Node) bool { return n.Addr == addr }) { // one that has not bound its port yet
		addr = FreeAddr(f.t)
	}
	n := &Node{fleet: f, Name: name, Dir: filepath.Join(f.Dir, name), Addr: addr}
	f.Nodes = append(f.Nodes, n)
	return n
}

// FreeAddr returns a loopback address with a UDP port that is free now.
func FreeAddr(t testing.TB) string {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}

// Grow enrols and starts more nodes, and waits for them and for the voters.
func (f *Fleet) Grow(more int) {
	f.t.Helper()
	if more > 0 {
		join := f.Token("--uses", fmt.Sprint(more))
		for range more {
			n := f.add()
			n.Start("--join", join, "--name", n.Name, "--bind", n.Addr)
		}
	}
	f.Voter = 1
	if len(f.Nodes) >= 3 {
		f.Voter = 3
	}
	if len(f.Nodes) >= 20 {
		f.Voter = 5
	}
	f.Settled()
}

// Token makes a join string.
func (f *Fleet) Token(args ...string) string {
	f.t.Helper()
	var token struct{ Join string }
	f.JSON(&token, f.Nodes[0], append([]string{"token", "create"}, args...)...)
	return token.Join
}

// Settled waits until every running node sees every running node, and the quorum has its voters.
func (f *Fleet) Settled() {
	f.t.Helper()
	running := 0
	for _, n := range f.Nodes {
		if n.Running() {
			running++
		}
	}
	for _, n := range f.Nodes {
		if n.Running() {
			f.Until(n.Name+" sees the fleet", func() bool {
				var s struct {
					Nodes  struct{ Online int }
					Quorum struct{ Voters []struct{ ID string } }
				}
				r := f.Muster(n, "status", "-o", "json")
				return r.Code == 0 && json.Unmarshal([]byte(r.Stdout), &s) == nil && s.Nodes.Online == running && len(s.Quorum.Voters) >= f.Voter
			})
		}
	}
}

// Until waits for something to come true.
func (f *Fleet) Until(what string, holds func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(Patience)
	for !holds() {
		if time.Now().After(deadline) {
			f.logs()
			f.t.Fatalf("%s: not within %s", what, Patience)
		}
		wait(50 * time.Millisecond)
	}
}

// wait lets real processes go on; virtual time does not reach them.
func wait(d time.Duration) { <-time.After(d) }

// Muster runs a command line against a node's agent.
func (f *Fleet) Muster(n *Node, args ...string) Result {
	f.t.Helper()
	return f.MusterWith(n, "", args...)
}

// MusterWith is Muster with standard input.
func (f *Fleet) MusterWith(n *Node, stdin string, args ...string) Result {
	f.t.Helper()
	cmd := f.Command(n, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		f.t.Fatal(err)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// Command is a command line that was not started yet.
func (f *Fleet) Command(n *Node, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	f.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, n.program(), append([]string{"--data-dir", n.Dir}, args...)...)
	cmd.Env = f.env()
	return cmd
}

func (f *Fleet) env() []string {
	return []string{"HOME=" + f.Dir, "PATH=" + os.Getenv("PATH"), "GOGC=" + os.Getenv("GOGC"), "MUSTER_IDENTITY=" + filepath.Join(f.Dir, "op.key")}
}

// Must is Muster that has to succeed; it returns what was printed.
func (f *Fleet) Must(n *Node, args ...string) string {
	f.t.Helper()
	r := f.Muster(n, args...)
	if r.Code != 0 {
		f.logs()
		f.t.Fatalf("muster %s: exit %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// JSON runs a command with -o json and reads what it prints.
func (f *Fleet) JSON(v any, n *Node, args ...string) {
	f.t.Helper()
	out := f.Must(n, append([]string{"-o", "json"}, args...)...) // before the verb: behind -- all belongs to the command
	if err := json.Unmarshal([]byte(out), v); err != nil {
		f.t.Fatalf("muster %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

// Leader returns the node that leads the quorum, as n sees it, or nil.
func (f *Fleet) Leader(n *Node) *Node {
	var q struct{ Leader struct{ Name string } }
	r := f.Muster(n, "quorum", "status", "-o", "json")
	if r.Code != 0 || json.Unmarshal([]byte(r.Stdout), &q) != nil {
		return nil
	}
	return f.Find(q.Leader.Name)
}

// Find returns the node of that name, or nil.
func (f *Fleet) Find(name string) *Node {
	for _, n := range f.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Start starts the agent and waits until it answers.
func (n *Node) Start(args ...string) {
	n.fleet.t.Helper()
	n.Launch(args...)
	n.fleet.Until("the agent of "+n.Name+" answers", func() bool {
		if !n.Running() {
			n.fleet.logs()
			n.fleet.t.Fatalf("the agent of %s ended", n.Name)
		}
		return n.fleet.Muster(n, "status").Code == 0
	})
}

// Launch starts the agent without waiting.
func (n *Node) Launch(args ...string) {
	n.fleet.t.Helper()
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.fleet.t.Fatal(err)
	}
	defer log.Close()
	n.proc = exec.Command(n.program(), append([]string{"agent", "--data-dir", n.Dir}, args...)...)
	n.proc.Env = n.fleet.env()
	n.proc.Stdout, n.proc.Stderr = log, log
	n.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.proc.Start(); err != nil {
		n.fleet.t.Fatal(err)
	}
	ended := make(chan struct{})
	n.ended = ended
	go func(p *exec.Cmd) {
		_ = p.Wait()
		close(ended)
	}(n.proc)
}

func (n *Node) program() string { return cmp.Or(n.bin, n.fleet.bin) }

func (n *Node) log() string { return filepath.Join(n.fleet.Dir, n.Name+".log") }

// PID returns the agent's process ID.
func (n *Node) PID() int { return n.proc.Process.Pid }

// Running reports whether the agent runs.
func (n *Node) Running() bool {
	if n.ended == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// Kill ends the agent with SIGKILL.
func (n *Node) Kill() { n.signal(syscall.SIGKILL) }

// Stop ends the agent with SIGTERM.
func (n *Node) Stop() { n.signal(syscall.SIGTERM) }

func (n *Node) signal(sig syscall.Signal) {
	n.fleet.t.Helper()
	if !n.Running() {
		return
	}
	if err := n.proc.Process.Signal(sig); err != nil {
		n.fleet.t.Fatal(err)
	}
	select {
	case <-n.ended:
	case <-time.After(Patience):
		n.fleet.t.Fatalf("the agent of %s does not end on %s", n.Name, sig)
	}
}

// Pause stops the agent's process; Resume lets it go on.
func (n *Node) Pause() { _ = n.proc.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused agent go on.
func (n *Node) Resume() { _ = n.proc.Process.Signal(syscall.SIGCONT) }

// end kills whatever still runs: agents, and runs that outlived them.
func (f *Fleet) end() {
	for _, n := range f.Nodes {
		if n.Running() {
			n.Resume()
			_ = n.proc.Process.Kill()
			<-n.ended
		}
	}
}

// logs shows the agents' logs of a failed test.
func (f *Fleet) logs() {
	f.t.Helper()
	for _, n := range f.Nodes {
		if data, err := os.ReadFile(n.log()); err == nil {
			if len(data) > 4<<10 {
				data = data[len(data)-4<<10:]
			}
			f.t.Logf("--- %s\n%s", n.Name, data)
		}
	}
}
