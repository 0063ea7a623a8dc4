package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/testnet/check"
)

// Patience with secrets at rest: until one can be put for the keyring, whose members may have to make a new key first, and
// until each member opens it. Both are promises, too.
const (
	putPatience  = 45 * time.Second
	openPatience = 30 * time.Second
	looksAtOnce  = 3
)

// makeRing makes the keyring and the document of a new fleet, and a version of everything that is never deleted.
func (t *town) makeRing(ctx context.Context) error {
	from := t.shape.hosts()[0]
	for _, h := range t.shape.founders() {
		out, r := t.operate(ctx, Ask{Kind: AskTag, From: from, Node: h, Key: ringKey, Value: ringValue}, came{})
		if out.came.ack != check.Accepted {
			return fmt.Errorf("%s cannot be tagged: exit %d: %s", h, r.Code, strings.TrimSpace(r.Stderr))
		}
	}
	if _, err := t.answer(ctx, from, "keyring", "put", ringName, "--target", ringTarget); err != nil {
		return err
	}
	r := t.d.MusterWith(ctx, from, document(), "-o", "json", "doc", "put", "/dev/stdin", "--name", docName)
	if r.Code != 0 {
		return fmt.Errorf("muster doc put: exit %d: %s", r.Code, strings.TrimSpace(r.Stderr))
	}
	for _, name := range slices.Concat(keptNames(), sealedNames()) { // there is something to be told from the beginning
		a := Ask{Kind: AskPut, Op: t.ownOp(), From: from, Name: name}
		if slices.Contains(sealedNames(), name) {
			a.Kind = AskSecret
		}
		if out, r := t.operate(ctx, a, came{}); out.came.ack != check.Accepted {
			return fmt.Errorf("%s cannot be put: exit %d: %s", name, r.Code, strings.TrimSpace(r.Stderr))
		}
	}
	return nil
}

// ownOp returns a number for an operation that is in no plan.
func (t *town) ownOp() int {
	t.own++
	return -t.own
}

// lookAtShelf asks for all parameters, puts a secret, and has every host try to open it.
func (t *town) lookAtShelf(ctx context.Context) error {
	t.settleMembers(ctx)
	t.probe(ctx)
	if err := t.lookAtParams(ctx); err != nil {
		return err
	}
	t.openAll(ctx, t.there())
	return t.lookForCanary(ctx)
}

// settleMembers tags those hosts anew of which nobody knows whether they are in the keyring, so that it is known from then
// on: as a person does who was told nothing.
func (t *town) settleMembers(ctx context.Context) {
	for i, h := range t.shape.readers() {
		now := time.Now()
		if t.shelf.IsMember(h, now) || !t.shelf.MayBeMember(h, now, now) {
			continue
		}
		t.operate(ctx, Ask{Kind: AskTag, From: t.host(i), Node: h, Key: ringKey, Value: ringValue}, came{})
		if t.history.Present[tagName(h, ringKey)] == "" {
			t.operate(ctx, Ask{Kind: AskUntag, From: t.host(i), Node: h, Key: ringKey}, came{}) // only what is there can go
		}
	}
}

// probe puts a secret when the fleet is at rest.
func (t *town) probe(ctx context.Context) {
	why := ""
	for began, try := time.Now(), 0; time.Since(began) < putPatience; try++ {
		out, r := t.operate(ctx, Ask{Kind: AskSecret, Op: t.ownOp(), From: t.host(4 + try), Name: sealedNames()[0]}, came{})
		if out.came.ack == check.Accepted {
			return
		}
		t.trace.line(Line{Began: out.asked, TookMS: out.answered.Sub(out.asked).Milliseconds(), Came: "a secret put at rest: " + sayAnswer(out.came.ack, out.came.id, r)})
		why = fmt.Sprintf("exit %d: %s", r.Code, strings.TrimSpace(r.Stderr))
		if !wait(ctx, lookEvery) {
			return
		}
	}
	t.found(check.Violation{Promise: check.PromiseOpen, What: fmt.Sprintf("no secret can be put for the keyring for %s: %s", putPatience, why)})
}

// found notes a broken promise that is seen while looking.
func (t *town) found(v check.Violation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken = append(t.broken, v)
}

