package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/exec/cage/cagetest"
)

func TestDocuments(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	with := func(s steps.Step, change func(*steps.Step)) steps.Step {
		change(&s)
		return s
	}
	exit := func(s *steps.Step) { s.OnFailure = steps.Exit }
	finally := func(s *steps.Step) { s.Finally = true }
	tries := filepath.Join(t.TempDir(), "tries")
	for _, c := range []struct {
		name   string
		steps  []steps.Step
		status exec.Status
		code   int
		want   string
		stdout string
		detail string
	}{
		{"all", []steps.Step{sh("echo 1"), sh("echo 2"), sh("echo 3")}, exec.Success, 0, "a:Success:0 b:Success:0 c:Success:0", "1\n2\n3\n", ""},
		{"goes on behind a failure", []steps.Step{sh("exit 3"), sh("echo 2")}, exec.Failed, 3, "a:Failed:3 b:Success:0", "2\n", "step 1 (a)"},
		{"exit and finally", []steps.Step{with(sh("exit 3"), exit), sh("echo 2"), with(sh("echo 3"), finally)}, exec.Failed, 3,
			"a:Failed:3 b:Skipped:-1 c:Success:0", "3\n", ""},
		{"168", []steps.Step{sh("exit 168"), sh("echo 2")}, exec.Success, 0, "a:Success:168 b:Skipped:-1", "", ""},
		{"169", []steps.Step{sh("exit 169"), sh("echo 2")}, exec.Failed, 169, "a:Failed:169 b:Skipped:-1", "", ""},
		{"precondition", []steps.Step{{Verdict: steps.Skipped, Why: "not for Linux"}, sh("echo 2")}, exec.Success, 0, "a:Skipped:-1 b:Success:0", "2\n", ""},
		{"nothing to run", []steps.Step{{Verdict: steps.Skipped}}, exec.Success, 0, "a:Skipped:-1", "", ""},
		{"not found", []steps.Step{{Argv: []string{"no-such-program", "x"}}, sh("echo 2")}, exec.Failed, 127, "a:Failed:127 b:Success:0", "2\n",
			"step 1 (a): command not found: no-such-program"},
		{"no interpreter", []steps.Step{{Script: []byte("x"), Interpreter: []string{"no-such-shell"}}}, exec.InvalidPlatform, 127,
			"a:InvalidPlatform:127", "", "command not found: no-such-shell"},
		{"interpreter", []steps.Step{{Script: []byte("#!/bin/false\nbody"), Interpreter: []string{"cat"}, ScriptName: "s.ps1"}}, exec.Success, 0,
			"a:Success:0", "#!/bin/false\nbody", ""},
		{"named script", []steps.Step{{Script: []byte("basename $0"), ScriptName: "s.ps1"}}, exec.Success, 0, "a:Success:0", "s.ps1\n", ""},
		{"act", []steps.Step{{Act: "show", Inputs: []byte("{}")}, {Act: "foreign"}}, exec.InvalidPlatform, 96, "a:Success:0 b:InvalidPlatform:96",
			"[show] {} true\n[foreign]  true\n", ""},
		{"attempts", []steps.Step{with(sh("echo x >> "+tries+"; test $(wc -l < "+tries+") = 3"), func(s *steps.Step) { s.Attempts = 5 })},
			exec.Success, 0, "a:Success:0", "", ""},
		{"stdin is the first step's", []steps.Step{sh("cat"), sh("cat")}, exec.Success, 0, "a:Success:0 b:Success:0", "typed", ""},
		{"a step's environment and folder", []steps.Step{{Argv: []string{"echo $X $Y; pwd"}, Env: []string{"X=2"}, Dir: "/usr"}, sh("echo $X $Y")},
			exec.Success, 0, "a:Success:0 b:Success:0", "2 3\n/usr\n1 3\n", ""},
		{"downloads", []steps.Step{sh("cd $MUSTER_DOWNLOADS && mkdir -p x/y && echo deep > x/y/f"), {Argv: []string{"cat f"}, Dir: "x/../x/y"},
			{Argv: []string{"cat f"}, Dir: "../../../x/y"}, {Argv: []string{"true"}, Dir: "nowhere"}}, exec.Failed, -1,
			"a:Success:0 b:Success:0 c:Success:0 d:Failed:-1", "deep\ndeep\n", "cannot enter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := document(c.steps...)
			s.Env = []string{"X=1", "Y=3"}
			s.Stdin = []byte("typed")
			got := h.run(s)
			if got.Status != c.status || got.ExitCode != c.code || statuses(got.Steps) != c.want || !strings.Contains(got.Detail, c.detail) {
				t.Errorf("%+v", got)
			}
			if out := h.text(s.Command, Stdout); out != c.stdout {
				t.Errorf("stdout %q, want %q", out, c.stdout)
			}
			wantLeft(t, h, s.Command)
		})
	}
}

