package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// idleSessions is how many are open while memory is looked at, by two operators: one may have 64 at a node.
const idleSessions = 100

// sessionMemory opens idle shells and looks at what they take there.
func sessionMemory(ctx context.Context, c *couple) ([]figure, error) {
	if c.far {
		return nil, nil // it is the same
	}
	const idle = "echo ready; exec sleep 100000"
	agent := c.farAgent().cmd.Process.Pid
	before, err := memoryOf(agent)
	if err != nil {
		return nil, err
	}
	second, err := c.secondOperator(ctx)
	if err != nil {
		return nil, err
	}
	ours, err := c.many(ctx, func(i int) (*talk, error) {
		cmd := c.muster(ctx, "exec", "--tty", "n2", "--user", "root", "--", idle)
		if i%2 == 1 {
			cmd.Env = append(cmd.Env, "MUSTER_IDENTITY="+second)
		}
		return c.converse(cmd)
	})
	defer ours.hangUp()
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return nil, err
	}
	after, err := memoryOf(agent)
	if err != nil {
		return nil, err
	}
	supervisors, err := pssBelow(agent, c.fleet.muster)
	if err != nil {
		return nil, err
	}
	client, err := memoryOf(ours[0].cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	theirs, err := c.many(ctx, func(int) (*talk, error) { return c.converse(c.ssh(ctx, "ssh", "-tt", "there", idle)) })
	defer theirs.hangUp()
	if err != nil {
		return nil, err
	}
	sshds, err := pssBelow(c.sshd.Process.Pid, "/usr/sbin/sshd")
	if err != nil {
		return nil, err
	}
	sshClient, err := memoryOf(theirs[0].cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	const n = idleSessions
	return []figure{
		c.figure("idle_supervisor_bytes", "an idle session there, its supervisor", octets, supervisors/n).noted("PSS: shared pages are shared out"),
		c.figure("idle_agent_bytes", "an idle session there, more of the agent", octets, (after.pss-before.pss)/n),
		c.figure("idle_agent_all_bytes", fmt.Sprintf("the agent with %d idle sessions", n), octets, after.pss),
		c.figure("idle_agent_none_bytes", "the agent before", octets, before.pss),
		c.figure("idle_sshd_bytes", "an idle session there, sshd", octets, sshds/n),
		c.figure("idle_client_muster_bytes", "an idle session here, muster", octets, client.pss),
		c.figure("idle_client_ssh_bytes", "an idle session here, ssh", octets, sshClient.pss),
	}, nil
}

// secondOperator makes another operator with every right, and returns where the key is.
func (c *couple) secondOperator(ctx context.Context) (string, error) {
	key := filepath.Join(c.dir, "second.key")
	cmd := c.muster(ctx, "operator", "request", "--name", "second", "-o", "json")
	cmd.Env = append(cmd.Env, "MUSTER_IDENTITY="+key)
	out, err := cmd.Output()
	var asked struct{ Code string }
	if err == nil {
		err = json.Unmarshal(out, &asked)
	}
	if err != nil {
		return "", fmt.Errorf("muster operator request: %w", err)
	}
	if _, err := c.fleet.say(ctx, c.nearAgent(), "operator", "approve", asked.Code, "--team", "root"); err != nil {
		return "", err
	}
	return key, waitFor(ctx, "the second operator is known there", func() bool {
		cmd := c.muster(ctx, "exec", "n2", "--user", "root", "--", "true")
		cmd.Env = append(cmd.Env, "MUSTER_IDENTITY="+key)
		return c.run(ctx, cmd) == nil
	})
}

// crowd is commands that run beside each other.
type crowd []*talk

func (c crowd) hangUp() {
	var all sync.WaitGroup
	for _, t := range c {
		all.Go(t.hangUp)
	}
	all.Wait()
}

func (c *couple) many(ctx context.Context, open func(i int) (*talk, error)) (out crowd, err error) {
	for i := range idleSessions {
		t, err := open(i)
		if err != nil {
			return out, err
		}
		out = append(out, t)
		if err := t.await("ready"); err != nil {
			return out, err
		}
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
	}
	return out, nil
}

// pssBelow sums the memory of a process's descendants that run a binary.
func pssBelow(ancestor int, binary string) (sum float64, err error) {
	parents, err := parentsOfAll()
	if err != nil {
		return 0, err
	}
	for pid := range parents {
		if !descends(parents, pid, ancestor) {
			continue
		}
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || exe != binary {
			continue // it has ended, or is the program of a session
		}
		m, err := memoryOf(pid)
		if err != nil {
			return 0, err
		}
		sum += m.pss
	}
	return sum, nil
}

func descends(parents map[int]int, pid, ancestor int) bool {
	for range 64 {
		if pid = parents[pid]; pid == ancestor {
			return true
		}
	}
	return false
}

// parentsOfAll reads who is whose parent.
func parentsOfAll() (map[int]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	out := map[int]int{}
	for _, dir := range dirs {
		raw, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		text := string(raw)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		pid, pidErr := strconv.Atoi(filepath.Base(dir))
		parent, parentErr := strconv.Atoi(fields[1])
		if pidErr == nil && parentErr == nil {
			out[pid] = parent
		}
	}
	return out, nil
}
