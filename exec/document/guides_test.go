package document

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// guides are documents in the style of public guides, each with features of its own.
func guides(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/guides/*")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d guides: %v", len(files), err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(file)] = text
	}
	return out
}

func TestGuidesParseAndPlan(t *testing.T) {
	for name, text := range guides(t) {
		d, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		v, err := d.Complete(nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		plan, err := d.Plan(v, Host{Platform: Linux}, nil)
		if err == nil {
			err = plan.Check()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(plan.Steps) != len(d.steps) || !plan.Codes {
			t.Errorf("%s: %d steps planned of %d", name, len(plan.Steps), len(d.steps))
		}
		if help := d.Help("X"); !strings.Contains(help, d.steps[0].name) {
			t.Errorf("%s: help without its steps:\n%s", name, help)
		}
	}
}
