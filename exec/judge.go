package exec

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Verdict is what a node decides about an order.
type Verdict struct {
	Command Command
	Signer  fleet.ID // the operator's key, of a Genuine order
	Status  Status   // Pending: run it; else a final status
	Reason  string   // why not; for people; at most MaxReason bytes
	Rule    string   // the policy that permitted; at most MaxReason bytes
	Genuine bool     // an operator signed exactly this order; if not, it is no word about the command: throw it away
	// Documents are the keys (DocumentRef.Key) of the texts that a Pending command needs and that are not built in, in
	// the order of Command.Documents.
	Documents []fleet.ID
	Consent   bool // the refusal is by what this host's own root withholds, or by a drain; it may do at another time

	reach reach // set by JudgeDocuments
}

// Judge decides whether the node self runs order now. record is the newest that self has; it must reach the charter
// head and the act that the order's signer saw, or the answer is an Unavailable error: catch up first. Every refusal is
// a verdict. self brings the facts; name and tags are the roster's.
func Judge(order Order, record auth.Record, self fleet.Member, now time.Time) (Verdict, error) {
	if err := caughtUp(order, record); err != nil {
		return Verdict{}, err
	}
	cmd, op, err := order.Verify(record.Charter, now)
	v := Verdict{Command: cmd, Signer: order.Statement.Key, Genuine: err == nil || order.genuine(record.Charter)}
	if err != nil {
		return v.no(refusalStatus(cmd, err), err), nil
	}
	if !order.Has(self.ID) {
		return v.no(Refused, fleet.Errorf(fleet.Denied, "node %s is not in the set that was signed", self.Name)), nil
	}
	n, err := record.Roster.Enrolled(self.ID)
	if err != nil {
		return v.no(Refused, err), nil
	}
	self.Name, self.Tags = n.Name, n.Tags
	if err := stillMeant(cmd.Target, &self); err != nil {
		return v.no(Refused, err), nil
	}
	rule, err := record.Charter.Policy().Decide(askRun(cmd, op, n))
	if err != nil {
		return v.no(Refused, err), nil
	}
	if err := MayUseParams(cmd, op, record.Charter.Policy()); err != nil {
		return v.no(Refused, err), nil
	}
	v.Status, v.Rule = Pending, clip(rule)
	return v.needDocuments(), nil
}

// refusalStatus tells an order whose own time is over, as everybody will see, from one that this node refuses.
func refusalStatus(cmd Command, err error) Status {
	if fleet.KindOf(err) == fleet.Expired && cmd.Header.Expires != 0 { // an operator's expired key leaves cmd empty
		return DeliveryTimedOut
	}
	return Refused
}

func stillMeant(expression string, self *fleet.Member) error {
	target, err := fleet.ParseTarget(expression)
	if err == nil && !target.Match(self) {
		err = fleet.Errorf(fleet.Denied, "node %s does not match %s any more", self.Name, expression)
	}
	return err
}

func (v Verdict) no(status Status, why error) Verdict {
	v.Status, v.Reason = status, clip(why.Error())
	return v
}

// caughtUp asks whether this record can judge the order at all. It looks at what nobody has verified, which may cost a
// fetch and never more; otherwise an order by somebody who became an operator a moment ago would be refused for good.
func caughtUp(order Order, record auth.Record) error {
	if record.Charter == nil {
		return fleet.Errorf(fleet.Unavailable, "this node has no charter yet")
	}
	if len(order.Statement.Body) > MaxCommand {
		return nil // refused as that
	}
	claimed, err := auth.Peek[Command](order.Statement)
	if err != nil {
		return nil
	}
	return reaches(record, claimed.Header)
}

func reaches(record auth.Record, h auth.Header) error {
	switch {
	case !record.Charter.Knows(h.Charter):
		return fleet.Errorf(fleet.Unavailable, "the order was signed under charter %s, which this node has not got", h.Charter)
	case record.Act < h.Act:
		return fleet.Errorf(fleet.Unavailable, "the order was signed at act %d; this node knows the record up to act %d", h.Act, record.Act)
	}
	return nil
}

// JudgeCancel reports why the node does not obey a cancel, or nil. An operator who may not cancel here is refused, and so
// is a cancel that is for other nodes; an Unavailable error says that this node must catch up first.
func JudgeCancel(statement auth.Envelope, record auth.Record, self fleet.Member, now time.Time) (Cancel, error) {
	if record.Charter == nil {
		return Cancel{}, fleet.Errorf(fleet.Unavailable, "this node has no charter yet")
	}
	if len(statement.Body) > MaxCommand {
		return Cancel{}, fleet.Errorf(fleet.Exhausted, "cancel of %d bytes", len(statement.Body))
	}
	if claimed, err := auth.Peek[Cancel](statement); err == nil {
		if err := reaches(record, claimed.Header); err != nil {
			return claimed, err
		}
	}
	cancel, op, err := auth.OpenOrder(record.Charter, statement, auth.ForCancel, now, func(c Cancel) auth.Header { return c.Header })
	if err != nil {
		return cancel, err
	}
	if err := cancel.Check(); err != nil {
		return cancel, err
	}
	if !cancel.Concerns(self.ID) {
		return cancel, fleet.Errorf(fleet.Denied, "the cancel is for other nodes")
	}
	if n, ok := record.Roster.Node(self.ID); ok {
		self.Name, self.Tags = n.Name, n.Tags
	}
	return cancel, MayCancel(record.Charter, op, self.Name, self.Tags)
}

// MayCancel reports why op may not cancel what runs on the node of that name and roster tags, or nil.
func MayCancel(c *auth.Charter, op auth.Operator, name string, tags map[string]string) error {
	_, err := c.Policy().Decide(auth.Ask{
		Principal: op.AsPrincipal(), Action: auth.ActCancel,
		Resource: auth.Resource{Type: "Node", Name: name, Tags: tags},
	})
	return err
}

// MayRun is the fast no: it asks policy about every node of an order, as those nodes will, so that a command that all
// would refuse is not sent. It is no judgement: a record that is behind says yes.
func MayRun(order Order, record auth.Record, now time.Time) error {
	if record.Charter == nil {
		return nil
	}
	cmd, op, err := order.Verify(record.Charter, now)
	if err != nil {
		if fleet.KindOf(err) == fleet.Unavailable {
			return nil
		}
		return err
	}
	if err := MayUseParams(cmd, op, record.Charter.Policy()); err != nil {
		return err
	}
	for _, id := range order.Nodes {
		entry, err := record.Roster.Enrolled(id)
		if err != nil {
			continue
		}
		if _, err = record.Charter.Policy().Decide(askRun(cmd, op, entry)); err != nil {
			return err
		}
	}
	return nil
}
