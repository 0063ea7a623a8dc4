package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"
)

// loadOver is how long each load is kept up.
const loadOver = 5 * time.Second

// loadClients is how many clients ask at a time.
func loadClients() []int { return []int{1, 16, 64, 256} }

// measureQuorum measures three replicas alone.
func measureQuorum(ctx context.Context, folder string, say func(string, ...any)) (out []figure, err error) {
	dir, err := os.MkdirTemp(folder, "trio-")
	if err != nil {
		return nil, err
	}
	t, err := startTrio(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if ended := t.end(); err == nil {
			err = ended
		}
	}()
	value := make([]byte, loadValue)
	_, _ = rand.Read(value)
	for _, clients := range loadClients() {
		for _, op := range []byte{trioPut, trioGet, trioStale} {
			say("%d clients, %c", clients, op)
			r, err := drive(ctx, clients, loadOver, func(ctx context.Context, client, i int) error {
				key := fmt.Sprintf("/bench/%05d", (client+i*clients)%loadKeys)
				body := []byte(key)
				if op == trioPut {
					body = trioItem(key, value)
				}
				_, err := t.lane.ask(ctx, op, body)
				return err
			})
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, "%c %d: %.0f/s p50 %.2f ms p99 %.2f ms\n", op, clients, r.Rate, r.P50*1e3, r.P99*1e3)
		}
	}
	return out, nil
}
