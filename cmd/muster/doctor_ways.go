package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// state is how the way between this host and a member is.
type wayState int

const (
	wayFine     wayState = iota
	wayOlder             // it answers, and its version cannot say whether it reaches this host
	wayNarrow            // small packets pass, and those that a connection needs do not
	wayDead              // nothing passes, and others reach it
	wayGone              // nothing passes, and others do not reach it either
	waySilent            // nothing passes, and there is nobody to ask
	wayRefused           // it answers, with a no
	wayDeaf              // packets from a new port are answered, and those of the agent's own are not
	wayShy               // the agents talk, and the peer answers nobody new
	wayUntried           // nobody can dial it, and it does not answer the agent
	wayOneSided          // the agents talk, and the peer gets no answer when it begins
)

// judge says how a way is. outbound: this host is one that nobody can dial.
func judge(w shape.WayCheck, outbound bool) wayState {
	answered, size := anyAnswered(w.There), largest(w.There)
	talks := w.Asked.OK || w.Asked.Older
	switch {
	case !talks && w.Asked.Refused:
		return wayRefused
	case !talks && w.Outbound:
		return wayUntried
	case size > 0 && size < transport.LeastPayload, !talks && size > 0 && size < transport.MaxPacket:
		return wayNarrow
	case !talks && !answered && othersReach(w):
		return wayDead
	case !talks && !answered && len(w.Others) > 0:
		return wayGone
	case !talks && !answered:
		return waySilent
	case !talks:
		return wayDeaf
	case !answered && len(w.There) > 0:
		return wayShy
	case w.Asked.Older:
		return wayOlder
	case !outbound && len(w.Back) > 0 && !anyAnswered(w.Back) && largest(w.Back) == 0:
		return wayOneSided
	}
	return wayFine
}

func anyAnswered(all []shape.Probe) bool {
	return slices.ContainsFunc(all, func(p shape.Probe) bool { return p.Answered })
}

func largest(all []shape.Probe) int {
	most := 0
	for _, p := range all {
		most = max(most, p.Largest)
	}
	return most
}

func othersReach(w shape.WayCheck) bool {
	return slices.ContainsFunc(w.Others, func(o shape.OtherProbe) bool { return anyAnswered(o.Probes) })
}

// wayFindings says whom this host reaches, and who reaches it. What is the same of several members is said once.
func wayFindings(e examined) []shape.Finding {
	if e.agent == nil {
		return lonelyFindings(e)
	}
	ways, outbound := e.agent.Ways, e.agent.Outbound
	if len(ways) == 0 {
		return nobodyElse(e)
	}
	by := map[wayState][]shape.WayCheck{}
	for _, w := range ways {
		state := judge(w, outbound)
		by[state] = append(by[state], w)
	}
	if isCutOff(e) {
		return []shape.Finding{cutOff(e, ways)}
	}
	var out []shape.Finding
	for state := wayOlder; state <= wayOneSided; state++ {
		if some := by[state]; len(some) > 0 {
			if f, ok := wayFinding(e, state, some); ok {
				out = append(out, f)
			}
		}
	}
	if good := by[wayFine]; len(good) > 0 {
		out = append([]shape.Finding{fine("ways", fmt.Sprintf("both ways with %s, %s", namesOf(good), rttText(good)))}, out...)
	}
	return append(out, deadAddresses(ways, outbound)...)
}

// isCutOff reports whether this host has an answer from nobody whom it asked.
func isCutOff(e examined) bool {
	if e.agent == nil || len(e.agent.Ways) == 0 {
		return false
	}
	return !slices.ContainsFunc(e.agent.Ways, func(w shape.WayCheck) bool {
		state := judge(w, e.agent.Outbound)
		return state != waySilent && state != wayUntried
	})
}

