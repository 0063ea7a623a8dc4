package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// A lane is one connection for many writes and reads at a time, without HTTP and JSON around each: frames of u32 length (big
// endian) and msgpack, {asks} there and {answers} back, each answer as soon as it is there.
type (
	laneAsks struct{ Asks []laneAsk }
	laneAsk  struct {
		ID    uint64
		Entry []byte           // an encoded consensus.Entry, or
		Read  []node.ParamsAsk // none or one
	}
	laneAnswers struct{ Answers []laneAnswer }
	laneAnswer  struct {
		ID     uint64
		Result []consensus.Result // none or one: of Entry
		Read   []node.ParamsRead  // none or one
		Fail   []laneFail         // none or one: there is no answer
	}
	laneFail struct{ Kind, What, Hint string }
)

// laneProtocol is what the connection is upgraded to.
const laneProtocol = "muster-lane/1"

const (
	laneFrame     = 1 << 20 // bytes of asks in one frame
	laneAnswering = 8 << 20 // bytes of answers in one frame, at most
	// laneUnderway bounds the asks of one lane that are worked on, each with an answer of up to half a megabyte; the agent
	// reads no more until one is answered. An account that is neither root nor the agent's own has fewer, and fewer lanes.
	laneUnderway      = 256
	laneUnderwayOther = 64
	lanesOther        = 2
	// laneBytes bounds the bytes of a lane's asks that are worked on: one with more than its part of them counts for as many.
	// laneAnswerSize is what a read of an account that is neither root nor the agent's own counts for besides: it may take its
	// answers slowly.
	laneBytes      = 4 << 20
	laneAnswerSize = 256 << 10
)

// lane serves a lane until the caller hangs up.
func (s *desk) lane(w http.ResponseWriter, r *http.Request) {
	who, err := s.laneCaller(r)
	if err == nil && r.Header.Get("Upgrade") != laneProtocol {
		err = fleet.Errorf(fleet.Invalid, "a lane is asked for with Upgrade: %s", laneProtocol)
	}
	most := laneUnderway
	if err == nil && who.other() {
		most = laneUnderwayOther
		if !s.takeLane(who.name) {
			err = fleet.Errorf(fleet.Exhausted, "%s has %d lanes to this agent, the most", who.name, lanesOther)
		} else {
			defer s.giveLane(who.name)
		}
	}
	if err != nil {
		fail(w, err)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fail(w, fleet.Errorf(fleet.Internal, "%w", err))
		return
	}
	defer conn.Close()
	defer context.AfterFunc(r.Context(), func() { conn.Close() })()
	if conn.SetDeadline(time.Time{}) != nil {
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+laneProtocol+"\r\n\r\n"); err != nil {
		return
	}
	s.serveLane(r.Context(), rw.Reader, conn, who, most)
}

// laneCaller is for whom a lane asks where a question has no signature.
type laneCaller struct {
	name   string           // of an account or an operator; empty: the node itself asks
	local  []node.LocalUser // the account; none: the node
	signed bool             // nothing is asked without a signature
}

// other reports whether it is neither root nor the agent's own account.
func (c laneCaller) other() bool { return c.name != "" }

func (s *desk) laneCaller(r *http.Request) (laneCaller, error) {
	if who, known := r.Context().Value(callerKey{}).(caller); known && who.operator != nil {
		return laneCaller{name: "the operator with key " + who.operator.Key.String(), signed: true}, nil
	}
	local, err := s.localUser(r)
	if err != nil || len(local) == 0 {
		return laneCaller{}, err
	}
	return laneCaller{name: local[0].Name, local: local}, nil
}

// signFor says for whom a question is asked. A name that came with it is passed over.
func (c laneCaller) signFor(question *node.ParamsAsk) error {
	question.Local = nil
	if len(question.Signed) > 0 {
		return nil
	}
	if c.signed {
		return fleet.Errorf(fleet.Denied, "from elsewhere, parameters are read with an operator's signature alone")
	}
	question.Local = c.local
	return nil
}

func (s *desk) takeLane(account string) bool {
	s.lanesMu.Lock()
	defer s.lanesMu.Unlock()
	if s.lanes[account] >= lanesOther {
		return false
	}
	if s.lanes == nil {
		s.lanes = map[string]int{}
	}
	s.lanes[account]++
	return true
}

func (s *desk) giveLane(account string) {
	s.lanesMu.Lock()
	defer s.lanesMu.Unlock()
	if s.lanes[account]--; s.lanes[account] == 0 {
		delete(s.lanes, account)
	}
}

func (s *desk) serveLane(ctx context.Context, in *bufio.Reader, conn net.Conn, who laneCaller, most int) {
	ctx, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer conn.Close()
	defer stop()
	out := &frames{conn: conn, to: bufio.NewWriterSize(conn, 64<<10)}
	slots := make(chan struct{}, most)
	for {
		var batch laneAsks
		if err := readFrame(in, laneFrame, &batch); err != nil {
			return
		}
		for _, ask := range batch.Asks {
			n := laneSlots(ask, who.other(), most)
			if !takeSlots(ctx, slots, n) {
				return
			}
			work.Go(func() {
				defer giveSlots(slots, n)
				if out.put(laneAnswers{[]laneAnswer{s.answerLane(ctx, ask, who)}}) != nil {
					stop()
					conn.Close()
				}
			})
		}
	}
}

