package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/metrics"
)

// observed is what lies in packaging/observe.
func observed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("observe", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	metricName = regexp.MustCompile(`\bmuster_[a-z_]+\b`)
	alertExpr  = regexp.MustCompile(`(?m)^ +expr: (.*)$`)
	alertName  = regexp.MustCompile(`(?m)^ +- alert: (.*)$`)
)

// wrongMetrics says what is wrong with the metrics of an expression: one that no agent tells, a counter that is looked at
// without its growth, a gauge of which the growth is looked at.
func wrongMetrics(expr string, list []metrics.Metric) []string {
	var wrong []string
	for _, at := range metricName.FindAllStringIndex(expr, -1) {
		name, before := expr[at[0]:at[1]], expr[:at[0]]
		i := slices.IndexFunc(list, func(m metrics.Metric) bool { return m.Name == name })
		if i < 0 {
			wrong = append(wrong, name+" is told by no agent")
			continue
		}
		grows := strings.HasSuffix(before, "rate(") || strings.HasSuffix(before, "increase(")
		if grows != (list[i].Kind == metrics.Counter) {
			wrong = append(wrong, fmt.Sprintf("%s is a %s: %s", name, list[i].Kind, expr))
		}
	}
	return wrong
}

// labels of metrics are those that agents tell them with.
func labelsUsed(expr string) map[string][]string {
	out := map[string][]string{}
	for _, m := range regexp.MustCompile(`\b(muster_[a-z_]+)\{([^}]*)\}`).FindAllStringSubmatch(expr, -1) {
		for _, l := range regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"`).FindAllStringSubmatch(m[2], -1) {
			out[m[1]] = append(out[m[1]], l[1])
		}
	}
	return out
}

// labelsTold are the labels of each metric.
func labelsTold() map[string][]string {
	text := string(metrics.Text(nil, metrics.Snapshot{
		Replica: &metrics.Replica{}, Runs: &metrics.Runs{Ended: []metrics.Count{{Of: "Failed"}}}, Sessions: &metrics.Sessions{}, Reports: &metrics.Reports{},
		Network: metrics.Network{Connections: []metrics.Count{{Of: "peer"}}}, Budget: metrics.Budget{Acts: []metrics.Count{{Of: "return"}}},
	}))
	told := labelsUsed(text)
	for _, m := range metrics.List() {
		told[m.Name] = append(told[m.Name], "job", "instance") // Prometheus' own
	}
	return told
}

func checkExpr(t *testing.T, where, expr string) {
	t.Helper()
	for _, wrong := range wrongMetrics(expr, metrics.List()) {
		t.Errorf("%s: %s", where, wrong)
	}
	told := labelsTold()
	for name, labels := range labelsUsed(expr) {
		for _, l := range labels {
			if !slices.Contains(told[name], l) {
				t.Errorf("%s: %s has no label %s", where, name, l)
			}
		}
	}
}

// Every alert asks for what agents tell, and says what it is and what mends it.
func TestAlerts(t *testing.T) {
	text := observed(t, "alerts.yml")
	exprs, names := alertExpr.FindAllStringSubmatch(text, -1), alertName.FindAllStringSubmatch(text, -1)
	if len(exprs) < 15 || len(exprs) != len(names) {
		t.Fatalf("%d alerts with %d expressions", len(names), len(exprs))
	}
	for i, e := range exprs {
		checkExpr(t, names[i][1], e[1])
	}
	for _, each := range strings.Split(text, "- alert: ")[1:] {
		for _, part := range []string{"severity: ", "summary: ", "mend: "} {
			if strings.Count(each, part) != 1 {
				t.Errorf("%s has no %s or several", strings.SplitN(each, "\n", 2)[0], part)
			}
		}
	}
}

func TestWrongMetricsAreSeen(t *testing.T) {
	list := []metrics.Metric{{Name: "muster_a_total", Kind: metrics.Counter}, {Name: "muster_b", Kind: metrics.Gauge}}
	for expr, want := range map[string]int{
		"rate(muster_a_total[5m]) > muster_b": 0, "muster_a_total": 1, "rate(muster_b[5m])": 1, "muster_c": 1, "increase(muster_a_total[1h])": 0,
		"sum(muster_b) / muster_ab": 1,
	} {
		if got := wrongMetrics(expr, list); len(got) != want {
			t.Errorf("%s: %q", expr, got)
		}
	}
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	At          struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		RefID string `json:"refId"`
		Expr  string `json:"expr"`
	} `json:"targets"`
}

// The dashboard asks for what agents tell, for all of it, and its panels lie beside each other.
func TestDashboard(t *testing.T) {
	var d struct {
		UID    string  `json:"uid"`
		Panels []panel `json:"panels"`
	}
	text := observed(t, "dashboard.json")
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	ids, shown, taken := map[int]bool{}, "", map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.At.W <= 0 || p.At.H <= 0 || p.At.X+p.At.W > 24 {
			t.Errorf("panel %d %q: %+v", p.ID, p.Title, p.At)
		}
		ids[p.ID] = true
		for x := range p.At.W {
			for y := range p.At.H {
				at := [2]int{p.At.X + x, p.At.Y + y}
				if taken[at] != "" {
					t.Fatalf("%q lies on %q", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("%q says nothing, or shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			checkExpr(t, p.Title, target.Expr)
			shown += target.Expr + "\n"
		}
	}
	for _, m := range metrics.List() {
		if !regexp.MustCompile(`\b` + m.Name + `\b`).MatchString(shown) {
			t.Errorf("%s is on no panel", m.Name)
		}
	}
}

// Prometheus' own tool reads the rules, and they fire when they are to and only then; and it reads what agents tell.
func TestPromtool(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not installed: apt-get install prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), "promtool", args...)
		cmd.Dir = "observe"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(string(metrics.Text(nil, metrics.Snapshot{
		Replica: &metrics.Replica{}, Runs: &metrics.Runs{}, Sessions: &metrics.Sessions{}, Reports: &metrics.Reports{},
	})))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
