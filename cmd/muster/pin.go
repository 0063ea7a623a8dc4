package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// pinboard is the parameters of one command: what it refers to, and the versions that this came to when it was signed.
type pinboard struct {
	refs []document.StoreRef
	pins []exec.ParamRef // of the first refs
}

// want notes references; those that are there already are not read again.
func (b *pinboard) want(refs []document.StoreRef, err error) error {
	for _, r := range refs {
		if !slices.Contains(b.refs, r) {
			b.refs = append(b.refs, r)
		}
	}
	return err
}

// whole reports whether everything that was wanted has been read.
func (b *pinboard) whole() bool { return len(b.pins) == len(b.refs) }

// read pins what was wanted since, with the operator's own right to read.
func (b *pinboard) read(ctx context.Context, p *pen) error {
	for !b.whole() {
		if len(b.refs) > exec.MaxParams {
			return fleet.Errorf(fleet.Exhausted, "a command takes at most %d parameters from the store, not %d", exec.MaxParams, len(b.refs))
		}
		fresh := b.refs[len(b.pins):]
		wanted := make([]params.Selector, 0, len(fresh))
		for _, r := range fresh {
			s, err := selectorOf(r)
			if err != nil {
				return err
			}
			wanted = append(wanted, s)
		}
		found, err := p.paramVersions(ctx, wanted)
		if err != nil {
			return fleet.Errorf(fleet.KindOf(err), "what stands in {{ ssm:… }}: %w", err)
		}
		if len(found) != len(fresh) {
			return fleet.Errorf(fleet.Internal, "%d parameters were asked for, and %d came", len(fresh), len(found))
		}
		for i, r := range fresh {
			pin, err := pinOf(r, found[i])
			if err != nil {
				return err
			}
			b.pins = append(b.pins, pin)
		}
	}
	return nil
}

func selectorOf(r document.StoreRef) (params.Selector, error) {
	text := r.Name
	if r.Selector != "" {
		text += ":" + r.Selector
	}
	return params.ParseSelector(text)
}

// pinOf pins a version. A secret is signed without its value, whoever could read it.
func pinOf(r document.StoreRef, found pinnedParam) (exec.ParamRef, error) {
	put := found.put
	secret := put.Type == params.SecureString
	switch {
	case secret && !r.Secure:
		return exec.ParamRef{}, fleet.Errorf(fleet.Invalid, "{{ %s }}: %s is a secret", r, put.Name).
			Hinted("write {{ ssm-secure:%s }}: it is opened on the nodes, and nowhere else", strings.TrimPrefix(r.String(), "ssm:"))
	case !secret && r.Secure:
		return exec.ParamRef{}, fleet.Errorf(fleet.Invalid, "{{ %s }}: %s is a %s, and no secret", r, put.Name, put.Type).
			Hinted("write {{ ssm:%s }}", strings.TrimPrefix(r.String(), "ssm-secure:"))
	}
	pin := exec.ParamRef{
		Name: r.Name, Selector: r.Selector, Born: put.Born, Version: put.Version, Digest: put.Digest, Tags: put.Tags,
		List: put.Type == params.StringList, Secret: secret,
	}
	if !secret {
		pin.Value = found.plain
	}
	return pin, nil
}

// store is what the documents of the command are bound to here, where it is only looked whether all is in order.
func (b *pinboard) store() *document.Store {
	return exec.Command{Params: b.sorted()}.Store()
}

func (b *pinboard) sorted() []exec.ParamRef {
	out := slices.Clone(b.pins)
	exec.SortParams(out)
	return out
}

// provisional is a store for values that are looked at before anything is read: all that they refer to is there, as long as
// that is secrets.
func provisional(refs []document.StoreRef) (*document.Store, bool) {
	var all []document.Pinned
	for _, r := range refs {
		if !r.Secure {
			return nil, false
		}
		all = append(all, document.Pinned{Name: r.Name, Selector: r.Selector, Secret: true})
	}
	return document.NewStore(all, "provisional"), true
}

// paramForecast is a parameter that a command would take, as JSON.
type paramForecast struct {
	Name     string `json:"name"`
	Selector string `json:"selector,omitempty"`
	Version  uint32 `json:"version"` // 0: it is published by muster itself
	Secret   bool   `json:"secret"`
}

func paramForecasts(all []exec.ParamRef) []paramForecast {
	var out []paramForecast
	for _, p := range all {
		out = append(out, paramForecast{p.Name, p.Selector, p.Version, p.Secret})
	}
	return out
}

// paramFacts names parameters for people, one a line.
func paramFacts(all []exec.ParamRef) []fact {
	var out []fact
	for _, p := range all {
		text := p.Text()
		if p.Selector != "" {
			text += fmt.Sprintf(" (%s)", p.Selector)
		}
		if p.Secret {
			text += ", a secret: opened on the nodes"
		}
		out = append(out, fact{"parameter", text})
	}
	return out
}
