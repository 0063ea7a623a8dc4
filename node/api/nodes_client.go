package api

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Policy returns the text of the policy that the host judges by; "" before it has one.
func (c *Client) Policy(ctx context.Context) (string, error) {
	if record, ok, err := c.record(ctx); ok || err != nil {
		if err != nil {
			return "", err
		}
		return record.Charter.Policy().Text(), nil
	}
	var out shape.Policy
	err := c.get(ctx, "/v1/policy", &out)
	return out.Text, err
}

// Groups lists the saved groups by name.
func (c *Client) Groups(ctx context.Context) ([]auth.Group, error) {
	if record, ok, err := c.record(ctx); ok || err != nil {
		return record.Groups.All(), err
	}
	var out []shape.Group
	err := c.get(ctx, "/v1/groups", &out)
	return shape.Groups(out), err
}

// Settings lists the fleet's settings that are not at their default, by name.
func (c *Client) Settings(ctx context.Context) ([]auth.Setting, error) {
	if record, ok, err := c.record(ctx); ok || err != nil {
		return record.Settings.All(), err
	}
	var out []shape.Setting
	err := c.get(ctx, "/v1/settings", &out)
	return shape.Settings(out), err
}

// Usage says what the parts of the data folder take of the host's disk.
func (c *Client) Usage(ctx context.Context) ([]Store, error) {
	var out []shape.Store
	if err := c.get(ctx, "/v1/usage", &out); err != nil {
		return nil, err
	}
	stores := make([]Store, 0, len(out))
	for _, s := range out {
		stores = append(stores, Store(s))
	}
	return stores, nil
}

// Decisions asks a node what it decided about a command, oldest first.
func (c *Client) Decisions(ctx context.Context, node fleet.ID, signed auth.Envelope) ([]exec.Decision, error) {
	var out []shape.Decision
	if err := c.post(ctx, "/v1/why/"+node.Text(), shape.Statement{Statement: wire.Marshal(signed)}, &out); err != nil {
		return nil, err
	}
	return shape.Decisions(out), nil
}

// Direct gives an order to the fleet without the quorum.
func (c *Client) Direct(ctx context.Context, order exec.Order) error {
	return c.post(ctx, "/v1/direct", shape.Order{Order: order.Encode()}, &struct{}{})
}

// NodeReport asks a node for its own newest report of a command. The agent has verified it.
func (c *Client) NodeReport(ctx context.Context, id fleet.ID, signed auth.Envelope) (auth.Envelope, error) {
	var out shape.Statement
	var report auth.Envelope
	if err := c.post(ctx, "/v1/report/"+id.Text(), shape.Statement{Statement: wire.Marshal(signed)}, &out); err != nil {
		return report, err
	}
	if err := wire.Unmarshal(out.Statement, &report); err != nil {
		return report, err
	}
	record, ok, err := c.record(ctx)
	if !ok || err != nil {
		return report, err
	}
	read, err := auth.Peek[node.Read](signed)
	if err == nil {
		err = provenReport(record, id, read.Arg, report)
	}
	return report, err
}

// Output brings a run's output from the node that keeps it: a head, pieces in order, and a head as of the end. Pieces are
// good until each returns.
func (c *Client) Output(ctx context.Context, node fleet.ID, signed auth.Envelope, ask exec.OutputAsk, each func(exec.OutputPiece) error) error {
	resp, err := c.send(ctx, http.MethodPost, "/v1/output/"+node.Text(), shape.OfOutputAsk(wire.Marshal(signed), ask))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	head, err := outputHead(resp.Header.Get(headHeader))
	if err == nil {
		err = each(exec.OutputPiece{Head: &head})
	}
	if err != nil {
		return err
	}
	buffer := make([]byte, exec.MaxOutputPiece)
	for {
		n, err := resp.Body.Read(buffer)
		if n > 0 {
			if err := each(exec.OutputPiece{Data: buffer[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fleet.Errorf(fleet.Unavailable, "the output broke off: %w", err)
		}
	}
	return outputEnd(resp.Trailer, each)
}

// outputEnd tells how an output ended.
func outputEnd(trailer http.Header, each func(exec.OutputPiece) error) error {
	if text := trailer.Get(errTrailer); text != "" {
		var failure shape.Error
		if err := shape.Unmarshal([]byte(text), &failure); err != nil {
			return fleet.Errorf(fleet.Internal, "the agent's answer cannot be read: %w", err)
		}
		return failure.Err()
	}
	last, err := outputHead(trailer.Get(endTrailer))
	if err != nil {
		return err
	}
	return each(exec.OutputPiece{Head: &last})
}

func outputHead(text string) (exec.OutputHead, error) {
	var out shape.OutputHead
	if text == "" {
		return exec.OutputHead{}, fleet.Errorf(fleet.Unavailable, "the output broke off")
	}
	if err := shape.Unmarshal([]byte(text), &out); err != nil {
		return exec.OutputHead{}, fleet.Errorf(fleet.Internal, "the agent's answer cannot be read: %w", err)
	}
	return out.Head(), nil
}
