package api

import (
	"context"
	"net/http"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

// HostConfig is what counts on a host, as its agent has it.
type HostConfig struct {
	Config   config.Config
	File     string           // it was read from; empty: there is none
	Problems []config.Problem // of what was read last and not taken
	Later    []config.Value   // what only the next start takes
}

// ConfigBackend is a backend that has a host's configuration. Not every one does.
type ConfigBackend interface {
	// Config returns what counts.
	Config(ctx context.Context) HostConfig
	// ReloadConfig reads it again, and takes all of it that can be taken now, or, on a problem, nothing.
	ReloadConfig(ctx context.Context) HostConfig
}

// configRoutes serve GET /v1/config and POST /v1/config/reload.
func (s *desk) configRoutes(mux *http.ServeMux) {
	mux.Handle("GET /v1/config", s.guard(member, s.config(ConfigBackend.Config)))
	mux.Handle("POST /v1/config/reload", s.guard(owner, s.config(ConfigBackend.ReloadConfig)))
}

func (s *desk) config(do func(ConfigBackend, context.Context) HostConfig) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, ok := s.backend.(ConfigBackend)
		if !ok {
			fail(w, fleet.Errorf(fleet.NotFound, "this agent has no configuration"))
			return
		}
		write(w, http.StatusOK, shapeOf(do(b, r.Context())))
	}
}

func shapeOf(c HostConfig) shape.Config {
	out := shape.Config{
		Format: shape.Format, Running: true, File: c.File, Values: shape.OfConfig(c.Config), Problems: shape.OfConfigProblems(c.Problems),
	}
	for _, v := range c.Later {
		out.Later = append(out.Later, v.Name)
	}
	return out
}

// Config returns what counts on the host, and where it comes from.
func (c *Client) Config(ctx context.Context) (shape.Config, error) {
	var out shape.Config
	err := c.get(ctx, "/v1/config", &out)
	return out, err
}

// ReloadConfig has the agent read its configuration again. What is wrong with it is in the answer, and then nothing was taken.
func (c *Client) ReloadConfig(ctx context.Context) (shape.Config, error) {
	var out shape.Config
	err := c.post(ctx, "/v1/config/reload", struct{}{}, &out)
	return out, err
}
