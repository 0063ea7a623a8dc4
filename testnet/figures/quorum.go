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
				key := loadKey(client, i, clients)
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

// loadKey is a key that no other client writes.
func loadKey(client, i, clients int) string {
	return fmt.Sprintf("/bench/%05d", (client+i*clients)%loadKeys)
}
