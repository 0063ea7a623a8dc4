package exec

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Verdict is what a node decides about an order.
type Verdict struct {
	Command Command
	Status  Status // Pending: run it; else a final status
	Reason  string // why not; for people
	Rule    string // the policy that permitted
}

// Judge decides whether the node self runs order now. record is the newest that self has; it must reach the act that
// the order's signer saw, or the answer is an Unavailable error: catch up first. Every refusal is a verdict.
func Judge(order Order, record auth.Record, self fleet.Member, now time.Time) (Verdict, error) {
	cmd, op, err := order.Verify(record.Charter, now)
	v := Verdict{Command: cmd}
	switch fleet.KindOf(err) {
	case fleet.Unavailable:
		if err != nil {
			return v, err
		}
	case fleet.Expired:
		return v.no(DeliveryTimedOut, err), nil
	}
	if err != nil {
		return v.no(Refused, err), nil
	}
	if record.Act < cmd.Header.Act {
		return v, fleet.Errorf(fleet.Unavailable, "the order was signed at act %d; this node knows the record up to act %d", cmd.Header.Act, record.Act)
	}
	if !order.Has(self.ID) {
		return v.no(Refused, fleet.Errorf(fleet.Denied, "node %s is not in the set that was signed", self.Name)), nil
	}
	target, err := fleet.ParseTarget(cmd.Target)
	if err != nil {
		return v.no(Refused, err), nil
	}
	if !target.Match(&self) {
		return v.no(Refused, fleet.Errorf(fleet.Denied, "node %s does not match %s any more", self.Name, cmd.Target)), nil
	}
	v.Rule, err = record.Charter.Policy().Decide(auth.Ask{
		Principal: op.AsPrincipal(), Action: auth.ActRun, User: cmd.Run.User, Shell: cmd.Run.Shell(),
		Resource: auth.Resource{Type: "Node", Name: self.Name, Tags: self.Tags},
	})
	if err != nil {
		return v.no(Refused, err), nil
	}
	v.Status = Pending
	return v, nil
}

func (v Verdict) no(status Status, why error) Verdict {
	v.Status, v.Reason = status, why.Error()
	return v
}

// JudgeCancel reports why the node does not obey a cancel, or nil. An operator who may not cancel here is refused.
func JudgeCancel(statement auth.Envelope, record auth.Record, self fleet.Member, now time.Time) (Cancel, error) {
	cancel, op, err := auth.OpenOrder(record.Charter, statement, auth.ForCancel, now, func(c Cancel) auth.Header { return c.Header })
	if err != nil {
		return cancel, err
	}
	_, err = record.Charter.Policy().Decide(auth.Ask{
		Principal: op.AsPrincipal(), Action: auth.ActCancel,
		Resource: auth.Resource{Type: "Node", Name: self.Name, Tags: self.Tags},
	})
	return cancel, err
}
