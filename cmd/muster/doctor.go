package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
)

// scantDisk is how much room on the data folder's disk is too little: what ledger and audit set aside.
const scantDisk = 16 << 20

func newDoctorCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check this host: what its data folder takes of the disk", Args: noArgs,
		Long: `Check this host without asking another: what the parts of the agent's data folder take of the disk, the bound that each
keeps to, and what the disk has left. It exits 1 when a part is over its bound or the disk is nearly full.`,
		Example: `  muster doctor
  muster doctor -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			stores, err := a.client().Usage(cmd.Context())
			if err != nil {
				return err
			}
			rows := make([]shape.Store, 0, len(stores))
			for _, s := range stores {
				rows = append(rows, shape.Store(s))
			}
			if err := storeListing().show(a, rows); err != nil {
				return err
			}
			ills := diskIlls(stores)
			for _, ill := range ills {
				a.say("! %s", ill)
			}
			if len(ills) > 0 {
				return exitCode(exec.ExitFailed)
			}
			return nil
		},
	}
}

// diskIlls says what is wrong with what the data folder takes.
func diskIlls(stores []api.Store) []string {
	var ills []string
	for _, s := range stores {
		if s.Bound > 0 && s.Bytes > s.Bound {
			ills = append(ills, fmt.Sprintf("%s takes %s, more than its bound of %s (%s)", s.What, byteText(s.Bytes), byteText(s.Bound), s.Path))
		}
		if s.Free < scantDisk {
			ills = append(ills, fmt.Sprintf("the disk of %s has %s left: when it is full, nothing can be run or kept here (df -h %s)", s.Path, byteText(s.Free), s.Path))
		}
	}
	slices.Sort(ills)
	return slices.Compact(ills)
}

func storeListing() listing[shape.Store] {
	return listing[shape.Store]{
		columns: []column[shape.Store]{
			{head: "WHAT", cell: func(s shape.Store) string { return s.What }},
			{head: "TAKES", cell: func(s shape.Store) string { return byteText(s.Bytes) }},
			{head: "BOUND", cell: func(s shape.Store) string {
				if s.Bound == 0 {
					return "-"
				}
				return byteText(s.Bound)
			}},
			{head: "ITEMS", cell: func(s shape.Store) string {
				if s.Items == 0 {
					return "-"
				}
				return fmt.Sprint(s.Items)
			}},
			{head: "DISK LEFT", cell: func(s shape.Store) string { return byteText(s.Free) }},
			{head: "PATH", cell: func(s shape.Store) string { return s.Path }},
		},
		name: func(s shape.Store) string { return s.What },
		none: "the agent says nothing of its data folder",
	}
}

// byteText writes a size in the unit that leaves three digits.
func byteText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	size, unit := float64(n), 0
	for size >= 1024 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", size), ".0") + " " + units[unit]
}
