package decisions

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// near is how close to a command's decisions something missing must be to be said: it may have been about that command.
const near = time.Minute

// maxGaps bounds what a badly damaged file takes in memory.
const maxGaps = 1000

// gap is a place where decisions are missing, and the time of what comes behind it.
type gap struct {
	record
	until int64
}

// missing describes damaged bytes behind a record.
func missing(before record, x found) gap {
	g := gap{record: record{seq: before.seq}, until: x.record.decision.At}
	if x.record.seq == 0 && x.record.command.IsZero() {
		g.until = math.MaxInt64
	}
	g.decision = exec.Decision{
		At: cmp.Or(before.decision.At, x.record.decision.At), What: exec.DecidedLost,
		Detail: fmt.Sprintf("the log is damaged here: %d bytes could not be read", x.damaged),
	}
	return g
}

// of returns the decisions about a command and what is missing near them, in order.
func of(command fleet.UUID, books ...*book) []exec.Decision {
	var mine []record
	var gaps []gap
	for _, b := range books {
		own, missed := b.of(command)
		mine = append(mine, own...)
		gaps = append(gaps, missed...)
	}
	if len(mine) == 0 || command.IsZero() {
		return nil
	}
	bySeq := func(a, b record) int { return cmp.Compare(a.seq, b.seq) }
	slices.SortStableFunc(mine, bySeq)
	from := mine[0].decision.At - near.Milliseconds()
	to := mine[len(mine)-1].decision.At + near.Milliseconds()
	for _, g := range gaps {
		if g.until >= from && g.decision.At <= to {
			mine = append(mine, g.record)
		}
	}
	slices.SortStableFunc(mine, bySeq) // a gap comes behind the record before it, which has its sequence
	out := make([]exec.Decision, len(mine))
	for i, r := range mine {
		out[i] = r.decision
	}
	return out
}

// of looks through one file.
func (b *book) of(command fleet.UUID) (mine []record, gaps []gap) {
	s, last := short{}, record{}
	note := func(g gap) {
		if len(gaps) < maxGaps {
			gaps = append(gaps, g)
		}
	}
	err := b.each(func(x found) error {
		switch {
		case x.damaged > 0:
			note(missing(last, x))
			return nil
		case x.record.command.IsZero():
			note(gap{x.record, x.record.decision.At})
		case x.record.command == command:
			s.add(x.record)
		}
		last = x.record
		return nil
	})
	if err != nil {
		g := missing(last, found{})
		g.decision.Detail = "what follows could not be read: " + err.Error()
		gaps = append(gaps, g)
	}
	return s.list(), gaps
}

// short holds the first and the last of many records.
type short struct {
	first, last []record
	dropped     int
}

const half = exec.MaxDecisions / 2

func (s *short) add(r record) {
	switch {
	case len(s.first) < half:
		s.first = append(s.first, r)
		return
	case len(s.last) == 2*half:
		s.last = append(s.last[:0], s.last[half:]...)
		s.dropped += half
	}
	s.last = append(s.last, r)
}

func (s *short) list() []record {
	if s.dropped == 0 {
		return append(s.first, s.last...)
	}
	at := s.first[half-1]
	at.decision = exec.Decision{At: at.decision.At, What: exec.DecidedLost, Detail: fmt.Sprintf("%d decisions are left out here: the list is long", s.dropped)}
	return slices.Concat(s.first, []record{at}, s.last)
}
