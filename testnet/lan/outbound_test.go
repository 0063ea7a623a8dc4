package lan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// town is a fleet of which two hosts are hidden: behind a firewall that lets in answers only, and behind NAT that gives every
// flow another port.
type town struct {
	*Lan
	hidden, other *Host // outbound-only
}

// TestOutbound: all that works on other nodes works on hosts that nobody can dial, whatever happens to those through whom they
// are reached.
func TestOutbound(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Name: lanName("outbound"), Hosts: 7, Bin: testBin(t)})
	hosts := l.Hosts()
	must(t, l.Found(t.Context()))
	must(t, l.Join(t.Context(), hosts[1:5]...))
	must(t, l.JoinHidden(t.Context(), hosts[5:]...))
	must(t, l.Settled(t.Context()))
	w := &town{Lan: l, hidden: hosts[5], other: hosts[6]}
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"nobody can dial it", w.nobodyDials},
		{"it is shown", w.shown},
		{"commands", w.commands},
		{"sessions", w.sessions},
		{"forward", w.forwards},
		{"it catches up", w.catchesUp},
		{"an uplink dies in the middle of a session", w.uplinkDies},
		{"both uplinks die", w.bothDie},
		{"its relays are restarted", w.relaysRestart},
		{"it is cut off", w.cutOff},
		{"its NAT gets another address", w.moves},
		{"it leaves", w.leaves},
		{"a relay is removed from the fleet", w.relayRemoved},
	} {
		t.Run(test.name, test.run)
		if t.Failed() {
			return
		}
	}
}

// shownNode is what the tests read of `muster node show -o json`.
type shownNode struct {
	ID, Status string
	Addresses  []string
	Via        []string
}

func (w *town) see(t *testing.T, from, of *Host) (n shownNode) {
	t.Helper()
	r := from.Muster(t.Context(), "node", "show", of.Name(), "-o", "json")
	if r.Code == 0 {
		must(t, json.Unmarshal([]byte(r.Stdout), &n))
	}
	return n
}

// relays returns the hosts through which a host sees another one reached.
func (w *town) relays(t *testing.T, from, of *Host) (out []*Host) {
	t.Helper()
	via := w.see(t, from, of).Via
	for _, h := range w.Hosts() {
		if slices.Contains(via, w.see(t, from, h).ID) {
			out = append(out, h)
		}
	}
	return out
}

// asker returns a host that can be dialled and is none of these.
func (w *town) asker(t *testing.T, not ...*Host) *Host {
	t.Helper()
	for _, h := range w.Hosts()[:5] {
		if !slices.Contains(not, h) && h.Running() {
			return h
		}
	}
	t.Fatal("nobody is left to ask")
	return nil
}

// wants runs a command line that has to end as it should.
func wants(t *testing.T, on *Host, code int, text string, args ...string) Result {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), Patience)
	defer stop()
	r := on.Muster(ctx, args...)
	if r.Code != code || !strings.Contains(r.Stdout, text) {
		t.Fatalf("muster %s on %s: exit %d\n%s%s", strings.Join(args, " "), on.Name(), r.Code, r.Stdout, r.Stderr)
	}
	return r
}

// steady waits until a host sees another online through two relays that run, none of them one of these.
func (w *town) steady(t *testing.T, of *Host, not ...*Host) {
	t.Helper()
	eventually(t, of.Name()+" is reached through two relays", func() bool {
		from := w.asker(t, not...)
		relays := w.relays(t, from, of)
		return w.see(t, from, of).Status == string(fleet.Online) && len(relays) == 2 &&
			!slices.ContainsFunc(relays, func(h *Host) bool { return slices.Contains(not, h) || !h.Running() || h.Paused() })
	})
}

func (w *town) works(t *testing.T, on *Host, not ...*Host) {
	t.Helper()
	from := w.asker(t, not...)
	wants(t, from, 0, "fine", "exec", on.Name(), "--", "echo", "fine")
	wants(t, from, 0, "fine", "run", "--direct", "--yes", "--target", on.Name(), "--", "echo fine")
}

func (w *town) nobodyDials(t *testing.T) {
	serve := w.hidden.Command(t.Context(), "perl", "-MIO::Socket::INET", "-e",
		`$|=1; my $s = IO::Socket::INET->new(LocalPort => 9001, Listen => 5, ReuseAddr => 1) or die; print "ready\n"; while (my $c = $s->accept) { print $c "hello "; print $c scalar <$c>; close $c }`)
	var out syncBuffer
	serve.Stdout = &out
	must(t, serve.Start())
	t.Cleanup(func() { _ = serve.Cancel(); _ = serve.Wait() })
	eventually(t, "something listens", func() bool { return strings.Contains(out.String(), "ready") })
	dial := func(from *Host, at string) error {
		return from.Command(t.Context(), "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/"+at+"/9001").Run()
	}
	if err := dial(w.Hosts()[0], w.hidden.Addr().String()); err == nil {
		t.Error("it can be dialled")
	}
	if err := dial(w.hidden, "127.0.0.1"); err != nil {
		t.Errorf("nothing listens: %v", err)
	}
	must(t, w.hidden.Hide(false))
	if err := dial(w.Hosts()[0], w.hidden.Addr().String()); err != nil {
		t.Errorf("without the firewall it cannot be dialled: %v", err)
	}
	must(t, w.hidden.Hide(true))
}

