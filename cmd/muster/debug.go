package main

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
)

func newDebugCommand(a *app) *cobra.Command {
	return newNoun("debug", "What helps others to help you", newDebugBundleCommand(a))
}

func newDebugBundleCommand(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "bundle", Short: "Pack what is known of this host into a file, without its secrets", Args: noArgs,
		Long: `Pack what is known of this host into a file that can be given to somebody who helps: what doctor, status, quorum and node list
say, the configuration with where each value comes from, metrics, the agent's stacks and memory, its last decisions and log, the
unit, limits, network and kernel. Neither keys nor parameters, outputs, recordings or environments are put in, and what looks like
a secret in a log is masked; look through it all the same before you give it away. Run it as root: others get less. It works
without an agent.`,
		Example: `  sudo muster debug bundle
  sudo muster debug bundle --out /tmp/web1.tar.gz`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := a.newBundle(cmd.Context())
			path := cmp.Or(out, "muster-debug-"+cmp.Or(b.node, "host")+"-"+time.Now().UTC().Format("20060102-150405")+".tar.gz")
			file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return fleet.Errorf(fleet.Conflict, "%s exists already", path).Hinted("--out another file")
			}
			if err != nil {
				return err
			}
			written := b.write(file)
			if err := errors.Join(written, file.Sync(), file.Close()); err != nil {
				return errors.Join(err, os.Remove(path))
			}
			return a.showOne(struct {
				Path   string   `json:"path"`
				Parts  []string `json:"parts"`
				Absent []string `json:"absent"`
				Masked int      `json:"masked"`
			}{path, b.names(), b.absent, b.mask.count}, path, []fact{
				{"file", path}, {"parts", counted(len(b.parts), "file")}, {"masked", maskedText(b.mask.count)}, {"absent", joined(b.absent...)},
				{"look", "tar -tzf " + filepath.Clean(path)},
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write; it must not exist")
	return cmd
}

func maskedText(n int) string {
	if n == 0 {
		return "nothing that looks like a secret was found"
	}
	return counted(n, "place") + " that looked like secrets"
}
