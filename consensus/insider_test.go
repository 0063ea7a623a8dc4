package consensus

import (
	"bytes"
	"slices"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// entryOf makes an entry of bytes that an operator signed as they are; nil if there is none.
func entryOf(q *quorum, which uint8, body []byte) Entry {
	signed := func(purpose auth.Purpose) auth.Envelope { return q.Sign(purpose, msgpack.RawMessage(body)) }
	switch which % 12 {
	case 0:
		return PutToken{signed(auth.ForToken)}
	case 1:
		return DeleteToken{signed(auth.ForTokenDelete)}
	case 2:
		nodes := ids(q.Nodes...)
		return PutCommand{signed(auth.ForCommand), exec.SortIDs(nodes)}
	case 3:
		return PutCancel{signed(auth.ForCancel)}
	case 4:
		var r OperatorRequest
		if wire.Unmarshal(body, &r) != nil {
			return nil
		}
		return PutRequest{r}
	case 5:
		return PutDocument{signed(auth.ForDocument)}
	case 6:
		return ChangeDocument{signed(auth.ForDocumentChange)}
	case 7:
		return PutAct{Kind: auth.ActGroup, Data: wire.Marshal(signed(auth.ForGroup))}
	case 8:
		return PutAct{Kind: auth.ActSetting, Data: wire.Marshal(signed(auth.ForSetting))}
	}
	switch which % 12 {
	case 9:
		return paramsOf(q, body, params.PlainContent([]byte("one")).Encode())
	case 10:
		e := q.set("/app/new", "one", nil)
		e.op.Salt, e.op.Put[0].Born = fleet.UUID{1}, q.Now.UnixMilli()
		return paramsOf(q, wire.Marshal(e.op), body)
	}
	return PutAct{Kind: auth.ActNodeTags, Data: wire.Marshal(signed(auth.ForNodeTags))}
}

// paramsOf makes a change of one encoded operation; if it puts anything, then content.
func paramsOf(q *quorum, body, content []byte) Entry {
	var contents [][]byte
	if op, err := params.DecodeOp(body); err == nil && len(op.Put) > 0 {
		op.Put[0].Digest = fleet.Sum(content)
		body, contents = wire.Marshal(op), [][]byte{content}
	}
	header := auth.Header{ID: fleet.UUID{1}, Issued: q.Now.UnixMilli(), Charter: q.s.Record.Charter.Head(), Mode: auth.ByQuorum}
	header.Expires = header.Issued + params.ChangeLife
	change := params.Change{Header: header, Ops: []fleet.ID{fleet.Sum(body)}}
	return PutParams{q.Sign(auth.ForParams, change), [][]byte{body}, contents}
}

// Whatever an operator signs and the quorum agrees on: it comes to one result, and the state that it makes can be
// written down and read back.
func FuzzEntryContent(f *testing.F) {
	q := busy(f)
	token := q.NewToken(3, func(t *auth.Token) { t.Tags, t.Pattern = map[string]string{"role": "web"}, "w*" })
	put := q.command(ids(q.Nodes...), func(c *exec.Command) { c.Run.Env = []string{"A=b"} })
	standing := q.s.Commands(1)[0].Body.Header.ID
	f.Add(uint8(0), token.Statement.Body)
	f.Add(uint8(1), wire.Marshal(auth.DeleteToken{Header: q.Header(0), Token: q.s.Tokens()[0].Body.Header.ID}))
	f.Add(uint8(2), put.Statement.Body)
	f.Add(uint8(3), wire.Marshal(exec.Cancel{Header: q.Header(exec.MaxExpires), Command: standing}))
	f.Add(uint8(4), wire.Marshal(q.request("eve").Request))
	paced := q.command(ids(q.Nodes...), limited(exec.Pace{Concurrency: 1, Errors: 1, Waves: []uint32{uint32(len(q.Nodes))}}))
	f.Add(uint8(2), paced.Statement.Body)
	f.Add(uint8(2), q.command(ids(q.Nodes...), func(c *exec.Command) {
		c.Pace.Limited, c.After = true, exec.After{Command: fleet.UUID{9}, Wave: 1}
	}).Statement.Body)
	f.Add(uint8(3), q.cancelOn(standing, q.Nodes[0].ID).Statement.Body)
	f.Add(uint8(5), q.document("third", "text").Statement.Body)
	f.Add(uint8(6), q.changeDocument("greet", func(c *exec.DocumentChange) { c.Delete, c.Version = true, 1 }).Statement.Body)
	f.Add(uint8(7), wire.Marshal(auth.GroupChange{Header: q.Header(0), Name: "canary", Target: "tag.role=web and not web-1"}))
	f.Add(uint8(8), wire.Marshal(auth.SettingChange{Header: q.Header(0), Name: auth.SettingOutputTo, Value: "s3://bucket/x"}))
	for _, e := range []edit{
		q.set("/app/a", "one", func(p *params.Put) { p.Labels, p.Seq = []string{"x"}, 2 }), q.unset("/app/b"), q.labelled("/app/b", 1, "x"),
		q.set("/app/new", "one", expiring(q, 1)), q.secret(f, "/app/secret", "s3cret", params.Recipient{Reader: params.Reader{Kind: params.ByRecovery}, Public: q.s.Record.Charter.Recovery()}),
	} {
		e.op.Salt = fleet.UUID{1}
		if len(e.op.Put) > 0 && e.op.Put[0].Born == 0 {
			e.op.Put[0].Born = q.Now.UnixMilli()
		}
		f.Add(uint8(9), wire.Marshal(e.op))
	}
	f.Add(uint8(10), params.PlainContent([]byte("two")).Encode())
	f.Add(uint8(11), wire.Marshal(auth.NodeTags{Header: q.Header(0), Node: q.Nodes[0].ID, Seq: 1, Tags: map[string]string{"a": "b"}, Server: true}))
	digest, now := q.s.Digest(), q.Now.UnixMilli()
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		e := entryOf(q, which, body)
		if e == nil {
			return
		}
		next, r := q.s.Apply(e, now)
		if prepared, second := q.s.ApplyPrepared(q.s.Prepare(Encode(e, now))); second != r || prepared.Digest() != next.Digest() {
			t.Fatalf("%T came to %+v, and prepared to %+v", e, r, second)
		}
		if q.s.Digest() != digest {
			t.Fatalf("%T changed an old state", e)
		}
		if r.Err() != nil {
			if next.Act != q.s.Act {
				t.Fatalf("refused %T took an act index", e)
			}
			return
		}
		checkCounts(t, next)
		var out bytes.Buffer
		if err := next.WriteSnapshot(&out); err != nil {
			t.Fatal(err)
		}
		back, err := ReadSnapshot(bytes.NewReader(out.Bytes()))
		if err != nil || back.Digest() != next.Digest() {
			t.Fatalf("what %T makes cannot be read back: %v", e, err)
		}
		if _, again := back.Apply(e, now+1); again != r && again.Err() == nil {
			t.Fatalf("repeated, %T comes to %+v after %+v", e, again, r)
		}
	})
}

