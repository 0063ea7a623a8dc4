package quorum

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// rpc is a request as raft sends it.
func rpc(tb testing.TB, kind byte, body any) []byte {
	tb.Helper()
	out := bytes.NewBuffer([]byte{kind})
	handle := &codec.MsgpackHandle{}
	handle.TimeNotBuiltin = true
	if err := codec.NewEncoder(out, handle).Encode(body); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// largestAppend has as many entries as a leader sends at once.
func largestAppend(tb testing.TB) []byte {
	request := raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("a"), Addr: []byte("a")}, Term: 9, PrevLogEntry: 5, PrevLogTerm: 9, LeaderCommitIndex: 4}
	for i := range maxAppendEntries {
		entry := raft.Log{Index: uint64(6 + i), Term: 9, Data: encodeBatch([][]byte{[]byte("item")}), AppendedAt: time.Unix(1, 2)}
		entry.Extensions = seal(&entry)
		request.Entries = append(request.Entries, &entry)
	}
	return rpc(tb, 0, &request)
}

func streamSeeds(tb testing.TB) map[string][]byte {
	header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("a"), Addr: []byte("a")}
	snapshot := rpc(tb, kindSnapshot, &raft.InstallSnapshotRequest{RPCHeader: header, Term: 2, LastLogIndex: 7, Configuration: []byte("c"), Size: 5})
	return map[string][]byte{
		"append":    largestAppend(tb),
		"heartbeat": rpc(tb, 0, &raft.AppendEntriesRequest{RPCHeader: header, Term: 3}),
		"vote":      rpc(tb, 1, &raft.RequestVoteRequest{RPCHeader: header, Term: 3, LastLogIndex: 9, LeadershipTransfer: true}),
		"pre-vote":  rpc(tb, 4, &raft.RequestPreVoteRequest{RPCHeader: header, Term: 3}),
		"timeout":   rpc(tb, 3, &raft.TimeoutNowRequest{RPCHeader: header}),
		"snapshot":  append(snapshot, "state"...),
	}
}

// Every request that raft makes passes, whole and in pieces.
func TestRequestsOfRaftPass(t *testing.T) {
	for name, data := range streamSeeds(t) {
		r := requests{bulk: data[0] == kindSnapshot}
		for range 3 {
			for i := range data {
				if err := r.take(data[i : i+1]); err != nil {
					t.Fatalf("%s: byte %d: %v", name, i, err)
				}
			}
			if r.inside || r.raw != r.bulk {
				t.Fatalf("%s: %+v behind it", name, r)
			}
		}
	}
}

// reference reads requests as the counter should, with all of them at hand: how many whole ones there are, and whether
// the next is refused.
func reference(data []byte) (whole int, refused bool) {
	for len(data) > 0 {
		if data[0] == kindSnapshot {
			return whole, true
		}
		values, open := 0, 1
		data = data[1:]
		for ; open > 0; open-- {
			if len(data) == 0 {
				return whole, false
			}
			if values++; values > requestValues {
				return whole, true
			}
			b := data[0]
			field, payload, items := 0, uint64(0), uint64(0) // bytes of length, then what that means
			switch {
			case b >= 0x80 && b <= 0x8f:
				items = 2 * uint64(b&15)
			case b >= 0x90 && b <= 0x9f:
				items = uint64(b & 15)
			case b >= 0xa0 && b <= 0xbf:
				payload = uint64(b & 31)
			case b >= 0xc4 && b <= 0xdf:
				field = []int{1, 2, 4, 1, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4}[b-0xc4]
				payload = []uint64{0, 0, 0, 1, 1, 1, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17, 0, 0, 0, 0, 0, 0, 0}[b-0xc4]
			}
			if len(data) < 1+field {
				return whole, false
			}
			var length [8]byte
			copy(length[8-field:], data[1:1+field])
			if n := binary.BigEndian.Uint64(length[:]); b == 0xde || b == 0xdf {
				items = 2 * n
			} else if b == 0xdc || b == 0xdd {
				items = n
			} else {
				payload += n
			}
			if items > requestValues {
				return whole, true
			}
			if uint64(len(data)) < 1+uint64(field)+payload {
				return whole, false
			}
			data = data[1+uint64(field)+payload:]
			open += int(items)
		}
		whole++
	}
	return whole, false
}

