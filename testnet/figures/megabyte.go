package main

import (
	"context"
	"fmt"
)

const megabyte = 1_000_000

// runMegabyte measures a command that writes a lot. Reports carry the beginning and the end of it; the whole stays on its
// node, and the command line says how much it leaves out.
func runMegabyte(ctx context.Context, b *bench) ([]figure, error) {
	c, err := b.repeat(ctx, fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", megabyte))
	if err != nil {
		return nil, err
	}
	var shown []float64
	for _, n := range c.last.Nodes {
		if n.Stdout.Size != megabyte {
			return nil, fmt.Errorf("command %s: %s is said to have written %d bytes, not %d", c.last.ID, n.Name, n.Stdout.Size, megabyte)
		}
		shown = append(shown, float64(n.Stdout.Size-n.Stdout.Omitted))
	}
	out := c.figures("megabyte", "1 MB on all")
	return append(out, figure{key: "megabyte_delivered_bytes_per_node", name: "1 MB on all, delivered from each", unit: octets, value: median(shown),
		note: "the beginning and the end, at the command line; the whole stays on its node"}), nil
}
