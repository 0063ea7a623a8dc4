package attach

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"github.com/muster-fleet/muster/node/session/line"
)

// openTimeout is of one attempt: longer than a dial over any way that can be typed on.
const openTimeout = 15 * time.Second

// open makes one attempt.
func (a *attachment) open(ctx context.Context, have uint64) (io.ReadWriteCloser, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return a.Open(ctx, have)
}

// connected serves a connection, and others after it, until the work is over (nil) or cannot go on.
func (a *attachment) connected(ctx context.Context, turn *line.Turn, conn io.ReadWriteCloser, theirs uint64) error {
	var tries tries
	for {
		began := time.Now()
		a.setLost(nil)
		err := turn.Serve(conn, theirs)
		a.setLost(err)
		if ctx.Err() != nil || a.end.Ended() {
			return nil
		}
		if broken, ok := errors.AsType[*line.Broken](err); ok {
			return broken.Err
		}
		now := time.Now()
		if now.Sub(began) >= steady || tries.first.IsZero() {
			tries = newTries(now)
		}
		if err := tries.judge(err, now); err != nil {
			return err
		}
		turn = a.end.Turn()
		if conn, theirs, err = a.reopen(ctx, turn.Taken(), &tries); err != nil {
			return err
		}
	}
}

// reopen tries until it has a connection, or has not and is told to stop.
func (a *attachment) reopen(ctx context.Context, have uint64, t *tries) (io.ReadWriteCloser, uint64, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		case <-time.After(t.pause(rand.Float64())):
		}
		conn, theirs, err := a.open(ctx, have)
		if err == nil {
			return conn, theirs, nil
		}
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		if err := t.judge(err, time.Now()); err != nil {
			return nil, 0, err
		}
		a.setWhy(err)
	}
}

func (a *attachment) setLost(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.why = why
	switch {
	case why == nil:
		a.lost = time.Time{}
	case a.lost.IsZero():
		a.lost = time.Now()
	}
}

func (a *attachment) setWhy(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.why = why
}

func (a *attachment) lostSince() (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lost, !a.lost.IsZero()
}