// wantLeft checks what a document leaves in its folder: no order, no script, nothing downloaded.
func wantLeft(t *testing.T, h *harness, command fleet.UUID) {
	t.Helper()
	until(t, "the supervisor is gone", func() bool { return !h.folder(command).alive() })
	entries, err := os.ReadDir(string(h.folder(command)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{startName, endName, errorsName, journalName, socketName, string(Stdout), string(Stderr)}, e.Name()) {
			t.Errorf("%s is left in the run folder", e.Name())
		}
	}
}

func TestSpansOfSteps(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	const size = 3 << 20
	s := document(sh("echo one; echo e >&2"), sh(fmt.Sprintf("head -c %d /dev/zero", size)), sh("echo three"))
	s.MaxOutput = size + 6
	got := h.run(s)
	want := []exec.Span{{From: 0, To: 4}, {From: 4, To: 4 + size}, {From: 4 + size, To: size + 6}}
	for i, step := range got.Steps {
		if step.Stdout != want[i] || step.Started == 0 || step.Ended < step.Started || step.Attempts != 1 {
			t.Errorf("%+v, want %+v", step, want[i])
		}
	}
	if got.Steps[0].Stderr != (exec.Span{From: 0, To: 2}) || got.Steps[1].Stderr != (exec.Span{From: 2, To: 2}) {
		t.Errorf("%+v", got.Steps)
	}
	if got.Stdout.Size != size+10 || got.Stdout.Kept != size+6 || !got.Stdout.Cut {
		t.Fatalf("%+v", got)
	}
	if text, _ := h.Output(s.Command, Stdout, want[2].From, 100); string(text) != "th" {
		t.Fatalf("%q", text)
	}
}

func TestStepTimeouts(t *testing.T) {
	t.Parallel()
	h := open(t, Config{grace: 50 * time.Millisecond})
	marker := cagetest.Marker()
	slow := sh("setsid sh -c 'sleep 1000; : " + marker + "' & echo up; sleep 1000; : " + marker)
	slow.Timeout = 300
	got := h.run(document(slow, sh("echo next")))
	if got.Status != exec.TimedOut || statuses(got.Steps) != "a:TimedOut:-1 b:Success:0" {
		t.Fatalf("%+v", got)
	}
	if left := cagetest.WithMarker(marker); len(left) > 0 {
		t.Fatalf("still alive: %v", left)
	}
	s := document(sh("sleep 0.2"), sh("sleep 1000; : "+marker), steps.Step{Argv: []string{"true"}, Finally: true})
	s.Timeout = 600 * time.Millisecond
	got = h.run(s)
	if got.Status != exec.TimedOut || statuses(got.Steps) != "a:Success:0 b:TimedOut:-1 c:Skipped:-1" {
		t.Fatalf("%+v", got)
	}
}

func TestCancelInAStep(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	marker := cagetest.Marker()
	s := document(sh("echo 1"), sh("echo 2; setsid sleep 1000 & sleep 1000; : "+marker), sh("echo 3"), steps.Step{Argv: []string{"echo 4"}, Finally: true})
	h.start(s)
	news := await(h, func(e Output) bool { return e.StdoutSize == 4 && len(e.Steps) == 2 })
	if statuses(news.Steps) != "a:Success:0 b:InProgress:-1" || news.Steps[1].Stdout != (exec.Span{From: 2, To: 4}) {
		t.Fatalf("%+v", news)
	}
	if err := h.Cancel(s.Command); err != nil {
		t.Fatal(err)
	}
	got := h.ended(s.Command)
	if got.Status != exec.Cancelled || statuses(got.Steps) != "a:Success:0 b:Cancelled:-1 c:Skipped:-1 d:Skipped:-1" {
		t.Fatalf("%+v", got)
	}
	if left := cagetest.WithMarker(marker); len(left) > 0 {
		t.Fatalf("still alive: %v", left)
	}
	wantLeft(t, h, s.Command)
}

