package main

import (
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// portion is a number of nodes, or a percentage of those that were chosen, as flags take it: 5 or 5%.
type portion struct {
	number  uint32
	percent bool
}

// parsePortion reads N or N%. flag is named in the error.
func parsePortion(flag, text string) (portion, error) {
	digits, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseUint(digits, 10, 31)
	switch {
	case err != nil || digits[0] == '+':
		return portion{}, fleet.Errorf(fleet.Invalid, "%s %q is neither a number of nodes (5) nor a percentage (5%%)", flag, text)
	case percent && n > 100:
		return portion{}, fleet.Errorf(fleet.Invalid, "%s %s is more than all of them", flag, text)
	}
	return portion{uint32(n), percent}, nil
}

// of returns the number that p is of count, rounded down as SSM does.
func (p portion) of(count int) uint32 {
	if !p.percent {
		return p.number
	}
	return uint32(uint64(count) * uint64(p.number) / 100)
}

// atLeastOne is of, but never 0: a percentage of few nodes still means one.
func (p portion) atLeastOne(count int) uint32 { return max(p.of(count), 1) }
