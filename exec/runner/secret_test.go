package runner

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/exec/cage"
)

// planted are secrets as tests plant them; the second shares its beginning with the first.
var planted = [][]byte{[]byte("pl4nted-s3cret/of=many&signs"), []byte("pl4nted-s3cret\nand its second line\n")}

// vault opens the planted secrets by "0" and "1".
type vault struct {
	asked atomic.Int32
	fails func(n int32) error // of the nth ask, from 1
}

func (v *vault) open(_ context.Context, ref []byte) ([]byte, error) {
	n := v.asked.Add(1)
	if v.fails != nil {
		if err := v.fails(n); err != nil {
			return nil, err
		}
	}
	i, err := strconv.Atoi(string(ref))
	if err != nil {
		return nil, err
	}
	return bytes.Clone(planted[i]), nil
}

// withSecrets gives a spec both secrets: A in all its steps, B in each step's own environment, C between other text.
func withSecrets(s Spec) Spec {
	s.Secrets = [][]byte{[]byte("0"), []byte("1")}
	s.EnvSecrets = []steps.Filled{{Name: "A", Parts: []steps.Part{{Secret: 1}}}}
	for i := range s.Plan.Steps {
		s.Plan.Steps[i].Secrets = []steps.Filled{
			{Name: "B", Parts: []steps.Part{{Secret: 2}}}, {Name: "C", Parts: []steps.Part{{Text: "u:"}, {Secret: 1}, {Text: "@h"}}},
		}
	}
	return s
}

// shows fails if a secret, or half of one, is found in data.
func shows(t testing.TB, where string, data []byte) {
	t.Helper()
	for _, s := range []string{"pl4nted-s3", "of=many&si", "its second"} {
		if bytes.Contains(data, []byte(s)) {
			t.Errorf("%s shows a secret (%s)", where, s)
		}
	}
}

// searchFiles looks for secrets in all files below a folder.
func searchFiles(t testing.TB, dir string) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what goes while it is looked at
		}
		if data, err := os.ReadFile(path); err == nil {
			seen++
			shows(t, path, data)
		}
		return nil
	})
	if err != nil || seen < 3 {
		t.Fatalf("%d files, %v", seen, err)
	}
}

// searchProcess looks for secrets in what others on the host can see of a process.
func searchProcess(t testing.TB, pid int, what ...string) {
	t.Helper()
	for _, name := range what {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
		if err != nil && !(errors.Is(err, os.ErrPermission) && os.Geteuid() != 0) {
			t.Fatal(err)
		}
		shows(t, what[0]+" of a supervisor: "+name, data)
	}
}

// tellAll is a script that writes its secrets in every way that it can think of, in pieces too.
const tellAll = `printf %s "$A" | { IFS= read -r x; case "$x" in pl4*igns) echo got A;; esac; }
case "$B" in *'cond line'*) echo got B;; esac
echo "$A"; echo "$B" >&2; echo "$C"; echo "$A$A"; env; echo "--$A--$B--"
half=${A%????????????}; printf %s "$half"; sleep 0.05; printf '%s\n' "${A#"$half"}"
echo "cannot find $A" >&2
`

// TestASecretIsFoundNowhere: a planted secret reaches the processes that it is for, and is in no file, argument, environment
// or output of the run, nor in what is told of it.
func TestASecretIsFoundNowhere(t *testing.T) {
	t.Parallel()
	for name, plan := range map[string]func(line string) Spec{
		"plain":    func(line string) Spec { return spec(line) },
		"document": func(line string) Spec { return document(steps.Step{Script: []byte(line)}, sh(line)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var v vault
			h := open(t, Config{Secret: v.open})
			gate := fifo(t)
			s := withSecrets(plan("read x < " + gate + "\n" + tellAll + "exit 3"))
			h.start(s)
			h.hasStarted(s.Command)
			pid := supervisorOf(t, h, s.Command)
			for i := range s.Plan.Steps {
				if i > 0 {
					await(h, func(e Output) bool { return len(e.Steps) == i+1 })
				}
				searchProcess(t, pid, "cmdline", "environ")
				searchFiles(t, h.cfg.Dir)
				if limits, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/limits"); os.Geteuid() == 0 && !noCore(limits) {
					t.Errorf("core files: %v, %s", err, limits)
				}
				for _, fd := range descriptors(pid) {
					if strings.Contains(fd, "secrets") {
						t.Errorf("the supervisor keeps %s", fd)
					}
				}
				if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
					t.Fatal(err)
				}
			}
			got := h.ended(s.Command)
			wantStatus(t, got, exec.Failed)
			out, errs := h.text(s.Command, Stdout), h.text(s.Command, Stderr)
			for _, want := range []string{"got A\n", "got B\n", "\n****\n", "u:****@h\n", "A=****\n", "--****--****--"} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is missing in\n%s", want, out)
				}
			}
			if !strings.Contains(errs, "cannot find ****\n") || strings.Count(out, "got A\n") != len(s.Plan.Steps) {
				t.Errorf("%s\n%s", out, errs)
			}
			shows(t, "stdout", []byte(out))
			shows(t, "stderr", []byte(errs))
			shows(t, "the result", []byte(got.Detail))
			searchFiles(t, h.cfg.Dir)
			if n := v.asked.Load(); n != 2 {
				t.Errorf("%d secrets were opened", n)
			}
		})
	}
}

