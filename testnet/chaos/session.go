package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/muster-fleet/muster/testnet/check"
)

// session is fleets in storms, one round after another.
type session struct {
	Session
	minutes  time.Duration // of time in all; 0: until rounds are over
	rounds   int           // 0: until the time is over
	renew    int           // rounds of one fleet
	keep     string        // folder for the logs of a fleet that broke a promise; "" keeps none
	goOn     bool          // after a violation, with a new fleet
	replayed map[int][]Step
	found    Founder
	trace    *trace
	tally    *tally
	progress func(string)

	violations []check.Violation
	storms     time.Duration
}

// listLimit is how many commands the fleet lists, newest first: a fleet with more would hide some from the checkers.
const listLimit = 200

// run goes through the rounds. An error means that chaos itself could not go on.
func (s *session) run(ctx context.Context) error {
	s.trace.line(Line{Session: &s.Session})
	began := time.Now()
	for round := 1; !s.over(round, began) && ctx.Err() == nil; {
		next, err := s.life(ctx, round, began)
		if err != nil {
			return err
		}
		if len(s.violations) > 0 && !s.goOn {
			return nil
		}
		round = next
	}
	return nil
}

// over reports whether a round is not to be begun any more.
func (s *session) over(round int, began time.Time) bool {
	switch {
	case s.replayed != nil:
		return round > len(s.replayed)
	case s.rounds > 0 && round > s.rounds:
		return true
	case s.minutes > 0:
		return time.Since(began) >= s.minutes
	}
	return s.rounds == 0
}

// life is one fleet, through as many rounds as it is good for. It returns the round to go on with.
func (s *session) life(ctx context.Context, round int, began time.Time) (next int, err error) {
	s.progress(fmt.Sprintf("round %d: founding %d hosts", round, s.Shape.Servers+s.Shape.Agents))
	d, err := s.found(ctx, s.Shape)
	if err != nil {
		return round, fmt.Errorf("no fleet: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	t := newTown(d, s.Shape, s.trace, s.tally)
	if err := t.makeRing(ctx); err != nil {
		return round, fmt.Errorf("no keyring: %w", err)
	}
	for first := round; !s.over(round, began) && round < first+s.renew && len(t.known) < listLimit-asksIn(s.Shape); round++ {
		found, err := s.round(ctx, t, round)
		if err != nil {
			if ctx.Err() == nil {
				err = errors.Join(err, s.keepLogs(d, round))
			}
			return round, err
		}
		if len(found) > 0 {
			s.violations = append(s.violations, found...)
			return round + 1, s.keepLogs(d, round)
		}
	}
	s.progress("removing a member of the keyring")
	found, err := t.farewell(ctx)
	if len(found) > 0 {
		s.violations = append(s.violations, found...)
		return round, errors.Join(err, s.keepLogs(d, round))
	}
	return round, err
}

// keepLogs keeps what the agents of a fleet said that broke a promise in a round.
func (s *session) keepLogs(d Driver, round int) error {
	if s.keep == "" {
		return nil
	}
	return d.Keep(filepath.Join(s.keep, fmt.Sprintf("round-%d", round)))
}

func (s *session) round(ctx context.Context, t *town, round int) ([]check.Violation, error) {
	steps := s.replayed[round]
	if s.replayed == nil {
		steps = Plan(s.Seed, s.Shape, round)
	}
	s.progress(fmt.Sprintf("round %d: storm of %s, %d steps; so far %s", round, ms(s.Shape.StormMS), len(steps), s.soFar()))
	began := time.Now()
	t.storm(ctx, steps)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.storms += time.Since(began)
	s.progress(fmt.Sprintf("round %d: healing and checking; so far %s", round, s.soFar()))
	found, took, err := t.rest(ctx)
	if err != nil {
		return nil, fmt.Errorf("round %d: %w", round, err)
	}
	s.tally.rounds++
	s.tally.heals = append(s.tally.heals, took)
	ended := Ended{Round: round, HealMS: took.Milliseconds(), Violations: []string{}}
	for _, v := range found {
		ended.Violations = append(ended.Violations, v.String())
	}
	s.trace.line(Line{Ended: &ended})
	return found, nil
}

func (s *session) soFar() string {
	return fmt.Sprintf("%d operations, %d acknowledged, %d faults, %d runs", s.tally.tried(), s.tally.count(check.Accepted), s.tally.struck(), s.tally.runs)
}

// verdict prints what came of the session and returns the exit code.
func (s *session) verdict(out io.Writer, failed error) int {
	code := 0
	for i, v := range s.violations {
		if i == 0 {
			fmt.Fprintf(out, "BROKEN: %s\n  seed %d, trace %s\n", v.Promise, s.Seed, orNone(s.trace.path))
			if s.keep != "" {
				fmt.Fprintf(out, "  logs %s\n", s.keep)
			}
		}
		if i == mostShown {
			fmt.Fprintf(out, "  … and %d more\n", len(s.violations)-i)
			break
		}
		fmt.Fprintf(out, "  %s\n", v)
	}
	if len(s.violations) > 0 {
		code = 1
	}
	if failed != nil {
		fmt.Fprintf(out, "FAILED: %v\n  seed %d, trace %s\n", failed, s.Seed, orNone(s.trace.path))
		code = 1
	}
	if code == 0 {
		for _, what := range s.tally.tooLittle(s.storms) {
			fmt.Fprintf(out, "TOO LITTLE: %s\n", what)
			code = 1
		}
	}
	fmt.Fprintln(out)
	s.tally.print(out)
	if code == 0 {
		fmt.Fprintf(out, "no promise was broken (seed %d, trace %s)\n", s.Seed, orNone(s.trace.path))
	}
	return code
}

// mostShown bounds how many violations are printed; the trace has all.
const mostShown = 20

func orNone(path string) string {
	if path == "" {
		return "not kept"
	}
	return path
}
