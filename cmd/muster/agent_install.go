package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

func newAgentInstallCommand(a *app) *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use: "install", Short: "Install this program as the host's agent, without a package", Args: noArgs,
		Long: `Install this program as the host's agent, without a package: it copies itself to PREFIX/bin, writes a unit for systemd or
a script for OpenRC, makes the group muster, and has the agent started with the host. On a host that is in a fleet it is
started at once. With another version of this program the same command is an upgrade: what the agent runs goes on.`,
		Example: `  sudo ./muster agent install
  sudo ./muster agent install --prefix /opt/muster`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRootFor("muster agent install"); err != nil {
				return err
			}
			if !filepath.IsAbs(prefix) || strings.ContainsAny(prefix, " \t\n\"'\\$%") {
				return fleet.Errorf(fleet.Invalid, "--prefix %q is no plain absolute path", prefix).Hinted("--prefix /usr/local")
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return thisSystem(a.stdout).install(cmd.Context(), self, filepath.Clean(prefix))
		},
	}
	cmd.Flags().StringVar(&prefix, "prefix", "/usr/local", "folder whose bin the program is copied to")
	return cmd
}

func newAgentUninstallCommand(a *app) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use: "uninstall", Short: "Undo muster agent install", Args: noArgs,
		Long: `Undo muster agent install: stop the agent, remove its unit or script and the program. The data folder stays, so that the
same host can come back; with --purge it goes too, and with it the host's keys, its share of the fleet's state and all
output that is kept here. What the agent had started goes on.`,
		Example: `  muster node leave && sudo muster agent uninstall
  sudo muster agent uninstall --purge`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRootFor("muster agent uninstall"); err != nil {
				return err
			}
			return thisSystem(a.stdout).uninstall(cmd.Context(), purge)
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the data folder too: this host's keys, and all that it keeps")
	return cmd
}

func (a *app) needRootFor(what string) error {
	if a.euid == 0 {
		return nil
	}
	return fleet.Errorf(fleet.Denied, "%s takes root", what).Hinted("repeat it with sudo")
}

// startService starts the host's agent where it is installed as a service. It returns what starts the agent where that was
// not done, "" where it runs.
func (a *app) startService(ctx context.Context) (command string) {
	alone := "muster agent" + a.dirFlag()
	if a.euid != 0 || a.dataDir() != systemData {
		return alone
	}
	s := thisSystem(a.stdout)
	m, runs := s.manager()
	if path, _ := s.installed(m); path == "" || !runs {
		return alone
	}
	if err := s.run(ctx, m.verb("start")...); err != nil {
		a.say("the service did not start: %v", err)
		return strings.Join(m.verb("start"), " ")
	}
	a.awaitAgent(ctx, 0) // OpenRC does not wait for it
	return ""
}

// answerWait is how long init and join wait for the agent that they started, and answerLook how often they look: what people
// type next finds it there, and join's host among the others.
const (
	answerWait = 10 * time.Second
	answerLook = 100 * time.Millisecond
)

// awaitAgent waits until the host's agent answers and sees so many nodes online, or for a while.
func (a *app) awaitAgent(ctx context.Context, online int) {
	ctx, stop := context.WithTimeout(ctx, answerWait)
	defer stop()
	for {
		if s, err := a.client().Status(ctx); err == nil && s.Online >= online {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(answerLook):
		}
	}
}

// givenJoinFile returns the file of the join string for the agent: as told, else the system's if there is one.
func (a *app) givenJoinFile(join, file string) string {
	if join == "" && file == "" && a.dataDir() == systemData && exists(systemJoin) {
		return systemJoin
	}
	return file
}

// useUpJoinFile removes the system's file with a join string when it has served: it is a secret that others could use.
func (a *app) useUpJoinFile(file string) {
	if file != systemJoin || !folder.Exists(a.dataDir()) {
		return
	}
	if err := os.Remove(file); err != nil {
		a.say("%s has a join string that is not needed any more, and cannot be removed: %v", file, err)
		return
	}
	a.say("%s is removed: it had a join string, and this host is enrolled", file)
}