// noCore reports whether a process with these limits (of /proc) is not dumped, neither into a file nor into a pipe: the
// latter is so at 1 alone.
func noCore(limits []byte) bool {
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") {
			return strings.Join(strings.Fields(line)[4:6], " ") == "1 1"
		}
	}
	return false
}

func descriptors(pid int) []string {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	names, _ := os.ReadDir(dir)
	var out []string
	for _, n := range names {
		if to, err := os.Readlink(filepath.Join(dir, n.Name())); err == nil {
			out = append(out, to)
		}
	}
	return out
}

// An act finds its secrets in its input.
func TestSecretsReachAnAct(t *testing.T) {
	t.Parallel()
	var v vault
	h := open(t, Config{Secret: v.open})
	s := document(steps.Step{Act: "show", Fill: []steps.Part{{Text: `{"token":"`}, {Secret: 2}, {Text: `"}`}}}, sh("true"))
	s.Secrets = [][]byte{[]byte("0"), []byte("1")}
	got := h.run(s)
	wantStatus(t, got, exec.Success)
	if out := h.text(s.Command, Stdout); out != `[show] {"token":"****\n"} true`+"\n" {
		t.Errorf("%s", out)
	}
	searchFiles(t, h.cfg.Dir)
}

// TestSecretsThatCannotBeOpened: the run is not started, and nothing is recorded.
func TestSecretsThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	later := func(n int32) error {
		if n < 4 {
			return fleet.Errorf(fleet.Unavailable, "not yet")
		}
		return nil
	}
	never := func(int32) error { return fleet.Errorf(fleet.Denied, "no reader") }
	for name, c := range map[string]struct {
		fails func(n int32) error
		cfg   Config
		opens bool
	}{
		"later":    {later, Config{secretPause: time.Millisecond}, true},
		"too late": {later, Config{secretPause: time.Millisecond, secretStart: time.Nanosecond}, false},
		"never":    {never, Config{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := vault{fails: c.fails}
			c.cfg.Secret = v.open
			h := open(t, c.cfg)
			s := withSecrets(spec("true"))
			err := h.Start(t.Context(), s)
			if c.opens {
				if err != nil {
					t.Fatal(err)
				}
				wantStatus(t, h.ended(s.Command), exec.Success)
				return
			}
			if !Sealed(err) || Crossed(err) {
				t.Fatalf("%v", err)
			}
			if _, known := h.Ledger().Get(s.Command); known {
				t.Error("it was recorded")
			}
			if _, err := os.Stat(string(h.folder(s.Command))); err == nil {
				t.Error("it has a run folder")
			}
		})
	}
}

func TestCancelledWhileItsSecretsAreOpened(t *testing.T) {
	t.Parallel()
	v := vault{fails: func(int32) error { return fleet.Errorf(fleet.Unavailable, "not yet") }}
	h := open(t, Config{Secret: v.open, secretPause: time.Millisecond})
	s := withSecrets(spec("true"))
	failed := make(chan error)
	go func() { failed <- h.Start(t.Context(), s) }()
	until(t, "it was asked", func() bool { return v.asked.Load() > 1 })
	if err := h.Cancel(s.Command); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("%v", err)
	}
	wantStatus(t, h.ended(s.Command), exec.Cancelled)
}

