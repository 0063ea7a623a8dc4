package slowlink

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// cable is a device in memory. It notes when what is written.
type cable struct {
	in    chan string
	began time.Time
	out   []string
	when  []time.Duration
}

func newCable() *cable { return &cable{in: make(chan string), began: time.Now()} }

func (c *cable) Read(p []byte) (int, error) {
	text, ok := <-c.in
	if !ok {
		return 0, io.EOF
	}
	return copy(p, text), nil
}

func (c *cable) Write(p []byte) (int, error) {
	c.out, c.when = append(c.out, string(p)), append(c.when, time.Since(c.began))
	return len(p), nil
}

// run lets a box work on what a test sends, until all has left.
func run(t *testing.T, p Params, send func(c *cable)) *cable {
	t.Helper()
	c := newCable()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- Run(ctx, c, p) }()
	send(c)
	time.Sleep(MaxDelay) // of the bubble
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	close(c.in)
	synctest.Wait()
	return c
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := run(t, Params{Delay: 300 * ms, Duplicate: 100}, func(c *cable) {
			c.in <- "a"
			time.Sleep(100 * ms)
			c.in <- "b"
		})
		if !slices.Equal(c.out, []string{"a", "a", "b", "b"}) || !slices.Equal(c.when, []time.Duration{300 * ms, 300 * ms, 400 * ms, 400 * ms}) {
			t.Errorf("%v at %v", c.out, c.when)
		}
	})
}

func TestRunKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		c := run(t, Params{Jitter: 50 * ms}, func(c *cable) {
			for i := range 200 {
				sent = append(sent, string(rune('A'+i)))
				c.in <- sent[i]
			}
		})
		if !slices.Equal(c.out, sent) {
			t.Errorf("%v", c.out)
		}
	})
}

func TestRunDropsWhatIsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := run(t, Params{Delay: time.Second}, func(c *cable) {
			for range MaxWaiting + 5 {
				c.in <- "x"
			}
		})
		if len(c.out) != MaxWaiting {
			t.Errorf("%d left", len(c.out))
		}
	})
}

func TestRunEndsWithItsDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCable()
		close(c.in)
		if err := Run(t.Context(), c, Params{}); !errors.Is(err, io.EOF) {
			t.Errorf("it ended with %v", err)
		}
	})
}
