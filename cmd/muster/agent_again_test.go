package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/upgrade"
)

// aRenewal is that of an agent whose configuration has a mistake, and whose program cannot be executed; times counts the attempts.
func aRenewal(t *testing.T) (r *renewal, times *int) {
	times = new(int)
	return &renewal{
		program: "/none", dataDir: t.TempDir(), log: slog.New(slog.DiscardHandler), mistaken: func() error { return errors.New("a mistake") },
		exec: func(string, []string, []string) error { *times++; return errors.New("no such file") },
	}, times
}

func writeTrial(t *testing.T, dir string, trial upgrade.Trial) {
	t.Helper()
	trial.Format = 1
	raw, err := json.Marshal(trial)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "upgrade"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestStartsAnewIntoAMistake: only who was taken back starts anew though this program's next start would fail.
func TestStartsAnewIntoAMistake(t *testing.T) {
	for _, c := range []struct {
		name  string
		stage upgrade.Stage
		mine  bool
		want  bool
	}{
		{"on trial", upgrade.Trying, true, false},
		{"taken back", upgrade.Back, true, true},
		{"taken back by who upgrades", upgrade.Undone, true, true},
		{"kept", upgrade.Kept, true, false},
		{"the last upgrade was taken back", upgrade.Undone, false, false},
	} {
		r, _ := aRenewal(t)
		writeTrial(t, r.dataDir, upgrade.Trial{ID: "x", Stage: c.stage})
		if c.mine {
			r.trial = "x"
		}
		stopped := false
		r.begin(func(error) { stopped = true })
		r.ask("a test")
		if r.late != nil {
			r.late.Stop()
		}
		if stopped != c.want {
			t.Errorf("%s: it starts anew: %t", c.name, stopped)
		}
	}
}

// TestRestartThatFailed: an agent that goes on because its program could not be started is not replaced later on.
func TestRestartThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, times := aRenewal(t)
		r.mistaken = func() error { return nil }
		r.begin(func(error) {})
		r.ask("a test")
		if err := r.renew(); err == nil || *times != 1 || r.due {
			t.Errorf("%v, %d times, due %t", err, *times, r.due)
		}
		time.Sleep(2 * againTime)
		if *times != 1 {
			t.Errorf("it was tried %d times", *times)
		}
	})
}

// TestProvesItselfOnAFullDisk: a start that cannot be written down is on trial all the same.
func TestProvesItselfOnAFullDisk(t *testing.T) {
	r, _ := aRenewal(t)
	r.program = filepath.Join(r.dataDir, "muster")
	if err := errors.Join(os.WriteFile(r.program, []byte("new"), 0o700), os.MkdirAll(filepath.Join(r.dataDir, "upgrade.new", "x"), 0o700)); err != nil {
		t.Fatal(err) // the folder is in the way of what is written
	}
	const sumOfNew = "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"
	writeTrial(t, r.dataDir, upgrade.Trial{ID: "x", Stage: upgrade.Ready, Program: r.program, To: upgrade.Build{Sum: sumOfNew}})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if again := r.start(ctx); again || r.trial != "x" {
		t.Errorf("again %t, on trial %q", again, r.trial)
	}
}
