package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/upgrade"
)

// What of the fleet, as this host sees it, is worth a word.
const (
	// wrongClock is by how much a clock may be off: beyond it a host takes no commands (DESIGN.md, section 4). straightClock is
	// what NTP keeps to a hundred times over.
	wrongClock    = 5 * time.Minute
	straightClock = 5 * time.Second
	// A server says something every 3 s, and every host hears of it within some 10 s.
	staleBeacon = time.Minute
	soonExpired = 14 * 24 * time.Hour
	oldGossip   = 365 * 24 * time.Hour
	// leastBuffer is half of what quic-go asks for (7 MiB), as the kernel counts it: doubled.
	leastBuffer = 7 << 20
	// neighbours is how many versions a fleet may have: two run side by side, a third is a forgotten upgrade.
	neighbours = 2
)

func clockFindings(e examined) []shape.Finding {
	offs := clockOffsets(e)
	var out []shape.Finding
	if e.status != nil && e.status.ClockOff != 0 {
		out = append(out, ill("clock", levelProblem, fmt.Sprintf("this host's clock is off by %s: commands wait until it is set", e.status.ClockOff.Round(time.Second)),
			"by what the servers say"+offsetsText(offs), setClock))
	} else {
		out = append(out, relativeClock(offs)...)
	}
	if len(out) == 0 && len(offs) > 0 {
		out = append(out, fine("clock", "within "+short(widest(offs))+" of "+counted(len(offs), "member")))
	}
	if e.host.ClockKept == "no" {
		out = append(out, ill("clock", levelNote, "nothing keeps this host's clock right", "the kernel says that it is not synchronized", "timedatectl set-ntp true, or apt-get install chrony"))
	}
	return out
}

const setClock = "timedatectl set-ntp true; chronyc makestep, or date -s (then muster status)"

// offset is a member's clock less this host's.
type offset struct {
	name string
	off  time.Duration
}

func clockOffsets(e examined) []offset {
	if e.agent == nil {
		return nil
	}
	var out []offset
	for _, w := range e.agent.Ways {
		if w.Asked.OK {
			out = append(out, offset{w.Peer.Name, time.Duration(w.Asked.ClockOff) * time.Microsecond})
		}
	}
	slices.SortFunc(out, func(a, b offset) int { return cmp.Compare(a.off, b.off) })
	return out
}

// relativeClock judges clocks by each other: this host's is wrong if most others agree on something else, and another's if it alone
// differs.
func relativeClock(offs []offset) []shape.Finding {
	if len(offs) == 0 {
		return nil
	}
	middle := agreed(offs)
	if len(offs) == 1 {
		middle = offs[0].off
	}
	if len(offs) == 1 && middle.Abs() >= straightClock {
		return []shape.Finding{ill("clock", grade(middle), fmt.Sprintf("this host's clock and %s's are %s apart, and nobody else could be asked", offs[0].name, short(middle.Abs())), "", setClock+" on the one that is wrong")}
	}
	var out []shape.Finding
	if middle.Abs() >= straightClock {
		way := "behind"
		if middle < 0 {
			way = "ahead of"
		}
		out = append(out, ill("clock", grade(middle), fmt.Sprintf("this host's clock is %s %s the others'", short(middle.Abs()), way), "by "+counted(len(offs), "member")+offsetsText(offs), setClock))
	}
	for _, o := range offs {
		if len(offs) > 1 && (o.off-middle).Abs() >= straightClock {
			out = append(out, ill("clock", levelWarning, fmt.Sprintf("the clock of %s is %s off", o.name, short((o.off-middle).Abs())), "by the others'", "there: "+setClock))
		}
	}
	return out
}

// agreed returns what most clocks agree on, as an offset from this host's, which has a voice too. Of two halves that differ, it is the
// one nearer to this host's.
func agreed(offs []offset) time.Duration {
	all := []time.Duration{0}
	for _, o := range offs {
		all = append(all, o.off)
	}
	slices.Sort(all)
	lower, upper := all[(len(all)-1)/2], all[len(all)/2]
	if lower.Abs() < upper.Abs() {
		return lower
	}
	return upper
}

func grade(off time.Duration) string {
	if off.Abs() >= wrongClock {
		return levelProblem
	}
	return levelWarning
}

