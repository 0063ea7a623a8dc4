package testnet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// firewall stands before hosts that nobody can dial: what arrives there passes only as an answer.
type firewall struct {
	mu     sync.Mutex
	behind map[netip.AddrPort]bool
	flows  map[[2]netip.AddrPort]time.Time // when something last passed between a host behind and somebody
}

// remembered is how long a firewall expects answers: the shortest that Linux has for UDP.
const remembered = 30 * time.Second

func (w *town) wall() *firewall {
	f := &firewall{behind: map[netip.AddrPort]bool{}, flows: map[[2]netip.AddrPort]time.Time{}}
	w.net.Change(func(o *fabric.Options) {
		o.Partition = func(from, to netip.AddrPort) bool { return w.partition(from, to) || f.drops(from, to) }
	})
	return f
}

func (f *firewall) drops(from, to netip.AddrPort) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.behind[from] {
		f.flows[[2]netip.AddrPort{from, to}] = now
	}
	if !f.behind[to] {
		return false
	}
	flow := [2]netip.AddrPort{to, from}
	if at, known := f.flows[flow]; !known || now.Sub(at) > remembered {
		return true
	}
	f.flows[flow] = now
	return false
}

func (f *firewall) hide(h *townHost) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.behind[h.addr] = true
	clear(f.flows)
}

// enrolBehind enrols an outbound-only host.
func (w *town) enrolBehind(f *firewall, join auth.JoinString) *townHost {
	w.Helper()
	h := w.add()
	f.hide(h)
	n := host.NewHost{Dir: h.dir, Name: h.name, Bind: h.addr.String(), Outbound: true, Socket: w.net.Conn(h.addr)}
	if _, err := host.Join(w.Context(), n, join, h.clock, h.log.slog()); err != nil {
		w.Fatalf("%s does not join: %v", h.name, err)
	}
	h.start()
	return h
}

// via returns the hosts through which one is reached, as another sees it.
func (w *town) via(from, of *townHost) (out []*townHost) {
	m := w.member(from, of)
	for _, h := range w.hosts {
		if slices.Contains(m.Via, h.id) {
			out = append(out, h)
		}
	}
	return out
}

func (w *town) member(from, of *townHost) fleet.Member {
	for _, m := range from.host.Agent.Nodes(w.Context()) {
		if m.ID == of.id {
			return m
		}
	}
	return fleet.Member{}
}

// inHiddenTown is inTown of n hosts, and of some that are outbound-only.
func inHiddenTown(t *testing.T, n, hidden int, test func(w *town, f *firewall, hidden []*townHost)) {
	inTown(t, n, func(w *town) {
		f := w.wall()
		join := w.token(uint32(hidden), false)
		var behind []*townHost
		for range hidden {
			behind = append(behind, w.enrolBehind(f, join))
		}
		w.settled()
		w.reached(w.hosts[0], behind...)
		test(w, f, behind)
	})
}

// reached waits until hosts are seen online, each through as many relays as there can be.
func (w *town) reached(from *townHost, all ...*townHost) time.Duration {
	w.Helper()
	began := time.Now()
	for _, h := range all {
		w.until(h.name+" is reached through others", time.Minute, func() bool {
			via := w.via(from, h)
			return w.member(from, h).Status == fleet.Online && len(via) == min(2, w.dialled()) &&
				!slices.ContainsFunc(via, func(r *townHost) bool { return r.host == nil })
		})
	}
	return time.Since(began)
}

// dialled counts the hosts that run and can be dialled.
func (w *town) dialled() (n int) {
	for _, h := range w.running() {
		if !h.host.Agent.Outbound() {
			n++
		}
	}
	return n
}

// lostMeanwhile counts the moments at which a host is not online for another while something goes on.
func (w *town) lostMeanwhile(from, of *townHost, do func()) int {
	over, counted := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-over:
				counted <- n
				return
			case <-time.After(100 * time.Millisecond):
				if w.member(from, of).Status != fleet.Online {
					n++
				}
			}
		}
	}()
	do()
	close(over)
	return <-counted
}

