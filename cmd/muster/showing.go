package main

import (
	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
)

// showing is how a person wants results shown.
type showing struct {
	diff      bool   // others as their difference from the majority
	noFold    bool   // every node by itself
	outputDir string // a folder for the full output, a file per node and stream
}

func (s *showing) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&s.diff, "diff", false, "show what most nodes say, and of others only what differs from it")
	flags.BoolVar(&s.noFold, "no-fold", false, "show every node by itself, also where results are equal")
	flags.StringVar(&s.outputDir, "output-dir", "", "write the full output into this folder: NODE.stdout and NODE.stderr")
}

func (s showing) check(async bool) error {
	switch {
	case s.diff && s.noFold:
		return fleet.Errorf(fleet.Invalid, "--diff and --no-fold at once")
	case async && (s.diff || s.noFold || s.outputDir != ""):
		return fleet.Errorf(fleet.Invalid, "--async does not wait for results, so there are none to show").
			Hinted("muster command watch ID takes the same flags")
	}
	return nil
}
