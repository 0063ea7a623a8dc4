package agent

import (
	"testing"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// Requests of peers count, those answered with an error apart, and so do bells that found the queue full.
func TestStats(t *testing.T) {
	d := newDesk(t)
	if s := d.Stats(); s.Requests != 0 || s.BeaconAge >= 0 || s.Gone {
		t.Errorf("at the beginning: %+v", s)
	}
	d.Serve(&frames{peer: d.web.ID, in: []frame{{kind: askHeld}}})
	d.Serve(&frames{peer: d.web.ID, in: []frame{{kind: 250}}})
	d.Serve(&frames{peer: d.web.ID, in: []frame{{kind: askWatch, body: []byte("no statement")}}})
	d.Serve(&frames{peer: d.web.ID}) // which says nothing
	if s := d.Stats(); s.Requests != 3 || s.Refused != 2 {
		t.Errorf("%d requests, %d refused", s.Requests, s.Refused)
	}
	bell := node.Bell{Kind: node.BellCommand, Statement: fleet.UUID{1}}.Encode()
	for range queueSize + 3 {
		d.Bell(bell)
	}
	if s := d.Stats(); s.Queue != queueSize || s.BellsLost < 3 || s.BellsLost > 3+8 {
		t.Errorf("%d wait, %d were lost", s.Queue, s.BellsLost)
	}
}
