package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// pauseName is the file in the data folder by which this host is paused, so that a restart does not forget it.
const pauseName = "paused"

// Limits of a pause's file, in bytes.
const (
	maxPause       = 4 << 10
	maxPauseReason = 512
)

// hostPause is what the file says.
type hostPause struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"` // account
	Reason string    `json:"reason,omitempty"`
}

// given is a pause as a source of configuration, which takes precedence over all others.
func (p hostPause) given() config.Given {
	where := "muster agent pause"
	if p.By != "" {
		where += " by " + p.By
	}
	if !p.At.IsZero() {
		where += " at " + p.At.UTC().Format(time.RFC3339)
	}
	if p.Reason != "" {
		where += ": " + p.Reason
	}
	return config.Given{Name: config.KeyPaused, Text: "true", Origin: config.Origin{Source: config.ByCommand, Where: where}}
}

// readPause returns whether the host in dir is paused. A file that cannot be understood pauses all the same: somebody wanted it.
func readPause(dir string) (hostPause, bool) {
	path := filepath.Join(dir, pauseName)
	info, err := os.Lstat(path)
	if err != nil {
		return hostPause{}, !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
	}
	var p hostPause
	if info.Size() > maxPause {
		return p, true
	}
	if text, err := os.ReadFile(path); err != nil || json.Unmarshal(text, &p) != nil {
		return hostPause{}, true
	}
	p.Reason, p.By = printable(p.Reason), printable(p.By)
	return p, true
}

func newAgentPauseCommand(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "pause", Short: "Let nothing new start on this host, whatever operators sign", Args: noArgs,
		Long: `Let nothing new start on this host, whatever operators sign: commands and sessions are refused, and who asks is told that this
host's own root has paused it, and why. What runs goes on, and the agent stays a member of its fleet. It holds over restarts,
until muster agent resume.`,
		Example: `  muster agent pause --reason 'a disk is being replaced'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(reason) > maxPauseReason {
				return fleet.Errorf(fleet.Invalid, "--reason has %d bytes; at most %d", len(reason), maxPauseReason)
			}
			if err := folder.CheckHost(a.dataDir()); err != nil {
				return err
			}
			text, err := json.Marshal(hostPause{At: time.Now().UTC().Truncate(time.Second), By: a.accountName(), Reason: reason})
			if err == nil {
				err = folder.WriteFile(filepath.Join(a.dataDir(), pauseName), append(text, '\n'), 0o600)
			}
			if err != nil {
				return err
			}
			return a.tellPause(cmd, "nothing new starts on this host")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what operators are told")
	return cmd
}

// accountName names whoever runs this, under sudo its caller.
func (a *app) accountName() string {
	if name := a.keyOwner().name; name != "" {
		return name
	}
	if u, err := user.LookupId(strconv.Itoa(a.euid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(a.euid)
}

func newAgentResumeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "Take back muster agent pause", Args: noArgs,
		Long:    `Take back muster agent pause. What was refused meanwhile stays refused: operators give it again.`,
		Example: `  muster agent resume`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := folder.CheckHost(a.dataDir()); err != nil {
				return err
			}
			err := os.Remove(filepath.Join(a.dataDir(), pauseName))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fleet.Errorf(fleet.Denied, "cannot take the pause back: %w", err)
			}
			return a.tellPause(cmd, "operators may start things on this host")
		},
	}
}

// tellPause has the running agent look, and says what holds from now on.
func (a *app) tellPause(cmd *cobra.Command, done string) error {
	c, err := api.Dial(a.socketPath()).ReloadConfig(cmd.Context())
	switch {
	case fleet.KindOf(err) == fleet.Unavailable:
		fmt.Fprintln(a.stdout, done+", from the agent's next start: none answers now")
		return nil
	case err != nil:
		return fleet.Errorf(fleet.KindOf(err), "the running agent could not be told, its next start will know: %w", err)
	}
	if len(c.Problems) > 0 {
		a.sayProblems(c.Problems)
		return fleet.Errorf(fleet.Invalid, "the running agent does not take its configuration, nor this: mend that first").Hinted("muster config check")
	}
	for _, v := range c.Values {
		if v.Key == config.KeyPaused && (v.Value == "true") != (cmd.Name() == "pause") {
			return fleet.Errorf(fleet.Conflict, "this host is paused all the same: %s", v.Where).Hinted("take paused: true out there, then muster config reload")
		}
	}
	fmt.Fprintln(a.stdout, done)
	return nil
}
