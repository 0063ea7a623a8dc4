package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/fleet"
)

// hostFlags say what init and join make of this host.
type hostFlags struct {
	name      string
	bind      string
	advertise []string
	outbound  bool
	set       *pflag.FlagSet
	conf      *configFlags // of a command that has --config
}

func (f *hostFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.set = flags
	flags.StringVar(&f.name, "name", "", "name of this node (default: the host's name)")
	flags.StringVar(&f.bind, "bind", fmt.Sprintf("0.0.0.0:%d", host.DefaultPort), "IP:PORT of the one UDP socket")
	flags.StringSliceVar(&f.advertise, "advertise", nil, "IP:PORT at which others reach this host, where it cannot find out itself")
}

// registerOutbound adds the flag of those commands by which a host that there is a fleet for becomes one of it.
func (f *hostFlags) registerOutbound(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.outbound, "outbound", false, "nobody can dial this host: it keeps connections to two members, and is reached through them")
}

// newHost puts flags, the host's configuration and defaults together.
func (f *hostFlags) newHost(a *app) (host.NewHost, error) {
	if err := f.fill(a); err != nil {
		return host.NewHost{}, err
	}
	n := host.NewHost{Dir: a.dataDir(), Name: f.name, Bind: f.bind, Advertise: f.advertise, Outbound: f.outbound}
	if n.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return n, fleet.Errorf(fleet.Invalid, "this host has no name: %w", err).Hinted("--name NODE")
		}
		n.Name = strings.ToLower(name)
	}
	if err := fleet.CheckName(n.Name); err != nil {
		return n, fleet.Errorf(fleet.Invalid, "%w", err).Hinted("--name NODE")
	}
	return n, nil
}

func newInitCommand(a *app) *cobra.Command {
	var (
		flags             hostFlags
		fleetName, opName string
		tags              []string
		recoveryFile      string
	)
	cmd := &cobra.Command{
		Use: "init", Short: "Found a fleet on this host", Args: noArgs,
		Long: `Found a fleet on this host.

Makes this host's data folder, an operator's key for you, and two root keys: one in a file beside the operator's, and a
recovery key that is shown once, to be printed and put away: it can stand in for the root key, and open secrets that
nobody else can read any more. Then start the agent: muster agent.`,
		Example: `  muster init --fleet prod
  muster init --fleet lab --name web1 --bind 10.0.0.1:7980 --tag role=web`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := flags.newHost(a)
			if err == nil {
				n.Tags, err = parseTags(tags)
			}
			if err != nil {
				return err
			}
			return a.found(cmd.Context(), n, fleetName, opName, recoveryFile)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&fleetName, "fleet", "main", "name of the fleet")
	cmd.Flags().StringVar(&opName, "operator", "", "your name as an operator (default: your account's)")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "k=v: a tag of this node; may be repeated")
	cmd.Flags().StringVar(&recoveryFile, "recovery-file", "", "write the recovery key here instead of showing it")
	return cmd
}

func parseTags(texts []string) (map[string]string, error) {
	tags := map[string]string{}
	for _, text := range texts {
		k, v, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fleet.Errorf(fleet.Invalid, "%q is no tag", text).Hinted("--tag KEY=VALUE")
		}
		tags[k] = v
	}
	return tags, fleet.CheckTags(tags)
}

func (a *app) found(ctx context.Context, n host.NewHost, fleetName, opName, recoveryFile string) error {
	if err := fleet.CheckName(fleetName); err != nil {
		return err
	}
	if opName == "" {
		opName = a.personName()
	}
	for _, path := range []string{a.identityPath(), a.rootKeyPath()} {
		if exists(path) {
			return fleet.Errorf(fleet.Conflict, "%s is there already: you are an operator of some fleet", path).
				Hinted("keep the new keys elsewhere: --identity FILE")
		}
	}
	me, err := newIdentity(fleet.ID{}, fleetName, opName)
	if err != nil {
		return err
	}
	operator, err := me.asOperator()
	if err != nil {
		return err
	}
	root, recovery := rootKey{FleetName: fleetName, Seed: newSeed()}, newSeed()
	recipient, err := recoveryRecipient(recovery)
	if err != nil {
		return err
	}
	keys := keyRing{app: a}
	_, err = host.Found(n, host.Founder{
		Fleet: fleetName, Operator: opName, Key: ed25519.NewKeyFromSeed(me.Seed), HPKE: operator.HPKE,
		Root: ed25519.NewKeyFromSeed(root.Seed), Recovery: ed25519.NewKeyFromSeed(recovery).Public().(ed25519.PublicKey),
		RecoveryHPKE: recipient,
		Keep: func(id fleet.ID) error {
			me.Fleet, root.Fleet = id, id
			return keys.keep(me, root, recoveryFile, recoveryText(recovery)+"\n")
		},
	}, time.Now())
	if err != nil {
		keys.takeBack()
		return err
	}
	a.tellFounded(n, fleetName, recovery, recoveryFile)
	a.tellNext(a.startService(ctx))
	return nil
}

// keyRing is the key files that init has written so far.
type keyRing struct {
	app     *app
	written []string
}

func (k *keyRing) keep(me identity, root rootKey, recoveryFile, recovery string) error {
	files := []struct{ path, text string }{{k.app.identityPath(), me.text()}, {k.app.rootKeyPath(), root.text()}}
	if recoveryFile != "" {
		files = append(files, struct{ path, text string }{recoveryFile, recovery})
	}
	for _, f := range files {
		if err := k.app.writeKey(f.path, f.text); err != nil {
			return notKept(err)
		}
		k.written = append(k.written, f.path)
	}
	return nil
}

// notKept says what mends it that a key has no place.
func notKept(err error) error {
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Kind != fleet.Conflict {
		return e.Hinted("no fleet was founded; give the keys another place: --identity FILE, --recovery-file FILE")
	}
	return err
}

// takeBack removes the keys of a fleet that was not founded.
func (k *keyRing) takeBack() {
	for _, path := range k.written {
		_ = os.Remove(path)
	}
}

func (a *app) tellFounded(n host.NewHost, fleetName string, recovery []byte, recoveryFile string) {
	out := func(format string, args ...any) { fmt.Fprintf(a.stdout, format+"\n", args...) }
	out("fleet %s is founded; this host is %s", fleetName, n.Name)
	out("  your key      %s", a.identityPath())
	out("  root key      %s   decides who may act: better kept on another disk", a.rootKeyPath())
	if recoveryFile == "" {
		out("  recovery key  shown once; print it and put it away:")
		out("      %s", recoveryText(recovery))
	} else {
		out("  recovery key  %s   print it, put it away, remove the file", recoveryFile)
	}
}

// tellNext says what starts the agent, if it does not run yet, and what comes then.
func (a *app) tellNext(start string) {
	switch {
	case start == "":
		fmt.Fprintln(a.stdout, "its agent runs; next:")
	case strings.HasPrefix(start, "muster "):
		fmt.Fprintf(a.stdout, "next:\n  %-26s start the agent (it stays in the foreground)\n", start)
	default:
		fmt.Fprintf(a.stdout, "next:\n  %-26s start the agent\n", start)
	}
	fmt.Fprintf(a.stdout, "  %-26s make a join string for more hosts\n", "muster token create"+a.dirFlag())
}

// dirFlag repeats --data-dir in advice, where it was given.
func (a *app) dirFlag() string {
	if a.flags.dataDir == "" {
		return ""
	}
	return " --data-dir " + a.flags.dataDir
}
