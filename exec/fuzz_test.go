package exec_test

import (
	"bytes"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// fullReport is a report with something in each field.
func fullReport(f *authtest.Fleet) exec.Report {
	out := exec.Stream{Size: 1 << 40, Kept: 1 << 30, Digest: fleet.Sum([]byte("out")), Head: []byte("head\n"), Tail: []byte("tail\n")}
	return exec.Report{
		Command: f.NewID(), Node: f.Nodes[0].ID, Seq: 3, Status: exec.Failed, ExitCode: 137, Signal: "killed", Received: 1, Started: 2, Ended: 3,
		Stdout: out, Stderr: exec.Stream{Size: 2, Kept: 2, Head: []byte("no")}, Detail: "why", Charter: f.Record.Charter.Head(), Act: 7, Rule: "root-operators-do-everything",
		Steps: []exec.StepReport{
			{Name: "greet", Action: "aws:runShellScript", Status: exec.Success, Attempts: 2, Started: 2, Ended: 3, Stdout: exec.Span{To: 7}, Stderr: exec.Span{From: 1, To: 2}},
			{Name: "go", Status: exec.Skipped, ExitCode: -1, Detail: "not for this host"},
		},
	}
}

// Whatever a node signs, its report is of its own runs and within bounds; what others sign or change is none.
func FuzzReport(f *testing.F) {
	fl := authtest.Found("fuzz")
	self, full := fl.Nodes[0], fullReport(fl)
	web := fl.AddNode("web-1", nil, nil)
	other := full
	other.Node = web.ID
	f.Add(wire.Marshal(full), uint32(0))
	f.Add(wire.Marshal(other), uint32(1000))
	f.Add(wire.Marshal(exec.Report{Node: self.ID, Seq: 1, Status: exec.Unknown}), uint32(77))
	f.Add(wire.Marshal(exec.Report{Node: self.ID, Seq: 1, Status: exec.Success, Stdout: exec.Stream{Size: -1, Head: make([]byte, 100)}}), uint32(77))
	f.Fuzz(func(t *testing.T, body []byte, flip uint32) {
		e := self.Signer.Sign(auth.ForReport, fl.ID(), msgpack.RawMessage(body))
		r, err := exec.OpenReport(fl.Record, e)
		if err != nil {
			return
		}
		if !bytes.Equal(wire.Marshal(r), body) || r.Node != self.ID || r.Check() != nil || len(body) > exec.MaxReport {
			t.Fatalf("report %+v", r)
		}
		for _, s := range []exec.Stream{r.Stdout, r.Stderr} {
			if s.Gap() < 0 || s.Kept > s.Size {
				t.Fatalf("stream of %d, %d kept, %d missing", s.Size, s.Kept, s.Gap())
			}
		}
		if exec.Supersedes(r, r) || !exec.Supersedes(exec.Report{}, r) || exec.Supersedes(full, r) && exec.Supersedes(r, full) {
			t.Fatalf("%+v takes the place of itself, or both of each other", r)
		}
		raw := wire.Marshal(e)
		raw[flip/8%uint32(len(raw))] ^= 1 << (flip % 8)
		var bent auth.Envelope
		if wire.Unmarshal(raw, &bent) == nil {
			if _, err := exec.OpenReport(fl.Record, bent); err == nil {
				t.Fatalf("bit %d may change", flip)
			}
		}
		if _, err := exec.OpenReport(fl.Record, web.Signer.Sign(auth.ForReport, fl.ID(), msgpack.RawMessage(body))); err == nil {
			t.Fatal("another node reports for it")
		}
	})
}

// Whatever an operator signs as a document, or as a change or a cancel: it means one thing, and is in order or refused.
func FuzzStatements(f *testing.F) {
	fl := authtest.Found("fuzz")
	head := fl.Header(exec.PublishLife)
	f.Add(uint8(0), wire.Marshal(exec.Publication{Header: head, Name: "greet", VersionName: "v1", Text: []byte(plainText)}))
	f.Add(uint8(1), wire.Marshal(exec.DocumentChange{Header: head, Name: "greet", Default: 2}))
	f.Add(uint8(1), wire.Marshal(exec.DocumentChange{Header: head, Name: "greet", Delete: true, Version: 1}))
	f.Add(uint8(2), wire.Marshal(exec.Cancel{Header: head, Command: fleet.UUID{1}, Nodes: []fleet.ID{{1}, {2}}}))
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		raw := msgpack.RawMessage(body)
		switch which % 3 {
		case 0:
			e := fl.Sign(auth.ForDocument, raw)
			p, key, err := exec.OpenPublication(fl.Record.Charter, e)
			if err != nil {
				return
			}
			if !bytes.Equal(wire.Marshal(p), body) || p.CheckFace() != nil || key != (exec.DocumentRef{Name: p.Name, Digest: fleet.Sum(p.Text)}).Key() {
				t.Fatalf("%+v", p)
			}
			cmd := exec.Command{Documents: []exec.DocumentRef{p.Ref(1)}}
			v, texts, err := exec.JudgeDocuments(exec.Verdict{Command: cmd, Signer: fl.Operator.ID(), Status: exec.Pending}, []auth.Envelope{e}, fl.Record, fl.Member(fl.Nodes[0].ID), fl.Now)
			if err == nil && (v.Status == exec.Pending) != (p.Check() == nil) || v.Status == exec.Pending && err == nil && !bytes.Equal(texts[0], p.Text) {
				t.Fatalf("%s (%s), %v", v.Status, v.Reason, err)
			}
		case 1:
			c, err := auth.Open[exec.DocumentChange](fl.Sign(auth.ForDocumentChange, raw), auth.ForDocumentChange, fl.ID(), fl.Operator.Public())
			if err == nil && c.Check() == nil && c.Delete == (c.Default != 0) {
				t.Fatalf("%+v", c)
			}
		case 2:
			c, err := exec.JudgeCancel(fl.Sign(auth.ForCancel, raw), fl.Record, fl.Member(fl.Nodes[0].ID), fl.Now)
			if err == nil && !c.Concerns(fl.Nodes[0].ID) {
				t.Fatalf("obeys %+v", c)
			}
		}
	})
}

