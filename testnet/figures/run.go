package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan"
)

// ran is one muster run, as whoever typed it saw it.
type ran struct {
	start time.Time
	wall  time.Duration // of the command line, its start included
	cpu   time.Duration // of the command line alone
	said  said
}

// said is what muster run -o json says, as far as it matters here.
type said struct {
	ID      fleet.UUID `json:"id"`
	Command struct {
		Committed time.Time `json:"committed"`
	} `json:"command"`
	Tally struct {
		Targets int `json:"targets"`
		Success int `json:"success"`
	} `json:"tally"`
	Nodes []struct {
		Name    string    `json:"name"`
		Started time.Time `json:"started"`
		Ended   time.Time `json:"ended"`
		Stdout  struct {
			Size    int64 `json:"size"`
			Omitted int64 `json:"omitted"`
		} `json:"stdout"`
	} `json:"nodes"`
}

// run runs a command from a host and wants it to succeed on as many nodes as are meant.
func (b *bench) run(ctx context.Context, from *lan.Host, target []string, want int, argv ...string) (ran, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	line := append([]string{"muster", "-o", "json", "run", "--yes"}, target...)
	cmd := from.Command(ctx, append(append(line, "--"), argv...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	r := ran{start: start, wall: time.Since(start)}
	if err != nil {
		return r, fmt.Errorf("muster run on %s: %w: %s", from.Name(), err, strings.TrimSpace(stderr.String()))
	}
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if err := json.Unmarshal(stdout.Bytes(), &r.said); err != nil {
		return r, fmt.Errorf("muster run on %s says no JSON: %w", from.Name(), err)
	}
	if t := r.said.Tally; t.Targets != want || t.Success != want {
		return r, fmt.Errorf("command %s succeeded on %d of %d nodes, not on %d", r.said.ID, t.Success, t.Targets, want)
	}
	return r, nil
}

// runAll runs a command on all nodes, from the asker.
func (b *bench) runAll(ctx context.Context, argv ...string) (ran, error) {
	return b.run(ctx, b.asker(), []string{"--all"}, len(b.hosts), argv...)
}

// aftermath is how long after a command line's end its agents' CPU time still counts as the run's: supervisors end, reports
// travel to a second server. It holds idle work, too, which is taken off again.
const aftermath = time.Second

// costs is what repeated runs took.
type costs struct {
	wall   []float64 // seconds, each
	line   []float64 // CPU seconds of the command line, each
	agents []float64 // CPU seconds of all agents and their runs, each, without what idle agents take in the same time
	stages []stages
	last   said
}

// stages is how far a run had come when, counted from the start of the command line. All hosts have the machine's one
// clock; the agents' times are whole milliseconds.
type stages struct {
	stamped time.Duration // the leader has the order
	started time.Duration // the last node has started it
	ended   time.Duration // it has ended on the last node
}

func (r ran) stages() stages {
	s := stages{stamped: r.said.Command.Committed.Sub(r.start)}
	for _, n := range r.said.Nodes {
		s.started, s.ended = max(s.started, n.Started.Sub(r.start)), max(s.ended, n.Ended.Sub(r.start))
	}
	return s
}

// when is the median of one stage, in seconds. What is earlier than the start by rounding is at once.
func (c costs) when(stage func(stages) time.Duration) float64 {
	var out []time.Duration
	for _, s := range c.stages {
		out = append(out, max(0, stage(s)))
	}
	return median(inSeconds(out))
}

// repeat runs a command on all nodes, again and again, after one run that does not count.
func (b *bench) repeat(ctx context.Context, argv ...string) (c costs, err error) {
	return b.repeatWith(ctx, []string{"--all"}, argv...)
}

// repeatWith is repeat with flags, which have to come to all nodes.
func (b *bench) repeatWith(ctx context.Context, flags []string, argv ...string) (c costs, err error) {
	if _, err := b.run(ctx, b.asker(), flags, len(b.hosts), argv...); err != nil {
		return c, err
	}
	quiet, err := b.idleCPU(ctx, 3*aftermath)
	if err != nil {
		return c, err
	}
	for range b.runs {
		before, err := b.cpu()
		if err != nil {
			return c, err
		}
		start := time.Now()
		r, err := b.run(ctx, b.asker(), flags, len(b.hosts), argv...)
		if err != nil {
			return c, err
		}
		if err := pause(ctx, aftermath); err != nil {
			return c, err
		}
		after, err := b.cpu()
		if err != nil {
			return c, err
		}
		c.wall = append(c.wall, r.wall.Seconds())
		c.line = append(c.line, r.cpu.Seconds())
		c.agents = append(c.agents, max(0, (after-before).Seconds()-quiet*time.Since(start).Seconds()))
		c.stages, c.last = append(c.stages, r.stages()), r.said
	}
	return c, nil
}

// idleCPU returns how many CPU seconds all agents take in a second of doing nothing.
func (b *bench) idleCPU(ctx context.Context, over time.Duration) (float64, error) {
	if err := pause(ctx, aftermath); err != nil { // of what ran before
		return 0, err
	}
	before, err := b.cpu()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := pause(ctx, over); err != nil {
		return 0, err
	}
	after, err := b.cpu()
	return (after - before).Seconds() / time.Since(start).Seconds(), err
}

// figures names what repeated runs took.
func (c costs) figures(key, name string) []figure {
	return []figure{
		{key: key + "_wall_p50_seconds", name: name + ", p50", unit: seconds, value: median(c.wall)},
		{key: key + "_wall_p99_seconds", name: name + ", p99", unit: seconds, value: percentile(c.wall, 99)},
		{key: key + "_stamped_p50_seconds", name: name + ", until the leader has it, p50", unit: seconds,
			value: c.when(func(s stages) time.Duration { return s.stamped }), note: "counted from the start of the command line, as all stages"},
		{key: key + "_started_p50_seconds", name: name + ", until the last starts, p50", unit: seconds,
			value: c.when(func(s stages) time.Duration { return s.started })},
		{key: key + "_ended_p50_seconds", name: name + ", until the last ends, p50", unit: seconds,
			value: c.when(func(s stages) time.Duration { return s.ended })},
		{key: key + "_agents_cpu_p50_seconds", name: name + ", CPU of agents and runs, p50", unit: seconds, value: median(c.agents),
			note: "without what idle agents take in the same time"},
		{key: key + "_agents_cpu_p99_seconds", name: name + ", CPU of agents and runs, p99", unit: seconds, value: percentile(c.agents, 99)},
		{key: key + "_line_cpu_p50_seconds", name: name + ", CPU of the command line, p50", unit: seconds, value: median(c.line)},
	}
}
