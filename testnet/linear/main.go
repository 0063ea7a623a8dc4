package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is what the command line asks for.
type options struct {
	seed      uint64
	from      int
	histories int
	renew     int
	done      string
	muster    string
}

func parseOptions(args []string, help io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("linear", flag.ContinueOnError)
	flags.SetOutput(help)
	flags.Uint64Var(&o.seed, "seed", 1, "of all histories")
	flags.IntVar(&o.from, "from", 1, "number of the first history")
	flags.IntVar(&o.histories, "histories", 10, "how many are judged")
	flags.IntVar(&o.renew, "renew", 20, "histories after which there is a new fleet")
	flags.StringVar(&o.done, "done", "", "`file` of histories that were judged before, which are passed over, and of those that are now")
	flags.StringVar(&o.muster, "muster", "", "judge this `binary` (default: built from the sources)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("no arguments are taken, but there is %q", flags.Arg(0))
	case o.from < 1 || o.histories < 1 || o.renew < 1:
		return o, errors.New("--from, --histories and --renew: at least 1")
	case os.Geteuid() != 0:
		return o, errors.New("linear makes hosts of namespaces and needs root")
	}
	return o, nil
}

// command judges histories of real agents. It returns 0 when all are linearizable, 1 when one is not or could not be had, 2
// when it was called wrongly.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "linear:", err)
		return 2
	}
	if err := judgeReal(ctx, o, stdout); err != nil {
		fmt.Fprintln(stderr, "linear:", err)
		return 1
	}
	return 0
}

func judgeReal(ctx context.Context, o options, stdout io.Writer) error {
	before, err := openJudged(o.done)
	if err != nil {
		return err
	}
	if o.muster == "" {
		dir, err := os.MkdirTemp("", "muster-linear-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.muster = filepath.Join(dir, "muster")
		if err := build(ctx, o.muster); err != nil {
			return err
		}
	}
	left := before.left(o.seed, o.from, o.histories)
	began := time.Now()
	var all counts
	for first := 0; first < len(left); first += o.renew {
		some, err := judgeOnOne(ctx, o, before, left[first:min(first+o.renew, len(left))], stdout)
		all.add(some)
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "%d histories of seed %d are linearizable, in %s: %s\n", len(left), o.seed, time.Since(began).Round(time.Second), all)
	return nil
}

// judgeOnOne judges histories on one fleet.
func judgeOnOne(ctx context.Context, o options, before judged, numbers []int, stdout io.Writer) (all counts, err error) {
	r, err := newReal(ctx, o.muster)
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, r.down()) }()
	for _, number := range numbers {
		n, err := runHistory(ctx, r, o.seed, number, false)
		if err != nil {
			return all, fmt.Errorf("history %d of seed %d: %w\n%s", number, o.seed, err, n.dump(o.seed, number))
		}
		if wrong := n.wrong(); len(wrong) > 0 {
			return all, fmt.Errorf("history %d of seed %d: %q\n%s", number, o.seed, wrong, n.dump(o.seed, number))
		}
		fmt.Fprintf(stdout, "history %d: %s\n", number, n.counts)
		all.add(n.counts)
		if err := before.add(o.seed, number); err != nil {
			return all, err
		}
	}
	return all, nil
}