// TestSecretsThatNoRunTakes: values that no environment can hold, and plans that refer to what is not there.
func TestSecretsThatNoRunTakes(t *testing.T) {
	t.Parallel()
	value := []byte("x")
	h := open(t, Config{Secret: func(context.Context, []byte) ([]byte, error) { return value, nil }})
	for _, bad := range [][]byte{[]byte("a\x00b"), make([]byte, exec.MaxSecretValues/2+1)} {
		value = bad
		if err := h.Start(t.Context(), withSecrets(spec("true"))); !Sealed(err) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	value = []byte("x")
	for _, f := range []steps.Filled{{Name: "", Parts: nil}, {Name: "A=B"}, {Name: "A", Parts: []steps.Part{{Secret: 3}}}, {Name: "A", Parts: []steps.Part{{Text: "\x00"}}}} {
		s := withSecrets(spec("true"))
		s.EnvSecrets = []steps.Filled{f}
		if err := h.Start(t.Context(), s); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if err := open(t, Config{}).Start(t.Context(), withSecrets(spec("true"))); !Sealed(err) {
		t.Errorf("without anybody who opens secrets: %v", err)
	}
}

// A supervisor goes on with what it has when the agent restarts; behind a restart of the host the agent opens the secrets
// once more.
func TestSecretsBehindARestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fails func(n int32) error
		want  exec.Status
		text  string
	}{
		"opened again": {func(n int32) error {
			if n == 3 || n == 4 { // the first two were before the restart
				return fleet.Errorf(fleet.Unavailable, "no network yet")
			}
			return nil
		}, exec.Success, ""},
		"denied now": {func(n int32) error {
			if n > 2 {
				return fleet.Errorf(fleet.Denied, "retagged")
			}
			return nil
		}, exec.Failed, "its secrets cannot be opened again: retagged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var host rebooter
			v := vault{fails: c.fails}
			h := open(t, Config{Reboot: host.reboot, boot: "first", Secret: v.open, secretPause: time.Millisecond})
			gate, witness := fifo(t), filepath.Join(t.TempDir(), "witness")
			s := withSecrets(document(sh("read x < "+gate+`; echo "$A"`), rebootOnce(t), sh(`echo "$B"; echo ran >> `+witness)))
			h.start(s)
			h.hasStarted(s.Command)
			h = h.reopen()
			if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
				t.Fatal(err)
			}
			until(t, "the host is asked", func() bool { return host.asked.Load() >= 1 })
			if n := v.asked.Load(); n != 2 {
				t.Fatalf("%d secrets were opened before the restart", n)
			}
			searchFiles(t, h.cfg.Dir)
			h.Close()
			cfg := h.cfg
			cfg.boot = "second"
			h = open(t, cfg)
			got := h.ended(s.Command)
			if got.Status != c.want || !strings.Contains(got.Detail+statusesDetail(got), c.text) {
				t.Fatalf("%+v", got)
			}
			if _, err := os.Stat(witness); (err == nil) != (c.want == exec.Success) {
				t.Errorf("the last step: %v", err)
			}
			out := h.text(s.Command, Stdout)
			if c.want == exec.Success && out != "****\nonce\nagain\nkept\n****\n" {
				t.Errorf("%q", out)
			}
			shows(t, "stdout", []byte(out))
			searchFiles(t, h.cfg.Dir)
		})
	}
}

func statusesDetail(r Result) string {
	var out []string
	for _, s := range r.Steps {
		out = append(out, s.Detail)
	}
	return strings.Join(out, " ")
}

// An order that is opened for one step's process leaves the order itself as it was: that may be written down.
func TestAnOrderIsOpenedForOneProcess(t *testing.T) {
	o := makeOrder(withSecrets(document(sh("a"), sh("b"))), account.Account{}, false, "")
	opened, err := o.opened(1, planted)
	if err != nil || !strings.Contains(strings.Join(opened.stepEnvironment(opened.Plan.Steps[1]), " "), "C=u:"+string(planted[0])+"@h") {
		t.Fatalf("%q, %v", opened.Plan.Steps[1].Env, err)
	}
	shows(t, "the order", cage.SealNote(o))
	if len(opened.Plan.Steps[0].Env) > 0 {
		t.Error("another step was opened, too")
	}
}

