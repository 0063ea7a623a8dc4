package lan

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

// state is what Open has to know, in lan.json.
type state struct {
	Options  Options
	Enrolled int
	Hosts    []hostState
	Cut      []direction
	Loss     map[int]int
}

type direction struct{ From, To int }

type hostState struct {
	Addr   netip.Addr
	Rate   int
	Slow   slowlink.Params
	Limits Limits
	Hidden bool
}

const stateName = "lan.json"

func (l *Lan) save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saveLocked()
}

// saveLocked writes the state of a lan that others may open.
func (l *Lan) saveLocked() error {
	if l.down {
		return nil
	}
	s := state{Options: l.opts, Enrolled: l.enrolled, Loss: l.faults.loss}
	for p := range l.faults.cut {
		s.Cut = append(s.Cut, direction{p.from, p.to})
	}
	for _, h := range l.hosts {
		s.Hosts = append(s.Hosts, hostState{h.addr, h.rate, h.slow, h.limits, l.faults.hidden[h.number]})
	}
	raw, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	path := filepath.Join(l.opts.Dir, stateName)
	return errors.Join(os.WriteFile(path+".new", raw, 0o600), os.Rename(path+".new", path))
}

// Open finds a lan that another process has made, by its folder. Two processes must not change it at once.
func Open(dir string) (*Lan, error) {
	raw, err := os.ReadFile(filepath.Join(dir, stateName))
	if err != nil {
		return nil, fleet.Errorf(fleet.NotFound, "no lan is up in %s: %w", dir, err)
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", stateName, err)
	}
	l := newLan(s.Options)
	l.enrolled = s.Enrolled
	for _, d := range s.Cut {
		l.faults.cut[pair{d.From, d.To}] = true
	}
	for host, percent := range s.Loss {
		l.faults.loss[host] = percent
	}
	return l, l.find(s.Hosts)
}

// find finds the hosts' processes.
func (l *Lan) find(hosts []hostState) error {
	firsts, err := titled(l.opts.Name)
	if err != nil {
		return err
	}
	if l.hub = firsts["hub"]; l.hub == nil {
		return fleet.Errorf(fleet.NotFound, "the lan %s is not up any more", l.opts.Name).Hinted("clear away what is left of it: down")
	}
	for i, was := range hosts {
		h := l.newHost(i + 1)
		h.addr, h.rate, h.slow, h.limits = was.Addr, was.Rate, was.Slow, was.Limits
		l.faults.hidden[h.number] = was.Hidden
		h.init, h.ruled, h.shaped = firsts[h.name], l.faults.rules(h.number), was.Rate > 0
		if h.init != nil {
			if err := h.adopt(); err != nil {
				return err
			}
		}
		l.hosts = append(l.hosts, h)
	}
	return nil
}
