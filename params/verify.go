package params

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Verify returns the Put of an item if all of it is proved: somebody who is or was an operator, and was not removed as
// compromised, signed it; the content, if it is there, is what was signed; and the label by which it was asked for was
// given by such a change as well. What the item says beside that is the server's word, but it may not contradict what is
// proved. Errors are Invalid or Denied.
func Verify(i Item, c *auth.Charter) (Put, error) {
	return VerifyBy(i, func(e auth.Envelope) (Change, error) { return OpenStanding(e, c) })
}

// Opener returns a change that OpenStanding has taken, or why it does not: it may remember what that said.
type Opener func(auth.Envelope) (Change, error)

// VerifyBy is Verify by what opens changes.
func VerifyBy(i Item, open Opener) (Put, error) {
	put, err := openVersion(i, open)
	if err != nil {
		return Put{}, err
	}
	if len(i.Content) > 1 {
		return Put{}, fleet.Errorf(fleet.Invalid, "parameter %s with %d contents", put.Name, len(i.Content))
	}
	if len(i.Content) == 1 {
		if err := put.CheckContent(i.Content[0]); err != nil {
			return Put{}, err
		}
	}
	if put.Version > i.Newest || put.Seq > i.Seq {
		return Put{}, fleet.Errorf(fleet.Denied, "a server shows version %d of parameter %s, and says that the newest is %d", put.Version, put.Name, i.Newest)
	}
	if err := i.checkSelector(put, open); err != nil {
		return Put{}, err
	}
	return put, nil
}

// checkSelector reports why the version is not the one that the item's selector names, or nil.
func (i Item) checkSelector(put Put, open Opener) error {
	label, ok := i.label()
	switch {
	case len(i.Proof) > 1 || ok != (len(i.Proof) == 1):
		return fleet.Errorf(fleet.Denied, "parameter %s%s: a server does not prove the label", put.Name, i.Selector)
	case ok:
		return i.Proof[0].check(put, label, i.Seq, open)
	case i.Selector == "" && put.Version != i.Newest, i.Selector != "" && i.Selector != (Selector{Version: put.Version}).Suffix():
		return fleet.Errorf(fleet.Denied, "a server shows version %d of %d as parameter %s%s", put.Version, i.Newest, put.Name, i.Selector)
	}
	return nil
}

// label returns the label by which the item was asked for.
func (i Item) label() (string, bool) {
	label, ok := strings.CutPrefix(i.Selector, ":")
	return label, ok && (label == "" || !isDigit(label[0]))
}

func openVersion(i Item, open Opener) (Put, error) {
	op, err := openProof(i.Change, i.Op, i.Body, open)
	switch {
	case err != nil:
		return Put{}, err
	case len(op.Put) != 1:
		return Put{}, fleet.Errorf(fleet.Denied, "parameter %s: what a server shows as a version is none", op.Name())
	}
	return op.Put[0], nil
}

// openProof verifies a standing change, and returns one of its operations.
func openProof(e auth.Envelope, at uint32, body []byte, open Opener) (Op, error) {
	change, err := open(e)
	if err != nil {
		return Op{}, err
	}
	return change.openOp(at, body)
}

// OpenStanding verifies a change that was taken once: somebody who is or was an operator when it was issued, and was not
// removed as compromised, signed it. Errors are Invalid or Denied.
func OpenStanding(e auth.Envelope, c *auth.Charter) (Change, error) {
	if len(e.Body) > MaxSigned {
		return Change{}, fleet.Errorf(fleet.Invalid, "a change of parameters of %d bytes; at most %d", len(e.Body), MaxSigned)
	}
	// Who held the key, whenever that was; whether they might sign at that time is asked once the time is known.
	holder, err := c.Standing(e.Key, 0)
	if err != nil {
		return Change{}, err
	}
	change, err := auth.Open[Change](e, auth.ForParams, c.Fleet(), holder.Key)
	if err != nil {
		return Change{}, err
	}
	if _, err := c.Standing(e.Key, change.Header.Issued); err != nil {
		return Change{}, err
	}
	return change, change.Check()
}

// check reports why a change does not prove that a version has a label, or nil. seq is how many changes of labels the server
// says that there were.
func (p LabelProof) check(put Put, label string, seq uint32, open Opener) error {
	op, err := openProof(p.Change, p.Op, p.Body, open)
	if err != nil {
		return err
	}
	if given, ok := op.gives(put, label); !ok || given > seq {
		return fleet.Errorf(fleet.Denied, "parameter %s: what a server shows does not prove that version %d has label %s", put.Name, put.Version, label)
	}
	return nil
}

// gives reports whether the operation gives a label to a version, and by which change of labels.
func (o Op) gives(put Put, label string) (seq uint32, ok bool) {
	for _, p := range o.Put {
		return p.Seq, p.Name == put.Name && p.Born == put.Born && p.Version == put.Version && slices.Contains(p.Labels, label)
	}
	for _, l := range o.Label {
		return l.Seq, l.Name == put.Name && l.Born == put.Born && l.Version == put.Version && slices.Contains(l.Add, label)
	}
	return 0, false
}

// Answers reports why an item that Verify has taken is not what was asked for, or nil.
func (i Item) Answers(s Selector) error {
	op, err := DecodeOp(i.Body)
	if err != nil || len(op.Put) != 1 {
		return fleet.Errorf(fleet.Invalid, "a server answered %s with no version of a parameter", s)
	}
	return i.AnswersWith(op.Put[0], s)
}

// AnswersWith is Answers for who has the Put that Verify returned.
func (i Item) AnswersWith(put Put, s Selector) error {
	if put.Name != s.Name || i.Selector != s.Suffix() {
		return fleet.Errorf(fleet.Denied, "a server was asked for parameter %s and answered with %s%s", s, put.Name, i.Selector)
	}
	return nil
}