// The counter never loses its place in the stream, however it is cut: whoever could make it take data for values, or
// values for data, could fill the memory behind its back.
func FuzzRequests(f *testing.F) {
	for _, data := range streamSeeds(f) {
		f.Add(data, uint8(1))
		f.Add(append(bytes.Clone(data), data...), uint8(7))
	}
	f.Add(append([]byte("\x00\x81\xa7Entries\xdd\x00\x10\x00\x00"), bytes.Repeat([]byte{0x80}, 1000)...), uint8(3))
	f.Add([]byte("\x01\xdf\xff\xff\xff\xff"), uint8(2))
	f.Add([]byte("\x00\xc9\x00\x00\x00\x02\x05ab\x04\xd8\x01aaaaaaaaaaaaaaaa\xcb\x00"), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		r, whole := requests{}, 0
		var err error
		for at := 0; at < len(data) && err == nil; at++ { // a byte at a time, to see the requests end
			was := r.inside
			if err = r.take(data[at : at+1]); was && !r.inside && err == nil {
				whole++
			}
		}
		if want, refused := reference(data); whole != want || (err != nil) != refused {
			t.Fatalf("%d requests, %v; %d, %v by the reference", whole, err, want, refused)
		}
		inPieces := requests{}
		var again error
		for rest := data; len(rest) > 0 && again == nil; {
			n := min(len(rest), int(piece)+1)
			again = inPieces.take(rest[:n])
			rest = rest[n:]
		}
		if (err == nil) != (again == nil) || err == nil && inPieces != r {
			t.Fatalf("in pieces %+v, %v; else %+v, %v", inPieces, again, r, err)
		}
	})
}

// closing tells when a connection is closed.
type closing struct {
	net.Conn
	once sync.Once
	done chan struct{}
}

func (c *closing) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

// receiver is raft's transport as peers reach it. It takes every request with an answer that says nothing.
type receiver struct {
	pipes *plumbing
	raft  *transport
	taken chan any
	work  sync.WaitGroup
	stop  chan struct{}
}

func newReceiver() *receiver {
	pipes := newPlumbing(Replica{id(1), 1}, nil)
	r := &receiver{pipes: pipes, raft: newTransport(pipes, time.Second, hclog.NewNullLogger()), taken: make(chan any, 1<<16), stop: make(chan struct{})}
	r.work.Go(func() {
		for {
			select {
			case <-r.stop:
				return
			case request := <-r.raft.NetworkTransport.Consumer():
				select {
				case r.taken <- request.Command:
				default:
				}
				request.Respond(&raft.AppendEntriesResponse{}, nil)
			}
		}
	})
	return r
}

func (r *receiver) close() {
	_ = r.raft.Close()
	close(r.stop)
	r.work.Wait()
}

// hear feeds bytes to the receiver as one stream of a peer, and returns when it is closed.
func (r *receiver) hear(data []byte, bulk bool) {
	near, far := net.Pipe()
	conn := &closing{Conn: near, done: make(chan struct{})}
	var work sync.WaitGroup
	work.Go(func() { _ = r.pipes.accept(conn, id(2), bulk) })
	work.Go(func() {
		buf := make([]byte, 4096)
		for {
			if _, err := far.Read(buf); err != nil {
				return
			}
		}
	})
	_, _ = far.Write(hello{1, 1}.encode())
	_, _ = far.Write(data)
	_ = far.Close()
	<-conn.done
	work.Wait()
}

// What a peer's stream brings raft is no more than what the counter saw, and the stream ends.
func FuzzRaftStream(f *testing.F) {
	for _, data := range streamSeeds(f) {
		f.Add(data, false)
		f.Add(data, true)
		f.Add(append(bytes.Clone(data), data...), data[0] == kindSnapshot)
	}
	f.Add([]byte("\x00\x81\xa7Entries\xdd\x00\x00\x00\x01\x81\xa4Data\xc6\xff\xff\xff\xff"), false)
	r := newReceiver()
	f.Cleanup(r.close)
	f.Fuzz(func(t *testing.T, data []byte, bulk bool) {
		r.hear(data, bulk)
		for {
			select {
			case command := <-r.taken:
				_, snapshot := command.(*raft.InstallSnapshotRequest)
				if snapshot != bulk {
					t.Fatalf("%T came by the wrong plane", command)
				}
				if a, ok := command.(*raft.AppendEntriesRequest); ok && len(a.Entries) > requestValues {
					t.Fatalf("%d entries", len(a.Entries))
				}
				continue
			default:
			}
			return
		}
	})
}

