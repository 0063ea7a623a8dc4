package testnet

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/testnet/fabric"
)

// size is a town's, and how bad its network is.
type size struct {
	nodes    int
	loss     float64
	long     bool // only in the long run
	commands int
	rest     time.Duration // how long it is watched while nothing happens
	brief    bool          // bells, a failure and a return, all at once and early
}

// chosen are the sizes that this run is for: all of them with MUSTER_BUBBLE=long, which takes half an hour, else what a
// minute is enough for.
func chosen(sizes ...size) []size {
	long, few := os.Getenv("MUSTER_BUBBLE") == "long", testing.Short() || raceDetector()
	return slices.DeleteFunc(sizes, func(s size) bool { return s.long && !long || s.brief && long || few && s.nodes > 5 })
}

// raceDetector reports whether this test was built with it: everything takes ten times as long then.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func (s size) String() string { return fmt.Sprintf("%d nodes, %.0f %%", s.nodes, 100*s.loss) }

// servers among the nodes: voters and two spares as DESIGN.md has them.
func (s size) servers() int { return min(s.nodes, 7) }

// measured is what a town took, in virtual time, and what it cost.
type measured struct {
	size
	formed, told           time.Duration // everybody sees everybody; knows the servers
	taken                  time.Duration // a command is agreed: the slowest
	median, last, reported time.Duration // it runs on a node; on all; all ends are known
	digest                 time.Duration // it runs on all whose bells were lost
	packets                float64       // a second and node, at rest
	doubts                 int           // times that a node thought a living one lost, at rest
	doubted                time.Duration // the longest such time
	lost                   time.Duration // everybody knows that a node is lost
	back, missed           time.Duration // everybody sees it again; it ran what it had missed
	healed, caughtUp       time.Duration // the same of a partition
	wall                   time.Duration
	heap                   uint64 // bytes, the most that was seen
}

// TestTownsUnderLoss is the matrix of sizes and losses: forming, bells, digests, failure detection, rejoin and partition,
// with all promises kept in the end.
func TestTownsUnderLoss(t *testing.T) {
	t.Parallel()
	towns(t, chosen(
		size{nodes: 50, loss: 0.25, commands: 3, rest: 10 * time.Second},
		size{nodes: 50, loss: 0.10, commands: 3, rest: 2 * time.Minute, long: true},
		size{nodes: 50, loss: 0, commands: 3, rest: 10 * time.Second},
		size{nodes: 5, loss: 0.25, commands: 10, rest: 2 * time.Minute},
		size{nodes: 5, loss: 0.10, commands: 10, rest: 2 * time.Minute},
		size{nodes: 5, loss: 0, commands: 10, rest: 2 * time.Minute},
	))
}

// towns lets a town of each size live, and logs what all took.
func towns(t *testing.T, sizes []size) {
	rows := make([]*measured, len(sizes))
	t.Run("sizes", func(t *testing.T) {
		for i, s := range sizes {
			rows[i] = &measured{size: s}
			t.Run(s.String(), func(t *testing.T) {
				if len(sizes) > 1 {
					t.Parallel()
				}
				synctest.Test(t, func(t *testing.T) { rows[i].live(newTown(t)) })
			})
		}
	})
	t.Log("virtual times\n" + townTable(rows))
}

func townTable(rows []*measured) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "town\tformed\tservers known\tagreed\tbell p50\tlast\tall reported\tby digest\tpackets/s\tdoubts\tlongest\tlost known\tback\tran missed\thealed\tcaught up\twall\tMB\t")
	for _, m := range rows {
		if m.wall == 0 {
			continue // not asked for
		}
		fmt.Fprintf(w, "%s", m.size)
		for _, d := range []time.Duration{m.formed, m.told, m.taken, m.median, m.last, m.reported, m.digest} {
			fmt.Fprintf(w, "\t%s", short(d))
		}
		fmt.Fprintf(w, "\t%.1f\t%d", m.packets, m.doubts)
		for _, d := range []time.Duration{m.doubted, m.lost, m.back, m.missed, m.healed, m.caughtUp, m.wall} {
			fmt.Fprintf(w, "\t%s", short(d))
		}
		fmt.Fprintf(w, "\t%d\t\n", m.heap>>20)
	}
	w.Flush()
	return out.String()
}

