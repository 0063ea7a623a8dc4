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
	record, _ := exec.AppendRecord(nil, fleet.ID{}, exec.RefusedRecord{Command: fleet.UUID{1}, Reason: "policy", Time: fl.Now})
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 16}, func(in []byte) { _, _, _, _ = exec.DecodeRecord(in, fleet.ID{}) },
		hostile.Join(hostile.Inputs(2*exec.MaxRecord, record), hostile.Corpus(t, "FuzzDecodeRecord")))
}
