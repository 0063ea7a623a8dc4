package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of the demo.
const (
	demoFewest = 3
	demoMost   = 50
	demoWait   = 60 * time.Second // for any one thing to come true
	demoLook   = 50 * time.Millisecond
)

func newDemoCommand(a *app) *cobra.Command {
	var (
		nodes int
		exit  bool
	)
	cmd := &cobra.Command{
		Use: "demo", Short: "See a fleet form, work, lose its leader and work on", Args: noArgs,
		Long: `See a fleet form, work, lose its leader and work on.

Starts agents as processes of their own on loopback addresses, in a temporary folder that is removed at the end. Nothing
else on this machine is touched.`,
		Example: `  muster demo
  muster demo --nodes 20 --exit`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if nodes < demoFewest || nodes > demoMost {
				return fleet.Errorf(fleet.Invalid, "--nodes must be %d to %d", demoFewest, demoMost)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return a.demo(ctx, nodes, exit)
		},
	}
	cmd.Flags().IntVar(&nodes, "nodes", 5, "how many agents")
	cmd.Flags().BoolVar(&exit, "exit", false, "end after the last step; exit 0 only if every step held")
	return cmd
}

// stage is the running demo.
type stage struct {
	out    io.Writer
	self   string // this binary
	dir    string
	nodes  []*actor
	began  time.Time
	colour bool
}

// actor is one agent of the demo.
type actor struct {
	name string
	dir  string
	addr string
	proc *osexec.Cmd
	done chan struct{}
	log  string
}

func (a *app) demo(ctx context.Context, nodes int, exit bool) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "muster-demo-")
	if err != nil {
		return err
	}
	s := &stage{out: a.stdout, self: self, dir: dir, began: time.Now(), colour: a.colours(a.stdout)}
	defer func() {
		s.strike()
		if ctx.Err() != nil && !exit {
			err = nil // Ctrl-C is how the demo ends
		}
	}()
	if err := s.play(ctx, nodes); err != nil || exit {
		return err
	}
	s.explore()
	<-ctx.Done()
	return nil
}

