package config

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Names of the keys: in the file as they stand, as flags of muster agent with - for the dot (--log-level), in the environment
// as MUSTER_LOG_LEVEL.
const (
	KeyPreset         = "preset"
	KeyName           = "name"
	KeyBind           = "bind"
	KeyAdvertise      = "advertise"
	KeyOutbound       = "outbound"
	KeyPaused         = "paused"
	KeyShell          = "shell"
	KeyUpgrades       = "upgrades"
	KeySessionsMax    = "sessions.max"
	KeyRunsMax        = "runs.max"
	KeyOutputKeep     = "output.keep"
	KeyMemoryBudget   = "memory.budget"
	KeyCPUBudget      = "cpu.budget"
	KeyLogLevel       = "log.level"
	KeyLogFormat      = "log.format"
	KeyMetricsAddress = "metrics.address"
)

// MaxKeys is how many keys there may ever be: whoever reads a host's configuration shall be able to know all of it.
const MaxKeys = 20

// Kind says what values a key takes.
type Kind uint8

// The kinds.
const (
	Word      Kind = iota + 1 // one of Key.Words
	Switch                    // true or false
	NodeName                  // a name of a node
	Address                   // IP:PORT, or IP
	Addresses                 // IP:PORT, several with commas or as a list
	Listen                    // IP:PORT, or PORT or :PORT on loopback
	Size                      // 64MiB; off is none
	Percent                   // 50%, of one processor; off is none
	Count                     // a number; off is none
)

// Key is one thing that can be set for one host.
type Key struct {
	Name    string
	Kind    Kind
	Words   []string          // what a Word may be
	Default string            // "" where Without says what then holds
	Without string            // what holds where nobody says anything, for people
	Presets map[Preset]string // what a preset says instead of Default
	Reason  string            // why the key exists
	Live    bool              // a running agent takes a new value (SIGHUP); else its next start does
}

// Flag returns the name of the key's flag of muster agent, without its hyphens.
func (k Key) Flag() string { return strings.ReplaceAll(k.Name, ".", "-") }

// Variable returns the name of the key's environment variable.
func (k Key) Variable() string {
	return "MUSTER_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Keys lists the keys, in the order in which they are shown.
func Keys() []Key {
	return []Key{
		{Name: KeyPreset, Kind: Word, Words: []string{string(LAN), string(WAN), string(Edge)}, Default: string(LAN),
			Reason: "timings and sizes that suit the host's network and memory: one word instead of twenty"},
		{Name: KeyName, Kind: NodeName, Without: "the host's name", Reason: "the node's name where the host's own does not suit; read when the host joins"},
		{Name: KeyBind, Kind: Address, Without: "0.0.0.0:7980", Reason: "the one UDP socket, on hosts with several networks or a taken port"},
		{Name: KeyAdvertise, Kind: Addresses, Without: "the addresses of the host's interfaces",
			Reason: "where others reach a host that cannot find it out itself: behind port forwarding"},
		{Name: KeyOutbound, Kind: Switch, Default: "false", Reason: "nobody can dial this host (NAT, a firewall): it dials two members and is reached through them"},
		{Name: KeyPaused, Kind: Switch, Default: "false", Live: true, Reason: "this host's own root lets nothing new start here; what runs goes on"},
		{Name: KeyShell, Kind: Switch, Default: "true", Live: true,
			Reason: "false: operators have no shell here, only documents; whoever may publish those still chooses what runs"},
		{Name: KeyUpgrades, Kind: Switch, Default: "true", Live: true, Reason: "false, or shell: false and nothing said: the fleet does not replace this host's muster; its packages do"},
		{Name: KeySessionsMax, Kind: Count, Without: "256", Presets: map[Preset]string{Edge: "8"}, Live: true,
			Reason: "each session costs a process of a few MB: what a small host bears"},
		{Name: KeyRunsMax, Kind: Count, Without: "32", Presets: map[Preset]string{Edge: "4"},
			Reason: "commands that run at a time, with what each costs; more wait their turn"},
		{Name: KeyOutputKeep, Kind: Size, Without: "what the fleet's output.keep says", Presets: map[Preset]string{Edge: "256MiB"}, Live: true,
			Reason: "a smaller disk than the fleet's others: the lesser of both bounds holds"},
		{Name: KeyMemoryBudget, Kind: Size, Default: "512MiB", Presets: map[Preset]string{Edge: "80MiB"}, Live: true,
			Reason: "what the agent itself may take of the host's memory before it sheds load, and at last starts anew"},
		{Name: KeyCPUBudget, Kind: Percent, Without: "no limit", Presets: map[Preset]string{Edge: "50%"}, Live: true,
			Reason: "what the agent itself may take of one processor, over a minute"},
		{Name: KeyLogLevel, Kind: Word, Words: []string{"debug", "info", "warn", "error"}, Default: "info", Live: true, Reason: "to look closer at one host without a restart"},
		{Name: KeyLogFormat, Kind: Word, Words: []string{"text", "json"}, Default: "text", Reason: "JSON where a machine reads the log"},
		{Name: KeyMetricsAddress, Kind: Listen, Without: "no metrics", Reason: "where Prometheus reads this host: a TCP port that nobody opens unasked"},
	}
}

// Find returns the key of that name.
func Find(name string) (Key, bool) {
	keys := Keys()
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return keys[i], true
}

// Names lists the names of all keys.
func Names() []string {
	var names []string
	for _, k := range Keys() {
		names = append(names, k.Name)
	}
	return names
}

// noKey says that there is no key of a name, and which one may be meant.
func noKey(name string) *fleet.Error {
	err := fleet.Errorf(fleet.Invalid, "there is no key %q", shorten(name))
	if near := fleet.Nearest(name, Names(), 1); len(near) > 0 {
		return err.Hinted("did you mean %s?", near[0])
	}
	return err.Hinted("the keys are %s", strings.Join(Names(), ", "))
}

// shorten keeps what a file says from filling a screen.
func shorten(s string) string { return strings.ToValidUTF8(s[:min(len(s), 64)], "") }
