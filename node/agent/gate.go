package agent

import (
	"crypto/ed25519"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Prove returns what this host shows at the beginning of a connection: its enrolment, for peers that are behind.
func (a *Agent) Prove() []byte {
	entry, ok := a.record().Roster.Node(a.self)
	if !ok {
		return nil
	}
	return entry.Enrolment.Encode()
}

// Admit judges a peer by the roster, or, when it is newer than this host's roster, by the enrolment that it shows.
func (a *Agent) Admit(peer fleet.ID, proof []byte) error {
	record := a.record()
	if record.Charter == nil {
		return nil // this host has no record yet; it can only fetch one, which proves itself from the fleet's ID on
	}
	if _, known := record.Roster.Node(peer); known {
		_, err := record.Roster.Enrolled(peer)
		return err
	}
	var shown auth.Enrolment
	if err := wire.Unmarshal(proof, &shown); err != nil {
		return fleet.Errorf(fleet.Denied, "node %s is not enrolled and shows no enrolment", peer)
	}
	admitted, err := record.VerifyEnrolment(shown)
	if err == nil && admitted.ID != peer {
		err = fleet.Errorf(fleet.Denied, "node %s shows the enrolment of another", peer)
	}
	return err
}

// Allow judges a peer again, at every stream.
func (a *Agent) Allow(peer fleet.ID, replicas bool) error {
	record := a.record()
	if record.Charter == nil {
		return nil
	}
	entry, known := record.Roster.Node(peer)
	switch {
	case !known && replicas:
		return fleet.Errorf(fleet.Denied, "node %s is not known here as a server", peer)
	case !known:
		return nil // admitted by its enrolment
	case entry.Removed != 0:
		_, err := record.Roster.Enrolled(peer)
		return err
	case replicas && !entry.Server:
		return fleet.Errorf(fleet.Denied, "node %s is no server", entry.Name).
			Hinted("muster node tag %s --server", entry.Name)
	}
	return nil
}

// AllowRelay judges a peer on the plane of relays, at the connection and at every stream: members that this host's own
// record knows, and current operators. An enrolment that is only shown is not enough, because it does not say whether its
// node was removed since: who is not known here yet comes again in a moment, or asks another relay.
func (a *Agent) AllowRelay(peer fleet.ID) error {
	record := a.record()
	if record.Charter == nil {
		return nil
	}
	_, known := record.Roster.Node(peer)
	_, err := record.Roster.Enrolled(peer)
	if err != nil && !known && a.AllowOperator(peer) == nil {
		return nil
	}
	return err
}

// Trusted returns the key of a node that is enrolled and not removed.
func (a *Agent) Trusted(id fleet.ID) (ed25519.PublicKey, bool) {
	entry, err := a.record().Roster.Enrolled(id)
	if err != nil {
		return nil, false
	}
	return entry.Key, true
}
