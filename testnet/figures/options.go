package main

import (
	"flag"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan"
)

// Bounds of what can be asked for.
const (
	leastNodes = 3 // below, a fleet has one voter and nobody is left to be killed
	mostRuns   = 1000
	// mostClients is what etcd's side takes, too.
	mostClients = 1024
)

// options is what the command line asks for.
type options struct {
	nodes   []int
	runs    int
	idle    time.Duration
	rest    time.Duration
	json    string   // a file, "-" for standard output; empty: none
	only    []string // keys of measurements; empty: all
	muster  string   // the binary; empty: built from the sources
	load    time.Duration
	clients []int // at a time, under load
	ways    []string
	acts    []string
}

// wants reports whether a measurement is asked for. Those of parameters take minutes and a machine to themselves, so they
// are never taken unasked.
func (o options) wants(key string) bool {
	if len(o.only) == 0 {
		return !slices.ContainsFunc(aloneOnes(), func(a alone) bool { return a.key == key })
	}
	return slices.Contains(o.only, key)
}

// parseOptions reads the command line. known are the keys of all measurements.
func parseOptions(args, known []string, help io.Writer) (options, error) {
	var o options
	var nodes, only, clients, ways, acts string
	flags := flag.NewFlagSet("figures", flag.ContinueOnError)
	flags.SetOutput(help)
	flags.StringVar(&nodes, "nodes", "5,20,50", "sizes of fleets, in the order in which they are measured")
	flags.IntVar(&o.runs, "runs", 10, "how often a command is run; kills are repeated three times at most")
	flags.DurationVar(&o.idle, "idle", 30*time.Second, "how long an idle fleet is watched")
	flags.DurationVar(&o.rest, "rest", 10*time.Second, "how long a fleet rests before it is watched idle; half of it after it became whole")
	flags.DurationVar(&o.load, "load", 5*time.Second, "how long each load of quorum and params is kept up")
	flags.StringVar(&clients, "clients", "1,16,64,256", "how many clients load at a time, one number after the other")
	flags.StringVar(&ways, "ways", "", "over these alone sessions are measured: "+strings.Join(wayKeys(), ","))
	flags.StringVar(&acts, "acts", "", "of sessions, these alone: "+strings.Join(actKeys(), ","))
	flags.StringVar(&o.json, "json", "", "write JSON to this `file`; - is standard output, and then no table is printed")
	flags.StringVar(&only, "only", "", "these alone: "+strings.Join(known, ","))
	flags.StringVar(&o.muster, "muster", "", "measure this `binary` (default: built from the sources)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fleet.Errorf(fleet.Invalid, "figures takes no arguments, but got %q", flags.Arg(0))
	}
	for _, word := range splitList(nodes) {
		n, err := strconv.Atoi(word)
		if err != nil || n < leastNodes || n > lan.MaxHosts {
			return o, fleet.Errorf(fleet.Invalid, "--nodes %s: sizes are numbers from %d to %d", word, leastNodes, lan.MaxHosts)
		}
		o.nodes = append(o.nodes, n)
	}
	for _, word := range splitList(clients) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > mostClients {
			return o, fleet.Errorf(fleet.Invalid, "--clients %s: numbers from 1 to %d", word, mostClients)
		}
		o.clients = append(o.clients, n)
	}
	o.only = splitList(only)
	for _, key := range o.only {
		if !slices.Contains(known, key) {
			return o, fleet.Errorf(fleet.Invalid, "--only %s: there is no such figure", key).Hinted("one of %s", strings.Join(known, ", "))
		}
	}
	var err error
	if o.ways, err = someOf("--ways", ways, wayKeys()); err != nil {
		return o, err
	}
	if o.acts, err = someOf("--acts", acts, actKeys()); err != nil {
		return o, err
	}
	switch {
	case o.runs < 1 || o.runs > mostRuns:
		return o, fleet.Errorf(fleet.Invalid, "--runs %d: from 1 to %d", o.runs, mostRuns)
	case o.idle < time.Second:
		return o, fleet.Errorf(fleet.Invalid, "--idle %s: at least a second", o.idle)
	case o.load < time.Second || o.load > time.Minute:
		return o, fleet.Errorf(fleet.Invalid, "--load %s: from a second to a minute", o.load)
	case o.rest < 0:
		return o, fleet.Errorf(fleet.Invalid, "--rest %s: time goes one way", o.rest)
	case len(o.nodes) == 0:
		return o, fleet.Errorf(fleet.Invalid, "--nodes names no size")
	}
	return o, nil
}

// someOf reads a list of what is known.
func someOf(flag, text string, known []string) ([]string, error) {
	words := splitList(text)
	for _, word := range words {
		if !slices.Contains(known, word) {
			return nil, fleet.Errorf(fleet.Invalid, "%s %s: there is no such thing", flag, word).Hinted("one of %s", strings.Join(known, ", "))
		}
	}
	return words, nil
}

func splitList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}
