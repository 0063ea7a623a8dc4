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
	keyEvery = 50 * time.Millisecond // quick typing; over a long way several keys are under way at a time
	keys4    = "abcdefghijklmnopqrstuvwxyz"
	// raw has every key back from a program, as an editor or a shell with its own editing does it.
	raw = "stty raw -echo; echo ready; exec cat"
)

// sessionEcho types keys by turns into a session of muster's and one of ssh's, at a steady pace, and measures when each is back:
// what else the machine does meets both.
func sessionEcho(ctx context.Context, c *couple) ([]figure, error) {
	count := 30 * c.runs
	ours, err := c.typist(c.muster(ctx, "exec", "--tty", "n2", "--user", "root", "--", raw))
	if err != nil {
		return nil, err
	}
	defer ours.hangUp()
	theirs, err := c.typist(c.ssh(ctx, "ssh", "-tt", "there", raw))
	if err != nil {
		return nil, err
	}
	defer theirs.hangUp()
	for i := range 2 * count {
		if err := pause(ctx, keyEvery/2); err != nil {
			return nil, err
		}
		who := []*typist{ours, theirs}[i%2]
		if err := who.press(i); err != nil {
			return nil, err
		}
	}
	mine, err := ours.heard(ctx, count)
	if err != nil {
		return nil, err
	}
	yours, err := theirs.heard(ctx, count)
	if err != nil {
		return nil, err
	}
	out := []figure{
		c.figure("echo_muster_p50_seconds", "a key's echo, muster, p50", seconds, median(mine)),
		c.figure("echo_muster_p99_seconds", "a key's echo, muster, p99", seconds, percentile(mine, 99)),
		c.figure("echo_ssh_p50_seconds", "a key's echo, ssh, p50", seconds, median(yours)),
		c.figure("echo_ssh_p99_seconds", "a key's echo, ssh, p99", seconds, percentile(yours, 99)),
	}
	behind50 := c.figure("echo_behind_p50_seconds", "a key's echo, behind ssh's, p50", seconds, median(mine)-median(yours))
	behind99 := c.figure("echo_behind_p99_seconds", "a key's echo, behind ssh's, p99", seconds, percentile(mine, 99)-percentile(yours, 99))
	const aim = 0.001
	if c.way.path.Loss == 0 {
		behind50, behind99 = behind50.atMost(aim), behind99.atMost(aim)
	}
	return append(out, behind50, behind99), nil
}

// typist types into one session.
type typist struct {
	*talk
	pressed chan time.Time
	took    chan float64
	failed  chan error
}

func (c *couple) typist(cmd *exec.Cmd) (*typist, error) {
	t, err := c.converse(cmd)
	if err != nil {
		return nil, err
	}
	if err := t.await("ready"); err != nil {
		t.hangUp()
		return nil, err
	}
	most := 60 * mostRuns
	p := &typist{talk: t, pressed: make(chan time.Time, most), took: make(chan float64, most), failed: make(chan error, 1)}
	go p.listen()
	return p, nil
}

// press types one key.
func (t *typist) press(i int) error {
	t.pressed <- time.Now()
	_, err := t.in.Write([]byte{keys4[i%len(keys4)]})
	return err
}

// listen notes when keys come back.
func (t *typist) listen() {
	b := make([]byte, 64)
	for {
		n, err := t.out.Read(b)
		now := time.Now()
		for range n {
			t.took <- now.Sub(<-t.pressed).Seconds()
		}
		if err != nil {
			t.failed <- errNoEcho(t.cmd, err)
			return
		}
	}
}

// heard returns how long so many keys took.
func (t *typist) heard(ctx context.Context, count int) (took []float64, err error) {
	for len(took) < count {
		select {
		case one := <-t.took:
			took = append(took, one)
		case err := <-t.failed:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return took, nil
}

func errNoEcho(cmd *exec.Cmd, err error) error {
	return &exec.Error{Name: strings.Join(cmd.Args, " "), Err: err}
}
