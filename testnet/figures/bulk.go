package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan"
)

const (
	bulkSize  = 10 * megabyte // bytes of output of each node
	bulkNodes = 20            // of so many at most
)

// runBulk measures full output that comes from many nodes at once: how long it takes, and what it adds to the memory of who
// asks, of the asker's agent, and of the agents that give. Nobody may hold what it passes on.
func runBulk(ctx context.Context, b *bench) (out []figure, err error) {
	from := b.hosts[:min(bulkNodes, len(b.hosts)-1)] // the asker is the last
	shared := filepath.Dir(b.lan.Identity())
	dir, err := os.MkdirTemp(shared, "bulk-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var names []string
	for _, h := range from {
		names = append(names, h.Name())
	}
	ran, err := b.run(ctx, b.asker(), []string{"--target", strings.Join(names, " or ")}, len(from), fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", bulkSize))
	if err != nil {
		return nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	before, err := b.restPeaks()
	if err != nil {
		return nil, err
	}
	line, err := b.fetchBulk(ctx, ran.said.ID, "/run/lan/"+filepath.Base(dir)) // as hosts see it
	if err != nil {
		return nil, err
	}
	after, err := b.peaks()
	if err != nil {
		return nil, err
	}
	if err := verifyBulk(names, dir); err != nil {
		return nil, err
	}
	asker, givers := 0.0, 0.0
	for i, h := range b.hosts {
		if grown := max(0, after[i]-before[i]); h == b.asker() {
			asker = grown
		} else {
			givers = max(givers, grown)
		}
	}
	of := fmt.Sprintf("10 MB from %d", len(from))
	return []figure{
		{key: "bulk_wall_seconds", name: of + " nodes at once", unit: seconds, value: line.wall.Seconds()},
		{key: "bulk_delivered_bytes", name: of + ", delivered", unit: octets, value: float64(len(from) * bulkSize), note: "every file was compared with what was written"},
		{key: "bulk_line_rss_peak_bytes", name: of + ", command line, RSS, peak", unit: octets, value: line.peak},
		{key: "bulk_asker_rss_growth_bytes", name: of + ", asker's agent, RSS, growth", unit: octets, value: asker, aim: float64(len(from)) * 500e3,
			note: "its peak, less what it had before"},
		{key: "bulk_giver_rss_growth_bytes", name: of + ", a giver's agent, RSS, largest growth", unit: octets, value: givers},
	}, nil
}

// bulkLine is the command line that fetched full output.
type bulkLine struct {
	wall time.Duration
	peak float64 // RSS, bytes
}

// fetchBulk has the full output of all nodes of a command written to a folder.
func (b *bench) fetchBulk(ctx context.Context, command fleet.UUID, dir string) (line bulkLine, err error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	cmd := b.asker().Command(ctx, "muster", "command", "show", command.String(), "--output-dir", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return line, err
	}
	peak := watchPeak(b.asker(), dir)
	err = cmd.Wait()
	line.wall, line.peak = time.Since(start), peak()
	if err != nil {
		return line, fmt.Errorf("muster command show on %s: %w: %s", b.asker().Name(), err, strings.TrimSpace(stderr.String()))
	}
	return line, nil
}

// verifyBulk compares the files with what the command writes.
func verifyBulk(names []string, dir string) error {
	want := sha256.Sum256(bytes.Repeat([]byte("x"), bulkSize))
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name+".stdout"))
		if err != nil {
			return err
		}
		sum := sha256.New()
		size, err := io.Copy(sum, f)
		f.Close()
		if err != nil {
			return err
		}
		if size != bulkSize || [sha256.Size]byte(sum.Sum(nil)) != want {
			return fmt.Errorf("the output of %s has %d bytes and digest %x", name, size, sum.Sum(nil))
		}
	}
	return nil
}

// restPeaks has the kernel begin anew with every agent's peak, and returns what each has in memory now, in bytes.
func (b *bench) restPeaks() (out []float64, err error) {
	for _, h := range b.hosts {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", h.PID()), []byte("5"), 0); err != nil {
			return nil, err
		}
		m, err := memoryOf(h.PID())
		if err != nil {
			return nil, err
		}
		out = append(out, m.rss)
	}
	return out, nil
}

// peaks returns the most that every agent had in memory, in bytes.
func (b *bench) peaks() (out []float64, err error) {
	if err := b.allRun(); err != nil {
		return nil, err
	}
	for _, h := range b.hosts {
		peak, ok := peakOf(h.PID())
		if !ok {
			return nil, fmt.Errorf("the kernel does not tell the peak of %s", h.Name())
		}
		out = append(out, peak)
	}
	return out, nil
}

func peakOf(pid int) (float64, bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	peak, ok := kilobytes(string(status), "VmHWM")
	return float64(peak), ok
}

// watchPeak follows the memory of the process on a host that has a word in its arguments. What it returns ends that and says
// the peak. The rusage of a child that ended would not do: it begins with the memory of whoever started it.
func watchPeak(h *lan.Host, word string) (end func() float64) {
	over, peak := make(chan struct{}), make(chan float64)
	go func() {
		pid, most := 0, 0.0
		for {
			if pid == 0 {
				pid = findProcess(h, word)
			} else if now, ok := peakOf(pid); ok {
				most = max(most, now)
			}
			select {
			case <-over:
				peak <- most
				return
			case <-time.After(look):
			}
		}
	}()
	return func() float64 {
		close(over)
		return <-peak
	}
}

func findProcess(h *lan.Host, word string) int {
	all, _ := h.Processes()
	for _, p := range all {
		if slices.Contains(p.Argv, word) {
			return p.PID
		}
	}
	return 0
}
