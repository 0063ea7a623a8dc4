package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// eight is how many streams run beside each other.
const eight = 8

// textBytes is the file that programs write, again and again; bulkBytes what one writes on loopback, where its end is waited for
// and all that it took is counted.
const (
	textBytes = 64 << 20
	bulkBytes = 8 * textBytes
)

// writeText makes a file of words, as logs are: what is recorded of it is about as long as it is, and nothing can
// compress it much.
func writeText(path string, size int) error {
	draw := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, size)
	for len(b) < size {
		for range 2 + draw.IntN(8) {
			b = append(b, byte('a'+draw.IntN(26)))
		}
		b = append(b, " \n"[min(1, draw.IntN(12)/11)])
	}
	return os.WriteFile(path, b[:size], 0o600)
}

// sessionStreams pours from the node to here: by a program's output, and through tunnels.
func sessionStreams(ctx context.Context, c *couple) (out []figure, err error) {
	if !c.far {
		if out, err = c.wholeStreams(ctx); err != nil {
			return out, err
		}
	}
	endless := fmt.Sprintf("while cat %s; do :; done", c.text)
	for _, n := range []int{1, eight} {
		ours, err := c.poured(ctx, n, func() *exec.Cmd { return c.muster(ctx, "exec", "n2", "--user", "root", "--", endless) })
		if err != nil {
			return out, err
		}
		theirs, err := c.poured(ctx, n, func() *exec.Cmd { return c.ssh(ctx, "ssh", "there", endless) })
		if err != nil {
			return out, err
		}
		out = append(out, c.besides(fmt.Sprintf("exec%d", n), fmt.Sprintf("output of %s", programs(n)), ours, theirs)...)
	}
	if c.far {
		cubic, err := c.cubicStream(ctx, endless)
		if out = append(out, cubic...); err != nil {
			return out, err
		}
	}
	tunnels, err := c.tunnels(ctx)
	return append(out, tunnels...), err
}

// cubicStream is ssh's stream by a TCP that takes loss for congestion, as most hosts' does, and QUIC's does here.
func (c *couple) cubicStream(ctx context.Context, endless string) ([]figure, error) {
	was, err := c.tcp()
	if err != nil || !c.useTCP("cubic") {
		return nil, err
	}
	defer c.useTCP(was)
	rate, err := c.poured(ctx, 1, func() *exec.Cmd { return c.ssh(ctx, "ssh", "there", endless) })
	return []figure{c.figure("exec1_ssh_cubic_bytes_per_second", "output of one program, ssh by TCP Cubic", octetsASecond, rate).
		noted("otherwise TCP is as the kernel has it: " + was)}, err
}

func programs(n int) string {
	if n == 1 {
		return "one program"
	}
	return fmt.Sprintf("%d programs", n)
}

// besides makes figures of two rates.
func (c *couple) besides(key, name string, ours, theirs float64) []figure {
	mine := c.figure(key+"_muster_bytes_per_second", name+", muster", octetsASecond, ours)
	ratio := c.figure(key+"_ratio", name+", as much as ssh", times, ours/theirs)
	if !c.far {
		mine, ratio = mine.atLeast(125e6), ratio.atLeast(0.5)
	}
	return []figure{mine, c.figure(key+"_ssh_bytes_per_second", name+", ssh", octetsASecond, theirs), ratio}
}

// wholeStreams counts what a gigabyte takes.
func (c *couple) wholeStreams(ctx context.Context) ([]figure, error) {
	line := "cat" + strings.Repeat(" "+c.text, bulkBytes/textBytes)
	ours, err := c.spentOn(ctx, c.muster(ctx, "exec", "n2", "--user", "root", "--", line))
	if err != nil {
		return nil, err
	}
	theirs, err := c.spentOn(ctx, c.ssh(ctx, "ssh", "there", line))
	if err != nil {
		return nil, err
	}
	const perGB = 1e9 / bulkBytes
	return []figure{
		c.figure("exec_cpu_here_muster_seconds", "CPU for a GB of output, here, muster", seconds, ours.here.Seconds()*perGB),
		c.figure("exec_cpu_there_muster_seconds", "CPU for a GB of output, there, muster", seconds, ours.there.Seconds()*perGB).
			noted("agent, supervisor with its recording, and the program"),
		c.figure("exec_cpu_here_ssh_seconds", "CPU for a GB of output, here, ssh", seconds, theirs.here.Seconds()*perGB),
		c.figure("exec_cpu_there_ssh_seconds", "CPU for a GB of output, there, ssh", seconds, theirs.there.Seconds()*perGB),
	}, nil
}

// spending is the processor time that something took.
type spending struct{ here, there time.Duration }

