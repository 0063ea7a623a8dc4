package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{superviseWord, sessionWord, copyWord, actWord}, os.Args[1]) {
		main() // of an agent that a script has started
	}
	// What a script begins in its background ignores Ctrl-C, and its programs would inherit that from a door that is a part
	// of this process; supervisors see to it themselves.
	if signal.Ignored(syscall.SIGINT) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
	}
	testscript.Main(m, map[string]func(){"muster": main})
}

// TestScripts runs the scripts in testdata. Beside testscript's own commands they have
//
//	fleet N [lost=a,b] [left=c]   a fleet of N nodes behind an agent at $WORK/agent.sock; the operator is alice
//	exits CODE ARGS…              muster ARGS in this process, which must exit with CODE
//	each FROM TO ARGS…            muster ARGS for every number, which stands for N in them; each must succeed
//	policy FILE                   the fleet's policy from now on
//	elsewhere                     the agent is not on this host: all goes by --via from then on
//	release FILE VERSION ARCH [unsigned]   a release file; $RELEASE_KEY signs it
//	level                         the fleet's level becomes the newest
//	doors                         all nodes take sessions; their programs run here
//	nodes WHAT NAME…              WHAT becomes of nodes: lost, back, full (takes no key), room; or of web01: cut, joined
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, scriptParams("testdata"))
}

// scriptParams are those of the scripts in a folder.
func scriptParams(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("MUSTER_DATA_DIR", env.WorkDir)
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("USER", "alice")
			env.Values["t"] = env.T()
			env.Values["town"] = new(*town)
			return nil
		},
		Condition: func(name string) (bool, error) { return false, notElsewhere(name) },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fleet":  scriptFleet,
			"exits":  scriptExits,
			"nodes":  scriptNodes,
			"policy": scriptPolicy,
			"each":   scriptEach,
			"doors":  scriptDoors,

			"release": scriptRelease,
			"level":   scriptLevel,

			"elsewhere": scriptElsewhere,
		},
	}
}

func scriptFleet(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	w, err := newTown(n)
	ts.Check(err)
	for _, arg := range args[1:] {
		what, names, _ := strings.Cut(arg, "=")
		w.setStatus(map[string]fleet.Status{"lost": fleet.ConnectionLost, "left": fleet.Left}[what], strings.Split(names, ",")...)
	}
	w.open(ts.Value("t").(testing.TB), ts.Getenv("WORK"), ts.Getenv("HOME"))
	*ts.Value("town").(**town) = w
	if ts.Getenv("FROM_ELSEWHERE") != "" {
		scriptElsewhere(ts, false, nil)
	}
}

// scriptElsewhere leaves the host on which the agent is: from then on all goes by --via.
func scriptElsewhere(ts *testscript.TestScript, _ bool, _ []string) {
	w := *ts.Value("town").(**town)
	ts.Setenv("MUSTER_VIA", w.newDoor(ts.Value("t").(testing.TB), w.byName("web01")).end.LocalAddr().String())
	ts.Setenv("MUSTER_SOCKET", filepath.Join(ts.Getenv("WORK"), "none.sock"))
}

func scriptEach(ts *testscript.TestScript, _ bool, args []string) {
	from, err := strconv.Atoi(args[0])
	ts.Check(err)
	to, err := strconv.Atoi(args[1])
	ts.Check(err)
	for ; from <= to; from++ {
		one := []string{"0"}
		for _, arg := range args[2:] {
			one = append(one, strings.ReplaceAll(arg, "N", strconv.Itoa(from)))
		}
		scriptExits(ts, false, one)
	}
}

func scriptDoors(ts *testscript.TestScript, _ bool, _ []string) {
	(*ts.Value("town").(**town)).openDoors(ts.Value("t").(testing.TB))
}

func scriptPolicy(ts *testscript.TestScript, _ bool, args []string) {
	w := *ts.Value("town").(**town)
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := auth.SignCharter(w.charter(), w.header(0), auth.CharterPutPolicy, auth.PutPolicy{Policy: ts.ReadFile(args[0])}, w.root.signer())
	ts.Check(w.act(auth.ActCharter, entry))
}

func scriptNodes(ts *testscript.TestScript, _ bool, args []string) {
	w := *ts.Value("town").(**town)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch what, names := args[0], args[1:]; what {
	case "lost":
		w.setStatus(fleet.ConnectionLost, names...)
	case "back":
		w.setStatus(fleet.Online, names...)
		w.tendKeyrings()
	case "full", "room":
		for _, name := range names {
			w.vault.refuses[name] = what == "full"
		}
	case "cut", "joined":
		w.vault.cut = what == "cut"
	default:
		ts.Fatalf("nodes %s: lost, back, full, room, cut or joined", what)
	}
}

func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	getenv := ts.Getenv
	if ts.Getenv("FROM_ELSEWHERE") != "" && onlyOnTheHost(args[1:]) {
		getenv = func(name string) string {
			if name == "MUSTER_VIA" || name == "MUSTER_SOCKET" {
				return ""
			}
			return ts.Getenv(name)
		}
	}
	a := &app{
		stdin: strings.NewReader(""), stdout: ts.Stdout(), stderr: ts.Stderr(), getenv: getenv, euid: os.Geteuid(),
		interrupts: func() (<-chan os.Signal, func()) { return nil, func() {} },
	}
	if got := runApp(ts.Value("t").(testing.TB).Context(), a, args[1:]); got != want {
		ts.Fatalf("muster %s exits %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// TestInterrupt: Ctrl-C once leaves the command alone, twice cancels it and shows the end, three times goes away.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for presses, want := range map[int]struct {
		code int
		said string
	}{
		2: {1, "2 nodes succeeded, 2 failed"},
		3: {5, "not watched any more: muster command watch "},
	} {
		t.Run(strconv.Itoa(presses), func(t *testing.T) {
			t.Parallel()
			w, err := newTown(2)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			w.open(t, dir, dir)
			pressed := make(chan os.Signal, presses)
			for range presses {
				pressed <- os.Interrupt
			}
			var out, errs strings.Builder
			a := &app{
				stdin: strings.NewReader(""), stdout: &out, stderr: &errs, euid: os.Geteuid(),
				getenv:     func(name string) string { return map[string]string{"HOME": dir, "MUSTER_DATA_DIR": dir}[name] },
				interrupts: func() (<-chan os.Signal, func()) { return pressed, func() {} },
			}
			code := runApp(t.Context(), a, []string{"run", "--all", "--", "hang"})
			if code != want.code || !strings.Contains(errs.String(), want.said) {
				t.Errorf("exit %d and %q, want %d and %q; %s", code, errs.String(), want.code, want.said, out.String())
			}
			if !strings.Contains(errs.String(), "the command goes on (muster command watch ") {
				t.Errorf("the first Ctrl-C says %q", errs.String())
			}
		})
	}
}
