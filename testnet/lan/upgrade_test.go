package lan

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// ownProgram gives a host a program of its own, as real hosts have it.
func ownProgram(t *testing.T, h *Host) {
	t.Helper()
	must(t, h.PowerOn())
	says(t, h, `mkdir -p /opt/muster && { [ -e /opt/muster/muster ] || cp -a /run/lan/bin/. /opt/muster/; } && mount --bind /opt/muster /run/lan/bin`)
}

// upgradable brings up a fleet whose hosts have programs of their own, of the old version, and take releases.
func upgradable(t *testing.T, hosts int) *Lan {
	t.Helper()
	all, err := builds()
	must(t, err)
	name := strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
	l := up(t, Options{Name: lanName(name[:min(len(name), 14)]), Hosts: hosts, Bin: all[oldVersion]})
	for _, h := range l.Hosts() {
		ownProgram(t, h)
	}
	must(t, l.Found(t.Context()))
	must(t, l.Join(t.Context()))
	must(t, l.Settled(t.Context()))
	return l
}

// takesReleases says whose releases the fleet takes.
func takesReleases(t *testing.T, l *Lan) {
	t.Helper()
	key := auth.FormatReleaseKey(releaseKey().Public())
	eventually(t, "the fleet takes releases", func() bool {
		return l.Host("n1").Muster(t.Context(), "setting", "put", "release.keys", key).Code == 0
	})
}

// version asks a host's agent.
func version(t *testing.T, h *Host) string {
	t.Helper()
	s, err := h.Status(t.Context())
	if err != nil {
		return "none: " + err.Error()
	}
	return s.Version
}

// have waits until hosts have a version.
func have(t *testing.T, want string, hosts ...*Host) {
	t.Helper()
	for _, h := range hosts {
		eventually(t, h.Name()+" has version "+want, func() bool { return version(t, h) == want })
		if got := says(t, h, "muster version -o name"); got != want {
			t.Errorf("the program of %s is version %s, want %s", h.Name(), got, want)
		}
		if left := says(t, h, "ls -A /opt/muster | grep '^.muster' || :"); left != "" {
			t.Errorf("beside the program of %s lies %s", h.Name(), left)
		}
	}
}

// TestUpgrade types docs/upgrading.md on a fleet that works all the while; then what must not be installed is refused, and a build
// that is no good goes to one host, is taken back there, and goes to no other.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	l := upgradable(t, 4)
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"page", func(t *testing.T) { upgradingPage(t, l) }},
		{"refused", func(t *testing.T) { refusedReleases(t, l) }},
		{"no good", func(t *testing.T) { upgradedToNoGood(t, l) }},
	} {
		t.Run(test.name, test.run)
		if t.Failed() {
			return
		}
	}
}

// TestUpgradeTwenty upgrades 20 hosts at the usual pace, under load.
func TestUpgradeTwenty(t *testing.T) {
	if os.Getenv("MUSTER_LONG") == "" {
		t.Skip("takes minutes: MUSTER_LONG=1")
	}
	t.Parallel()
	l := upgradable(t, 20)
	takesReleases(t, l)
	upgradedUnderLoad(t, l, func() {
		r := l.Host("n1").Muster(t.Context(), "upgrade", "--to", aRelease(t, l, newVersion, releaseKey()), "--all")
		t.Logf("%s%s", r.Stderr, r.Stdout)
		if r.Code != 0 {
			t.Errorf("exit %d", r.Code)
		}
	})
	have(t, newVersion, l.Hosts()...)
}

// upgradingPage types the page, under load.
func upgradingPage(t *testing.T, l *Lan) {
	n1 := l.Host("n1")
	for name, file := range map[string]string{
		"muster-1.2.0.release": aRelease(t, l, newVersion, releaseKey()), "muster-1.1.0.release": aRelease(t, l, oldVersion, releaseKey()),
		"unsigned.release": aRelease(t, l, newVersion),
	} {
		must(t, os.Link(filepath.Join(l.shared(), filepath.Base(file)), filepath.Join(l.shared(), name)))
	}
	eventually(t, "the fleet's level allows it", func() bool {
		s, err := n1.Status(t.Context())
		return err == nil && s.Quorum.Level.Level >= fleet.LevelReleases
	})
	upgradedUnderLoad(t, l, func() {
		typePage(t, n1, "upgrading.md", "KEY="+auth.FormatReleaseKey(releaseKey().Public()))
	})
	have(t, newVersion, l.Host("n1"), l.Host("n2"), l.Host("n4"))
	have(t, oldVersion, l.Host("n3"))
}

