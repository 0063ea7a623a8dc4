package api

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// Lane is a connection for many writes and reads at a time, for programs that do thousands a second. Its methods may be called
// by many goroutines at once; each call waits for its own answer.
type Lane struct {
	conn net.Conn
	out  frames

	mu     sync.Mutex
	asked  map[uint64]chan laneAnswer
	next   uint64
	broken error
}

// Lane opens one. Close it.
func (c *Client) Lane(ctx context.Context) (*Lane, error) {
	if err := c.way.check(); err != nil {
		return nil, err
	}
	conn, err := c.way.dial(ctx)
	if err != nil {
		return nil, c.unreached(ctx, err)
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	if err := upgrade(ctx, conn, in); err != nil {
		conn.Close()
		return nil, err
	}
	l := &Lane{conn: conn, out: frames{conn: conn, to: bufio.NewWriterSize(conn, 64<<10)}, asked: map[uint64]chan laneAnswer{}}
	go l.hear(in)
	return l, nil
}

// upgrade asks for a lane on a new connection.
func upgrade(ctx context.Context, conn net.Conn, in *bufio.Reader) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	req, err := http.NewRequest(http.MethodGet, "http://muster/v1/lane", nil)
	if err != nil {
		return fleet.Errorf(fleet.Internal, "%w", err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", laneProtocol)
	if err := req.Write(conn); err != nil {
		return fleet.Errorf(fleet.Unavailable, "the agent does not take a lane: %w", err)
	}
	resp, err := http.ReadResponse(in, req)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fleet.Errorf(fleet.Unavailable, "the agent does not answer: %w", err)
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return nil
	}
	var failure shape.Failure
	if err := decode(resp, &failure); err != nil || failure.Error.What == "" {
		return fleet.Errorf(fleet.Internal, "the agent answers %s", resp.Status)
	}
	return failure.Error.Err()
}

// Close ends the lane. Calls that wait fail: nobody knows what came of them.
func (l *Lane) Close() error {
	l.fail(fleet.Errorf(fleet.Unavailable, "the lane was closed"))
	return nil
}

// Propose is Client.Propose: of what the fleet refused there is the result, and its error.
func (l *Lane) Propose(ctx context.Context, e consensus.Entry) (consensus.Result, error) {
	answer, err := l.ask(ctx, laneAsk{Entry: consensus.Encode(e, 0)})
	if err == nil && len(answer.Result) != 1 {
		err = fleet.Errorf(fleet.Internal, "the agent answers a write with none")
	}
	if err != nil {
		return consensus.Result{}, err
	}
	return answer.Result[0], answer.Result[0].Err()
}

// ReadParams is Client.ReadParams, without proofs: of the changes that made versions there is only who signed them.
func (l *Lane) ReadParams(ctx context.Context, ask ParamsAsk) (ParamsRead, error) {
	if err := ask.Ask.Check(); err != nil { // what is beyond all bounds would break the lane for others
		return ParamsRead{}, err
	}
	answer, err := l.ask(ctx, laneAsk{Read: []node.ParamsAsk{ask}})
	if err == nil && len(answer.Read) != 1 {
		err = fleet.Errorf(fleet.Internal, "the agent answers a read with none")
	}
	if err != nil {
		return ParamsRead{}, err
	}
	return answer.Read[0], nil
}

func (l *Lane) ask(ctx context.Context, ask laneAsk) (laneAnswer, error) {
	if len(ask.Entry) > consensus.MaxEntry {
		return laneAnswer{}, fleet.Errorf(fleet.Exhausted, "an entry of %d bytes; at most %d", len(ask.Entry), consensus.MaxEntry)
	}
	answer := make(chan laneAnswer, 1)
	l.mu.Lock()
	if l.broken != nil {
		defer l.mu.Unlock()
		return laneAnswer{}, l.broken
	}
	l.next++
	ask.ID = l.next
	l.asked[ask.ID] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.asked, ask.ID)
	}()
	if err := l.out.put(laneAsks{[]laneAsk{ask}}); err != nil {
		l.fail(fleet.Errorf(fleet.Unavailable, "the lane to the agent broke off: %w", err))
	}
	select {
	case got, ok := <-answer:
		if !ok {
			l.mu.Lock()
			defer l.mu.Unlock()
			return laneAnswer{}, l.broken
		}
		if len(got.Fail) > 0 {
			f := got.Fail[0]
			return laneAnswer{}, &fleet.Error{Kind: fleet.ParseKind(f.Kind), What: f.What, Hint: f.Hint}
		}
		return got, nil
	case <-ctx.Done():
		return laneAnswer{}, ctx.Err()
	}
}

func (l *Lane) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return
	}
	l.broken = err
	for id, answer := range l.asked {
		close(answer)
		delete(l.asked, id)
	}
	l.conn.Close()
}

// hear hands answers to those who wait.
func (l *Lane) hear(in *bufio.Reader) {
	for {
		var batch laneAnswers
		if err := readFrame(in, laneAnswering, &batch); err != nil {
			l.fail(fleet.Errorf(fleet.Unavailable, "the lane to the agent broke off: %w", err))
			return
		}
		l.mu.Lock()
		for _, answer := range batch.Answers {
			if waits, ok := l.asked[answer.ID]; ok {
				delete(l.asked, answer.ID)
				waits <- answer
			}
		}
		l.mu.Unlock()
	}
}
