package session

import (
	"slices"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// order is what the agent hands to a supervisor, in memory: environments are nobody else's business.
type order struct {
	Format   int
	Session  node.SessionOrder
	Node     fleet.ID
	NodeName string
	Account  account.Account
	Drop     bool     // change to the account
	Copy     []string // argv of the far end of a copy
	Contain  string   // see exec/cage
	Cgroup   string   // name of the session's cgroup
	Timing   timing
}

// maxOrder bounds an order: the statement's bounds, and what the host adds.
const maxOrder = 1 << 20

const shell = "/bin/sh"

// program is what is executed: a file, or a name to look up, and the argv, whose first word a login shell wants otherwise.
type program struct {
	name string
	argv []string
}

// program returns what the session runs.
func (o order) program() program {
	switch o.Session.Kind {
	case auth.SessionShell:
		name := o.loginShell()
		return program{name, []string{"-" + base(name)}}
	case auth.SessionCopy:
		grant := talk.Grant{Put: o.Session.Put, Deep: o.Session.Deep, Paths: o.Session.Paths}
		return program{o.Copy[0], slices.Concat(o.Copy, grant.Words())}
	case auth.SessionExec, auth.SessionForward:
	}
	if len(o.Session.Argv) == 1 {
		return program{shell, []string{shell, "-c", o.Session.Argv[0]}}
	}
	return program{o.Session.Argv[0], o.Session.Argv}
}

// loginShell is the account's; one that has none in /etc/passwd has /bin/sh.
func (o order) loginShell() string {
	if o.Account.Shell == "" {
		return shell
	}
	return o.Account.Shell
}

// base is the last element of a path; filepath.Base makes "." of what has none.
func base(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}

// environment is what the program starts with. Who it is for cannot be overridden by who asks.
func (o order) environment() []string {
	extra := slices.Clone(o.Session.Env)
	for _, t := range o.Session.Terminal {
		if t.Name != "" {
			extra = append(extra, "TERM="+t.Name)
		}
	}
	return o.Account.Environment(append(extra, MarkVar+"="+o.Session.ID.String(), "MUSTER_OPERATOR="+o.Session.Operator)...)
}

func (o order) terminal() bool { return len(o.Session.Terminal) > 0 }
