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

	"golang.org/x/term"

	"github.com/muster-fleet/muster/testnet/lan"
)

// Exit codes, beside 0 and 1: what was asked for makes no sense.
const exitWrong = 2

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options is what a session is told.
type options struct {
	seed    uint64
	minutes float64
	rounds  int
	renew   int
	storm   time.Duration
	shape   Shape
	trace   string
	replay  string
	bin     string
	dir     string
	goOn    bool
	show    bool
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Uint64Var(&o.seed, "seed", 1, "of the plan: the same seed gives the same steps")
	f.Float64Var(&o.minutes, "minutes", 3, "how long; 0 goes by --rounds alone")
	f.IntVar(&o.rounds, "rounds", 0, "how many rounds; 0 goes by --minutes alone")
	f.IntVar(&o.renew, "renew", 8, "rounds after which there is a new fleet")
	f.DurationVar(&o.storm, "storm", 24*time.Second, "how long the storm of a round is")
	f.IntVar(&o.shape.Servers, "servers", 5, "hosts that may hold the fleet's state")
	f.IntVar(&o.shape.Agents, "agents", 10, "hosts that may not")
	f.StringVar(&o.trace, "trace", "", "file for the trace; default: one in the temporary folder")
	f.StringVar(&o.replay, "replay", "", "file of a trace, whose steps are executed instead of a plan's")
	f.StringVar(&o.bin, "bin", "", "the muster binary; default: it is built")
	f.StringVar(&o.dir, "dir", "", "folder for the hosts, which must not exist; default: one in the temporary folder")
	f.BoolVar(&o.goOn, "go-on", false, "go on after a broken promise, with a new fleet")
	f.BoolVar(&o.show, "plan", false, "print the plan of --rounds rounds and do nothing")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.shape.StormMS = o.storm.Milliseconds()
	return o, o.check(f.Args())
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("what is %q?", rest[0])
	case o.shape.Servers < 1 || o.shape.Agents < 0 || o.shape.Servers+o.shape.Agents > 100:
		return errors.New("1 to 100 hosts, one of them a server")
	case o.storm < 5*time.Second || o.storm > 10*time.Minute:
		return errors.New("--storm must be 5 s to 10 min")
	case o.minutes < 0 || o.rounds < 0 || o.renew < 1 || (o.minutes == 0 && o.rounds == 0 && o.replay == ""):
		return errors.New("give --minutes or --rounds")
	case o.show && o.rounds == 0:
		return errors.New("--plan needs --rounds")
	}
	return nil
}

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "chaos:", err)
		return exitWrong
	case o.show:
		showPlan(o, stdout)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, end, err := prepare(ctx, o, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "chaos:", err)
		return exitWrong
	}
	defer end()
	failed := s.run(ctx)
	s.progress("")
	return s.verdict(stdout, failed)
}

func showPlan(o options, out io.Writer) {
	for round := 1; round <= o.rounds; round++ {
		for _, s := range Plan(o.seed, o.shape, round) {
			fmt.Fprintf(out, "%d  %6d ms  step %d  ", s.Round, s.AtMS, s.Number)
			switch {
			case s.Fault != nil:
				fmt.Fprintln(out, "begins:", s.Fault)
			case s.Ask != nil:
				fmt.Fprintln(out, "asks", s.Ask)
			default:
				fmt.Fprintln(out, "ends: step", s.Lift)
			}
		}
	}
}

// prepare makes a session ready to run: the binary, the trace, what is replayed.
func prepare(ctx context.Context, o options, stderr io.Writer) (*session, func(), error) {
	s := &session{
		Session: Session{Seed: o.seed, Shape: o.shape}, minutes: time.Duration(o.minutes * float64(time.Minute)), rounds: o.rounds, renew: o.renew,
		goOn: o.goOn, tally: newTally(), progress: progressTo(stderr),
	}
	if o.replay != "" {
		var err error
		if s.Session, s.replayed, err = readTraceFile(o.replay); err != nil {
			return nil, nil, err
		}
	}
	if o.trace == "" {
		o.trace = filepath.Join(os.TempDir(), fmt.Sprintf("chaos-%d-%d.jsonl", s.Seed, os.Getpid()))
	}
	file, err := os.OpenFile(o.trace, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	s.trace, s.keep = &trace{out: file, path: o.trace}, o.trace+".logs"
	built, err := os.MkdirTemp("", "muster-chaos-")
	if err != nil {
		return nil, nil, err
	}
	end := func() { file.Close(); os.RemoveAll(built) }
	if o.bin == "" {
		s.progress("building the agent")
		o.bin = filepath.Join(built, "muster")
		if err := lan.Build(ctx, o.bin, "testclock"); err != nil {
			end()
			return nil, nil, err
		}
	}
	s.found = found(o.bin, o.dir)
	return s, end, nil
}

// progressTo shows one line that is written over again on a terminal, and a line each elsewhere.
func progressTo(w io.Writer) func(string) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func(line string) {
			if line != "" {
				fmt.Fprintln(w, time.Now().Format("15:04:05"), line)
			}
		}
	}
	return func(line string) { fmt.Fprintf(w, "\r\x1b[K%s", line) }
}
