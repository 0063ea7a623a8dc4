package api

import (
	"context"
	"net/http"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
)

// What is asked about parameters. Writes go the way of all entries.

// The questions and answers of parameters, as the agent has them.
type (
	// ParamsAsk is a question. Local is set here, by the kernel's word; what a client says of it is passed over.
	ParamsAsk = node.ParamsAsk
	// ParamsRead is the answer.
	ParamsRead = node.ParamsRead
	// ParamsWatch asks for news.
	ParamsWatch = node.ParamsWatch
	// ParamsNews is some.
	ParamsNews = node.ParamsNews
)

// ParamsBackend is what the agent offers of parameters.
type ParamsBackend interface {
	// ReadParams answers a question, linearizably, or, where nobody leads or the question allows it, as of a replica or of
	// this host's copies. What it answers it has verified.
	ReadParams(ctx context.Context, ask ParamsAsk) (ParamsRead, error)
	// WatchParams tells what happens to parameters until ctx ends, each fails, or, with kind Unavailable, no server answers
	// for a while. Expired: the signed request is over; the watch may go on with another from where it was.
	WatchParams(ctx context.Context, watch ParamsWatch, each func(ParamsNews) error) error
}

func (s *desk) readParams(w http.ResponseWriter, r *http.Request) {
	var body shape.ParamsAsk
	err := ask(w, r, maxParamsBody, &body)
	var question node.ParamsAsk
	if err == nil {
		question, err = body.Ask()
	}
	if err == nil && len(question.Signed) == 0 {
		question.Local, err = s.localUser(r)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer, err := s.backend.ReadParams(r.Context(), question)
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, shape.OfParamsRead(answer))
}

func (s *desk) watchParams(w http.ResponseWriter, r *http.Request) {
	var body shape.ParamsWatch
	err := ask(w, r, maxParamsBody, &body)
	var question node.ParamsWatch
	if err == nil {
		question, err = body.Watch()
	}
	if err == nil && len(question.Signed) == 0 {
		question.Local, err = s.localUser(r)
	}
	if err != nil {
		fail(w, err)
		return
	}
	out := lines{w: w, control: http.NewResponseController(w)}
	err = s.backend.WatchParams(r.Context(), question, func(n node.ParamsNews) error { return out.put(shape.OfParamsNews(n)) })
	out.end(r, err)
}

// localUser returns the account that asks without an operator's signature: none for root and the agent's own account, which
// are the node.
func (s *desk) localUser(r *http.Request) ([]node.LocalUser, error) {
	name, err := s.account(r)
	if err != nil || name == "" {
		return nil, err
	}
	return []node.LocalUser{{Name: name}}, nil
}

// lines writes JSON lines to a caller until he goes.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// put writes one. A caller who takes none for lineTime is gone.
func (l *lines) put(body any) error {
	raw, err := shape.Marshal(body)
	if err != nil {
		return err
	}
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "application/jsonl")
	}
	if err := l.control.SetWriteDeadline(time.Now().Add(lineTime)); err != nil {
		return err
	}
	if _, err := l.w.Write(append(raw, '\n')); err != nil {
		return err
	}
	return l.control.Flush()
}

// end says why there are no more: as an answer of its own if there was none.
func (l *lines) end(r *http.Request, err error) {
	switch {
	case err == nil, r.Context().Err() != nil && l.begun:
	case !l.begun:
		fail(l.w, err)
	default:
		_ = l.put(shape.Failure{Error: shape.OfError(err)}) // whoever hung up needs no last word
	}
}
