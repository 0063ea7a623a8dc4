package agent

import (
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// idles reports whether this host does nothing any more, and has the core told so of an order that would start.
func (a *Agent) idles(e node.StartRun) bool {
	if a.cfg.Idle == "" {
		return false
	}
	a.Post(node.RunNotStarted{Command: e.Command.Header.ID, As: exec.Refused, Why: a.cfg.Idle})
	return true
}

// idleRefusal is why no session opens here, or nil.
func (a *Agent) idleRefusal() error {
	if a.cfg.Idle == "" {
		return nil
	}
	return fleet.Errorf(fleet.Denied, "%s opens nothing: %s", a.cfg.Name, a.cfg.Idle)
}
