package api

import (
	"context"
	"net/url"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// Node returns the one node that text means, a name, an ID or the beginning of one, with its addresses, the best first, and
// without its facts. It costs the same in a fleet of any size.
func (c *Client) Node(ctx context.Context, text string) (Node, error) {
	record, ok, err := c.record(ctx)
	if err != nil {
		return Node{}, err
	}
	if !ok {
		return c.node(ctx, text)
	}
	entry, err := findProven(record, text)
	if err != nil {
		return Node{}, err
	}
	said, err := c.node(ctx, entry.ID.Text())
	if err == nil && said.ID != entry.ID {
		err = fleet.Errorf(fleet.Denied, "the agent was asked for %s and answers with another node", entry.Name)
	}
	return provenNode(entry, said.Member), err
}

func (c *Client) node(ctx context.Context, text string) (Node, error) {
	var out shape.Node
	if err := c.get(ctx, "/v1/nodes/"+url.PathEscape(text), &out); err != nil {
		return Node{}, err
	}
	m, err := out.Member()
	return Node{m, out.Sequence}, err
}

// Sessions lists the sessions on this host, the newest first.
func (c *Client) Sessions(ctx context.Context) ([]shape.Session, error) {
	var out []shape.Session
	err := c.get(ctx, "/v1/sessions", &out)
	return out, err
}
