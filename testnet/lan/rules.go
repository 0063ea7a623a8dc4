package lan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// pair is a direction of traffic between two hosts, by their numbers.
type pair struct{ from, to int }

// faults is what is wrong with the network: which directions are cut, who loses how many packets of a hundred, and who is
// hidden behind a firewall that lets in answers only, and behind NAT.
type faults struct {
	cut    map[pair]bool
	loss   map[int]int
	hidden map[int]bool
}

func newFaults() faults {
	return faults{cut: map[pair]bool{}, loss: map[int]int{}, hidden: map[int]bool{}}
}

// ring cuts every host off from all but its two neighbours.
func (f faults) ring(hosts int) {
	for a := range hosts {
		for b := range hosts {
			if gap := (a - b + hosts) % hosts; gap > 1 && gap < hosts-1 {
				f.cut[pair{a + 1, b + 1}] = true
			}
		}
	}
}

// rules returns what nft makes of the faults on one host, which judges what arrives: every packet is judged once. It goes
// by the senders' hardware addresses, which stay when hosts move. The text replaces whatever was there.
func (f faults) rules(me int) string {
	var b strings.Builder
	b.WriteString("table inet lan\ndelete table inet lan\n")
	var chain []string
	if from := f.cutFrom(me); len(from) > 0 {
		chain = append(chain, fmt.Sprintf("ether saddr { %s } drop", macs(from)))
	}
	if own := f.loss[me]; own > 0 {
		chain = append(chain, lot(own))
	} else {
		chain = append(chain, f.lossFrom(me)...)
	}
	if f.hidden[me] {
		b.WriteString(hiding)
	}
	if len(chain) == 0 {
		return b.String()
	}
	b.WriteString("table inet lan {\n\tchain in {\n\t\ttype filter hook input priority -300; policy accept;\n")
	for _, rule := range chain {
		fmt.Fprintf(&b, "\t\tiifname \"eth0\" %s\n", rule)
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// hiding drops whatever arrives and is no answer, and gives what leaves another port for every place that it goes to, as
// the worst of NATs do: where one peer sees the host is of no use to another.
const hiding = `table inet lan {
	chain answers {
		type filter hook input priority 0; policy accept;
		iifname "eth0" ct state != { established, related } drop
	}
	chain leave {
		type nat hook postrouting priority 100; policy accept;
		oifname "eth0" meta l4proto udp masquerade to :20000-60000 fully-random
	}
}
`

// cutFrom lists the hosts from which nothing arrives at one.
func (f faults) cutFrom(me int) []int {
	var out []int
	for p, cut := range f.cut {
		if cut && p.to == me {
			out = append(out, p.from)
		}
	}
	slices.Sort(out)
	return out
}

// lossFrom makes a rule for each rate of loss that senders have.
func (f faults) lossFrom(me int) []string {
	by := map[int][]int{}
	for host, percent := range f.loss {
		if percent > 0 && host != me {
			by[percent] = append(by[percent], host)
		}
	}
	var out []string
	for _, percent := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[percent])
		out = append(out, fmt.Sprintf("ether saddr { %s } %s", macs(by[percent]), lot(percent)))
	}
	return out
}

// lot drops so many packets of a hundred. nft knows that a lot drawn of a hundred is always below it, and refuses to ask.
func lot(percent int) string {
	if percent >= 100 {
		return "drop"
	}
	return fmt.Sprintf("numgen random mod 100 < %d drop", percent)
}

func macs(hosts []int) string {
	var out []string
	for _, n := range hosts {
		out = append(out, macOf(n))
	}
	return strings.Join(out, ", ")
}

// macOf returns the hardware address of a host.
func macOf(n int) string { return fmt.Sprintf("02:77:00:00:00:%02x", n) }
