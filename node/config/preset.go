package config

// Preset is a set of timings and sizes under one name.
type Preset string

// The presets.
const (
	LAN  Preset = "lan"  // hosts within 100 ms of each other, with the memory of a server
	WAN  Preset = "wan"  // hosts on several continents, or behind poor links: slower to suspect, slower to elect
	Edge Preset = "edge" // as WAN, on hosts with little memory and disk: small buffers, few runs at a time
)

// Slow reports whether the preset's hosts are far from each other: gossip and quorum take their WAN timings.
func (p Preset) Slow() bool { return p == WAN || p == Edge }

// Small reports whether the preset's hosts have little memory.
func (p Preset) Small() bool { return p == Edge }