// One peer's requests share one budget, whatever stream they come by and whether they end; what is answered is free again.
func TestRequestsShareABudget(t *testing.T) {
	p := newPlumbing(Replica{id(1), 1}, nil)
	var all []*stream
	open := func(bulk bool) (*stream, net.Conn) {
		ours, theirs := newPipe()
		s := &stream{Conn: theirs, plumbing: p, peer: id(2), accepted: true, budget: requestBytes, greeted: true}
		if s.requests.bulk = bulk; bulk {
			s.budget = snapshotBytes
		}
		if err := p.keep(s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
		return s, ours
	}
	long := append([]byte("\x00\x81\xa4Data\xc6\x7f\xff\xff\xff"), make([]byte, requestBytes/4)...)
	send := func(s *stream, to net.Conn, data []byte) error {
		if _, err := to.Write(data); err != nil {
			return err
		}
		for got := 0; got < len(data); {
			n, err := s.Read(make([]byte, 1<<20))
			if err != nil {
				return err
			}
			got += n
		}
		return nil
	}
	for range 3 {
		s, to := open(false)
		if err := send(s, to, long); err != nil {
			t.Fatal(err)
		}
	}
	bulk, toBulk := open(true)
	head := append([]byte("\x02\x81\xadConfiguration\xc6\x7f\xff\xff\xff"), make([]byte, requestBytes/4)...)
	if err := send(bulk, toBulk, head); fleet.KindOf(err) != fleet.Exhausted {
		t.Fatalf("the fourth: %v", err)
	}
	if _, err := all[0].Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	_ = all[1].Close()
	last, to := open(false)
	if err := send(last, to, long); err != nil {
		t.Fatalf("once one was answered and two are gone: %v", err)
	}
	for _, s := range all {
		_ = s.Close()
	}
	if len(p.peers) != 0 || all[0].guest.unheard.Load() != 0 {
		t.Fatalf("%d bytes are still counted", all[0].guest.unheard.Load())
	}
	// A snapshot's own bytes count for nobody: they go to the disk.
	whole, toWhole := open(true)
	if err := send(whole, toWhole, append(streamSeeds(t)["snapshot"], make([]byte, requestBytes)...)); err != nil {
		t.Fatal(err)
	}
}

// TestMemory: a server that turned bad costs the others no more than the bytes it sends, on whatever plane.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	r := newReceiver()
	defer r.close()
	entries := func(item string) []byte {
		return append([]byte("\x00\x81\xa7Entries\xdd\x00\x0f\x00\x00"), bytes.Repeat([]byte(item), 0xf0000/len(item))...)
	}
	planted := func(yield func(string, []byte) bool) {
		for name, in := range map[string][]byte{
			"empty entries": entries("\x80"), "nil entries": entries("\xc0"), "small entries": entries("\x81\xa4Term\x01"), "nested": entries("\x91"),
			"a key of 4 GiB":  append([]byte("\x00\x81\xdb\xff\xff\xff\xff"), make([]byte, 1<<20)...),
			"data of 4 GiB":   append([]byte("\x00\x81\xa7Entries\x91\x81\xa4Data\xc6\xff\xff\xff\xff"), make([]byte, 1<<20)...),
			"4 billion votes": append([]byte("\x01\xdf\xff\xff\xff\xff"), bytes.Repeat([]byte{0xa0}, 1<<20)...),
			"hidden requests": append([]byte("\x00\x80"), bytes.Repeat([]byte("\x00\x81\xa7Entries\xdc\x03\xff"), 1<<12)...),
		} {
			if !yield(name, in) {
				return
			}
		}
	}
	for _, bulk := range []bool{false, true} {
		kind := byte(0)
		if bulk {
			kind = kindSnapshot
		}
		behind := func(yield func(string, []byte) bool) {
			for _, seed := range streamSeeds(t) {
				for name, in := range hostile.Some(11, hostile.Inputs(1<<14, seed[1:])) {
					if !yield(name, append([]byte{kind}, in...)) {
						return
					}
				}
			}
		}
		// A stream has a buffer of 256 KiB; what a decoder keeps while it reads long bytes doubles.
		hostile.Check(t, hostile.Bound{Base: 1 << 20, PerByte: 16}, func(in []byte) { r.hear(in, bulk) },
			hostile.Join(planted, behind, hostile.Corpus(t, "FuzzRaftStream"), hostile.Corpus(t, "FuzzRequests")))
	}
	batch := encodeBatch([][]byte{[]byte("a"), {}, []byte("b")})
	first := func(with byte, inputs func(func(string, []byte) bool)) func(func(string, []byte) bool) {
		return func(yield func(string, []byte) bool) {
			for name, in := range inputs {
				if !yield(name, append([]byte{with}, in...)) {
					return
				}
			}
		}
	}
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 80}, func(in []byte) { _, _ = decodeBatch(in) },
		hostile.Join(first(batchFormat, hostile.Inputs(1<<16, batch[1:])), hostile.Corpus(t, "FuzzDecodeBatch")))
}
