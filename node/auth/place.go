package auth

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// maxHost bounds a host's name in bytes: DNS's.
const maxHost = 253

// CanonicalPlace returns the one way to write a place that a tunnel leads to, HOST:PORT, so that rules which name it
// hold: an address as the standard writes it, a name in small letters. Refused is what means another place than it says
// (0.0.0.0 is the host itself; some resolvers take 127.1 for an address).
func CanonicalPlace(text string) (string, error) {
	host, port, ok := cutPort(text)
	number, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || number == 0 {
		return "", fleet.Errorf(fleet.Invalid, "%q is not HOST:PORT", shorten(text)).Hinted("db.internal:5432, 10.1.2.3:80 or [fd00::1]:80")
	}
	if host, err = canonicalHost(host, text[0] == '['); err != nil {
		return "", err
	}
	return host + ":" + strconv.FormatUint(number, 10), nil
}

// CanonicalListen returns the one way to write where a node listens, ADDRESS:PORT: names are not looked up, so that what was
// signed is what listens. Port 0 takes a free one; 0.0.0.0 and [::] are all addresses of that kind.
func CanonicalListen(text string) (string, error) {
	host, port, ok := cutPort(text)
	number, err := strconv.ParseUint(port, 10, 16)
	addr, bad := netip.ParseAddr(host)
	if addr = addr.Unmap(); !ok || err != nil || bad != nil || addr.Zone() != "" || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return "", fleet.Errorf(fleet.Invalid, "%q is not ADDRESS:PORT that a node can listen at", shorten(text)).Hinted("127.0.0.1:8080 or [::1]:8080")
	}
	return netip.AddrPortFrom(addr, uint16(number)).String(), nil
}

// anyPort reports whether a place in canonical form leaves the port open.
func anyPort(at string) bool { return strings.HasSuffix(at, ":0") }

// Exposes reports whether listening at a place in canonical form gives away more than a port of the node's own that any of its
// accounts could take: another address than loopback, or a port that is kept for root.
func Exposes(at string) bool {
	place, err := netip.ParseAddrPort(at)
	return err != nil || !place.Addr().IsLoopback() || place.Port() != 0 && place.Port() < firstFreePort
}

// firstFreePort is the first that Linux lets any account listen at.
const firstFreePort = 1024

// cutPort cuts HOST:PORT. The address in brackets comes without them.
func cutPort(text string) (host, port string, ok bool) {
	if rest, brackets := strings.CutPrefix(text, "["); brackets {
		return strings.Cut(rest, "]:")
	}
	host, port, ok = strings.Cut(text, ":")
	return host, port, ok
}

func canonicalHost(host string, brackets bool) (string, error) {
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap()
	switch {
	case err == nil && addr.Zone() == "" && !addr.IsUnspecified() && !addr.IsMulticast():
		if addr.Is6() {
			return "[" + addr.String() + "]", nil
		}
		return addr.String(), nil
	case err != nil && !brackets:
		if name := strings.ToLower(strings.TrimSuffix(host, ".")); isHostName(name) {
			return name, nil
		}
	}
	return "", fleet.Errorf(fleet.Invalid, "%q is no host that a tunnel can lead to", shorten(host)).Hinted("give a name, or an address of one host")
}

// isHostName wants labels of small letters, digits, hyphens and underscores, of which the last is no number: such names
// are addresses to some resolvers, decimal or hexadecimal.
func isHostName(name string) bool {
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || l[0] == '-' {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(name) <= maxHost && strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}
