package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Times of following a command.
const (
	rollEvery   = time.Second     // how often reachability is looked at
	quietTime   = 2 * time.Second // without news, where no server says that it has told all it had
	retryFirst  = 100 * time.Millisecond
	retryMost   = 2 * time.Second
	freshFor    = 10 * time.Second // a server may not know a command yet that another has just committed
	giveUpAfter = 2 * time.Minute  // without anybody who tells
	showFor     = 5 * time.Second  // the most that a single look takes
)

// errEnough ends a watch that has seen what it wanted.
var errEnough = errors.New("enough")

// followToEnd shows a command's news until all nodes that can be reached have ended, and then what came of it.
func (a *app) followToEnd(ctx context.Context, p *pen, s *sight, how showing) error {
	view := a.newProgress(s)
	err := a.follow(ctx, p, s, view)
	view.clear()
	if err != nil {
		return err
	}
	after := a.aftermath(ctx, p, s)
	outcomes := s.outcomes(p.now())
	if err := a.showResult(s, outcomes, how, view.began, after); err != nil {
		return err
	}
	code := s.count(outcomes).ExitCode()
	if how.outputDir != "" {
		err := a.keepOutputs(ctx, p, s, outcomes, how.outputDir)
		switch {
		case err != nil && code == exec.ExitBudget: // which nothing outranks
			a.printError(err)
		case err != nil:
			return err
		}
	}
	if code != exec.ExitOK {
		return exitCode(code)
	}
	return nil
}

// follow takes news until nothing more is to be waited for.
func (a *app) follow(ctx context.Context, p *pen, s *sight, view *progress) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	news, broken, rolls, trouble := make(chan node.Update), make(chan error, 1), make(chan roll), make(chan error, 1)
	interrupts, giveBack := a.interrupts()
	defer giveBack()
	if s.direct {
		go p.askNodes(ctx, s.id, slices.Clone(s.nodes), news)
	} else {
		go func() { broken <- p.watch(ctx, s.id, news, trouble) }()
	}
	go pollRoll(ctx, p, rolls)
	quiet := time.NewTimer(quietTime)
	defer quiet.Stop()
	presses := 0
	for {
		silent := false
		select {
		case u := <-news:
			s.take(u)
			quiet.Reset(quietTime)
		case all := <-rolls:
			s.see(all, p.now())
		case <-quiet.C:
			silent = true
			quiet.Reset(quietTime)
		case <-interrupts:
			presses++
			if err := a.interrupted(ctx, p, s, view, presses); err != nil {
				return err
			}
		case err := <-trouble:
			view.clear()
			a.say("no news for now, still trying: %s", err)
		case err := <-broken:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		outcomes := s.outcomes(p.now())
		tally := s.count(outcomes)
		view.show(outcomes, tally)
		if s.heardAll(outcomes, tally) || s.mayBeAll(outcomes, tally, silent) {
			return nil
		}
		if lost := s.stalled(outcomes); silent && len(lost) > 0 {
			view.clear()
			a.say("--strict: nothing more is started until it is known what became of %s", s.names(lost))
			return nil
		}
	}
}

// interrupted answers Ctrl-C: the command is the fleet's now, so it goes on until it is cancelled.
func (a *app) interrupted(ctx context.Context, p *pen, s *sight, view *progress, presses int) error {
	view.clear()
	switch presses {
	case 1:
		a.say("the command goes on (muster command watch %s); Ctrl-C again cancels it", s.id)
		return nil
	case 2:
		a.say("cancelling; Ctrl-C again stops watching")
		// Not in the loop: news must go on to be taken while the servers think.
		go func() {
			if err := p.cancel(ctx, s.id, cancelLife(s.info)); err != nil && ctx.Err() == nil {
				a.printError(err)
			}
		}()
		return nil
	}
	a.say("not watched any more: muster command watch %s", s.id)
	return exitCode(exec.ExitUnknown)
}

// cancelLife returns how long a cancel must hold: as long as a node may still come back with the command.
func cancelLife(info *node.CommandInfo) time.Duration {
	if info == nil {
		return exec.MaxExpires
	}
	h := info.Body.Header
	return time.Duration(h.Expires-h.Issued+info.Body.Run.Timeout)*time.Millisecond + time.Hour
}

func (p *pen) cancel(ctx context.Context, id fleet.UUID, life time.Duration) error {
	return p.cancelNodes(ctx, id, nil, life)
}

// cancelNodes cancels a command on some nodes; none: on all.
func (p *pen) cancelNodes(ctx context.Context, id fleet.UUID, nodes []fleet.ID, life time.Duration) error {
	statement := p.sign(auth.ForCancel, exec.Cancel{Header: p.header(life), Command: id, Nodes: exec.SortIDs(nodes)})
	_, err := propose(ctx, p.client, consensus.PutCancel{Statement: statement})
	return err
}

// watch brings news until ctx ends. It asks again, with a fresh signature, whenever the news break off, and tells of
// trouble, once, when that does not help soon.
func (p *pen) watch(ctx context.Context, id fleet.UUID, news chan<- node.Update, trouble chan<- error) error {
	began := time.Now()
	heard, wait, told := began, retryFirst, false
	for {
		err := p.client.Watch(ctx, p.request(node.ReadCommand, id), func(u node.Update) error {
			heard, wait = time.Now(), retryFirst
			select {
			case news <- u:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !passing(err, time.Since(began)):
			return err
		case time.Since(heard) > giveUpAfter:
			return fleet.Errorf(fleet.Unavailable, "no news for %s: %w", giveUpAfter, err).Hinted("the command goes on: muster command watch %s", id)
		case wait == retryMost && !told:
			told = true
			trouble <- err // there is room for the one
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, retryMost)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// passing reports whether a watch that broke off after so long is worth another try.
func passing(err error, after time.Duration) bool {
	switch fleet.KindOf(err) {
	case fleet.Unavailable, fleet.Internal, fleet.Exhausted, fleet.Expired:
		return true
	case fleet.NotFound:
		return after < freshFor
	case fleet.Invalid, fleet.Denied, fleet.Conflict:
		return false
	}
	return false
}

// pollRoll brings who is there, again and again.
func pollRoll(ctx context.Context, p *pen, rolls chan<- roll) {
	tick := time.NewTicker(rollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		all, err := callRoll(ctx, p.client)
		if err != nil {
			continue // the watch says it, if it lasts
		}
		select {
		case rolls <- all:
		case <-ctx.Done():
			return
		}
	}
}

// look takes what the servers have to tell now, and does not wait for nodes.
func (a *app) look(ctx context.Context, p *pen, s *sight) error {
	ctx, stop := context.WithTimeout(ctx, showFor)
	defer stop()
	quiet := time.AfterFunc(showFor, stop)
	defer quiet.Stop()
	err := p.client.Watch(ctx, p.request(node.ReadCommand, s.id), func(u node.Update) error {
		s.take(u)
		if outcomes := s.outcomes(p.now()); s.synced || s.heardAll(outcomes, s.count(outcomes)) {
			return errEnough
		}
		quiet.Reset(quietTime)
		return nil
	})
	if s.info != nil || errors.Is(err, errEnough) {
		return nil
	}
	if ctx.Err() != nil {
		return fleet.Errorf(fleet.Unavailable, "no server tells of command %s", s.id).Hinted("muster quorum status")
	}
	return err
}
