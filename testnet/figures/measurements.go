package main

import "context"

// measurement takes some figures of a fleet that stands. It leaves the fleet whole: all agents run, all see each other.
type measurement struct {
	key  string // for --only
	what string // for people who wait
	take func(ctx context.Context, b *bench) ([]figure, error)
}

// binaryKey names the figures that need no fleet.
const (
	binaryKey = "binary"
	quorumKey = "quorum"
)

// measurements lists what is measured of each fleet, in this order: what disturbs the fleet most comes last.
func measurements() []measurement {
	return []measurement{
		{"formation", "how it formed", formation},
		{"true", "muster run --all -- true", runTrue},
		{"megabyte", "muster run --all, 1 MB of output each", runMegabyte},
		{"paced", "muster run --all -- true, with limits", runPaced},
		{"bulk", "10 MB of full output from each of up to 20 nodes at once", runBulk},
		{"bell", "from the leader's stamp to the last node's having the order", bell},
		{"idle", "what an idle agent takes", idle},
		{"dead", "a node's agent is killed", deadNode},
		{"leader", "the leader is killed", deadLeader},
	}
}

// keys lists what --only may name.
func keys() []string {
	var out []string
	for _, m := range measurements() {
		out = append(out, m.key)
	}
	return append(out, binaryKey, quorumKey)
}
