package main

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// signedCommands reads commands as their operators signed them, for a person who signs the like again: neither the host that
// answers nor a server can have put other words, another account or other nodes into them.
type signedCommands struct {
	pen    *pen
	record auth.Record // as this person has verified it
}

func (a *app) signedCommands(ctx context.Context, p *pen) (signedCommands, error) {
	record, err := a.verifiedRecord(ctx, p.client)
	return signedCommands{p, record}, err
}

func (c signedCommands) read(ctx context.Context, id fleet.UUID) (node.CommandInfo, error) {
	info, err := c.pen.command(ctx, id)
	if err != nil {
		return info, err
	}
	return openSigned(c.record, info, id)
}

// openSigned returns a command with what its operator signed in the place of what the answer says.
func openSigned(record auth.Record, info node.CommandInfo, id fleet.UUID) (node.CommandInfo, error) {
	if len(info.Statement) != 1 {
		return info, fleet.Errorf(fleet.Unavailable, "command %s came without its operator's signature: this host or its servers are of an older version", id).
			Hinted("update them, or give the command anew: muster run")
	}
	e := info.Statement[0]
	claimed, err := auth.Peek[exec.Command](e)
	if err != nil {
		return info, err
	}
	op, err := record.Charter.Standing(e.Key, claimed.Header.Issued)
	if err != nil {
		return info, err
	}
	body, err := auth.Open[exec.Command](e, auth.ForCommand, record.Charter.Fleet(), op.Key)
	switch {
	case err != nil:
		return info, err
	case body.Header.ID != id:
		return info, fleet.Errorf(fleet.Denied, "command %s was asked for, and the answer is command %s", id, body.Header.ID)
	case len(info.Nodes) != int(body.Count) || exec.SetDigest(info.Nodes) != body.Set:
		return info, fleet.Errorf(fleet.Denied, "command %s was not for the nodes that the answer names", id)
	}
	info.Body, info.Operator = body, op.Name
	return info, nil
}

// believe takes into a sight what was signed, instead of what was told. How far it has come only servers know.
func (s *sight) believe(signed node.CommandInfo) {
	if s.info != nil && fresher(signed, *s.info) {
		signed.Rollout = s.info.Rollout
	}
	s.info, s.nodes, s.expires = &signed, signed.Nodes, time.UnixMilli(signed.Body.Header.Expires)
}
