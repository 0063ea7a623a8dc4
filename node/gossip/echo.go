package gossip

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/node/fleet"
)

// A member that is back is told what it said of itself before, by those whom it comes to: memberlist forgets a lost member after
// half a minute, and the member itself may not know it any more, because its folder was put back from an older copy or is
// another host's too. It is one of memberlist's own messages, so that members of other versions take it, too, and leave it.
//
// And where a member moved to another address, a few members tell the old address: if a host still listens there, it has the
// same key, and nobody sends it anything else.

// echoAfter is how long an exchange takes, with the member's new addresses in it.
const echoAfter = time.Second

// listAlive is memberlist's own form.
type listAlive struct {
	Incarnation uint32
	Node        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Vsn         []uint8
}

// tagMagic begins serf's tags where they are a map.
const tagMagic = 255

// aliveOf is memberlist's message that a member is alive and says raw of itself. Of incarnation 0 nobody follows it.
func aliveOf(id fleet.ID, incarnation uint32, raw string) []byte {
	tags, err := msgpack.Marshal(map[string]string{tagKey: raw})
	if err != nil {
		panic("gossip: cannot encode: " + err.Error()) // strings always encode
	}
	return encodeList(msgAlive, listAlive{
		incarnation, id.Text(), net.ParseIP(everywhere).To4(), everywherePort, append([]byte{tagMagic}, tags...),
		[]uint8{memberlist.ProtocolVersionMin, memberlist.ProtocolVersionMax, memberlist.ProtocolVersion2Compatible, 2, 5, 4},
	})
}

// echoLater tells a peer that begins an exchange what it said before, if it says something else by its end.
func (g *Gossip) echoLater(peer fleet.ID) {
	before, known := g.book.said(peer)
	if !known {
		return
	}
	time.AfterFunc(echoAfter, func() {
		if now, there := g.book.said(peer); there && now != before && g.ctx.Err() == nil {
			_, _ = g.carry.WriteToAddress(aliveOf(peer, 0, before), memberlist.Address{Name: peer.Text()}) // lost is lost: it comes to others too
		}
	})
}

// said returns the tag of a member as it came.
func (b *book) said(id fleet.ID) (raw string, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.byName[id.Text()]
	if !ok {
		return "", false
	}
	return e.raw, true
}

// echoTellers is how many members of a fleet, about, tell an old address.
const echoTellers = 4

// echoMoved tells a member's old addresses what it says now, from its new ones. It does not wait: it is called under
// memberlist's lock.
func (g *Gossip) echoMoved(id fleet.ID, raw string, was, is []netip.AddrPort) {
	if len(was) == 0 || rand.IntN(max(1, g.book.len())) >= echoTellers {
		return
	}
	time.AfterFunc(0, func() {
		for _, addr := range was {
			if !slices.Contains(is, addr) && g.ctx.Err() == nil {
				_ = g.cfg.Carrier.SendPacket(addr, aliveOf(id, 0, raw)) // lost is lost: others tell it too
			}
		}
	})
}

func (b *book) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.byName)
}
