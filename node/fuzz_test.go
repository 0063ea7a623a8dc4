package node

import (
	"bytes"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

func FuzzDecodeBell(f *testing.F) {
	w := newTown(5, 3)
	o := w.command("*", w.ids(0, 5), nil)
	f.Add(Bell{Kind: BellCommand, Statement: idOf(o), Act: 7, Holders: w.ids(0, 2), Rider: []auth.Envelope{o.Statement}}.Encode())
	f.Add(Bell{Kind: BellCancel, Statement: idOf(o), Act: 7, Rider: []auth.Envelope{w.cancel(idOf(o))}}.Encode())
	f.Add(Bell{Kind: BellTurn, Statement: idOf(o), Act: 7, Holders: w.ids(0, 1), Rider: []auth.Envelope{o.Statement}}.Encode())
	f.Add(Bell{Kind: BellRecord, Act: 7, Holders: w.ids(0, 1)}.Encode())
	f.Add([]byte{0x95, 1, 0xdd, 0xff, 0xff, 0xff, 0xff})
	h := w.settled(f, 3)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := DecodeBell(data)
		if err != nil {
			return
		}
		if !bytes.Equal(b.Encode(), data) {
			t.Fatal("accepted bytes that we would not have written")
		}
		for _, e := range h.node.Step(h.at, BellHeard{b}) {
			if run, ok := e.(StartRun); ok && run.Command.Header.ID != idOf(o) {
				t.Fatal("made-up bytes started a run")
			}
		}
	})
}

// maxEffects is more than any one event of these tests may bring about.
const maxEffects = 64

// newer is a node that has heard of one act and one command more than it holds, and both of them.
type newer struct {
	*host
	act    auth.Act
	order  exec.Order
	cancel auth.Envelope
	paper  exec.Order    // it lacks the document of this one
	text   auth.Envelope // which this is
}

func newNewer(t testing.TB) newer {
	w := newTown(5, 3)
	h := w.settled(t, 3)
	n := newer{host: h, act: w.take(w.TagNode(w.Nodes[4].ID, map[string]string{"role": "db"}, false))}
	n.order = w.command("*", w.ids(0, 5), nil)
	n.cancel = w.cancel(idOf(n.order))
	w.act++
	h.step(BeaconHeard{From: w.Nodes[0].ID, Envelope: w.beacon(0, nil)})
	h.step(bell(n.order, w.act, false, w.Nodes[1].ID))
	text, ref := w.publish(w.Operator, "hello", helloText)
	n.text, n.paper = text, w.command("*", w.ids(0, 5), func(c *exec.Command) {
		c.Header.Act, c.Run.Argv, c.Documents = 0, nil, []exec.DocumentRef{ref}
	})
	h.step(OrderFetched{From: w.Nodes[1].ID, Command: idOf(n.paper), Order: n.paper})
	h.step(OrdersFetched{From: w.Nodes[0].ID, Orders: []Committed{{Act: w.act, Order: n.paper}}})
	return n
}

// hear brings what a peer answered with, as the shell decodes it; nil if it is no answer.
func (n newer) hear(which uint8, data []byte) Event {
	peer := n.Nodes[1].ID
	switch which % 6 {
	case 0:
		var body []auth.Act
		if wire.Unmarshal(data, &body) == nil {
			return ActsFetched{From: n.Nodes[0].ID, Acts: body}
		}
	case 1:
		var o exec.Order
		if wire.Unmarshal(data, &o) == nil {
			return OrderFetched{From: peer, Command: idOf(n.order), Order: o}
		}
	case 2:
		var body []Committed
		if wire.Unmarshal(data, &body) == nil {
			return OrdersFetched{From: peer, Orders: body, Next: n.town.act}
		}
	case 3:
		var body []auth.Envelope
		if wire.Unmarshal(data, &body) == nil {
			return CancelFetched{Command: idOf(n.order), Cancel: body}
		}
	case 4:
		var e auth.Envelope
		if wire.Unmarshal(data, &e) == nil {
			return BeaconHeard{From: peer, Envelope: e}
		}
	case 5:
		var body []auth.Envelope
		if wire.Unmarshal(data, &body) == nil {
			return DocumentsFetched{From: peer, Command: idOf(n.paper), Statements: body}
		}
	}
	return nil
}

