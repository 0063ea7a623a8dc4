package node

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Supporter is one host of the fleet as the leader sees it when the fleet's level may rise.
type Supporter struct {
	ID     fleet.ID
	Server bool // a voter or a spare: it takes whatever is written next
	Online bool
	Level  fleet.Level // the newest that it says it supports; 0: it has not said lately
}

// counts reports whether the level waits for the host. Who is away does not hold a fleet back for ever: where it comes back
// with an older program it keeps what it has, and goes on when it is upgraded.
func (s Supporter) counts() bool { return s.Server || s.Online }

// NextLevel returns the level that a fleet at level have may go to now: the highest that this program and all hosts that
// count support. Where one of them has not said what it supports, that is have. holding lists the hosts, counted or not,
// that are not known to support own; those that count come first.
func NextLevel(have, own fleet.Level, hosts []Supporter) (to fleet.Level, holding []Supporter) {
	to = own
	for _, h := range hosts {
		if h.Level >= own {
			continue
		}
		holding = append(holding, h)
		if h.counts() {
			to = min(to, h.Level)
		}
	}
	slices.SortFunc(holding, func(a, b Supporter) int {
		return cmp.Or(rank(b)-rank(a), a.ID.Compare(b.ID))
	})
	return max(to, have), holding
}

func rank(s Supporter) int {
	switch {
	case s.Server:
		return 2
	case s.Online:
		return 1
	}
	return 0
}

// VersionSkew says that hosts run more versions than two side by side, or nothing. hosts is how many run each.
func VersionSkew(hosts map[string]int) string {
	if len(hosts) <= 2 {
		return ""
	}
	var each []string
	for _, version := range slices.Sorted(maps.Keys(hosts)) {
		each = append(each, fmt.Sprintf("%s on %d", cmp.Or(version, "?"), hosts[version]))
	}
	return fmt.Sprintf("%d versions of muster run in this fleet (%s): two that follow each other are meant to, so finish one upgrade before the next (muster node list -o wide)",
		len(hosts), strings.Join(each, ", "))
}

// LevelStatus is how far the fleet's hosts agree on what may be written.
type LevelStatus struct {
	Level    fleet.Level // the fleet's
	Supports fleet.Level // this host's program's newest
	// Holding are hosts that are not known to support the newest level of the leader's program, those that the level waits
	// for first, and More how many more there are. None: it is reached, or no leader says.
	Holding []LevelHolder
	More    int
}

// LevelHolder is a host that does not, or does not say that it does, support the newest level.
type LevelHolder struct {
	ID     fleet.ID
	Name   string
	Level  fleet.Level // 0: it has not said
	Server bool
	Online bool
	Waits  bool // the level waits for it
}

// OfSupporters fills in who holds the level back.
func (l *LevelStatus) OfSupporters(holding []Supporter, more int, name func(fleet.ID) string) {
	l.More = more
	for _, h := range holding {
		l.Holding = append(l.Holding, LevelHolder{ID: h.ID, Name: name(h.ID), Level: h.Level, Server: h.Server, Online: h.Online, Waits: h.counts()})
	}
}
