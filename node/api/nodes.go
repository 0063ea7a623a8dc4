package api

import (
	"net/http"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// What one node is asked through this host's agent.

// The parts of an answer with output that are not output: headers before it, trailers behind it.
const (
	headHeader = "Muster-Output"     // shape.OutputHead, as of the beginning
	endTrailer = "Muster-Output-End" // shape.OutputHead, as of the end; missing: it broke off
	errTrailer = "Muster-Error"      // shape.Error, when it broke off
)

func pathNode(r *http.Request) (fleet.ID, error) {
	id, err := fleet.ParseID(r.PathValue("node"))
	if err != nil {
		return id, fleet.Errorf(fleet.Invalid, "%s: %q is no node's ID in full", r.URL.Path, r.PathValue("node"))
	}
	return id, nil
}

// askNode reads a request to one node.
func askNode(w http.ResponseWriter, r *http.Request) (fleet.ID, auth.Envelope, error) {
	id, err := pathNode(r)
	if err != nil {
		return id, auth.Envelope{}, err
	}
	signed, err := askStatement(w, r)
	return id, signed, err
}

func (s *desk) decisions(w http.ResponseWriter, r *http.Request) {
	id, signed, err := askNode(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	all, err := s.backend.Decisions(r.Context(), id, signed)
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, shape.OfDecisions(all))
}

func (s *desk) nodeReport(w http.ResponseWriter, r *http.Request) {
	id, signed, err := askNode(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	report, err := s.backend.NodeReport(r.Context(), id, signed)
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, shape.Statement{Statement: wire.Marshal(report)})
}

func (s *desk) direct(w http.ResponseWriter, r *http.Request) {
	var body shape.Order
	if err := ask(w, r, maxEntryBody, &body); err != nil {
		fail(w, err)
		return
	}
	var order exec.Order
	if err := wire.Unmarshal(body.Order, &order); err != nil {
		fail(w, err)
		return
	}
	if err := s.backend.Direct(r.Context(), order); err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, struct{}{})
}

// output passes a run's output on as it comes. What is wrong before its first byte is an answer of its own; afterwards
// the trailers tell.
func (s *desk) output(w http.ResponseWriter, r *http.Request) {
	id, err := pathNode(r)
	var body shape.OutputAsk
	if err == nil {
		err = ask(w, r, maxStatementBody, &body)
	}
	var signed auth.Envelope
	if err == nil {
		err = wire.Unmarshal(body.Statement, &signed)
	}
	if err == nil {
		err = body.Ask().Check()
	}
	if err != nil {
		fail(w, err)
		return
	}
	out := outputAnswer{w: w, control: http.NewResponseController(w), follow: body.Follow}
	err = s.backend.Output(r.Context(), id, signed, body.Ask(), out.take)
	switch {
	case err == nil && out.begun:
		w.Header().Set(endTrailer, headerText(shape.OfOutputHead(out.last)))
	case err == nil:
		fail(w, fleet.Errorf(fleet.Internal, "the node says nothing of its output"))
	case out.begun:
		w.Header().Set(errTrailer, headerText(shape.OfError(err)))
	default:
		fail(w, err)
	}
}

type outputAnswer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	follow  bool
	begun   bool
	last    exec.OutputHead
}

func (o *outputAnswer) take(p exec.OutputPiece) error {
	if p.Head != nil {
		o.last = *p.Head
	}
	if !o.begun {
		o.begun = true
		h := o.w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Trailer", endTrailer+", "+errTrailer)
		h.Set(headHeader, headerText(shape.OfOutputHead(o.last)))
		o.w.WriteHeader(http.StatusOK)
	}
	if err := o.control.SetWriteDeadline(time.Now().Add(lineTime)); err != nil {
		return err
	}
	if _, err := o.w.Write(p.Data); err != nil {
		return err
	}
	if o.follow {
		return o.control.Flush()
	}
	return nil
}

// headerText writes v as JSON of printable ASCII, as headers hold nothing else.
func headerText(v any) string {
	raw, err := shape.Marshal(v)
	if err != nil {
		return "{}"
	}
	return string(shape.ASCII(raw))
}
