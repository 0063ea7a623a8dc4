package api

import (
	"context"
	"io"
	"net/http"

	"github.com/muster-fleet/muster/node/fleet"
)

// MetricsBackend is what a Backend may be besides: one that tells metrics.
type MetricsBackend interface {
	// Metrics returns this host's metrics in Prometheus' text format.
	Metrics(ctx context.Context) []byte
}

// maxMetrics bounds an answer with metrics, bytes; one of this version has about 12 kB.
const maxMetrics = 1 << 20

func (s *desk) metrics(w http.ResponseWriter, r *http.Request) {
	b, ok := s.backend.(MetricsBackend)
	if !ok {
		fail(w, fleet.Errorf(fleet.NotFound, "this agent tells no metrics"))
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Metrics(r.Context()))
}

// Metrics returns the host's metrics in Prometheus' text format, whether or not it serves them to others.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, "/v1/metrics", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxMetrics))
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the agent's answer broke off: %w", err)
	}
	return text, nil
}