func offsetsText(offs []offset) string {
	var parts []string
	for _, o := range offs {
		sign := "+"
		if o.off < 0 {
			sign = "-"
		}
		parts = append(parts, o.name+" "+sign+short(o.off.Abs()))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

func widest(offs []offset) time.Duration {
	var most time.Duration
	for _, o := range offs {
		most = max(most, o.off.Abs())
	}
	return most
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func uplinkFindings(e examined) []shape.Finding {
	if e.status == nil || !e.status.Outbound {
		return nil
	}
	var names []string
	for _, u := range e.status.Uplinks {
		names = append(names, u.Name)
	}
	switch len(names) {
	case 0:
		return []shape.Finding{ill("uplinks", levelProblem, "nobody reaches this host: it is outbound-only, and no uplink stands", strings.Join(e.status.Warnings, "; "), "muster status; members that can be dialled must be online, and UDP must get out")}
	case 1:
		return []shape.Finding{ill("uplinks", levelWarning, "this host is reached through "+names[0]+" alone: it is lost with it", "one uplink of two stands", "muster node list: is there a second member that can be dialled?")}
	}
	return []shape.Finding{fine("uplinks", "reached through "+strings.Join(names, " and "))}
}

func bufferFindings(e examined) []shape.Finding {
	if e.agent == nil {
		return nil
	}
	for _, s := range e.agent.Process.Sockets {
		if s.Proto != "udp" {
			continue
		}
		if s.Drops > 0 {
			return []shape.Finding{ill("buffers", levelWarning, fmt.Sprintf("%d packets came faster than the agent read them, and were lost", s.Drops),
				fmt.Sprintf("since it started, at %s; its buffer has %s", s.Local, byteText(int64(s.RecvBytes/2))), "sysctl -w net.core.rmem_max=7500000, and restart the agent; is the host out of processor time? uptime")}
		}
		if s.RecvBytes > 0 && min(s.RecvBytes, s.SendBytes) < leastBuffer {
			return []shape.Finding{ill("buffers", levelNote, "the buffers of the UDP socket are small: bursts are lost, and copies are slow",
				fmt.Sprintf("%s to receive, %s to send; net.core.rmem_max is %d", byteText(int64(s.RecvBytes/2)), byteText(int64(s.SendBytes/2)), e.host.RmemMax),
				"sysctl -w net.core.rmem_max=7500000 net.core.wmem_max=7500000, and restart the agent")}
		}
		return []shape.Finding{fine("buffers", fmt.Sprintf("%s to receive, %s to send, nothing lost", byteText(int64(s.RecvBytes/2)), byteText(int64(s.SendBytes/2))))}
	}
	return nil
}

func socketFindings(e examined) []shape.Finding {
	if e.agent == nil || len(e.agent.Process.Sockets) == 0 {
		return nil
	}
	var udp, tcp []string
	for _, s := range e.agent.Process.Sockets {
		if s.Proto == "udp" {
			udp = append(udp, s.Local)
		} else {
			tcp = append(tcp, s.Local)
		}
	}
	metrics := 0
	if e.agent.Process.Metrics != "" {
		metrics = 1
	}
	switch {
	case len(udp) != 1:
		return []shape.Finding{ill("sockets", levelWarning, fmt.Sprintf("the agent has %d UDP sockets, and needs one", len(udp)), strings.Join(udp, ", "), "muster debug bundle, and tell us")}
	case len(tcp) > metrics:
		return []shape.Finding{ill("sockets", levelNote, fmt.Sprintf("the agent listens on %s of TCP", counted(len(tcp), "port")), strings.Join(tcp, ", ")+": metrics, and what operators forward from here (-R)", "muster session list")}
	case len(tcp) > 0:
		return []shape.Finding{fine("sockets", "one UDP ("+udp[0]+"), TCP for metrics ("+tcp[0]+")")}
	}
	return []shape.Finding{fine("sockets", "one UDP ("+udp[0]+"), no TCP")}
}

func quorumFindings(e examined) []shape.Finding {
	if e.status == nil || e.agent == nil {
		return nil
	}
	q := e.status.Quorum
	online, missing := 0, []string{}
	for _, v := range q.Voters {
		if v.Online {
			online++
		} else {
			missing = append(missing, v.Name)
		}
	}
	said, stale := lastBeacon(e)
	there := "there: systemctl start muster; muster doctor"
	if isCutOff(e) {
		there = "this host is cut off: mend that first (ways)"
	}
	switch need := len(q.Voters)/2 + 1; {
	case len(q.Voters) == 0:
		return []shape.Finding{ill("quorum", levelProblem, "no quorum is known here: nothing new can be agreed", said, "muster node list; muster quorum status on another host")}
	case online < need:
		return []shape.Finding{ill("quorum", levelProblem, fmt.Sprintf("the quorum is lost: %d of %s online, %d needed; nothing new can be agreed, what hosts hold goes on", online, counted(len(q.Voters), "voter"), need),
			joined("missing: "+fleet.FoldNames(missing), said), there+"; muster run --direct needs no quorum")}
	case stale:
		return []shape.Finding{ill("quorum", levelProblem, "the servers are silent: what was agreed lately is not known here", said, "muster quorum status, here and on "+voterNames(q))}
	case q.Leader.IsZero():
		return []shape.Finding{ill("quorum", levelProblem, "no leader is known here: nothing new can be agreed from here", said, "muster quorum status, again in ten seconds; then muster doctor on "+voterNames(q))}
	case len(missing) > 0:
		return []shape.Finding{ill("quorum", levelWarning, q.Danger, said, there)}
	}
	what := quorumLine(q)
	if q.Danger != "" {
		what += "; " + q.Danger
	}
	return []shape.Finding{fine("quorum", joined(what, said))}
}

// lastBeacon says how old the servers' last word is, and whether that is too old. Of a server's own replica it says nothing: that one
// speaks also where nobody hears it.
func lastBeacon(e examined) (said string, stale bool) {
	switch {
	case e.status.Self.Role == fleet.Lead || e.status.Self.Role == fleet.Voter || e.status.Self.Role == fleet.Spare:
		return "", false
	case e.agent.Beacon.Age == nil:
		return "the servers have never said anything here", true
	}
	d := time.Duration(*e.agent.Beacon.Age) * time.Millisecond
	return "a server's last word is " + age(d) + " old", d > staleBeacon
}

// joined joins what there is to say.
func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "; ")
}

func voterNames(q node.QuorumStatus) string {
	var names []string
	for _, v := range q.Voters {
		names = append(names, v.Name)
	}
	return fleet.FoldNames(names)
}

func keyFindings(e examined) []shape.Finding {
	if e.agent == nil {
		return nil
	}
	k := e.agent.Keys
	if !k.HasGossip {
		return []shape.Finding{ill("keys", levelProblem, fmt.Sprintf("this host has not the gossip key of epoch %d: the others do not hear it", k.GossipEpoch), "it is fetched from any member over a connection", "see the findings of ways; a member that can be dialled hands it over by itself")}
	}
	what := fmt.Sprintf("gossip key %d", k.GossipEpoch)
	if k.GossipSince != nil {
		old := e.now.Sub(*k.GossipSince)
		if old > oldGossip {
			return []shape.Finding{ill("keys", levelNote, "the gossip key is "+age(old)+" old", "it turns when a node is removed, and none was", "nothing: whoever had it and left is only kept out of gossip by another")}
		}
		what += ", " + age(old) + " old"
	}
	if k.Enrolled != nil {
		what += "; this host's key " + age(e.now.Sub(*k.Enrolled))
	}
	return []shape.Finding{fine("keys", what)}
}

func operatorFindings(e examined) []shape.Finding {
	if e.agent == nil || len(e.agent.Keys.Operators) == 0 {
		return nil
	}
	const renew = "muster operator request, and muster operator approve CODE where a root key is"
	var out []shape.Finding
	stand := 0
	for _, op := range e.agent.Keys.Operators {
		if op.Expires == nil {
			stand++
			continue
		}
		left := op.Expires.Sub(e.now)
		switch {
		case left <= 0:
			out = append(out, ill("operators", levelWarning, "the key of operator "+op.Name+" has expired", op.Expires.Format(time.DateOnly), renew))
			continue
		case left < soonExpired:
			out = append(out, ill("operators", levelWarning, "the key of operator "+op.Name+" expires in "+age(left), op.Expires.Format(time.DateOnly), renew))
		}
		stand++
	}
	if stand == 0 {
		return append(out, ill("operators", levelProblem, "no operator stands: nobody can order anything", "all of their keys have expired", renew))
	}
	if len(out) == 0 {
		out = append(out, fine("operators", counted(stand, "operator")))
	}
	return out
}

func versionFindings(e examined) []shape.Finding {
	if e.agent == nil {
		return nil
	}
	by := map[string][]string{}
	for _, m := range e.agent.Members {
		if m.Version != "" {
			by[m.Version] = append(by[m.Version], m.Name)
		}
	}
	var out []shape.Finding
	if len(by) > 1 {
		level, what := levelNote, "the fleet is between two versions"
		if len(by) > neighbours {
			level, what = levelWarning, fmt.Sprintf("the fleet has %d versions; only neighbours are made to run together", len(by))
		}
		var parts []string
		for _, v := range slices.Sorted(maps.Keys(by)) {
			parts = append(parts, v+": "+fleet.FoldNames(by[v]))
		}
		out = append(out, ill("versions", level, what, strings.Join(parts, "; "), "muster upgrade --to FILE --all; muster node list -o wide"))
	}
	if b := e.agent.Beacon; b.Level > b.Supports {
		out = append(out, ill("versions", levelProblem, fmt.Sprintf("the fleet writes at level %d, and this host's program understands %d", b.Level, b.Supports), "it stops at what it does not understand", "upgrade this host: muster version; muster node list -o wide"))
	}
	if text := holdersText(e.levels); text != "" {
		out = append(out, ill("versions", levelNote, fmt.Sprintf("the fleet stays at level %d: not everybody is known to understand %d", e.levels.Level, e.levels.Supports), text, "muster quorum status; muster upgrade"))
	}
	if len(out) == 0 {
		out = append(out, fine("versions", fmt.Sprintf("%s everywhere, level %d", e.agent.Process.Version, max(e.agent.Beacon.Level, 1))))
	}
	return out
}

// upgradeFindings tells of an upgrade of this host that has not ended, or was taken back.
func upgradeFindings(e examined) []shape.Finding {
	u := e.host.Upgrade
	switch {
	case u == nil || u.Stage == string(upgrade.Kept):
		return nil
	case u.Stage == string(upgrade.Undone):
		return []shape.Finding{ill("upgrade", levelWarning, fmt.Sprintf("the last upgrade of this host, from %s to %s, was taken back", u.From, u.To), u.Why, "muster upgrade --to FILE, with a release that is mended")}
	}
	return []shape.Finding{ill("upgrade", levelNote, fmt.Sprintf("an upgrade of this host, from %s to %s, is under way: %s", u.From, u.To, u.Stage), u.Why, "muster command list; in two minutes it has judged itself")}
}

// holdersText names who keeps the fleet's level back; "": nobody.
func holdersText(l node.LevelStatus) string {
	var parts []string
	for _, h := range l.Holding {
		text := fmt.Sprintf("%s at level %d", h.Name, h.Level)
		if h.Level == 0 {
			text = h.Name + " has not said"
		}
		if !h.Online {
			text += " (not online)"
		}
		parts = append(parts, text)
	}
	if l.More > 0 {
		parts = append(parts, fmt.Sprintf("%d more", l.More))
	}
	return strings.Join(parts, ", ")
}

// statusFindings are the agent's own warnings, but for those of which another finding says more.
func statusFindings(e examined) []shape.Finding {
	if e.status == nil {
		return nil
	}
	var out []shape.Finding
	plight := e.status.Self.Plight
	switch {
	case strings.HasPrefix(plight, "quarantine"):
		out = append(out, ill("status", levelProblem, "this host is in quarantine: it does nothing", plight, "muster agent generalize on the false one of two hosts with one key; docs/hosts.md has the true one's way out"))
	case plight != "":
		out = append(out, ill("status", levelNote, "this host does not do all of its work: "+plight, "", ""))
	}
	for _, w := range e.status.Warnings {
		if plight != "" && strings.Contains(w, plight) {
			continue
		}
		if w == e.status.Quorum.Danger || e.status.Outbound && strings.Contains(w, "uplink") {
			continue
		}
		if slices.ContainsFunc([]string{"clock is off", "the disk of", "over its budget"}, func(said string) bool { return strings.Contains(w, said) }) {
			continue
		}
		out = append(out, ill("status", levelWarning, w, "the agent says so itself", ""))
	}
	return out
}