func (w *town) shown(t *testing.T) {
	w.steady(t, w.hidden)
	n := w.see(t, w.Hosts()[0], w.hidden)
	if len(n.Addresses) != 0 || len(n.Via) != 2 || n.Status != "Online" {
		t.Errorf("%+v", n)
	}
	names := []string{}
	for _, h := range w.relays(t, w.Hosts()[0], w.hidden) {
		names = append(names, h.Name())
	}
	list := wants(t, w.Hosts()[0], 0, "via ", "node", "list").Stdout
	status := wants(t, w.hidden, 0, "(outbound-only)", "status").Stdout
	for _, name := range names {
		if !strings.Contains(status, name) || !strings.Contains(list, name) {
			t.Errorf("%s is not named:\n%s%s", name, list, status)
		}
	}
	r := wants(t, w.Hosts()[0], 0, "voter", "quorum", "status")
	if !strings.Contains(r.Stderr, "n[6-7]") || strings.Contains(r.Stdout, "n6") {
		t.Errorf("why they do not vote:\n%s%s", r.Stdout, r.Stderr)
	}
}

func (w *town) commands(t *testing.T) {
	wants(t, w.Hosts()[0], 0, "n[1-7] (7)  exit 0", "run", "--all", "--", "echo same")
	wants(t, w.hidden, 0, "n[1-7] (7)  exit 0", "run", "--all", "--", "echo same")
	wants(t, w.hidden, 0, "n7", "run", "--target", "n7", "--", "hostname") // one outbound-only node asks the other
	r := wants(t, w.Hosts()[1], 1, "", "run", "--target", "n6", "--", "yes out | head -c 3000000; exit 3")
	if !strings.Contains(r.Stdout+r.Stderr, "exit 3") {
		t.Errorf("%+v", r)
	}
}

func (w *town) sessions(t *testing.T) {
	far := w.asker(t, w.relays(t, w.Hosts()[0], w.hidden)...)
	for _, from := range []*Host{far, w.relays(t, far, w.hidden)[0], w.other} { // through a relay, from one, and from another hidden one
		r := wants(t, from, 7, "out\n", "exec", "n6", "--", "echo out; echo err >&2; exit 7")
		if !strings.Contains(r.Stderr, "err") || strings.Contains(r.Stdout, "err") {
			t.Errorf("from %s: %+v", from.Name(), r)
		}
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	place, err := far.Path("/tmp/sent")
	must(t, err)
	must(t, os.WriteFile(place, sent, 0o600))
	wants(t, far, 0, "", "cp", "/tmp/sent", "n6:/tmp/there")
	wants(t, far, 0, "", "cp", "n6:/tmp/there", "/tmp/back")
	for host, file := range map[*Host]string{w.hidden: "/tmp/there", far: "/tmp/back"} {
		place, err := host.Path(file)
		must(t, err)
		if got, err := os.ReadFile(place); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s on %s: %d bytes, %v", file, host.Name(), len(got), err)
		}
	}
	// A terminal is no other way than exec: one line typed is one line answered.
	r := far.MusterWith(t.Context(), "echo $((6*7)); exit 5\n", "exec", "--tty", "n6", "--", "sh")
	if r.Code != 5 || !strings.Contains(r.Stdout, "42") {
		t.Errorf("a shell: %+v", r)
	}
}

