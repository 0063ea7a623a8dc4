package lan

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Found founds a fleet on n1 and starts its agent. The operator's key is at Identity, the others beside it.
func (l *Lan) Found(ctx context.Context) error {
	h := l.hosts[0]
	if r := h.Muster(ctx, "init", "--fleet", "lan", "--operator", "operator", "--recovery-file", "/run/lan/recovery.key"); r.Code != 0 {
		return fmt.Errorf("muster init: exit %d: %s", r.Code, r.Stderr)
	}
	if err := h.Start(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enrolled = 1
	return l.saveLocked()
}

// Join makes one token and enrols hosts with it, all at once; without hosts, all but the first. It waits until every agent
// answers.
func (l *Lan) Join(ctx context.Context, hosts ...*Host) error {
	if len(hosts) == 0 {
		hosts = l.hosts[1:]
	}
	if len(hosts) == 0 {
		return nil
	}
	return l.join(ctx, hosts)
}

// JoinHidden hides hosts and enrols them as outbound-only nodes.
func (l *Lan) JoinHidden(ctx context.Context, hosts ...*Host) error {
	for _, h := range hosts {
		if err := h.Hide(true); err != nil {
			return err
		}
	}
	return l.join(ctx, hosts, "--outbound")
}

func (l *Lan) join(ctx context.Context, hosts []*Host, args ...string) error {
	if err := l.makeToken(ctx, len(hosts)); err != nil {
		return err
	}
	if err := l.each(hosts, func(h *Host) error { return h.Launch(append([]string{"--join-file", "/run/lan/join"}, args...)...) }); err != nil {
		return err
	}
	if err := l.each(hosts, func(h *Host) error { return h.answers(ctx) }); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enrolled += len(hosts)
	return l.saveLocked()
}

// makeToken leaves a join string where all hosts can read it.
func (l *Lan) makeToken(ctx context.Context, uses int) error {
	from := l.hosts[0]
	for _, h := range l.hosts {
		if h.Running() {
			from = h
			break
		}
	}
	r := from.Muster(ctx, "token", "create", "--uses", strconv.Itoa(uses), "-o", "json")
	var token struct{ Join string }
	if r.Code != 0 {
		return fmt.Errorf("muster token create: exit %d: %s", r.Code, r.Stderr)
	}
	if err := json.Unmarshal([]byte(r.Stdout), &token); err != nil {
		return fmt.Errorf("muster token create: %w", err)
	}
	return os.WriteFile(filepath.Join(l.shared(), "join"), []byte(token.Join), 0o600)
}

// Settled waits until every running node sees every running node, and the quorum has the voters that a fleet of this size
// should have.
func (l *Lan) Settled(ctx context.Context) error {
	ctx, stop := context.WithTimeoutCause(ctx, Patience, fmt.Errorf("not within %s", Patience))
	defer stop()
	l.mu.Lock()
	want := voters(l.enrolled)
	l.mu.Unlock()
	running := 0
	for _, h := range l.hosts {
		if h.Running() {
			running++
		}
	}
	return l.each(l.hosts, func(h *Host) error {
		if !h.Running() {
			return nil
		}
		saw := "no answer"
		err := h.until(ctx, "it sees the fleet", func() (bool, error) {
			s, err := h.Status(ctx)
			if err != nil {
				return false, nil
			}
			saw = fmt.Sprintf("%d of %d nodes, %d of %d voters", s.Online, running, len(s.Quorum.Voters), want)
			return s.Online == running && len(s.Quorum.Voters) >= want, nil
		})
		if err != nil {
			return fmt.Errorf("it saw %s: %w", saw, err)
		}
		return nil
	})
}

// voters returns how many voters a fleet of so many nodes has.
func voters(nodes int) int {
	switch {
	case nodes >= 20:
		return 5
	case nodes >= 3:
		return 3
	}
	return 1
}