// TestMemory: an entry costs what it weighs, a snapshot no more than its largest record before anything of it is there.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	q := busy(t)
	var samples [][]byte
	for _, e := range oneOfEach(q) {
		samples = append(samples, Encode(e, q.Now.UnixMilli()))
	}
	framed := func(yield func(string, []byte) bool) {
		for _, sample := range samples {
			for name, in := range hostile.Inputs(1<<15, sample[2:]) {
				if !yield(name, append([]byte{sample[0], sample[1]}, in...)) {
					return
				}
			}
		}
	}
	hostile.Check(t, hostile.Bound{Base: 512 << 10, PerByte: 80}, func(in []byte) {
		if e, now, err := Decode(in); err == nil {
			q.s.Apply(e, now)
		}
	}, hostile.Join(hostile.Some(31, framed), hostile.Corpus(t, "FuzzDecodeEntry")))
	signed := func(yield func(string, []byte) bool) {
		for which, body := range map[byte][]byte{
			0: q.NewToken(3, nil).Statement.Body, 2: q.command(ids(q.Nodes...), nil).Statement.Body, 4: wire.Marshal(q.request("eve").Request),
			5: q.document("third", "text").Statement.Body, 9: q.change(q.set("/app/new", "one", nil)).Ops[0], 10: params.PlainContent([]byte("two")).Encode(), 7: wire.Marshal(auth.GroupChange{Header: q.Header(0), Name: "web", Target: "tag.role=web"}),
		} {
			for name, in := range hostile.Inputs(1<<14, body) {
				if !yield(name, append([]byte{which}, in...)) {
					return
				}
			}
		}
	}
	hostile.Check(t, hostile.Bound{Base: 512 << 10, PerByte: 256}, func(in []byte) {
		if len(in) > 0 {
			if e := entryOf(q, in[0], in[1:]); e != nil {
				q.s.Apply(e, q.Now.UnixMilli())
			}
		}
	}, hostile.Some(19, signed))

	whole := snapshot(t, q.s)
	frames, _ := split(whole)
	resealed := func(yield func(string, []byte) bool) {
		for i := range frames {
			for name, in := range hostile.Inputs(1<<13, frames[i].body) {
				bent := slices.Clone(frames)
				bent[i].body = in
				if !yield(name, sealed(bent)) {
					return
				}
			}
		}
	}
	hostile.Check(t, hostile.Bound{Base: 2*MaxEntry + 512<<10, PerByte: 256}, func(in []byte) { _, _ = ReadSnapshot(bytes.NewReader(in)) },
		hostile.Join(hostile.Some(11, hostile.Inputs(1<<15, whole)), hostile.Some(211, resealed), hostile.Corpus(t, "FuzzSnapshot")))
}
