package lan

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// founded brings up a lan with a fleet on it.
func founded(t *testing.T, hosts int) *Lan {
	t.Helper()
	name := strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
	l := up(t, Options{Name: lanName(name[:min(len(name), 14)]), Hosts: hosts, Bin: testBin(t)})
	must(t, l.Found(t.Context()))
	must(t, l.Join(t.Context()))
	must(t, l.Settled(t.Context()))
	return l
}

// TestAgents lets every fault of a host happen to agents of a fleet of five: three voters, and two plain nodes that the
// faults happen to.
func TestAgents(t *testing.T) {
	t.Parallel()
	l := founded(t, 5)
	a, b := plain(t, l)
	sees := func(t *testing.T, online int) {
		t.Helper()
		eventually(t, fmt.Sprintf("n1 sees %d nodes", online), func() bool {
			s, err := l.Host("n1").Status(t.Context())
			return err == nil && s.Online == online
		})
	}
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"a host is a host", func(t *testing.T) { aHost(t, l, a) }},
		{"orphans are reaped", func(t *testing.T) { orphans(t, a) }},
		{"kill, and what it started goes on", func(t *testing.T) { killed(t, l, a) }},
		{"stop and restart", func(t *testing.T) {
			must(t, a.Stop())
			if a.Running() || a.PID() != 0 {
				t.Error("it runs")
			}
			must(t, a.Start())
			before := a.PID()
			must(t, a.Restart())
			if now := a.PID(); now == before || now == 0 {
				t.Errorf("process %d, then %d", before, now)
			}
		}},
		{"pause", func(t *testing.T) {
			must(t, a.Pause())
			sees(t, 4)
			if !a.Running() {
				t.Error("a paused agent does not run")
			}
			must(t, a.Resume())
			sees(t, 5)
		}},
		{"cut", func(t *testing.T) {
			must(t, l.Part(a, b))
			sees(t, 3)
			ctx, stop := context.WithTimeout(t.Context(), 50*nap)
			defer stop()
			if err := l.Settled(ctx); err == nil {
				t.Error("a fleet in two parts has settled")
			}
			must(t, l.Heal())
			sees(t, 5)
		}},
		{"move", func(t *testing.T) {
			must(t, a.Move(netip.MustParseAddr("10.77.3.3")))
			eventually(t, "the fleet sees it at its new address", func() bool {
				return strings.Contains(l.Host("n1").Muster(t.Context(), "node", "show", a.Name()).Stdout, "10.77.3.3:7980")
			})
			sees(t, 5)
			works(t, l, a)
		}},
		{"full disk", func(t *testing.T) {
			must(t, a.FillDisk())
			if r := order(t, l, a, "true"); r.Code != 1 || !strings.Contains(r.Stdout+r.Stderr, "no room on the disk") {
				t.Errorf("%+v", r)
			}
			must(t, a.FreeDisk())
			works(t, l, a)
		}},
		{"read-only disk", func(t *testing.T) { readOnly(t, l, a) }},
		{"clock", func(t *testing.T) { clock(t, l, a) }},
		{"limits", func(t *testing.T) { limits(t, l, a) }},
		{"power cut", func(t *testing.T) { powerCut(t, l, a) }},
		{"reboot", func(t *testing.T) { reboot(t, l, a) }},
		{"documents", func(t *testing.T) { documents(t, l, a) }},
		{"power cut of all", func(t *testing.T) {
			must(t, l.each(l.Hosts(), (*Host).PowerCut))
			must(t, l.each(l.Hosts(), func(h *Host) error { return h.Launch() }))
			must(t, l.Settled(t.Context()))
			works(t, l, a)
		}},
		{"another process sees the same", func(t *testing.T) {
			must(t, l.Cut([]*Host{a}, []*Host{b}))
			other, err := Open(l.Dir())
			must(t, err)
			if other.Host(a.Name()).PID() != a.PID() || other.Host(a.Name()).Addr() != a.Addr() || len(other.Hosts()) != 5 {
				t.Error("it sees something else")
			}
			must(t, other.Settled(t.Context()))
			must(t, l.Heal())
		}},
	} {
		t.Run(test.name, test.run)
		if t.Failed() {
			return
		}
	}
}

// plain returns two hosts that are no voters.
func plain(t *testing.T, l *Lan) (a, b *Host) {
	t.Helper()
	s, err := l.Host("n1").Status(t.Context())
	must(t, err)
	var out []*Host
	for _, h := range l.Hosts() {
		votes := false
		for _, v := range s.Quorum.Voters {
			votes = votes || v.Name == h.Name()
		}
		if !votes {
			out = append(out, h)
		}
	}
	if len(out) != 2 {
		t.Fatalf("%d hosts are no voters", len(out))
	}
	return out[0], out[1]
}

