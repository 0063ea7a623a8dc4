package consensus

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/params"
)

// value is what benchmarks put: 256 bytes.
var benchValue = strings.Repeat("v", 256)

// fast applies a change without its signature having been made or checked: a benchmark of a large state would spend minutes
// on that.
func (q *quorum) fast(t testing.TB, edits ...edit) {
	t.Helper()
	e := q.change(edits...)
	item, now, err := Decode(Encode(e, q.Now.UnixMilli())) // each part with memory of its own, as from the log
	if err != nil {
		t.Fatal(err)
	}
	p := prepared(item, now)
	o := &p.opened
	o.key, o.fleet = q.Operator.Public(), q.ID()
	if o.change, err = peekChange(e); err == nil {
		o.ops, err = o.change.Open(item.(PutParams).Ops)
	}
	if err != nil {
		t.Fatal(err)
	}
	var r Result
	if q.s, r = q.s.ApplyPrepared(p); r.Err() != nil {
		t.Fatal(r.Err())
	}
}

// full returns a quorum with n parameters of so many versions, each by a change of its own.
func full(t testing.TB, n, versions int) *quorum {
	q := founded("full")
	for range versions {
		for i := range n {
			q.fast(t, q.set(fmt.Sprintf("/app/service-%d/setting-%d", i%100, i), benchValue, func(p *params.Put) { p.Tier = params.Advanced }))
		}
	}
	return q
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemoryOf10000Parameters prints what a parameter of 256 bytes takes beside the 256: with its event, and with what
// is remembered of its statement.
func BenchmarkMemoryOf10000Parameters(b *testing.B) {
	before := heap()
	q := full(b, 10_000, 1)
	b.ReportMetric(float64(heap()-before)/10_000, "bytes/parameter")
	b.ReportMetric(float64(q.s.ParamBytes())/10_000, "weight/parameter")
	b.ReportMetric(0, "ns/op")
	runtime.KeepAlive(q)
}

// BenchmarkApplyPut applies changes of one parameter, and of as many as one writer signs at once; a change's time is said for
// each of its operations.
func BenchmarkApplyPut(b *testing.B) {
	for _, ops := range []int{1, 64} {
		b.Run(fmt.Sprint("of-", ops), func(b *testing.B) { benchmarkPuts(b, ops) })
	}
}

func benchmarkPuts(b *testing.B, ops int) {
	q := founded("bench")
	const n = 64
	items := make([][]byte, n)
	for i := range items {
		edits := make([]edit, ops)
		for j := range edits {
			edits[j] = q.set(fmt.Sprint("/app/p-", i*ops+j), benchValue, nil)
		}
		items[i] = Encode(q.change(edits...), q.Now.UnixMilli())
	}
	var ready []Prepared
	for _, item := range items {
		ready = append(ready, q.s.Prepare(item))
	}
	each := func(name string, do func(s State, i int) (State, Result)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			s := q.s
			for i := 0; b.Loop(); i++ {
				if i%n == 0 {
					s = q.s
				}
				var r Result
				if s, r = do(s, i%n); r.Err() != nil {
					b.Fatal(r.Err())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*ops), "ns/put")
		})
	}
	each("whole", func(s State, i int) (State, Result) {
		e, now, _ := Decode(items[i])
		return s.Apply(e, now)
	})
	each("prepare", func(s State, i int) (State, Result) {
		s.Prepare(items[i])
		return s, Result{}
	})
	each("prepared", func(s State, i int) (State, Result) { return s.ApplyPrepared(ready[i]) })
}

// BenchmarkSnapshotOf100000Parameters writes and reads 100,000 parameters of three versions, and prints what a snapshot
// weighs and how much more memory reading takes than what it leaves.
func BenchmarkSnapshotOf100000Parameters(b *testing.B) {
	before := heap()
	q := full(b, 100_000, 3)
	whole := heap() - before
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if err := q.s.WriteSnapshot(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(whole)/1e6, "MB")
	})
	data := snapshot(b, q.s)
	digest := q.s.Digest()
	q = nil
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			s, err := ReadSnapshot(bytes.NewReader(data))
			if err != nil || s.Digest() != digest {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(data))/1e6, "MB")
	})
}
