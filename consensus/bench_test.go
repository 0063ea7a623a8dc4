package consensus

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// crowd returns a quorum of n nodes and a token for more.
func crowd(b *testing.B, n int) (*quorum, []fleet.ID) {
	b.Helper()
	q := founded("bench")
	token := q.NewToken(auth.MaxTokenUses, nil)
	q.mustPut(b, PutToken{token.Statement})
	set := ids(q.Nodes...)
	for i := range n - 1 {
		node := q.NewNode(fmt.Sprint("web-", i))
		q.mustPut(b, q.enrol(token, node))
		set = append(set, node.ID)
	}
	q.log = nil
	return q, exec.SortIDs(set)
}

func BenchmarkApplyCommandFor1000Nodes(b *testing.B) {
	q, set := crowd(b, 1000)
	e, now := q.command(set, nil), q.Now.UnixMilli()
	b.ReportAllocs()
	for b.Loop() {
		if _, r := q.s.Apply(e, now); r.Err() != nil {
			b.Fatal(r.Why)
		}
	}
}

func BenchmarkApplyCancelFor1000Nodes(b *testing.B) {
	q, set := crowd(b, 1000)
	command, now := q.command(set, nil), q.Now.UnixMilli()
	q.mustPut(b, command)
	e := q.cancel(commandID(command))
	b.ReportAllocs()
	for b.Loop() {
		if _, r := q.s.Apply(e, now); r.Err() != nil {
			b.Fatal(r.Why)
		}
	}
}

func BenchmarkApplyEnrolment(b *testing.B) {
	q, _ := crowd(b, 100)
	token := q.NewToken(1, nil)
	q.mustPut(b, PutToken{token.Statement})
	e, now := q.enrol(token, q.NewNode("late")), q.Now.UnixMilli()
	b.ReportAllocs()
	for b.Loop() {
		if _, r := q.s.Apply(e, now); r.Err() != nil {
			b.Fatal(r.Why)
		}
	}
}

func BenchmarkWriteSnapshotOf10000Nodes(b *testing.B) {
	q, _ := crowd(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if err := q.s.WriteSnapshot(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(snapshot(b, q.s)))/10_000, "bytes/node")
}

func BenchmarkReadSnapshotOf10000Nodes(b *testing.B) {
	q, _ := crowd(b, 10_000)
	data := snapshot(b, q.s)
	for b.Loop() {
		if _, err := ReadSnapshot(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
