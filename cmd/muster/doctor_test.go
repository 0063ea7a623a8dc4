package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// wellExamined is a host with which all is well, in a fleet of four.
func wellExamined() examined {
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	c := wellCheckup(now)
	for _, name := range []string{"web2", "web3", "web4"} {
		c.Ways = append(c.Ways, goodWay(name))
		c.Members = append(c.Members, shape.MemberCheck{Name: name, Version: "1.2.3", Status: "Online"})
	}
	leader := fleet.Sum([]byte("web2"))
	s := node.Status{Self: fleet.Member{Role: fleet.Plain}, Online: 4, Quorum: node.QuorumStatus{Leader: leader, Term: 3, Voters: []node.ServerStatus{
		{ID: leader, Name: "web2", Online: true}, {Name: "web3", Online: true}, {Name: "web4", Online: true},
	}}}
	return examined{agent: &c, host: c.Host, status: &s, founded: true, dir: c.Host.Dir, now: now,
		service: serviceCheck{manager: "systemd", installed: true, enabled: true, active: "active", result: "success"}}
}

func goodWay(name string) shape.WayCheck {
	p := []shape.Probe{{Address: "10.0.0." + name[3:] + ":7980", Answered: true, RTT: 300, Largest: 1472}}
	return shape.WayCheck{Peer: shape.Named{Name: name}, Status: "Online", There: p, Back: slices.Clone(p), Asked: shape.Asked{OK: true, RTT: 400, Version: "1.2.3"}}
}

// silentWay is one by which nothing comes.
func silentWay(name string, others ...bool) shape.WayCheck {
	w := shape.WayCheck{Peer: shape.Named{Name: name}, Status: "Online", There: []shape.Probe{{Address: "10.0.0." + name[3:] + ":7980"}}, Asked: shape.Asked{Error: "no answer from 10.0.0." + name[3:]}}
	for _, reach := range others {
		w.Others = append(w.Others, shape.OtherProbe{By: shape.Named{Name: "web4"}, Probes: []shape.Probe{{Answered: reach}}})
	}
	return w
}

func TestAllIsWell(t *testing.T) {
	t.Parallel()
	e := wellExamined()
	seen := map[string]bool{}
	for _, f := range diagnose(e) {
		if f.Level != levelOK {
			t.Errorf("%+v", f)
		}
		seen[f.Check] = true
	}
	for _, check := range []string{"agent", "service", "disk", "files", "clock", "ways", "mtu", "buffers", "sockets", "quorum", "keys", "operators", "versions", "cores"} {
		if !seen[check] {
			t.Errorf("nothing is said of %s", check)
		}
	}
}

