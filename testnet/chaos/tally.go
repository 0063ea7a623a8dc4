package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/muster-fleet/muster/testnet/check"
)

// tally counts what happened, so that a session in which nothing happened does not pass for a good one.
type tally struct {
	rounds  int
	asks    map[AskKind]map[check.Ack]int
	faults  map[FaultKind]int
	runs    int // by the notes of the hosts
	checked int // commands that were held to the promises
	heals   []time.Duration

	opened      int // times that a member of the keyring opened a secret at rest
	closed      int // times that who is no member could not
	toldSecrets int // runs that were told a secret
	removed     int // members of the keyring that were removed for good
}

func newTally() *tally {
	return &tally{asks: map[AskKind]map[check.Ack]int{}, faults: map[FaultKind]int{}}
}

func (t *tally) ask(kind AskKind, ack check.Ack) {
	if t.asks[kind] == nil {
		t.asks[kind] = map[check.Ack]int{}
	}
	t.asks[kind][ack]++
}

func (t *tally) count(ack check.Ack) int {
	n := 0
	for _, acks := range t.asks {
		n += acks[ack]
	}
	return n
}

func (t *tally) tried() int {
	return t.count(check.Accepted) + t.count(check.Refused) + t.count(check.InDoubt)
}

func (t *tally) struck() int {
	n := 0
	for _, count := range t.faults {
		n += count
	}
	return n
}

// What has to happen in a minute of storm for the session to count: about half of what a plan has.
const (
	leastAsks     = 30
	leastAccepted = 12
	leastRuns     = 20
	leastFaults   = 10
	leastPuts     = 6 // acknowledged acts on parameters
	leastOpened   = 3
	leastClosed   = 2
	leastKinds    = 6
)

// tooLittle says what happened too seldom in so much storm.
func (t *tally) tooLittle(storm time.Duration) []string {
	minutes := storm.Minutes()
	var out []string
	least := func(what string, got int, perMinute float64) {
		if want := int(perMinute * minutes); got < want || got == 0 {
			out = append(out, fmt.Sprintf("%d %s in %s of storm; at least %d make a test", got, what, storm.Round(time.Second), max(want, 1)))
		}
	}
	least("operations", t.tried(), leastAsks)
	least("acknowledged operations", t.count(check.Accepted), leastAccepted)
	least("runs", t.runs, leastRuns)
	least("faults", t.struck(), leastFaults)
	least("acknowledged acts on parameters", t.shelved(), leastPuts)
	least("secrets opened by members", t.opened, leastOpened)
	least("secrets closed to others", t.closed, leastClosed)
	if kinds, want := len(t.faults), min(len(kinds()), int(leastKinds*minutes)); kinds < want {
		out = append(out, fmt.Sprintf("%d kinds of faults; at least %d make a test", kinds, want))
	}
	return out
}

// shelved counts acknowledged acts on parameters.
func (t *tally) shelved() int {
	n := 0
	for _, kind := range []AskKind{AskPut, AskCAS, AskImport, AskDelete, AskLabel, AskSecret} {
		n += t.asks[kind][check.Accepted]
	}
	return n
}

// kinds lists the kinds of faults in the deck.
func kinds() []FaultKind {
	seen := map[FaultKind]bool{}
	for _, card := range deck {
		if card != "flap" { // a Split
			seen[FaultKind(card)] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// print shows the counts as a table.
func (t *tally) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "OPERATION\tTRIED\tACKNOWLEDGED\tREFUSED\tIN DOUBT\n")
	row := func(name string, acks map[check.Ack]int) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\n", name, acks[check.Accepted]+acks[check.Refused]+acks[check.InDoubt], acks[check.Accepted], acks[check.Refused], acks[check.InDoubt])
	}
	for _, kind := range slices.Sorted(maps.Keys(t.asks)) {
		row(string(kind), t.asks[kind])
	}
	row("all", map[check.Ack]int{check.Accepted: t.count(check.Accepted), check.Refused: t.count(check.Refused), check.InDoubt: t.count(check.InDoubt)})
	fmt.Fprintf(w, "\nFAULT\tTIMES\n")
	for _, kind := range slices.Sorted(maps.Keys(t.faults)) {
		fmt.Fprintf(w, "%s\t%d\n", kind, t.faults[kind])
	}
	fmt.Fprintf(w, "all\t%d\n", t.struck())
	_ = w.Flush()
	fmt.Fprintf(out, "\nsecrets at rest: opened by members %d times, closed to others %d times; %d runs were told one, %d members were removed\n", t.opened, t.closed, t.toldSecrets, t.removed)
	fmt.Fprintf(out, "%d rounds, %d commands checked, %d runs by their own notes", t.rounds, t.checked, t.runs)
	if len(t.heals) > 0 {
		sorted := slices.Sorted(slices.Values(t.heals))
		fmt.Fprintf(out, "; at rest after a storm within %s, at most %s", sorted[len(sorted)/2].Round(100*time.Millisecond), sorted[len(sorted)-1].Round(100*time.Millisecond))
	}
	fmt.Fprintln(out)
}
