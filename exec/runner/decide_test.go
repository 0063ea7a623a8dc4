package runner

import (
	osexec "os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/account"
)

func TestNextStepOfATrace(t *testing.T) {
	for _, c := range []struct {
		name  string
		seen  traces
		do    step
		adopt bool
	}{
		{"crash before the barrier", traces{}, remove, false},
		{"crash between barrier and launch", traces{known: true, status: exec.InProgress}, giveUp, false},
		{"host restarted", traces{known: true, status: exec.InProgress, marked: true}, giveUp, false},
		{"supervisor lives", traces{known: true, status: exec.InProgress, marked: true, alive: true}, follow, false},
		{"supervisor begins", traces{known: true, status: exec.InProgress, alive: true}, follow, false},
		{"ended meanwhile", traces{known: true, status: exec.InProgress, marked: true, hasEnd: true}, settle, false},
		{"ended, supervisor leaving", traces{known: true, status: exec.InProgress, marked: true, hasEnd: true, alive: true}, settle, false},
		{"ended and recorded", traces{known: true, status: exec.Failed, marked: true, hasEnd: true}, leave, false},
		{"unknown for good", traces{known: true, status: exec.Unknown, marked: true}, leave, false},
		{"unknown becomes the truth", traces{known: true, status: exec.Unknown, marked: true, hasEnd: true}, settle, false},
		{"lost record, ended", traces{marked: true, hasEnd: true}, settle, true},
		{"lost record, going", traces{marked: true, alive: true}, follow, true},
		{"lost record, nothing left", traces{marked: true}, giveUp, true},
		{"lost record, not marked yet", traces{alive: true}, follow, true},
		{"between two steps", traces{known: true, status: exec.InProgress, marked: true, goesOn: true}, follow, false},
		{"between two steps, lost record", traces{marked: true, goesOn: true}, follow, true},
		{"between two steps, but told as unknown", traces{known: true, status: exec.Unknown, marked: true, goesOn: true}, leave, false},
		{"ended, its journal is there", traces{known: true, status: exec.InProgress, marked: true, hasEnd: true, goesOn: true}, settle, false},
	} {
		if do, adopt := c.seen.next(); do != c.do || adopt != c.adopt {
			t.Errorf("%s: step %d, adopt %t; want %d, %t", c.name, do, adopt, c.do, c.adopt)
		}
	}
}

func TestInterpreter(t *testing.T) {
	for script, want := range map[string][]string{
		"echo a\n":                         {"/bin/sh"},
		"#!/bin/bash\n":                    {"/bin/bash"},
		"#! /usr/bin/env  python3 -u \r\n": {"/usr/bin/env", "python3 -u"},
		"#!/bin/sh\t-e":                    {"/bin/sh", "-e"},
		"#!\n":                             {"/bin/sh"},
		"#!   \nx":                         {"/bin/sh"},
		" #!/bin/bash\n":                   {"/bin/sh"},
	} {
		if got := interpreter([]byte(script)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, want %q", script, got, want)
		}
	}
}

func TestOutcome(t *testing.T) {
	status := func(w syscall.WaitStatus) *syscall.WaitStatus { return &w }
	for _, c := range []struct {
		name    string
		stopped steps.Status
		status  *syscall.WaitStatus
		as      steps.Status
		code    int
		signal  int
	}{
		{"success", "", status(0), steps.Success, 0, 0},
		{"exit code", "", status(3 << 8), steps.Failed, 3, 0},
		{"signal", "", status(15), steps.Failed, -1, 15},
		{"never seen is never a success", "", nil, steps.Unknown, -1, 0},
		{"timeout", steps.TimedOut, status(9), steps.TimedOut, -1, 9},
		{"cancelled, tidied up", steps.Cancelled, status(0), steps.Cancelled, 0, 0},
		{"cancelled, never seen", steps.Cancelled, nil, steps.Cancelled, -1, 0},
	} {
		if as, code, signal := outcome(c.stopped, c.status); as != c.as || code != c.code || signal != c.signal {
			t.Errorf("%s: %s %d %d", c.name, as, code, signal)
		}
	}
}

func TestOutputNewsCoalesce(t *testing.T) {
	a, b := fleet.UUID{1}, fleet.UUID{2}
	var q []Event
	for _, e := range []Event{Started{Command: a}, Output{a, 1, 0, nil}, Output{b, 1, 0, nil}, Output{a, 2, 0, nil}, Output{a, 3, 0, nil}, Ended{Command: a}} {
		q = coalesce(q, e)
	}
	if want := []Event{Started{Command: a}, Output{a, 3, 0, nil}, Output{b, 1, 0, nil}, Ended{Command: a}}; !reflect.DeepEqual(q, want) {
		t.Fatalf("%+v", q)
	}
}

func TestEnvironmentOfAnOrder(t *testing.T) {
	s := Spec{Command: fleet.UUID{1}, Env: []string{"PATH=/mine", "A=1", "A=2", "MUSTER_COMMAND_ID=x"}}
	o := makeOrder(s, account.Account{Name: "web", Home: "/h", Shell: "/s"}, false, "boot")
	step := steps.Step{Argv: []string{"true"}, Env: []string{"USER=me", "B=3", "SSM_COMMAND_ID=y", "MUSTER_DOWNLOADS=/z"}}
	ids := " MUSTER_COMMAND_ID=" + s.Command.String() + " SSM_COMMAND_ID=" + s.Command.String()
	for _, c := range []struct {
		plan steps.Plan
		want string
	}{
		{steps.Plan{Steps: []steps.Step{step}}, "HOME=/h LOGNAME=web SHELL=/s PATH=/mine A=2 USER=me B=3 MUSTER_DOWNLOADS=/z" + ids},
		{steps.Plan{Steps: []steps.Step{step}, Codes: true}, "HOME=/h LOGNAME=web SHELL=/s PATH=/mine A=2 USER=me B=3" + ids + " MUSTER_DOWNLOADS=/d"},
	} {
		o.Plan, o.Downloads = c.plan, "/d"
		if got := strings.Join(o.stepEnvironment(step), " "); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// BenchmarkTrue starts `true` and waits for its recorded end, alone and fifty at a time.
func BenchmarkTrue(b *testing.B) {
	b.Run("bare fork and exec, for comparison", func(b *testing.B) {
		for b.Loop() {
			if err := osexec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, many := range map[string]int{"alone": 1, "50 at once": 50} {
		b.Run(name, func(b *testing.B) {
			h := open(b, Config{MaxRunning: 64, ledgerSize: ledgerStep})
			for b.Loop() {
				for range many {
					go h.Start(b.Context(), spec("/bin/true", "x"))
				}
				for range many {
					wantStatus(b, await(h, func(Ended) bool { return true }).Result, exec.Success)
				}
			}
		})
	}
}