// TestEachIll: each thing that is broken gives the finding that names it, at its level, with what mends it, and nothing else is said to
// be a problem.
func TestEachIll(t *testing.T) {
	t.Parallel()
	minutes := func(n int64) int64 { return n * 60_000_000 }
	for name, c := range map[string]struct {
		spoil func(*examined)
		check string
		level string
		says  string // of what, evidence and mend together, each part behind the other
	}{
		"no agent": {func(e *examined) {
			e.agent, e.status, e.silent = nil, nil, errors.New("no agent answers at /run/muster/agent.sock")
			e.service.active, e.service.result = "failed", "exit-code"
		}, "agent", levelProblem, "no agent answers … agent.sock … systemctl start muster; journalctl -u muster"},
		"service failed": {func(e *examined) { e.service.active, e.service.result = "failed", "watchdog" }, "service", levelProblem, "failed: watchdog … journalctl"},
		"service loops":  {func(e *examined) { e.service.active, e.service.restarts = "activating", 7 }, "service", levelProblem, "does not come up … 7 restarts"},
		"never enrolled": {func(e *examined) {
			e.agent, e.status, e.silent, e.founded = nil, nil, errors.New("no agent"), false
			e.host.DirError, e.service = "no such directory", serviceCheck{}
		}, "agent", levelProblem, "in no fleet yet … muster join"},
		"older agent":      {func(e *examined) { e.agent, e.status, e.silent = nil, nil, fleet.Errorf(fleet.NotFound, "no POST") }, "agent", levelNote, "older version"},
		"stuck":            {func(e *examined) { e.agent.Process.Stuck = true }, "agent", levelProblem, "loop is stuck … debug bundle"},
		"replaced":         {func(e *examined) { e.agent.Process.Replaced = true }, "agent", levelWarning, "not on the disk … systemctl restart"},
		"descriptors":      {func(e *examined) { e.agent.Process.Files = 1000 }, "agent", levelProblem, "run out of file descriptors … 1000 are open of 1024"},
		"not enabled":      {func(e *examined) { e.service.enabled = false }, "service", levelWarning, "does not start with this host … systemctl enable muster"},
		"openrc":           {func(e *examined) { e.service = serviceCheck{manager: "openrc", installed: true, active: "started"} }, "service", levelWarning, "rc-update add muster"},
		"crashes":          {func(e *examined) { e.service.restarts, e.service.result = 3, "oom-kill" }, "service", levelWarning, "started again, 3 times … oom-kill"},
		"config":           {func(e *examined) { e.config = []string{"/etc/muster/config.yaml:3: no key bnid"} }, "config", levelProblem, "config.yaml:3 … muster config check"},
		"disk full":        {func(e *examined) { e.host.Free = 1 << 20 }, "disk", levelProblem, "is full … 1 MiB left … df -h /var/lib/muster"},
		"disk nearly full": {func(e *examined) { e.host.Free = 100 << 20 }, "disk", levelWarning, "nearly full"},
		"small disk":       {func(e *examined) { e.host.Free, e.host.Total = 40<<20, 128<<20 }, "disk", levelOK, "40 MiB left"},
		"inodes":           {func(e *examined) { e.host.FreeFiles = 3 }, "disk", levelProblem, "no more files … 3 inodes … df -i"},
		"read-only":        {func(e *examined) { e.host.ReadOnly, e.host.FsyncError = true, "read-only" }, "disk", levelProblem, "read-only … remount,rw"},
		"no file":          {func(e *examined) { e.host.FsyncError = "input/output error" }, "disk", levelProblem, "takes no file … input/output error"},
		"slow disk":        {func(e *examined) { e.host.Fsync = 150_000 }, "disk", levelWarning, "is slow … 150 ms … iostat"},
		"dead slow disk":   {func(e *examined) { e.host.Fsync = 2_000_000 }, "disk", levelProblem, "lose their lead … 2.0 s"},
		"one slow fsync":   {func(e *examined) { e.host.FsyncWorst = 3_000_000 }, "disk", levelWarning, "at worst 3.0 s"},
		"over bound": {func(e *examined) {
			e.stores = []api.Store{{What: "runs", Path: "/d/runs", Bytes: 6, Bound: 5, Free: 1 << 30}}
		}, "disk", levelProblem, "runs takes 6 B, more than its bound of 5 B (/d/runs)"},
		"open folder":       {func(e *examined) { e.host.Loose, e.host.LooseMore = []string{"/var/lib/muster/identity"}, 4 }, "files", levelProblem, "get at its keys … identity and 4 more … chmod 700 /var/lib/muster"},
		"no memory":         {func(e *examined) { e.host.MemFree = 1 << 20 }, "memory", levelWarning, "nearly out of memory"},
		"clock suspect":     {func(e *examined) { e.status.ClockOff = 7 * time.Minute }, "clock", levelProblem, "off by 7m0s: commands wait … set-ntp"},
		"clock ahead":       {func(e *examined) { offs(e, -minutes(2), -minutes(2), -minutes(2)) }, "clock", levelWarning, "120 s ahead of the others' … web2 -120 s"},
		"clock behind":      {func(e *examined) { offs(e, minutes(6), minutes(6)+1, minutes(6)) }, "clock", levelProblem, "360 s behind the others'"},
		"another's clock":   {func(e *examined) { offs(e, 0, minutes(3), 0) }, "clock", levelWarning, "clock of web3 is 180 s off … there: timedatectl"},
		"one of two others": {func(e *examined) { e.agent.Ways = e.agent.Ways[:2]; offs(e, 0, minutes(3)) }, "clock", levelWarning, "clock of web3 is 180 s off"},
		"one other's clock": {func(e *examined) { e.agent.Ways = e.agent.Ways[:1]; offs(e, minutes(3)) }, "clock", levelWarning, "web2's are 180 s apart, and nobody else could be asked"},
		"no ntp":            {func(e *examined) { e.host.ClockKept = "no" }, "clock", levelNote, "nothing keeps this host's clock right"},
		"one way dead":      {func(e *examined) { e.agent.Ways[0] = silentWay("web2", true) }, "ways", levelProblem, "nothing passes between this host and web2, which others reach … 10.0.0.2:7980 no answer, web4 gets an answer … nft list ruleset | grep -n 7980, ip route get 10.0.0.2"},
		"one is down":       {func(e *examined) { e.agent.Ways[0] = silentWay("web2", false, false) }, "ways", levelWarning, "web2 answers nobody … no answer either … there: systemctl start muster"},
		"cut off": {func(e *examined) {
			e.agent.Ways = []shape.WayCheck{silentWay("web2"), silentWay("web3"), silentWay("web4")}
		}, "ways", levelProblem, "nobody answers this host: web[2-4] are silent … ping -c 3 10.0.0.2; nft"},
		"no network": {func(e *examined) {
			e.agent.Ways, e.host.Routes = []shape.WayCheck{silentWay("web2")}, false
		}, "ways", levelProblem, "in no network … ip addr; ip route"},
		"own firewall": {func(e *examined) {
			w := silentWay("web2")
			w.There[0].Error = "this host's own firewall does not let it out"
			e.agent.Ways = []shape.WayCheck{w}
		}, "ways", levelProblem, "own firewall lets none … output"},
		"all down": {func(e *examined) {
			w := silentWay("web2")
			w.There[0].Error = "refused: no agent listens there"
			e.agent.Ways = []shape.WayCheck{w}
		}, "ways", levelProblem, "no agent runs at the address of web2"},
		"deaf": {func(e *examined) {
			e.agent.Ways[0].Asked = shape.Asked{Error: "no answer"}
			e.agent.Ways[0].Back = nil
		}, "ways", levelProblem, "what web2 sends to this host's UDP port 7980 does not arrive … ufw allow 7980/udp"},
		"removed": {func(e *examined) {
			e.agent.Ways[0].Asked, e.agent.Ways[0].Back = shape.Asked{Refused: true, Error: "node web1 was removed"}, nil
		}, "ways", levelProblem, "web2 refuses this host … was removed"},
		"stateful firewall": {func(e *examined) {
			for i := range e.agent.Ways {
				e.agent.Ways[i].Back[0].Answered, e.agent.Ways[i].Back[0].Largest = false, 0
			}
		}, "ways", levelProblem, "web[2-4] cannot begin to talk with this host: only answers get in … web2 tried 10.0.0.2:7980: no answer … firewall-cmd --permanent --add-port=7980/udp"},
		"shy": {func(e *examined) {
			e.agent.Ways[0].There[0].Answered, e.agent.Ways[0].There[0].Largest = false, 0
		}, "ways", levelWarning, "web2 answers who is known there, and nobody new … there: open UDP port"},
		"older peer": {func(e *examined) {
			e.agent.Ways[0].Asked, e.agent.Ways[0].Back = shape.Asked{Older: true}, nil
		}, "ways", levelNote, "web2 answers, and cannot say whether they reach this host … older version"},
		"dead address": {func(e *examined) {
			for i := range e.agent.Ways {
				e.agent.Ways[i].Back = append(e.agent.Ways[i].Back, shape.Probe{Address: "192.168.9.9:7980"})
			}
		}, "ways", levelNote, "web[2-4] do not reach this host at 192.168.9.9:7980, but at another"},
		"outbound peer is gone": {func(e *examined) {
			e.agent.Ways[0] = shape.WayCheck{Peer: shape.Named{Name: "web2"}, Outbound: true, Asked: shape.Asked{Error: "no uplink"}}
		}, "ways", levelWarning, "web2 cannot be dialled, and gives no answer … no uplink"},
		"alone": {func(e *examined) { e.agent.Ways, e.status.Online = nil, 1 }, "ways", levelOK, "the only one of its fleet"},
		"mtu of the path": {func(e *examined) {
			e.agent.Ways[0].There[0] = shape.Probe{Address: "10.0.0.2:7980", Largest: 1172}
			e.agent.Ways[0].Asked, e.agent.Ways[0].Back = shape.Asked{Error: "no answer"}, nil
		}, "mtu", levelProblem, "packets of 1200 bytes do not pass to web2 … up to about 1172 bytes … tracepath -n 10.0.0.2"},
		"mtu of this host": {func(e *examined) {
			e.host.Interfaces[0].MTU = 1200
			for i := range e.agent.Ways {
				e.agent.Ways[i].There[0].Answered, e.agent.Ways[i].There[0].Largest = false, 1172
			}
		}, "mtu", levelProblem, "web[2-4], and no connection … eth0 has an MTU of 1200 … ip link set dev eth0 mtu 1500"},
		"mtu for gossip": {func(e *examined) { e.agent.Ways[1].Back[0].Largest = 1200 }, "mtu", levelProblem, "gossip's largest packets, 1232 bytes, do not pass to web3 … up to 1200"},
		"no uplink":      {func(e *examined) { e.status.Outbound, e.agent.Outbound = true, true }, "uplinks", levelProblem, "nobody reaches this host: it is outbound-only"},
		"one uplink": {func(e *examined) {
			e.status.Outbound, e.agent.Outbound, e.status.Uplinks = true, true, []node.ServerStatus{{Name: "web2"}}
		}, "uplinks", levelWarning, "through web2 alone"},
		"drops":         {func(e *examined) { e.agent.Process.Sockets[0].Drops = 12 }, "buffers", levelWarning, "12 packets … net.core.rmem_max"},
		"small buffers": {func(e *examined) { e.agent.Process.Sockets[0].RecvBytes = 425984 }, "buffers", levelNote, "208 KiB to receive … sysctl -w net.core.rmem_max=7500000"},
		"two sockets": {func(e *examined) {
			e.agent.Process.Sockets = append(e.agent.Process.Sockets, e.agent.Process.Sockets[0])
		}, "sockets", levelWarning, "has 2 UDP sockets"},
		"tcp": {func(e *examined) {
			e.agent.Process.Sockets = append(e.agent.Process.Sockets, shape.SocketCheck{Proto: "tcp", Local: "127.0.0.1:5432"})
		}, "sockets", levelNote, "listens on 1 port of TCP … 127.0.0.1:5432"},
		"metrics": {func(e *examined) {
			e.agent.Process.Metrics = "127.0.0.1:7981"
			e.agent.Process.Sockets = append(e.agent.Process.Sockets, shape.SocketCheck{Proto: "tcp", Local: "127.0.0.1:7981"})
		}, "sockets", levelOK, "TCP for metrics (127.0.0.1:7981)"},
		"quorum lost": {func(e *examined) {
			e.status.Quorum.Voters[1].Online, e.status.Quorum.Voters[2].Online = false, false
		}, "quorum", levelProblem, "the quorum is lost: 1 of 3 voters online, 2 needed … missing: web[3-4] … --direct"},
		"one voter less": {func(e *examined) {
			e.status.Quorum.Voters[2].Online, e.status.Quorum.Danger = false, "2 of 3 voters can be seen: losing one more stops writes (missing: web4)"
		}, "quorum", levelWarning, "losing one more stops writes (missing: web4)"},
		"no leader":    {func(e *examined) { e.status.Quorum.Leader = fleet.ID{} }, "quorum", levelProblem, "no leader is known here … muster doctor on web[2-4]"},
		"no quorum":    {func(e *examined) { e.status.Quorum.Voters = nil }, "quorum", levelProblem, "no quorum is known here"},
		"stale":        {func(e *examined) { *e.agent.Beacon.Age = 300_000 }, "quorum", levelProblem, "the servers are silent … 5 min old"},
		"no key":       {func(e *examined) { e.agent.Keys.HasGossip = false }, "keys", levelProblem, "has not the gossip key of epoch 1"},
		"old key":      {func(e *examined) { *e.agent.Keys.GossipSince = e.now.AddDate(-2, 0, 0) }, "keys", levelNote, "730 d old"},
		"expires soon": {func(e *examined) { expire(e, 5*24*time.Hour) }, "operators", levelWarning, "operator bob expires in 5 d 0 h … muster operator request"},
		"expired":      {func(e *examined) { expire(e, -time.Hour) }, "operators", levelWarning, "operator bob has expired"},
		"nobody stands": {func(e *examined) {
			expire(e, -time.Hour)
			e.agent.Keys.Operators = e.agent.Keys.Operators[1:]
		}, "operators", levelProblem, "no operator stands"},
		"two versions":   {func(e *examined) { e.agent.Members[1].Version = "1.2.4" }, "versions", levelNote, "between two versions … 1.2.3: web[01,3-4]; 1.2.4: web2 … muster upgrade"},
		"three versions": {func(e *examined) { e.agent.Members[1].Version, e.agent.Members[2].Version = "1.2.4", "1.1.0" }, "versions", levelWarning, "has 3 versions"},
		"level above":    {func(e *examined) { e.agent.Beacon.Level = 9 }, "versions", levelProblem, "writes at level 9"},
		"level held": {func(e *examined) {
			e.levels = node.LevelStatus{Level: 1, Supports: 2, Holding: []node.LevelHolder{{Name: "web4"}}, More: 2}
		}, "versions", levelNote, "stays at level 1 … web4 has not said (not online), 2 more"},
		"upgrade taken back": {func(e *examined) {
			e.host.Upgrade = &shape.UpgradeCheck{Stage: "undone", From: "1.2.3", To: "1.2.4", Why: "it saw nobody"}
		}, "upgrade", levelWarning, "from 1.2.3 to 1.2.4, was taken back … it saw nobody … muster upgrade --to"},
		"upgrade on trial": {func(e *examined) {
			e.host.Upgrade = &shape.UpgradeCheck{Stage: "trying", From: "1.2.3", To: "1.2.4"}
		}, "upgrade", levelNote, "is under way: trying"},
		"over budget": {func(e *examined) { e.agent.Budget = shape.BudgetCheck{Memory: 64 << 20, Refusing: "70 MiB of memory"} }, "budget", levelProblem, "over its budget … 70 MiB of memory … memory.budget"},
		"restarted for its budget": {func(e *examined) {
			e.agent.Budget = shape.BudgetCheck{Memory: 64 << 20, Acts: []shape.BudgetAct{{At: e.now.Add(-time.Hour), What: "restart", Why: "200 MiB"}, {At: e.now, What: "return memory"}}}
		}, "budget", levelWarning, "had to keep to its budget (64 MiB of memory): restart, 1 h 0 min ago … 200 MiB"},
		"within budget": {func(e *examined) {
			e.agent.Budget = shape.BudgetCheck{CPU: 25, Acts: []shape.BudgetAct{{At: e.now, What: "return memory"}}}
		}, "budget", levelOK, "25 % of a processor"},
		"cores":      {func(e *examined) { e.agent.Process.Dumpable = true }, "cores", levelWarning, "write its keys into a core file"},
		"warning":    {func(e *examined) { e.status.Warnings = []string{"two nodes tell the same address"} }, "status", levelWarning, "two nodes tell the same address"},
		"paused":     {func(e *examined) { e.status.Self.Plight = "paused: by root" }, "status", levelNote, "does not do all of its work: paused: by root"},
		"quarantine": {func(e *examined) { e.status.Self.Plight = "quarantine: its key lives twice" }, "status", levelProblem, "in quarantine … its key lives twice … generalize"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := wellExamined()
			c.spoil(&e)
			found := diagnose(e)
			met := false
			for _, f := range found {
				if f.Check == c.check && f.Level == c.level && inOrder(strings.Join([]string{f.What, f.Evidence, f.Mend}, " \n "), c.says) {
					met = true
				} else if severity(f.Level) >= severity(levelWarning) && severity(f.Level) >= severity(c.level) && !follows(c.check, f.Check) {
					t.Errorf("it says too: %+v", f)
				}
			}
			if !met {
				t.Errorf("nothing of %s says %q at level %s:", c.check, c.says, c.level)
				for _, f := range found {
					t.Logf("%+v", f)
				}
			}
			if well := healthy(found); well == (c.level == levelProblem) {
				t.Errorf("healthy is %v", well)
			}
		})
	}
}

