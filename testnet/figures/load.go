package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// The shape of the load, the same as etcd's in testnet/etcd.
const (
	loadValue = 256    // bytes of a value
	loadKeys  = 10_000 // that clients share out among themselves
)

// loadOp is what clients do, by the names that testnet/etcd has for it.
type loadOp string

const (
	loadPut   loadOp = "put"
	loadEach  loadOp = "each"  // put, as by so many writers with keys of their own; etcd's puts beside it
	loadGet   loadOp = "get"   // linearizable
	loadStale loadOp = "stale" // what the asked server has
)

// words says it for people.
func (o loadOp) words() string {
	switch o {
	case loadPut:
		return "linearizable writes"
	case loadEach:
		return "linearizable writes, each signed by itself"
	case loadGet:
		return "linearizable reads"
	case loadStale:
		return "stale reads"
	}
	return string(o)
}

// rates is what clients came to who asked one after the other, each its next once the last was answered.
type rates struct {
	Done int     `json:"done"`
	Rate float64 `json:"per_second"`
	P50  float64 `json:"p50_seconds"`
	P99  float64 `json:"p99_seconds"`
}

// figures names what clients of somebody came to.
func (r rates) figures(key, who string, op loadOp, clients int) []figure {
	key = fmt.Sprintf("%s_%s_%d", key, op, clients)
	name := fmt.Sprintf("%s, %s, %d at a time", who, op.words(), clients)
	return []figure{
		{key: key + "_per_second", name: name, unit: aSecond, value: r.Rate},
		{key: key + "_p50_seconds", name: name + ", p50", unit: seconds, value: r.P50},
		{key: key + "_p99_seconds", name: name + ", p99", unit: seconds, value: r.P99},
	}
}

// drive runs clients until the time is over. do makes a client's i-th request. An error ends it all: under a load nothing is
// meant to fail.
func drive(ctx context.Context, clients int, over time.Duration, do func(ctx context.Context, client, i int) error) (rates, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	took, errs := make([][]time.Duration, clients), make([]error, clients)
	began := time.Now()
	end := began.Add(over)
	var work sync.WaitGroup
	for n := range clients {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				from := time.Now()
				if from.After(end) {
					return
				}
				if errs[n] = do(ctx, n, i); errs[n] != nil {
					stop()
					return
				}
				took[n] = append(took[n], time.Since(from))
			}
		})
	}
	work.Wait()
	if err := firstCause(errs); err != nil {
		return rates{}, err
	}
	return sumUp(slices.Concat(took...), time.Since(began)), nil
}

// firstCause returns an error that is not the end of a neighbour's.
func firstCause(errs []error) (cause error) {
	for _, err := range errs {
		if err != nil && (cause == nil || errors.Is(cause, context.Canceled)) {
			cause = err
		}
	}
	return cause
}

func sumUp(took []time.Duration, over time.Duration) rates {
	s := inSeconds(took)
	return rates{Done: len(took), Rate: float64(len(took)) / over.Seconds(), P50: median(s), P99: percentile(s, 99)}
}
