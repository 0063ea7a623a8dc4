package consensus

import (
	"slices"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func (s *State) putCommand(e PutCommand) error {
	order := exec.Order{Statement: e.Statement, Nodes: e.Nodes}
	body, op, err := order.Verify(s.Record.Charter, s.clock())
	if err != nil {
		return err
	}
	if body.Header.Mode != auth.ByQuorum {
		return fleet.Errorf(fleet.Invalid, "a command that was signed for the direct way is not ordered by the quorum").
			Hinted("run it without --direct")
	}
	if body.Header.Act > s.Record.Act { // every node would wait for it
		return fleet.Errorf(fleet.Conflict, "the command was signed at act %d, but the fleet's record ends at act %d", body.Header.Act, s.Record.Act).
			Hinted("repeat the command; if the fleet was restored from a backup, on a host that has caught up")
	}
	for _, id := range order.Nodes {
		if _, err := s.Record.Roster.Enrolled(id); err != nil {
			return err
		}
	}
	if _, ok := s.Command(body.Header.ID); ok {
		return fleet.Errorf(fleet.Conflict, "command %s is there already", body.Header.ID)
	}
	if err := s.checkDocuments(body.Documents); err != nil {
		return err
	}
	c := &Command{Order: order, Body: body, Operator: op.Name, Act: s.Act, Committed: s.Time, Rollout: exec.NewRollout(body)}
	if err := s.checkLinks(c); err != nil {
		return err
	}
	if err := s.makeRoom(); err != nil {
		return err
	}
	s.keep(c)
	return nil
}

// keep puts a command at its act index, in the place of what it was before.
func (s *State) keep(c *Command) {
	id := c.ID()
	if old, ok := s.byID.Get(id[:]); ok && old != c.Act {
		s.commands, _, _ = s.commands.Delete(key64(old))
	}
	s.commands, _, _ = s.commands.Insert(key64(c.Act), c)
	s.byID, _, _ = s.byID.Insert(id[:], c.Act)
	if c.Body.Pace.Limited {
		s.paced, _, _ = s.paced.Insert(id[:], id)
	}
}

func (s *State) forget(c *Command) {
	id := c.ID()
	s.commands, _, _ = s.commands.Delete(key64(c.Act))
	s.byID, _, _ = s.byID.Delete(id[:])
	s.paced, _, _ = s.paced.Delete(id[:])
}

// checkLinks reports why a command cannot be linked as it says, or nil. Gates and what is run on a stop come first, so
// that there is no moment at which a rollout could go past a gate that is not there.
func (s *State) checkLinks(c *Command) error {
	if !c.Body.After.IsZero() {
		if _, ok := s.Command(c.Body.After.Command); ok {
			return fleet.Errorf(fleet.Conflict, "command %s is there already, and goes without this one", c.Body.After.Command).
				Hinted("gates, and what is run on a stop, come before their command")
		}
	}
	for i, id := range c.Body.Pace.Gates {
		if err := s.checkFollower(c, id, uint32(i)+1); err != nil {
			return err
		}
	}
	if on := c.Body.Pace.OnStop; !on.IsZero() {
		return s.checkFollower(c, on, 0)
	}
	return nil
}

// checkFollower wants a command that stands, waits for just this one, is for the same set, and by the same operator:
// whoever learned the ID could have put another in its place.
func (s *State) checkFollower(c *Command, id fleet.UUID, wave uint32) error {
	f, ok := s.Command(id)
	switch {
	case !ok:
		return fleet.Errorf(fleet.NotFound, "the command names %s, which is not there", id).Hinted("gates, and what is run on a stop, come before their command")
	case f.Body.After != exec.After{Command: c.ID(), Wave: wave}:
		return fleet.Errorf(fleet.Invalid, "command %s does not wait for this one", id)
	case f.Body.Set != c.Body.Set || f.Body.Count != c.Body.Count:
		return fleet.Errorf(fleet.Invalid, "command %s is for another set of nodes", id)
	case f.Order.Statement.Key != c.Order.Statement.Key:
		return fleet.Errorf(fleet.Denied, "command %s was signed by another operator", id)
	case f.Cancel != nil:
		return fleet.Errorf(fleet.Conflict, "command %s was cancelled", id)
	}
	return nil
}

// makeRoom forgets commands that are over and old, and, at the bound, the oldest that is over.
func (s *State) makeRoom() error {
	var gone []*Command
	keep := s.Record.Settings.RecordsKeep()
	full := s.commands.Len() >= MaxCommands
	s.commands.Root().Walk(func(_ []byte, c *Command) bool {
		old := c.Committed+keep.Milliseconds() < s.Time
		if c.over(s.Time) && (old || full && len(gone) == 0) {
			gone = append(gone, c)
		}
		return !old && (!full || len(gone) > 0)
	})
	if full && len(gone) == 0 {
		return fleet.Errorf(fleet.Exhausted, "%d commands are kept, and all of them may still run", MaxCommands).
			Hinted("muster command list; shorter --expires and --timeout")
	}
	for _, c := range gone {
		s.forget(c)
	}
	return nil
}

func (s *State) putCancel(e PutCancel) error {
	body, op, err := auth.OpenOrder(s.Record.Charter, e.Statement, auth.ForCancel, s.clock(), func(c exec.Cancel) auth.Header { return c.Header })
	if err == nil {
		err = body.Check()
	}
	if err != nil {
		return err
	}
	c, ok := s.Command(body.Command)
	if !ok {
		return fleet.Errorf(fleet.NotFound, "no command %s", body.Command).Hinted("muster command list")
	}
	if c.covered(body) {
		return nil // cancelled is cancelled
	}
	if err := s.mayCancel(op, c, body); err != nil {
		return err
	}
	// It moves behind everything that nodes have caught up on, so that they learn of it by the same cursor.
	cancelled := *c
	cancelled.Act = s.Act
	if len(body.Nodes) == 0 {
		cancelled.Cancel, cancelled.Cancelled = &e.Statement, s.Time
		cancelled.Rollout = c.Rollout.Stop(exec.StoppedByCancel)
	} else {
		cancelled.Cancels = append(slices.Clip(c.Cancels), e.Statement)
		cancelled.cancelled = append(slices.Clip(c.cancelled), body.Nodes)
		cancelled.Rollout = c.Rollout.Withdraw(c.Body.Pace, c.places(body.Nodes))
	}
	s.keep(&cancelled)
	s.follow(&cancelled)
	return nil
}

// covered reports whether everything that a cancel is for was cancelled before.
func (c *Command) covered(cancel exec.Cancel) bool {
	if len(cancel.Nodes) == 0 {
		return c.Cancel != nil
	}
	return !slices.ContainsFunc(cancel.Nodes, func(id fleet.ID) bool {
		_, ok := c.CancelFor(id)
		return !ok
	})
}

// places returns where nodes stand in the frozen set.
func (c *Command) places(nodes []fleet.ID) []uint32 {
	var out []uint32
	for _, id := range nodes {
		if i, ok := slices.BinarySearchFunc(c.Order.Nodes, id, fleet.ID.Compare); ok {
			out = append(out, uint32(i))
		}
	}
	return out
}

// mayCancel asks policy about every node that a cancel is for. The first cancel stands for all: one that some node would
// not obey must not take the place of one that it would.
func (s *State) mayCancel(op auth.Operator, c *Command, cancel exec.Cancel) error {
	nodes := c.Order.Nodes
	if len(cancel.Nodes) > 0 {
		nodes = cancel.Nodes
		if len(c.Cancels) >= MaxNodeCancels {
			return fleet.Errorf(fleet.Exhausted, "command %s was cancelled on single nodes %d times, the limit", c.ID(), MaxNodeCancels).
				Hinted("name several nodes at once, or cancel all of it: muster command cancel %s", c.ID())
		}
	}
	for _, id := range nodes {
		if !c.Order.Has(id) {
			return fleet.Errorf(fleet.NotFound, "command %s is not for node %s", c.ID(), id).Hinted("muster command show %s", c.ID())
		}
		n, err := s.Record.Roster.Enrolled(id)
		if err != nil {
			continue // removed since: nothing is left to cancel there
		}
		if err := exec.MayCancel(s.Record.Charter, op, n.Name, n.Tags); err != nil {
			return err
		}
	}
	return nil
}

// expired reports whether no node may start the command any more, by the fleet's time.
func (c *Command) expired(now int64) bool {
	return c.Body.Header.Expires+auth.MaxSkew.Milliseconds() <= now
}