func (w *town) forwards(t *testing.T) {
	from := w.asker(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	forward := from.Command(ctx, "muster", "forward", "n6", "127.0.0.1:9100:127.0.0.1:9002")
	var said syncBuffer
	forward.Stdout, forward.Stderr = &said, &said
	must(t, forward.Start())
	defer func() { stop(); _ = forward.Wait() }()
	serve := w.hidden.Command(ctx, "perl", "-MIO::Socket::INET", "-e",
		`my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 9002, Listen => 5, ReuseAddr => 1) or die; while (my $c = $s->accept) { print $c "hello ", scalar <$c>; close $c }`)
	must(t, serve.Start())
	defer func() { stop(); _ = serve.Wait() }()
	eventually(t, "something answers through the tunnel: "+said.String(), func() bool {
		out, _ := from.Command(ctx, "timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9100 && echo world >&3 && cat <&3").Output()
		return string(out) == "hello world\n"
	})
}

func (w *town) catchesUp(t *testing.T) {
	must(t, w.hidden.Stop())
	eventually(t, "it is seen as lost", func() bool { return w.see(t, w.Hosts()[0], w.hidden).Status != "Online" })
	r := w.Hosts()[0].Muster(t.Context(), "run", "--target", "n6", "--expires", "10m", "--", "echo late > /tmp/late")
	if r.Code != 5 {
		t.Fatalf("%+v", r)
	}
	must(t, w.hidden.Move(netip.MustParseAddr("10.77.6.6"))) // it comes back from elsewhere
	must(t, w.hidden.Start())
	eventually(t, "it did what it had missed", func() bool {
		out, err := w.hidden.Command(t.Context(), "cat", "/tmp/late").Output()
		return err == nil && string(out) == "late\n"
	})
	w.steady(t, w.hidden)
}

// uplinkDies kills one relay after the other while a session lasts: whichever carried it, the other goes on with it.
func (w *town) uplinkDies(t *testing.T) {
	w.steady(t, w.hidden)
	relays := w.relays(t, w.Hosts()[0], w.hidden)
	from := w.asker(t, relays...)
	ctx, stop := context.WithTimeout(t.Context(), Patience)
	defer stop()
	session := from.Command(ctx, "muster", "exec", "n6", "--", "i=0; while [ ! -e /tmp/enough ]; do i=$((i+1)); echo $i; sleep 0.1; done; exit 9")
	var out, errs syncBuffer
	session.Stdout, session.Stderr = &out, &errs
	must(t, session.Start())
	count := func() int { return strings.Count(out.String(), "\n") }
	for _, r := range relays {
		before := count()
		eventually(t, "the session is in its middle", func() bool { return count() > before+5 })
		must(t, r.Kill())
		at := count()
		eventually(t, "the session goes on without "+r.Name(), func() bool { return count() > at+20 })
		w.steady(t, w.hidden, r)
		must(t, r.Start())
	}
	must(t, w.hidden.Command(ctx, "touch", "/tmp/enough").Run())
	err := session.Wait()
	var want strings.Builder
	for i := range count() {
		fmt.Fprintln(&want, i+1)
	}
	if out.String() != want.String() || session.ProcessState.ExitCode() != 9 {
		t.Fatalf("%d lines, some missing or twice, %v\n%s", count(), err, errs.String())
	}
	must(t, w.Settled(t.Context()))
}

func (w *town) bothDie(t *testing.T) {
	w.steady(t, w.hidden)
	relays := w.relays(t, w.Hosts()[0], w.hidden)
	for _, r := range relays {
		must(t, r.Pause()) // they say no goodbye
	}
	w.steady(t, w.hidden, relays...)
	w.works(t, w.hidden, relays...)
	for _, r := range relays {
		must(t, r.Resume())
	}
	must(t, w.Settled(t.Context()))
}

func (w *town) relaysRestart(t *testing.T) {
	w.steady(t, w.hidden)
	for _, r := range w.relays(t, w.Hosts()[0], w.hidden) {
		must(t, r.Kill())
		must(t, r.Launch())
	}
	must(t, w.Settled(t.Context()))
	eventually(t, "it is reached again", func() bool {
		return w.asker(t).Muster(t.Context(), "exec", "n6", "--", "true").Code == 0
	})
	w.steady(t, w.hidden)
	w.works(t, w.hidden)
}

func (w *town) cutOff(t *testing.T) {
	must(t, w.Part(w.hidden))
	eventually(t, "it is seen as lost", func() bool { return w.see(t, w.Hosts()[0], w.hidden).Status == "ConnectionLost" })
	eventually(t, "its owner is told", func() bool {
		r := w.hidden.Muster(t.Context(), "status")
		return strings.Contains(r.Stderr, "no uplink: nobody reaches this host") && strings.Contains(r.Stdout, "by nobody")
	})
	r := w.Hosts()[0].Muster(t.Context(), "exec", "n6", "--", "true")
	if r.Code != 255 || !strings.Contains(r.Stderr, "muster node show") {
		t.Errorf("%+v", r)
	}
	wants(t, w.hidden, 0, "still here", "exec", "n6", "--", "echo still here") // its own people need nobody's network
	must(t, w.Heal())
	w.steady(t, w.hidden)
	w.works(t, w.hidden)
}

func (w *town) moves(t *testing.T) {
	must(t, w.hidden.Move(netip.MustParseAddr("10.77.6.7")))
	eventually(t, "it is reached again", func() bool {
		return w.asker(t).Muster(t.Context(), "exec", "n6", "--", "true").Code == 0
	})
	w.steady(t, w.hidden)
	w.works(t, w.hidden)
}

func (w *town) leaves(t *testing.T) {
	wants(t, w.hidden, 0, "", "node", "leave")
	eventually(t, "it is seen to have left", func() bool { return w.see(t, w.Hosts()[0], w.hidden).Status == "Left" })
	eventually(t, "its agent ends", func() bool { return !w.hidden.Running() })
	must(t, w.hidden.Start()) // without --outbound: the folder remembers
	w.steady(t, w.hidden)
	w.works(t, w.hidden)
}

func (w *town) relayRemoved(t *testing.T) {
	relays := w.relays(t, w.Hosts()[0], w.hidden)
	wants(t, w.asker(t, relays...), 0, "", "node", "delete", relays[0].Name())
	eventually(t, "it is reached through others", func() bool {
		now := w.relays(t, w.asker(t, relays[0]), w.hidden)
		return len(now) == 2 && !slices.Contains(now, relays[0])
	})
	w.works(t, w.hidden, relays[0])
}

// syncBuffer is what a process said so far.
type syncBuffer struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said.String()
}
