package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Options are what Serve needs beside the backend. The zero value serves.
type Options struct {
	Version string // of muster, for /v1/version
	Group   string // members may look at the fleet; empty: muster
	// Operators is the door for operators elsewhere, which Serve closes; nil: there is none.
	Operators *Operators
	Restart   func(reason string) error // starts the agent's program anew in its own place; nil: it cannot
	Log       *slog.Logger              // nil: none
}

// Serve answers on l until ctx ends, and closes l. Open watches end with it.
func Serve(ctx context.Context, l net.Listener, b Backend, o Options) error {
	s := newDesk(b, o)
	watches, hangUp := context.WithCancel(ctx)
	defer hangUp()
	server := &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return watches },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if known, ok := conn.(*knownConn); ok {
				return context.WithValue(ctx, callerKey{}, known.caller)
			}
			return ctx
		},
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	var others sync.WaitGroup
	if o.Operators != nil {
		others.Go(func() { _ = server.Serve(o.Operators) })
	}
	err := server.Serve(newDoor(l))
	if o.Operators != nil {
		o.Operators.Close() // also where the socket broke
	}
	others.Wait()
	if !stop() {
		<-stopped // let the last answers out
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

type callerKey struct{}

// desk answers requests.
type desk struct {
	backend Backend
	version string
	self    uint32
	group   func() (uint32, bool)
	log     *slog.Logger
	again   func(reason string) error
	lanesMu sync.Mutex
	lanes   map[string]int // open, of accounts that are neither root nor the agent's
}

func newDesk(b Backend, o Options) *desk {
	if o.Group == "" {
		o.Group = "muster"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &desk{backend: b, version: o.Version, self: uint32(os.Geteuid()), group: groupID(o.Group), log: o.Log, again: o.Restart}
}

func (s *desk) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/version", s.guard(anyone, func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, shape.Version{Version: s.version, API: 1})
	}))
	mux.Handle("GET /v1/status", s.guard(anyone, func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusOK, shape.OfStatus(s.backend.Status(r.Context())))
	}))
	mux.Handle("GET /v1/nodes", s.guard(member, s.nodes))
	mux.Handle("GET /v1/nodes/{node}", s.guard(member, s.node))
	mux.Handle("GET /v1/sessions", s.guard(owner, s.sessions))
	mux.Handle("GET /v1/quorum", s.guard(member, func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusOK, shape.OfQuorum(s.backend.Quorum(r.Context())))
	}))
	mux.Handle("GET /v1/operators", s.guard(member, s.operators))
	mux.Handle("GET /v1/record", s.guard(member, s.record))
	mux.Handle("POST /v1/entries", s.guard(anyone, s.propose))
	mux.Handle("POST /v1/read", s.guard(anyone, s.read))
	mux.Handle("POST /v1/watch", s.guard(anyone, s.watch))
	mux.Handle("GET /v1/policy", s.guard(member, func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusOK, shape.Policy{Format: shape.Format, Text: s.backend.Policy(r.Context())})
	}))
	mux.Handle("GET /v1/groups", s.guard(member, func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusOK, shape.OfGroups(s.backend.Groups(r.Context())))
	}))
	mux.Handle("GET /v1/settings", s.guard(member, func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusOK, shape.OfSettings(s.backend.Settings(r.Context())))
	}))
	mux.Handle("GET /v1/usage", s.guard(member, s.usage))
	mux.Handle("GET /v1/metrics", s.guard(member, s.metrics))
	mux.Handle("POST /v1/direct", s.guard(anyone, s.direct))
	mux.Handle("POST /v1/output/{node}", s.guard(anyone, s.output))
	mux.Handle("POST /v1/why/{node}", s.guard(anyone, s.decisions))
	mux.Handle("POST /v1/report/{node}", s.guard(anyone, s.nodeReport))
	mux.Handle("GET /v1/keyrings", s.guard(member, s.keyrings))
	mux.Handle("POST /v1/keyrings/handover/{node}", s.guard(anyone, s.handOver))
	mux.Handle("GET /v1/nodes/{node}/hpke", s.guard(member, s.nodeHPKE))
	mux.Handle("POST /v1/params/read", s.guard(anyone, s.readParams))
	mux.Handle("POST /v1/params/watch", s.guard(anyone, s.watchParams))
	mux.Handle("GET /v1/lane", s.guard(anyone, s.lane))
	mux.Handle("POST /v1/params/open", s.guard(anyone, s.openParam))
	mux.Handle("POST /v1/checkup", s.guard(member, s.checkup))
	mux.Handle("GET /v1/inside/{part}", s.guard(owner, s.inside))
	s.configRoutes(mux)
	mux.Handle("PUT /v1/releases", s.guard(anyone, s.withReleases(s.putRelease)))
	mux.Handle("GET /v1/releases", s.guard(member, s.withReleases(s.releases)))
	mux.Handle("POST /v1/releases/{digest}/fetch", s.guard(owner, s.withReleases(s.fetchRelease)))
	mux.Handle("POST /v1/releases/{digest}/give-up", s.guard(owner, s.withReleases(s.giveUpRelease)))
	mux.Handle("POST /v1/restart", s.guard(owner, s.restart))
	mux.Handle("POST /v1/leave", s.guard(owner, s.leave))
	mux.Handle("/", s.guard(anyone, func(w http.ResponseWriter, r *http.Request) {
		fail(w, fleet.Errorf(fleet.NotFound, "no %s %s", r.Method, r.URL.Path).Hinted("the paths are in the documentation of node/api"))
	}))
	return mux
}

