package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// exitOurs is what commands exit with, for what is muster's and not the program's, where they pass on the exit code of a
// program: as ssh does.
const exitOurs = 255

// passesExit marks such commands.
const passesExit = "exit-code-is-the-program's"

// sessionCommand makes a command whose failures exit with exitOurs.
func sessionCommand(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{passesExit: ""}
	return cmd
}

// sessionFlags is what every session is told.
type sessionFlags struct {
	user   string
	env    []string
	reason string
	idle   time.Duration
	most   time.Duration
	doc    string   // NAME[:VERSION]; empty: none
	params []string // NAME=VALUE
}

// forwardFlags are those of sessions that carry connections.
func (f *sessionFlags) forwardFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.reason, "reason", "", "what it is for; kept with the record of the session")
	flags.Var((*lifespan)(&f.most), "timeout", "end it after so long (default, and at most: the node's limit)")
}

// flags are those of sessions that can idle.
func (f *sessionFlags) flags(cmd *cobra.Command) {
	cmd.Flags().Var((*lifespan)(&f.idle), "idle", "end it after so long without input or output (default, and at most: the node's limit)")
	f.forwardFlags(cmd)
}

// programFlags are those of sessions in which a program runs.
func (f *sessionFlags) programFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.user, "user", "", "account on the node (default: the node's for sessions)")
	flags.StringArrayVar(&f.env, "env", nil, "environment variable K=V; may be repeated")
	f.flags(cmd)
}

func (f sessionFlags) check() error {
	switch {
	case f.doc == "" && len(f.params) > 0:
		return fleet.Errorf(fleet.Invalid, "--param without --doc")
	case f.idle < 0 || f.most < 0:
		return fleet.Errorf(fleet.Invalid, "a session cannot last less than nothing")
	case f.idle > 0 && f.idle < time.Second || f.most > 0 && f.most < time.Second:
		return fleet.Errorf(fleet.Invalid, "--idle and --timeout are one second at least")
	}
	return nil
}

// session begins the statement of a session.
func (f sessionFlags) session(kind auth.SessionKind) auth.Session {
	return auth.Session{Kind: kind, User: f.user, Env: f.env, Reason: f.reason, Idle: f.idle.Milliseconds(), Most: f.most.Milliseconds()}
}

// environmentHere returns what programs on a terminal show text by, as ssh passes it on: what is given goes before.
func (a *app) environmentHere(given []string) []string {
	out := slices.Clone(given)
	for _, name := range []string{"LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_TIME", "LC_COLLATE", "LC_NUMERIC", "COLORTERM"} {
		value := a.getenv(name)
		if value != "" && !slices.ContainsFunc(given, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
			out = append(out, name+"="+value)
		}
	}
	return out
}
