package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// InsideBackend is what an agent tells its host's own root of itself, beside stacks and memory. A Backend need not be one.
type InsideBackend interface {
	// RecentDecisions returns the newest n lines about what was decided here.
	RecentDecisions(n int) ([]string, error)
}

// recentDecisions is how many lines a look inside has.
const recentDecisions = 500

// insides are the parts of the agent that its host's own root can look at, by name.
func (s *desk) insides() map[string]func(io.Writer) error {
	return map[string]func(io.Writer) error{"stacks": writeStacks, "heap": writeHeap, "decisions": s.writeDecisions}
}

func (s *desk) inside(w http.ResponseWriter, r *http.Request) {
	part, ok := s.insides()[r.PathValue("part")]
	if !ok {
		fail(w, fleet.Errorf(fleet.NotFound, "the agent has no part %q to look at", r.PathValue("part")))
		return
	}
	var out bytes.Buffer
	if err := part(&out); err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(out.Bytes())
}

// writeStacks writes what every goroutine is doing, and for how long it has waited.
func writeStacks(w io.Writer) error {
	var raw bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&raw, 2); err != nil {
		return err
	}
	_, err := io.WriteString(w, withoutArguments(raw.String()))
	return err
}

// withoutArguments leaves the values out that Go shows of each call: a key that is passed by value would stand among them.
func withoutArguments(stacks string) string {
	var out strings.Builder
	for line := range strings.Lines(stacks) {
		call := !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "goroutine ") && !strings.HasPrefix(line, "created by ")
		if at := strings.LastIndexByte(line, '('); call && at >= 0 {
			line = line[:at] + "(…)\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

// writeHeap writes which calls hold how much memory: counts and places, nothing that is in it.
func writeHeap(w io.Writer) error {
	runtime.GC()
	return pprof.Lookup("heap").WriteTo(w, 0)
}

func (s *desk) writeDecisions(w io.Writer) error {
	backend, ok := s.backend.(InsideBackend)
	if !ok {
		return fleet.Errorf(fleet.Unavailable, "this agent keeps no decisions")
	}
	lines, err := backend.RecentDecisions(recentDecisions)
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
	return err
}

// maxInside bounds one part of the agent that a client takes, in bytes.
const maxInside = 32 << 20

// Inside returns a part of the agent: stacks, heap (as pprof has it) or decisions. Root and the agent's own account alone may.
func (c *Client) Inside(ctx context.Context, part string) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, "/v1/inside/"+part, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxInside))
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the agent's answer broke off: %w", err)
	}
	return raw, nil
}
