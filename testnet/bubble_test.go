package testnet

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// TestTownWorks: five hosts, three of them voters and two spares; a command from each runs once on all.
func TestTownWorks(t *testing.T) {
	inTown(t, 5, func(w *town) {
		q := w.hosts[0].status().Quorum
		if len(q.Voters) != 3 || len(q.Spares) != 2 {
			w.Fatalf("%d voters and %d spares", len(q.Voters), len(q.Spares))
		}
		var sent []fleet.UUID
		for _, h := range w.hosts {
			sent = append(sent, h.send())
		}
		for _, id := range sent {
			w.awaitRun(id, 10*time.Second, w.hosts...)
		}
		w.converged()
	})
}

// TestLeaderCutOff: the majority elects another and works on; the old leader and a spare on its side cannot write, and
// cannot read what is newest either. When the cut is mended, all come to the same state.
func TestLeaderCutOff(t *testing.T) {
	inTown(t, 5, func(w *town) {
		old := w.awaitLeader()
		minority := []*townHost{old, w.spare()}
		rest := w.others(minority...)
		w.split(minority...)
		refused := make(chan error, len(minority))
		for _, h := range minority {
			_, entry := h.order(w.tester) // before it knows
			go func() { refused <- h.propose(entry) }()
		}
		w.awaitLeader(rest...)
		command := rest[0].send()
		w.awaitRun(command, 20*time.Second, rest...)
		for _, h := range minority {
			if err := <-refused; fleet.KindOf(err) != fleet.Unavailable {
				w.Errorf("a write without a majority is answered with %v", err)
			}
			if _, err := h.host.Agent.Read(w.Context(), h.read(node.ReadCommands, fleet.UUID{})); fleet.KindOf(err) != fleet.Unavailable {
				w.Errorf("a read without a majority is answered with %v", err)
			}
			if !w.ranAt(h, command).IsZero() {
				w.Error("the command ran beyond the cut")
			}
		}
		w.heal()
		w.awaitRun(command, time.Minute, minority...)
		w.settled()
		w.converged()
		w.hosts[0].awaitStatus(command, exec.Success, time.Minute, w.hosts...)
		last := old.send()
		w.awaitRun(last, 20*time.Second, w.hosts...)
	})
}

// TestLoss: a command reaches all, and every report arrives, while every tenth or every fourth packet vanishes, some come
// twice and many out of order.
func TestLoss(t *testing.T) {
	for name, loss := range map[string]float64{"10 %": 0.1, "25 %": 0.25} {
		t.Run(name, func(t *testing.T) {
			inTown(t, 5, func(w *town) {
				w.net.Change(func(o *fabric.Options) { o.Loss, o.Duplicate, o.Jitter = loss, 0.05, 20*time.Millisecond })
				time.Sleep(time.Minute)
				for _, h := range w.hosts[:3] {
					start := time.Now()
					command := h.sendThrough()
					w.awaitRun(command, time.Minute, w.hosts...)
					w.Logf("%s: on all after %s", h.name, time.Since(start))
					h.awaitStatus(command, exec.Success, time.Minute, w.hosts...)
					w.Logf("%s: all reported after %s", h.name, time.Since(start))
					w.oneGroup(h, command)
				}
				w.converged()
			})
		})
	}
}

// oneGroup checks that equal results of all hosts fold into one.
func (w *town) oneGroup(at *townHost, command fleet.UUID) {
	w.Helper()
	reports := map[fleet.ID]exec.Report{}
	var ids []fleet.ID
	for _, r := range at.reports(command) {
		reports[r.Node] = r
	}
	for _, h := range w.hosts {
		ids = append(ids, h.id)
	}
	outcomes := exec.Outcomes(ids, reports, func(fleet.ID) bool { return true }, time.Now().Add(time.Hour), time.Now())
	groups := exec.Fold(outcomes, w.nameOf)
	if len(groups) != 1 || len(groups[0].Names) != len(w.hosts) || string(groups[0].Stdout.Head) != said {
		w.Errorf("folded into %d groups: %+v", len(groups), groups)
	}
}

// TestAnHourDown: a host that was off for an hour comes back into a fleet with another roster, another charter and
// another gossip key, and catches up.
func TestAnHourDown(t *testing.T) {
	inTown(t, 5, func(w *town) {
		down, gone := w.hosts[4], w.hosts[3]
		if w.leader() == down || w.leader() == gone {
			w.Fatal("the founder leads")
		}
		down.kill()
		missed := w.hosts[0].send()
		w.awaitRun(missed, time.Minute, w.others()...)
		time.Sleep(10 * time.Minute)
		epoch := w.hosts[0].host.Agent.Record().Sending.Epoch
		w.hosts[0].remove(gone)
		second := newSigner()
		w.hosts[0].amend(auth.CharterPutOperator, auth.Operator{Name: "second", Key: second.Public(), Teams: []string{auth.RootTeam}})
		w.until("the gossip key turns", 2*time.Minute, func() bool { return w.hosts[1].host.Agent.Record().Sending.Epoch > epoch })
		gone.kill()
		w.settled()
		fresh := w.enrol(w.token(1, true))
		time.Sleep(55 * time.Minute)
		down.start()
		w.settled()
		w.converged()
		if !w.ranAt(down, missed).IsZero() {
			w.Error("a command ran after it had expired")
		}
		id, entry := down.order(second)
		w.must(down.propose(entry))
		w.awaitRun(id, 20*time.Second, w.hosts[0], w.hosts[1], w.hosts[2], down, fresh)
	}, slowly)
}