// spentOn runs a command to its end and says what it took at both ends. Processes there have ended then, and their parents
// were told.
func (c *couple) spentOn(ctx context.Context, cmd *exec.Cmd) (s spending, err error) {
	before, err := c.spentThere()
	if err != nil {
		return s, err
	}
	cmd.Stdout = nil // /dev/null
	if err := c.run(ctx, cmd); err != nil {
		return s, err
	}
	s.here = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	var after time.Duration
	last := time.Duration(-1)
	for range 20 { // until nothing more is reported: the last processes end after their client
		if after, err = c.spentThere(); err != nil || after == last {
			break
		}
		last = after
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return s, err
		}
	}
	s.there = after - before
	return s, err
}

func (c *couple) spentThere() (sum time.Duration, err error) {
	for _, pid := range []int{c.farAgent().cmd.Process.Pid, c.sshd.Process.Pid} {
		one, err := cpuOf(pid)
		if err != nil {
			return 0, err
		}
		sum += one.own + one.children
	}
	return sum, nil
}

// poured runs commands beside each other, and returns the bytes a second that come of them all, from the first byte on.
func (c *couple) poured(ctx context.Context, n int, command func() *exec.Cmd) (float64, error) {
	var sources []io.Reader
	var talks []*talk
	defer func() {
		var all sync.WaitGroup
		for _, t := range talks {
			all.Go(t.hangUp)
		}
		all.Wait()
	}()
	for range n {
		t, err := c.converse(command())
		if err != nil {
			return 0, err
		}
		talks = append(talks, t)
		sources = append(sources, t.out)
	}
	rate, err := drain(ctx, sources, c.place.over)
	for _, t := range talks {
		if err != nil && t.said.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, t.said.String())
		}
	}
	return rate, err
}

// drain reads from all for a while, from the first byte of each on, and returns what came of all a second.
func drain(ctx context.Context, sources []io.Reader, over time.Duration) (float64, error) {
	type flow struct {
		bytes int64
		err   error
	}
	var begin sync.WaitGroup
	begin.Add(len(sources))
	flows := make(chan flow, len(sources))
	for _, from := range sources {
		go func() {
			b := make([]byte, 256<<10)
			_, err := io.ReadFull(from, b[:1])
			begin.Done()
			if err != nil {
				flows <- flow{err: fmt.Errorf("nothing comes: %w", err)}
				return
			}
			begin.Wait()
			var f flow
			for end := time.Now().Add(over); time.Now().Before(end) && ctx.Err() == nil; {
				n, err := from.Read(b)
				f.bytes += int64(n)
				if err != nil {
					f.err = err
					break
				}
			}
			flows <- f
		}()
	}
	var sum int64
	var errs []error
	for range sources {
		f := <-flows
		sum += f.bytes
		errs = append(errs, f.err)
	}
	return float64(sum) / over.Seconds(), errors.Join(errs...)
}

// tunnels pours through connections that are forwarded.
func (c *couple) tunnels(ctx context.Context) (out []figure, err error) {
	source, err := c.listen()
	if err != nil {
		return nil, err
	}
	defer source.Close()
	go serveZeros(source)
	to := source.Addr().String()
	for _, n := range []int{1, eight} {
		ours, err := c.tunnelled(ctx, n, c.muster(ctx, "forward", "n2", fmt.Sprintf("%d:%s", tunnelPort, to)))
		if err != nil {
			return out, err
		}
		theirs, err := c.tunnelled(ctx, n, c.ssh(ctx, "ssh", "-N", "-L", fmt.Sprintf("%d:%s", tunnelPort, to), "there"))
		if err != nil {
			return out, err
		}
		name := "a tunnel with one connection"
		if n > 1 {
			name = fmt.Sprintf("a tunnel with %d connections", n)
		}
		out = append(out, c.besides(fmt.Sprintf("tunnel%d", n), name, ours, theirs)...)
	}
	return out, nil
}

func serveZeros(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for b := make([]byte, 64<<10); ; {
				if _, err := conn.Write(b); err != nil {
					return
				}
			}
		}()
	}
}

// tunnelled connects through a command that forwards, and returns what comes of all connections a second.
func (c *couple) tunnelled(ctx context.Context, n int, cmd *exec.Cmd) (rate float64, err error) {
	t, err := c.converse(cmd)
	if err != nil {
		return 0, err
	}
	defer t.hangUp()
	var sources []io.Reader
	for range n {
		var conn net.Conn
		err := waitFor(ctx, "the tunnel stands", func() bool {
			conn, err = c.dial(tunnelPort)
			return err == nil
		})
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		sources = append(sources, conn)
	}
	return drain(ctx, sources, c.place.over)
}
