package agent

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Bounds of what is sent for other members to addresses that they chose.
const (
	favourEvery = 10 * time.Second // an address is tried once in that time, whoever asks
	favourPorts = 4                // of one IP address in that time: hosts behind one NAT share it
	favourMost  = 1024             // addresses in that time
)

// favours keeps what was tried for other members lately, so that many who ask have no more sent than one.
type favours struct {
	mu     sync.Mutex
	lately map[netip.AddrPort]favour
}

type favour struct {
	at    time.Duration // of the host's boot clock
	over  bool          // it was tried
	found Probed
}

// begin reports whether the caller is to try an address now; or else what was found of it lately, where known.
func (f *favours) begin(at netip.AddrPort, now time.Duration) (mine bool, found Probed, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ports := 0
	for other, l := range f.lately {
		switch {
		case now-l.at >= favourEvery:
			delete(f.lately, other)
		case other.Addr() == at.Addr():
			ports++
		}
	}
	if l, there := f.lately[at]; there {
		return false, l.found, l.over
	}
	if ports >= favourPorts || len(f.lately) >= favourMost {
		return false, Probed{}, false
	}
	if f.lately == nil {
		f.lately = map[netip.AddrPort]favour{}
	}
	f.lately[at] = favour{at: now}
	return true, Probed{}, false
}

func (f *favours) end(at netip.AddrPort, now time.Duration, found Probed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lately[at] = favour{now, true, found}
}

// probeable returns the addresses to which packets may be sent for a member that asks from an address (zero: not known): none of
// this host alone or of its link, unless the member itself is there.
func probeable(addrs []netip.AddrPort, from netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, at := range addrs {
		ip := at.Addr().Unmap()
		if ip.IsUnspecified() || ip.IsMulticast() || near(ip) && !near(from.Addr().Unmap()) {
			continue
		}
		out = append(out, at)
	}
	return out
}

func near(ip netip.Addr) bool { return ip.IsLoopback() || ip.IsLinkLocalUnicast() }

// fromKey is where a request's context has the address of the connection that it came over.
type fromKey struct{}

// withFrom notes where a stream comes from, where its transport knows.
func withFrom(s Stream) context.Context {
	if at, ok := s.(interface{ Addr() netip.AddrPort }); ok {
		return context.WithValue(s.Context(), fromKey{}, at.Addr())
	}
	return s.Context()
}

func askedFrom(ctx context.Context) netip.AddrPort {
	from, _ := ctx.Value(fromKey{}).(netip.AddrPort)
	return from
}
