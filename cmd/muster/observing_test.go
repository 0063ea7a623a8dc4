package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/metrics"
)

// Metrics tells how a town does, as an agent would.
func (w *town) Metrics(ctx context.Context) []byte {
	s := w.Status(ctx)
	return metrics.Text(nil, metrics.Snapshot{Fleet: metrics.Fleet{Online: s.Online, Lost: s.Lost, Left: s.Left}})
}

// The page lists every metric and every key of the log, as they are, and no others.
func TestObservingPageIsWhole(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "observing.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	var rows []string
	for _, m := range metrics.List() {
		rows = append(rows, "| `"+m.Name+"` | "+string(m.Kind)+" | "+strings.TrimSuffix(m.Help, ".")+" |")
	}
	for _, k := range host.LogKeys() {
		rows = append(rows, "| `"+k.Name+"` | "+k.Means+" |")
	}
	for _, row := range rows {
		if !strings.Contains(text, row+"\n") {
			t.Errorf("docs/observing.md has no row\n%s", row)
		}
	}
	if n := len(regexp.MustCompile("(?m)^\\| `").FindAllString(text, -1)); n != len(rows) {
		t.Errorf("docs/observing.md has %d rows, and there are %d metrics and keys", n, len(rows))
	}
}
