package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// copyFound is a recording of which servers have copies. What it says of the session was signed by the session's node, which was
// verified here: no server can change it, nor the recording, whose digest it has.
type copyFound struct {
	note    node.RecordingNote
	holders []api.Node // by name
}

func (c copyFound) row() sessionRow {
	row := sessionRow{Node: shape.Named{ID: c.note.Node, Name: c.note.NodeName}, Session: shape.OfSession(c.note.Session), Copied: true}
	for _, n := range c.holders {
		row.Copies = append(row.Copies, n.ID)
	}
	return row
}

// copies asks the servers which recordings they keep: of one session, or of all (the zero ID). What some server does not answer, or
// answers wrongly, another may have.
func (p *pen) copies(ctx context.Context, session fleet.UUID) ([]copyFound, error) {
	roll, err := callRoll(ctx, p.client)
	if err != nil {
		return nil, err
	}
	var servers []api.Node
	for _, n := range roll.nodes {
		if n.Server && n.Status == fleet.Online && len(n.Addrs)+len(n.Via) > 0 {
			servers = append(servers, n)
		}
	}
	if len(servers) == 0 {
		return nil, nil
	}
	end, err := newSessionEnd(ctx, p, servers...)
	if err != nil {
		return nil, err
	}
	defer end.Close()
	var mu sync.Mutex
	found := copiesFound{}
	var all sync.WaitGroup
	for _, n := range servers {
		all.Go(func() {
			answer, s, err := end.askCopies(ctx, n, node.ReadCopies, session, "")
			if err != nil {
				return
			}
			s.Close()
			mu.Lock()
			defer mu.Unlock()
			found.take(p.who.Fleet, n, answer)
		})
	}
	all.Wait()
	return found.sorted(), nil
}

// copiesFound is what servers say that they keep, by the node's key and the session.
type copiesFound map[fleet.ID]map[fleet.UUID]*copyFound

// take adds what a server says, as far as the sessions' nodes signed it.
func (f copiesFound) take(fleetID fleet.ID, from api.Node, answer node.SessionCopies) {
	for _, c := range answer.Copies {
		note, err := node.OpenSessionCopy(c, fleetID)
		if err != nil {
			continue
		}
		if f[note.Node] == nil {
			f[note.Node] = map[fleet.UUID]*copyFound{}
		}
		have := f[note.Node][note.Session.ID]
		switch {
		case have == nil:
			f[note.Node][note.Session.ID] = &copyFound{note, []api.Node{from}}
		case have.note.Session.Recording.Digest == note.Session.Recording.Digest:
			have.holders = append(have.holders, from)
		}
	}
}

func (f copiesFound) sorted() (out []copyFound) {
	for _, sessions := range f {
		for _, c := range sessions {
			slices.SortFunc(c.holders, func(a, b api.Node) int { return strings.Compare(a.Name, b.Name) })
			out = append(out, *c)
		}
	}
	slices.SortFunc(out, func(a, b copyFound) int {
		return cmp.Or(cmp.Compare(b.note.Session.Started, a.note.Session.Started), strings.Compare(a.note.Session.ID.String(), b.note.Session.ID.String()))
	})
	return out
}

// askCopies asks a server about copies. Of a recording, its bytes follow in the stream, which is the caller's to close.
func (e *sessionEnd) askCopies(ctx context.Context, at api.Node, what node.ReadWhat, session fleet.UUID, of string) (node.SessionCopies, *transport.Stream, error) {
	signed := e.pen.sign(auth.ForRequest, node.Read{Header: e.pen.header(node.ReadLife), What: what, Arg: session, Name: of, Node: at.ID})
	s, body, err := e.begin(ctx, at, node.SessionAsk, node.EncodeSession(signed))
	if err != nil {
		return node.SessionCopies{}, nil, err
	}
	answer, err := node.DecodeSession[node.SessionCopies](body)
	if err != nil {
		s.Close()
	}
	return answer, s, err
}

// mayBeCopied reports whether a session that is not to be had from its node may be had from elsewhere.
func mayBeCopied(err error) bool {
	kind := fleet.KindOf(err)
	return kind == fleet.NotFound || kind == fleet.Unavailable
}

// findCopy finds the recording of a session at the servers: of the node of that name, or of any.
func (p *pen) findCopy(ctx context.Context, name, text string) (*sessionFound, error) {
	id, err := fleet.ParseUUID(text)
	if err != nil {
		id = fleet.UUID{} // the beginning of one: all are asked for
	}
	all, err := p.copies(ctx, id)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c copyFound) bool { return name != "" && name != c.note.NodeName && name != c.note.Node.Text() })
	var ids []fleet.UUID
	for _, c := range all {
		ids = append(ids, c.note.Session.ID)
	}
	if id, err = findUUID("session", text, ids); err != nil {
		return nil, err
	}
	c := all[slices.Index(ids, id)]
	end, err := newSessionEnd(ctx, p, c.holders...)
	if err != nil {
		return nil, err
	}
	return &sessionFound{visit: &visit{end, c.holders[0]}, row: c.row(), copy: &c}, nil
}

// fromCopy brings a recording from the first server that gives it.
func (s *sessionFound) fromCopy(ctx context.Context) (from *transport.Stream, err error) {
	for _, n := range s.copy.holders {
		if _, from, err = s.askCopies(ctx, n, node.ReadCopy, s.row.ID, s.copy.note.Node.Text()); err == nil {
			s.at = n
			return from, nil
		}
	}
	return nil, err
}

// addCopies adds what servers keep of the nodes that did not answer.
func (f *sessionsFound) addCopies(all []copyFound) (added int) {
	for _, c := range all {
		if slices.ContainsFunc(f.silent, func(n silentNode) bool { return n.id == c.note.Node }) {
			f.rows = append(f.rows, c.row())
			added++
		}
	}
	f.sort()
	return added
}
