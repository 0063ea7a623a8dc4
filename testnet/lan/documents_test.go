package lan

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// put publishes a document that n1 holds in a file.
func put(t *testing.T, l *Lan, name, text string) {
	t.Helper()
	file := filepath.Join(l.shared(), name+".yaml")
	must(t, os.WriteFile(file, []byte(text), 0o644))
	if r := l.Host("n1").Muster(t.Context(), "doc", "put", "/run/lan/"+name+".yaml", "--name", name); r.Code != 0 {
		t.Fatalf("doc put %s: %+v", name, r)
	}
}

// shown is what command show says of one node.
type shown struct {
	Status string
	Steps  []struct {
		Name, Status string
		Attempts     int
	}
}

func (s shown) steps() string {
	var words []string
	for _, step := range s.Steps {
		words = append(words, step.Name+" "+step.Status)
	}
	return strings.Join(words, ", ")
}

func shownOf(t *testing.T, r Result) shown {
	t.Helper()
	var out struct{ Nodes []shown }
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil || len(out.Nodes) != 1 {
		t.Fatalf("%v: %+v", err, r)
	}
	return out.Nodes[0]
}

// started runs a document on a host, and returns what comes of it when it has, also where the fleet gave the host up meanwhile.
func started(t *testing.T, l *Lan, h *Host, name string) <-chan Result {
	came := make(chan Result, 1)
	go func() {
		r := l.Host("n1").Muster(t.Context(), "-o", "json", "run", "--doc", name, "--target", h.Name(), "--expires", "5m")
		for t.Context().Err() == nil {
			var out struct {
				ID    string
				Exit  int
				Nodes []shown
			}
			if json.Unmarshal([]byte(r.Stdout), &out) != nil || len(out.Nodes) != 1 {
				break
			}
			r.Code = out.Exit // that of run; show has its own
			if out.Nodes[0].Status != "InProgress" {
				break
			}
			<-time.After(5 * nap)
			r = l.Host("n1").Muster(t.Context(), "-o", "json", "command", "show", out.ID)
		}
		came <- r
	}()
	return came
}

func came(t *testing.T, results <-chan Result) Result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(Patience):
		t.Fatal("nothing came of it")
	}
	return Result{}
}

// worked returns what the document noted on the host, without the names of boots: A for the first one that is noted.
func worked(t *testing.T, h *Host) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.root(), "var/lib/worked"))
	must(t, err)
	boots := map[string]string{}
	var out []string
	for line := range strings.Lines(string(raw)) {
		step, boot, _ := strings.Cut(strings.TrimSpace(line), " ")
		if boots[boot] == "" {
			boots[boot] = string(rune('A' + len(boots)))
		}
		out = append(out, step+" "+boots[boot])
	}
	must(t, os.Remove(filepath.Join(h.root(), "var/lib/worked")))
	return strings.Join(out, ", ")
}

func noted(t *testing.T, h *Host, step string) {
	t.Helper()
	eventually(t, step+" is noted", func() bool {
		raw, _ := os.ReadFile(filepath.Join(h.root(), "var/lib/worked"))
		return strings.Contains(string(raw), step+" ")
	})
}

const (
	note     = `echo STEP $(cat /proc/sys/kernel/random/boot_id) >> /var/lib/worked`
	restarts = `schemaVersion: "2.2"
description: Work, restart the host, and work on.
mainSteps:
- name: before
  action: aws:runShellScript
  inputs:
    runCommand:
    - ` + note + `
- name: restart
  action: aws:runShellScript
  inputs:
    runCommand:
    - ` + note + `
    - test -e /var/lib/restarted || { touch /var/lib/restarted; exit 194; }
- name: after
  action: aws:runShellScript
  inputs:
    runCommand:
    - ` + note + `
    - rm /var/lib/restarted
`
	dwells = `schemaVersion: "2.2"
description: Work, dwell, and work on.
mainSteps:
- name: before
  action: aws:runShellScript
  inputs:
    runCommand:
    - ` + note + `
- name: dwell
  action: aws:runShellScript
  inputs:
    runCommand:
    - ` + note + `
    - while [ -e /var/lib/dwell ]; do sleep 0.1; done
- name: after
  action: aws:runShellScript
  inputs:
    runCommand:
    - ` + note + `
`
)

// noting gives each step's note its own name.
func noting(text string) string {
	step := ""
	var out strings.Builder
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "- name: "); ok {
			step = strings.TrimSpace(name)
		}
		out.WriteString(strings.ReplaceAll(line, "STEP", step))
	}
	return out.String()
}

// documents runs documents through what can happen to their host.
func documents(t *testing.T, l *Lan, h *Host) {
	put(t, l, "Restart", noting(restarts))
	put(t, l, "Dwell", noting(dwells))
	dwelling := filepath.Join("var/lib/dwell")
	dwell := func() { must(t, os.WriteFile(filepath.Join(h.root(), dwelling), nil, 0o644)) }
	goOn := func() { must(t, os.Remove(filepath.Join(h.root(), dwelling))) }

	t.Run("a step restarts the host, and the document goes on with the same step", func(t *testing.T) {
		results := started(t, l, h, "Restart")
		must(t, h.Rebooted(t.Context()))
		r := came(t, results)
		if s := shownOf(t, r); r.Code != 0 || s.Status != "Success" || s.steps() != "before Success, restart Success, after Success" {
			t.Errorf("%+v", r)
		}
		if w := worked(t, h); w != "before A, restart A, restart B, after B" {
			t.Error(w)
		}
	})
	t.Run("the agent dies within a step, and nobody notices", func(t *testing.T) {
		dwell()
		results := started(t, l, h, "Dwell")
		noted(t, h, "dwell")
		must(t, h.Kill())
		must(t, h.Start())
		goOn()
		r := came(t, results)
		if s := shownOf(t, r); r.Code != 0 || s.steps() != "before Success, dwell Success, after Success" {
			t.Errorf("%+v", r)
		}
		if w := worked(t, h); w != "before A, dwell A, after A" {
			t.Error(w)
		}
	})
	t.Run("the agent is away when a step ends, and the document goes on without it", func(t *testing.T) {
		dwell()
		results := started(t, l, h, "Dwell")
		noted(t, h, "dwell")
		must(t, h.Kill())
		goOn()
		noted(t, h, "after")
		must(t, h.Start())
		if r := came(t, results); r.Code != 0 {
			t.Errorf("%+v", r)
		}
		if w := worked(t, h); w != "before A, dwell A, after A" {
			t.Error(w)
		}
	})
	t.Run("the power fails within a step: nobody can say how it ended, and nothing runs twice", func(t *testing.T) {
		dwell()
		results := started(t, l, h, "Dwell")
		noted(t, h, "dwell")
		must(t, h.PowerCut())
		must(t, h.Start())
		r := came(t, results)
		if s := shownOf(t, r); r.Code != 5 || s.Status != "Unknown" || !strings.HasPrefix(s.steps(), "before Success, dwell Unknown") {
			t.Errorf("%+v", r)
		}
		goOn()
		if w := worked(t, h); w != "before A, dwell A" {
			t.Error(w)
		}
	})
	works(t, l, h)
}
