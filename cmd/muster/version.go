package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
)

// release is the version; the build sets it with -ldflags "-X main.release=1.2.3".
var release string

// version returns the version of this binary: the release, else the commit it was built from.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "0.0.0-dev"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "0.0.0-dev+" + s.Value[:12]
		}
	}
	return "0.0.0-dev"
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this program", Args: noArgs,
		Example: `  muster version
  muster version -o json`,
		RunE: func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			out := struct {
				Format   int    `json:"format"`
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
				Level    uint16 `json:"level"` // the newest fleet level that it supports
			}{1, version(), runtime.Version(), platform, uint16(fleet.LevelNewest)}
			return a.showOne(out, version(), []fact{{"muster", version()}, {"go", runtime.Version()}, {"platform", platform}})
		},
	}
}
