package upgrade

import (
	"fmt"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Times of a trial.
const (
	// ConfirmIn is how long an agent with a new program has until it must be well.
	ConfirmIn = 60 * time.Second
	// SelfAfter is how long an agent in trial waits for somebody's word before it judges itself.
	SelfAfter = 2 * time.Minute
	// MaxStarts is the start within one trial that goes back at once. The first is the restart into the new program; a second
	// may be a power cut; a third says that the program does not stay alive.
	MaxStarts = 3
)

// Stage is how far a trial has come.
type Stage string

// The stages. Ready to Back are steps of a trial; Kept and Undone are its ends.
const (
	Ready  Stage = "ready"  // all lies on the disk, and the program is still the old one
	Trying Stage = "trying" // the new program runs, and nobody has said that it is well
	Back   Stage = "back"   // it was decided to go back, and that may not have been done yet
	Kept   Stage = "kept"   // the new program is well
	Undone Stage = "undone" // the old program runs, or somebody else's
)

var stages = []Stage{Ready, Trying, Back, Kept, Undone}

// Over reports whether a trial has ended.
func (s Stage) Over() bool { return s == Kept || s == Undone }

// Build is one program.
type Build struct {
	Version string      `json:"version"`
	Level   fleet.Level `json:"level"` // the newest that it supports
	Sum     string      `json:"sum"`   // SHA-256 of the file, hexadecimal
}

// Trial is an upgrade that is under way on a host, or the last one that was.
type Trial struct {
	Format  int    `json:"format"`
	ID      string `json:"id"` // of the attempt: who watches one does not take another for it
	From    Build  `json:"from"`
	To      Build  `json:"to"`
	Program string `json:"program"` // path of the agent's program
	Old     string `json:"old"`     // where the old program lies meanwhile
	New     string `json:"new"`     // where the new one lay before the swap
	Stage   Stage  `json:"stage"`
	Starts  int    `json:"starts"` // of the new program
	Before  View   `json:"before"` // what the host saw with the old program
	Why     string `json:"why,omitempty"`
}

const format = 1

// check reports what of a trial that was read cannot be, or nil.
func (t Trial) check() error {
	if t.Format != format || !slices.Contains(stages, t.Stage) || t.Starts < 0 {
		return fmt.Errorf("format %d, stage %q: another version wrote it", t.Format, t.Stage)
	}
	return nil
}

// Found is which program lies at the path.
type Found int

// What can be found there.
const (
	Other Found = iota // neither of the two, or nothing
	Old
	New
	Unread // it cannot be read: a failing disk, or no file to be had
)

// Next is what is to be done, in this order. The zero value is nothing.
type Next struct {
	Save    bool // the trial has changed
	Restore bool // put the old program back
	Clear   bool // remove what lies beside the program
	Again   bool // start the program at the path in place of this one
	Watch   bool // this process is in trial
}

// Start is told of a start of the agent, before it opens anything.
func (t Trial) Start(found Found) (Trial, Next) {
	if t.Stage.Over() {
		return t, Next{Clear: true} // a crash may have left something
	}
	switch found {
	case Other:
		return t.end(Undone, "another program was put in its place"), Next{Save: true, Clear: true}
	case Old:
		why := "the old program was put back"
		if t.Stage == Ready {
			why = "it was interrupted before the program was changed"
		}
		return t.end(Undone, why), Next{Save: true, Clear: true}
	case Unread:
		return t.GoBack("the program at its place cannot be read")
	case New:
	}
	if t.Stage == Back {
		return t, Next{Restore: true, Again: true}
	}
	t.Stage = Trying
	t.Starts++
	if t.Starts >= MaxStarts {
		return t.GoBack(fmt.Sprintf("it was started %d times, and nobody could say that it is well", t.Starts))
	}
	return t, Next{Save: true, Watch: true}
}

// GoBack decides that a trial has failed. The path holds the new program.
func (t Trial) GoBack(why string) (Trial, Next) {
	t.Stage, t.Why = Back, why
	return t, Next{Save: true, Restore: true, Again: true}
}

// Keep decides that the new program is well.
func (t Trial) Keep() (Trial, Next) { return t.end(Kept, ""), Next{Save: true, Clear: true} }

// Stay is what is left where the old program is gone: whoever removed it ended the trial.
func (t Trial) Stay() (Trial, Next) {
	t.Stage, t.Why = Undone, t.Why+"; it stays all the same, for the old program is gone"
	return t, Next{Save: true, Clear: true}
}

// end keeps the first reason: it is what happened, and what came later followed from it.
func (t Trial) end(s Stage, why string) Trial {
	t.Stage = s
	if s == Kept {
		t.Why = ""
	} else if t.Why == "" {
		t.Why = why
	}
	return t
}

// Judge is an agent in trial that judges itself, so long after its start. lack is what it lacks, "" if nothing. The zero Next says
// to go on waiting.
func (t Trial) Judge(after time.Duration, lack string) (Trial, Next) {
	switch {
	case t.Stage == Back: // somebody decided it, and did not come to do it
		if after < SelfAfter {
			return t, Next{}
		}
		return t, Next{Restore: true, Again: true}
	case t.Stage != Trying || after < SelfAfter:
		return t, Next{}
	case lack == "":
		return t.Keep()
	}
	return t.GoBack(fmt.Sprintf("nobody watched it, and after %s %s", SelfAfter, lack))
}

// SupportsUntil returns the level that an agent may say it supports: until its trial is over, no more than what the program does
// to which it may go back.
func (t Trial) SupportsUntil(newest fleet.Level) fleet.Level {
	if t.Stage.Over() || t.From.Level == 0 {
		return newest
	}
	return min(newest, t.From.Level)
}
