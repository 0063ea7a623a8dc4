package consensus

import (
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

func (s *State) pacedCommand(id fleet.UUID) (*Command, error) {
	c, ok := s.Command(id)
	switch {
	case !ok:
		return nil, fleet.Errorf(fleet.NotFound, "no command %s", id)
	case !c.Body.Pace.Limited:
		return nil, fleet.Errorf(fleet.Invalid, "command %s has no limits", id)
	}
	return c, nil
}

// putGrants gives nodes their turn. Nobody signed it: the bounds that the operator signed are kept here, whoever proposes.
func (s *State) putGrants(e PutGrants) error {
	c, err := s.pacedCommand(e.Command)
	if err != nil {
		return err
	}
	if c.expired(s.Time) {
		return fleet.Errorf(fleet.Expired, "command %s expired at %s", e.Command, time.UnixMilli(c.Body.Header.Expires).UTC().Format(time.RFC3339))
	}
	next, err := c.Rollout.Grant(c.Body.Pace, e.Nodes)
	if err != nil {
		return err
	}
	s.advance(c, next)
	return nil
}

// putEndings notes ends. Several servers tell the same: what says nothing new is refused, so that it fills no log.
func (s *State) putEndings(e PutEndings) error {
	c, err := s.pacedCommand(e.Command)
	if err != nil {
		return err
	}
	next := c.Rollout.End(c.Body.Pace, e.Ends)
	if next.Equal(c.Rollout) {
		return fleet.Errorf(fleet.Conflict, "the endings of command %s say nothing new", e.Command)
	}
	s.follow(s.advance(c, next))
	return nil
}

// advance keeps a command with a newer rollout, at its act index: nodes have nothing to catch up on.
func (s *State) advance(c *Command, r exec.Rollout) *Command {
	if r.Equal(c.Rollout) {
		return c
	}
	next := *c
	next.Rollout = r
	s.keep(&next)
	return &next
}

// follow draws the consequences of a changed rollout for the commands that it is linked with.
func (s *State) follow(c *Command) {
	if !c.Body.After.IsZero() {
		main, ok := s.Command(c.Body.After.Command)
		if !ok {
			return // its command is still to come, or was forgotten
		}
		c = main
	}
	p := c.Body.Pace
	if len(p.Gates) == 0 && p.OnStop.IsZero() {
		return
	}
	gates, gateCommands := s.rollouts(p.Gates)
	var onStop []exec.Rollout
	var onStopCommands []*Command
	if !p.OnStop.IsZero() {
		onStop, onStopCommands = s.rollouts([]fleet.UUID{p.OnStop})
	}
	main, gates, onStop := exec.Follow(p, c.Rollout, gates, onStop)
	s.advance(c, main)
	s.advanceAll(gateCommands, gates)
	s.advanceAll(onStopCommands, onStop)
}

// rollouts returns the rollouts of commands; one that was forgotten has none.
func (s *State) rollouts(ids []fleet.UUID) (out []exec.Rollout, commands []*Command) {
	for _, id := range ids {
		var r exec.Rollout
		c, ok := s.Command(id)
		if ok {
			r = c.Rollout
		}
		out, commands = append(out, r), append(commands, c)
	}
	return out, commands
}

func (s *State) advanceAll(commands []*Command, rollouts []exec.Rollout) {
	for i, c := range commands {
		if c != nil {
			s.advance(c, rollouts[i])
		}
	}
}
