package auth

import (
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// ForReadmit signs that a node whose key was used elsewhere too is this host and no other.
const ForReadmit Purpose = "muster/readmit/1"

// Readmit ends the quarantine of one node, on the host that it is given to. It travels to no other, and nothing is agreed about
// it: where a fleet can agree, a new key is the way.
type Readmit struct {
	Header Header // Expires soon
	Node   fleet.ID
	Seen   uint64 // the highest sequence that somebody else told under the node's key: what comes after it counts anew
}

// JudgeReadmit returns who readmits a node whose quarantine says seen, or why it stays. Who may do it may remove the node and give
// its tags to another.
func (r Record) JudgeReadmit(e Envelope, node fleet.ID, seen uint64, now time.Time) (Operator, error) {
	if r.Charter == nil {
		return Operator{}, fleet.Errorf(fleet.Unavailable, "this host has no charter yet")
	}
	op, err := r.Charter.Current(e.Key, now)
	if err != nil {
		return op, err
	}
	s, err := Open[Readmit](e, ForReadmit, r.Charter.fleetID, op.Key)
	if err != nil {
		return op, err
	}
	if err := s.Header.CheckTime(now); err != nil {
		return op, err
	}
	if s.Node != node || s.Seen != seen || s.Header.Expires == 0 {
		return op, fleet.Errorf(fleet.Denied, "it was signed for another node, or before the key was heard elsewhere once more").
			Hinted("muster agent readmit, when the other host is gone")
	}
	n, err := r.Roster.Enrolled(node)
	if err != nil {
		return op, err
	}
	for _, action := range []Action{ActRemoveNode, ActTagNode} {
		if err := r.mayTouch(op, action, n, n.Tags, n.Server); err != nil {
			return op, err
		}
	}
	return op, nil
}
