package upgrade

import (
	"fmt"
	"time"
)

// patience is how long who watches an agent waits for what.
type patience struct {
	confirm time.Duration // until it must be well
	steady  time.Duration // it must be well without a break before it is believed
	gone    time.Duration // there may be no agent at all
	manager time.Duration // for a service manager to start again what ended
	back    time.Duration // for the old program to answer again
}

// usual is the patience of a real upgrade. Service managers start what ended again after 5 s, so a shorter proof could fit between two
// ends.
func usual() patience {
	return patience{confirm: ConfirmIn, steady: 6 * time.Second, gone: 15 * time.Second, manager: 12 * time.Second, back: 45 * time.Second}
}

// Sight is what somebody who watches an agent with a new program sees of it.
type Sight struct {
	After  time.Duration // since it was asked to restart
	Well   time.Duration // for how long it has answered, with the new version, and lacked nothing
	Gone   time.Duration // for how long there has been no process
	Said   string        // what it answers now, as a version; "": nothing
	Lack   string        // what it lacks
	Stage  Stage         // of the trial, as the file has it
	Why    string        // of the trial
	Starts int
}

// verdict is what follows from a Sight.
type verdict int

const (
	wait   verdict = iota
	keep           // it is well
	goBack         // it is not
	ended          // the trial was ended without us
)

// judge decides about an agent with a new program of that version. why goes with goBack and ended.
func (s Sight) judge(version string, p patience) (v verdict, why string) {
	switch {
	case s.Stage.Over():
		return ended, s.Why
	case s.Stage == Back: // it goes back by itself; if it does not come to that, we do it
		if s.After < p.confirm {
			return wait, ""
		}
		return goBack, s.Why
	case s.Said == version && s.Lack == "" && s.Well >= s.proof(p):
		return keep, ""
	case s.Gone >= p.gone:
		return goBack, "it ended, and did not come back" + s.started()
	case s.After < p.confirm:
		return wait, ""
	case s.Said == "":
		return goBack, fmt.Sprintf("it did not answer for %s%s", p.confirm, s.started())
	case s.Said != version:
		return goBack, fmt.Sprintf("version %s answers, and not %s", s.Said, version)
	case s.Lack != "":
		return goBack, fmt.Sprintf("after %s %s", p.confirm, s.Lack)
	}
	return goBack, fmt.Sprintf("it was not well for %s without a break in %s%s", s.proof(p), p.confirm, s.started())
}

// proof is how long it must be well: longer where it ended once already.
func (s Sight) proof(p patience) time.Duration {
	if s.Starts > 1 {
		return 5 * p.steady
	}
	return p.steady
}

func (s Sight) started() string {
	if s.Starts < 2 {
		return ""
	}
	return fmt.Sprintf(" (it was started %d times)", s.Starts)
}
