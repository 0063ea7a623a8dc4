package lan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/testnet/lan/slowlink"
)

// Cut lets nothing pass from one group of hosts to another. Both directions together are two calls, or Part.
func (l *Lan) Cut(from, to []*Host) error {
	return l.change(func(f faults) {
		for _, a := range from {
			for _, b := range to {
				if a != b {
					f.cut[pair{a.number, b.number}] = true
				}
			}
		}
	})
}

// Part cuts hosts off from all others, in both directions. Among themselves they can talk.
func (l *Lan) Part(hosts ...*Host) error {
	rest := l.others(hosts)
	if err := l.Cut(hosts, rest); err != nil {
		return err
	}
	return l.Cut(rest, hosts)
}

// Ring lets each host see its two neighbours only.
func (l *Lan) Ring() error { return l.change(func(f faults) { f.ring(len(l.hosts)) }) }

// Lose drops so many packets of a hundred, at random, of all that these hosts send and receive; without hosts, of all that
// is sent. A packet is judged once. 0 ends it.
func (l *Lan) Lose(percent int, hosts ...*Host) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("%d%% of packets cannot be lost", percent)
	}
	if len(hosts) == 0 {
		hosts = l.hosts
	}
	return l.change(func(f faults) {
		for _, h := range hosts {
			f.loss[h.number] = percent
		}
	})
}

// Hide puts the host behind a firewall that lets in only what answers the host, and behind NAT; false takes both away.
// When such a host moves, its NAT forgets whom it let in.
func (h *Host) Hide(on bool) error { return h.lan.change(func(f faults) { f.hidden[h.number] = on }) }

// Heal undoes every fault of the network: Cut, Part, Ring, Lose, and every host's Bandwidth and Slow. A host that moved or
// is hidden stays so.
func (l *Lan) Heal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.changeLocked(func(f faults) { clear(f.cut); clear(f.loss) })
	return errors.Join(err, l.each(l.hosts, func(h *Host) error {
		return errors.Join(h.setBandwidth(0), h.setSlow(slowlink.Params{}))
	}), l.saveLocked())
}

// change changes the faults of the network and tells those hosts that judge by other rules now.
func (l *Lan) change(how func(faults)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.changeLocked(how), l.saveLocked())
}

func (l *Lan) changeLocked(how func(faults)) error {
	how(l.faults)
	return l.each(l.hosts, func(h *Host) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.init.alive() {
			return nil // it hears of it when it is switched on
		}
		return h.rule(l.faults)
	})
}

// rule tells the host's kernel what to drop, unless it knows.
func (h *Host) rule(f faults) error {
	rules := f.rules(h.number)
	if rules == h.ruled {
		return nil
	}
	if err := inNet(h.init, rules, "nft", "-f", "-"); err != nil {
		return err
	}
	h.ruled = rules
	return nil
}

// Bandwidth bounds what the host sends and what it receives, each to so many bits in a second. 0 lifts it.
func (h *Host) Bandwidth(bitsPerSecond int) error {
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	return errors.Join(h.setBandwidth(bitsPerSecond), h.lan.saveLocked())
}

func (h *Host) setBandwidth(bitsPerSecond int) error {
	if h.rate == bitsPerSecond {
		return nil
	}
	h.rate = bitsPerSecond
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shape()
}

// shape sets or lifts the bound at both ends of the host's cable: an end bounds what it sends.
func (h *Host) shape() error {
	if !h.init.alive() || (h.rate == 0 && !h.shaped) {
		return nil
	}
	h.shaped = true
	for _, end := range []struct {
		in  *process
		dev string
	}{{h.init, "eth0"}, {h.lan.hub, h.port()}} {
		what := append([]string{"tc", "qdisc", "replace", "dev", end.dev, "root"}, bucket(h.rate)...)
		if h.rate == 0 {
			what = []string{"tc", "qdisc", "del", "dev", end.dev, "root"}
		}
		if err := inNet(end.in, "", what...); err != nil {
			return err
		}
	}
	h.shaped = h.rate > 0
	return nil
}

// bucket is tbf's: a hundredth of a second's worth and at least two packets pass at once, and a fifth of a second's may
// wait.
func bucket(bitsPerSecond int) []string {
	return []string{"tbf", "rate", strconv.Itoa(bitsPerSecond) + "bit", "burst", strconv.Itoa(max(3200, bitsPerSecond/800)), "latency", "200ms"}
}

// Faults says what is wrong with the host's network and disk, for people.
func (h *Host) Faults() []string {
	h.lan.mu.Lock()
	defer h.lan.mu.Unlock()
	var out []string
	if from := h.lan.faults.cutFrom(h.number); len(from) > 0 {
		out = append(out, "hears nothing from "+namesOf(from))
	}
	if loss := h.lan.faults.loss[h.number]; loss > 0 {
		out = append(out, fmt.Sprintf("loses %d%%", loss))
	}
	if h.lan.faults.hidden[h.number] {
		out = append(out, "hidden")
	}
	if h.rate > 0 {
		out = append(out, fmt.Sprintf("%d bit/s", h.rate))
	}
	if !h.slow.None() {
		out = append(out, "slow: "+h.slow.String())
	}
	if h.limits != (Limits{}) {
		out = append(out, "limits")
	}
	return append(out, h.wrongDisk()...)
}

func namesOf(hosts []int) string {
	var out []string
	for _, n := range hosts {
		out = append(out, fmt.Sprintf("n%d", n))
	}
	return strings.Join(out, ",")
}

func (h *Host) wrongDisk() (out []string) {
	_ = h.inside(func(root string) error {
		if _, err := os.Stat(filepath.Join(root, ballast)); err == nil {
			out = append(out, "disk full")
		}
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", h.init.pid))
		if readOnlyAt("/disk", string(mounts)) {
			out = append(out, "disk read-only")
		}
		return err
	})
	if text, err := os.ReadFile(h.clockFile()); err == nil && string(text) != "0s" {
		out = append(out, "clock "+string(text))
	}
	return out
}