// laneSlots returns how many of a lane's slots an ask takes.
func laneSlots(ask laneAsk, other bool, most int) int {
	size := len(ask.Entry)
	for _, read := range ask.Read {
		size += readSize(read)
		if other {
			size += laneAnswerSize
		}
	}
	return min(1+size/(laneBytes/most), most)
}

// readSize bounds what a question takes in memory, in bytes, roughly.
func readSize(ask node.ParamsAsk) int {
	size := 128 * (len(ask.Ask.Get) + len(ask.Ask.Path) + len(ask.Ask.List) + len(ask.Ask.History) + len(ask.Local))
	for _, e := range ask.Signed {
		size += 256 + len(e.Body)
	}
	for _, s := range ask.Ask.Get {
		size += len(s.Name) + len(s.Label)
	}
	filters := func(all []params.Filter) {
		for _, f := range all {
			size += 64
			for _, v := range f.Values {
				size += 16 + len(v)
			}
		}
	}
	for _, p := range ask.Ask.Path {
		filters(p.Filters)
	}
	for _, l := range ask.Ask.List {
		filters(l.Filters)
	}
	return size
}

// takeSlots waits for n slots, which one lane alone takes, one ask after another, or reports that ctx ended.
func takeSlots(ctx context.Context, slots chan struct{}, n int) bool {
	for i := range n {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			giveSlots(slots, i)
			return false
		}
	}
	return true
}

func giveSlots(slots chan struct{}, n int) {
	for range n {
		<-slots
	}
}

func (s *desk) answerLane(ctx context.Context, ask laneAsk, who laneCaller) laneAnswer {
	answer := laneAnswer{ID: ask.ID}
	var err error
	switch {
	case len(ask.Entry) > consensus.MaxEntry:
		err = fleet.Errorf(fleet.Exhausted, "an entry of %d bytes; at most %d", len(ask.Entry), consensus.MaxEntry)
	case len(ask.Read) == 1 && len(ask.Entry) == 0:
		question := ask.Read[0]
		if err = who.signFor(&question); err != nil {
			break
		}
		var read node.ParamsRead
		if read, err = s.backend.ReadParams(ctx, question); err == nil {
			answer.Read = []node.ParamsRead{unproven(read)}
		}
	case len(ask.Read) == 0:
		var result consensus.Result
		if result, err = s.proposeItem(ctx, ask.Entry); err == nil || result.Why != "" { // the fleet's refusal is an answer
			answer.Result, err = []consensus.Result{result}, nil
		}
	default:
		err = fleet.Errorf(fleet.Invalid, "an ask of a lane writes or reads, not both")
	}
	if err != nil {
		e := shape.OfError(err)
		answer.Fail = []laneFail{{e.Kind, e.What, e.Hint}}
	}
	return answer
}

// unproven returns what was read without the proofs: the agent has verified them, and who asks on a lane asks for thousands.
// Of each change only who signed it is left.
func unproven(read node.ParamsRead) node.ParamsRead {
	read.Answer.Items = slices.Clone(read.Answer.Items)
	for i := range read.Answer.Items {
		item := &read.Answer.Items[i]
		item.Change, item.Proof = auth.Envelope{Key: item.Change.Key}, nil
	}
	return read
}

// encodedBackend is a Backend that takes entries as they are encoded.
type encodedBackend interface {
	ProposeItem(ctx context.Context, item []byte) (consensus.Result, error)
}

func (s *desk) proposeItem(ctx context.Context, item []byte) (consensus.Result, error) {
	if b, ok := s.backend.(encodedBackend); ok {
		return b.ProposeItem(ctx, item)
	}
	entry, _, err := consensus.Decode(item)
	if err != nil {
		return consensus.Result{}, err
	}
	return s.backend.Propose(ctx, entry)
}

// frames writes frames of many goroutines; what they write while the last bytes go out goes out together.
type frames struct {
	conn    net.Conn
	waiting atomic.Int64
	mu      sync.Mutex
	to      *bufio.Writer
}

func (f *frames) put(body any) error {
	raw := wire.Marshal(body)
	head := binary.BigEndian.AppendUint32(nil, uint32(len(raw)))
	f.waiting.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.waiting.Add(-1) == 0
	if err := f.conn.SetWriteDeadline(time.Now().Add(lineTime)); err != nil {
		return err
	}
	if _, err := f.to.Write(head); err != nil {
		return err
	}
	if _, err := f.to.Write(raw); err != nil {
		return err
	}
	if !last {
		return nil // whoever waits flushes
	}
	return f.to.Flush()
}

// readFrame reads a frame of at most that many bytes. A length alone takes no memory.
func readFrame(in *bufio.Reader, most int, body any) error {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if uint64(size) > uint64(most) {
		return fleet.Errorf(fleet.Exhausted, "a frame of %d bytes; at most %d", size, most)
	}
	raw, err := io.ReadAll(io.LimitReader(in, int64(size)))
	if err != nil {
		return err
	}
	if len(raw) < int(size) {
		return io.ErrUnexpectedEOF
	}
	return wire.Unmarshal(raw, body)
}
