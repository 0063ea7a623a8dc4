package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-fleet/muster/node/config"
)

// TestConfigPage types docs/config.md on a host with an agent of its own.
func TestConfigPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "config.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := `env MUSTER_CONFIG=$WORK/config.yaml
env MUSTER_DATA_DIR=$WORK/data
exec muster init --fleet lab --operator alice --name web01 --bind 127.0.0.1:0 --recovery-file recovery.key
exec muster agent &agent&
exec sh -c 'until muster status && muster run --all -- true; do sleep 0.1; done'
page
`
	if err := os.WriteFile(filepath.Join(dir, "page.txt"), []byte(script+"-- config.yaml --\n"+pageFile(t, string(text), "config.yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	params := scriptParams(dir)
	params.Cmds["page"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		page{ts: ts, name: "docs/config.md"}.run(string(text), 20)
	}
	testscript.Run(t, params)
}

// pageFile returns the text of a page's file.
func pageFile(t *testing.T, text, name string) string {
	t.Helper()
	for _, b := range blocksOf(text) {
		if b.info == "yaml "+name {
			return strings.Join(b.text, "\n") + "\n"
		}
	}
	t.Fatalf("the page has no %s", name)
	return ""
}

// TestConfigPageHasEveryKey: the table says of each key what the program says.
func TestConfigPageHasEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "config.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z.]+)` \\| (.*) \\| (.*) \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1)
	keys := config.Keys()
	if len(rows) != len(keys) {
		t.Fatalf("%d rows of %d keys", len(rows), len(keys))
	}
	for i, k := range keys {
		byDefault, taken := k.Default, "at the next start"
		if byDefault == "" {
			byDefault = k.Without
		}
		if edge, ok := k.Presets[config.Edge]; ok {
			byDefault += "; edge " + edge
		}
		if k.Live {
			taken = "at once"
		}
		if got, want := strings.Join(rows[i][1:], " | "), strings.Join([]string{k.Name, byDefault, taken, k.Reason}, " | "); got != want {
			t.Errorf("the page has\n%s\nnot\n%s", got, want)
		}
	}
}