// lonelyFindings says whom packets reach from a host whose agent does not run.
func lonelyFindings(e examined) []shape.Finding {
	var reached, silent []shape.WayCheck
	for _, w := range e.ways {
		if largest(w.There) > 0 {
			reached = append(reached, w)
		} else {
			silent = append(silent, w)
		}
	}
	switch {
	case len(e.ways) == 0:
		return nil
	case len(reached) == 0:
		return []shape.Finding{cutOff(e, silent)}
	case len(silent) > 0:
		return []shape.Finding{ill("ways", levelNote, fmt.Sprintf("packets pass to %s, and not to %s", namesOf(reached), namesOf(silent)), evidence(silent), "")}
	}
	return []shape.Finding{fine("ways", "packets pass to "+namesOf(reached)+"; whether any come in is not known without an agent")}
}

func nobodyElse(e examined) []shape.Finding {
	switch {
	case e.status != nil && e.status.Online+e.status.Lost <= 1:
		return []shape.Finding{fine("ways", "this host is the only one of its fleet")}
	}
	return []shape.Finding{ill("ways", levelProblem, "there is nobody to talk with", "no member is in this host's record", "muster status; muster node list")}
}

// wayFinding says what several ways of one state come to.
func wayFinding(e examined, state wayState, ways []shape.WayCheck) (shape.Finding, bool) {
	who, port := namesOf(ways), portOf(e)
	switch state {
	case wayOlder:
		return ill("ways", levelNote, fmt.Sprintf("%s answer%s, and cannot say whether they reach this host", who, verbS(ways)), "an older version of muster runs there", "upgrade it: muster upgrade"), true
	case wayDead:
		return ill("ways", levelProblem, fmt.Sprintf("nothing passes between this host and %s, which others reach", who), evidence(ways),
			fmt.Sprintf("look for a firewall or route between: nft list ruleset | grep -n %d, ip route get %s; the same there", port, addressOf(ways[0]))), true
	case wayGone:
		return ill("ways", levelWarning, fmt.Sprintf("%s answer%s nobody: the host or its agent is down", who, verbS(ways)), evidence(ways),
			"there: systemctl start muster; muster doctor"), true
	case waySilent:
		return ill("ways", levelProblem, fmt.Sprintf("%s do%s not answer this host", who, verbES(ways)), evidence(ways),
			fmt.Sprintf("there: muster doctor; between: nft list ruleset | grep -n %d", port)), true
	case wayRefused:
		return ill("ways", levelProblem, fmt.Sprintf("%s refuse%s this host", who, verbS(ways)), ways[0].Asked.Error, "muster node list, on another host"), true
	case wayDeaf:
		return ill("ways", levelProblem, fmt.Sprintf("what %s send%s to this host's UDP port %d does not arrive, and answers to other ports do", who, verbS(ways), port), evidence(ways),
			fmt.Sprintf("nft list ruleset | grep -n %d, here and there, shows what drops it; here, %s", port, openPort(port))), true
	case wayShy:
		return ill("ways", levelWarning, fmt.Sprintf("%s answer%s who is known there, and nobody new", who, verbS(ways)), evidence(ways), "there: "+openPort(port)), true
	case wayUntried:
		return ill("ways", levelWarning, fmt.Sprintf("%s cannot be dialled, and %s no answer", who, gives(ways)), ways[0].Asked.Error, "there: muster doctor"), true
	case wayOneSided:
		return ill("ways", levelProblem, fmt.Sprintf("%s cannot begin to talk with this host: only answers get in", who), backEvidence(ways), openPort(port)), true
	case wayFine, wayNarrow: // of sizes, mtuFindings says more
	}
	return shape.Finding{}, false
}

// cutOff is one finding for a host whom nobody answers.
func cutOff(e examined, ways []shape.WayCheck) shape.Finding {
	why := errorsOf(ways)
	what, mend := fmt.Sprintf("nobody answers this host: %s %s silent", namesOf(ways), are(ways)),
		fmt.Sprintf("ping -c 3 %s; nft list ruleset | grep -n %d; ip route get %s", addressOf(ways[0]), portOf(e), addressOf(ways[0]))
	switch {
	case !e.host.Routes || len(e.host.Interfaces) == 0:
		what, mend = "this host is in no network: no interface is up, or there is no route", "ip addr; ip route; systemctl restart systemd-networkd or NetworkManager"
	case slices.ContainsFunc(why, func(w string) bool { return strings.Contains(w, "own firewall") }):
		what, mend = "this host's own firewall lets none of muster's packets out", fmt.Sprintf("nft list ruleset | grep -n -e %d -e output; allow UDP out", portOf(e))
	case len(why) > 0 && !slices.ContainsFunc(why, func(w string) bool { return !strings.Contains(w, "no agent listens") }): // of each
		what, mend = fmt.Sprintf("no agent runs at the address of %s", namesOf(ways)), "there: systemctl start muster; muster doctor"
	}
	return ill("ways", levelProblem, what, evidence(ways), mend)
}

