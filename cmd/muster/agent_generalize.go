package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec/cage"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// How long generalize waits for another server to vote, and how often it looks.
const (
	voteWait = time.Minute
	voteLook = 500 * time.Millisecond
)

type generalizeFlags struct {
	yes        bool
	keepKeys   bool
	loseQuorum bool
}

func newAgentGeneralizeCommand(a *app) *cobra.Command {
	var flags generalizeFlags
	cmd := &cobra.Command{
		Use: "generalize", Short: "Make this host as it was before it joined: for images, and for a host whose key lives twice", Args: noArgs,
		Long: `Make this host as it was before it joined a fleet: stop its agent, then overwrite and remove its identity and every other
key, its copy of the record, its ledger, its share of the fleet's state, reports, output, recordings, releases. What stays: the
package or program, its service (enabled as it was), the host's configuration and a join string in ` + systemJoin + `. So an image
made of it afterwards has no key of this host, and each of its copies joins as a node of its own.

The fleet still lists the node: muster node delete NAME on another host, or give its name and tags to the host that comes
next with muster token create --replace NAME.

A vote of this host goes with its key. Where the other voters would be too few without it, nothing could ever be written again: it
waits a minute for another server to vote, and then refuses.

Operators' keys belong to people and are not removed. While there are some in a home of this host it refuses, and names them.`,
		Example: `  sudo muster agent generalize --yes                # the last step of building an image
  sudo muster agent generalize && sudo muster join --join-file join   # the same host under a new key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.generalize(cmd.Context(), thisSystem(a.stdout), flags)
		},
	}
	cmd.Flags().BoolVar(&flags.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&flags.keepKeys, "keep-operator-keys", false, "also while operators' keys are on this host: they stay, and an image has them")
	cmd.Flags().BoolVar(&flags.loseQuorum, "lose-quorum", false, "also where the fleet can then never write again")
	return cmd
}

func (a *app) generalize(ctx context.Context, s system, flags generalizeFlags) error {
	dir := a.dataDir()
	whole := dir == systemData
	if whole {
		dir = s.at(dir)
		if err := a.needRootFor("muster agent generalize"); err != nil {
			return err
		}
	}
	if !folder.WasHost(dir) {
		return fleet.Errorf(fleet.NotFound, "%s is no host's folder: there is nothing to remove", dir).
			Hinted("an image can be made of this host as it is; or name the folder: --data-dir DIR")
	}
	if err := mayWipe(dir, whole); err != nil {
		return err
	}
	if err := s.noOperatorKeys(a, flags.keepKeys); err != nil {
		return err
	}
	if err := a.confirm(flags.yes, "Remove this host's keys and all that it keeps in %s?", dir); err != nil {
		return err
	}
	if !flags.loseQuorum {
		if err := awaitVoters(ctx, api.Dial(a.socketPath()).Status, a.say); err != nil { // this host's own agent, whatever --via says
			return err
		}
	}
	if whole {
		if err := s.stopService(ctx); err != nil {
			return err
		}
	}
	files, err := folder.Wipe(dir)
	if err != nil {
		return stillInUse(err)
	}
	if whole {
		_ = os.Remove(s.at(systemSocket)) // a killed agent's
	}
	s.tell("removed  %s in %s: this host's keys, and all that it kept", count(files, "file"), dir)
	if whole && s.has(systemJoin) {
		s.tell("left     %s: the next start joins with it", systemJoin)
	}
	s.tell("the fleet still lists this node; on a host of it: muster node delete NAME")
	return nil
}

// awaitVoters returns when the fleet can do without this host's vote. Where no agent answers nobody is asked, and one in quarantine
// has no vote.
func awaitVoters(ctx context.Context, status func(context.Context) (node.Status, error), say func(string, ...any)) error {
	told := false
	for end := time.Now().Add(voteWait); ; {
		s, err := status(ctx)
		if err != nil || s.Self.Plight == node.ClonePlight {
			return nil
		}
		why := neededFor(s)
		if why == "" {
			return nil
		}
		if !told {
			say("without this host %s: waiting for another server to vote, %s at most", why, voteWait)
			told = true
		}
		if time.Now().After(end) {
			return fleet.Errorf(fleet.Conflict, "without this host %s, and its vote goes with its key: nothing could ever be written again", why).
				Hinted("muster node delete %s on another host takes its vote away first; muster quorum status says who votes (--lose-quorum: all the same)", s.Self.Name)
		}
		select {
		case <-time.After(voteLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mayWipe refuses while programs go on that the agent has started, for they would write into a folder that is gone, and where
// somebody else's files are in a folder that is not the system's.
func mayWipe(dir string, whole bool) error {
	var live []string
	for _, kind := range []string{"runs", "sessions"} {
		ends, _ := filepath.Glob(filepath.Join(dir, kind, "*", "end")) // the pattern is well-formed
		for _, end := range ends {
			if cage.Alive(end) {
				live = append(live, strings.TrimSuffix(kind, "s")+" "+filepath.Base(filepath.Dir(end)))
			}
		}
	}
	if len(live) > 0 {
		return fleet.Errorf(fleet.Conflict, "what the agent has started goes on here: %s", strings.Join(live, ", ")).
			Hinted("let it end, or end it: muster command cancel ID, muster session end ID; this cannot be done by a command of muster's own")
	}
	if whole {
		return nil
	}
	others, err := folder.Strangers(dir)
	if err != nil || len(others) == 0 {
		return err
	}
	return fleet.Errorf(fleet.Conflict, "%s holds what is not muster's: %s", dir, strings.Join(others, ", ")).
		Hinted("move that away first; everything in the folder would be removed")
}

// stillInUse says what to do about an agent that goes on.
func stillInUse(err error) error {
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || e.Kind != fleet.Conflict {
		return err
	}
	return e.Hinted("stop it first (SIGTERM), then repeat this")
}

// stopService stops the agent where it is a service, so that it is not started again meanwhile.
func (s system) stopService(ctx context.Context) error {
	m, runs := s.manager()
	if path, _ := s.installed(m); path == "" || !runs {
		return nil
	}
	return s.run(ctx, m.verb("stop")...)
}

// noOperatorKeys refuses while keys of people are where muster init and muster operator put them. Whoever got an image with
// one would be that operator.
func (s system) noOperatorKeys(a *app, keep bool) error {
	found := s.operatorKeys(a)
	if len(found) == 0 {
		return nil
	}
	if keep {
		s.tell("left     %s: whoever has a copy of this host has the rights of its owner", strings.Join(found, ", "))
		return nil
	}
	return fleet.Errorf(fleet.Conflict, "keys of operators are on this host: %s", strings.Join(found, ", ")).
		Hinted("move them to where they belong (a root key that is lost cannot be made again), or leave them: --keep-operator-keys")
}

// operatorKeys lists the files of keys in the homes of this host's accounts, and at the place that was named.
func (s system) operatorKeys(a *app) []string {
	var out []string
	seen := map[string]bool{}
	look := func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		entries, err := os.ReadDir(s.at(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return
		}
		for _, entry := range entries {
			if name := entry.Name(); strings.HasSuffix(name, ".key") {
				out = append(out, filepath.Join(dir, name))
			}
		}
	}
	passwd, _ := os.ReadFile(s.at("/etc/passwd"))
	for line := range strings.Lines(string(passwd)) {
		if fields := strings.Split(line, ":"); len(fields) > 5 && filepath.IsAbs(fields[5]) {
			look(filepath.Join(fields[5], ".config", "muster"))
		}
	}
	look(filepath.Dir(a.identityPath()))
	return out
}
