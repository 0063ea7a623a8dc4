package api

import (
	"context"
	"time"

	"github.com/muster-fleet/muster/node/api/shape"
)

// ReadParams asks about parameters. With a signed node.Read of node.ReadParams it asks for that operator, else for the
// account that this process runs as: root and the agent's own are the node.
func (c *Client) ReadParams(ctx context.Context, ask ParamsAsk) (ParamsRead, error) {
	var out shape.ParamsRead
	if err := c.post(ctx, "/v1/params/read", shape.OfParamsAsk(ask), &out); err != nil {
		return ParamsRead{}, err
	}
	read, err := out.Read()
	if err != nil {
		return read, err
	}
	if record, ok, err := c.record(ctx); err != nil {
		return ParamsRead{}, err
	} else if ok {
		err = provenParams(record, ask.Ask, read.Answer, time.Now())
		return read, err
	}
	return read, nil
}

// WatchParams calls each with what happens to parameters, in order, until ctx ends, each fails or the agent hangs up, which
// is an Unavailable error unless the agent gives another. The first call comes at once and says where the watch begins; to go
// on after the last one, give its At as the next watch's After.
func (c *Client) WatchParams(ctx context.Context, watch ParamsWatch, each func(ParamsNews) error) error {
	return c.follow(ctx, "/v1/params/watch", shape.OfParamsWatch(watch), func(line []byte) error {
		var news struct {
			shape.ParamsNews
			Error *shape.Error `json:"error"`
		}
		if err := readNews(line, &news, &news.Error); err != nil {
			return err
		}
		return each(news.ParamsNews.News())
	})
}