// Whatever peers answer: nothing runs that nobody signed, nothing is kept that the record's chain does not name, and one
// answer brings about a bounded number of things.
func FuzzFetched(f *testing.F) {
	n := newNewer(f)
	other := n.command("*", n.ids(0, 5), nil)
	f.Add(uint8(0), wire.Marshal([]auth.Act{n.act}))
	f.Add(uint8(0), wire.Marshal([]auth.Act{n.act, n.act}))
	f.Add(uint8(0), wire.Marshal(n.Acts))
	f.Add(uint8(1), n.order.Encode())
	f.Add(uint8(1), other.Encode())
	f.Add(uint8(2), wire.Marshal([]Committed{{Act: n.town.act, Order: n.order}, {Act: n.town.act + 1, Order: other, Cancel: []auth.Envelope{n.cancel}}}))
	f.Add(uint8(3), wire.Marshal([]auth.Envelope{n.cancel}))
	f.Add(uint8(4), wire.Marshal(n.beacon(1, func(b *auth.Beacon) { b.Act += 5; b.RecordLen += 5 })))
	f.Add(uint8(4), wire.Marshal(n.beacon(4, nil)))
	f.Add(uint8(2), []byte{0xdd, 0, 0, 0, 9, 0xc0, 0xc0, 0xc0})
	f.Add(uint8(5), wire.Marshal([]auth.Envelope{n.text}))
	f.Add(uint8(5), wire.Marshal([]auth.Envelope{n.cancel, n.order.Statement, {}}))
	signed := map[fleet.UUID]bool{idOf(n.order): true, idOf(other): true, idOf(n.paper): true}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		n := newNewer(t)
		ev := n.hear(which, data)
		if ev == nil {
			return
		}
		before := n.node.record
		out := n.step(ev)
		n.pass(time.Second)
		if len(out) > maxEffects {
			t.Fatalf("one answer brings about %d things: %v", len(out), kinds(out))
		}
		for _, run := range of[StartRun](out) {
			if !signed[run.Command.Header.ID] {
				t.Fatal("made-up bytes started a run")
			}
			if len(run.Documents) != len(run.Command.Documents) || len(run.Documents) == 1 && string(run.Documents[0]) != helloText {
				t.Fatal("it runs a document that nobody published")
			}
		}
		for _, kept := range of[KeepActs](out) {
			if len(kept.Acts) != 1 || !bytes.Equal(wire.Marshal(kept.Acts[0]), wire.Marshal(n.act)) {
				t.Fatalf("%d acts are kept that the fleet did not agree on", len(kept.Acts))
			}
		}
		if r := n.node.record; r.Length < before.Length || r.Length == before.Length && r.Head != before.Head {
			t.Fatal("the record went back")
		}
	})
}

// Whatever an operator signs: a read is for a short time; what others sign is none.
func FuzzRead(f *testing.F) {
	fl := authtest.Found("fuzz")
	good := Read{Header: fl.Header(ReadLife), What: ReadCommand, Arg: fleet.UUID{1}}
	long := good
	long.Header.Expires += 1
	f.Add(wire.Marshal(good), uint32(3))
	f.Add(wire.Marshal(long), uint32(99))
	f.Add(wire.Marshal(Read{What: "?"}), uint32(500))
	f.Fuzz(func(t *testing.T, body []byte, flip uint32) {
		e := fl.Sign(auth.ForRequest, msgpack.RawMessage(body))
		r, err := OpenRead(fl.Record, e, fl.Now)
		if err != nil {
			return
		}
		if life := r.Header.Expires - r.Header.Issued; !bytes.Equal(wire.Marshal(r), body) || r.Header.Expires == 0 || life > ReadLife.Milliseconds() {
			t.Fatalf("read %+v", r)
		}
		if _, err := OpenRead(fl.Record, e, time.UnixMilli(r.Header.Expires)); err == nil {
			t.Fatal("it is good for ever")
		}
		raw := wire.Marshal(e)
		raw[flip/8%uint32(len(raw))] ^= 1 << (flip % 8)
		var bent auth.Envelope
		if wire.Unmarshal(raw, &bent) == nil {
			if _, err := OpenRead(fl.Record, bent, fl.Now); err == nil {
				t.Fatalf("bit %d may change", flip)
			}
		}
		if _, err := OpenRead(fl.Record, fl.Nodes[0].Signer.Sign(auth.ForRequest, fl.ID(), msgpack.RawMessage(body)), fl.Now); err == nil {
			t.Fatal("a node reads as an operator")
		}
	})
}

// TestMemory: a bell costs what its packet weighs, and an answer what its frame does.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	n := newNewer(t)
	full := Bell{Kind: BellCommand, Statement: idOf(n.order), Act: 7, Holders: n.ids(0, 2), Rider: []auth.Envelope{n.order.Statement}}
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 32}, func(in []byte) {
		if b, err := DecodeBell(in); err == nil {
			n.node.Step(n.at, BellHeard{b})
		}
	}, hostile.Join(hostile.Inputs(2*MaxBell, full.Encode()), hostile.Corpus(t, "FuzzDecodeBell")))
	for which, sample := range [][]byte{
		wire.Marshal([]auth.Act{n.act}), n.order.Encode(), wire.Marshal([]Committed{{Act: 9, Order: n.order}}), wire.Marshal([]auth.Envelope{n.cancel}), wire.Marshal(n.beacon(1, nil)), wire.Marshal([]auth.Envelope{n.text}),
	} {
		hostile.Check(t, hostile.Bound{Base: 256 << 10, PerByte: 80}, func(in []byte) {
			if ev := n.hear(uint8(which), in); ev != nil {
				n.node.Step(n.at, ev)
			}
		}, hostile.Join(hostile.Some(3, hostile.Inputs(1<<16, sample)), hostile.Corpus(t, "FuzzFetched")))
	}
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 80}, func(in []byte) {
		var a Answer
		_ = wire.Unmarshal(in, &a)
	}, hostile.Inputs(1<<16, wire.Marshal(Answer{Commands: []CommandInfo{{Nodes: n.ids(0, 2)}}, Tokens: []TokenInfo{{}}})))
}