// typePage types the console blocks of a page on a host, and wants it to say what the page says.
func typePage(t *testing.T, h *Host, name string, env ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	must(t, err)
	inside := false
	var command string
	var want []string
	run := func() {
		if command == "" {
			return
		}
		typeLine(t, h, command, want, env)
		command, want = "", nil
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		typed, begins := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			run()
			inside = line == "```console"
		case !inside:
		case begins:
			run()
			command = typed
		default:
			want = append(want, line)
		}
	}
}

func typeLine(t *testing.T, h *Host, line string, want, env []string) {
	t.Helper()
	line, code, _ := strings.Cut(line, "# exits ")
	cmd := h.Command(t.Context(), "sh", "-c", "cd /run/lan; exec 2>&1; "+line)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || strconv.Itoa(exit.ExitCode()) != code) || err == nil && code != "" {
		t.Fatalf("%s: %v, want exit %q\n%s", line, err, code, out)
	}
	if !pagePattern(want).Match(out) {
		t.Fatalf("%s says\n%s\nbut the page has\n%s", line, out, strings.Join(want, "\n"))
	}
}

// pagePattern matches what lines of a page stand for: … is any text, alone it is any lines; columns and empty lines are as they come.
func pagePattern(want []string) *regexp.Regexp {
	text := `^\n*`
	for _, line := range want {
		if line == "…" {
			text += `(?:.*\n)*?`
			continue
		}
		text += strings.ReplaceAll(regexp.MustCompile(` {2,}`).ReplaceAllString(regexp.QuoteMeta(line), " +"), "…", ".*") + `\n+`
	}
	return regexp.MustCompile(text + `$`)
}

// refusedReleases asks for what no host may take.
func refusedReleases(t *testing.T, l *Lan) {
	small := filepath.Join(binDir(), "small") // nobody comes to run it
	must(t, os.WriteFile(small, []byte("#!/bin/false\n"), 0o755))
	stranger := auth.NewSigner(make([]byte, 64)) // whoever that is
	n1 := l.Host("n1")
	raw, err := os.ReadFile(filepath.Join(l.shared(), filepath.Base(aRelease(t, l, newVersion, releaseKey()))))
	must(t, err)
	raw[len(raw)-100] ^= 1
	must(t, os.WriteFile(filepath.Join(l.shared(), "damaged.release"), raw, 0o600))
	for _, c := range []struct{ file, want string }{
		{releaseOf(t, l, newVersion, "amd64", small), "is not signed"},
		{releaseOf(t, l, newVersion, "amd64", small, stranger), "signed by a stranger"},
		{releaseOf(t, l, newVersion, "arm64", small, releaseKey()), "is amd64, and release 1.2.0 is for arm64"},
		{releaseOf(t, l, "1.0.0", "amd64", small, releaseKey()), "release 1.0.0 is older than 1."},
		{"/run/lan/damaged.release", "damaged"},
		{"/run/lan/bin/muster", "no release file"},
	} {
		if r := n1.Muster(t.Context(), "upgrade", "--to", c.file, "--all"); r.Code == 0 || !strings.Contains(r.Stderr, c.want) {
			t.Errorf("%s: %+v", c.file, r)
		}
	}
	// A release that lies about itself gets as far as the first host.
	lies := filepath.Join(binDir(), "liar")
	must(t, os.WriteFile(lies, []byte("#!/bin/sh\necho '{\"version\": \"1.2.0\", \"platform\": \"linux/amd64\", \"level\": 2}'\n"), 0o755))
	liar := releaseOf(t, l, "1.2.1", "amd64", lies, releaseKey())
	if r := n1.Muster(t.Context(), "upgrade", "--to", liar, "--target", "not n3"); r.Code != 4 || !strings.Contains(r.Stdout+r.Stderr, "says that it is version 1.2.0, and its release says 1.2.1") {
		t.Errorf("a release that lies: %+v", r)
	}
	have(t, newVersion, l.Host("n1"), l.Host("n2"), l.Host("n4"))
	if r := n1.Muster(t.Context(), "run", "--target", "n2", "--doc", "AWS-UpdateSSMAgent", "--", "version="+newVersion); r.Code != 0 || !strings.Contains(r.Stdout, newVersion+" runs here already") {
		t.Errorf("%+v", r)
	}
}