// play is the demo, step by step.
func (s *stage) play(ctx context.Context, nodes int) error {
	for _, step := range []func() error{
		func() error { return s.gather(ctx, nodes) },
		func() error { return s.work(ctx) },
		func() error { return s.stop(ctx) },
		func() error { return s.loseLeader(ctx) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	s.tell("Every step held, in %.0f s.", time.Since(s.began).Seconds())
	return nil
}

func (s *stage) gather(ctx context.Context, nodes int) error {
	s.tell("%d hosts, no server: each is a process with an address and a folder of its own.", nodes)
	for i := range nodes {
		role := "web"
		if i < 2 {
			role = "db"
		}
		number := i + 1
		if role == "web" {
			number = i - 1
		}
		addr, err := freeAddr()
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s%d", role, number)
		s.nodes = append(s.nodes, &actor{name: name, dir: filepath.Join(s.dir, name), addr: addr})
	}
	first := s.nodes[0]
	if _, err := s.muster(ctx, first, "init", "--fleet", "demo", "--operator", "you", "--name", first.name, "--bind", first.addr,
		"--tag", "role=db", "--recovery-file", filepath.Join(s.dir, "recovery.key")); err != nil {
		return err
	}
	if err := s.start(ctx, first); err != nil {
		return err
	}
	joins := map[string]string{}
	for role, uses := range map[string]int{"db": 1, "web": nodes - 2} {
		var token struct{ Join string }
		out, err := s.muster(ctx, first, "token", "create", "-o", "json", "--tag", "role="+role, "--uses", fmt.Sprint(uses))
		if err == nil {
			err = json.Unmarshal(out, &token)
		}
		if err != nil {
			return err
		}
		joins[role] = token.Join
	}
	s.tell("%s founded the fleet; the others enrol with join strings that it made.", first.name)
	for _, n := range s.nodes[1:] {
		if err := s.start(ctx, n, "--join", joins[strings.TrimRight(n.name, "0123456789")], "--name", n.name, "--bind", n.addr); err != nil {
			return err
		}
	}
	voters := 3
	if nodes >= 20 {
		voters = 5
	}
	return s.until(ctx, fmt.Sprintf("%d voters and %d nodes online", voters, nodes), func() bool {
		q, ok := s.quorum(ctx, first)
		return ok && len(q.Voters) >= voters && s.online(ctx, first) == nodes
	})
}

func (s *stage) work(ctx context.Context) error {
	first := s.nodes[0]
	if _, err := s.show(ctx, first, exec.ExitOK, "node", "list"); err != nil {
		return err
	}
	s.tell("A command on all of them, signed by your key and checked by each host itself:")
	if _, err := s.show(ctx, first, exec.ExitOK, "run", "--all", "--", "uname -s"); err != nil {
		return err
	}
	s.tell("On some, and one of them fails:")
	_, err := s.show(ctx, first, exec.ExitFailed, "run", "--target", "tag.role=web", "--", `test $MUSTER_NODE != web1 && echo fine`)
	return err
}

func (s *stage) loseLeader(ctx context.Context) error {
	q, ok := s.quorum(ctx, s.nodes[0])
	leader := s.find(q.Leader.Name)
	if !ok || leader == nil {
		return fleet.Errorf(fleet.Unavailable, "the demo's fleet has no leader")
	}
	witness := s.nodes[len(s.nodes)-1]
	if witness == leader {
		witness = s.nodes[len(s.nodes)-2]
	}
	s.tell("Now the leader, %s, dies (SIGKILL). %s asks, and it runs on:", leader.name, witness.name)
	killed := time.Now()
	_ = leader.proc.Process.Kill()
	<-leader.done
	if _, err := s.show(ctx, witness, exec.ExitUnknown, "run", "--all", "--", "echo still here"); err != nil {
		return err
	}
	if err := s.until(ctx, "a new leader", func() bool {
		q, ok = s.quorum(ctx, witness)
		return ok && q.Leader.Name != "" && q.Leader.Name != leader.name
	}); err != nil {
		return err
	}
	s.tell("%s leads now; command and all took %.1f s. The dead host is named, and gets the command if it comes back in time.",
		q.Leader.Name, time.Since(killed).Seconds())
	return nil
}

func (s *stage) explore() {
	alive := s.nodes[len(s.nodes)-1]
	for _, n := range s.nodes {
		if n.running() {
			alive = n
			break
		}
	}
	fmt.Fprintf(s.out, "\nThe fleet goes on until you press Ctrl-C. In another terminal:\n\n"+
		"  export MUSTER_DATA_DIR=%s MUSTER_IDENTITY=%s\n  alias muster=%s\n"+
		"  muster status\n  muster node list\n  muster run --all -- 'uptime'\n  muster command list\n  muster quorum status\n\n",
		alive.dir, s.key(), s.self)
}

func (s *stage) key() string { return filepath.Join(s.dir, "operator.key") }

// tell says what happens, in a line.
func (s *stage) tell(format string, args ...any) {
	text := "\n" + fmt.Sprintf(format, args...)
	if s.colour {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	fmt.Fprintln(s.out, text)
}

// start starts an agent and waits until it answers.
func (s *stage) start(ctx context.Context, n *actor, args ...string) error {
	n.log = filepath.Join(s.dir, n.name+".log")
	log, err := os.Create(n.log)
	if err != nil {
		return err
	}
	defer log.Close()
	n.proc = osexec.Command(s.self, append([]string{"agent", "--data-dir", n.dir}, args...)...)
	n.proc.Env = s.env()
	n.proc.Stdout, n.proc.Stderr = log, log
	n.proc.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // Ctrl-C is ours to pass on
	if err := n.proc.Start(); err != nil {
		return err
	}
	n.done = make(chan struct{})
	go func() {
		_ = n.proc.Wait()
		close(n.done)
	}()
	return s.until(ctx, "the agent of "+n.name, func() bool {
		if !n.running() {
			return true // until looks at why
		}
		out, err := s.muster(ctx, n, "status", "-o", "json")
		return err == nil && bytes.Contains(out, []byte(`"online"`)) && !bytes.Contains(out, []byte(`"act":0,`))
	}, n)
}

func (n *actor) running() bool {
	if n.done == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

func (s *stage) env() []string {
	return append(os.Environ(), "MUSTER_IDENTITY="+s.key(), "MUSTER_SOCKET=", "MUSTER_DATA_DIR=")
}

// muster runs this binary against a host of the demo and returns what it prints.
func (s *stage) muster(ctx context.Context, n *actor, args ...string) ([]byte, error) {
	cmd := osexec.CommandContext(ctx, s.self, append([]string{"--data-dir", n.dir}, args...)...)
	cmd.Env = s.env()
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return out, fleet.Errorf(fleet.Internal, "the demo's `muster %s` failed: %s", strings.Join(args, " "), strings.TrimSpace(complaint.String()))
	}
	return out, nil
}

// show runs a command as a person would see it, and holds it to an exit code.
func (s *stage) show(ctx context.Context, n *actor, want int, args ...string) (string, error) {
	shown := make([]string, len(args))
	for i, arg := range args {
		shown[i] = arg
		if strings.ContainsAny(arg, " $&'") {
			shown[i] = "'" + arg + "'"
		}
	}
	fmt.Fprintf(s.out, "%s$ muster %s\n", n.name, strings.Join(shown, " "))
	cmd := osexec.CommandContext(ctx, s.self, append([]string{"--data-dir", n.dir}, args...)...)
	cmd.Env = s.env()
	var seen bytes.Buffer
	cmd.Stdout = io.MultiWriter(s.out, &seen)
	cmd.Stderr = s.out
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if code := cmd.ProcessState.ExitCode(); code != want {
		return "", fleet.Errorf(fleet.Internal, "`muster %s` exited %d, not %d: %w", strings.Join(shown, " "), code, want, err)
	}
	return seen.String(), nil
}

type demoQuorum struct {
	Leader struct{ ID, Name string }
	Voters []struct{ Name string }
}

func (s *stage) quorum(ctx context.Context, n *actor) (q demoQuorum, ok bool) {
	out, err := s.muster(ctx, n, "quorum", "status", "-o", "json")
	return q, err == nil && json.Unmarshal(out, &q) == nil
}

func (s *stage) online(ctx context.Context, n *actor) int {
	out, err := s.muster(ctx, n, "node", "list", "-o", "json")
	var list []struct{ Status, OS string }
	if err != nil || json.Unmarshal(out, &list) != nil {
		return 0
	}
	count := 0
	for _, m := range list {
		if m.Status == string(fleet.Online) && m.OS != "" {
			count++
		}
	}
	return count
}

func (s *stage) find(name string) *actor {
	for _, n := range s.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// until waits for something to come true, while the actors it depends on live.
func (s *stage) until(ctx context.Context, what string, holds func() bool, needs ...*actor) error {
	deadline := time.Now().Add(demoWait)
	for !holds() {
		if time.Now().After(deadline) {
			return fleet.Errorf(fleet.Unavailable, "%s did not come within %s", what, demoWait).Hinted("the agents' logs were in %s", s.dir)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(demoLook):
		}
	}
	for _, n := range needs {
		if !n.running() {
			log, _ := os.ReadFile(n.log)
			return fleet.Errorf(fleet.Internal, "the agent of %s ended: %s", n.name, strings.TrimSpace(string(log)))
		}
	}
	return nil
}

// strike ends every agent and removes what the demo made.
func (s *stage) strike() {
	for _, n := range s.nodes {
		if n.running() {
			_ = n.proc.Process.Signal(syscall.SIGTERM)
		}
	}
	for _, n := range s.nodes {
		if n.done == nil {
			continue
		}
		select {
		case <-n.done:
		case <-time.After(10 * time.Second):
			_ = n.proc.Process.Kill()
			<-n.done
		}
	}
	os.RemoveAll(s.dir)
}

// freeAddr finds a loopback address with a free UDP port.
func freeAddr() (string, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.LocalAddr().String(), nil
}
