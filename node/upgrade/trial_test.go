package upgrade

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

func TestStart(t *testing.T) {
	for _, c := range []struct {
		name   string
		stage  Stage
		starts int
		found  Found
		want   Stage
		next   Next
	}{
		{"nothing was changed yet", Ready, 0, Old, Undone, Next{Save: true, Clear: true}},
		{"the first start", Ready, 0, New, Trying, Next{Save: true, Watch: true}},
		{"a power cut", Trying, 1, New, Trying, Next{Save: true, Watch: true}},
		{"the third start", Trying, 2, New, Back, Next{Save: true, Restore: true, Again: true}},
		{"it was decided, and not done", Back, 1, New, Back, Next{Restore: true, Again: true}},
		{"it was done", Back, 1, Old, Undone, Next{Save: true, Clear: true}},
		{"somebody put the old one back", Trying, 1, Old, Undone, Next{Save: true, Clear: true}},
		{"a package came", Trying, 1, Other, Undone, Next{Save: true, Clear: true}},
		{"a package came before the swap", Ready, 0, Other, Undone, Next{Save: true, Clear: true}},
		{"a package came after it was decided", Back, 2, Other, Undone, Next{Save: true, Clear: true}},
		{"it is over", Kept, 1, New, Kept, Next{Clear: true}},
		{"it was undone", Undone, 3, Old, Undone, Next{Clear: true}},
	} {
		got, next := Trial{Stage: c.stage, Starts: c.starts}.Start(c.found)
		if got.Stage != c.want || next != c.next {
			t.Errorf("%s: %s, %+v", c.name, got.Stage, next)
		}
		if got.Stage != Kept && got.Stage != Trying && c.stage != Back && !c.stage.Over() && got.Why == "" {
			t.Errorf("%s: nobody learns why", c.name)
		}
	}
}

func TestWhyIsTheFirstReason(t *testing.T) {
	back, _ := Trial{Stage: Trying}.GoBack("it sees nobody")
	if end, _ := back.Start(Old); end.Why != "it sees nobody" {
		t.Errorf("%q", end.Why)
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		stage Stage
		after time.Duration
		lack  string
		want  Stage
		next  Next
	}{
		{Trying, SelfAfter - 1, "it sees nobody", Trying, Next{}},
		{Trying, SelfAfter, "it sees nobody", Back, Next{Save: true, Restore: true, Again: true}},
		{Trying, SelfAfter, "", Kept, Next{Save: true, Clear: true}},
		{Back, 0, "", Back, Next{}},
		{Back, SelfAfter, "", Back, Next{Restore: true, Again: true}},
		{Kept, SelfAfter, "it sees nobody", Kept, Next{}},
		{Ready, SelfAfter, "it sees nobody", Ready, Next{}},
	} {
		if got, next := (Trial{Stage: c.stage}).Judge(c.after, c.lack); got.Stage != c.want || next != c.next {
			t.Errorf("%+v: %s, %+v", c, got.Stage, next)
		}
	}
}

func TestLack(t *testing.T) {
	before := View{Online: 20, Leader: true, Voters: 5, Up: 5, Act: 100}
	for _, c := range []struct {
		change func(*View)
		lacks  bool
	}{
		{func(*View) {}, false},
		{func(v *View) { v.Online = 14 }, false}, // others are upgraded, too
		{func(v *View) { v.Online = 13 }, true},
		{func(v *View) { v.Online = 1 }, true},
		{func(v *View) { v.Up = 3 }, false},
		{func(v *View) { v.Up = 2 }, true},
		{func(v *View) { v.Voters, v.Up = 0, 0 }, true},
		{func(v *View) { v.Leader = false }, true},
		{func(v *View) { v.Act = 99 }, true},
		{func(v *View) { v.Act = 200 }, false},
	} {
		now := before
		c.change(&now)
		if got := before.Lack(now); (got != "") != c.lacks {
			t.Errorf("%+v: %q", now, got)
		}
	}
	alone := View{Online: 1, Leader: true, Voters: 1, Up: 1}
	if got := alone.Lack(alone); got != "" {
		t.Errorf("a host alone: %q", got)
	}
	cut := View{Online: 3, Voters: 3, Up: 1, Act: 5} // an upgrade may mend what is broken
	if got := cut.Lack(cut); got != "" {
		t.Errorf("no quorum before: %q", got)
	}
	if got := (View{Online: 2}).Lack(View{Online: 1}); got == "" {
		t.Error("of two, one is half")
	}
}

