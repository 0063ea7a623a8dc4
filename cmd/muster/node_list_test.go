package main

import (
	"encoding/json"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// listed is a fleet with something of everything that inventories must bear.
func listed() []shape.Node {
	return []shape.Node{
		{Name: "web1", Address: "10.0.0.1:7980", Status: fleet.Online, Role: fleet.Lead, OS: "debian", OSVersion: "12", Arch: "amd64", Version: "1.2.0", Tags: map[string]string{"role": "web", "rack": "a-7"}},
		{Name: "web2", Address: "[fd00::2]:7980", Status: fleet.ConnectionLost, OS: "fedora", Tags: map[string]string{"role": "web", "rack": "a.7"}},
		{Name: "till7", Status: fleet.Online, OS: "debian", Tags: map[string]string{"team": "{{ lookup('pipe', 'id') }}"}},
		{Name: "evil", Address: "10.0.0.66:7980", Status: fleet.Online, OS: "{% raw %}", OSVersion: "{# x #}", Version: "{{ 1 }}", Arch: "amd64"},
		{Name: "gone", Address: "10.0.0.9:7980", Status: fleet.Left, OS: "debian", Tags: map[string]string{"a.b": "1", "a-b": "2"}},
	}
}

func TestAnsibleInventory(t *testing.T) {
	inventory, notes := ansibleInventory(listed())
	hosts := inventory["_meta"].(map[string]any)["hostvars"].(map[string]ansibleHost)
	if len(hosts) != 5 || hosts["web1"].Host != "10.0.0.1" || hosts["web2"].Host != "fd00::2" || hosts["till7"].Host != "" {
		t.Errorf("%+v", hosts)
	}
	for group, want := range map[string]string{
		"tag_role_web": "web1,web2", "status_online": "web1,till7,evil", "status_lost": "web2", "status_left": "gone", "os_debian": "web1,till7,gone",
		"os_fedora": "web2",
	} {
		g, _ := inventory[group].(ansibleGroup)
		if strings.Join(g.Hosts, ",") != want {
			t.Errorf("group %s has %v, want %s", group, g.Hosts, want)
		}
	}
	if _, there := inventory["tag_rack_a_7"]; there {
		t.Error("rack=a-7 and rack=a.7 became one group: a play for one would run on the other")
	}
	text, err := json.Marshal(inventory)
	if err != nil {
		t.Fatal(err)
	}
	for _, mark := range []string{"{{", "{%", "{#"} {
		if strings.Contains(string(text), mark) {
			t.Errorf("the inventory has %s in it, which Ansible would run", mark)
		}
	}
	for _, want := range []string{"tag_rack_a_7", "rack=a-7 and rack=a.7", "till7: its tag team", "evil: its OS ", "evil: its OS version", "evil: its version"} {
		if !strings.Contains(strings.Join(notes, "\n"), want) {
			t.Errorf("no note has %q: %q", want, notes)
		}
	}
}

// A node says itself where it is, and what it is called: neither may lead a play to another host, or to the computer that it is run on.
func TestInventoryLeadsNowhereElse(t *testing.T) {
	node := func(name, address string, status fleet.Status) shape.Node {
		return shape.Node{Name: name, Address: address, Status: status, Tags: map[string]string{"role": "web"}}
	}
	inventory, notes := ansibleInventory([]shape.Node{
		node("fine", "10.0.0.1:7980", fleet.Online), node("moved", "10.0.0.2:7980", fleet.Online), node("gone", "10.0.0.2:7980", fleet.Left),
		node("loop", "127.0.0.1:7980", fleet.Online), node("loop6", "[::1]:7980", fleet.Online), node("mapped", "[::ffff:127.0.0.1]:7980", fleet.Online),
		node("link", "169.254.169.254:7980", fleet.Online), node("link6", "[fe80::1]:7980", fleet.Online), node("group", "224.0.0.1:7980", fleet.Online),
		node("db", "10.0.0.3:7980", fleet.Online), node("liar", "10.0.0.3:22", fleet.ConnectionLost),
		node("localhost", "10.0.0.9:1", fleet.Online), node("all", "10.0.0.10:1", fleet.Online), node("ungrouped", "10.0.0.11:1", fleet.Online),
		node("_meta", "10.0.0.12:1", fleet.Online), node("127.0.0.1", "10.0.0.13:1", fleet.Online), node("LocalHost", "10.0.0.14:1", fleet.Online),
	})
	hosts := inventory["_meta"].(map[string]any)["hostvars"].(map[string]ansibleHost)
	for name, want := range map[string]string{
		"fine": "10.0.0.1", "moved": "10.0.0.2", "gone": "", "loop": "", "loop6": "", "mapped": "", "link": "", "link6": "", "group": "", "db": "", "liar": "",
	} {
		if h, there := hosts[name]; !there || h.Host != want {
			t.Errorf("%s is at %q, want %q", name, h.Host, want)
		}
		if said := strings.Contains(strings.Join(notes, "\n"), name+": no ansible_host"); said != (want == "") {
			t.Errorf("a note of %s: %t", name, said)
		}
	}
	everywhere := inventory["tag_role_web"].(ansibleGroup).Hosts
	for _, name := range []string{"localhost", "all", "ungrouped", "_meta", "127.0.0.1", "LocalHost"} {
		if _, there := hosts[name]; there || slices.Contains(everywhere, name) || !strings.Contains(strings.Join(notes, "\n"), "no host "+name+":") {
			t.Errorf("%s is a host for Ansible", name)
		}
	}
}

// Whatever nodes say of themselves and operators tag them with: every name of a group is one for Ansible, every host is there,
// and nothing in it is a template.
func TestInventoriesAreSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"", "web", "a b", "{{x}}", "{%", "ü\n", "{", "#}", "-", "0"})
		var nodes []shape.Node
		for i := range rapid.IntRange(0, 6).Draw(t, "nodes") {
			nodes = append(nodes, shape.Node{
				Name: fmt.Sprintf("n%d", i), Status: rapid.SampledFrom([]fleet.Status{fleet.Online, fleet.ConnectionLost, fleet.Left, ""}).Draw(t, "status"),
				OS: text.Draw(t, "os"), OSVersion: text.Draw(t, "version"), Version: text.Draw(t, "version"), Arch: text.Draw(t, "arch"),
				Address: rapid.SampledFrom([]string{"", "10.0.0.1:1", "x", "[::1]:2"}).Draw(t, "address"),
				Tags:    rapid.MapOfN(rapid.SampledFrom([]string{"a", "a.b", "a-b", "role"}), text, 0, 4).Draw(t, "tags"),
			})
		}
		inventory, _ := ansibleInventory(nodes)
		raw, err := json.Marshal(inventory)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "{{") || strings.Contains(string(raw), "{%") || strings.Contains(string(raw), "{#") {
			t.Fatalf("a template: %s", raw)
		}
		for group := range inventory {
			if strings.Trim(group, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
				t.Fatalf("group %q", group)
			}
		}
		targets, _ := scrapeTargets(nodes, 9100)
		for _, target := range targets {
			for label := range target.Labels {
				if strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || label[0] < 'A' {
					t.Fatalf("label %q", label)
				}
			}
		}
	})
}