// TestOutboundTown: hosts that nobody can dial take bells within a second, report, catch up and send commands, as all do.
func TestOutboundTown(t *testing.T) {
	inHiddenTown(t, 4, 2, func(w *town, _ *firewall, hidden []*townHost) {
		for _, h := range append(slices.Clone(hidden), w.hosts[0], w.hosts[3]) {
			id := h.send()
			w.awaitRun(id, time.Second, w.hosts...)
			h.awaitStatus(id, exec.Success, 10*time.Second, w.hosts...)
		}
		lost := w.lostMeanwhile(w.hosts[1], hidden[0], func() {
			lost := w.lostMeanwhile(hidden[0], hidden[1], func() { time.Sleep(10 * time.Minute) })
			if lost > 0 {
				w.Errorf("one hidden host saw the other as lost, %d times", lost)
			}
		})
		if lost > 0 {
			w.Errorf("in ten idle minutes a hidden host was seen as lost, %d times", lost)
		}
		hidden[0].kill()
		missed := w.hosts[0].send()
		w.awaitRun(missed, time.Minute, w.others()...)
		time.Sleep(5 * time.Minute)
		hidden[0].start()
		w.awaitRun(missed, 30*time.Second, hidden[0])
		w.hosts[0].awaitStatus(missed, exec.Success, time.Minute, w.hosts...)
		w.converged()
	})
}

// TestRelaysDie: without a goodbye. While one uplink is left nobody takes the host for lost; when both were lost it comes
// back through others.
func TestRelaysDie(t *testing.T) {
	inHiddenTown(t, 5, 1, func(w *town, _ *firewall, hidden []*townHost) {
		h := hidden[0]
		relay := w.via(w.hosts[0], h)[0]
		observer := w.others(append(w.via(w.hosts[0], h), h)...)[0]
		lost := w.lostMeanwhile(observer, h, func() {
			relay.crash()
			w.Logf("one relay died: two others after %s", w.reached(observer, h))
			time.Sleep(time.Minute)
		})
		if lost > 0 {
			w.Errorf("while one uplink carried, it was seen as lost %d times", lost)
		}
		id := observer.send(h)
		w.awaitRun(id, 20*time.Second, h)
		relay.start()
		w.settled()
		both := w.via(observer, h)
		observer = w.others(append(both, h)...)[0]
		for _, r := range both {
			r.crash()
		}
		w.Logf("both relays died: two others after %s", w.reached(observer, h))
		for _, r := range both {
			r.start()
		}
		w.settled()
		id = observer.send(h)
		w.awaitRun(id, 20*time.Second, h)
		w.converged()
	})
}

// TestOneForAll: a fleet of which all but one are outbound-only.
func TestOneForAll(t *testing.T) {
	inHiddenTown(t, 1, 3, func(w *town, _ *firewall, hidden []*townHost) {
		lost := w.lostMeanwhile(hidden[0], hidden[2], func() {
			for _, h := range w.hosts {
				id := h.send()
				w.awaitRun(id, 2*time.Second, w.hosts...)
				h.awaitStatus(id, exec.Success, 10*time.Second, w.hosts...)
			}
			time.Sleep(2 * time.Minute)
		})
		if lost > 0 {
			w.Errorf("seen as lost %d times", lost)
		}
		w.hosts[0].kill()
		time.Sleep(time.Minute)
		w.hosts[0].start()
		w.settled()
		w.reached(w.hosts[0], hidden...)
		id := hidden[1].send()
		w.awaitRun(id, 20*time.Second, w.hosts...)
		w.converged()
	})
}