// errorsOf lists why each address was silent, "" where nobody knows.
func errorsOf(ways []shape.WayCheck) []string {
	var out []string
	for _, w := range ways {
		for _, p := range w.There {
			out = append(out, p.Error)
		}
	}
	return out
}

// deadAddresses notes addresses that this host tells the others and at which it cannot be reached, where it can at another.
func deadAddresses(ways []shape.WayCheck, outbound bool) []shape.Finding {
	dead := map[string][]string{}
	for _, w := range ways {
		if outbound || !anyAnswered(w.Back) {
			continue
		}
		for _, p := range w.Back {
			if !p.Answered {
				dead[p.Address] = append(dead[p.Address], w.Peer.Name)
			}
		}
	}
	var out []shape.Finding
	for addr, names := range dead {
		out = append(out, ill("ways", levelNote, fmt.Sprintf("%s do not reach this host at %s, but at another of its addresses", fleet.FoldNames(names), addr),
			"each new connection to this host loses a moment there", "muster agent --bind IP:PORT keeps to one address"))
	}
	slices.SortFunc(out, func(a, b shape.Finding) int { return cmp.Compare(a.What, b.What) })
	return out
}

// mtuFindings says how large packets may be.
func mtuFindings(e examined) []shape.Finding {
	ways := e.ways
	if e.agent != nil {
		ways = e.agent.Ways
	}
	var narrow, tight, good []shape.WayCheck
	least := 1 << 30
	for _, w := range ways {
		for _, probes := range [][]shape.Probe{w.There, w.Back} {
			if size := largest(probes); size > 0 {
				least = min(least, size)
			}
		}
		switch size := smaller(largest(w.There), largest(w.Back)); {
		case size == 0:
		case size < transport.LeastPayload:
			narrow = append(narrow, w)
		case size < transport.MaxPacket:
			tight = append(tight, w)
		default:
			good = append(good, w)
		}
	}
	var out []shape.Finding
	if len(narrow) > 0 {
		out = append(out, ill("mtu", levelProblem, fmt.Sprintf("packets of %d bytes do not pass to %s, and no connection does with less", transport.LeastPayload, namesOf(narrow)),
			fmt.Sprintf("UDP passes with up to about %d bytes%s", least, devices(e)), wider(e)))
	}
	if len(tight) > 0 {
		out = append(out, ill("mtu", levelProblem, fmt.Sprintf("gossip's largest packets, %d bytes, do not pass to %s", transport.MaxPacket, namesOf(tight)),
			fmt.Sprintf("UDP passes with up to %d bytes%s", least, devices(e)), wider(e)))
	}
	if len(out) == 0 && len(good) > 0 {
		out = append(out, fine("mtu", fmt.Sprintf("%d bytes of UDP pass to %s", least, namesOf(good))))
	}
	return out
}

