package api

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/release"
)

// PutRelease brings a release file to the agent, which verifies all of it. signed is an operator's release.PutAsk, signed for
// release.ForPut; the zero value: root asks, or an operator over a connection with their own key.
func (c *Client) PutRelease(ctx context.Context, file io.Reader, signed auth.Envelope) (release.Release, error) {
	if err := c.way.check(); err != nil {
		return release.Release{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://muster/v1/releases", io.NopCloser(file))
	if err != nil {
		return release.Release{}, fleet.Errorf(fleet.Internal, "%w", err)
	}
	if signed.Format != 0 {
		req.Header.Set(statementHeader, base64.StdEncoding.EncodeToString(wire.Marshal(signed)))
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Expect", "100-continue") // who may not is told before the file is on its way
	resp, err := c.do(ctx, req)
	if err != nil {
		return release.Release{}, err
	}
	var out shape.Release
	err = decode(resp, &out)
	return out.Release(), err
}

// Releases lists the releases that lie on the agent's host.
func (c *Client) Releases(ctx context.Context) ([]shape.Release, error) {
	var out []shape.Release
	err := c.get(ctx, "/v1/releases", &out)
	return out, err
}

// FetchRelease has the agent bring a release to its host, from others unless it is there, and returns where its binary for that
// host lies. sources are nodes that have it. A fetch that breaks off goes on where it was with the next call.
func (c *Client) FetchRelease(ctx context.Context, digest fleet.ID, sources []fleet.ID, each func(release.Progress)) (release.Fetched, error) {
	var out *release.Fetched
	err := c.follow(ctx, "/v1/releases/"+digest.Text()+"/fetch", shape.ReleaseFetch{Sources: sources}, func(line []byte) error {
		var news struct {
			shape.ReleaseNews
			Error *shape.Error `json:"error"`
		}
		if err := readNews(line, &news, &news.Error); err != nil {
			return err
		}
		if news.Done != nil {
			fetched := news.Done.Fetched()
			out = &fetched
		} else if each != nil {
			each(news.Progress())
		}
		return nil
	})
	if out != nil {
		return *out, nil
	}
	return release.Fetched{}, err
}

// GiveUpRelease ends the fetch of a release on the agent's host and lets go of what came of it.
func (c *Client) GiveUpRelease(ctx context.Context, digest fleet.ID) error {
	return c.post(ctx, "/v1/releases/"+digest.Text()+"/give-up", struct{}{}, &struct{}{})
}
