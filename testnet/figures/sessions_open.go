package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sessionOpens opens, runs true and ends: what a person waits for who wants one word from a host. muster keeps no connection
// from one command line to the next, so it is always cold.
func sessionOpens(ctx context.Context, c *couple) ([]figure, error) {
	master, err := c.openMaster(ctx)
	if err != nil {
		return nil, err
	}
	defer master.end()
	var ours, cold, warm []float64
	for range c.runs {
		for _, one := range []struct {
			to  *[]float64
			cmd *exec.Cmd
		}{
			{&ours, c.muster(ctx, "exec", "n2", "--user", "root", "--", "true")},
			{&cold, c.ssh(ctx, "ssh", "there", "true")},
			{&warm, c.ssh(ctx, "ssh", "-S", master.path, "there", "true")},
		} {
			took, err := c.timed(ctx, one.cmd)
			if err != nil {
				return nil, err
			}
			*one.to = append(*one.to, took.Seconds())
		}
	}
	out := []figure{
		c.figure("open_muster_seconds", "open and run true, muster, p50", seconds, median(ours)),
		c.figure("open_muster_p90_seconds", "open and run true, muster, p90", seconds, percentile(ours, 90)),
		c.figure("open_ssh_seconds", "open and run true, ssh, p50", seconds, median(cold)),
		c.figure("open_ssh_p90_seconds", "open and run true, ssh, p90", seconds, percentile(cold, 90)),
		c.figure("open_ssh_warm_seconds", "open and run true, ssh by a connection that stands, p50", seconds, median(warm)),
	}
	ratio := c.figure("open_ratio", "open and run true, of ssh's time", times, median(ours)/median(cold))
	if c.far && c.way.path.Loss == 0 {
		ratio = ratio.atMost(1. / 3)
	}
	return append(out, ratio), nil
}

// master is ssh's connection that stands.
type master struct {
	path string
	talk *talk
}

func (c *couple) openMaster(ctx context.Context) (*master, error) {
	m := &master{path: filepath.Join(c.dir, "m")}
	var err error
	if m.talk, err = c.converse(c.ssh(ctx, "ssh", "-M", "-N", "-S", m.path, "there")); err != nil {
		return nil, err
	}
	err = waitFor(ctx, "ssh's master stands", func() bool {
		_, err := os.Stat(m.path)
		return err == nil
	})
	if err != nil {
		m.end()
	}
	return m, err
}

func (m *master) end() { m.talk.hangUp() }

const (
	keyEvery = 50 * time.Millisecond // quick typing, several keys on a long way at a time
	keys4    = "abcdefghijklmnopqrstuvwxyz"
	// raw has every key back from a program, as an editor or a shell with its own editing does it.
	raw = "stty raw -echo; echo ready; exec cat"
)

// sessionEcho types keys at a steady pace, and measures when each is back.
func sessionEcho(ctx context.Context, c *couple) ([]figure, error) {
	count := 30 * c.runs
	ours, theirs := []float64{}, []float64{}
	for range 2 { // each twice, in turns
		for _, one := range []struct {
			to  *[]float64
			cmd *exec.Cmd
		}{
			{&ours, c.muster(ctx, "exec", "--tty", "n2", "--user", "root", "--", raw)},
			{&theirs, c.ssh(ctx, "ssh", "-tt", "there", raw)},
		} {
			took, err := c.typed(ctx, one.cmd, count/2)
			if err != nil {
				return nil, err
			}
			*one.to = append(*one.to, took...)
		}
	}
	out := []figure{
		c.figure("echo_muster_p50_seconds", "a key's echo, muster, p50", seconds, median(ours)),
		c.figure("echo_muster_p99_seconds", "a key's echo, muster, p99", seconds, percentile(ours, 99)),
		c.figure("echo_ssh_p50_seconds", "a key's echo, ssh, p50", seconds, median(theirs)),
		c.figure("echo_ssh_p99_seconds", "a key's echo, ssh, p99", seconds, percentile(theirs, 99)),
	}
	behind50 := c.figure("echo_behind_p50_seconds", "a key's echo, behind ssh's, p50", seconds, median(ours)-median(theirs))
	behind99 := c.figure("echo_behind_p99_seconds", "a key's echo, behind ssh's, p99", seconds, percentile(ours, 99)-percentile(theirs, 99))
	const aim = 0.001
	if c.way.path.Loss == 0 {
		behind50, behind99 = behind50.atMost(aim), behind99.atMost(aim)
	}
	return append(out, behind50, behind99), nil
}

// typed returns how long each key took.
func (c *couple) typed(ctx context.Context, cmd *exec.Cmd, count int) ([]float64, error) {
	t, err := c.converse(cmd)
	if err != nil {
		return nil, err
	}
	defer t.hangUp()
	if err := t.await("ready"); err != nil {
		return nil, err
	}
	if err := pause(ctx, keyEvery*4); err != nil {
		return nil, err
	}
	sent := make(chan time.Time, count)
	go func() {
		for i := range count {
			sent <- time.Now()
			if _, err := t.in.Write([]byte{keys4[i%len(keys4)]}); err != nil {
				break
			}
			if pause(ctx, keyEvery) != nil {
				break
			}
		}
		close(sent)
	}()
	var took []float64
	b := make([]byte, 64)
	for len(took) < count {
		n, err := t.out.Read(b)
		if err != nil {
			return nil, errNoEcho(cmd, err)
		}
		now := time.Now()
		for range n {
			took = append(took, now.Sub(<-sent).Seconds())
		}
	}
	return took, nil
}

func errNoEcho(cmd *exec.Cmd, err error) error {
	return &exec.Error{Name: strings.Join(cmd.Args, " "), Err: err}
}
