package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/muster-fleet/muster/node/fleet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if len(os.Args) == 2 && os.Args[1] == replicaVerb {
		if err := runReplica(os.Stdin, os.Stdout); err != nil {
			os.Exit(complain(os.Stderr, err, 1))
		}
		os.Exit(0)
	}
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command measures and prints. It returns 0 when all worked, whatever the figures are, 1 when something did not, 2 when it was
// called wrongly.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, keys(), stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil && os.Geteuid() != 0:
		err = fleet.Errorf(fleet.Denied, "figures makes hosts of namespaces and needs root").Hinted("sudo go run ./testnet/figures")
	}
	if err != nil {
		return complain(stderr, err, 2)
	}
	r, err := measure(ctx, o, progress(stderr))
	if err != nil {
		return complain(stderr, err, 1)
	}
	if err := r.write(o.json, stdout); err != nil {
		return complain(stderr, err, 1)
	}
	if r.failed() {
		return 1
	}
	return 0
}

func complain(w io.Writer, err error, code int) int {
	fmt.Fprintf(w, "figures: %s\n", err)
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Hint != "" {
		fmt.Fprintf(w, "  → %s\n", e.Hint)
	}
	return code
}

// write shows the report: as a table, unless JSON is to go to the same place.
func (r report) write(file string, stdout io.Writer) error {
	if file == "" {
		return r.table(stdout)
	}
	raw, err := r.json()
	if err != nil {
		return err
	}
	if file == "-" {
		_, err := stdout.Write(raw)
		return err
	}
	return errors.Join(os.WriteFile(file, raw, 0o644), r.table(stdout))
}

// progress returns what says how far the command has come: nothing, unless a person watches.
func progress(stderr io.Writer) func(format string, args ...any) {
	file, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func(string, ...any) {}
	}
	start := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(file, "%6.1f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
}

// measure takes all figures that are asked for. What does not work on one fleet is in the report; an error means that there
// is none.
func measure(ctx context.Context, o options, say func(string, ...any)) (r report, err error) {
	r.began, r.machine = time.Now(), lookAtMachine()
	folder, err := os.MkdirTemp("", "muster-figures-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(folder)
	if o.wants(binaryKey) {
		say("binary: built twice and weighed")
		if r.binary, err = binarySizes(ctx, folder); err != nil {
			return r, err
		}
	}
	if o.muster == "" && o.wantsMuster() {
		o.muster = filepath.Join(folder, "muster")
		if err := build(ctx, o.muster, "-s -w"); err != nil {
			return r, err
		}
	}
	if o.muster != "" {
		if r.version, err = versionOf(ctx, o.muster); err != nil {
			return r, err
		}
	}
	for _, a := range aloneOnes() {
		if !o.wants(a.key) || ctx.Err() != nil {
			continue
		}
		say("%s", a.what)
		figures, err := a.take(ctx, place{folder, o.muster, o.load, o.clients, o.runs, o.ways, o.acts, say})
		if err != nil {
			return r, fmt.Errorf("%s: %w", a.key, err)
		}
		r.alone = append(r.alone, figures...)
	}
	for _, n := range o.nodes {
		if !o.wantsFleet() || ctx.Err() != nil {
			break
		}
		r.fleets = append(r.fleets, measureFleet(ctx, o, n, say))
	}
	r.took, r.machine.LoadAfter = time.Since(r.began), readLoad()
	return r, ctx.Err()
}

// wantsFleet reports whether anything is measured of a fleet of namespace hosts.
func (o options) wantsFleet() bool {
	return slices.ContainsFunc(measurements(), func(m measurement) bool { return o.wants(m.key) })
}

// wantsMuster reports whether the binary is run.
func (o options) wantsMuster() bool {
	return o.wantsFleet() || slices.ContainsFunc([]string{"params", "sessions", "startup", "small", "release"}, o.wants)
}

func versionOf(ctx context.Context, binary string) (string, error) {
	out, err := exec.CommandContext(ctx, binary, "version", "-o", "name").Output()
	if err != nil {
		return "", fmt.Errorf("%s version: %w", binary, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// measureFleet forms a fleet of n nodes and measures it. A measurement that fails does not keep the others from being
// taken, as long as the fleet becomes whole again.
func measureFleet(ctx context.Context, o options, n int, say func(string, ...any)) (r fleetReport) {
	r.nodes, r.loadBefore = n, readLoad()
	fail := func(what string, err error) {
		if err != nil {
			r.failures = append(r.failures, what+": "+err.Error())
		}
	}
	say("%d nodes: forming", n)
	b, err := newBench(ctx, o, o.muster, n)
	defer func() {
		fail("end of the fleet", b.down())
		r.loadAfter = readLoad()
	}()
	if err != nil {
		fail("formation", err)
		return r
	}
	for _, m := range measurements() {
		if !o.wants(m.key) {
			continue
		}
		say("%d nodes: %s", n, m.what)
		figures, err := m.take(ctx, b)
		r.figures = append(r.figures, figures...)
		fail(m.key, err)
		if err != nil && (ctx.Err() != nil || b.whole(ctx) != nil) {
			return r
		}
	}
	return r
}