// TestADownHostRunsWhatItMissed: within the command's validity.
func TestADownHostRunsWhatItMissed(t *testing.T) {
	inTown(t, 5, func(w *town) {
		down := w.hosts[4]
		down.kill()
		missed := w.hosts[0].send()
		w.awaitRun(missed, time.Minute, w.others()...)
		time.Sleep(20 * time.Minute)
		down.start()
		w.awaitRun(missed, 30*time.Second, down)
		w.hosts[0].awaitStatus(missed, exec.Success, time.Minute, w.hosts...)
		down.kill()
		down.start() // and only once
		w.settled()
		w.converged()
	}, slowly)
}

// TestRemovedNode: its streams are closed, it is refused, and it runs nothing more.
func TestRemovedNode(t *testing.T) {
	inTown(t, 4, func(w *town) {
		gone := w.enrol(w.token(1, false)) // no server: all that it watches comes from others
		w.settled()
		first := w.hosts[0].send()
		w.awaitRun(first, 10*time.Second, w.hosts...)
		ended := make(chan error, 1)
		go func() {
			ended <- gone.host.Agent.Watch(w.Context(), gone.read(node.ReadCommand, first), func(node.Update) error { return nil })
		}()
		time.Sleep(time.Second)
		w.hosts[0].remove(gone)
		removed := time.Now()
		select {
		case err := <-ended:
			if fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), "removed") {
				w.Errorf("what it was watching ended with %v", err)
			}
			w.Logf("its streams were closed after %s", time.Since(removed))
		case <-time.After(30 * time.Second):
			w.Error("its stream lives on")
		}
		w.until("it knows", 30*time.Second, func() bool { return strings.Contains(strings.Join(gone.status().Warnings, " "), "removed") })
		rest := w.others(gone)
		w.until("the others see four", time.Minute, func() bool {
			for _, h := range rest {
				if h.status().Online != 4 {
					return false
				}
			}
			return true
		})
		second := w.hosts[1].send()
		w.awaitRun(second, 20*time.Second, rest...)
		time.Sleep(2 * time.Minute)
		if !w.ranAt(gone, second).IsZero() {
			w.Error("it ran a command")
		}
		id, entry := gone.order(w.tester)
		if err := gone.propose(entry); err == nil {
			w.Errorf("it brought command %s to the fleet", id)
		}
		gone.kill()
		gone.start() // its folder is what it was
		time.Sleep(time.Minute)
		if s := w.hosts[0].status(); s.Online != 4 {
			w.Errorf("%d are online after it came back", s.Online)
		}
		gone.kill()
		w.converged()
	})
}

// TestReplays: a bell, a sealed packet and an order that come again run nothing.
func TestReplays(t *testing.T) {
	inTown(t, 5, func(w *town) {
		var taken [][]byte
		tapped := w.hosts[3]
		w.net.Change(func(o *fabric.Options) {
			o.Tap = func(_, to netip.AddrPort, data []byte) {
				if to == tapped.addr && len(data) > 0 && data[0] < 0x40 {
					taken = append(taken, append([]byte(nil), data...))
				}
			}
		})
		id, entry := w.hosts[0].order(w.tester)
		w.must(w.hosts[0].propose(entry))
		w.awaitRun(id, 10*time.Second, w.hosts...)
		time.Sleep(5 * time.Second)
		w.net.Change(func(o *fabric.Options) { o.Tap = nil })
		if len(taken) == 0 {
			w.Fatal("no packet was taken down")
		}
		bell := node.Bell{Kind: node.BellCommand, Statement: id, Act: 1 << 40, Holders: []fleet.ID{w.hosts[1].id, w.hosts[2].id}, Rider: []auth.Envelope{entry.Statement}}
		again := func() {
			for _, packet := range taken {
				w.inject(tapped, packet)
			}
			for _, h := range w.hosts {
				for range 20 {
					h.host.Agent.Bell(bell.Encode())
				}
				bare := bell
				bare.Rider = nil
				h.host.Agent.Bell(bare.Encode())
			}
			for _, h := range w.hosts {
				if err := h.propose(entry); err != nil && fleet.KindOf(err) != fleet.Expired {
					w.Errorf("the same order again: %v", err)
				}
			}
			time.Sleep(30 * time.Second) // what runs once more is found in the end
		}
		again()
		tapped.kill()
		tapped.start() // it has forgotten all but its ledger
		w.settled()
		again()
		time.Sleep(15 * time.Minute) // it has expired
		again()
		w.converged()
	}, slowly, func(w *town) { w.life = 5 * time.Minute })
}

