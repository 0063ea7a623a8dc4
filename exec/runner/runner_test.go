package runner

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/exec/cage/cagetest"
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	h := open(t, Config{Dir: longDir(t)}) // the socket's path is longer than a socket address
	with := func(change func(*Spec), argv ...string) Spec {
		s := spec(argv...)
		change(&s)
		return s
	}
	plain := func(*Spec) {}
	for _, c := range []struct {
		name   string
		spec   Spec
		status exec.Status
		code   int
		signal int
		stdout string
		detail string
	}{
		{"shell line", with(plain, "echo a; echo b >&2; exit 3"), exec.Failed, 3, 0, "a\n", ""},
		{"argv without shell", with(plain, "printf", "%s|", "$HOME", "a b"), exec.Success, 0, 0, "$HOME|a b|", ""},
		{"signal", with(plain, "kill -9 $$"), exec.Failed, -1, 9, "", ""},
		{"stdin", with(func(s *Spec) { s.Stdin = []byte("in") }, "cat"), exec.Success, 0, 0, "in", ""},
		{"no stdin", with(plain, "cat"), exec.Success, 0, 0, "", ""},
		{"not found", with(plain, "no-such-program", "x"), exec.Failed, 127, 0, "", "command not found: no-such-program"},
		{"not executable", with(plain, "/etc/passwd", "x"), exec.Failed, 126, 0, "", "not executable"},
		{"bad folder", with(func(s *Spec) { s.Dir = "/no/such" }, "pwd"), exec.Failed, -1, 0, "",
			"cannot enter /no/such: no such file or directory"},
		{"folder", with(func(s *Spec) { s.Dir = "/usr" }, "pwd"), exec.Success, 0, 0, "/usr\n", ""},
		{"script", with(func(s *Spec) { s.Plan.Steps[0].Script = []byte("echo $1-$#\n") }, "x y", "z"), exec.Success, 0, 0, "x y-2\n", ""},
		{"script with #!", with(func(s *Spec) { s.Plan.Steps[0].Script = []byte("#!/bin/cat -\nbody\n") }), exec.Success, 0, 0, "#!/bin/cat -\nbody\n", ""},
		{"umask", with(plain, "umask"), exec.Success, 0, 0, "0077\n", ""},
		{"descriptors", with(plain, "ls /proc/self/fd | wc -l"), exec.Success, 0, 0, "4\n", ""}, // 0, 1, 2, and that of ls
		{"oom score", with(plain, "cat /proc/self/oom_score_adj"), exec.Success, 0, 0, "0\n", ""},
		{"ignored signals", with(plain, "grep -E 'SigIgn|SigBlk' /proc/self/status"), exec.Success, 0, 0,
			"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := h.run(c.spec)
			wantStatus(t, got, c.status)
			if got.ExitCode != c.code || got.Signal != c.signal || !strings.Contains(got.Detail, c.detail) {
				t.Fatalf("got %+v", got)
			}
			if out := h.text(c.spec.Command, Stdout); out != c.stdout {
				t.Fatalf("stdout %q, want %q", out, c.stdout)
			}
		})
	}
}

func TestEnvironmentBeginsEmpty(t *testing.T) {
	t.Setenv("LD_PRELOAD_CANARY", "1")
	t.Setenv("BASH_ENV", "/tmp/evil")
	t.Setenv("HOME", "/wrong")
	h := open(t, Config{})
	s := spec("env", "--null")
	s.Env = []string{"MINE=a b", "MUSTER_COMMAND_ID=forged"}
	wantStatus(t, h.run(s), exec.Success)
	who, _, err := account.Resolve("")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for e := range strings.SplitSeq(strings.TrimRight(h.text(s.Command, Stdout), "\x00"), "\x00") {
		k, v, _ := strings.Cut(e, "=")
		got[k] = v
	}
	want := map[string]string{"PATH": account.Path, "HOME": who.Home, "USER": who.Name, "LOGNAME": who.Name, "SHELL": who.Shell, "MINE": "a b",
		"MUSTER_COMMAND_ID": s.Command.String(), "SSM_COMMAND_ID": s.Command.String()}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v\nwant %v", got, want)
	}
}

func TestRunAsAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can change to another user")
	}
	h := open(t, Config{})
	s := spec("a")
	s.User, s.Plan.Steps[0].Script = "nobody", []byte("#!/bin/sh\nid -un; id -G; echo $HOME $1 >/dev/stdout; pwd\n")
	wantStatus(t, h.run(s), exec.Success)
	who, _, _ := account.Resolve("nobody")
	want := fmt.Sprintf("nobody\n%d\n%s a\n/\n", who.GID, who.Home)
	if got := h.text(s.Command, Stdout); got != want {
		t.Fatalf("got %q, want %q; %s", got, want, h.text(s.Command, Stderr))
	}
	s = spec("cat", h.folder(s.Command).path(string(Stdout)))
	s.User = "nobody"
	if got := h.run(s); got.Status != exec.Failed {
		t.Fatalf("another user reads the run folder: %+v", got)
	}
}

func TestRefusedBeforeTheBarrier(t *testing.T) {
	t.Parallel()
	h := open(t, Config{MaxRunning: 1, MaxQueued: 1})
	for name, change := range map[string]func(*Spec){
		"unknown user":        func(s *Spec) { s.User = "no-such-user" },
		"nothing to run":      func(s *Spec) { s.Plan.Steps[0].Argv = nil },
		"NUL":                 func(s *Spec) { s.Plan.Steps[0].Argv = []string{"a\x00b"} },
		"environment":         func(s *Spec) { s.Env = []string{"novalue"} },
		"older than ledger":   func(s *Spec) { s.Issued = h.Ledger().Created().Add(-time.Second) },
		"relative folder":     func(s *Spec) { s.Dir = "tmp" },
		"larger than allowed": func(s *Spec) { s.Stdin = make([]byte, MaxSpec) },
	} {
		s := spec("true")
		change(&s)
		err := h.Start(t.Context(), s)
		if err == nil || Crossed(err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, known := h.Ledger().Get(s.Command); known {
			t.Errorf("%s: it was recorded", name)
		}
	}
	wantStatus(t, h.run(spec("true")), exec.Success) // no place was lost
}

func TestPlacesAndQueue(t *testing.T) {
	t.Parallel()
	h := open(t, Config{MaxRunning: 1, MaxQueued: 1})
	first, second, third := spec("read x < /dev/null; sleep 1000"), spec("echo second"), spec("echo third")
	h.start(first)
	waiting := make(chan error, 1)
	go func() { waiting <- h.Start(context.Background(), second) }()
	until(t, "the second waits", func() bool { return h.queued.Load() == 1 })
	if err := h.Start(t.Context(), third); fleet.KindOf(err) != fleet.Exhausted || Crossed(err) {
		t.Fatalf("the third start: %v", err)
	}
	if err := h.Cancel(first.Command); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	wantStatus(t, h.ended(second.Command), exec.Success)
	ctx, stop := context.WithCancel(t.Context())
	last := spec("sleep", "1000")
	h.start(last)
	go func() { waiting <- h.Start(ctx, third) }()
	until(t, "the third waits", func() bool { return h.queued.Load() == 1 })
	stop()
	if err := <-waiting; err == nil || Crossed(err) {
		t.Fatalf("a start whose context ended: %v", err)
	}
	h.Cancel(last.Command)
	wantStatus(t, h.ended(last.Command), exec.Cancelled)
}

func TestCancelledInTheQueue(t *testing.T) {
	t.Parallel()
	h := open(t, Config{MaxRunning: 1})
	going, queued := spec("sleep", "1000"), spec("true")
	h.start(going)
	waiting := make(chan error, 1)
	go func() { waiting <- h.Start(context.Background(), queued) }()
	until(t, "the second waits", func() bool { return h.queued.Load() == 1 })
	if err := h.Cancel(queued.Command); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, h.ended(queued.Command), exec.Cancelled) // while the first still has the only place
	if err := <-waiting; fleet.KindOf(err) != fleet.Conflict || Crossed(err) {
		t.Fatalf("the start that was cancelled: %v", err)
	}
	h.Cancel(going.Command)
	wantStatus(t, h.ended(going.Command), exec.Cancelled)
	wantStatus(t, h.run(spec("true")), exec.Success) // the place was not lost
}