// What a supervisor says of a run is masked, whoever made up the words.
func TestDetailsAreMasked(t *testing.T) {
	s := &supervision{mask: newMasker(planted), began: time.Now()}
	n := s.seal(endNote{Detail: "cannot run " + string(planted[0]) + " in /: no such file"})
	if n.Detail != "cannot run **** in /: no such file" {
		t.Error(n.Detail)
	}
	s.o.Plan = plain("true")
	long := &supervision{mask: s.mask, began: time.Now()}
	n = long.seal(endNote{Detail: strings.Repeat("x", exec.MaxReason-5) + string(planted[0])})
	shows(t, "a detail that is cut", []byte(n.Detail))
}

// No process of a run that has secrets is dumped, into a file or a pipe; of one without, the host's own limit holds.
func TestNoCoreOfARunWithSecrets(t *testing.T) {
	t.Parallel()
	var v vault
	h := open(t, Config{Secret: v.open})
	s := withSecrets(spec("cat /proc/self/limits"))
	h.run(s)
	if out := h.text(s.Command, Stdout); !noCore([]byte(out)) {
		t.Errorf("limits are\n%s", out)
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &own); err != nil {
		t.Fatal(err)
	}
	own.Cur = own.Max
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &own); err != nil {
		t.Fatal(err)
	}
	s = spec("cat /proc/self/limits")
	h.run(s)
	if out := h.text(s.Command, Stdout); own.Max > 1 && noCore([]byte(out)) {
		t.Error("a run without secrets lost its core files")
	}
}

// TestAKilledActLeavesNoKeys: what it had for tools in files is removed when its run has ended, by the supervisor or, where
// that is gone too, by the agent; no other run's is.
func TestAKilledActLeavesNoKeys(t *testing.T) {
	t.Parallel()
	left := func(command fleet.UUID) (out []string) {
		for _, parent := range steps.PrivateParents() {
			found, err := filepath.Glob(filepath.Join(parent, "muster-act-"+command.String()+"-*"))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, found...)
		}
		return out
	}
	forget := func(s Spec) {
		t.Cleanup(func() {
			for _, path := range left(s.Command) {
				os.RemoveAll(path)
			}
		})
	}
	own := "muster-act-$MUSTER_COMMAND_ID-$(printf %s \"$MUSTER_DOWNLOADS\" | tail -c 150 | tr / _)-1"
	leave := "for d in " + strings.Join(steps.PrivateParents(), " ") + "; do mkdir -p $d/" + own + "/git; done; echo key > $d/" + own + "/key"

	h := open(t, Config{})
	other := document(sh(leave+"; read x < "+fifo(t)), sh("true"))
	forget(other)
	h.start(other)
	until(t, "another run has its folders", func() bool { return len(left(other.Command)) == len(steps.PrivateParents()) })
	s := document(sh(leave+"; kill -9 $$"), sh("true"))
	forget(s)
	wantStatus(t, h.run(s), exec.Failed)
	if found := left(s.Command); len(found) > 0 {
		t.Errorf("left are %q", found)
	}
	if len(left(other.Command)) != len(steps.PrivateParents()) {
		t.Error("those of another run are gone, too")
	}
	unix.Kill(supervisorOf(t, h, other.Command), unix.SIGKILL)
	wantStatus(t, h.ended(other.Command), exec.Unknown)
	if found := left(other.Command); len(found) > 0 {
		t.Errorf("with the supervisor killed, left are %q", found)
	}
}

// Two agents of one machine may run the same command; what ends with one run is not the other's.
func TestPrivateFoldersOfAnotherAgentStay(t *testing.T) {
	t.Parallel()
	parent, command := steps.PrivateParents()[0], fleet.UUID{0xfe, byte(os.Getpid()), byte(os.Getpid() >> 8)}.String()
	var dirs []string
	for _, downloads := range []string{"/var/lib/one/downloads", "/var/lib/two/downloads"} {
		dir, err := os.MkdirTemp(parent, steps.PrivatePrefix(command, downloads))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		dirs = append(dirs, dir)
	}
	if err := removePrivate(command, "/var/lib/one/downloads"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dirs[0]); !os.IsNotExist(err) {
		t.Errorf("its own is there: %v", err)
	}
	if _, err := os.Lstat(dirs[1]); err != nil {
		t.Errorf("the other's is gone: %v", err)
	}
}
