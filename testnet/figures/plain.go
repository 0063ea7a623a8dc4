package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/testnet/delay"
)

// plain is a fleet of agents on the loopback interface, as processes without namespaces, on the disk that holds its folder:
// what it is compared with lives so, too.
type plain struct {
	muster string
	dir    string
	agents []*plainAgent
	spots  []spot       // of the first agents; those after them are on loopback
	group  *memoryGroup // of those that are launched; nil: none
}

// spot is where an agent lives.
type spot struct {
	space *delay.Space
	addr  netip.AddrPort
}

// start starts a process there.
func (s spot) start(cmd *exec.Cmd) error {
	if s.space == nil {
		return cmd.Start()
	}
	return s.space.Within(cmd.Start)
}

type plainAgent struct {
	name   string
	dir    string
	at     spot
	cmd    *exec.Cmd
	ended  chan error // what the process ended with
	client *api.Client
}

func startPlain(ctx context.Context, p place, n int, spots ...spot) (f *plain, err error) {
	f = &plain{muster: p.muster, spots: spots}
	if f.dir, err = os.MkdirTemp(p.folder, "f"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.end())
		}
	}()
	if err := f.found(ctx); err != nil {
		return f, err
	}
	for len(f.agents) < n {
		if err := f.join(ctx); err != nil {
			return f, err
		}
	}
	return f, f.whole(ctx)
}

func (f *plain) add() (*plainAgent, string, error) {
	at, err := f.spot(len(f.agents))
	if err != nil {
		return nil, "", err
	}
	name := fmt.Sprintf("n%d", len(f.agents)+1)
	a := &plainAgent{name: name, dir: filepath.Join(f.dir, name), at: at}
	f.agents = append(f.agents, a)
	return a, at.addr.String(), nil
}

func (f *plain) spot(i int) (spot, error) {
	if i < len(f.spots) {
		return f.spots[i], nil
	}
	addr, err := freeAddr()
	return spot{addr: addr}, err
}

func (f *plain) found(ctx context.Context) error {
	a, err := f.init(ctx)
	if err != nil {
		return err
	}
	return f.start(ctx, a)
}

// init makes the folder of the first agent, and starts nothing.
func (f *plain) init(ctx context.Context) (*plainAgent, error) {
	a, addr, err := f.add()
	if err != nil {
		return nil, err
	}
	_, err = f.say(ctx, a, "init", "--fleet", "figures", "--operator", "tester", "--name", a.name, "--bind", addr,
		"--recovery-file", filepath.Join(f.dir, "recovery.key"))
	return a, err
}

func (f *plain) join(ctx context.Context, args ...string) error {
	out, err := f.say(ctx, f.agents[0], "-o", "json", "token", "create", "--uses", "1")
	if err != nil {
		return err
	}
	var token struct{ Join string }
	if err := json.Unmarshal(out, &token); err != nil {
		return err
	}
	file := filepath.Join(f.dir, "join")
	if err := os.WriteFile(file, []byte(token.Join), 0o600); err != nil {
		return err
	}
	a, addr, err := f.add()
	if err != nil {
		return err
	}
	return f.start(ctx, a, append(args, "--join-file", file, "--name", a.name, "--bind", addr)...)
}

func (f *plain) command(ctx context.Context, a *plainAgent, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, f.muster, append([]string{"--data-dir", a.dir}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+f.dir, "MUSTER_IDENTITY="+f.identity())
	return cmd
}

func (f *plain) identity() string { return filepath.Join(f.dir, "op.key") }

// say runs a command line against an agent and returns what it prints.
func (f *plain) say(ctx context.Context, a *plainAgent, args ...string) ([]byte, error) {
	cmd := f.command(ctx, a, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("muster %q: %w: %s", args, err, stderr.String())
	}
	return out, nil
}

// start starts an agent and waits until it answers.
func (f *plain) start(ctx context.Context, a *plainAgent, args ...string) error {
	if err := f.launch(ctx, a, nil, args...); err != nil {
		return err
	}
	return until(ctx, look, a.name+" answers", func() (bool, error) {
		s, err := a.client.Status(ctx)
		return err == nil && !s.Fleet.IsZero(), a.runs()
	})
}

// runs is nil while the agent's process runs.
func (a *plainAgent) runs() error {
	select {
	case err := <-a.ended:
		a.ended <- err // for those who come later
		return fmt.Errorf("the agent of %s has ended: %w: %s", a.name, err, lastWords(a.log()))
	default:
		return nil
	}
}

func (a *plainAgent) log() string { return a.dir + ".log" }

// launch starts an agent, with more variables of its environment.
func (f *plain) launch(ctx context.Context, a *plainAgent, env []string, args ...string) error {
	log, err := os.OpenFile(a.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	a.cmd = f.command(context.WithoutCancel(ctx), a, append([]string{"agent"}, args...)...)
	if f.group != nil {
		a.cmd.Path, a.cmd.Args = "/bin/sh", f.group.enter(a.cmd.Args)
	}
	a.cmd.Env = append(a.cmd.Env, env...)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.at.start(a.cmd); err != nil {
		return err
	}
	a.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan<- error) { ended <- cmd.Wait() }(a.cmd, a.ended)
	a.client = api.Dial(filepath.Join(a.dir, "agent.sock"))
	return nil
}

// whole waits until all see all, and three vote.
func (f *plain) whole(ctx context.Context) error {
	for _, a := range f.agents {
		if err := until(ctx, look, a.name+" sees the fleet", func() (bool, error) {
			s, err := a.client.Status(ctx)
			return err == nil && isWhole(s, len(f.agents)), a.runs()
		}); err != nil {
			return err
		}
	}
	return nil
}

// leader returns the agent that leads, and the others.
func (f *plain) leader(ctx context.Context) (leader *plainAgent, rest []*plainAgent, err error) {
	q, err := f.agents[0].client.Quorum(ctx)
	if err != nil {
		return nil, nil, err
	}
	name := ""
	for _, v := range q.Voters {
		if v.ID == q.Leader {
			name = v.Name
		}
	}
	for _, a := range f.agents {
		if a.name == name {
			leader = a
		} else {
			rest = append(rest, a)
		}
	}
	if leader == nil {
		return nil, nil, errors.New("no leader is known")
	}
	return leader, rest, nil
}

func (f *plain) end() error {
	if f == nil {
		return nil
	}
	for _, a := range f.agents {
		if a.client != nil {
			a.client.Close()
		}
		if a.ended != nil {
			_ = a.cmd.Process.Kill()
			<-a.ended // it says that it was killed
		}
	}
	return os.RemoveAll(f.dir)
}

// waitFor looks again and again whether something has come true.
func waitFor(ctx context.Context, what string, holds func() bool) error {
	return until(ctx, look, what, func() (bool, error) { return holds(), nil })
}
