package metrics

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Port is the one that examples and muster node list -o file_sd have for metrics.
const Port = 7981

// ParseAddress reads where metrics are served: ADDRESS:PORT, or PORT or :PORT alone, which is on loopback. A name is refused,
// for what it resolves to may change. open says that others than this host can reach it.
func ParseAddress(text string) (at netip.AddrPort, open bool, err error) {
	full := text
	if !strings.Contains(full, ":") {
		full = ":" + full
	}
	host, port, err := net.SplitHostPort(full)
	number, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil || number == 0 {
		return at, false, notAddress(text)
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if host != "" {
		if addr, err = netip.ParseAddr(host); err != nil {
			return at, false, notAddress(text)
		}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), !addr.Unmap().IsLoopback(), nil
}

func notAddress(text string) error {
	return fleet.Errorf(fleet.Invalid, "metrics cannot be served at %q", text).
		Hinted("a port of this host's loopback, such as %d, or ADDRESS:PORT, such as 10.0.0.7:%d", Port, Port)
}
