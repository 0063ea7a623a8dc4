package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

func main() { os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) }

// command simulates and prints. It returns 0 when every promise was kept, 1 when one was broken, 2 when it was called wrongly.
func command(args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return complain(stderr, err)
	}
	began := time.Now()
	r := measure(o, func() bool { return o.budget == 0 || time.Since(began) < o.budget }, func(text string) {
		fmt.Fprintf(stderr, "%6s  %s\n", time.Since(began).Round(time.Second), text)
	})
	if err := r.write(o.json, stdout); err != nil {
		return complain(stderr, err)
	}
	if r.broken() {
		return 1
	}
	return 0
}

func complain(w io.Writer, err error) int {
	fmt.Fprintf(w, "sim: %s\n", err)
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Hint != "" {
		fmt.Fprintf(w, "  → %s\n", e.Hint)
	}
	return 2
}

// options are what the command line asks for.
type options struct {
	nodes    []int
	rollouts []int // for each of nodes
	loss     []float64
	commands int
	seed     uint64
	budget   time.Duration // of real time; 0: none
	jobs     int
	json     bool
	plant    plant
	follow   string
	out      io.Writer // of follow
	towns    *towns
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	f := flag.NewFlagSet("sim", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "Simulates fleets in virtual time: how commands spread, and whether paced ones keep their bounds.\n\n"+
			"  go run ./testnet/sim\n  go run ./testnet/sim --nodes 50,10000 --rollouts 20000,20 --commands 0\n"+
			"  go run ./testnet/sim --nodes 50 --commands 0 --rollouts 20 --seed 17     # that season again\n\n")
		f.PrintDefaults()
	}
	nodes := f.String("nodes", "50", "sizes of fleets, as 50,10000")
	rollouts := f.String("rollouts", "200", "paced commands under faults, for each size: one number, or one for each")
	loss := f.String("loss", "0,10,25", "percentages of packets that are lost; rollouts take them in turn")
	commands := f.Int("commands", 5, "commands without limits to all nodes, for each size and loss; 0: none")
	seed := f.Uint64("seed", 1, "of all random choices; the same seed gives the same trace")
	minutes := f.Float64("minutes", 0, "begin nothing new after so many minutes; 0: do all")
	jobs := f.Int("jobs", runtime.GOMAXPROCS(0), "worlds at a time; one of 10,000 nodes takes 3 GB")
	output := f.String("o", "table", "table or json")
	follow := f.String("follow", "", "write what hosts decide about the command whose ID begins so (one job, one season)")
	planted := f.Int("plant", 0, "build a bug in, which must be found: 1 to "+strconv.Itoa(int(plants)-1))
	if err := f.Parse(args); err != nil {
		return options{}, err
	}
	o := options{commands: *commands, seed: *seed, budget: time.Duration(*minutes * float64(time.Minute)), jobs: *jobs, json: *output == "json", plant: plant(*planted),
		follow: *follow, out: stderr, towns: &towns{}}
	if o.follow != "" {
		o.jobs = 1
	}
	var err error
	if o.nodes, err = numbers("--nodes", *nodes, 3, 20_000); err != nil {
		return o, err
	}
	if o.rollouts, err = numbers("--rollouts", *rollouts, 0, 1_000_000); err != nil {
		return o, err
	}
	percent, err := numbers("--loss", *loss, 0, 60)
	if err != nil {
		return o, err
	}
	for _, p := range percent {
		o.loss = append(o.loss, float64(p)/100)
	}
	for len(o.rollouts) < len(o.nodes) && len(o.rollouts) == 1 {
		o.rollouts = append(o.rollouts, o.rollouts[0])
	}
	return o, o.check(f.Args(), *output)
}

func (o options) check(rest []string, output string) error {
	switch {
	case len(rest) > 0:
		return fleet.Errorf(fleet.Invalid, "%q is not understood", rest[0]).Hinted("go run ./testnet/sim -h")
	case len(o.rollouts) != len(o.nodes):
		return fleet.Errorf(fleet.Invalid, "--rollouts has %d numbers for %d sizes", len(o.rollouts), len(o.nodes))
	case output != "table" && output != "json":
		return fleet.Errorf(fleet.Invalid, "-o %s: it is table or json", output)
	case o.commands < 0 || o.jobs < 1 || o.budget < 0 || o.plant < 0 || o.plant >= plants:
		return fleet.Errorf(fleet.Invalid, "a number that cannot be").Hinted("go run ./testnet/sim -h")
	}
	return nil
}

func numbers(flag, text string, least, most int) ([]int, error) {
	var out []int
	for _, word := range strings.Split(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < least || n > most {
			return nil, fleet.Errorf(fleet.Invalid, "%s %q: numbers from %d to %d, with commas between them", flag, text, least, most)
		}
		out = append(out, n)
	}
	return out, nil
}