// TestServerGoesBehind: a voter that is started as outbound-only loses its vote, is none again as long as nobody can dial it,
// and may be one afterwards.
func TestServerGoesBehind(t *testing.T) {
	inTown(t, 4, func(w *town) {
		f, h := w.wall(), w.awaitLeader()
		rest := w.others(h)
		voters := func() (out []fleet.ID) {
			q := rest[0].status().Quorum
			for _, s := range slices.Concat(q.Voters, q.Spares) {
				out = append(out, s.ID)
			}
			return out
		}
		yes := true
		h.outbound = &yes
		h.kill()
		f.hide(h)
		h.start()
		changes := 0
		w.until("it is neither voter nor spare", 2*time.Minute, func() bool {
			select {
			case err := <-h.done:
				if !errors.Is(err, host.ErrRoleChanged) {
					w.Fatal(err)
				}
				changes++
				h.start()
			default:
			}
			_, serves := h.host.State()
			return !serves && !slices.Contains(voters(), h.id)
		})
		if changes != 1 {
			w.Errorf("its agent was started anew %d times", changes)
		}
		time.Sleep(5 * time.Minute)
		if len(h.done) > 0 || slices.Contains(voters(), h.id) {
			w.Error("it comes and goes as a server")
		}
		if q := rest[0].status().Quorum; len(q.Voters) != 3 || len(q.Outbound) != 1 || q.Outbound[0].ID != h.id {
			w.Errorf("%+v", q)
		}
		w.awaitRun(rest[1].send(), 20*time.Second, w.hosts...)
		h.kill()
		h.outbound = nil
		f.mu.Lock()
		clear(f.behind)
		f.mu.Unlock()
		h.start()
		w.until("it keeps state again", 2*time.Minute, func() bool { return slices.Contains(voters(), h.id) })
		w.settled()
		w.converged()
	})
}

// TestMeasureUplinks prints figures of node/gossip/DESIGN.md: MUSTER_MEASURE=10 go test -run MeasureUplinks -v ./testnet.
func TestMeasureUplinks(t *testing.T) {
	runs, _ := strconv.Atoi(os.Getenv("MUSTER_MEASURE"))
	if runs == 0 {
		t.Skip("set MUSTER_MEASURE to the number of times that each loss is watched")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.found()
		w.grow(5)
		f := w.wall()
		h := w.enrolBehind(f, w.token(1, false))
		w.settled()
		took := map[string][]time.Duration{}
		lost := 0
		for range runs {
			w.reached(w.hosts[0], h)
			both := w.via(w.hosts[0], h)
			observer := w.others(append(both, h)...)[0]
			lost += min(1, w.lostMeanwhile(observer, h, func() {
				w.cutOff(both[0])
				took["one relay cut off: reached through two others"] = append(took["one relay cut off: reached through two others"], w.replaced(observer, h, both[:1]))
			}))
			w.heal()
			w.settled()
			w.reached(w.hosts[0], h)
			both = w.via(w.hosts[0], h)
			observer = w.others(append(both, h)...)[0]
			w.cutOff(both...)
			took["both relays cut off: reached through two others"] = append(took["both relays cut off: reached through two others"], w.replaced(observer, h, both))
			w.heal()
			w.settled()
			began := time.Now()
			w.cutOff(h)
			w.until("it is lost", time.Minute, func() bool { return w.member(observer, h).Status == fleet.ConnectionLost })
			took["it is cut off itself: ConnectionLost"] = append(took["it is cut off itself: ConnectionLost"], time.Since(began))
			time.Sleep(time.Minute)
			w.heal()
			took["and back: Online"] = append(took["and back: Online"], w.reached(observer, h))
			w.settled()
		}
		for what, d := range took {
			slices.Sort(d)
			fmt.Printf("%s: median %.1f, max %.1f s\n", what, d[len(d)/2].Seconds(), d[len(d)-1].Seconds())
		}
		fmt.Printf("seen as lost while one uplink carried: %d of %d times\n", lost, runs)
	})
}

// cutOff is split, but the firewall stays.
func (w *town) cutOff(off ...*townHost) { w.split(off...) }

func (w *town) replaced(observer, h *townHost, gone []*townHost) time.Duration {
	w.Helper()
	began := time.Now()
	w.until("it is reached through others", time.Minute, func() bool {
		via := w.via(observer, h)
		return len(via) == 2 && w.member(observer, h).Status == fleet.Online && !slices.ContainsFunc(via, func(r *townHost) bool { return slices.Contains(gone, r) })
	})
	return time.Since(began)
}
