package main

import (
	"github.com/muster-fleet/muster/node/fleet"
)

// readTarget reads a target so that it selects the same nodes wherever it is read.
func readTarget(all roll, expr string) (fleet.Target, error) {
	target, err := fleet.ParseTarget(expr)
	if err != nil {
		return target, err
	}
	target, err = target.Resolve(func(string) (fleet.Target, bool) { return fleet.Target{}, false })
	if err != nil {
		return target, err
	}
	return all.view.Pin(target)
}