// Whatever is read as a rollout and passes its check keeps its bounds from there on.
func FuzzRollout(f *testing.F) {
	cmd := exec.Command{Count: 6, Pace: exec.Pace{Limited: true, Concurrency: 3, Errors: 1, Strict: true, Waves: []uint32{2, 6}}}
	r, _ := exec.NewRollout(cmd).Grant(cmd.Pace, []uint32{0, 1})
	f.Add(wire.Marshal(r), []byte{0, 1, 2, 3})
	f.Add(wire.Marshal(r.End(cmd.Pace, []exec.Ending{{Node: 0, As: exec.EndedOK}, {Node: 1, As: exec.EndedFailed}})), []byte{9, 17})
	f.Add(wire.Marshal(r.Stop(exec.StoppedByCancel)), []byte{})
	f.Fuzz(func(t *testing.T, data, acts []byte) {
		var r exec.Rollout
		if wire.Unmarshal(data, &r) != nil || r.Check(cmd) != nil {
			return
		}
		for _, act := range acts {
			node, kind := uint32(act%8), exec.EndKind(act/8%6)
			if next, err := r.Grant(cmd.Pace, []uint32{node}); kind == 0 && err == nil {
				r = next
			}
			r = r.End(cmd.Pace, []exec.Ending{{Node: node, As: kind}})
			if err := r.Check(cmd); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestMemory: an order, a report or a record costs what it weighs.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	fl := authtest.Found("memory")
	self := fl.Member(fl.Nodes[0].ID)
	good, report := order(fl, fl.Operator, []fleet.ID{self.ID}, nil), fullReport(fl)
	judge := func(o exec.Order) {
		_, _, _ = o.Verify(fl.Record.Charter, fl.Now)
		_, _ = exec.Judge(o, fl.Record, self, fl.Now)
	}
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 64}, func(in []byte) {
		var o exec.Order
		if wire.Unmarshal(in, &o) == nil {
			judge(o)
		}
	}, hostile.Join(hostile.Inputs(1<<17, good.Encode()), hostile.Corpus(t, "FuzzOrderVerify")))
	hostile.Check(t, hostile.Bound{Base: 128 << 10, PerByte: 256}, func(in []byte) { judge(exec.Order{Statement: signRaw(fl, in), Nodes: good.Nodes}) },
		hostile.Join(hostile.Inputs(exec.MaxCommand+1, good.Statement.Body), hostile.Corpus(t, "FuzzOrderVerify")))
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 64}, func(in []byte) {
		_, _ = exec.OpenReport(fl.Record, fl.Nodes[0].Signer.Sign(auth.ForReport, fl.ID(), msgpack.RawMessage(in)))
	}, hostile.Join(hostile.Inputs(exec.MaxReport+1, wire.Marshal(report)), hostile.Corpus(t, "FuzzReport")))
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 64}, func(in []byte) {
		_, _, _ = exec.OpenPublication(fl.Record.Charter, fl.Sign(auth.ForDocument, msgpack.RawMessage(in)))
	}, hostile.Some(3, hostile.Inputs(exec.MaxPublication+1, publish(fl, fl.Operator, "greet", plainText).Body)))
	record, _ := exec.AppendRecord(nil, fleet.ID{}, exec.RefusedRecord{Command: fleet.UUID{1}, Reason: "policy", Time: fl.Now})
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 16}, func(in []byte) { _, _, _, _ = exec.DecodeRecord(in, fleet.ID{}) },
		hostile.Join(hostile.Inputs(2*exec.MaxRecord, record), hostile.Corpus(t, "FuzzDecodeRecord")))
}