// guard refuses web pages, and callers who may not.
func (s *desk) guard(n need, then http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, known := r.Context().Value(callerKey{}).(caller)
		err := checkOrigin(r)
		if err == nil && !known && n != anyone {
			err = fleet.Errorf(fleet.Denied, "the kernel does not say who asks")
		}
		if err == nil && known {
			err = who.admit(n, s.self, s.group)
		}
		if err != nil {
			s.log.Debug("refused a request", "path", r.URL.Path, "uid", who.uid, "err", err)
			fail(w, err)
			return
		}
		if n == member && who.operator != nil { // what only members may see are lists of the whole fleet
			leave, ok := who.operator.Large(r.Context())
			if !ok {
				return
			}
			defer leave()
		}
		defer s.ownFault(w, r)
		then(w, r)
	})
}

// ownFault answers for a handler that panicked: one request fails and says so, where the server would hang up without a word.
func (s *desk) ownFault(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	s.log.Error("a request failed by a fault of the agent", "path", r.URL.Path, "err", cause, "stack", string(debug.Stack()))
	fail(w, fleet.Errorf(fleet.Internal, "the agent failed at %s; its log says more", r.URL.Path))
}

// checkOrigin keeps web pages out, should somebody ever put a proxy before the socket.
func checkOrigin(r *http.Request) error {
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return fleet.Errorf(fleet.Denied, "requests of web pages are refused")
	}
	if r.Host != "muster" && r.Host != "localhost" {
		return fleet.Errorf(fleet.Denied, "the request names host %q", r.Host).Hinted("curl --unix-socket … http://muster%s", r.URL.Path)
	}
	return nil
}

func (s *desk) nodes(w http.ResponseWriter, r *http.Request) {
	out := []shape.Node{}
	for _, n := range s.backend.Nodes(r.Context()) {
		out = append(out, shape.OfNode(n.Member, n.Seq))
	}
	write(w, http.StatusOK, out)
}

func (s *desk) operators(w http.ResponseWriter, r *http.Request) {
	out := []shape.Operator{}
	for _, op := range s.backend.Operators(r.Context()) {
		out = append(out, shape.OfOperator(op))
	}
	write(w, http.StatusOK, out)
}

func (s *desk) usage(w http.ResponseWriter, r *http.Request) {
	out := []shape.Store{}
	for _, store := range s.backend.Usage(r.Context()) {
		out = append(out, shape.Store(store))
	}
	write(w, http.StatusOK, out)
}

func (s *desk) propose(w http.ResponseWriter, r *http.Request) {
	var body shape.Entry
	if err := ask(w, r, maxEntryBody, &body); err != nil {
		fail(w, err)
		return
	}
	entry, _, err := consensus.Decode(body.Entry)
	if err != nil {
		fail(w, err)
		return
	}
	result, err := s.backend.Propose(r.Context(), entry)
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		write(w, httpStatus(fleet.KindOf(err)), shape.Failure{Error: shape.OfError(err), Refused: result.Why != ""})
		return
	}
	write(w, http.StatusOK, shape.OfResult(result))
}

func (s *desk) read(w http.ResponseWriter, r *http.Request) {
	signed, err := askStatement(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	answer, err := s.backend.Read(r.Context(), signed)
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, shape.OfAnswer(answer))
}

func (s *desk) watch(w http.ResponseWriter, r *http.Request) {
	var body shape.WatchAsk
	var signed auth.Envelope
	err := ask(w, r, maxStatementBody, &body)
	if err == nil {
		err = wire.Unmarshal(body.Statement, &signed)
	}
	if err != nil {
		fail(w, err)
		return
	}
	out := lines{w: w, control: http.NewResponseController(w)}
	err = s.backend.Watch(r.Context(), signed, func(u node.Update) error {
		line := shape.OfUpdate(u)
		if body.Signed && u.Signed != nil {
			line.Signed = wire.Marshal(*u.Signed)
		}
		return out.put(line)
	})
	out.end(r, err)
}

func (s *desk) leave(w http.ResponseWriter, r *http.Request) {
	if err := s.backend.Leave(r.Context()); err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, struct{}{})
}

func askStatement(w http.ResponseWriter, r *http.Request) (auth.Envelope, error) {
	var body shape.Statement
	var signed auth.Envelope
	if err := ask(w, r, maxStatementBody, &body); err != nil {
		return signed, err
	}
	err := wire.Unmarshal(body.Statement, &signed)
	return signed, err
}

func ask(w http.ResponseWriter, r *http.Request, most int64, body any) error {
	in := http.MaxBytesReader(w, r.Body, most)
	err := shape.Ask(in, body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fleet.Errorf(fleet.Exhausted, "request of more than %d bytes", most)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	return err
}
