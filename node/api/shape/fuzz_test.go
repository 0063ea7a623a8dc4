package shape

import (
	"bytes"
	"testing"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

func someReport() exec.Report {
	return exec.Report{
		Command: fleet.UUID{1}, Node: fleet.Sum(nil), Seq: 3, Status: exec.Failed, ExitCode: 7, Signal: "killed", Received: 1, Started: 2, Ended: 3,
		Stdout: exec.Stream{Size: 5, Kept: 4, Digest: fleet.Sum(nil), Head: []byte{0xff, 0}, Tail: []byte("x")}, Detail: "why \xff", Act: 4, Rule: "r",
		Steps: []exec.StepReport{{Name: "a", Action: "b", Status: exec.Success, ExitCode: -1, Attempts: 1, Started: 2, Ended: 3, Stdout: exec.Span{To: 4}, Detail: "\xff"}},
	}
}

func someAnswer() node.Answer {
	head := auth.Header{ID: fleet.UUID{2}, Issued: 1_800_000_000_123, Expires: 1_800_000_000_124, Charter: fleet.Sum(nil), Act: 9, Mode: auth.ByQuorum}
	return node.Answer{
		Commands: []node.CommandInfo{{ID: head.ID, Operator: "alice", Act: 12, Committed: 5, Cancelled: 6, Nodes: []fleet.ID{fleet.Sum(nil)},
			Body: exec.Command{Header: head, Target: "*", Count: 1, Run: exec.Run{Argv: []string{"a"}, Script: []byte{0}, Env: []string{"A=1"}, Timeout: 5}}},
			{ID: head.ID, Operator: "alice", Body: exec.Command{
				Header: head, Count: 2, Run: exec.Run{Values: []exec.Argument{{Name: "a", Value: "1"}}}, Documents: []exec.DocumentRef{{Name: "Deploy", Version: 1}},
				Pace:    exec.Pace{Limited: true, Concurrency: 1, Errors: 2, Strict: true, Waves: []uint32{1, 2}, Gates: []fleet.UUID{{4}}, OnStop: fleet.UUID{5}},
				After:   exec.After{Command: fleet.UUID{6}, Wave: 1},
				Comment: "c", OutputTo: "syslog",
			}, Rollout: exec.Rollout{Nodes: []byte{0, 1}, Idle: 1, Running: 1, Granted: 1, Stopped: "gate"}, Cancels: []fleet.ID{fleet.Sum(nil)}}},
		Documents: []node.DocumentInfo{{Name: "Deploy", Default: 1, Last: 2, Count: 1, Versions: []node.DocumentVersion{{Number: 1, Digest: fleet.Sum(nil), Time: 3, Size: 4}}}},
		Version:   1, Text: []byte("text"),
		Tokens:   []node.TokenInfo{{ID: head.ID, Operator: "bob", Used: 2, Body: auth.Token{Header: head, Join: []byte{1}, Uses: 3, Tags: map[string]string{"a": "b"}}}},
		Requests: []consensus.OperatorRequest{{Nonce: fleet.UUID{3}, Name: "eve", Key: []byte{1}, HPKE: []byte{2}, Issued: 7}},
	}
}

// FuzzShape: whatever the servers answer can be written as JSON, and what was written is read the same. One lying node
// must not silence an answer.
func FuzzShape(f *testing.F) {
	f.Add(wire.Marshal(someReport()), true)
	f.Add(wire.Marshal(someAnswer()), false)
	late := someReport()
	late.Received, late.Started, late.Ended = -1<<63, 1<<62, auth.MaxTime+1
	f.Add(wire.Marshal(late), true)
	f.Fuzz(func(t *testing.T, data []byte, report bool) {
		if report {
			var r exec.Report
			if wire.Unmarshal(data, &r) != nil || r.Check() != nil {
				return
			}
			var back Update
			through(t, OfUpdate(node.Update{Report: &r}), &back)
			var again Update
			through(t, OfUpdate(back.Update()), &again)
			if !bytes.Equal(written(t, back), written(t, again)) {
				t.Fatalf("%+v is written again as %+v", back.Report, again.Report)
			}
			return
		}
		var a node.Answer
		if wire.Unmarshal(data, &a) != nil {
			return
		}
		var back, again Answer
		through(t, OfAnswer(a), &back)
		through(t, OfAnswer(back.Answer()), &again)
		if !bytes.Equal(written(t, back), written(t, again)) {
			t.Fatalf("%+v is written again as %+v", back, again)
		}
	})
}

func written(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := Marshal(v)
	if err != nil {
		t.Fatalf("%+v cannot be written: %v", v, err)
	}
	return raw
}

// through writes a shape and reads it.
func through(t *testing.T, v, back any) {
	t.Helper()
	raw := written(t, v)
	if err := Unmarshal(bytes.ToValidUTF8(raw, []byte("?")), back); err != nil {
		t.Fatalf("%s cannot be read: %v", raw, err)
	}
}

// FuzzAnswers: no agent's answer brings the command line down.
func FuzzAnswers(f *testing.F) {
	for _, v := range []any{OfStatus(node.Status{}), OfAnswer(someAnswer()), OfUpdate(node.Update{Synced: true}), OfNode(fleet.Member{Name: "a"}, 1),
		OfOutputHead(exec.OutputHead{Sum: exec.OutputSum{Size: 2, Kept: 1, Digest: fleet.Sum(nil)}, Ended: true}), OfDecisions([]exec.Decision{{At: 1, What: "policy"}}),
		OfGroups([]auth.Group{{Name: "a", Target: "b"}}), OfSettings([]auth.Setting{{Name: "a", Value: "b"}}), Failure{Error: Error{"denied", "no", "ask"}}} {
		raw, err := Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Status
		if Unmarshal(data, &s) == nil {
			if status, err := s.Status(); err == nil {
				OfStatus(status)
			}
		}
		var a Answer
		if Unmarshal(data, &a) == nil {
			OfAnswer(a.Answer())
		}
		var u Update
		if Unmarshal(data, &u) == nil {
			OfUpdate(u.Update())
		}
		var n Node
		if Unmarshal(data, &n) == nil {
			_, _ = n.Member()
		}
		var output OutputHead
		if Unmarshal(data, &output) == nil {
			OfOutputHead(output.Head())
		}
		var decisions []Decision
		if Unmarshal(data, &decisions) == nil {
			OfDecisions(Decisions(decisions))
		}
		var groups []Group
		if Unmarshal(data, &groups) == nil {
			OfGroups(Groups(groups))
		}
		var settings []Setting
		if Unmarshal(data, &settings) == nil {
			OfSettings(Settings(settings))
		}
		var failure Failure
		if Unmarshal(data, &failure) == nil && failure.Error.Err() == nil {
			t.Fatal("a failure that is none")
		}
	})
}

// TestMemory: an answer costs what it weighs.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 512}, func(in []byte) {
		var s Status
		var a Answer
		var u Update
		_, _, _ = Unmarshal(in, &s), Unmarshal(in, &a), Unmarshal(in, &u)
	}, hostile.Join(hostile.JSON(1<<18, "nodes", "commands", "report", "self"), hostile.Corpus(t, "FuzzAnswers")))
}
