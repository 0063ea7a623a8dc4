package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/testnet/lan"
)

// real is a fleet of agents, each a process on a namespace host.
type real struct {
	lan     *lan.Lan
	write   pen
	clients []*realDoor
}

func newReal(ctx context.Context, binary string) (r *real, err error) {
	r = &real{}
	if r.lan, err = lan.Up(ctx, lan.Options{Bin: binary, Hosts: hosts}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.lan.Down())
		}
	}()
	if err := r.lan.Found(ctx); err != nil {
		return nil, err
	}
	if err := r.lan.Join(ctx); err != nil {
		return nil, err
	}
	if err := r.lan.Settled(ctx); err != nil {
		return nil, err
	}
	for _, h := range r.lan.Hosts() {
		c, err := h.Client()
		if err != nil {
			return nil, err
		}
		r.clients = append(r.clients, &realDoor{host: h, client: c})
	}
	s, err := r.clients[0].client.Status(ctx)
	if err != nil {
		return nil, err
	}
	signer, err := signerOf(r.lan.Identity())
	r.write = pen{s.Fleet, signer}
	return r, err
}

// signerOf reads the operator's key file.
func signerOf(file string) (auth.Signer, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return auth.Signer{}, err
	}
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "signing-seed" {
			seed, err := base64.RawStdEncoding.DecodeString(strings.TrimSpace(value))
			if err != nil || len(seed) != ed25519.SeedSize {
				break
			}
			return auth.NewSigner(ed25519.NewKeyFromSeed(seed)), nil
		}
	}
	return auth.Signer{}, errors.New("the operator's key file holds no signing seed")
}

func (r *real) down() error { return r.lan.Down() }

func (r *real) doors() (out []door) {
	for _, d := range r.clients {
		if d.host.Running() {
			out = append(out, d)
		}
	}
	return out
}

func (r *real) pen() pen { return r.write }

func (r *real) kinds() []fault {
	return []fault{faultKill, faultPause, faultPart, faultAlone, faultLead}
}

// leader asks every agent who leads. Of several answers that of whoever says it of itself counts: it is the one to be hit.
func (r *real) leader(ctx context.Context) int {
	ctx, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	for n, d := range r.clients {
		q, err := d.client.Quorum(ctx)
		if err == nil && slices.ContainsFunc(q.Voters, func(v node.ServerStatus) bool { return v.ID == q.Leader && v.Name == d.name() }) {
			return n
		}
	}
	return -1
}

func (r *real) host(t trouble) *lan.Host { return r.clients[t.hosts[0]].host }

func (r *real) begin(ctx context.Context, t trouble) error {
	switch t.fault {
	case faultKill:
		return r.host(t).Kill()
	case faultPause:
		return r.host(t).Pause()
	case faultPart, faultAlone:
		var off []*lan.Host
		for _, n := range t.hosts {
			off = append(off, r.clients[n].host)
		}
		return r.lan.Part(off...)
	case faultLead:
		if n := r.leader(ctx); n >= 0 {
			return r.clients[n].host.Restart()
		}
	}
	return nil
}

func (r *real) end(_ context.Context, t trouble) error {
	switch t.fault {
	case faultKill:
		return r.host(t).Start()
	case faultPause:
		return r.host(t).Resume()
	case faultPart, faultAlone:
		return r.lan.Heal()
	case faultLead:
	}
	return nil
}

func (r *real) whole(ctx context.Context) error {
	if err := r.lan.Settled(ctx); err != nil {
		return err
	}
	for range 600 {
		if r.leader(ctx) >= 0 {
			return nil
		}
		pauseUntil(ctx, time.Now().Add(50*time.Millisecond))
	}
	return errors.New("nobody leads")
}

// realDoor is the agent of one host, by its socket.
type realDoor struct {
	host   *lan.Host
	client *api.Client

	mu    sync.Mutex
	last  facts
	asked time.Time // when last was asked for
}

func (d *realDoor) name() string { return d.host.Name() }

// factsFor is how long facts are used again: the record of these fleets stands still.
const factsFor = 500 * time.Millisecond

func (d *realDoor) facts(ctx context.Context) (facts, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if since := time.Since(d.asked); since < factsFor {
		f := d.last
		f.now = f.now.Add(since)
		return f, nil
	}
	ctx, stop := context.WithTimeout(ctx, time.Second) // a paused agent never answers
	defer stop()
	s, err := d.client.Status(ctx)
	if err != nil {
		return facts{}, err
	}
	d.last, d.asked = facts{now: s.Now, head: s.CharterHead, act: s.Act}, time.Now()
	return d.last, nil
}

func (d *realDoor) propose(ctx context.Context, e consensus.PutParams) error {
	_, err := d.client.Propose(ctx, e)
	return err
}

func (d *realDoor) read(ctx context.Context, ask node.ParamsAsk) (node.ParamsRead, error) {
	return d.client.ReadParams(ctx, ask)
}

// build makes the binary that is judged.
func build(ctx context.Context, path string) error {
	if err := lan.Build(ctx, path); err != nil {
		return fmt.Errorf("build the agent: %w", err)
	}
	return nil
}