func TestNothingStartsTwice(t *testing.T) {
	t.Parallel()
	h := open(t, Config{MaxRunning: 64})
	witness := filepath.Join(t.TempDir(), "witness")
	s := spec("echo ran >> " + witness)
	var wg sync.WaitGroup
	var won atomic.Int32
	for range 20 {
		wg.Go(func() {
			if h.Start(t.Context(), s) == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	h.ended(s.Command)
	if err := h.Start(t.Context(), s); fleet.KindOf(err) != fleet.Conflict || Crossed(err) {
		t.Fatalf("started again after its end: %v", err)
	}
	h = h.reopen()
	if err := h.Start(t.Context(), s); fleet.KindOf(err) != fleet.Conflict || Crossed(err) {
		t.Fatalf("started again after a restart: %v", err)
	}
	data, _ := os.ReadFile(witness)
	if won.Load() != 1 || string(data) != "ran\n" {
		t.Fatalf("%d starts succeeded, it ran: %q", won.Load(), data)
	}
}

// startAgent starts an agent process and, unless it is to die before, waits until its run has started.
func startAgent(t *testing.T, dir, how string, command fleet.UUID, argv ...string) *osexec.Cmd {
	t.Helper()
	cmd := osexec.Command(self(t), append([]string{"agent", dir, how, command.String()}, argv...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if how != "barrier" && line != "started\n" {
		t.Fatalf("the agent said %q", line)
	}
	return cmd
}

func kill(t *testing.T, cmd *osexec.Cmd) {
	t.Helper()
	cmd.Process.Kill()
	cmd.Wait()
}

func TestAgentKilledBetweenBarrierAndLaunch(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), spec("true")
	witness := filepath.Join(t.TempDir(), "witness")
	startAgent(t, dir, "barrier", s.Command, "touch "+witness).Wait()
	h := open(t, Config{Dir: dir})
	wantStatus(t, h.ended(s.Command), exec.Unknown)
	if err := h.Start(t.Context(), s); fleet.KindOf(err) != fleet.Conflict {
		t.Fatalf("started a second time: %v", err)
	}
	if _, err := os.Stat(witness); err == nil {
		t.Fatal("it ran")
	}
}

func TestAgentKilledDuringRun(t *testing.T) {
	t.Parallel()
	dir, command := t.TempDir(), newID()
	gate := filepath.Join(t.TempDir(), "gate")
	unix.Mkfifo(gate, 0o600)
	kill(t, startAgent(t, dir, "", command, "read x < "+gate+"; echo $x; exit 7"))
	h := open(t, Config{Dir: dir})
	h.hasStarted(command)
	if s, _ := h.Ledger().Get(command); s.Status() != exec.InProgress {
		t.Fatalf("status %s", s.Status())
	}
	if err := os.WriteFile(gate, []byte("word\n"), 0); err != nil {
		t.Fatal(err)
	}
	got := h.ended(command)
	if got.Status != exec.Failed || got.ExitCode != 7 || h.text(command, Stdout) != "word\n" {
		t.Fatalf("%+v %q", got, h.text(command, Stdout))
	}
}

func TestAgentKilledAndRunEndsMeanwhile(t *testing.T) {
	t.Parallel()
	dir, command := t.TempDir(), newID()
	gate := filepath.Join(t.TempDir(), "gate")
	unix.Mkfifo(gate, 0o600)
	kill(t, startAgent(t, dir, "", command, "read x < "+gate+"; exit 9"))
	os.WriteFile(gate, []byte("\n"), 0)
	run := folder(filepath.Join(dir, runsName, command.String()))
	until(t, "the run has ended", func() bool { _, err := run.end(); return err == nil })
	h := open(t, Config{Dir: dir})
	if got := h.ended(command); got.Status != exec.Failed || got.ExitCode != 9 {
		t.Fatalf("%+v", got)
	}
}

func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	for _, contain := range containments() {
		t.Run("contain="+contain, func(t *testing.T) {
			t.Parallel()
			h := open(t, Config{contain: contain})
			marker := cagetest.Marker()
			s := spec("sh -c 'sleep 1000; : " + marker + "'; : " + marker)
			h.start(s)
			h.hasStarted(s.Command)
			unix.Kill(supervisorOf(t, h, s.Command), unix.SIGKILL)
			got := h.ended(s.Command)
			wantStatus(t, got, exec.Unknown)
			if got.Detail != "its supervisor died" {
				t.Fatal(got.Detail)
			}
			until(t, "all is dead", func() bool { return len(cagetest.WithMarker(marker)) == 0 })
			if s, _ := h.reopen().Ledger().Get(s.Command); s.Status() != exec.Unknown {
				t.Fatalf("after a restart: %s", s.Status())
			}
		})
	}
}

func containments() []string {
	out := []string{cage.None}
	at := cage.Host()
	if at.V2() != "" && os.MkdirAll(at.V2(), 0o755) == nil {
		out = append(out, cage.V2)
	}
	if at.V1() != "" && os.MkdirAll(at.V1(), 0o755) == nil {
		out = append(out, cage.V1)
	}
	return out
}

// Whatever a run started to hide is dead when its end is told.
func TestNothingSurvivesTimeoutAndCancel(t *testing.T) {
	t.Parallel()
	for _, contain := range containments() {
		for _, how := range []exec.Status{exec.TimedOut, exec.Cancelled} {
			t.Run(fmt.Sprintf("contain=%s/%s", contain, how), func(t *testing.T) {
				t.Parallel()
				h := open(t, Config{contain: contain, grace: 100 * time.Millisecond})
				marker := cagetest.Marker()
				s := spec(self(t), "hide", marker)
				if how == exec.TimedOut {
					s.Timeout = 1500 * time.Millisecond
				}
				h.start(s)
				await(h, func(e Output) bool { return e.Command == s.Command })
				if how == exec.Cancelled {
					until(t, "all four hide", func() bool {
						return len(cagetest.WithMarker("orphandouble:"+marker)) == 1 && len(cagetest.WithMarker(marker)) >= 5
					})
					if err := h.Cancel(s.Command); err != nil {
						t.Fatal(err)
					}
				}
				wantStatus(t, h.ended(s.Command), how)
				if left := cagetest.WithMarker(marker); len(left) > 0 {
					t.Fatalf("still alive:\n%s", strings.Join(left, "\n"))
				}
				removed := filepath.Join(cage.Host().V2(), cage.Name(string(h.folder(s.Command))))
				until(t, "its cgroup is gone", func() bool { _, err := os.Stat(removed); return err != nil })
			})
		}
	}
}

func TestGraceLetsARunTidyUp(t *testing.T) {
	t.Parallel()
	h := open(t, Config{grace: 20 * time.Second})
	s := spec("trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
	h.start(s)
	await(h, func(e Output) bool { return e.StdoutSize > 0 })
	if err := h.Cancel(s.Command); err != nil {
		t.Fatal(err)
	}
	got := h.ended(s.Command)
	wantStatus(t, got, exec.Cancelled)
	if out := h.text(s.Command, Stdout); out != "ready\ntidy\n" || got.ExitCode != 0 {
		t.Fatalf("%q %+v", out, got)
	}
}

func TestDaemonsStayAfterANormalEnd(t *testing.T) {
	t.Parallel()
	for _, contain := range containments() {
		h := open(t, Config{contain: contain})
		marker := cagetest.Marker()
		s := spec("setsid sh -c 'sleep 1000; : " + marker + "' & echo $!; exit 4") // it holds both pipes
		got := h.run(s)
		if got.Status != exec.Failed || got.ExitCode != 4 {
			t.Fatalf("%+v", got)
		}
		until(t, "the supervisor is gone", func() bool { return !h.folder(s.Command).alive() })
		if len(cagetest.WithMarker(marker)) == 0 {
			t.Fatalf("%s: the daemon was killed", contain)
		}
		cage.KillMarked(commandIDVar + "=" + s.Command.String())
		until(t, "the daemon is gone", func() bool { return len(cagetest.WithMarker(marker)) == 0 })
		cage.Remove(cage.Name(string(h.folder(s.Command))))
	}
}

func TestCancelBeforeItIsSeen(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	s := spec("true")
	if err := errors.Join(h.Cancel(s.Command), h.Cancel(s.Command)); err != nil {
		t.Fatal(err)
	}
	h = h.reopen()
	if err := h.Start(t.Context(), s); fleet.KindOf(err) != fleet.Conflict || Crossed(err) {
		t.Fatalf("a cancelled command was started: %v", err)
	}
	wantStatus(t, h.ended(s.Command), exec.Cancelled)
	if st, _ := h.Ledger().Get(s.Command); st.Status() != exec.Cancelled {
		t.Fatal(st.Status())
	}
}

func TestRefuseIsKept(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	s := spec("true")
	if err := errors.Join(h.Refuse(s.Command, s.Digest, exec.Failed, "policy"), h.Refuse(s.Command, s.Digest, exec.Failed, "other")); err != nil {
		t.Fatal(err)
	}
	h = h.reopen()
	if st, _ := h.Ledger().Get(s.Command); st.Status() != exec.Failed || st.Refused.Reason != "policy" {
		t.Fatalf("%+v", st)
	}
	if err := h.Start(t.Context(), s); err == nil {
		t.Fatal("a refused command was started")
	}
}

// A cancel that the agent recorded, and then died before it could tell the supervisor, is carried out on its return.
func TestCancelSurvivesTheAgent(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	s := spec("sleep", "1000")
	h.start(s)
	h.hasStarted(s.Command)
	if err := h.journal.append(exec.CancelledRecord{Command: s.Command, Time: time.Now()}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, h.reopen().ended(s.Command), exec.Cancelled)
}

func TestOutputIsWhole(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	const size = 10 << 20
	s := spec(fmt.Sprintf("head -c %d /dev/urandom | tee /dev/stderr | sha256sum > /dev/null; printf end", size))
	got := h.run(s)
	wantStatus(t, got, exec.Success)
	data, err := os.ReadFile(h.folder(s.Command).path(string(Stderr)))
	if err != nil || got.Stderr != (exec.OutputSum{Size: size, Kept: size, Digest: sha256.Sum256(data)}) || len(data) != size {
		t.Fatalf("%v: %+v, %d bytes on disk", err, got.Stderr, len(data))
	}
	middle, _ := h.Output(s.Command, Stderr, 1000, 50)
	last, _ := h.Tail(s.Command, Stderr, 100)
	none, err := h.Output(s.Command, Stderr, size+5, 50)
	if !bytes.Equal(middle, data[1000:1050]) || !bytes.Equal(last, data[size-100:]) || len(none) != 0 || err != nil {
		t.Fatal("reads differ from the file")
	}
	if got := h.text(s.Command, Stdout); got != "end" {
		t.Fatal(got)
	}
}

func TestOutputIsCutAtTheLimit(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	s := spec("head -c 300000 /dev/zero; echo done >&2")
	s.MaxOutput = 1000
	got := h.run(s)
	wantStatus(t, got, exec.Success)
	want := exec.OutputSum{Size: 300000, Kept: 1000, Digest: sha256.Sum256(make([]byte, 1000)), Cut: true}
	if got.Stdout != want || got.Stderr.Cut || !strings.Contains(got.Detail, "stdout is longer than the limit") {
		t.Fatalf("%+v", got)
	}
}

// smallDisk mounts a disk of 1 MiB.
func smallDisk(t *testing.T) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return "", err
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, nil
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(*testing.T, string){"command": commandOnAFullDisk, "document": documentOnAFullDisk} {
		dir, err := smallDisk(t)
		if err != nil {
			t.Skip("cannot mount a small disk:", err)
		}
		t.Run(name, func(t *testing.T) { run(t, dir) })
	}
}

func commandOnAFullDisk(t *testing.T, dir string) {
	h := open(t, Config{Dir: dir})
	s := spec("head -c 3000000 /dev/zero; echo on $(( 1 + 1 )) >&2; sleep 1000")
	h.start(s)
	await(h, func(e Output) bool { return e.StdoutSize > 500_000 })
	until(t, "the disk is full", func() bool {
		err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 4096), 0o600)
		return errors.Is(err, unix.ENOSPC)
	})
	next := spec("true")
	if err := h.Start(t.Context(), next); fleet.KindOf(err) != fleet.Exhausted || Crossed(err) {
		t.Fatalf("a start on a full disk: %v", err)
	}
	if err := errors.Join(h.Refuse(newID(), fleet.ID{}, exec.Refused, "full"), h.Cancel(newID()), h.Cancel(s.Command)); err != nil {
		t.Fatalf("refusing and cancelling on a full disk: %v", err)
	}
	got := h.ended(s.Command)
	if got.Status != exec.Cancelled || !got.Stdout.Cut || got.Stdout.Size != 3_000_000 || got.Stdout.Kept >= got.Stdout.Size ||
		!strings.Contains(got.Detail, "no space left") {
		t.Fatalf("%+v", got)
	}
}

func TestRunFoldersAreNotKeptForEver(t *testing.T) {
	t.Parallel()
	now := time.Now()
	h := open(t, Config{Keep: time.Hour, Now: func() time.Time { return now }})
	old, going := spec("true"), spec("sleep", "1000")
	h.run(old)
	h.start(going)
	h.hasStarted(going.Command)
	now = time.Now().Add(2 * time.Hour)
	h.prune()
	if _, err := os.Stat(string(h.folder(old.Command))); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("an old run folder stays: %v", err)
	}
	if _, err := os.Stat(string(h.folder(going.Command))); err != nil {
		t.Fatal("the folder of a run in progress was removed")
	}
	if _, err := h.Head(old.Command, Stdout, 10); err != nil {
		t.Fatalf("a run without output: %v", err)
	}
	if h.Start(t.Context(), old) == nil {
		t.Fatal("it ran again")
	}
	h.Cancel(going.Command)
	h.ended(going.Command)
}

