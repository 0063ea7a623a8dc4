package main

import (
	"context"

	"github.com/muster-fleet/muster/node/api"
)

// visit is one node with the operator's end to it.
type visit struct {
	*sessionEnd
	at api.Node
}

// visit finds a node and makes the operator's end to it. Close it. Nothing was sent to the node yet.
func (a *app) visit(ctx context.Context, text string) (*visit, error) {
	p, err := a.takePen(ctx)
	if err != nil {
		return nil, err
	}
	n, err := p.client.Node(ctx, text)
	if err != nil {
		return nil, err
	}
	end, err := newSessionEnd(ctx, p, n)
	if err != nil {
		return nil, err
	}
	return &visit{end, n}, nil
}