// order runs a command on one node.
func order(t *testing.T, l *Lan, on *Host, line string) Result {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), Patience)
	defer stop()
	return l.Host("n1").Muster(ctx, "run", "--target", on.Name(), "--", line)
}

func works(t *testing.T, l *Lan, on *Host) {
	t.Helper()
	var r Result
	eventually(t, on.Name()+" works", func() bool {
		r = order(t, l, on, "echo fine")
		return r.Code == 0 && strings.Contains(r.Stdout, "fine")
	})
}

// aHost looks at what a shell on a host sees.
func aHost(t *testing.T, l *Lan, h *Host) {
	say := func(line string) string {
		out, err := h.Command(t.Context(), "sh", "-c", line).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := say("hostname; ls /tmp; cat /proc/1/cmdline | tr '\\0' ' ' | cut -d' ' -f1"); got != h.Name()+"\n"+title(l.Name(), h.Name()) {
		t.Errorf("the host is %q", got)
	}
	if got := say("muster status -o json"); !json.Valid([]byte(got)) {
		t.Errorf("muster says %s", got)
	}
	if got := say("getent hosts n1 | cut -d' ' -f1"); got != Addr(1).String() {
		t.Errorf("n1 is %s", got)
	}
	say("echo mine > /srv/of-" + l.Name())
	if _, err := os.Stat("/srv/of-" + l.Name()); err == nil {
		t.Error("what a host writes is on the machine")
	}
	path, err := h.Path("/srv/of-" + l.Name())
	must(t, err)
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "mine\n" {
		t.Errorf("from here it is %q, %v", raw, err)
	}
	if got := l.Host("n1").Command(t.Context(), "cat", "/srv/of-"+l.Name()).Run(); got == nil {
		t.Error("another host has the file")
	}
}

func orphans(t *testing.T, h *Host) {
	must(t, h.Command(t.Context(), "sh", "-c", "(sleep 0.1 & sleep 0.1 &)").Run())
	eventually(t, "orphans are reaped", func() bool {
		all, err := h.Processes()
		must(t, err)
		return !slices.ContainsFunc(all, func(p Process) bool { return len(p.Argv) == 0 || strings.Join(p.Argv, " ") == "sleep 0.1" })
	})
}

// sleeper finds a process of a host by its last argument.
func sleeper(t *testing.T, h *Host, length string) bool {
	t.Helper()
	all, err := h.Processes()
	must(t, err)
	return slices.ContainsFunc(all, func(p Process) bool { return len(p.Argv) > 1 && p.Argv[len(p.Argv)-1] == length })
}

func killed(t *testing.T, l *Lan, h *Host) {
	r := l.Host("n1").Muster(t.Context(), "run", "--async", "--target", h.Name(), "--", "exec sleep 4711")
	if r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	eventually(t, "the run runs", func() bool { return sleeper(t, h, "4711") })
	must(t, h.Kill())
	if h.Running() || !sleeper(t, h, "4711") {
		t.Error("the agent runs, or its run does not")
	}
	must(t, h.Kill()) // it is idempotent
	must(t, h.Start())
	works(t, l, h)
}

func readOnly(t *testing.T, l *Lan, h *Host) {
	touch := func() error { return h.Command(t.Context(), "touch", "/var/lib/muster/touched").Run() }
	must(t, h.ReadOnly(true)) // the agent has files open
	if touch() == nil {
		t.Error("the disk takes writes")
	}
	if r := l.Host("n1").Muster(t.Context(), "run", "--async", "--target", h.Name(), "--", "echo ran >> /srv/read-only"); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	eventually(t, "the agent says what is wrong", func() bool {
		raw, err := os.ReadFile(h.Log())
		return err == nil && strings.Contains(string(raw), "read-only file system")
	})
	ran := func() string {
		raw, _ := os.ReadFile(filepath.Join(h.root(), "srv/read-only"))
		return string(raw)
	}
	if ran() != "" {
		t.Error("a run was begun that could not be kept")
	}
	must(t, h.ReadOnly(false))
	must(t, touch())
	eventually(t, "the run is made up for", func() bool { return ran() == "ran\n" })
	works(t, l, h)
	must(t, h.Stop())
	must(t, h.ReadOnly(true)) // nothing is open
	if touch() == nil {
		t.Error("the disk takes writes")
	}
	must(t, h.ReadOnly(false))
	if h.Running() {
		t.Error("an agent was started that did not run")
	}
	must(t, h.Start())
	must(t, os.Remove(filepath.Join(h.root(), "var/lib/muster/touched")))
	works(t, l, h)
}

func clock(t *testing.T, l *Lan, h *Host) {
	off := func() time.Duration {
		s, err := h.Status(t.Context())
		must(t, err)
		return s.ClockOff
	}
	for _, offset := range []time.Duration{time.Hour, -10 * 365 * 24 * time.Hour} {
		must(t, h.Clock(offset))
		eventually(t, "the clock is off", func() bool { return (off() - offset).Abs() < time.Minute })
		eventually(t, "it says so", func() bool { return strings.Contains(h.Muster(t.Context(), "status").Stderr, "clock is off by") })
	}
	must(t, h.Clock(0))
	eventually(t, "the clock is right", func() bool { return off() == 0 })
	works(t, l, h)
}

func limits(t *testing.T, l *Lan, h *Host) {
	must(t, h.Limit(Limits{Files: 64, Memory: 1 << 30, Processes: 60}))
	must(t, h.Restart())
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", h.PID()))
	must(t, err)
	for _, want := range [][]string{{"Max open files", "64"}, {"Max data size", fmt.Sprint(1 << 30)}} {
		line := string(raw)[strings.Index(string(raw), want[0]):]
		if fields := strings.Fields(strings.TrimPrefix(line, want[0])); fields[0] != want[1] {
			t.Errorf("%s: %s", want[0], fields[0])
		}
	}
	works(t, l, h)
	if r := order(t, l, h, "for i in $(seq 100); do sleep 5 & done"); r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, "fork") {
		t.Errorf("a hundred processes were more than sixty: %+v", r)
	}
	works(t, l, h)
	must(t, h.Limit(Limits{Memory: 4 << 20}))
	must(t, h.Stop())
	if err := h.Start(); err == nil {
		t.Error("an agent runs in 4 MiB")
	}
	must(t, h.Limit(Limits{}))
	must(t, h.Start())
	works(t, l, h)
}

