package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"io"
	"os"
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
// verified here: no server can change it, nor the recording, whose digest it has. That the key is a node's of the fleet, and how it
// is called, says the fleet's record, as this person has verified it.
type copyFound struct {
	node    shape.Named
	note    node.RecordingNote
	holders []api.Node // by name
}

func (c copyFound) row() sessionRow {
	row := sessionRow{Node: c.node, Session: shape.OfSession(c.note.Session), Copied: true}
	for _, n := range c.holders {
		row.Copies = append(row.Copies, n.ID)
	}
	return row
}

// copies asks the servers which recordings they keep: of one session, or of all (the zero ID). What some server does not answer, or
// answers wrongly, another may have.
func (a *app) copies(ctx context.Context, p *pen, session fleet.UUID) ([]copyFound, error) {
	roll, err := callRoll(ctx, p.client)
	if err != nil {
		return nil, err
	}
	record, err := a.verifiedRecord(ctx, p.client)
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
			found.take(p.who.Fleet, record.Roster, n, answer)
		})
	}
	all.Wait()
	return found.sorted(), nil
}

// verifiedRecord is the fleet's record as it was verified here, with all that the agent's has.
func (a *app) verifiedRecord(ctx context.Context, c *api.Client) (auth.Record, error) {
	if v := a.viaHost(); v != nil {
		return v.Newest(ctx)
	}
	return a.newOwnRecord(c).Newest(ctx)
}

// copiesFound is what servers say that they keep, by the node's key and the session.
type copiesFound map[fleet.ID]map[fleet.UUID]*copyFound

// take adds what a server says, as far as the sessions' nodes signed it. They may have been removed since; whoever never was one
// is nobody.
func (f copiesFound) take(fleetID fleet.ID, roster auth.Roster, from api.Node, answer node.SessionCopies) {
	for _, c := range answer.Copies {
		note, err := node.OpenSessionCopy(c, fleetID)
		entry, known := roster.Node(note.Node)
		if err != nil || !known {
			continue
		}
		if f[note.Node] == nil {
			f[note.Node] = map[fleet.UUID]*copyFound{}
		}
		have := f[note.Node][note.Session.ID]
		switch {
		case have == nil:
			f[note.Node][note.Session.ID] = &copyFound{shape.Named{ID: entry.ID, Name: entry.Name}, note, []api.Node{from}}
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
func (a *app) findCopy(ctx context.Context, p *pen, name, text string) (*sessionFound, error) {
	id, err := fleet.ParseUUID(text)
	if err != nil {
		id = fleet.UUID{} // the beginning of one: all are asked for
	}
	all, err := a.copies(ctx, p, id)
	if err != nil {
		return nil, err
	}
	c, err := chooseCopy(all, name, text)
	if err != nil {
		return nil, err
	}
	end, err := newSessionEnd(ctx, p, c.holders...)
	if err != nil {
		return nil, err
	}
	return &sessionFound{visit: &visit{end, c.holders[0]}, row: c.row(), copy: &c}, nil
}

// chooseCopy finds the one recording that is meant: text is the session's ID, or the beginning of it.
func chooseCopy(all []copyFound, name, text string) (copyFound, error) {
	all = slices.DeleteFunc(all, func(c copyFound) bool { return name != "" && name != c.node.Name && name != c.node.ID.Text() })
	var ids []fleet.UUID
	for _, c := range all {
		ids = append(ids, c.note.Session.ID)
	}
	id, err := findUUID("session", text, ids)
	if err != nil {
		return copyFound{}, err
	}
	all = slices.DeleteFunc(all, func(c copyFound) bool { return c.note.Session.ID != id })
	var on []shape.Named
	for _, c := range all {
		on = append(on, c.node)
	}
	if err := onOneNode(id, on); err != nil {
		return copyFound{}, err
	}
	return all[0], nil
}

// onOneNode reports why nobody can tell which session is meant, or nil. Any node can say that a session of another was its own.
func onOneNode(id fleet.UUID, nodes []shape.Named) error {
	switch len(nodes) {
	case 0:
		return fleet.Errorf(fleet.NotFound, "no session %s", id).Hinted("a session that is older than the list: --node NODE and the ID in full")
	case 1:
		return nil
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name+" ("+n.ID.Text()+")")
	}
	return fleet.Errorf(fleet.Conflict, "more than one node says that it had session %s: %s", id, strings.Join(names, ", ")).
		Hinted("--node with the ID of the one that you mean")
}

// fromCopy brings a recording from the first server that gives what the session's node signed. Nothing of it is shown before that
// is certain.
func (s *sessionFound) fromCopy(ctx context.Context, a *app) (io.ReadCloser, error) {
	from, at, err := bringCopy(s.copy.holders, s.copy.note.Session.Recording, func(n api.Node) (io.ReadCloser, error) {
		_, from, err := s.askCopies(ctx, n, node.ReadCopy, s.row.ID, s.copy.note.Node.Text())
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { from.Close() })
		return from, nil
	}, func(n api.Node, err error) {
		if ctx.Err() == nil {
			a.say("%s: %s", n.Name, err)
		}
	})
	if err == nil {
		s.at = at
	}
	return from, err
}

// bringCopy tries servers in turn, and tells of each that has not what is wanted and is not the last. The file has no name, so
// that it goes when it is closed, or the process dies.
func bringCopy(holders []api.Node, want node.SessionRecording, ask func(api.Node) (io.ReadCloser, error), told func(api.Node, error)) (io.ReadCloser, api.Node, error) {
	file, err := os.CreateTemp("", "muster-*") // mode 0600
	if err != nil {
		return nil, api.Node{}, fleet.Errorf(fleet.Unavailable, "no place for a copy of the recording: %w", err).Hinted("TMPDIR")
	}
	_ = os.Remove(file.Name())
	for i, n := range holders {
		if err = fill(file, want, n, ask); err == nil {
			return file, n, nil
		}
		if i < len(holders)-1 {
			told(n, err)
		}
	}
	file.Close()
	return nil, api.Node{}, err
}

// fill brings a recording into a file, which stands at its beginning then.
func fill(file *os.File, want node.SessionRecording, at api.Node, ask func(api.Node) (io.ReadCloser, error)) error {
	from, err := ask(at)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := file.Truncate(0); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(file, sum), io.LimitReader(from, want.Bytes+1)); err != nil {
		return fleet.Errorf(fleet.Unavailable, "the copy at %s did not come to its end: %w", at.Name, err)
	}
	if fleet.ID(sum.Sum(nil)) != want.Digest {
		return fleet.Errorf(fleet.Internal, "the copy at %s is not the recording that its node signed: its digest differs", at.Name).
			Hinted("do not trust it: somebody changed it there")
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
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
