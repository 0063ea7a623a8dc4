package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// Forms of muster node list alone, in the words of who reads them.
const (
	asAnsible = "ansible" // a dynamic inventory
	asFileSD  = "file_sd" // targets of Prometheus
)

// hasForms marks a command that has forms of its own beside those that all have.
const hasForms = "has-forms"

// formsOf returns the forms that a command has of its own.
func formsOf(cmd *cobra.Command) []string {
	if text := cmd.Annotations[hasForms]; text != "" {
		return strings.Split(text, ",")
	}
	return nil
}

// ansibleHost is what Ansible is told of a node.
type ansibleHost struct {
	Host      string            `json:"ansible_host,omitempty"` // missing: nobody can dial it, or nothing is known
	ID        string            `json:"muster_id"`
	Status    string            `json:"muster_status"`
	Role      string            `json:"muster_role"`
	Tags      map[string]string `json:"muster_tags"`
	OS        string            `json:"muster_os"`
	OSVersion string            `json:"muster_os_version"`
	Arch      string            `json:"muster_arch"`
	Version   string            `json:"muster_version"`
}

type ansibleGroup struct {
	Hosts []string `json:"hosts"`
}

// ansibleInventory makes an inventory of nodes: a group for each tag, status and operating system. What Ansible would take for
// a template is left out, for it runs templates where the play is run, and a node may say of itself what it likes; so are groups
// of tags whose names would be the same, addresses at which somebody else may listen, and nodes with names that mean something
// to Ansible. notes say what was left out.
func ansibleInventory(nodes []shape.Node) (inventory map[string]any, notes []string) {
	hosts, groups, pairs := map[string]ansibleHost{}, map[string][]string{}, map[string]map[string]bool{}
	join := func(group, pair, host string) {
		if pairs[group] == nil {
			pairs[group] = map[string]bool{}
		}
		pairs[group][pair] = true
		groups[group] = append(groups[group], host)
	}
	claims := claimsOf(nodes)
	for _, n := range nodes {
		if ansibleWord(n.Name) {
			notes = append(notes, fmt.Sprintf("no host %s: the name means something else to Ansible", n.Name))
			continue
		}
		safe := sieve{node: n.Name, notes: &notes}
		h := ansibleHost{
			Host: safe.host(n, claims), ID: n.ID.String(), Status: string(n.Status), Role: string(n.Role), Tags: map[string]string{},
			OS: safe.text("OS", n.OS), OSVersion: safe.text("OS version", n.OSVersion), Arch: safe.text("architecture", n.Arch),
			Version: safe.text("version", n.Version),
		}
		join(groupName("status", statusWord(n.Status)), string(n.Status), n.Name)
		if h.OS != "" {
			join(groupName("os", h.OS), h.OS, n.Name)
		}
		for _, k := range slices.Sorted(maps.Keys(n.Tags)) {
			join(groupName("tag", k, n.Tags[k]), k+"="+n.Tags[k], n.Name)
			if isTemplate(n.Tags[k]) {
				safe.say("tag " + k)
				continue
			}
			h.Tags[k] = n.Tags[k]
		}
		hosts[n.Name] = h
	}
	inventory = map[string]any{"_meta": map[string]any{"hostvars": hosts}}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		if same := slices.Sorted(maps.Keys(pairs[group])); len(same) > 1 {
			notes = append(notes, fmt.Sprintf("no group %s: %s would share it; muster_tags tells them apart", group, strings.Join(same, " and ")))
			continue
		}
		inventory[group] = ansibleGroup{groups[group]}
	}
	return inventory, notes
}

// ansibleWord reports whether a name is one of Ansible's own: the control computer, or a group.
func ansibleWord(name string) bool {
	name = strings.ToLower(name)
	if at, err := netip.ParseAddr(name); err == nil {
		return at.Unmap().IsLoopback()
	}
	return slices.Contains([]string{"localhost", "all", "ungrouped", "_meta"}, name) || strings.HasPrefix(name, "localhost.") || strings.HasPrefix(name, "127.")
}

// claimsOf counts the nodes that say that they are at an address. Who has said goodbye holds none.
func claimsOf(nodes []shape.Node) map[netip.Addr]int {
	claims := map[netip.Addr]int{}
	for _, n := range nodes {
		if at, err := netip.ParseAddrPort(n.Address); err == nil && n.Status != fleet.Left {
			claims[at.Addr().Unmap()]++
		}
	}
	return claims
}