func TestScrapeTargets(t *testing.T) {
	targets, notes := scrapeTargets(listed(), 7981)
	var at []string
	for _, target := range targets {
		at = append(at, target.Labels["muster_node"]+"="+strings.Join(target.Targets, ","))
	}
	if want := []string{"web1=10.0.0.1:7981", "web2=[fd00::2]:7981", "evil=10.0.0.66:7981"}; !slices.Equal(at, want) {
		t.Errorf("%v, want %v: lost nodes are scraped on, who has left is not", at, want)
	}
	if targets[0].Labels["muster_tag_rack"] != "a-7" {
		t.Errorf("%v", targets[0].Labels)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "till7") {
		t.Errorf("%q", notes)
	}
	twins := listed()[4]
	twins.Status = fleet.Online
	targets, notes = scrapeTargets([]shape.Node{twins}, 7981)
	if len(targets[0].Labels) != 1 || len(notes) != 1 {
		t.Errorf("tags a.b and a-b on one node: %v, %q", targets, notes)
	}
	if none, _ := scrapeTargets(nil, 1); none == nil {
		t.Error("no nodes are null, which Prometheus does not read")
	}
}

// The executable that is packaged for ansible-inventory -i works with the real one, on what muster node list prints.
func TestRealAnsible(t *testing.T) {
	if _, err := osexec.LookPath("ansible-inventory"); err != nil {
		t.Skip("ansible-inventory is not installed: apt-get install ansible-core")
	}
	script, err := filepath.Abs(filepath.Join("..", "..", "packaging", "observe", "muster-inventory"))
	if err != nil {
		t.Fatal(err)
	}
	inventory, _ := ansibleInventory(listed())
	text, err := json.Marshal(inventory)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	stub := "#!/bin/sh\n[ \"$*\" = \"node list -o ansible\" ] || exit 9\ncat <<'END'\n" + string(text) + "\nEND\n"
	if err := os.WriteFile(filepath.Join(dir, "muster"), []byte(stub), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := osexec.CommandContext(t.Context(), "ansible-inventory", "-i", script, "--list")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "ANSIBLE_LOCALHOST_WARNING=False")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	if strings.Contains(said.String(), "WARNING") {
		t.Errorf("it warns: %s", said.String())
	}
	var read struct {
		Meta struct {
			Hostvars map[string]ansibleHost `json:"hostvars"`
		} `json:"_meta"`
		Web ansibleGroup `json:"tag_role_web"`
	}
	if err := json.Unmarshal(out, &read); err != nil {
		t.Fatal(err)
	}
	if len(read.Meta.Hostvars) != 5 || read.Meta.Hostvars["web1"].Tags["role"] != "web" || !slices.Equal(read.Web.Hosts, []string{"web1", "web2"}) {
		t.Errorf("%+v", read)
	}
}