// lookAtParams reads what there is, all versions of it.
func (t *town) lookAtParams(ctx context.Context) error {
	looked := time.Now()
	text, err := t.answer(ctx, t.host(5), "param", "get", "--path", briefPath)
	if err != nil {
		return err
	}
	all, err := readParams(text)
	if err != nil {
		return err
	}
	names := slices.Concat(keptNames(), goneNames(), sealedNames())
	var mu sync.Mutex
	err = each(names, func(i int, name string) error {
		by := t.host(6 + i)
		text, err := t.answer(ctx, by, "param", "history", name, "--decrypt")
		if err != nil || text == "" {
			return err
		}
		seen, err := readHistory(text, by)
		mu.Lock()
		defer mu.Unlock()
		all[name] = seen
		return err
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shelf.Looked, t.shelf.Params = looked, all
	return err
}

// each does something for several names, a few at once.
func each(names []string, do func(i int, name string) error) error {
	errs := make([]error, len(names))
	slots := make(chan struct{}, looksAtOnce)
	var group sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(i, name)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// openAll has hosts open the newest secrets for themselves.
func (t *town) openAll(ctx context.Context, hosts []string) {
	_ = each(hosts, func(_ int, h string) error {
		for _, name := range sealedNames() {
			if len(t.shelf.Params[name].Versions) > 0 {
				t.open(ctx, h, name)
			}
		}
		return nil
	})
}

// open has a host open a secret, a member for as long as it may need.
func (t *town) open(ctx context.Context, host, name string) {
	began, value, why := time.Now(), "", ""
	t.mu.Lock()
	member, never := t.shelf.IsMember(host, began), !t.shelf.MayBeMember(host, began, began)
	t.mu.Unlock()
	for {
		value, why = t.openOnce(ctx, host, name)
		if value != "" || !member || time.Since(began) >= openPatience || !wait(ctx, lookEvery) {
			break
		}
	}
	if took := time.Since(began); took > slowLook {
		t.trace.line(Line{Began: began, TookMS: took.Milliseconds(), Came: fmt.Sprintf("%s was slow to open %s: %s", host, name, why)})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shelf.Opens = append(t.shelf.Opens, check.Open{Node: host, Name: name, Asked: began, Answered: time.Now(), Value: value, Why: why, Rest: true})
	switch {
	case member && value != "":
		t.tally.opened++
	case never && value == "":
		t.tally.closed++
	}
}

func (t *town) openOnce(ctx context.Context, host, name string, more ...string) (value, why string) {
	ctx, stop := context.WithTimeout(ctx, lookPatience)
	defer stop()
	asked := time.Now()
	r := t.d.Muster(ctx, host, append([]string{"-o", "json", "param", "get", name, "--decrypt", "--as-host"}, more...)...)
	var one shown
	if readJSON(r.Stdout, &one) != nil || one.Value == nil {
		return "", fmt.Sprintf("exit %d: %s", r.Code, strings.TrimSpace(r.Stderr))
	}
	if len(more) == 0 {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.shelf.Gets = append(t.shelf.Gets, check.ParamGet{By: host, Name: name, Asked: asked.Add(-ms(one.AgeMS)), Answered: time.Now(), Version: one.Version, Value: *one.Value})
	}
	return *one.Value, ""
}

// lookForCanary looks through all files of all hosts for the text that every secret has.
func (t *town) lookForCanary(ctx context.Context) error {
	planted := map[string][]string{}
	var mu sync.Mutex
	err := each(t.shape.hosts(), func(_ int, h string) error {
		files, err := t.d.Holding(ctx, h, t.canary)
		mu.Lock()
		defer mu.Unlock()
		planted[h] = files
		return err
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shelf.Planted = planted
	return err
}

// farewell removes a member of the keyring from a fleet at rest, for good, and has it and all others try to open what is put
// then.
func (t *town) farewell(ctx context.Context) ([]check.Violation, error) {
	all := t.shape.readers()
	leaves := all[len(all)-1]
	if slices.Contains(t.shape.servers(), leaves) {
		return nil, nil // it would take a replica with it
	}
	from := t.shape.hosts()[0]
	t.rests++
	if !t.shelf.IsMember(leaves, time.Now()) {
		t.operate(ctx, Ask{Kind: AskTag, From: from, Node: leaves, Key: ringKey, Value: ringValue}, came{})
	}
	t.open(ctx, leaves, sealedNames()[0])
	asked := time.Now()
	if _, err := t.answer(ctx, from, "node", "delete", leaves); err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.left = leaves
	t.shelf.Members = append(t.shelf.Members, check.Write{What: leaves, Ack: check.Accepted, Asked: asked, Answered: time.Now()})
	t.mu.Unlock()
	t.probe(ctx)
	if err := t.lookAtParams(ctx); err != nil {
		return nil, err
	}
	t.openAll(ctx, t.there())
	for _, more := range [][]string{nil, {"--stale"}} {
		began := time.Now()
		value, why := t.openOnce(ctx, leaves, sealedNames()[0], more...)
		t.shelf.Opens = append(t.shelf.Opens, check.Open{Node: leaves, Name: sealedNames()[0], Asked: began, Answered: time.Now(), Value: value, Why: why})
	}
	t.tally.removed++
	return append(t.broken, check.Params(t.shelf)...), nil
}