// load gives commands all the while, each of which leaves a line where it ran.
type load struct {
	stop  chan struct{}
	group sync.WaitGroup
	mu    sync.Mutex
	given []string // that the fleet took
}

// loaded starts it: from a host, at all.
func loaded(t *testing.T, from *Host) *load {
	w := &load{stop: make(chan struct{})}
	w.group.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-w.stop:
				return
			case <-time.After(300 * time.Millisecond):
			}
			word := fmt.Sprintf("load-%d", n)
			r := from.Muster(t.Context(), "run", "--all", "--async", "--yes", "--timeout", "2m", "-o", "json", "--", "sleep 1; echo "+word+" >> /srv/load")
			if r.Code == 0 {
				w.mu.Lock()
				w.given = append(w.given, word)
				w.mu.Unlock()
			} else {
				t.Logf("%s was not taken: %s", word, r.Stderr)
			}
		}
	})
	return w
}

// end stops it, and looks whether every host did every command once.
func (w *load) end(t *testing.T, hosts ...*Host) {
	t.Helper()
	close(w.stop)
	w.group.Wait()
	if len(w.given) == 0 {
		t.Error("no command was given")
	}
	for _, h := range hosts {
		var lines []string
		eventually(t, h.Name()+" has done all", func() bool {
			lines = strings.Fields(says(t, h, "cat /srv/load"))
			return len(lines) >= len(w.given)
		})
		did := map[string]int{}
		for _, line := range lines {
			did[line]++
		}
		for _, word := range w.given {
			if did[word] != 1 {
				t.Errorf("%s did %s %d times", h.Name(), word, did[word])
			}
			delete(did, word)
		}
		for word, n := range did { // the fleet took it, and whoever gave it was not told
			if n != 1 {
				t.Errorf("%s did %s %d times", h.Name(), word, n)
			}
		}
	}
	t.Logf("%d commands on each of %d hosts", len(w.given), len(hosts))
}

// upgradedUnderLoad upgrades hosts, with commands all the while and a session, and looks whether all of it is as it should be.
func upgradedUnderLoad(t *testing.T, l *Lan, upgrade func()) {
	t.Helper()
	n1, last := l.Host("n1"), l.Hosts()[len(l.Hosts())-1]
	pids := map[string]int{}
	for _, h := range l.Hosts() {
		pids[h.Name()] = h.PID()
	}
	talk := startTalk(t, n1, last)
	w := loaded(t, n1)
	upgrade()
	w.end(t, l.Hosts()...)
	talk.end(t)
	for _, h := range l.Hosts() {
		if h.PID() != pids[h.Name()] {
			t.Errorf("the agent of %s was process %d, and is %d", h.Name(), pids[h.Name()], h.PID())
		}
		eventually(t, "nobody waits for its parent on "+h.Name(), func() bool { return zombies(h) == 0 })
	}
	must(t, l.Settled(t.Context()))
}

func zombies(h *Host) (n int) {
	pids, err := pidsIn(h.init.pid)
	if err != nil {
		return -1
	}
	for _, pid := range pids {
		if stateOf(pid) == 'Z' {
			n++
		}
	}
	return n
}

// talk is a session that is told lines and says them back.
type talk struct {
	in    *bufio.Writer
	stop  func() error
	out   *bufio.Scanner
	told  int
	quit  chan struct{}
	idle  sync.WaitGroup
	heard []string
}