func powerCut(t *testing.T, l *Lan, h *Host) {
	must(t, h.Command(t.Context(), "sh", "-c", "sleep 4712 > /dev/null 2>&1 & echo kept > /var/lib/muster/note").Run())
	spaces := spacesOf(t, h)
	must(t, h.PowerCut())
	must(t, h.PowerCut()) // it is idempotent
	gone(t, spaces)
	if _, err := h.Processes(); err == nil || h.On() || h.Running() {
		t.Error("the host is on")
	}
	if r := h.Muster(t.Context(), "status"); r.Code != -1 || !strings.Contains(r.Stderr, "switched off") {
		t.Errorf("%+v", r)
	}
	must(t, h.Start())
	if out, err := h.Command(t.Context(), "cat", "/var/lib/muster/note").Output(); err != nil || string(out) != "kept\n" {
		t.Errorf("its disk has %q, %v", out, err)
	}
	must(t, os.Remove(filepath.Join(h.root(), "var/lib/muster/note")))
	works(t, l, h)
}

func reboot(t *testing.T, l *Lan, h *Host) {
	boot := func() string {
		out, err := h.Command(t.Context(), "cat", "/proc/sys/kernel/random/boot_id").Output()
		must(t, err)
		return string(out)
	}
	before := boot()
	if again := boot(); again != before {
		t.Errorf("one boot has two names: %s, %s", before, again)
	}
	agent := h.PID()
	_ = h.Command(t.Context(), "shutdown", "-r", "now").Run() // it ends with all others
	must(t, h.Rebooted(t.Context()))
	if boot() == before || h.PID() == agent {
		t.Error("it is the same boot")
	}
	works(t, l, h)
}

func TestFounding(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Name: lanName("one"), Hosts: 1, Bin: testBin(t)})
	if err := l.Hosts()[0].Start(); err == nil || !strings.Contains(err.Error(), "holds no host") {
		t.Errorf("an agent without a fleet: %v", err)
	}
	must(t, l.Found(t.Context()))
	must(t, l.Join(t.Context()))
	must(t, l.Settled(t.Context()))
	if _, err := os.Stat(l.Identity()); err != nil {
		t.Error(err)
	}
	if err := l.Found(t.Context()); err == nil {
		t.Error("a fleet was founded twice")
	}
}
