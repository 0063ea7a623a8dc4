package api

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// OwnRecord is the fleet's record as the asker has verified it, from the fleet's ID on.
type OwnRecord interface {
	// Newest returns it, with all that the agent's had when this was called.
	Newest(ctx context.Context) (auth.Record, error)
}

// Verified returns a client that asks the same agent, and believes it nothing that the record says: who is in the fleet under
// which name, with which tags and keys, who its operators are, its policy, groups, settings and keyrings. Of parameters and of
// nodes' reports it verifies the signatures. What is left to the agent's word is who is up and where, what nodes say of
// themselves, and whatever it keeps back.
func (c *Client) Verified(own OwnRecord) *Client {
	return &Client{way: c.way, http: c.http, own: own}
}

// record returns the asker's own record; ok is false where the agent's word counts.
func (c *Client) record(ctx context.Context) (record auth.Record, ok bool, err error) {
	if c.own == nil {
		return auth.Record{}, false, nil
	}
	record, err = c.own.Newest(ctx)
	if err == nil && record.Charter == nil {
		err = fleet.Errorf(fleet.Unavailable, "the agent has no record of the fleet yet")
	}
	return record, true, err
}

// provenStatus puts in what the record says of the fleet: what is signed next names it.
func provenStatus(record auth.Record, s node.Status) node.Status {
	if c := record.Charter; c != nil {
		s.Fleet, s.FleetName, s.CharterHead, s.CharterLen = c.Fleet(), c.Name(), c.Head(), c.Len()
		s.Act, s.RecordLen = record.Act, record.Length
	}
	return s
}

// provenNodes returns the nodes of a record, by name, with what an agent says of where and how they are. One that it does not
// name is lost.
func provenNodes(record auth.Record, said []Node) []Node {
	known := make(map[fleet.ID]fleet.Member, len(said))
	for _, n := range said {
		known[n.ID] = n.Member
	}
	out := make([]Node, 0, record.Roster.Len())
	for entry := range record.Roster.All() {
		m, ok := known[entry.ID]
		if !ok {
			m.Status = fleet.ConnectionLost
		}
		out = append(out, provenNode(entry, m))
	}
	return out
}

// provenNode puts what was signed about a node in the place of what an agent says.
func provenNode(entry *auth.Node, said fleet.Member) Node {
	said.ID, said.Name, said.Tags, said.Server = entry.ID, entry.Name, entry.Tags, entry.Server
	return Node{said, entry.Seq}
}

// findProven returns the one node of a record that text means.
func findProven(record auth.Record, text string) (*auth.Node, error) {
	var members []fleet.Member
	for entry := range record.Roster.All() {
		members = append(members, provenNode(entry, fleet.Member{}).Member)
	}
	m, err := fleet.NewView(members).Find(text)
	if err != nil {
		return nil, err
	}
	return record.Roster.Enrolled(m.ID)
}

// provenKeyrings returns the keyrings of a record, with what an agent says of who is up and who holds which keys.
func provenKeyrings(record auth.Record, name string, said node.KeyringList, now time.Time) node.KeyringList {
	up, holds := map[fleet.ID]bool{}, map[fleet.ID]node.SeedsHeld{}
	for _, k := range said.All {
		for _, m := range k.Members {
			up[m.ID] = m.Alive
			if !m.Said {
				continue
			}
			if holds[m.ID] == nil {
				holds[m.ID] = node.SeedsHeld{}
			}
			holds[m.ID][k.Life] = m.Holds
		}
	}
	return node.ListKeyrings(record, name, func(id fleet.ID) bool { return up[id] }, holds, now)
}

// provenHPKE reports why a key is not the one that a node enrolled with, or nil.
func provenHPKE(record auth.Record, id fleet.ID, key []byte) error {
	entry, err := record.Roster.Enrolled(id)
	if err != nil {
		return err
	}
	if fleet.Sum(key) == entry.HPKE {
		return nil
	}
	return fleet.Errorf(fleet.Denied, "the agent gives another key for %s than the node enrolled with", entry.Name).
		Hinted("do not hand anything over by that agent")
}

// provenParams reports why an answer about parameters does not prove itself, or nil.
func provenParams(record auth.Record, ask params.Ask, answer params.Answer, now time.Time) error {
	verify := func(item params.Item) (params.Put, error) { return params.Verify(item, record.Charter) }
	noFloors := func(string) (params.Floor, bool) { return params.Floor{}, false }
	_, err := node.TakeParams(now.UnixMilli(), verify, ask, answer, noFloors)
	return err
}

// provenReport reports why a report is not that of a node about a command, or nil.
func provenReport(record auth.Record, id fleet.ID, command fleet.UUID, signed auth.Envelope) error {
	r, err := exec.OpenReport(record, signed)
	if err == nil && (r.Node != id || r.Command != command) {
		err = fleet.Errorf(fleet.Denied, "the agent answers with a report of something else")
	}
	return err
}
