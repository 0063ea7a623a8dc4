package main

import (
	"fmt"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// levelLines say at which level the fleet is, and who keeps it from the next one. Where all hosts support the level that
// there is, there is nothing to say.
func levelLines(l node.LevelStatus) []string {
	var waits, away, silent []string
	for _, h := range l.Holding {
		switch {
		case !h.Waits:
			away = append(away, h.Name)
		case h.Level == 0:
			silent = append(silent, h.Name)
		default:
			waits = append(waits, h.Name)
		}
	}
	if len(waits)+len(silent)+len(away)+l.More == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("fleet level %d; what newer versions brought waits for all servers, and for all hosts that are online", l.Level)}
	for _, group := range []struct {
		names []string
		text  string
	}{
		{waits, "older version: upgrade them"},
		{silent, "have not said what they support"},
		{away, "away, and not waited for: an older one among them stops following the record when it is back, until it is upgraded"},
	} {
		if len(group.names) > 0 {
			lines = append(lines, "  "+fleet.FoldNames(group.names)+": "+group.text)
		}
	}
	if l.More > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more: muster node list -o wide", l.More))
	}
	return lines
}
