package host

import (
	"context"
	"net"

	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/api"
)

// desk lets the local API ask the agent.
type desk struct{ *agent.Agent }

func (d desk) Nodes(ctx context.Context) []api.Node {
	roster := d.Record().Roster
	var out []api.Node
	for _, m := range d.Agent.Nodes(ctx) {
		n := api.Node{Member: m}
		if entry, ok := roster.Node(m.ID); ok {
			n.Seq = entry.Seq
		}
		out = append(out, n)
	}
	return out
}

// Answer serves the local API on l until ctx ends.
func (h *Host) Answer(ctx context.Context, l net.Listener) error {
	return api.Serve(ctx, l, desk{h.Agent}, api.Options{Version: h.opts.Version, Log: h.opts.Log})
}
