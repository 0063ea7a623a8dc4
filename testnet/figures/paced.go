package main

import (
	"context"
	"strings"
)

// runPaced measures what pacing costs a command that costs nothing: grants, endings, and waiting for them. runTrue is the same
// without limits.
func runPaced(ctx context.Context, b *bench) ([]figure, error) {
	var out []figure
	for _, p := range []struct{ key, name, flags string }{
		{"ten", "true on all, 10 at a time", "--all --max-concurrency 10"},
		{"strict", "true on all, strict, 2 errors", "--all --strict --max-errors 2"},
	} {
		c, err := b.repeatWith(ctx, strings.Fields(p.flags), "true")
		if err != nil {
			return out, err
		}
		for _, f := range c.figures(p.key, p.name) {
			if !strings.Contains(f.key, "_stamped_") && !strings.Contains(f.key, "_ended_") { // they say what wall does
				out = append(out, f)
			}
		}
	}
	return out, nil
}