func TestOutdated(t *testing.T) {
	now := time.Now()
	var states []exec.State
	for i := range 5 {
		id := fleet.UUID{byte(i)}
		states = append(states, exec.State{Command: id, Started: &exec.StartedRecord{Command: id},
			Ended: &exec.EndedRecord{Command: id, Time: now.Add(-time.Duration(i) * time.Hour)}})
	}
	states = append(states, exec.State{Command: fleet.UUID{9}, Started: &exec.StartedRecord{}})
	sizes := map[fleet.UUID]int64{{0}: 5, {1}: 10, {3}: 20, {9}: 100} // that of 9 cannot go
	for _, c := range []struct {
		keep retention
		want int
	}{{retention{time.Hour * 10, 10, 200}, 0}, {retention{time.Hour * 10, 3, 200}, 2}, {retention{time.Minute * 90, 10, 200}, 3}, {retention{0, 0, 200}, 5},
		{retention{time.Hour * 10, 10, 134}, 2}, {retention{time.Hour * 10, 10, 115}, 2}, {retention{time.Hour * 10, 10, 105}, 4}, {retention{time.Hour * 10, 10, 1}, 5}} {
		got := c.keep.outdated(states, sizes, now)
		if len(got) != c.want {
			t.Errorf("%+v: %d go, want %d", c.keep, len(got), c.want)
		}
		for i, command := range got {
			if command != (fleet.UUID{byte(4 - i)}) {
				t.Errorf("%+v: not the oldest first: %v", c.keep, got)
			}
		}
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	if _, err := Open(h.cfg); fleet.KindOf(err) != fleet.Conflict {
		t.Fatalf("two agents on one folder: %v", err)
	}
}

// With the agent gone too, nobody is left to clean up: the child dies with its supervisor all the same.
func TestChildDiesWithItsSupervisor(t *testing.T) {
	t.Parallel()
	dir, command, marker := t.TempDir(), newID(), cagetest.Marker()
	kill(t, startAgent(t, dir, "", command, self(t), "hidden", marker))
	mark, err := folder(filepath.Join(dir, runsName, command.String())).start()
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(mark.PID, unix.SIGKILL)
	until(t, "the child is dead", func() bool { return len(cagetest.WithMarker(marker)) == 0 })
	wantStatus(t, open(t, Config{Dir: dir}).ended(command), exec.Unknown)
}

// Each kind of cgroup kills by itself what hides in it.
func TestCgroupsKillByThemselves(t *testing.T) {
	t.Parallel()
	for _, contain := range containments() {
		c := cage.Make(cage.Host(), contain, cagetest.Marker())
		if !c.Exists() {
			continue
		}
		cmd := osexec.Command("/bin/sh", "-c", `read go && exec "$0" hide "$1"`, self(t), filepath.Base(c.Path()))
		gate, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.Path(), "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
			t.Fatal(err)
		}
		gate.Write([]byte("\n"))
		bufio.NewReader(out).ReadString('\n')
		if !c.Empty() {
			t.Fatalf("%s: some are left: %v", contain, c.PIDs())
		}
		cmd.Wait()
		c.Remove()
		if _, err := os.Stat(c.Path()); err == nil {
			t.Fatalf("%s: the cgroup is not empty", contain)
		}
		if left := cagetest.WithMarker(filepath.Base(c.Path())); len(left) > 0 {
			t.Fatalf("%s: still alive: %v", contain, left)
		}
	}
}
