package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
}

// maySayNothing are figures that a quick machine, or one that is well, counts as 0.
var maySayNothing = map[string]bool{"watch_behind_p50_seconds": true,
	"true_agents_cpu_p50_seconds": true, "true_agents_cpu_p99_seconds": true,
	"megabyte_agents_cpu_p50_seconds": true, "megabyte_agents_cpu_p99_seconds": true,
	"idle_cpu_p50_percent": true, "idle_cpu_mean_percent": true, "idle_cpu_max_percent": true,
	"bell_all_p50_seconds": true, "bell_all_max_seconds": true, "bell_half_p50_seconds": true, "bell_first_p50_seconds": true,
	"dead_node_wrong_count":      true,
	"ten_agents_cpu_p50_seconds": true, "ten_agents_cpu_p99_seconds": true, "strict_agents_cpu_p50_seconds": true, "strict_agents_cpu_p99_seconds": true,
	"bulk_asker_rss_growth_bytes": true, "bulk_giver_rss_growth_bytes": true,
}

// inSight is every figure of a fleet. Keys are a promise to whoever reads the JSON.
var inSight = []string{
	"formation_seconds", "formation_joined_seconds", "formation_seen_seconds", "formation_cpu_seconds",
	"true_wall_p50_seconds", "true_wall_p99_seconds", "true_stamped_p50_seconds", "true_started_p50_seconds", "true_ended_p50_seconds",
	"megabyte_stamped_p50_seconds", "megabyte_started_p50_seconds", "megabyte_ended_p50_seconds", "true_agents_cpu_p50_seconds", "true_agents_cpu_p99_seconds", "true_line_cpu_p50_seconds",
	"megabyte_wall_p50_seconds", "megabyte_wall_p99_seconds", "megabyte_agents_cpu_p50_seconds", "megabyte_agents_cpu_p99_seconds",
	"megabyte_line_cpu_p50_seconds", "megabyte_delivered_bytes_per_node",
	"ten_wall_p50_seconds", "ten_wall_p99_seconds", "ten_started_p50_seconds", "ten_agents_cpu_p50_seconds", "ten_agents_cpu_p99_seconds", "ten_line_cpu_p50_seconds",
	"strict_wall_p50_seconds", "strict_wall_p99_seconds", "strict_started_p50_seconds", "strict_agents_cpu_p50_seconds", "strict_agents_cpu_p99_seconds", "strict_line_cpu_p50_seconds",
	"bulk_wall_seconds", "bulk_delivered_bytes", "bulk_line_rss_peak_bytes", "bulk_asker_rss_growth_bytes", "bulk_giver_rss_growth_bytes",
	"bell_all_p50_seconds", "bell_all_max_seconds", "bell_half_p50_seconds", "bell_first_p50_seconds",
	"watch_all_p50_seconds", "watch_all_max_seconds", "watch_half_p50_seconds", "watch_behind_p50_seconds",
	"idle_rss_p50_bytes", "idle_rss_max_bytes", "idle_pss_p50_bytes", "idle_pss_max_bytes", "idle_cpu_p50_percent", "idle_cpu_mean_percent", "idle_cpu_max_percent",
	"idle_sent_mean_packets_per_second", "idle_sent_p50_bytes_per_second", "idle_sent_mean_bytes_per_second", "idle_sent_max_bytes_per_second",
	"dead_node_all_p50_seconds", "dead_node_all_max_seconds", "dead_node_asker_p50_seconds", "dead_node_wrong_count",
	"dead_leader_next_command_p50_seconds", "dead_leader_next_command_max_seconds", "dead_leader_tries_max_count",
}

// TestThreeNodes: every figure is taken of real agents, and none is absurd. Its size is the machine's affair.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	needsRoot(t)
	file := filepath.Join(t.TempDir(), "figures.json")
	var stdout, stderr strings.Builder
	args := strings.Fields("--nodes 3 --runs 1 --idle 2s --rest 1s --json " + file)
	if code := command(t.Context(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, &stdout, &stderr)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got reportJSON
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.Version == "" || got.Machine.CPUs == 0 || len(got.Fleets) != 1 || got.Fleets[0].Nodes != 3 {
		t.Fatalf("got %s", raw)
	}
	figures := got.Fleets[0].Figures
	if keys := slices.Sorted(maps.Keys(figures)); !slices.Equal(keys, slices.Sorted(slices.Values(inSight))) {
		t.Errorf("the figures are %v", keys)
	}
	for key, f := range figures {
		if f.Value < 0 || (f.Value == 0 && !maySayNothing[key]) {
			t.Errorf("%s is %v", key, f.Value)
		}
	}
	if rss := figures["idle_rss_max_bytes"].Value; rss > 1e9 {
		t.Errorf("RSS of %v bytes", rss)
	}
	if sizes := got.Binary; sizes["binary_stripped_bytes"].Value < 1e6 || sizes["binary_bytes"].Value <= sizes["binary_stripped_bytes"].Value {
		t.Errorf("binary: %+v", sizes)
	}
	if !strings.Contains(stdout.String(), "true on all, p50") {
		t.Errorf("the table is\n%s", &stdout)
	}
}

// TestDoesNotForm: a fleet that does not form is said to, and fails the command.
func TestDoesNotForm(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	broken := filepath.Join(t.TempDir(), "muster")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\n[ \"$1\" = version ] && echo 0.0.1 && exit\necho no >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	code := command(t.Context(), []string{"--nodes", "3", "--only", "true", "--muster", broken}, &stdout, &stderr)
	if code != 1 || !strings.Contains(stdout.String(), "FAILED with 3 nodes: formation") {
		t.Errorf("exit %d\n%s%s", code, &stdout, &stderr)
	}
}
