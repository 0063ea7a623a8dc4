package agent

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/muster-fleet/muster/node"
)

// TestBeat: a loop that turns beats, one that hangs does not.
func TestBeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{queue: make(chan node.Event, 1)}
		ctx, stop := context.WithCancel(t.Context())
		beaten := make(chan error)
		beat := func() { beaten <- a.Beat(ctx) }
		go beat()
		synctest.Wait()
		<-a.queue // the loop takes the event, and its turn ends
		a.turns.Add(1)
		if err := <-beaten; err != nil {
			t.Fatal(err)
		}
		go beat()
		synctest.Wait()
		<-a.queue // it takes the event and hangs
		synctest.Wait()
		select {
		case err := <-beaten:
			t.Fatalf("a loop that hangs beats: %v", err)
		default:
		}
		stop()
		if err := <-beaten; err == nil {
			t.Fatal("it beats behind the end")
		}
		go beat() // the queue is full of what nobody takes
		if err := <-beaten; err == nil {
			t.Fatal("it beats without a loop")
		}
	})
}
