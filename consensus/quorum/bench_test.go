package quorum

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// Propose and Read over in-process pipes and real files, 256-byte items.
func BenchmarkPropose(b *testing.B) {
	item := bytes.Repeat([]byte("x"), 256)
	benchmark(b, func(x *node) error { _, err := x.Propose(b.Context(), item); return err })
}

func BenchmarkRead(b *testing.B) {
	benchmark(b, func(x *node) error { return x.Read(b.Context()) })
}

func benchmark(b *testing.B, act func(*node) error) {
	for _, replicas := range []int{1, 3} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("replicas=%d/clients=%d", replicas, clients), func(b *testing.B) {
				f := newFabric(b)
				defer f.stopAll()
				leader := f.grow(replicas, 0)[0]
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ResetTimer()
				var work sync.WaitGroup
				for range clients {
					work.Go(func() {
						for left.Add(-1) >= 0 {
							if err := act(leader); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				work.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
			})
		}
	}
}
