package action

import (
	"context"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
	"github.com/muster-fleet/muster/node/upgrade"
)

// Agent is the agent of this host, by its socket.
type Agent interface {
	upgrade.Agent
	// Level returns the level that the agent's fleet is at.
	Level(ctx context.Context) (fleet.Level, error)
	// Releases lists the releases that lie on the host and that the fleet takes.
	Releases(ctx context.Context) ([]release.Release, error)
	// FetchRelease has the agent bring a release to this host, from sources or whoever else has it, and tells how far it is.
	FetchRelease(ctx context.Context, digest fleet.ID, sources []fleet.ID, each func(release.Progress)) (release.Fetched, error)
}

// Ways is how acts reach those who have them done.
type Ways struct {
	// Agent returns the agent at a socket. Where it is nil, acts that need the agent fail.
	Agent func(socket string) Agent
	// LetGo has the supervisor of a run let go of what the act leaves behind. dataDir is the agent's. nil: there is no supervisor.
	LetGo func(dataDir string, command fleet.UUID) error
}

// Options before the name of an act: they say which agent has it done.
const (
	socketOption  = "--socket="
	dataDirOption = "--data-dir="
)

// Argv returns the words that make this binary perform acts for the agent at a socket, with its data folder. The act's name
// follows them. self is the words that lead to Main.
func Argv(self []string, socket, dataDir string) []string {
	return append(self[:len(self):len(self)], socketOption+socket, dataDirOption+dataDir)
}

// cutOptions takes the options off the arguments.
func (h *host) cutOptions(args []string) []string {
	for len(args) > 1 {
		if socket, ok := strings.CutPrefix(args[0], socketOption); ok {
			h.socket = socket
		} else if dir, ok := strings.CutPrefix(args[0], dataDirOption); ok {
			h.dataDir = dir
		} else {
			break
		}
		args = args[1:]
	}
	return args
}

// theAgent returns the agent that has this act done.
func (h host) theAgent() (Agent, error) {
	if h.ways.Agent == nil || h.socket == "" || h.dataDir == "" {
		return nil, fleet.Errorf(fleet.Unavailable, "this act was not started by an agent, and needs one")
	}
	return h.ways.Agent(h.socket), nil
}
