package auth

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// TestReadmit: only a current operator, for this very node and what it heard, in time, and one who may replace the node.
func TestReadmit(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob", "dev"))
	self, now := key("n1").ID(), time.UnixMilli(w.now)
	judge := func(by string, purpose Purpose, spoil func(*Readmit)) error {
		r := Readmit{Header: w.header(), Node: self, Seen: 7}
		r.Header.Expires = r.Header.Issued + hour
		if spoil != nil {
			spoil(&r)
		}
		_, err := w.record.JudgeReadmit(key(by).Sign(purpose, w.fleetID(), r), self, 7, now)
		return err
	}
	if err := judge("alice", ForReadmit, nil); err != nil {
		t.Error(err)
	}
	refused(t, judge("alice", ForReadmit, func(r *Readmit) { r.Node = key("n2").ID() }), fleet.Denied, "another node")
	refused(t, judge("alice", ForReadmit, func(r *Readmit) { r.Seen = 6 }), fleet.Denied, "once more")
	refused(t, judge("alice", ForReadmit, func(r *Readmit) { r.Header.Expires = 0 }), fleet.Denied, "another node")
	refused(t, judge("alice", ForReadmit, func(r *Readmit) { r.Header.Expires = r.Header.Issued }), fleet.Expired, "expired")
	refused(t, judge("alice", ForNodeRemove, nil), fleet.Denied, "")
	refused(t, judge("bob", ForReadmit, nil), fleet.Denied, "may not node.remove on n1")
	refused(t, judge("mallory", ForReadmit, nil), fleet.Denied, "")
	w.charter(CharterPutPolicy, PutPolicy{FirstPolicy + `permit (principal in Team::"dev", action == Action::"node.remove", resource);`})
	refused(t, judge("bob", ForReadmit, nil), fleet.Denied, "may not node.tag on n1")
}
