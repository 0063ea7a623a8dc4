package api

import (
	"bufio"
	"context"
	"net/http"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// ReadParams asks about parameters. With a signed node.Read of node.ReadParams it asks for that operator, else for the
// account that this process runs as: root and the agent's own are the node.
func (c *Client) ReadParams(ctx context.Context, ask ParamsAsk) (ParamsRead, error) {
	var out shape.ParamsRead
	if err := c.post(ctx, "/v1/params/read", shape.OfParamsAsk(ask), &out); err != nil {
		return ParamsRead{}, err
	}
	return out.Read()
}

// WatchParams calls each with what happens to parameters, in order, until ctx ends, each fails or the agent hangs up, which
// is an Unavailable error unless the agent gives another. The first call comes at once and says where the watch begins; to go
// on after the last one, give its At as the next watch's After.
func (c *Client) WatchParams(ctx context.Context, watch ParamsWatch, each func(ParamsNews) error) error {
	resp, err := c.send(ctx, http.MethodPost, "/v1/params/watch", shape.OfParamsWatch(watch))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var line struct {
			shape.ParamsNews
			Error *shape.Error `json:"error"`
		}
		if err := shape.Unmarshal(lines.Bytes(), &line); err != nil {
			return fleet.Errorf(fleet.Internal, "the agent's news cannot be read: %w", err)
		}
		if line.Error != nil {
			return line.Error.Err()
		}
		if err := each(line.ParamsNews.News()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := lines.Err(); err != nil {
		return fleet.Errorf(fleet.Unavailable, "the agent's news broke off: %w", err)
	}
	return fleet.Errorf(fleet.Unavailable, "the agent ended its news")
}
