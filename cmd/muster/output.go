package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// fetchesAtOnce is how many nodes' outputs are fetched at a time: each holds one piece in memory.
const fetchesAtOnce = 8

// wanted is one stream of one node's run.
type wanted struct {
	command fleet.UUID
	node    fleet.ID
	name    string // of the node
	report  exec.Report
	stream  string // exec.StdoutName or exec.StderrName
	to      string // where the command's output was copied besides
	follow  bool   // until the run has ended
}

func (w wanted) reported() exec.Stream {
	if w.stream == exec.StderrName {
		return w.report.Stderr
	}
	return w.report.Stdout
}

// writeOutput writes a part of what a run wrote: from its last report where that has it, else from the node, piece by
// piece. All of an ended run's output must be what the report's digest names. The newest report of a run that goes on may
// be of its beginning: only the node knows more.
func (p *pen) writeOutput(ctx context.Context, w wanted, part exec.Span, whole bool, out io.Writer) error {
	s, final := w.reported(), w.report.Status.Final()
	if final && s.Gap() == 0 && s.Kept == s.Size {
		if !whole {
			s = cutStream(s, part)
		}
		_, err := out.Write(slices.Concat(s.Head, s.Tail))
		return err
	}
	ask := exec.OutputAsk{Stream: w.stream, Follow: w.follow && !final}
	if !whole {
		if part.To <= part.From {
			return nil
		}
		ask.From, ask.To = part.From, part.To
	}
	check := newDigestCheck(s, whole && final)
	err := p.client.Output(ctx, w.node, p.requestAt(w.node, node.ReadOutput, w.command), ask, func(piece exec.OutputPiece) error {
		if len(piece.Data) == 0 {
			return nil
		}
		check.take(piece.Data)
		_, err := out.Write(piece.Data)
		return err
	})
	if err == nil {
		err = check.end()
	}
	return w.explain(err)
}

// explain says, of a node that does not answer, where else its output may be.
func (w wanted) explain(err error) error {
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || w.to == "" || (e.Kind != fleet.Unavailable && e.Kind != fleet.NotFound && e.Kind != fleet.Expired) {
		return err
	}
	return fleet.Errorf(e.Kind, "%w", err).Hinted("a copy was sent to %s", w.to)
}

// digestCheck holds an output to the digest that the node reported and signed when its run ended.
type digestCheck struct {
	want exec.Stream
	hash hash.Hash // nil: nothing is to be compared
	got  int64
}

func newDigestCheck(want exec.Stream, compare bool) *digestCheck {
	c := &digestCheck{want: want}
	if compare && !want.Digest.IsZero() {
		c.hash = sha256.New()
	}
	return c
}

func (c *digestCheck) take(data []byte) {
	c.got += int64(len(data))
	if c.hash != nil {
		c.hash.Write(data)
	}
}

func (c *digestCheck) end() error {
	switch {
	case c.hash == nil:
		return nil
	case c.got != c.want.Kept:
		return fleet.Errorf(fleet.Unavailable, "%d bytes of output came, but %d were reported", c.got, c.want.Kept)
	case fleet.ID(c.hash.Sum(nil)) != c.want.Digest:
		return fleet.Errorf(fleet.Internal, "the output is not what the node reported when its run ended: its digest differs").
			Hinted("do not trust it: somebody changed it on the node")
	}
	return nil
}

// keepOutputs writes every node's full output into a folder, and says of which nodes it could not.
func (a *app) keepOutputs(ctx context.Context, p *pen, s *sight, outcomes []exec.Outcome, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fleet.Errorf(fleet.Invalid, "--output-dir: %w", err)
	}
	todo := outputsOf(s, outcomes)
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := make(chan struct{}, fetchesAtOnce)
	written, missing := 0, error(nil)
	for _, w := range todo {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			err := p.keepOutput(ctx, w, filepath.Join(dir, w.name+"."+w.stream))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				a.say("%s of %s: %s", w.stream, w.name, err)
				missing = err
				return
			}
			written++
		})
	}
	group.Wait()
	a.say("%s in %s", count(written, "file"), dir)
	if missing != nil {
		return fleet.Errorf(fleet.KindOf(missing), "%s could not be written", count(len(todo)-written, "output")).
			Hinted("again, later: muster command show %s --output-dir %s", s.id, dir)
	}
	return nil
}

// outputsOf lists the streams of all nodes that have run; an empty standard error is left out.
func outputsOf(s *sight, outcomes []exec.Outcome) []wanted {
	var out []wanted
	for _, o := range sortedByName(outcomes, s.roll.name) {
		if o.Report.Started == 0 && o.Report.Stdout.Size+o.Report.Stderr.Size == 0 {
			continue
		}
		w := wanted{command: s.id, node: o.Node, name: s.roll.name(o.Node), report: o.Report, stream: exec.StdoutName, to: s.outputTo()}
		out = append(out, w)
		if o.Report.Stderr.Size > 0 {
			w.stream = exec.StderrName
			out = append(out, w)
		}
	}
	return out
}

func (s *sight) outputTo() string {
	if s.info == nil {
		return ""
	}
	return s.info.Body.OutputTo
}

// keepOutput writes one stream into a file: all of it, or nothing.
func (p *pen) keepOutput(ctx context.Context, w wanted, path string) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".muster-*") // mode 0600
	if err != nil {
		return fleet.Errorf(fleet.Internal, "%w", err)
	}
	defer os.Remove(temp.Name())
	err = p.writeOutput(ctx, w, exec.Span{}, true, temp)
	if closed := temp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	return err
}

// screen makes what a node wrote fit for a terminal, piece by piece.
type screen struct {
	w    io.Writer
	rest []byte
}

// Write shows p; the beginning of a character at its end waits for what follows.
func (s *screen) Write(p []byte) (int, error) {
	shown, rest := exec.PrintablePart(append(s.rest[:len(s.rest):len(s.rest)], p...))
	s.rest = append([]byte(nil), rest...)
	_, err := s.w.Write(shown)
	return len(p), err
}

// Close shows what is left.
func (s *screen) Close() error {
	_, err := s.w.Write(exec.Printable(s.rest))
	s.rest = nil
	return err
}
