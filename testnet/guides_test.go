package testnet

import (
	"path/filepath"
	"strings"
	"testing"
)

// guides lists the documents of exec/document/testdata/guides with what they come to on a host.
var guides = []struct {
	file  string
	args  []string
	code  int
	says  []string
	never string
	steps string // name and status of each
}{
	{"01-greeting.yaml", nil, 0, []string{
		"Hello, $USER; it's \"quoted\" `here`\n", "double - Hello, $USER;", "single - Hello, $USER;", "\nheredoc - Hello, $USER;",
		"literal heredoc, where $HOME stays - Hello, $USER;", "1 line(s)",
	}, "", "sayIt Success"},
	{"02-flow.yaml", nil, 0, []string{"port 8080 is fine", "tidied up"}, "must not be seen",
		"check Success, maybeDone Success, neverReached Skipped, tidyUp Success"},
	{"02-flow.yaml", []string{"Port=0"}, 1, []string{"tidied up"}, "is fine", "check Failed, maybeDone Skipped, neverReached Skipped, tidyUp Success"},
	{"03-platforms.yaml", []string{"mode=repair"}, 0, []string{"Linux", "mode is repair", "repairing"}, "",
		"windowsReport Skipped, windowsModule Skipped, linuxReport Success, repair Success"},
	{"03-platforms.yaml", nil, 0, []string{"mode is report"}, "repairing", "windowsReport Skipped, windowsModule Skipped, linuxReport Success, repair Skipped"},
	{"04-disk-usage.json", nil, 0, []string{"done with /tmp"}, "", ""},
	{"05-retry.yaml", nil, 0, []string{"the first time it does not\nthis time it works"}, "", "worksTheSecondTime Success"},
	{"05-retry.yaml", []string{"tries=1"}, 1, []string{"the first time it does not"}, "this time", "worksTheSecondTime Failed"},
	{"06-local-content.yaml", []string{"who=Ann Lee"}, 0, []string{"hello to Ann"}, "", "prepare Success, copy Success, runIt Success"},
	{"07-nested.yaml", nil, 0, []string{"from a document in a document", "about nesting"}, "", "builtIn Success, write Success, fromFile Success"},
	{"08-argv.yaml", nil, 0, []string{"title: names; $(of) files\n", "/etc/hostname", "a list of names; $(of) files"}, "",
		"title Success, list Success, environment Success, alone Success"},
	{"09-types.yaml", nil, 0, []string{`words are ["one","two words","it's three"]`, `"stage":"test"`, "round 3 of 3", "next is 4"}, "round 4", "show Success"},
	{"10-environment.yaml", nil, 0, []string{"3 names in test", "it arrived unchanged", "a `message` that $(needs) 'care'"}, "", "bashScript Success"},
	{"11-exit-codes.yaml", nil, 0, []string{"/etc/passwd is there: nothing to do"}, "must not be seen", "alreadyDone Success, work Skipped"},
	{"11-exit-codes.yaml", []string{"marker=/no such file"}, 1, []string{"must not be seen"}, "nothing to do", "alreadyDone Success, work Failed"},
	{"12-config-file.json", nil, 0, []string{"4\nwritten for www-data"}, "", "writeConfig Success"},
	{"13-scripts-given.yaml", []string{`check=["echo a check of mine"]`}, 0, []string{"before\na check of mine\nafter"}, "", "around Success"},
	{"14-inventory.yaml", nil, 0, []string{"root has the id 0"}, "", "kernel Success, accounts Success, domain Skipped"},
}

// TestGuides publishes documents in the style of public guides and runs them on a fleet.
func TestGuides(t *testing.T) {
	f := New(t, 3)
	f.Settled()
	asker := f.Nodes[0]
	put := map[string]bool{}
	for _, g := range guides {
		name := "Guide-" + strings.TrimSuffix(g.file, filepath.Ext(g.file))
		if !put[name] {
			put[name] = true
			f.Must(asker, "doc", "put", filepath.Join("../exec/document/testdata/guides", g.file), "--name", name)
		}
		t.Run(strings.Join(append([]string{g.file}, g.args...), " "), func(t *testing.T) {
			args := append([]string{"-o", "json", "run", "--doc", name, "--all", "--"}, g.args...)
			r := f.Muster(asker, args...)
			if r.Code != g.code {
				t.Fatalf("exit %d, not %d: %s%s", r.Code, g.code, r.Stdout, r.Stderr)
			}
			var out guideResult
			out.read(t, r.Stdout)
			if len(out.Nodes) != 3 {
				t.Fatalf("%d nodes: %s", len(out.Nodes), r.Stdout)
			}
			for _, n := range out.Nodes {
				for _, text := range g.says {
					if !strings.Contains(n.Stdout.Text, text) {
						t.Errorf("%s does not say %q: %q, %q", n.Name, text, n.Stdout.Text, n.Stderr.Text)
					}
				}
				if g.never != "" && strings.Contains(n.Stdout.Text, g.never) {
					t.Errorf("%s says %q: %q", n.Name, g.never, n.Stdout.Text)
				}
				if steps := n.steps(); g.steps != "" && steps != g.steps {
					t.Errorf("%s went through %s, not %s (%s)", n.Name, steps, g.steps, n.Stderr.Text)
				}
			}
		})
	}
}
