package transport

import "sync/atomic"

// Stats are what the socket and its connections come to. They are taken from memory.
type Stats struct {
	Connections map[Plane]int // that have said hello, by plane
	Peers       int           // with a connection
	Opened      uint64        // connections that said hello, since New
	HalfOpen    int           // connections that have not, of the socket
	Pipes       int           // that end here or pass through here
	Sealed      uint64        // packets that were made to be sent
	Genuine     uint64        // packets that were taken in
	Strange     uint64        // packets that were dropped: of other fleets, under other keys, or heard before
}

// Stats returns how the network stands now.
func (e *Endpoint) Stats() Stats {
	s := Stats{
		Connections: map[Plane]int{}, Sealed: e.sealer.counter.Load(), Genuine: e.counted.genuine.Load(), Strange: e.counted.strange.Load(),
	}
	e.pool.mu.Lock()
	s.Peers, s.Opened = len(e.pool.links), e.pool.serial
	for _, links := range e.pool.links {
		for _, l := range links {
			s.Connections[l.plane]++
		}
	}
	e.pool.mu.Unlock()
	e.door.mu.Lock()
	s.HalfOpen = e.door.halfOpen
	e.door.mu.Unlock()
	e.patrons.mu.Lock()
	s.Pipes = e.patrons.pipes[party{}]
	e.patrons.mu.Unlock()
	return s
}

// counted is what came in, for Stats.
type counted struct{ genuine, strange atomic.Uint64 }
