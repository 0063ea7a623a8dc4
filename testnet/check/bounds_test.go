package check

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
)

// fair is a rollout in two waves that keeps every bound: two at a time, n2 fails, n4 begins when its wave may.
func fair() Paced {
	return Paced{
		Command: id(1), Timeout: 10 * time.Second, StartBy: 15 * time.Second,
		Pace: exec.Pace{Limited: true, Concurrency: 2, Errors: 1, Waves: []uint32{3, 4}},
		Parts: []Part{
			{Node: "n1", Granted: at(0), Began: at(1), Gone: at(2)},
			{Node: "n2", Granted: at(0), Began: at(1), Gone: at(3), Bad: true},
			{Node: "n3", Granted: at(2), Began: at(2), Gone: at(4)},
			{Node: "n4", Granted: at(7), Began: at(7), Gone: at(7)},
		},
		Gates: [][]Part{{{Node: "n1", Granted: at(5), Began: at(5), Gone: at(6)}, {Node: "n3", Granted: at(5), Began: at(5), Gone: at(6)}}},
	}
}

func TestBounds(t *testing.T) {
	if v := fair().Violations(); len(v) != 0 {
		t.Errorf("a fair rollout breaks %v", v)
	}
	for _, c := range []struct {
		name, want string // empty: it is no violation
		change     func(p *Paced)
	}{
		{"twice", "on n1: it began at 03:00:01.000 and again at 03:00:08.000", func(p *Paced) {
			p.Parts = append(p.Parts, Part{Node: "n1", Granted: at(0), Began: at(8), Gone: at(9)})
		}},
		{"without a grant", "on n3: it began at 03:00:02.000, and nobody gave it leave", func(p *Paced) { p.Parts[2].Granted = time.Time{} }},
		{"grants that nobody tells of", "", func(p *Paced) { p.Parts[2].Granted, p.Untold = time.Time{}, true }},
		{"before its grant", "on n3: it began at 03:00:02.000 and was given leave at 03:00:02.500 only", func(p *Paced) { p.Parts[2].Granted = at(2.5) }},
		{"too many at a time", "on n3: with it 3 run at 03:00:01.999, and 2 may", func(p *Paced) { p.Parts[2].Granted, p.Parts[2].Began = at(0), at(1.999) }},
		{"a lost one runs until its time is over", "on n3: with it 2 run at 03:00:02.000, and 1 may", func(p *Paced) {
			p.Pace.Concurrency, p.Parts[0].Began, p.Parts[0].Gone = 1, at(0), at(1)
			p.Parts[1].Gone = time.Time{}
		}},
		{"too late after a stop", "on n4: it began at 03:00:07.000, but the command had been stopped at 03:00:03.000", func(p *Paced) {
			p.Stopped, p.StartBy, p.Parts[3].Granted = at(3), 3*time.Second, at(2)
		}},
		{"in time after a stop", "", func(p *Paced) { p.Stopped, p.Parts[3].Granted = at(3), at(2) }},
		{"granted after a stop", "on n4: it was given leave at 03:00:07.000, but the command had been stopped at 03:00:03.000", func(p *Paced) { p.Stopped = at(3) }},
		{"strictly, one failed and two run", "on n4: with it 3 have failed or run at 03:00:03.500, and strictly 2 may", func(p *Paced) {
			p.Pace.Strict, p.Pace.Waves, p.Gates = true, nil, nil
			p.Parts[3].Granted, p.Parts[3].Began = at(3), at(3.5)
		}},
		{"strictly, what ended well is free again", "", func(p *Paced) { p.Pace.Strict = true }},
		{"strictly, a lost one is spent for good", "on n4: with it 2 have failed or run at 03:01:40.000, and strictly 1 may", func(p *Paced) {
			p.Pace, p.Parts = exec.Pace{Limited: true, Strict: true}, p.Parts[1:]
			p.Parts[0].Gone, p.Parts = at(2), append(p.Parts[:1], p.Parts[2])
			p.Parts[1].Began, p.Parts[1].Gone = at(100), at(101)
		}},
		{"a wave too early", "on n4: it began at 03:00:03.900 as number 4, and of wave 1 some still ran", func(p *Paced) {
			p.Parts[3].Granted, p.Parts[3].Began, p.Gates = at(0), at(3.9), nil
		}},
		{"a place in a wave without a process", "", func(p *Paced) {
			p.Pace.Waves, p.Gates = []uint32{3, 6}, nil
			p.Parts[2].Began, p.Parts[2].Gone = time.Time{}, time.Time{} // n4 and n5 are the second wave
			p.Parts[3].Gone = at(9)
			p.Parts = append(p.Parts, Part{Node: "n5", Granted: at(7), Began: at(8), Gone: at(9)})
		}},
		{"too early in spite of it", "on n4: it began at 03:00:02.500 as number 4, and of wave 1 some still ran", func(p *Paced) {
			p.Gates, p.Parts[2].Began, p.Parts[3].Granted, p.Parts[3].Began = nil, time.Time{}, at(2), at(2.5)
		}},
		{"a gate that runs", "on n4: it began at 03:00:07.000, but the gate behind wave 1 still ran on n3", func(p *Paced) { p.Gates[0][1].Gone = at(7.5) }},
		{"a gate that failed", "on n4: it began at 03:00:07.000, but the gate behind wave 1 had failed on n1", func(p *Paced) { p.Gates[0][0].Bad = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := fair()
			c.change(&p)
			found := p.Violations()
			switch {
			case c.want == "" && len(found) > 0:
				t.Errorf("found %s", found[0])
			case c.want != "" && (len(found) == 0 || !strings.Contains(found[0].String(), c.want)):
				t.Errorf("got  %v\nwant %s", found, c.want)
			}
		})
	}
}
