package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/testnet/lan"
)

// TestHosts is a session at the command line: each command is a process of its own, as it is for people.
func TestHosts(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("namespaces with networks need root")
	}
	bin := filepath.Join(t.TempDir(), "hosts")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	name := fmt.Sprintf("hosts%d", os.Getpid())
	hosts := func(line string) (string, int) {
		t.Helper()
		out, err := exec.Command(bin, append([]string{"--lan", name}, strings.Fields(line)...)...).CombinedOutput()
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			return string(out), e.ExitCode()
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(out), 0
	}
	wants := func(line string, code int, texts ...string) {
		t.Helper()
		out, got := hosts(line)
		for _, text := range texts {
			if got != code || !strings.Contains(out, text) {
				t.Fatalf("hosts %s: exit %d, no %q in\n%s", line, got, text, out)
			}
		}
		if got != code {
			t.Fatalf("hosts %s: exit %d\n%s", line, got, out)
		}
	}
	t.Cleanup(func() { hosts("down") })
	wants("list", 1, "no lan "+name+" is up", "hosts up")
	wants("down", 1, "nothing is left")
	wants("up --nodes 3", 0, "every node sees every node", "shell n1", "down")
	wants("up --nodes 3", 1, "end the lan")
	wants("shell n2 -- muster run --all -- hostname", 0, "3 of 3 nodes succeeded")
	wants("shell n2 -- ls /nowhere", 2, "nowhere")
	wants("shell n2 -- false", 1)
	wants("shell n9", 1, "there is no host n9", "n1 to n3")
	wants("list", 0, "n3    10.77.0.3  runs", "3 online")

	for _, fault := range []struct{ do, seen string }{
		{"cut n1 n2,n3", "hears nothing from n1"},
		{"part n3", "hears nothing from n1,n2"},
		{"ring", ""}, // of three, all are neighbours
		{"lose 30 n2", "loses 30%"},
		{"slow n2 n3 --delay 1ms --duplicate 5", "slow: delay 1ms, 5% doubled"},
		{"bandwidth n1 5M", "5000000 bit/s"},
		{"clock n2 -- -1h", "clock -1h0m0s"},
		{"move n2 10.77.2.2", "10.77.2.2"},
		{"hide n3 on", "hidden"},
		{"hide n3 off", ""},
		{"fill-disk n2", "disk full"},
		{"read-only n3 on", "disk read-only"},
		{"pause n2", "paused"},
		{"power-cut n3", "switched off"},
		{"power-on n3", "none"},
		{"limit n3 --files 500", "limits"},
		{"power-cut n3", "switched off"},
	} {
		wants("fault "+fault.do, 0)
		if got := overview(t, name); !strings.Contains(got, fault.seen) {
			t.Fatalf("hosts fault %s: no %q in\n%s", fault.do, fault.seen, got)
		}
	}
	wants("list", 0, "hears nothing from n1,n2", "disk full", "switched off") // n3's power is cut last
	for _, line := range []string{"heal", "fault free-disk n2", "fault resume n2", "fault limit n3", "fault start n3", "fault clock n2 0", "fault restart n2", "fault stop n1", "fault start n1", "fault kill n1,n2", "fault start all"} {
		wants(line, 0)
	}
	for _, line := range []string{"fault bandwidth n1 fast", "fault clock n1 soon", "fault move n1 there", "fault read-only n1 maybe", "fault lose some", "fault nothing", "fault cut n1 n9", "fault slow n1 --reorder 5"} {
		wants(line, 1)
	}
	l, err := lan.Open(lan.FolderOf(name))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Settled(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, h := range l.Hosts() {
		if faults := h.Faults(); len(faults) > 0 {
			t.Errorf("%s: %q", h.Name(), faults)
		}
	}
	wants("down", 0, name+" is down")
	if _, err := os.Stat(lan.FolderOf(name)); err == nil {
		t.Error("its folder is still there")
	}
}

// overview is what list would say now.
func overview(t *testing.T, name string) string {
	t.Helper()
	var out strings.Builder
	a := &app{name: name}
	cmd := newList(a)
	cmd.SetOut(&out)
	cmd.SetArgs(nil)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestValues(t *testing.T) {
	for text, want := range map[string]int{"0": 0, "500": 500, "500k": 500_000, "2M": 2_000_000, "1G": 1_000_000_000} {
		if got, err := readBits(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "k", "-5", "2 M", "9999999G"} {
		if got, err := readBits(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
	if d, err := readOffset("-87600h"); err != nil || d != -87600*time.Hour {
		t.Errorf("%v, %v", d, err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"up", "--help"}, {"shell", "--help"}, {"fault", "--help"}, {"fault", "slow", "--help"}, {"down", "--help"}} {
		var out strings.Builder
		root := newRoot()
		root.SetArgs(args)
		root.SetOut(&out)
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), "hosts ") || strings.Contains(out.String(), boxCommand+" ") {
			t.Errorf("%v: %v\n%s", args, err, out.String())
		}
	}
}
