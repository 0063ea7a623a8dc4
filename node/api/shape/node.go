package shape

import (
	"net/netip"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Node is a member of the fleet.
type Node struct {
	ID        fleet.ID          `json:"id"`
	Name      string            `json:"name"`
	Address   string            `json:"address"` // the first of Addresses; empty: none is known
	Addresses []string          `json:"addresses"`
	Via       []fleet.ID        `json:"via"` // of an outbound-only node: the members through which it is reached
	Status    fleet.Status      `json:"status"`
	LastSeen  time.Time         `json:"last_seen,omitzero"`
	OS        string            `json:"os"`
	OSVersion string            `json:"os_version"`
	Arch      string            `json:"arch"`
	Version   string            `json:"version"`
	BootID    string            `json:"boot_id"`
	Role      fleet.Role        `json:"role"`
	Server    bool              `json:"server"`
	Tags      map[string]string `json:"tags"`
	Sequence  uint64            `json:"sequence"` // of the newest signed statement about its tags
	Plight    string            `json:"plight"`   // what it says that it does not do now; empty: it does all of its work
}

// OfNode returns the shape of a member. sequence counts the signed statements about its tags.
func OfNode(m fleet.Member, sequence uint64) Node {
	n := Node{
		ID: m.ID, Name: m.Name, Addresses: make([]string, 0, len(m.Addrs)), Status: m.Status, LastSeen: m.LastSeen,
		OS: m.Facts.OS, OSVersion: m.Facts.OSVersion, Arch: m.Facts.Arch, Version: m.Facts.Version, BootID: m.Facts.BootID,
		Role: m.Role, Server: m.Server, Tags: m.Tags, Sequence: sequence, Via: m.Via, Plight: m.Plight,
	}
	if n.Via == nil {
		n.Via = []fleet.ID{}
	}
	for _, addr := range m.Addrs {
		n.Addresses = append(n.Addresses, addr.String())
	}
	if len(n.Addresses) > 0 {
		n.Address = n.Addresses[0]
	}
	if n.Tags == nil {
		n.Tags = map[string]string{}
	}
	return n
}

// Member returns what OfNode was given.
func (n Node) Member() (fleet.Member, error) {
	m := fleet.Member{
		ID: n.ID, Name: n.Name, Status: n.Status, LastSeen: n.LastSeen,
		Facts: fleet.Facts{OS: n.OS, OSVersion: n.OSVersion, Arch: n.Arch, Version: n.Version, BootID: n.BootID},
		Role:  n.Role, Server: n.Server, Tags: n.Tags, Plight: n.Plight,
	}
	if len(n.Via) > 0 {
		m.Via = n.Via
	}
	var err error
	m.Addrs, err = addrs(n.Addresses)
	return m, err
}

func addrs(texts []string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, text := range texts {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fleet.Errorf(fleet.Invalid, "%q is no address", text)
		}
		out = append(out, addr)
	}
	return out, nil
}