// inject sends a packet from an address that is no member's.
func (w *town) inject(to *townHost, packet []byte) {
	stranger := w.net.Conn(netip.MustParseAddrPort("10.9.9.9:7980"))
	defer stranger.Close()
	_, _ = stranger.WriteTo(packet, net.UDPAddrFromAddrPort(to.addr))
}

// TestTwoOperators: whom the charter names may send, from any host; whom it names no longer is refused by the servers,
// and by a node that gets an order of an earlier time.
func TestTwoOperators(t *testing.T) {
	inTown(t, 5, func(w *town) {
		bob := newSigner()
		w.hosts[0].amend(auth.CharterPutOperator, auth.Operator{Name: "bob", Key: bob.Public(), Teams: []string{auth.RootTeam}})
		late := w.hosts[4]
		w.until("the record reaches a host", 10*time.Second, func() bool {
			_, known := w.hosts[2].host.Agent.Record().Charter.OperatorByName("bob")
			return known
		})
		w.split(late)
		id, entry := w.hosts[2].order(bob)
		w.must(w.hosts[2].propose(entry))
		w.awaitRun(id, 20*time.Second, w.others(late)...)
		w.hosts[0].amend(auth.CharterDeleteOperator, auth.DeleteOperator{Name: "bob", Key: bob.ID()})
		time.Sleep(5 * time.Second)
		other, refused := w.hosts[1].order(bob)
		if err := w.hosts[1].propose(refused); fleet.KindOf(err) != fleet.Denied {
			w.Errorf("a removed operator's command %s is answered with %v", other, err)
		}
		w.heal()
		w.settled()
		w.hosts[0].awaitStatus(id, exec.Refused, 2*time.Minute, late)
		if !w.ranAt(late, id).IsZero() {
			w.Error("a removed operator's command ran")
		}
		w.converged()
	})
}

// TestClockOff: a host whose clock is ten minutes off holds commands, says so, and runs them once its clock is right. All
// others work on, whatever it is to the fleet.
func TestClockOff(t *testing.T) {
	roles := map[string]func(w *town) *townHost{
		"no server": func(w *town) *townHost {
			h := w.enrol(w.token(1, false))
			w.settled()
			return h
		},
		"a spare":    func(w *town) *townHost { return w.spare() },
		"the leader": func(w *town) *townHost { return w.awaitLeader() },
	}
	for name, off := range map[string]time.Duration{"ahead": 10 * time.Minute, "behind": -10 * time.Minute} {
		for role, choose := range roles {
			t.Run(role+" "+name, func(t *testing.T) {
				inTown(t, 4, func(w *town) {
					time.Sleep(30 * time.Second)
					wrong := choose(w)
					time.Sleep(30 * time.Second)
					wrong.setClock(off)
					time.Sleep(time.Minute)
					w.holdsUntilMended(wrong, off)
				})
			})
			t.Run(role+" starts "+name, func(t *testing.T) {
				inTown(t, 4, func(w *town) {
					time.Sleep(30 * time.Second)
					wrong := choose(w)
					wrong.kill()
					wrong.setClock(off)
					wrong.start()
					w.settled()
					time.Sleep(time.Minute)
					w.holdsUntilMended(wrong, off)
				})
			})
		}
	}
}

// spare returns a server without a vote.
func (w *town) spare() *townHost {
	for _, h := range w.running() {
		for _, s := range w.hosts[0].status().Quorum.Spares {
			if s.ID == h.id {
				return h
			}
		}
	}
	w.Fatal("there is no spare")
	return nil
}

func (w *town) holdsUntilMended(wrong *townHost, off time.Duration) {
	w.Helper()
	right := w.others(wrong)
	command := right[0].send()
	w.awaitRun(command, 20*time.Second, right...)
	w.until("it says why it waits", time.Minute, func() bool {
		return strings.Contains(right[0].reports(command)[wrong.name].Detail, "this host's clock is ")
	})
	if !w.ranAt(wrong, command).IsZero() {
		w.Fatal("it ran by a clock that is wrong")
	}
	if s := wrong.status(); s.ClockOff.Round(time.Minute) != off || !strings.Contains(strings.Join(s.Warnings, " "), "clock") {
		w.Errorf("it says of itself %s and %q", s.ClockOff, s.Warnings)
	}
	for _, h := range right {
		if s := h.status(); s.ClockOff != 0 {
			w.Errorf("%s thinks that its own clock is off by %s", h.name, s.ClockOff)
		}
	}
	wrong.setClock(0)
	w.awaitRun(command, time.Minute, wrong)
	right[0].awaitStatus(command, exec.Success, time.Minute, w.running()...)
	w.converged()
}