// fifo makes a pipe that a step reads from; the test opens it by writing.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gate")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAgentRestartsInADocument(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	gate := fifo(t)
	s := document(sh("echo 1"), sh("read x < "+gate+"; echo $x"), sh("echo 3; exit 4"))
	h.start(s)
	await(h, func(e Output) bool { return len(e.Steps) == 2 })
	h = h.reopen()
	if got := await(h, func(e Output) bool { return true }); statuses(got.Steps) != "a:Success:0 b:InProgress:-1" {
		t.Fatalf("%+v", got)
	}
	if err := os.WriteFile(gate, []byte("2\n"), 0); err != nil {
		t.Fatal(err)
	}
	got := h.ended(s.Command)
	if got.Status != exec.Failed || statuses(got.Steps) != "a:Success:0 b:Success:0 c:Failed:4" || h.text(s.Command, Stdout) != "1\n2\n3\n" {
		t.Fatalf("%+v", got)
	}
	h = h.reopen()
	if again := h.Steps(s.Command); statuses(again) != statuses(got.Steps) {
		t.Fatalf("%+v", again)
	}
}

// With no agent there a supervisor clears away by itself what may be secret.
func TestDocumentEndsWithoutAnAgent(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	gate := fifo(t)
	s := document(sh("echo secret > $MUSTER_DOWNLOADS/f; read x < "+gate), steps.Step{Script: []byte("echo script")})
	h.start(s)
	await(h, func(e Output) bool { return len(e.Steps) == 1 })
	if info, err := os.Stat(h.folder(s.Command).path(orderName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	h.Close()
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, h, s.Command)
	h = open(t, h.cfg)
	wantStatus(t, h.ended(s.Command), exec.Success)
}

func TestSupervisorKilledInAStep(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	witness, marker := filepath.Join(t.TempDir(), "witness"), cagetest.Marker()
	s := document(sh("echo 1"), sh("echo ran >> "+witness+"; sleep 1000; : "+marker), sh("echo 3"))
	h.start(s)
	until(t, "the second step runs", func() bool { data, _ := os.ReadFile(witness); return len(data) > 0 })
	unix.Kill(supervisorOf(t, h, s.Command), unix.SIGKILL)
	got := h.ended(s.Command)
	if got.Status != exec.Unknown || statuses(got.Steps) != "a:Success:0 b:Unknown:-1" || got.Detail != "its supervisor died in step 2 (b)" {
		t.Fatalf("%+v", got)
	}
	until(t, "all is dead", func() bool { return len(cagetest.WithMarker(marker)) == 0 })
	wantLeft(t, h, s.Command)
	h = h.reopen()
	if st, _ := h.Ledger().Get(s.Command); st.Status() != exec.Unknown {
		t.Fatalf("%s after a restart", st.Status())
	}
	if data, _ := os.ReadFile(witness); string(data) != "ran\n" {
		t.Fatalf("it ran %q", data)
	}
}

// crashed lays out what a run whose supervisor died leaves on the disk: the ledger's start, and a folder whose journal
// has the given entries.
func crashed(t *testing.T, h *harness, s Spec, stdout string, entries ...steps.Entry) {
	t.Helper()
	o, err := h.order(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.journal.append(exec.StartedRecord{Command: s.Command, Digest: s.Digest, Issued: s.Issued, Expires: s.Expires, BootID: h.boot,
		Time: time.Now()}); err != nil {
		t.Fatal(err)
	}
	dir := h.folder(s.Command)
	p, err := dir.prepare()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	data, chain := steps.Append(nil, steps.First(s.Command), steps.Opened{Plan: s.Plan.Outline(), Limit: o.Timeout / int64(time.Millisecond)})
	for _, e := range entries {
		data, chain = steps.Append(data, chain, e)
	}
	for name, content := range map[string][]byte{
		journalName: append(data, make([]byte, s.Plan.Room())...), orderName: cage.SealNote(o), string(Stdout): []byte(stdout),
		startName: cage.SealNote(startMark{Format: noteFormat, Command: s.Command, BootID: h.boot}),
	} {
		if err := os.WriteFile(dir.path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Wherever the supervisor died, the run goes on, or it is unknown, and nothing of it runs a second time.
func TestCrashAtEveryEntry(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	boot := h.boot
	began := func(i int, attempt uint32) steps.Entry { return steps.Began{Step: i, Attempt: attempt, Boot: boot} }
	ended := func(i int, attempt uint32, code int, size int64) steps.Entry {
		e := steps.Ended{Step: i, Attempt: attempt, Status: steps.Success, ExitCode: code, Stdout: steps.Written{Size: size, Kept: size}}
		if code != 0 {
			e.Status = steps.Failed
		}
		return e
	}
	journal := []steps.Entry{began(0, 1), ended(0, 1, 0, 2), began(1, 1), ended(1, 1, 7, 4), began(1, 2), ended(1, 2, 0, 4), began(2, 1), ended(2, 1, 5, 6)}
	for n, want := range []struct {
		status exec.Status
		steps  string
		stdout string
	}{
		{exec.Failed, "a:Success:0 b:Success:0 c:Failed:5", "a1\nb1\nb1\nc1\n"},
		{exec.Unknown, "a:Unknown:-1", ""},
		{exec.Failed, "a:Success:0 b:Success:0 c:Failed:5", "x\nb1\nb1\nc1\n"},
		{exec.Unknown, "a:Success:0 b:Unknown:-1", "x\n"},
		{exec.Failed, "a:Success:0 b:Success:0 c:Failed:5", "x\ny\nb1\nc1\n"},
		{exec.Unknown, "a:Success:0 b:Unknown:7", "x\ny\n"},
		{exec.Failed, "a:Success:0 b:Success:0 c:Failed:5", "x\ny\nc1\n"},
		{exec.Unknown, "a:Success:0 b:Success:0 c:Unknown:-1", "x\ny\n"},
		{exec.Failed, "a:Success:0 b:Success:0 c:Failed:5", "x\ny\nz\n"},
	} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			h := open(t, Config{boot: boot})
			tries := filepath.Join(t.TempDir(), "tries")
			again := sh("echo b1; echo >> " + tries + "; test $(wc -l < " + tries + ") = 2")
			if n >= 4 {
				again = sh("echo b1") // its first attempt is in the journal
			}
			again.Attempts = 3
			s := document(sh("echo a1"), again, sh("echo c1; exit 5"))
			crashed(t, h, s, "x\ny\nz\n"[:min(6, (n/2)*2)][:map[bool]int{true: 4, false: min(6, (n/2)*2)}[n >= 6 && n < 8]], journal[:n]...)
			if n == 0 { // it died before its start mark
				if err := os.Remove(h.folder(s.Command).path(startName)); err != nil {
					t.Fatal(err)
				}
			}
			h = h.reopen()
			got := h.ended(s.Command)
			if got.Status != want.status || statuses(got.Steps) != want.steps {
				t.Errorf("%+v", got)
			}
			if mark, err := h.folder(s.Command).start(); err != nil || fleet.UUID(mark.Command) != s.Command {
				t.Errorf("no start mark: %v", err)
			}
			if out := h.text(s.Command, Stdout); out != want.stdout {
				t.Errorf("stdout %q, want %q", out, want.stdout)
			}
			if want.status != exec.Unknown && got.Stdout != (exec.OutputSum{Size: int64(len(want.stdout)), Kept: int64(len(want.stdout)),
				Digest: fleet.Sum([]byte(want.stdout))}) {
				t.Errorf("%+v", got.Stdout)
			}
			wantLeft(t, h, s.Command)
		})
	}
}

// What cannot be read as a whole journal is in doubt: it may be of a step that ran.
func TestDamagedJournalIsDoubt(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(folder, []byte) error{
		"flipped": func(f folder, journal []byte) error {
			journal[f.lastByte(journal)] ^= 1
			return os.WriteFile(f.path(journalName), journal, 0o600)
		},
		"gone":     func(f folder, _ []byte) error { return os.Remove(f.path(journalName)) },
		"no order": func(f folder, _ []byte) error { return os.Remove(f.path(orderName)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, Config{})
			witness := filepath.Join(t.TempDir(), "witness")
			s := document(sh("touch " + witness))
			crashed(t, h, s, "", steps.Began{Step: 0, Attempt: 1, Boot: h.boot})
			dir := h.folder(s.Command)
			journal, err := os.ReadFile(dir.path(journalName))
			if err != nil {
				t.Fatal(err)
			}
			if err := harm(dir, journal); err != nil {
				t.Fatal(err)
			}
			h = h.reopen()
			wantStatus(t, h.ended(s.Command), exec.Unknown)
			if _, err := os.Stat(witness); err == nil {
				t.Fatal("it ran a second time")
			}
		})
	}
}

func (f folder) lastByte(data []byte) int {
	return len(strings.TrimRight(string(data), "\x00")) - 1
}

// A supervisor that cannot go on is not tried for ever.
func TestSupervisorsThatDieInARow(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	s := document(sh("true"))
	crashed(t, h, s, "")
	h.Close()
	cfg := h.cfg
	cfg.Self = []string{"/bin/false"}
	h = open(t, cfg)
	got := h.ended(s.Command)
	if got.Status != exec.Unknown || !strings.Contains(got.Detail, "supervisors in a row") {
		t.Fatalf("%+v", got)
	}
}

// A step is not started before its entry is on the disk.
func TestNoStepWithoutItsEntry(t *testing.T) {
	t.Chdir(t.TempDir())
	witness := filepath.Join(t.TempDir(), "witness")
	for name, f := range map[string]file{"sync": failing{sync: true}, "write": failing{write: true}} {
		plan := steps.Plan{Steps: []steps.Step{sh("touch " + witness)}, Codes: true}
		g, err := steps.Open(steps.Opened{Plan: plan, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		s := &supervision{o: order{Plan: plan, Dir: "/"}, journal: &stepJournal{f: f, g: g}, asked: make(chan struct{})}
		if why := s.step(steps.Start{Step: 0, Attempt: 1, Timeout: 1000}); !strings.Contains(why, "step 1 was not started") {
			t.Errorf("%s: %q", name, why)
		}
		if _, err := os.Stat(witness); err == nil || s.stdout != nil {
			t.Fatalf("%s: it was started", name)
		}
	}
}

type failing struct {
	file
	write, sync bool
}

func (f failing) WriteAt(p []byte, _ int64) (int, error) {
	if f.write {
		return 0, unix.EIO
	}
	return len(p), nil
}

func (f failing) Datasync() error {
	if f.sync {
		return unix.EIO
	}
	return nil
}

// rebooter counts how often the host is asked to restart.
type rebooter struct{ asked atomic.Int64 }

func (r *rebooter) reboot(context.Context) error {
	r.asked.Add(1)
	return nil
}

// rebootOnce is a step that asks for a reboot the first time.
func rebootOnce(t *testing.T) steps.Step {
	flag := filepath.Join(t.TempDir(), "flag")
	return sh("echo $MUSTER_DOWNLOADS >/dev/null; test -e " + flag + " && { echo again; cat $MUSTER_DOWNLOADS/f; exit 0; }; touch " + flag +
		"; echo kept > $MUSTER_DOWNLOADS/f; echo once; exit 194")
}

func TestRebootInADocument(t *testing.T) {
	t.Parallel()
	users := []string{""}
	if os.Geteuid() == 0 {
		users = append(users, "nobody")
	}
	for _, user := range users {
		t.Run("user="+user, func(t *testing.T) {
			t.Parallel()
			var host rebooter
			h := open(t, Config{Reboot: host.reboot, boot: "first"})
			s := document(sh("echo 1"), rebootOnce(t), sh("echo 3"))
			s.User = user
			if user != "" { // its flag must be within its reach
				s.Plan.Steps[1].Argv = []string{"test -e $MUSTER_DOWNLOADS/f && { echo again; cat $MUSTER_DOWNLOADS/f; exit 0; }; echo kept > $MUSTER_DOWNLOADS/f; echo once; exit 194"}
			}
			h.start(s)
			until(t, "the host is asked", func() bool { return host.asked.Load() == 1 })
			if st, _ := h.Ledger().Get(s.Command); st.Status() != exec.InProgress {
				t.Fatalf("%s while it waits", st.Status())
			}
			if got := h.Steps(s.Command); statuses(got) != "a:Success:0 b:InProgress:194" || got[1].Detail == "" {
				t.Fatalf("%+v", got)
			}
			h = h.reopen() // the same boot ID: the agent alone restarted
			until(t, "the host is asked again", func() bool { return host.asked.Load() == 2 })
			h.Close()
			cfg := h.cfg
			cfg.boot = "second"
			h = open(t, cfg)
			got := h.ended(s.Command)
			wantStatus(t, got, exec.Success)
			if out := h.text(s.Command, Stdout); out != "1\nonce\nagain\nkept\n3\n" || statuses(got.Steps) != "a:Success:0 b:Success:0 c:Success:0" {
				t.Fatalf("%q %+v", out, got)
			}
			if got.Steps[1].Attempts != 2 || got.Steps[1].Stdout != (exec.Span{From: 2, To: 18}) || got.Stdout.Digest != fleet.Sum([]byte(h.text(s.Command, Stdout))) {
				t.Fatalf("%+v", got)
			}
			if host.asked.Load() != 2 {
				t.Fatal("the host was asked for nothing")
			}
			wantLeft(t, h, s.Command)
			if _, err := os.Stat(downloadsOf(h.folder(s.Command), user != "")); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("its downloads are left: %v", err)
			}
		})
	}
}

// A cancel that came while no agent was there ends the wait, and the host stays up.
func TestCancelledWhileItWaitsForAReboot(t *testing.T) {
	t.Parallel()
	h := open(t, Config{Reboot: func(context.Context) error {
		t.Error("the host was asked for nothing")
		return nil
	}})
	s := document(sh("true"), sh("true"))
	crashed(t, h, s, "", steps.Began{Step: 0, Attempt: 1, Boot: h.boot}, steps.Ended{Step: 0, Attempt: 1, Status: steps.Failed, ExitCode: 194})
	if err := h.journal.append(exec.CancelledRecord{Command: s.Command, Time: time.Now()}); err != nil {
		t.Fatal(err)
	}
	h = h.reopen()
	if got := h.ended(s.Command); got.Status != exec.Cancelled || statuses(got.Steps) != "a:Cancelled:194 b:Skipped:-1" {
		t.Fatalf("%+v", got)
	}
}

// A host that does nothing any more begins no step: neither of a run that waited for a restart, nor of one whose supervisor
// lived on; what had begun ends as it ends.
func TestNoStepBeginsOnAnIdleHost(t *testing.T) {
	t.Parallel()
	const why = "its key is used twice"
	t.Run("behind a restart", func(t *testing.T) {
		t.Parallel()
		h := open(t, Config{Reboot: func(context.Context) error {
			t.Error("the host was asked for nothing")
			return nil
		}, Idle: why})
		for _, boot := range []string{h.boot, "an earlier one"} {
			s := document(sh("true"), sh("echo no; exit 1"))
			crashed(t, h, s, "", steps.Began{Step: 0, Attempt: 1, Boot: boot}, steps.Ended{Step: 0, Attempt: 1, Status: steps.Failed, ExitCode: 194})
			h = h.reopen()
			got := h.ended(s.Command)
			if got.Status != exec.Failed || !strings.Contains(got.Detail, why) || statuses(got.Steps) != "a:Failed:194 b:Skipped:-1" || h.text(s.Command, Stdout) != "" {
				t.Fatalf("%s: %+v", boot, got)
			}
		}
	})
	t.Run("under a supervisor", func(t *testing.T) {
		t.Parallel()
		h := open(t, Config{})
		dir := t.TempDir()
		s := document(sh("echo one; touch "+dir+"/begun; while ! test -e "+dir+"/go; do sleep 0.02; done"), sh("echo two"))
		h.start(s)
		until(t, "its first step runs", func() bool { _, err := os.Stat(dir + "/begun"); return err == nil })
		h.Close()
		cfg := h.cfg
		cfg.Idle = why
		h = open(t, cfg)
		until(t, "its supervisor has read what it is asked", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			run := h.running[s.Command]
			return run != nil && run.conn != nil && unread(t, run.conn) == 0
		})
		if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		got := h.ended(s.Command)
		if got.Status != exec.Failed || !strings.Contains(got.Detail, "nothing any more") || statuses(got.Steps) != "a:Success:0 b:Skipped:-1" || h.text(s.Command, Stdout) != "one\n" {
			t.Fatalf("%+v", got)
		}
	})
}

// unread returns how much of what was written to a socket the other end has not read, in the kernel's own measure.
func unread(t *testing.T, conn net.Conn) (n int) {
	t.Helper()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var asked error
	if err := raw.Control(func(fd uintptr) { n, asked = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || asked != nil {
		t.Fatal(err, asked)
	}
	return n
}

// A host that goes down terminates supervisors: they begin nothing more, and another one goes on.
func TestTerminatedSupervisorHandsOver(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	gate := fifo(t)
	s := document(sh("echo $PPID; read x < "+gate), sh("echo $PPID"), sh("echo $PPID"), sh("echo $PPID"), sh("echo $PPID"))
	h.start(s)
	first := await(h, func(e Output) bool { return e.StdoutSize > 0 }).Command
	pid := supervisorOf(t, h, first)
	unix.Kill(pid, unix.SIGTERM)
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, h.ended(s.Command), exec.Success)
	by := strings.Fields(h.text(s.Command, Stdout))
	if len(by) != 5 || by[0] != fmt.Sprint(pid) || by[4] == by[0] || len(slices.Compact(slices.Clone(by))) != 2 { // the signal may take a step
		t.Fatalf("supervised by %v", by)
	}
}

func TestTooLate(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	s := spec("true")
	s.By = cage.BootNow() - 1
	if err := h.Start(t.Context(), s); !Late(err) || Crossed(err) {
		t.Fatalf("%v", err)
	}
	if _, known := h.Ledger().Get(s.Command); known {
		t.Fatal("it was recorded")
	}
	s.By = cage.BootNow() + time.Hour
	wantStatus(t, h.run(s), exec.Success)
}

// A start that was recorded in time, but comes to its process much later, is none.
func TestLateBehindTheBarrier(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	witness := filepath.Join(t.TempDir(), "witness")
	for _, s := range []Spec{spec("touch " + witness), document(sh("touch "+witness), sh("touch "+witness))} {
		o, err := h.order(s)
		if err != nil {
			t.Fatal(err)
		}
		o.By = int64(cage.BootNow() - lateStart - time.Second) // s.By is not set: the ledger took it
		r := newRun(s.Command)
		h.slots <- struct{}{}
		r.slot = true
		if err := h.Runner.start(r, s, o, nil); err != nil {
			t.Fatal(err)
		}
		got := h.ended(s.Command)
		if got.Status != exec.Terminated || got.Detail != tooLate || got.ExitCode != -1 {
			t.Fatalf("%+v", got)
		}
	}
	s := document(sh("touch " + witness))
	s.By = cage.BootNow() + time.Hour
	crashed(t, h, s, "") // nothing had begun
	h = h.reopen()
	wantStatus(t, h.ended(s.Command), exec.Terminated)
	if _, err := os.Stat(witness); err == nil {
		t.Fatal("it was started")
	}
	s = document(sh("true"), sh("true"))
	s.By = cage.BootNow() + time.Hour
	crashed(t, h, s, "", steps.Began{Step: 0, Attempt: 1, Boot: h.boot}, steps.Ended{Step: 0, Attempt: 1, Status: steps.Success})
	h = h.reopen()
	wantStatus(t, h.ended(s.Command), exec.Success) // it had begun in time
}

func TestActAsAnotherUser(t *testing.T) {
	t.Parallel()
	h := open(t, Config{Act: []string{"/proc/self/exe", "act"}})
	s := document(steps.Step{Act: "show", Inputs: []byte("in")})
	if os.Geteuid() == 0 {
		s.User = "nobody"
	}
	wantStatus(t, h.run(s), exec.Success)
	if out := h.text(s.Command, Stdout); out != "[show] in true\n" {
		t.Fatal(out)
	}
	h = open(t, Config{Act: []string{}})
	if err := h.Start(t.Context(), document(steps.Step{Act: "show"})); err == nil || Crossed(err) {
		t.Fatalf("an act was started by an agent that has none: %v", err)
	}
}

// The host is not asked before other runs have had their time, and no new one starts meanwhile.
func TestOthersBeforeAReboot(t *testing.T) {
	t.Parallel()
	var host rebooter
	h := open(t, Config{Reboot: host.reboot, patience: time.Hour})
	gate := fifo(t)
	other := spec("read x < " + gate)
	h.start(other)
	s := document(rebootOnce(t), sh("true"))
	h.start(s)
	until(t, "it waits for a restart", func() bool { return h.held() != nil })
	late := spec("true")
	started := make(chan error, 1)
	go func() { started <- h.Start(context.Background(), late) }()
	until(t, "a new run waits", func() bool { return h.queued.Load() == 1 })
	if host.asked.Load() != 0 {
		t.Fatal("the host was asked while another run was going")
	}
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the host is asked", func() bool { return host.asked.Load() == 1 })
	if err := h.Cancel(s.Command); err != nil {
		t.Fatal(err)
	}
	if got := await(h, func(e Ended) bool { return e.Command == s.Command }).Result; got.Status != exec.Cancelled ||
		statuses(got.Steps) != "a:Cancelled:194 b:Skipped:-1" {
		t.Fatalf("%+v", got)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	until(t, "the new run has ended", func() bool { st, _ := h.Ledger().Get(late.Command); return st.Status() == exec.Success })
}

func TestRebootThatNeverComes(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	refuses := func(context.Context) error {
		asked.Add(1)
		return errors.New("not today")
	}
	for _, c := range []struct {
		cfg    Config
		asked  int64
		detail string
	}{
		{Config{Reboot: refuses, again: time.Millisecond}, rebootAsks, "step 1 (a): it asked for a reboot, but the host did not restart: not today"},
		{Config{}, 0, "step 1 (a): it asked for a reboot, but this agent may not restart the host"},
	} {
		asked.Store(0)
		h := open(t, c.cfg)
		s := document(rebootOnce(t), sh("true"))
		got := h.run(s)
		if got.Status != exec.Failed || got.Detail != c.detail || statuses(got.Steps) != "a:Failed:194 b:Skipped:-1" || asked.Load() != c.asked {
			t.Errorf("asked %d times: %+v", asked.Load(), got)
		}
		wantStatus(t, h.run(spec("true")), exec.Success) // others run again
	}
}

func TestVigil(t *testing.T) {
	p := patience{others: 5 * time.Minute, again: 5 * time.Minute}
	for _, c := range []struct {
		v    vigil
		want vigilMove
	}{
		{vigil{}, askHost},
		{vigil{others: 1, waited: 4 * time.Minute}, keepWaiting},
		{vigil{others: 1, waited: 5 * time.Minute}, askHost},
		{vigil{asks: 1, asked: time.Minute, waited: time.Hour}, keepWaiting},
		{vigil{asks: 1, asked: 5 * time.Minute}, askHost},
		{vigil{asks: rebootAsks, asked: 5 * time.Minute}, giveUpWaiting},
		{vigil{asks: rebootAsks, asked: time.Minute}, keepWaiting},
	} {
		if got := c.v.next(p); got != c.want {
			t.Errorf("%+v: %v", c.v, got)
		}
	}
}

func TestRebootCommand(t *testing.T) {
	has := func(names ...string) func(string) (string, error) {
		return func(name string) (string, error) {
			if slices.Contains(names, name) {
				return "/bin/" + name, nil
			}
			return "", os.ErrNotExist
		}
	}
	for _, c := range []struct {
		find    func(string) (string, error)
		systemd bool
		want    string
	}{
		{has("systemctl", "shutdown", "reboot"), true, "/bin/systemctl reboot"},
		{has("systemctl", "shutdown", "reboot"), false, "/bin/shutdown -r now"},
		{has("reboot"), true, "/bin/reboot"},
		{has(), true, ""},
	} {
		if argv, err := rebootCommand(c.find, c.systemd); strings.Join(argv, " ") != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%v %v, want %q", argv, err, c.want)
		}
	}
}

// The room for the journal was taken before the run: a step that fills the disk does not keep the others from running.
func documentOnAFullDisk(t *testing.T, dir string) {
	h := open(t, Config{Dir: dir})
	s := document(sh("head -c 3000000 /dev/zero"), sh("echo lost; true"), sh("echo e >&2; exit 3"))
	got := h.run(s)
	if got.Status != exec.Failed || statuses(got.Steps) != "a:Success:0 b:Success:0 c:Failed:3" || !got.Stdout.Cut || got.Stdout.Size != 3_000_005 ||
		!strings.Contains(got.Detail, "no space left") {
		t.Fatalf("%+v", got)
	}
}

func TestFoldersAreBoundInBytes(t *testing.T) {
	t.Parallel()
	h := open(t, Config{KeepBytes: 300_000})
	first, second := spec("head -c 100000 /dev/zero"), spec("head -c 100000 /dev/zero")
	h.run(first)
	h.run(second)
	if u := h.Usage(); u.Runs != 2 || u.Bytes < 200_000 || u.Bound != 300_000 || u.Ledger == 0 {
		t.Fatalf("%+v", u)
	}
	third := spec("head -c 100000 /dev/zero")
	h.run(third)
	until(t, "the oldest is gone", func() bool { _, err := os.Stat(string(h.folder(first.Command))); return err != nil })
	if u := h.Usage(); u.Runs != 2 || u.Bytes > 300_000 {
		t.Fatalf("%+v", u)
	}
	h.KeepBytes(150_000)
	until(t, "the next is gone", func() bool { return h.Usage().Runs == 1 })
	if u := h.Usage(); u.Bound != 150_000 {
		t.Fatalf("%+v", u)
	}
	if _, err := h.OpenOutput(first.Command, Stdout); fleet.KindOf(err) != fleet.Expired {
		t.Fatalf("%v", err)
	}
	if _, err := h.OpenOutput(newID(), Stdout); fleet.KindOf(err) != fleet.NotFound {
		t.Fatalf("%v", err)
	}
}

func TestOpenOutputWhileItRuns(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	gate := fifo(t)
	// Opened once: a second reader could meet the first writer, who is about to close, and read an end.
	s := spec("exec 3<>" + gate + "; read x <&3; echo word; read x <&3")
	h.start(s)
	out, err := h.OpenOutput(s.Command, Stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	buf := make([]byte, 10)
	if n, _ := out.ReadAt(buf, 0); n != 0 {
		t.Fatal("there is output before there is any")
	}
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	until(t, "it has written", func() bool { sum, ended := out.Sum(); return sum.Kept == 5 && !ended })
	if n, _ := out.ReadAt(buf, 0); string(buf[:n]) != "word\n" {
		t.Fatalf("%q", buf[:n])
	}
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	got := h.ended(s.Command)
	if sum, ended := out.Sum(); !ended || sum != got.Stdout {
		t.Fatalf("%+v %t", sum, ended)
	}
}
