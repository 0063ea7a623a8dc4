package attach

import (
	"context"
	"time"
)

const (
	silence = 2 * time.Second        // after which a person is told
	doubt   = time.Second            // after which the other end is asked: what is typed need not be answered, a question is
	beat    = 500 * time.Millisecond // how often it is looked at
)

// listen asks where nothing is heard, and tells of silence.
func (a *attachment) listen(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var asked, told bool
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		waiting, why := a.silentFor()
		if waiting < doubt {
			asked = false
		} else if !asked && why == nil {
			a.end.Ask()
			asked = true
		}
		if silent := waiting >= silence; silent != told && a.Line != nil {
			a.Line(State{Silent: silent, Why: why})
			told = silent
		}
	}
}

// silentFor returns for how long something has been missed, and why if that is known.
func (a *attachment) silentFor() (time.Duration, error) {
	a.mu.Lock()
	lost, why := a.lost, a.why
	a.mu.Unlock()
	if a.end.Ended() {
		return 0, nil
	}
	if !lost.IsZero() {
		return time.Since(lost), why
	}
	return a.end.Waiting(), nil
}
