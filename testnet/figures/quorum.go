package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
)

// measureQuorum measures three replicas alone: what agreement takes without signatures, policy and agents around it.
func measureQuorum(ctx context.Context, p place) (out []figure, err error) {
	dir, err := os.MkdirTemp(p.folder, "trio-")
	if err != nil {
		return nil, err
	}
	t, err := startTrio(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.end()) }()
	value := make([]byte, loadValue)
	_, _ = rand.Read(value)
	for _, clients := range p.clients {
		for _, op := range []loadOp{loadPut, loadGet, loadStale} {
			r, err := drive(ctx, clients, p.over, func(ctx context.Context, client, i int) error {
				key := loadKey(loadPlace(client, i, clients))
				kind, body := byte(trioPut), trioItem(key, value)
				switch op {
				case loadPut:
				case loadGet:
					kind, body = trioGet, []byte(key)
				case loadStale:
					kind, body = trioStale, []byte(key)
				}
				_, err := t.lane.ask(ctx, kind, body)
				return err
			})
			if err != nil {
				return nil, err
			}
			out = append(out, r.figures("quorum", "quorum alone", op, clients)...)
		}
	}
	return out, nil
}

// loadPlace is which key a client's i-th request is about: under one load no other client has it.
func loadPlace(client, i, clients int) int { return (client + i*clients) % loadKeys }

func loadKey(place int) string { return fmt.Sprintf("/bench/%05d", place) }
