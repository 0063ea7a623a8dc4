package main

import "context"

// runTrue measures a command that costs nothing: what is left is muster.
func runTrue(ctx context.Context, b *bench) ([]figure, error) {
	c, err := b.repeat(ctx, "true")
	if err != nil {
		return nil, err
	}
	out := c.figures("true", "true on all")
	return aimed(aimed(out, "true_wall_p50_seconds", 0.3), "true_agents_cpu_p50_seconds", 0.5), nil
}