func startTalk(t *testing.T, from, to *Host) *talk {
	t.Helper()
	cmd := from.Command(t.Context(), "muster", "exec", to.Name(), "--user", "root", "--", "while read line; do echo \"$line\"; done")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &talk{in: bufio.NewWriter(in), out: bufio.NewScanner(out), quit: make(chan struct{})}
	c.stop = func() error {
		must(t, in.Close())
		return cmd.Wait()
	}
	c.idle.Go(func() {
		for {
			select {
			case <-c.quit:
				return
			case <-time.After(50 * time.Millisecond):
				fmt.Fprintf(c.in, "line %d\n", c.told)
				_ = c.in.Flush()
				c.told++
			}
		}
	})
	c.idle.Go(func() {
		for c.out.Scan() {
			c.heard = append(c.heard, c.out.Text())
			if c.heard[len(c.heard)-1] == "over" {
				return
			}
		}
	})
	return c
}

func (c *talk) end(t *testing.T) {
	t.Helper()
	close(c.quit)
	<-time.After(100 * time.Millisecond) // the last line is on its way
	fmt.Fprintln(c.in, "over")
	_ = c.in.Flush()
	c.idle.Wait()
	if err := c.stop(); err != nil {
		t.Errorf("the session ended with %v", err)
	}
	if len(c.heard) != c.told+1 {
		t.Errorf("the session was told %d lines, and said %d", c.told, len(c.heard)-1)
		return
	}
	for i := range c.told {
		if c.heard[i] != fmt.Sprintf("line %d", i) {
			t.Errorf("line %d is %q", i, c.heard[i])
			return
		}
	}
}

