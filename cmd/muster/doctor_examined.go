package main

import (
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
)

// examined is all that the doctor knows of a host. What it says is a function of this value alone.
type examined struct {
	agent   *shape.Checkup // nil: no agent answers
	silent  error          // why; nil where one does
	founded bool           // the data folder is a host of some fleet's
	dir     string         // the data folder
	host    shape.HostCheck
	status  *node.Status // nil: as agent
	levels  node.LevelStatus
	stores  []api.Store
	ways    []shape.WayCheck // where no agent answers: what this process tried itself
	service serviceCheck
	config  []string // what is wrong with the configuration
	now     time.Time
}

// serviceCheck is what the service manager says of the agent. The zero value: nobody was asked.
type serviceCheck struct {
	manager   string // systemd or openrc; "": there is none, or this is not the host
	installed bool
	enabled   bool
	active    string // "active", "failed", "inactive", "activating", …
	result    string // how it ended last: "exit-code", "watchdog", "oom-kill", …
	restarts  int    // since it was started by hand or at boot
	last      string // the last lines that it logged, where it is not active
}

// The levels of a finding, the best first.
const (
	levelOK      = "ok"
	levelNote    = "note"
	levelWarning = "warning"
	levelProblem = "problem"
)

func fine(check, what string) shape.Finding {
	return shape.Finding{Check: check, Level: levelOK, What: what}
}

func ill(check, level, what, evidence, mend string) shape.Finding {
	return shape.Finding{Check: check, Level: level, What: what, Evidence: evidence, Mend: mend}
}

// diagnose says what is well and what is not, in the order in which one would look: first what everything else hangs on.
func diagnose(e examined) []shape.Finding {
	var out []shape.Finding
	for _, look := range []func(examined) []shape.Finding{
		agentFindings, serviceFindings, configFindings, diskFindings, fileFindings, memoryFindings, clockFindings,
		wayFindings, mtuFindings, uplinkFindings, bufferFindings, socketFindings,
		quorumFindings, keyFindings, operatorFindings, versionFindings, upgradeFindings, budgetFindings, coreFindings, statusFindings,
	} {
		out = append(out, look(e)...)
	}
	return out
}

// healthy reports whether none of the findings is a problem.
func healthy(all []shape.Finding) bool {
	for _, f := range all {
		if f.Level == levelProblem {
			return false
		}
	}
	return true
}
