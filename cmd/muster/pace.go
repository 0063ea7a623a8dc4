package main

import (
	"strings"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// defaultErrors is how many failures are borne where only the concurrency is limited: SSM's.
const defaultErrors = 0

// limits is how a person says that a command shall spread.
type limits struct {
	concurrency string // N or N%
	errors      string // N or N%
	canary      string // N or N%, with commas
	strict      bool
}

func (l limits) any() bool {
	return l.concurrency != "" || l.errors != "" || l.canary != "" || l.strict
}

// pace returns what the limits come to for count nodes. Percentages are of count, rounded down; a concurrency is at
// least 1. The other limit of a pair is SSM's.
func (l limits) pace(count int) (exec.Pace, error) {
	if !l.any() {
		return exec.Pace{}, nil
	}
	p := exec.Pace{Limited: true, Concurrency: exec.DefaultConcurrency, Errors: defaultErrors, Strict: l.strict}
	if l.concurrency != "" {
		c, err := parsePortion("--max-concurrency", l.concurrency)
		if err == nil && c.number == 0 {
			err = fleet.Errorf(fleet.Invalid, "--max-concurrency %s: nothing would ever start", l.concurrency)
		}
		if err != nil {
			return p, err
		}
		p.Concurrency = c.atLeastOne(count)
	}
	if l.errors != "" {
		e, err := parsePortion("--max-errors", l.errors)
		if err != nil {
			return p, err
		}
		p.Errors = e.of(count)
	}
	var err error
	p.Waves, err = parseWaves(l.canary, count)
	return p, err
}

// parseWaves reads the waves of a canary, 1,5%,100%: how many nodes may have been started by the end of each. Waves that
// come to the same number are one.
func parseWaves(text string, nodes int) ([]uint32, error) {
	if text == "" {
		return nil, nil
	}
	var waves []uint32
	for word := range strings.SplitSeq(text, ",") {
		w, err := parsePortion("--canary", strings.TrimSpace(word))
		if err == nil && w.number == 0 {
			err = fleet.Errorf(fleet.Invalid, "--canary %s: a wave of nothing", text)
		}
		if err != nil {
			return nil, err
		}
		n := w.atLeastOne(nodes)
		if !w.percent {
			n = min(n, uint32(nodes)) // 1,10,100% is also for a fleet of 6
		}
		switch last := len(waves) - 1; {
		case last < 0 || n > waves[last]:
			waves = append(waves, n)
		case n < waves[last]:
			return nil, fleet.Errorf(fleet.Invalid, "--canary %s: of %s, %s is less than the wave before it", text, count(nodes, "node"), word).
				Hinted("each wave counts all that were started by its end: --canary 1,5%%,100%%")
		}
	}
	if int(waves[len(waves)-1]) != nodes {
		return nil, fleet.Errorf(fleet.Invalid, "--canary %s leaves %d of %s out", text, nodes-int(waves[len(waves)-1]), count(nodes, "node")).
			Hinted("end it with 100%%; --sample is for a part of them")
	}
	return waves, nil
}

// worstCase returns how many nodes may fail before a pace lets nothing more start. Where max-errors are borne, the nodes
// that run when the one too many fails may still fail too; --strict counts these before they start.
func worstCase(p exec.Pace, count int) int {
	worst := count
	if !p.Limited {
		return worst
	}
	if p.Strict {
		return min(worst, int(p.Errors)+1)
	}
	if p.Concurrency > 0 {
		worst = min(worst, int(p.Errors)+int(p.Concurrency))
	}
	return min(worst, worstWave(p))
}

// worstWave returns the most failures that the waves alone allow: as many as are borne before a wave, and all of it.
func worstWave(p exec.Pace) int {
	if len(p.Waves) == 0 {
		return exec.MaxTargets
	}
	worst, before := 0, 0
	for _, end := range p.Waves {
		worst = max(worst, min(int(p.Errors), before)+int(end)-before)
		before = int(end)
	}
	return worst
}

// stretchWaves fits waves that were meant for another number of nodes: those that are too large fall away.
func stretchWaves(waves []uint32, count uint32) []uint32 {
	if len(waves) == 0 {
		return nil
	}
	var out []uint32
	for _, w := range waves[:len(waves)-1] {
		if w < count {
			out = append(out, w)
		}
	}
	return append(out, count)
}