// keeper starts the agent of a host again whenever it ends, as service managers do.
func keeper(t *testing.T, h *Host) {
	t.Helper()
	must(t, h.Stop())
	log, err := os.OpenFile(h.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer log.Close()
	cmd := h.Command(t.Context(), "sh", "-c", "while :; do muster agent; sleep 1; done")
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	go func() { _ = cmd.Wait() }()
	eventually(t, "it answers", func() bool { return version(t, h) != "" && !strings.HasPrefix(version(t, h), "none") })
	must(t, h.adopt())
}

// upgradedToNoGood: a build that does not come up is taken back on the first host, and reaches no other.
func upgradedToNoGood(t *testing.T, l *Lan) {
	n1 := l.Host("n1")
	file := aRelease(t, l, badVersion, releaseKey())
	for _, h := range []*Host{l.Host("n2"), l.Host("n4")} {
		says(t, h, "echo fails > /run/bad")
		keeper(t, h)
	}
	must(t, l.Settled(t.Context()))
	r := n1.Muster(t.Context(), "upgrade", "--to", file, "--target", "n2 or n4")
	if r.Code != 4 || !strings.Contains(r.Stdout, "version 1.3.0 was taken back: it was started 3 times") || strings.Count(r.Stdout, "taken back") != 1 {
		t.Errorf("%+v", r)
	}
	have(t, newVersion, l.Host("n2"), l.Host("n4"))
	settledAnew(t, l)
}

// settledAnew is Settled where somebody else has started agents.
func settledAnew(t *testing.T, l *Lan) {
	t.Helper()
	for _, h := range l.Hosts() {
		must(t, h.adopt())
	}
	must(t, l.Settled(t.Context()))
}

// TestUpgradeToNoGood is about builds that are bad in ways that take a minute to see; and about hosts where nobody starts an agent
// again that ended.
func TestUpgradeToNoGood(t *testing.T) {
	if os.Getenv("MUSTER_LONG") == "" {
		t.Skip("takes minutes: MUSTER_LONG=1")
	}
	t.Parallel()
	l := upgradable(t, 6)
	takesReleases(t, l)
	file := aRelease(t, l, badVersion, releaseKey())
	hosts := l.Hosts()[1:]
	for i, c := range []struct {
		how  string
		kept bool // by a service manager
		want string
	}{
		{"exits", false, "it ended, and did not come back"},
		{"exits", true, "taken back"},
		{"hangs", false, "it did not answer for 1m0s"},
		{"hangs", true, "it did not answer for 1m0s"},
		{"blind", false, "after 1m0s it sees 1 of the 6 nodes"},
	} {
		h := hosts[i]
		says(t, h, "echo "+c.how+" > /run/bad")
		if c.kept {
			keeper(t, h)
		}
		r := l.Host("n1").Muster(t.Context(), "upgrade", "--to", file, "--target", h.Name(), "--async", "-o", "json")
		var order struct{ ID string }
		if err := json.Unmarshal([]byte(r.Stdout), &order); err != nil {
			t.Fatalf("%v: %+v", err, r)
		}
		var said string
		eventually(t, h.Name()+", which "+c.how+", says "+c.want, func() bool {
			said = l.Host("n1").Muster(t.Context(), "command", "show", order.ID).Stdout
			return strings.Contains(said, c.want)
		})
		t.Log(said)
		settledAnew(t, l)
	}
	have(t, oldVersion, l.Hosts()...)
	settledAnew(t, l)
}

// TestUpgradeKilled kills the agent, who upgrades it, or both, or cuts the power, at random moments of upgrades. Whatever it was, the
// host has one whole version in the end, and a working agent.
func TestUpgradeKilled(t *testing.T) {
	if os.Getenv("MUSTER_LONG") == "" {
		t.Skip("takes minutes: MUSTER_LONG=1")
	}
	t.Parallel()
	l := upgradable(t, 4)
	takesReleases(t, l)
	n1, victim := l.Host("n1"), l.Host("n4")
	files := map[string]string{oldVersion: aRelease(t, l, oldVersion, releaseKey()), newVersion: aRelease(t, l, newVersion, releaseKey())}
	keeper(t, victim)
	chance := rand.New(rand.NewPCG(7, 7))
	for round := range killRounds {
		to := newVersion
		if version(t, victim) == newVersion {
			to = oldVersion
		}
		ctx, stop := context.WithTimeout(t.Context(), Patience)
		var id struct{ ID string }
		var r Result
		eventually(t, "the upgrade is taken", func() bool {
			r = n1.Muster(ctx, "upgrade", "--to", files[to], "--target", victim.Name(), "--downgrade", "--at-once", "--async", "-o", "json")
			return r.Code == 0 && json.Unmarshal([]byte(r.Stdout), &id) == nil && id.ID != ""
		})
		<-time.After(time.Duration(chance.Int64N(int64(6 * time.Second))))
		what := []string{"agent", "action", "both", "power"}[chance.IntN(4)]
		t.Logf("round %d: to %s, kill %s", round, to, what)
		killIn(t, victim, what)
		n1.Muster(ctx, "command", "watch", id.ID)
		stop()
		t.Logf("round %d: %s", round, strings.TrimSpace(n1.Muster(t.Context(), "command", "show", id.ID, "--node", victim.Name(), "--stdout").Stdout))
		eventually(t, "an agent answers", func() bool { v := version(t, victim); return v == oldVersion || v == newVersion })
		if got := trialEnds(t, victim, 2*Patience); got == "trying" || got == "back" { // it judges itself after two minutes
			t.Fatalf("round %d: the trial is not over: %s", round, got)
		}
		eventually(t, "its program is what it runs", func() bool { return says(t, victim, "muster version -o name") == version(t, victim) })
	}
	settledAnew(t, l)
}

// killRounds is how often something is killed: each may take the two minutes after which an agent judges itself.
const killRounds = 10

// stageOf reads how far the host's trial is.
func stageOf(t *testing.T, h *Host) string {
	t.Helper()
	return says(t, h, `sed -n 's/.*"stage": "\(.*\)".*/\1/p' /var/lib/muster/upgrade 2> /dev/null || :`)
}

// trialEnds waits until the host's trial is over, or for a while, and returns how far it is.
func trialEnds(t *testing.T, h *Host, most time.Duration) (stage string) {
	t.Helper()
	for end := time.Now().Add(most); time.Now().Before(end); <-time.After(time.Second) {
		if stage = stageOf(t, h); stage != "trying" && stage != "back" {
			break
		}
	}
	return stage
}

func killIn(t *testing.T, h *Host, what string) {
	t.Helper()
	if what == "power" {
		must(t, h.PowerCut())
		ownProgram(t, h)
		keeper(t, h)
		return
	}
	for _, word := range map[string][]string{"agent": {"agent"}, "action": {"act"}, "both": {"act", "agent"}}[what] {
		all, err := h.Processes()
		must(t, err)
		for _, p := range all {
			if len(p.Argv) > 1 && p.Argv[1] == word {
				if held, err := hold(p.PID); err == nil {
					_ = held.signal(9)
				}
			}
		}
	}
}