// host returns where Ansible finds a node: nowhere where its address, which it says itself, leads to the control computer, to
// whoever is on a link, or to another node as well.
func (s sieve) host(n shape.Node, claims map[netip.Addr]int) string {
	at, err := netip.ParseAddrPort(n.Address)
	if err != nil {
		return ""
	}
	ip := at.Addr().Unmap()
	others := claims[ip]
	if n.Status != fleet.Left {
		others-- // it is one of them itself
	}
	switch {
	case ip.IsLoopback(), ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast():
		s.note("no ansible_host: %s is not the same host from everywhere", ip)
		return ""
	case others > 0:
		s.note("no ansible_host: another node says too that it is at %s", ip)
		return ""
	}
	return at.Addr().String()
}

// sieve keeps what a node says of itself from being run.
type sieve struct {
	node  string
	notes *[]string
}

func (s sieve) text(what, text string) string {
	if !isTemplate(text) {
		return text
	}
	s.say(what)
	return ""
}

func (s sieve) say(what string) {
	s.note("its %s looks like a template of Ansible's, and is left out", what)
}

func (s sieve) note(format string, args ...any) {
	*s.notes = append(*s.notes, s.node+": "+fmt.Sprintf(format, args...))
}

// isTemplate reports whether Ansible might take text for more than text. Jinja's marks begin with a brace, unless somebody
// configured others.
func isTemplate(text string) bool {
	return strings.Contains(text, "{{") || strings.Contains(text, "{%") || strings.Contains(text, "{#")
}

// groupName joins words as names of groups and of labels are made: letters, digits and underscores.
func groupName(words ...string) string {
	name := []byte(strings.Join(words, "_"))
	for i, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			name[i] = '_'
		}
	}
	return string(name)
}

// statusWord is a status in small letters.
func statusWord(s fleet.Status) string {
	switch s {
	case fleet.Online:
		return "online"
	case fleet.ConnectionLost:
		return "lost"
	case fleet.Left:
		return "left"
	}
	return strings.ToLower(string(s))
}

// hostOf is an address without its port; empty where there is none.
func hostOf(address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	return at.Addr().String()
}

// scrapeTarget is one entry of Prometheus' file_sd.
type scrapeTarget struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// scrapeTargets lists nodes for Prometheus: each at its address with the port that is to be scraped, and its tags as labels.
// Who has said goodbye is left out, and so is, with a note, who cannot be dialled: Prometheus could not either. Lost nodes stay,
// for that they cannot be scraped is what one wants to hear.
func scrapeTargets(nodes []shape.Node, port uint16) (targets []scrapeTarget, notes []string) {
	targets = []scrapeTarget{}
	var unreached []string
	for _, n := range nodes {
		at := hostOf(n.Address)
		switch {
		case n.Status == fleet.Left:
			continue
		case at == "":
			unreached = append(unreached, n.Name)
			continue
		}
		labels := map[string]string{}
		from := map[string]string{}
		for _, k := range slices.Sorted(maps.Keys(n.Tags)) {
			label := groupName("muster_tag", k)
			if other, taken := from[label]; taken {
				delete(labels, label)
				notes = append(notes, fmt.Sprintf("%s: no label %s: tags %s and %s would share it", n.Name, label, other, k))
				continue
			}
			from[label], labels[label] = k, n.Tags[k]
		}
		labels["muster_node"] = n.Name
		targets = append(targets, scrapeTarget{[]string{hostPort(at, port)}, labels})
	}
	if len(unreached) > 0 {
		notes = append(notes, "no address to scrape: "+fleet.FoldNames(unreached))
	}
	return targets, notes
}

func hostPort(host string, port uint16) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}

// showNodes prints nodes in one of the forms that only muster node list has; false: it is none of them.
func (a *app) showNodes(nodes []shape.Node, port uint16) (bool, error) {
	var out any
	var notes []string
	switch a.flags.output {
	case asAnsible:
		out, notes = ansibleInventory(nodes)
	case asFileSD:
		out, notes = scrapeTargets(nodes, port)
	default:
		return false, nil
	}
	for _, note := range notes {
		a.say("%s", note)
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return true, enc.Encode(out)
}
