package agent

import (
	"net/netip"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func joinPeer(id fleet.ID, addrs []netip.AddrPort) JoinPeer {
	p := JoinPeer{ID: id}
	for _, addr := range addrs[:min(4, len(addrs))] {
		p.Addrs = append(p.Addrs, addr.String())
	}
	return p
}

// Joined is what a host has when it was enrolled.
type Joined struct {
	Head   JoinHead
	Record auth.Record
	Acts   []auth.Act
	Heads  []fleet.ID // of the chain after each act
	Server fleet.ID   // who enrolled it
}

// MaxJoin bounds the acts that a joiner takes, in bytes.
const MaxJoin = auth.MaxRecord

// AskJoin enrols this host over a stream of the join plane: it sends the request that the join secret signed, and
// verifies all that comes back from the fleet's ID on. Nothing of it is used if the last line does not hold.
func AskJoin(s Stream, join auth.JoinString, request auth.Envelope, self fleet.ID) (Joined, error) {
	j := Joined{Record: auth.NewRecord(), Server: s.Peer()}
	if err := s.WriteFrame(joinAsk, wire.Marshal(request)); err != nil {
		return j, err
	}
	kind, body, err := s.ReadFrame()
	if err != nil {
		return j, err
	}
	if err := wire.Unmarshal(body, &j.Head); err != nil || kind != joinHead || len(j.Head.Key) != 32 || len(j.Head.Peers) > 64 {
		return j, fleet.Errorf(fleet.Invalid, "malformed answer to the join")
	}
	if err := j.takeRecord(s, join.Fleet); err != nil {
		return j, err
	}
	return j, j.check(join, self)
}

func (j *Joined) takeRecord(s Stream, fleetID fleet.ID) error {
	for size := 0; ; {
		kind, body, err := s.ReadFrame()
		if err != nil {
			return err
		}
		if kind == joinEnd {
			return nil
		}
		var page actsBody
		if err := wire.Unmarshal(body, &page); err != nil {
			return err
		}
		if size += len(body); kind != joinActs || size > MaxJoin {
			return fleet.Errorf(fleet.Exhausted, "the fleet's record is larger than %d bytes", MaxJoin)
		}
		for _, act := range page.Acts {
			if j.Record, err = j.Record.Apply(act, fleetID); err != nil {
				return err
			}
			j.Acts, j.Heads = append(j.Acts, act), append(j.Heads, j.Record.Head)
		}
	}
}

// check judges what came: it must reach the floor that the join string names, name this host and the server that
// answered, and bring the gossip key that the record names.
func (j *Joined) check(join auth.JoinString, self fleet.ID) error {
	if j.Record.Charter == nil || !j.Record.Charter.Knows(join.Head) {
		return fleet.Errorf(fleet.Denied, "the host that answered has an older charter than the join string names").
			Hinted("give the join string's other addresses, or create a new one")
	}
	if _, err := j.Record.Roster.Enrolled(j.Server); err != nil {
		return fleet.Errorf(fleet.Denied, "the host that answered is no member of the fleet: %w", err)
	}
	if _, err := j.Record.Roster.Enrolled(self); err != nil {
		return fleet.Errorf(fleet.Denied, "the fleet's record does not name this host: %w", err)
	}
	if want := j.Record.Sending; j.Head.Epoch != want.Epoch || fleet.Sum(j.Head.Key) != want.Hash {
		return fleet.Errorf(fleet.Denied, "the gossip key that came is not the one that the record names")
	}
	return nil
}
