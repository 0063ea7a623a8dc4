package host

import (
	"net/netip"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// disk lets the agent keep things in the data folder.
type disk struct{ folder *folder.Folder }

func (d disk) AppendActs(acts []auth.Act, heads []fleet.ID) error {
	return d.folder.AppendActs(acts, heads)
}

func (d disk) ReadActs(from uint64, maxBytes int) ([]auth.Act, error) {
	return d.folder.ReadActs(from, maxBytes)
}

func (d disk) PutFloor(time int64, length uint64, head fleet.ID) error {
	return d.folder.PutFloor(folder.Floor{Time: time, Length: length, Head: head})
}

func (d disk) PutKeys(keys map[uint32][32]byte) error {
	var list []folder.GossipKey
	for epoch, key := range keys {
		list = append(list, folder.GossipKey{Epoch: epoch, Key: key[:]})
	}
	return d.folder.PutGossipKeys(list)
}

func (d disk) PutPeers(peers map[fleet.ID][]netip.AddrPort) error {
	var list []folder.Peer
	for id, addrs := range peers {
		if len(list) == folder.MaxPeers {
			break
		}
		p := folder.Peer{ID: id}
		for _, addr := range addrs {
			p.Addrs = append(p.Addrs, addr.String())
		}
		list = append(list, p)
	}
	return d.folder.PutPeers(list)
}

func keysOf(list []folder.GossipKey) map[uint32][32]byte {
	keys := map[uint32][32]byte{}
	for _, k := range list {
		if len(k.Key) == 32 {
			keys[k.Epoch] = [32]byte(k.Key)
		}
	}
	return keys
}

func hintsOf(list []folder.Peer) map[fleet.ID][]netip.AddrPort {
	hints := map[fleet.ID][]netip.AddrPort{}
	for _, p := range list {
		for _, text := range p.Addrs {
			if addr, err := netip.ParseAddrPort(text); err == nil {
				hints[p.ID] = append(hints[p.ID], addr)
			}
		}
	}
	return hints
}

func (d disk) Documents() []auth.Envelope { return d.folder.Documents() }

func (d disk) PutDocument(key fleet.ID, publication auth.Envelope) error {
	return d.folder.PutDocument(key, publication)
}

func (d disk) Document(key fleet.ID) (auth.Envelope, error) { return d.folder.Document(key) }
