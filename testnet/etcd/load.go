package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What a task does.
const (
	opPut   = "put"
	opGet   = "get"
	opStale = "stale"
)

// The shape of the load, the same as muster's in testnet/figures.
const (
	valueSize = 256
	keys      = 10_000
)

// Result is what a task came to.
type Result struct {
	Op      string  `json:"op"`
	Clients int     `json:"clients"`
	Done    int     `json:"done"`
	Rate    float64 `json:"per_second"`
	P50     float64 `json:"p50_seconds"`
	P99     float64 `json:"p99_seconds"`
}

// load has the clients ask one after the other, each its next once the last was answered, until the time is over. An error ends
// it: nothing here is meant to fail.
func (s *servers) load(ctx context.Context, t task) (Result, error) {
	took, errs := make([][]time.Duration, t.clients), make([]error, t.clients)
	began := time.Now()
	end := began.Add(t.over)
	var work sync.WaitGroup
	for n := range t.clients {
		work.Go(func() {
			client := s.clients[n%len(s.clients)]
			value := make([]byte, valueSize)
			_, _ = rand.Read(value)
			for i := n; errs[n] == nil; i += t.clients {
				from := time.Now()
				if from.After(end) {
					return
				}
				errs[n] = once(ctx, client, t.op, fmt.Sprintf("/bench/%05d", i%keys), string(value))
				took[n] = append(took[n], time.Since(from))
			}
		})
	}
	work.Wait()
	for _, err := range errs {
		if err != nil {
			return Result{}, err
		}
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return Result{
		Op: t.op, Clients: t.clients, Done: len(all), Rate: float64(len(all)) / time.Since(began).Seconds(),
		P50: all[len(all)/2].Seconds(), P99: all[len(all)*99/100].Seconds(),
	}, nil
}

func once(ctx context.Context, c *clientv3.Client, op, key, value string) (err error) {
	switch op {
	case opPut:
		_, err = c.Put(ctx, key, value)
	case opGet:
		_, err = c.Get(ctx, key)
	case opStale:
		_, err = c.Get(ctx, key, clientv3.WithSerializable())
	}
	return err
}
