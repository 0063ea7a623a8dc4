package lan

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/muster-fleet/muster/node/fleet"
)

// Move gives the host another address of the lan's subnet. Whoever runs on it has to find that out.
func (h *Host) Move(addr netip.Addr) error {
	l := h.lan
	l.mu.Lock()
	defer l.mu.Unlock()
	if !netip.MustParsePrefix(subnet).Contains(addr) {
		return fleet.Errorf(fleet.Invalid, "%s is not in %s", addr, subnet)
	}
	for _, other := range l.hosts {
		if other != h && other.addr == addr {
			return fleet.Errorf(fleet.Conflict, "%s is %s's", addr, other.name)
		}
	}
	old := h.addr
	if addr == old {
		return nil
	}
	h.addr = addr
	if err := h.readdress(); err != nil {
		return err
	}
	text := []byte(l.hostsFile())
	err := l.each(l.hosts, func(other *Host) error {
		other.mu.Lock()
		defer other.mu.Unlock()
		if !other.init.alive() {
			return nil
		}
		if err := os.WriteFile(filepath.Join(other.root(), "etc/hosts"), text, 0o644); err != nil || other == h {
			return err
		}
		return l.ip(other.init, "neighbour del "+old.String()+" dev eth0", h.neighbour())
	})
	return errors.Join(err, l.saveLocked())
}

// readdress puts the host's address on its interface. With the old address the kernel forgets neighbours and routes.
func (h *Host) readdress() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.init.alive() {
		return nil
	}
	lines := append([]string{"address flush dev eth0", "address add " + h.addr.String() + "/16 broadcast + dev eth0"}, h.lan.neighbours(h)...)
	if !h.slow.None() {
		lines = append(lines, h.slowRoute())
	}
	return h.lan.ip(h.init, lines...)
}
