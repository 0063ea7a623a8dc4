package main

import (
	"context"
	"time"
)

// measurement takes some figures of a fleet that stands. It leaves the fleet whole: all agents run, all see each other.
type measurement struct {
	key  string // for --only
	what string // for people who wait
	take func(ctx context.Context, b *bench) ([]figure, error)
}

// binaryKey names the figures that need no fleet.
const binaryKey = "binary"

// alone measures something without a fleet of namespace hosts.
type alone struct {
	key  string
	what string
	take func(ctx context.Context, place place) ([]figure, error)
}

// place is what it is given.
type place struct {
	folder  string        // to be used and left
	muster  string        // the binary
	over    time.Duration // how long a load is kept up
	clients []int         // at a time, one number after the other
	runs    int           // how often what is short is repeated
	ways    []string      // keys of sessionWays; empty: all
	acts    []string      // keys of sessionActs; empty: all
	say     func(format string, args ...any)
}

// aloneOnes lists what is measured so.
func aloneOnes() []alone {
	return []alone{
		{"quorum", "three replicas alone, without signatures and agents", measureQuorum},
		{"params", "parameters under load, beside etcd", measureParams},
		{"store", "parameters in memory and in snapshots", measureStore},
		{"sessions", "sessions, beside ssh", measureSessions},
		{"startup", "how soon an agent is there", measureStartup},
		{"small", "an agent with little memory", measureSmall},
		{"release", "a release to twenty hosts, beside scp", measureRelease},
	}
}

// measurements lists what is measured of each fleet, in this order: what disturbs the fleet most comes last.
func measurements() []measurement {
	return []measurement{
		{"formation", "how it formed", formation},
		{"true", "muster run --all -- true", runTrue},
		{"megabyte", "muster run --all, 1 MB of output each", runMegabyte},
		{"paced", "muster run --all -- true, with limits", runPaced},
		{"bulk", "10 MB of full output from each of up to 20 nodes at once", runBulk},
		{"bell", "from the leader's stamp to the last node's having the order", bell},
		{"watch", "a change to every node that watches", watchFanOut},
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
	for _, a := range aloneOnes() {
		out = append(out, a.key)
	}
	return append(out, binaryKey)
}
