package decisions

import (
	"cmp"
	"slices"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Noted is a decision with the command that it is about.
type Noted struct {
	Command fleet.UUID
	exec.Decision
}

// Recent returns the newest n decisions about whatever command, in order. What is missing among them is not said.
func (l *Log) Recent(n int) ([]Noted, error) {
	l.disk.Lock()
	defer l.disk.Unlock()
	if l.known == nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the log of decisions is closed")
	}
	l.write()
	var all []record
	for _, b := range []*book{l.known, l.heard} {
		newest, err := b.newest(n)
		if err != nil {
			return nil, err
		}
		all = append(all, newest...)
	}
	slices.SortStableFunc(all, func(a, b record) int { return cmp.Compare(a.seq, b.seq) })
	out := make([]Noted, 0, n)
	for _, r := range all[max(0, len(all)-n):] {
		out = append(out, Noted{r.command, r.decision})
	}
	return out, nil
}

// newest returns the last n decisions of one file.
func (b *book) newest(n int) ([]record, error) {
	var last []record
	err := b.each(func(x found) error {
		if x.damaged > 0 || x.record.command.IsZero() {
			return nil
		}
		if last = append(last, x.record); len(last) >= 2*n {
			last = append(last[:0], last[len(last)-n:]...)
		}
		return nil
	})
	return last[max(0, len(last)-n):], err
}