func TestWatch(t *testing.T) {
	well := Sight{After: 5 * time.Second, Well: 6 * time.Second, Said: "2", Stage: Trying, Starts: 1}
	for _, c := range []struct {
		name   string
		change func(*Sight)
		want   verdict
	}{
		{"well", func(*Sight) {}, keep},
		{"not for long", func(s *Sight) { s.Well = 5 * time.Second }, wait},
		{"it ended once", func(s *Sight) { s.Starts = 2 }, wait},
		{"it ended once, and is well since", func(s *Sight) { s.Starts, s.Well = 2, 30*time.Second }, keep},
		{"lacks something yet", func(s *Sight) { s.Lack, s.Well = "it knows no leader", 0 }, wait},
		{"still the old one", func(s *Sight) { s.Said, s.Well = "1", 0 }, wait},
		{"does not answer yet", func(s *Sight) { s.Said, s.Well = "", 0 }, wait},
		{"gone for a moment", func(s *Sight) { s.Said, s.Well, s.Gone = "", 0, 14*time.Second }, wait},
		{"gone", func(s *Sight) { s.Said, s.Well, s.Gone = "", 0, 15*time.Second }, goBack},
		{"hangs", func(s *Sight) { s.Said, s.Well, s.After = "", 0, ConfirmIn }, goBack},
		{"the old one for ever", func(s *Sight) { s.Said, s.Well, s.After = "1", 0, ConfirmIn }, goBack},
		{"lacks something for ever", func(s *Sight) { s.Lack, s.Well, s.After = "it knows no leader", 0, ConfirmIn }, goBack},
		{"comes and goes", func(s *Sight) { s.Well, s.After = time.Second, ConfirmIn }, goBack},
		{"well at the last moment", func(s *Sight) { s.After = ConfirmIn }, keep},
		{"the agent goes back by itself", func(s *Sight) { s.Stage = Back }, wait},
		{"and does not come to it", func(s *Sight) { s.Stage, s.After = Back, ConfirmIn }, goBack},
		{"it went back by itself", func(s *Sight) { s.Stage = Undone }, ended},
		{"it said so itself", func(s *Sight) { s.Stage = Kept }, ended},
	} {
		s := well
		c.change(&s)
		if got, why := s.judge("2", usual()); got != c.want || (got == goBack && s.Stage != Back && why == "") {
			t.Errorf("%s: %d, %q", c.name, got, why)
		}
	}
}

func TestMay(t *testing.T) {
	to := func(version string, level fleet.Level) release.Release {
		return release.Release{Version: version, Level: level}
	}
	for _, c := range []struct {
		from      string
		written   fleet.Level
		to        release.Release
		downgrade bool
		may       bool
	}{
		{"1.1.0", 1, to("1.2.0", 2), false, true},
		{"1.1.0", 1, to("1.1.0", 1), false, true},
		{"1.2.0", 1, to("1.1.0", 1), false, false},
		{"1.2.0", 1, to("1.1.0", 1), true, true},
		{"1.2.0", 2, to("1.1.0", 1), true, false}, // it could not read what lies there
		{"1.1.0", 2, to("1.2.0", 1), false, false},
		{"0.0.0-dev+abcdef", 1, to("1.0.0", 1), false, true},
	} {
		if err := May(c.from, c.written, c.to, c.downgrade); (err == nil) != c.may {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSupports(t *testing.T) {
	dir := t.TempDir()
	if got := Supports(dir, 7); got != 7 {
		t.Errorf("without an upgrade: %d", got)
	}
	for stage, want := range map[Stage]fleet.Level{Ready: 3, Trying: 3, Back: 3, Kept: 7, Undone: 7} {
		if err := (Trial{Format: format, Stage: stage, From: Build{Level: 3}}).save(dir); err != nil {
			t.Fatal(err)
		}
		if got := Supports(dir, 7); got != want {
			t.Errorf("%s: %d", stage, got)
		}
	}
}