// follows reports whether an ill of one check brings one of another with it.
func follows(first, then string) bool {
	return first == then || first == "agent" && then == "service" || first == "mtu" && then == "ways"
}

func offs(e *examined, micros ...int64) {
	for i, off := range micros {
		e.agent.Ways[i].Asked.ClockOff = off
	}
}

func expire(e *examined, in time.Duration) {
	at := e.now.Add(in)
	e.agent.Keys.Operators = append(e.agent.Keys.Operators, shape.OperatorKey{Name: "bob", Expires: &at})
}

// inOrder reports whether the parts of a text between … stand in another, one behind the other.
func inOrder(text, parts string) bool {
	for part := range strings.SplitSeq(parts, " … ") {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

// TestCutOffIsSaidOnce: a host that reaches nobody is told so, and not to mend the others.
func TestCutOffIsSaidOnce(t *testing.T) {
	t.Parallel()
	e := wellExamined()
	e.agent.Ways = []shape.WayCheck{silentWay("web2"), silentWay("web3")}
	for i := range e.status.Quorum.Voters {
		e.status.Quorum.Voters[i].Online = false
	}
	for _, f := range diagnose(e) {
		if f.Check == "quorum" && !strings.Contains(f.Mend, "mend that first") {
			t.Errorf("%+v", f)
		}
	}
}

// TestWithoutAgent: the host itself, and where packets go, is looked at without an agent.
func TestWithoutAgent(t *testing.T) {
	t.Parallel()
	for want, ways := range map[string][]shape.WayCheck{
		"packets pass to web[2-3]":                  {goodWay("web2"), goodWay("web3")},
		"packets pass to web2, and not to web3":     {goodWay("web2"), silentWay("web3")},
		"nobody answers this host: web3 is silent":  {silentWay("web3")},
		"nobody answers this host: web[2-3] are si": {silentWay("web2"), silentWay("web3")},
	} {
		e := wellExamined()
		e.agent, e.status, e.silent, e.ways = nil, nil, errors.New("no agent"), ways
		var said string
		for _, f := range diagnose(e) {
			if f.Check == "ways" {
				said += f.What
			}
		}
		if !strings.HasPrefix(said, want) {
			t.Errorf("%q, want %q", said, want)
		}
	}
}

// TestMendsAreThere: what is no ok says what mends it, or at least what was found.
func TestMendsAreThere(t *testing.T) {
	t.Parallel()
	e := wellExamined()
	e.agent.Process.Root, e.status.Self.Plight = false, "paused"
	for _, f := range diagnose(e) {
		if f.What == "" || severity(f.Level) >= severity(levelWarning) && f.Mend == "" && f.Check != "status" {
			t.Errorf("%+v", f)
		}
	}
}

func TestByteText(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 4 << 30: "4 GiB", 1 << 50: "1 PiB"} {
		if got := byteText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{59 * time.Second: "59 s", 61 * time.Second: "1 min", 25 * time.Hour: "1 d 1 h", 240 * time.Hour: "10 d", 3 * time.Hour: "3 h 0 min", -time.Hour: "0 s"} {
		if got := age(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
