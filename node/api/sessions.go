package api

import (
	"context"
	"net/http"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
)

// SessionsBackend is what the agent offers to those who speak with nodes themselves, and to those who look who does.
type SessionsBackend interface {
	// Node returns the one node that text means, a name, an ID or the beginning of one, and where it may be reached. Its
	// facts are left out: nobody else is asked.
	Node(ctx context.Context, text string) (Node, error)
	// Sessions lists the sessions on this host, the newest first.
	Sessions(ctx context.Context) []node.SessionState
}

func (s *desk) node(w http.ResponseWriter, r *http.Request) {
	n, err := s.backend.Node(r.Context(), r.PathValue("node"))
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, shape.OfNode(n.Member, n.Seq))
}

func (s *desk) sessions(w http.ResponseWriter, r *http.Request) {
	write(w, http.StatusOK, shape.OfSessions(s.backend.Sessions(r.Context())))
}