// smaller returns the smaller of two sizes of which 0 is not known.
func smaller(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// leastMTU is what an interface needs for muster's largest packets over IPv6.
const leastMTU = 1280

func devices(e examined) string {
	for _, i := range e.host.Interfaces {
		if i.MTU < leastMTU {
			return fmt.Sprintf("; this host's %s has an MTU of %d", i.Name, i.MTU)
		}
	}
	return ""
}

func wider(e examined) string {
	for _, i := range e.host.Interfaces {
		if i.MTU < leastMTU {
			return fmt.Sprintf("ip link set dev %s mtu 1500", i.Name)
		}
	}
	return fmt.Sprintf("raise the MTU of the tunnel or link between to %d at least: tracepath -n %s shows where it is smaller", leastMTU, firstHost(e))
}

func firstHost(e examined) string {
	ways := e.ways
	if e.agent != nil {
		ways = e.agent.Ways
	}
	for _, w := range ways {
		if size := smaller(largest(w.There), largest(w.Back)); size > 0 && size < transport.MaxPacket {
			return addressOf(w)
		}
	}
	return "HOST"
}

// evidence lists what was tried and what came of it.
func evidence(ways []shape.WayCheck) string {
	var out []string
	for _, w := range ways {
		var parts []string
		for _, p := range w.There {
			parts = append(parts, fmt.Sprintf("%s %s", p.Address, answerOf(p)))
		}
		if w.Asked.Error != "" && anyAnswered(w.There) {
			parts = append(parts, "asked over a connection: "+firstLine(w.Asked.Error))
		}
		for _, o := range w.Others {
			if o.Error == "" {
				parts = append(parts, fmt.Sprintf("%s gets %s", o.By.Name, gotOrNot(anyAnswered(o.Probes))))
			}
		}
		if len(parts) == 0 {
			parts = append(parts, "no address of it is known")
		}
		if w.Status != "" {
			parts = append(parts, "gossip has it "+w.Status)
		}
		out = append(out, w.Peer.Name+": "+strings.Join(parts, ", "))
	}
	return strings.Join(out, "; ")
}

func backEvidence(ways []shape.WayCheck) string {
	var out []string
	for _, w := range ways {
		for _, p := range w.Back {
			out = append(out, fmt.Sprintf("%s tried %s: %s", w.Peer.Name, p.Address, answerOf(p)))
		}
	}
	return strings.Join(out, "; ")
}

func answerOf(p shape.Probe) string {
	switch {
	case p.Answered:
		return "answers in " + short(time.Duration(p.RTT)*time.Microsecond)
	case p.Error != "":
		return p.Error
	case p.Largest > 0:
		return fmt.Sprintf("answers packets of %d bytes, not of %d", p.Largest, transport.LeastPayload)
	}
	return "no answer"
}

func gotOrNot(yes bool) string {
	if yes {
		return "an answer"
	}
	return "no answer either"
}

func openPort(port int) string {
	return fmt.Sprintf("open UDP port %d: ufw allow %[1]d/udp; or firewall-cmd --permanent --add-port=%[1]d/udp && firewall-cmd --reload; or in nft: udp dport %[1]d accept", port)
}

func portOf(e examined) int {
	if e.agent != nil && e.agent.Port != 0 {
		return e.agent.Port
	}
	return host.DefaultPort
}

// addressOf returns an address of a member without its port.
func addressOf(w shape.WayCheck) string {
	for _, p := range w.There {
		if at := strings.LastIndexByte(p.Address, ':'); at > 0 {
			return strings.Trim(p.Address[:at], "[]")
		}
	}
	return w.Peer.Name
}

func namesOf(ways []shape.WayCheck) string {
	var names []string
	for _, w := range ways {
		names = append(names, w.Peer.Name)
	}
	return fleet.FoldNames(names)
}

func rttText(ways []shape.WayCheck) string {
	least, most := time.Duration(1<<62), time.Duration(0)
	for _, w := range ways {
		if rtt := time.Duration(w.Asked.RTT) * time.Microsecond; rtt > 0 {
			least, most = min(least, rtt), max(most, rtt)
		}
	}
	switch {
	case most == 0:
		return "not timed"
	case most-least < time.Millisecond:
		return short(most) + " there and back"
	}
	return short(least) + " to " + short(most) + " there and back"
}

func verbS(ways []shape.WayCheck) string {
	if len(ways) == 1 {
		return "s"
	}
	return ""
}

func verbES(ways []shape.WayCheck) string {
	if len(ways) == 1 {
		return "es"
	}
	return ""
}

func are(ways []shape.WayCheck) string {
	if len(ways) == 1 {
		return "is"
	}
	return "are"
}

func gives(ways []shape.WayCheck) string {
	if len(ways) == 1 {
		return "gives"
	}
	return "give"
}
