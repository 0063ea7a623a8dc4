package host

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// DefaultPort is muster's UDP port.
const DefaultPort = 7980

// ParseBind reads IP:PORT, or IP alone with the default port.
func ParseBind(text string) (netip.AddrPort, error) {
	text = cmp.Or(text, "0.0.0.0")
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, DefaultPort), nil
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return addr, fleet.Errorf(fleet.Invalid, "%q is not IP:PORT", text).Hinted("for example 0.0.0.0:%d, or [::]:%d", DefaultPort, DefaultPort)
	}
	return addr, nil
}

// listen binds the one UDP socket.
func listen(addr netip.AddrPort) (*net.UDPConn, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err == nil {
		return conn, nil
	}
	if said, ok := errors.AsType[*net.OpError](err); ok {
		err = said.Err // it says the address once more
	}
	e := fleet.Errorf(fleet.Unavailable, "cannot bind %s/udp: %w", addr, err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, e.Hinted("another program has the port: ss -ulpn sport = :%d; or choose another with --bind IP:PORT", addr.Port())
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, e.Hinted("no interface has that address: ip addr; 0.0.0.0 takes all")
	case errors.Is(err, syscall.EACCES):
		return nil, e.Hinted("ports below 1024 need root")
	}
	return nil, e
}

// reachable lists where others may reach a socket: its own address, or, of a wildcard, every address of the host's
// interfaces, loopback only when there is nothing else.
func reachable(local netip.AddrPort) []netip.AddrPort {
	if !local.Addr().IsUnspecified() {
		return []netip.AddrPort{local}
	}
	var out, loop []netip.AddrPort
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		addr := netip.AddrPortFrom(prefix.Addr().Unmap(), local.Port())
		if local.Addr().Is4() && !addr.Addr().Is4() {
			continue
		}
		if addr.Addr().IsLoopback() {
			loop = append(loop, addr)
		} else {
			out = append(out, addr)
		}
	}
	if len(out) == 0 {
		return loop
	}
	return out
}

func parseAddrs(texts []string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, text := range texts {
		addr, err := ParseBind(text)
		if err != nil {
			return nil, err
		}
		out = append(out, addr)
	}
	return out, nil
}

// mayHide refuses addresses of a host that nobody can dial.
func mayHide(outbound bool, advertise []string) error {
	if !outbound || len(advertise) == 0 {
		return nil
	}
	return fleet.Errorf(fleet.Invalid, "an outbound-only host advertises no address, but it is told to: %s", strings.Join(advertise, ", ")).
		Hinted("leave --advertise out, or, where others can dial it there, --outbound")
}
