package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Client asks one agent. It may be used by many goroutines at once.
type Client struct {
	way  way
	http *http.Client
	own  OwnRecord // nil: the agent's word counts
}

// Dial returns a client of the socket at path. Nothing is opened before the first request.
func Dial(path string) *Client { return newClient(socketWay(path)) }

// Over returns a client that asks over connections which dial opens, each to the API of an agent (Operators). who names that
// agent, for people. Errors of dial come back as they are.
func Over(who string, dial func(context.Context) (net.Conn, error)) *Client {
	return newClient(otherWay{who, dial})
}

func newClient(w way) *Client {
	return &Client{way: w, http: &http.Client{
		Transport: &http.Transport{
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return w.dial(ctx) },
			DisableCompression:     true, // an answer is as long as its bytes
			ExpectContinueTimeout:  headerTime,
			MaxResponseHeaderBytes: maxAnswerHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Version returns the agent's version.
func (c *Client) Version(ctx context.Context) (string, error) {
	var out shape.Version
	err := c.get(ctx, "/v1/version", &out)
	return out.Version, err
}

// Status returns what the host says of itself and of what it sees.
func (c *Client) Status(ctx context.Context) (node.Status, error) {
	var out shape.Status
	if err := c.get(ctx, "/v1/status", &out); err != nil {
		return node.Status{}, err
	}
	s, err := out.Status()
	if err != nil {
		return s, err
	}
	if record, ok, err := c.record(ctx); ok || err != nil {
		return provenStatus(record, s), err
	}
	return s, nil
}

// Nodes lists the enrolled nodes by name.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var out []shape.Node
	if err := c.get(ctx, "/v1/nodes", &out); err != nil {
		return nil, err
	}
	nodes := make([]Node, 0, len(out))
	for _, n := range out {
		m, err := n.Member()
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, Node{m, n.Sequence})
	}
	record, ok, err := c.record(ctx)
	if !ok || err != nil {
		return nodes, err
	}
	return provenNodes(record, nodes), nil
}

// Quorum returns who keeps the replicated state.
func (c *Client) Quorum(ctx context.Context) (node.QuorumStatus, error) {
	var out shape.Quorum
	err := c.get(ctx, "/v1/quorum", &out)
	return out.Quorum(), err
}

// Operators lists the operators who stand.
func (c *Client) Operators(ctx context.Context) ([]auth.Operator, error) {
	if record, ok, err := c.record(ctx); err != nil {
		return nil, err
	} else if ok {
		return record.Charter.Operators(), nil
	}
	var out []shape.Operator
	if err := c.get(ctx, "/v1/operators", &out); err != nil {
		return nil, err
	}
	ops := make([]auth.Operator, 0, len(out))
	for _, op := range out {
		ops = append(ops, op.Operator())
	}
	return ops, nil
}

// Propose brings an entry to the leader. The fleet's refusal is in the result; an error means that nobody knows yet,
// and that the same entry may be proposed again.
func (c *Client) Propose(ctx context.Context, e consensus.Entry) (consensus.Result, error) {
	var out shape.Result
	err := c.post(ctx, "/v1/entries", shape.Entry{Entry: consensus.Encode(e, 0)}, &out)
	if r, ok := errors.AsType[refusal](err); ok {
		return consensus.Result{Kind: r.said.Kind, Why: r.said.What, Hint: r.said.Hint}, r.said
	}
	return out.Result(), err
}

// Read asks the servers. signed is a node.Read.
func (c *Client) Read(ctx context.Context, signed auth.Envelope) (node.Answer, error) {
	var out shape.Answer
	err := c.post(ctx, "/v1/read", shape.Statement{Statement: wire.Marshal(signed)}, &out)
	return out.Answer(), err
}

// Leave says goodbye to the fleet and stops the agent.
func (c *Client) Leave(ctx context.Context) error {
	return c.post(ctx, "/v1/leave", struct{}{}, &struct{}{})
}

// Watch calls each with every update of a command until ctx ends, each fails or the agent hangs up, which is an
// Unavailable error unless the agent gives another.
func (c *Client) Watch(ctx context.Context, signed auth.Envelope, each func(node.Update) error) error {
	record, ok, err := c.record(ctx)
	if err != nil {
		return err
	}
	ask := shape.WatchAsk{Statement: wire.Marshal(signed), Signed: ok}
	return c.follow(ctx, "/v1/watch", ask, func(line []byte) error {
		var news struct {
			shape.Update
			Error *shape.Error `json:"error"`
		}
		if err := readNews(line, &news, &news.Error); err != nil {
			return err
		}
		update := news.Update.Update()
		if ok && update.Report != nil {
			report, err := c.provenNews(ctx, &record, news.Signed)
			if err != nil {
				return err
			}
			update.Report = &report
		}
		return each(update)
	})
}

// provenNews returns the report that a node signed. A node that the record has not may be newer than the record.
func (c *Client) provenNews(ctx context.Context, record *auth.Record, raw []byte) (exec.Report, error) {
	var signed auth.Envelope
	if err := wire.Unmarshal(raw, &signed); err != nil {
		return exec.Report{}, fleet.Errorf(fleet.Denied, "the agent tells of a result that no node signed")
	}
	if _, known := record.Roster.Node(signed.Key); !known {
		newer, _, err := c.record(ctx)
		if err != nil {
			return exec.Report{}, err
		}
		*record = newer
	}
	report, err := exec.OpenReport(*record, signed)
	if err != nil {
		err = fleet.Errorf(fleet.KindOf(err), "the agent tells of a result that is not proved: %w", err)
	}
	return report, err
}

// follow gives each line of a stream of news to each, until ctx ends, each fails or the agent hangs up.
func (c *Client) follow(ctx context.Context, path string, body any, each func(line []byte) error) error {
	resp, err := c.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := lines.Err(); err != nil {
		return fleet.Errorf(fleet.Unavailable, "the agent's news broke off: %w", err)
	}
	return fleet.Errorf(fleet.Unavailable, "the agent ended its news")
}

// readNews reads one line of news into what it may be, and returns the failure that it is instead, if it is one.
func readNews(line []byte, into any, failure **shape.Error) error {
	if err := shape.Unmarshal(line, into); err != nil {
		return fleet.Errorf(fleet.Internal, "the agent's news cannot be read: %w", err)
	}
	if *failure != nil {
		return (*failure).Err()
	}
	return nil
}

func (c *Client) get(ctx context.Context, path string, out any) error {
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return decode(resp, out)
}

func (c *Client) post(ctx context.Context, path string, body, out any) error {
	resp, err := c.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	return decode(resp, out)
}

// send returns an answer that is one: failures come back as errors.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	if err := c.way.check(); err != nil {
		return nil, err
	}
	var in io.Reader
	if body != nil {
		raw, err := shape.Marshal(body)
		if err != nil {
			return nil, fleet.Errorf(fleet.Internal, "%w", err)
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://muster"+path, in)
	if err != nil {
		return nil, fleet.Errorf(fleet.Internal, "%w", err)
	}
	return c.do(ctx, req)
}

// do is send of a request that is made.
func (c *Client) do(ctx context.Context, req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreached(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	var failure shape.Failure
	if err := decode(resp, &failure); err != nil || failure.Error.What == "" {
		return nil, fleet.Errorf(fleet.Internal, "the agent answers %s", resp.Status)
	}
	if err := failure.Error.Err(); !failure.Refused {
		return nil, err
	}
	return nil, refusal{&fleet.Error{Kind: fleet.ParseKind(failure.Error.Kind), What: failure.Error.What, Hint: failure.Error.Hint}}
}

// refusal is the fleet's own no to an entry, as opposed to that of the agent, or to no answer.
type refusal struct{ said *fleet.Error }

func (r refusal) Error() string { return r.said.Error() }
func (r refusal) Unwrap() error { return r.said }

func decode(resp *http.Response, out any) error {
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "the agent's answer broke off: %w", err)
	}
	if err := shape.Unmarshal(raw, out); err != nil {
		return fleet.Errorf(fleet.Internal, "the agent's answer cannot be read: %w", err).
			Hinted("is the agent of another version? muster version; muster status")
	}
	return nil
}

// unreached says why the agent could not be asked.
func (c *Client) unreached(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.way.unreached(err)
}
