package slowlink

import (
	"container/heap"
	"context"
	"io"
	"time"
)

// Bounds of what waits on a cable. More packets are lost, as they are on a real one.
const (
	MaxWaiting = 20_000
	mtu        = 65_535 // bytes; the kernel never gives more at once
)

// Run takes packets from a device and gives them back when their time has come, until ctx ends or the device fails. Each
// read and each write is one packet. Ending ctx does not end a read: close the device.
func Run(ctx context.Context, device io.ReadWriter, p Params) error {
	began := time.Now()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	in := make(chan packet)
	go func() { stop(read(ctx, device, in, NewSchedule(p), began)) }()
	var waiting queue
	timer := time.NewTimer(time.Hour)
	for {
		if len(waiting) > 0 {
			timer.Reset(waiting[0].leaves - time.Since(began))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case p := <-in:
			if len(waiting) < MaxWaiting {
				heap.Push(&waiting, p)
			}
		case <-timer.C:
		}
		for len(waiting) > 0 && waiting[0].leaves <= time.Since(began) {
			if _, err := device.Write(heap.Pop(&waiting).(packet).bytes); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// read decides about every packet when it comes.
func read(ctx context.Context, device io.Reader, in chan<- packet, s *Schedule, began time.Time) error {
	buffer := make([]byte, mtu)
	for number := 0; ; number++ {
		n, err := device.Read(buffer)
		if err != nil {
			return err
		}
		bytes := append([]byte(nil), buffer[:n]...)
		for _, leaves := range s.Next(time.Since(began)) {
			select {
			case in <- packet{leaves, number, bytes}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// packet is one that waits.
type packet struct {
	leaves time.Duration
	number int // of its coming: of two that leave together the first goes first
	bytes  []byte
}

// queue is a heap of packets by when they leave.
type queue []packet

func (q queue) Len() int { return len(q) }
func (q queue) Less(a, b int) bool {
	if q[a].leaves != q[b].leaves {
		return q[a].leaves < q[b].leaves
	}
	return q[a].number < q[b].number
}
func (q queue) Swap(a, b int) { q[a], q[b] = q[b], q[a] }
func (q *queue) Push(x any)   { *q = append(*q, x.(packet)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last], *q = packet{}, (*q)[:last]
	return p
}