func short(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// wallClock is the machine's, also in a bubble.
func wallClock() time.Duration {
	var now syscall.Timeval
	_ = syscall.Gettimeofday(&now)
	return time.Duration(now.Nano())
}

// live is a town's life.
func (m *measured) live(w *town) {
	began := wallClock()
	defer func() { m.wall = wallClock() - began }()
	w.found()
	w.worsen(m.loss)
	m.form(w)
	if m.brief {
		m.loseWhileRinging(w)
	} else {
		m.learn(w)
		m.ring(w)
		m.ringDeaf(w)
		m.watch(w)
		m.lose(w)
		m.part(w)
	}
	m.weigh()
	w.judge()
	m.hold(w)
}

// hold checks the times that are promised, at several times what is seen: they are to say that something is wrong, not
// that a town was unlucky. At a loss of 25 % everything still arrives; when, is above all for the table.
func (m *measured) hold(w *town) {
	w.Helper()
	const s = time.Second
	column := 0
	switch {
	case m.loss > 0.1:
		column = 2
	case m.loss > 0:
		column = 1
	}
	for _, b := range []struct {
		what string
		took time.Duration
		most [3]time.Duration // without loss, at 10 %, at 25 %
	}{
		{"everybody saw everybody", m.formed, [3]time.Duration{10 * s, 30 * s, 60 * s}},
		{"everybody knew the servers", m.told, [3]time.Duration{60 * s, 60 * s, 120 * s}},
		{"a command was agreed", m.taken, [3]time.Duration{s, 5 * s, 30 * s}},
		{"the middle node ran a command", m.median, [3]time.Duration{s, 5 * s, 30 * s}},
		{"the last node ran a command", m.last, [3]time.Duration{s, 60 * s, 120 * s}},
		{"the last node that heard no bell ran a command", m.digest, [3]time.Duration{60 * s, 90 * s, 120 * s}},
		{"the last node knew that another was lost", m.lost, [3]time.Duration{10 * s, 15 * s, 60 * s}},
		{"a node that came back was seen by all", m.back, [3]time.Duration{15 * s, 30 * s, 120 * s}},
		{"it had run what it missed", m.missed, [3]time.Duration{15 * s, 30 * s, 60 * s}},
		{"a partition was healed", m.healed, [3]time.Duration{90 * s, 90 * s, 120 * s}},
		{"the smaller side had run what it missed", m.caughtUp, [3]time.Duration{90 * s, 90 * s, 120 * s}},
		{"somebody who lives was no longer thought lost", m.doubted, [3]time.Duration{0, 10 * s, 30 * s}},
	} {
		if b.took > b.most[column] {
			w.Errorf("%s: %s after %s, not within %s", m.size, b.what, b.took, b.most[column])
		}
	}
	if m.loss == 0 && m.doubts > 0 {
		w.Errorf("%s: %d times somebody who lives was thought lost, on a network that loses nothing", m.size, m.doubts)
	}
}

// worsen makes the network lose packets; a bad one delays and doubles some, too.
func (w *town) worsen(loss float64) {
	w.net.Change(func(o *fabric.Options) {
		if o.Loss = loss; loss > 0 {
			o.Duplicate, o.Jitter = 0.02, 5*time.Millisecond
		}
	})
}

// weigh notes what the process holds.
func (m *measured) weigh() {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.heap = max(m.heap, s.HeapAlloc)
}

func (m *measured) form(w *town) {
	w.prepare(m.nodes-1, m.servers()-1)
	m.formed = w.seen(time.Now(), 2*time.Minute)
	m.weigh()
}

// learn waits until everybody knows the servers.
func (m *measured) learn(w *town) {
	start := time.Now()
	w.until("everybody knows the servers", 5*time.Minute, func() bool {
		return !slices.ContainsFunc(w.running(), func(h *townHost) bool {
			return len(h.status().Quorum.Voters) != quorum.Target(m.servers(), m.nodes)
		})
	})
	m.told = m.formed + time.Since(start)
}

// seen waits until every host that runs has seen all that run at once, and returns when.
func (w *town) seen(start time.Time, most time.Duration) time.Duration {
	w.Helper()
	up := w.running()
	waiting := slices.Clone(up)
	w.until("everybody sees everybody", most, func() bool {
		waiting = slices.DeleteFunc(waiting, func(h *townHost) bool { return h.status().Online == len(up) })
		return len(waiting) == 0
	})
	return time.Since(start)
}

// ring sends commands from several hosts and takes the time of each run.
func (m *measured) ring(w *town) {
	var all []time.Duration
	for i := range m.commands {
		from := w.hosts[i*len(w.hosts)/m.commands]
		start := time.Now()
		command := from.sendThrough()
		m.taken = max(m.taken, time.Since(start))
		w.hosts[(i*len(w.hosts)/m.commands+len(w.hosts)/2)%len(w.hosts)].readThrough()
		w.awaitRun(command, 2*time.Minute, w.hosts...)
		for _, h := range w.hosts {
			all = append(all, w.ranAt(h, command).Sub(start))
		}
		from.awaitStatus(command, exec.Success, 2*time.Minute, w.hosts...)
		m.reported = max(m.reported, time.Since(start))
	}
	slices.Sort(all)
	m.median, m.last = all[len(all)/2], all[len(all)-1]
}

// ringDeaf sends a command while a third of the hosts hears no bell: sealed packets do not reach them. What bells miss
// comes with the exchange of beacons.
func (m *measured) ringDeaf(w *town) {
	var deaf []*townHost
	ears := map[netip.AddrPort]bool{}
	for i, h := range w.hosts {
		if i%3 == 2 && h != w.leader() {
			deaf, ears[h.addr] = append(deaf, h), true
		}
	}
	w.net.Change(func(o *fabric.Options) {
		o.Lose = func(_, to netip.AddrPort, data []byte) bool { return ears[to] && len(data) > 0 && data[0] < 0x40 }
	})
	command := w.hosts[0].sendThrough()
	start := time.Now()
	time.Sleep(500 * time.Millisecond) // it was rung twice by now
	w.net.Change(func(o *fabric.Options) { o.Lose = nil })
	w.awaitRun(command, 2*time.Minute, w.hosts...)
	for _, h := range deaf {
		m.digest = max(m.digest, w.ranAt(h, command).Sub(start))
	}
}

// watch looks at a fleet to which nothing happens: how much it says, and who is thought lost that is not.
func (m *measured) watch(w *town) {
	time.Sleep(5 * time.Second)
	sent, start := w.net.Counts().Sent, time.Now()
	since := map[*townHost]time.Time{}
	for time.Since(start) < m.rest {
		time.Sleep(500 * time.Millisecond)
		for _, h := range w.running() {
			switch from, doubts := since[h]; {
			case h.status().Online == len(w.hosts):
				delete(since, h)
			case !doubts:
				since[h] = time.Now()
				m.doubts++
			default:
				m.doubted = max(m.doubted, time.Since(from))
			}
		}
	}
	m.packets = float64(w.net.Counts().Sent-sent) / time.Since(start).Seconds() / float64(len(w.hosts))
}

// loseWhileRinging is ring and lose in one: a host loses its power while a command spreads, and has that to run when it
// is back, and one more.
func (m *measured) loseWhileRinging(w *town) {
	victim := w.hosts[len(w.hosts)-1]
	start := time.Now()
	command := w.hosts[0].sendThrough()
	m.taken = time.Since(start)
	time.Sleep(time.Second)
	victim.crash()
	m.lost = w.missed(time.Minute)
	missed := w.hosts[1].sendThrough()
	again := time.Now()
	victim.start()
	m.back = w.seen(again, time.Minute)
	w.awaitRun(missed, 2*time.Minute, victim)
	m.missed = w.ranAt(victim, missed).Sub(again)
	w.awaitRun(command, 2*time.Minute, w.hosts...)
	w.awaitRun(missed, 2*time.Minute, w.hosts...)
	var all []time.Duration
	for _, h := range w.others(victim) {
		all = append(all, w.ranAt(h, command).Sub(start))
	}
	slices.Sort(all)
	m.median, m.last = all[len(all)/2], all[len(all)-1]
}

// lose takes the power of a host that does not lead; it comes back and finds a command, and one that was cancelled.
func (m *measured) lose(w *town) {
	leader := w.awaitLeader()
	victim := w.hosts[len(w.hosts)-1]
	if victim == leader {
		victim = w.hosts[len(w.hosts)-2]
	}
	victim.crash()
	m.lost = w.missed(2 * time.Minute)
	from := w.hosts[0]
	missed, cancelled := from.sendThrough(), from.sendThrough(victim)
	from.cancelThrough(cancelled)
	w.awaitRun(missed, 2*time.Minute, w.running()...)
	time.Sleep(20 * time.Second)
	start := time.Now()
	victim.start()
	w.awaitRun(missed, 2*time.Minute, victim)
	m.missed = w.ranAt(victim, missed).Sub(start)
	m.back = w.seen(start, 3*time.Minute)
	if !w.ranAt(victim, cancelled).IsZero() {
		w.Errorf("%s ran %s, which was cancelled while it was down", victim.name, cancelled)
	}
}

// missed waits until every host that runs thinks at the same time that somebody is lost.
func (w *town) missed(most time.Duration) time.Duration {
	w.Helper()
	start := time.Now()
	w.until("everybody knows that a host is lost", most, func() bool {
		return !slices.ContainsFunc(w.running(), func(h *townHost) bool { return h.status().Lost == 0 })
	})
	return time.Since(start)
}

// part cuts two fifths of the hosts off, without a majority of the voters, until each side has lost the other.
func (m *measured) part(w *town) {
	leader := w.awaitLeader()
	voters := map[string]bool{}
	for _, v := range leader.status().Quorum.Voters {
		voters[v.Name] = true
	}
	var off []*townHost
	for _, h := range w.hosts {
		if len(off) < 2*len(w.hosts)/5 && h != leader && (!voters[h.name] || m.nodes < 20 && len(off) == 0) {
			off = append(off, h)
		}
	}
	w.split(off...)
	w.until("each side has lost the other", 2*time.Minute, func() bool {
		return !slices.ContainsFunc(w.hosts, func(h *townHost) bool {
			mine := len(off)
			if !slices.Contains(off, h) {
				mine = len(w.hosts) - len(off)
			}
			return h.status().Online > mine
		})
	})
	command := leader.sendThrough()
	w.awaitRun(command, 2*time.Minute, w.others(off...)...)
	w.heal()
	start := time.Now()
	w.awaitRun(command, 5*time.Minute, off...)
	m.caughtUp = time.Since(start)
	m.healed = w.seen(start, 5*time.Minute)
}
