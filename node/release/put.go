package release

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// ForPut is the purpose of an operator's request to a host that it takes a release file in.
const ForPut auth.Purpose = "muster/release-put/1"

// PutLife is how long such a request may live: as long as a file takes on its way over a slow line.
const PutLife = time.Hour

// PutAsk is the request. It makes nobody install anything; it is there so that not every account of a host can fill its disk, or
// have a release that is in use make way for another.
type PutAsk struct {
	Header auth.Header
	Digest fleet.ID // of the release
}

// Bringer is who brings a release file to a host. The zero Bringer is the host's own root, or the agent's account.
type Bringer struct {
	Signed []auth.Envelope // none or one PutAsk, which then counts alone
	Key    []fleet.ID      // none or one: the key of an operator elsewhere whom the host has let in
}

// MayPut asks policy whether an operator may bring releases to a host: who says whose releases the fleet takes may, and who may
// run the document that installs them there. trusts reports the first: such a one may have a release that the host gives to
// others make way, too.
func MayPut(record auth.Record, self fleet.ID, op auth.Operator, document string) (trusts bool, err error) {
	host, err := record.Roster.Enrolled(self)
	if err != nil {
		return false, err
	}
	policy := record.Charter.Policy()
	if _, err = policy.Decide(auth.Ask{
		Principal: op.AsPrincipal(), Action: auth.ActTrustRelease, Resource: auth.Resource{Type: "Fleet", Name: record.Charter.Name()},
	}); err == nil {
		return true, nil
	}
	_, err = policy.Decide(auth.Ask{
		Principal: op.AsPrincipal(), Action: auth.ActRun, Document: document, Resource: auth.Resource{Type: "Node", Name: host.Name, Tags: host.Tags},
	})
	if err != nil {
		return false, fleet.Errorf(fleet.Denied, "%s may not bring releases to %s: %w", op.Name, host.Name, err).
			Hinted("bring it to a host on which you may run %s, or have root on this one bring it", document)
	}
	return false, nil
}

// OpenPut verifies an operator's request.
func OpenPut(charter *auth.Charter, e auth.Envelope, now time.Time) (PutAsk, auth.Operator, error) {
	ask, op, err := auth.OpenOrder(charter, e, ForPut, now, func(a PutAsk) auth.Header { return a.Header })
	if err == nil && (ask.Header.Expires == 0 || ask.Header.Expires-ask.Header.Issued > PutLife.Milliseconds()) {
		err = fleet.Errorf(fleet.Invalid, "a request to take a release in lives %s at most", PutLife)
	}
	return ask, op, err
}
