package upgrade

import (
	"fmt"

	"github.com/muster-fleet/muster/node"
)

// View is what an agent sees of its fleet, as far as an upgrade may not make it worse.
type View struct {
	Version string `json:"version"`
	Online  int    `json:"online"` // members, itself included
	Leader  bool   `json:"leader"` // it knows who leads
	Voters  int    `json:"voters"` // of the quorum
	Up      int    `json:"up"`     // of these, online
	Act     uint64 `json:"act"`    // newest of its record
}

// ViewOf takes what counts from an agent's status.
func ViewOf(s node.Status) View {
	v := View{Version: s.Version, Online: s.Online, Leader: !s.Quorum.Leader.IsZero(), Voters: len(s.Quorum.Voters), Act: s.Act}
	for _, server := range s.Quorum.Voters {
		if server.Online {
			v.Up++
		}
	}
	return v
}

// Lack says what an agent sees worse now than before, or nothing. Others may be upgraded at the same moment, or be switched off
// by their owners, so a third of the members may be missing.
func (v View) Lack(now View) string {
	switch {
	case 3*now.Online < 2*v.Online:
		return fmt.Sprintf("it sees %d of the %d nodes that were online", now.Online, v.Online)
	case now.Act < v.Act:
		return fmt.Sprintf("its record ends at act %d, and was at act %d", now.Act, v.Act)
	case v.quorum() && !now.quorum():
		return fmt.Sprintf("it sees %d of %d voters", now.Up, now.Voters)
	case v.Leader && !now.Leader:
		return "it knows no leader"
	}
	return ""
}

func (v View) quorum() bool { return v.Voters > 0 && 2*v.Up > v.Voters }
