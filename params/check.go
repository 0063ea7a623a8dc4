package params

import (
	"slices"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Limits of a version, as Systems Manager has them, but for rotations, which it has elsewhere.
const (
	MaxVersions      = 100  // of a parameter that are kept
	MaxVersionLabels = 10   // of one version
	MaxDescription   = 1024 // characters
	MaxPattern       = 1024 // characters
	MaxGenerated     = 4096 // characters of a value that a rotation generates
	MaxRotateEvery   = 366 * day
)

// Data types. Systems Manager's aws:ssm:integration is for secrets of its own.
const (
	DataText  = "text"
	DataImage = "aws:ec2:image"
)

// Commit returns what is signed for operations, and each of them encoded.
func Commit(h auth.Header, ops []Op) (c Change, bodies [][]byte) {
	c.Header = h
	for _, op := range ops {
		body := wire.Marshal(op)
		c.Ops, bodies = append(c.Ops, fleet.Sum(body)), append(bodies, body)
	}
	return c, bodies
}

// Check reports what is wrong with a change on the face of it, or nil.
func (c Change) Check() error {
	h := c.Header
	switch {
	case h.Issued <= 0 || h.Issued > auth.MaxTime:
		return fleet.Errorf(fleet.Invalid, "a change of parameters that was issued at %d, which is no time", h.Issued)
	case h.Expires <= h.Issued || h.Expires-h.Issued > ChangeLife || h.Expires > auth.MaxTime:
		return fleet.Errorf(fleet.Invalid, "a change of parameters must expire within %d minutes of its issue", ChangeLife/60_000)
	case len(c.Ops) == 0 || len(c.Ops) > MaxOps:
		return fleet.Errorf(fleet.Invalid, "a change of parameters with %d operations; it has 1 to %d", len(c.Ops), MaxOps)
	}
	return nil
}

// Open returns the operations of a change that was verified, if they are those that were signed and nothing is wrong with any
// on the face of it: every rule that needs neither the parameters there are nor a clock. Each of bodies is one encoded Op.
func (c Change) Open(bodies [][]byte) ([]Op, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if len(bodies) != len(c.Ops) {
		return nil, fleet.Errorf(fleet.Invalid, "a change with %d operations, of which %d are there", len(c.Ops), len(bodies))
	}
	size := 0
	for _, body := range bodies {
		size += len(body)
	}
	if size > MaxChange {
		return nil, fleet.Errorf(fleet.Exhausted, "a change of parameters of %d bytes; at most %d", size, MaxChange).Hinted("put fewer at once")
	}
	ops, seen := make([]Op, 0, len(bodies)), make(map[string]bool, len(bodies))
	for i, body := range bodies {
		op, err := c.openOp(uint32(i), body)
		if err != nil {
			return nil, err
		}
		if seen[op.Name()] {
			return nil, fleet.Errorf(fleet.Invalid, "a change with two operations on parameter %s (ValidationException)", op.Name())
		}
		seen[op.Name()] = true
		ops = append(ops, op)
	}
	return ops, nil
}

// openOp returns the operation at a place if body is what was signed there and nothing is wrong with it on the face of it.
func (c Change) openOp(at uint32, body []byte) (Op, error) {
	if int64(at) >= int64(len(c.Ops)) || fleet.Sum(body) != c.Ops[at] {
		return Op{}, fleet.Errorf(fleet.Denied, "operation %d of a change of parameters is not what was signed", at)
	}
	op, err := DecodeOp(body)
	if err != nil {
		return Op{}, err
	}
	return op, op.check(c.Header.Issued)
}

// DecodeOp reads an encoded operation, which nobody has judged yet.
func DecodeOp(body []byte) (Op, error) {
	var op Op
	if len(body) > MaxOp {
		return op, fleet.Errorf(fleet.Invalid, "an operation on a parameter of %d bytes; at most %d", len(body), MaxOp)
	}
	err := wire.Unmarshal(body, &op)
	return op, err
}

// Name returns the parameter's name; "" if the operation has none.
func (o Op) Name() string {
	switch {
	case len(o.Put) > 0:
		return o.Put[0].Name
	case len(o.Delete) > 0:
		return o.Delete[0].Name
	case len(o.Label) > 0:
		return o.Label[0].Name
	}
	return ""
}

func (o Op) check(issued int64) error {
	switch {
	case len(o.Put)+len(o.Delete)+len(o.Label) != 1:
		return fleet.Errorf(fleet.Invalid, "an operation on a parameter does exactly one thing; this does %d", len(o.Put)+len(o.Delete)+len(o.Label))
	case o.Salt.IsZero():
		return fleet.Errorf(fleet.Invalid, "an operation on parameter %s without its salt", o.Name())
	case len(o.Delete) == 1:
		return o.Delete[0].check()
	case len(o.Label) == 1:
		return o.Label[0].check()
	}
	put := o.Put[0]
	if err := put.Check(); err != nil {
		return err
	}
	if put.Version == 1 && put.Born != issued {
		return fleet.Errorf(fleet.Invalid, "parameter %s: its first version is born when its change is issued", put.Name)
	}
	if at, ok := expiry(put.Policies); ok && at <= issued {
		return fleet.Errorf(fleet.Invalid, "parameter %s would have expired before it was put (InvalidPolicyAttributeException)", put.Name)
	}
	return nil
}

// Check reports what is wrong with a version on the face of it, or nil.
func (p Put) Check() error {
	if err := checkPlace(p.Name, p.Born); err != nil {
		return err
	}
	switch {
	case p.Version == 0 || p.Version == 1<<32-1:
		return fleet.Errorf(fleet.Invalid, "parameter %s cannot have a version %d", p.Name, p.Version)
	case Public(p.Name):
		return fleet.Errorf(fleet.Denied, "parameter %s: what is below %s comes with muster (ValidationException)", p.Name, PublicPath)
	case p.Type.String() == "":
		return fleet.Errorf(fleet.Invalid, "parameter %s: type %d is none (UnsupportedParameterType)", p.Name, p.Type)
	case p.Tier.String() == "":
		return fleet.Errorf(fleet.Invalid, "parameter %s: tier %d is none (ValidationException)", p.Name, p.Tier)
	case p.DataType != DataText && (p.DataType != DataImage || p.Type != String):
		return fleet.Errorf(fleet.Invalid, "parameter %s: data type %q is not %s, nor %s of a String (ValidationException)", p.Name, p.DataType, DataText, DataImage)
	case p.Digest.IsZero():
		return fleet.Errorf(fleet.Invalid, "parameter %s: its value has no digest", p.Name)
	case utf8.RuneCountInString(p.Description) > MaxDescription || !utf8.ValidString(p.Description):
		return fleet.Errorf(fleet.Invalid, "parameter %s: a description is text of at most %d characters (ValidationException)", p.Name, MaxDescription)
	case utf8.RuneCountInString(p.Pattern) > MaxPattern || !utf8.ValidString(p.Pattern):
		return fleet.Errorf(fleet.Invalid, "parameter %s: a pattern is text of at most %d characters (InvalidAllowedPatternException)", p.Name, MaxPattern)
	case len(p.Policies) > 0 && p.Tier != Advanced:
		return fleet.Errorf(fleet.Invalid, "parameter %s: policies need tier Advanced (ValidationException)", p.Name)
	}
	if err := p.checkSize(); err != nil {
		return err
	}
	if err := CheckPolicies(p.Policies); err != nil {
		return err
	}
	if err := fleet.CheckTags(p.Tags); err != nil {
		return err
	}
	if err := p.checkLabels(); err != nil {
		return err
	}
	if err := p.checkReaders(); err != nil {
		return err
	}
	return p.checkRotation()
}

// checkPlace judges what every operation begins with.
func checkPlace(name string, born int64) error {
	canonical, err := CanonicalName(name)
	switch {
	case err != nil:
		return err
	case canonical != name:
		return fleet.Errorf(fleet.Invalid, "parameter %q is not in its one spelling, %s", name, canonical)
	case born <= 0 || born > auth.MaxTime:
		return fleet.Errorf(fleet.Invalid, "parameter %s was born at %d, which is no time", name, born)
	}
	return nil
}

func (p Put) checkSize() error {
	switch size := int64(p.Size); {
	case size == 0:
		return errEmpty(p.Name)
	case size > int64(p.Tier.MaxSize()):
		return fleet.Errorf(fleet.Invalid, "parameter %s: a value of %d bytes; tier %s takes %d (ValidationException)", p.Name, p.Size, p.Tier, p.Tier.MaxSize())
	case p.Type == SecureString && SealedSize(int(size)) != int(size):
		return fleet.Errorf(fleet.Invalid, "parameter %s: %d bytes are no size of a padded secret", p.Name, p.Size)
	}
	return nil
}

func (p Put) checkLabels() error {
	switch {
	case len(p.Labels) > MaxVersionLabels:
		return errLabelCount(p.Name, p.Version)
	case (len(p.Labels) > 0) != (p.Seq > 0):
		return fleet.Errorf(fleet.Invalid, "parameter %s: version %d counts label changes only with labels", p.Name, p.Version)
	}
	return checkEach(p.Name, p.Labels)
}

// checkEach judges labels, each of which may be there once.
func checkEach(name string, labels []string) error {
	for i, label := range labels {
		if err := CheckLabel(label); err != nil {
			return err
		}
		if slices.Contains(labels[:i], label) {
			return fleet.Errorf(fleet.Invalid, "parameter %s: label %s is there twice (ValidationException)", name, label)
		}
	}
	return nil
}

func errLabelCount(name string, version uint32) error {
	return fleet.Errorf(fleet.Exhausted, "version %d of parameter %s would have more than %d labels (ParameterVersionLabelLimitExceeded)", version, name, MaxVersionLabels)
}

func (p Put) checkReaders() error {
	switch {
	case p.Type != SecureString && len(p.Readers) > 0:
		return fleet.Errorf(fleet.Invalid, "parameter %s is no secret, and has readers (ValidationException)", p.Name)
	case p.Type == SecureString && (len(p.Readers) == 0 || len(p.Readers) > MaxReaders):
		return fleet.Errorf(fleet.Invalid, "parameter %s: a secret has 1 to %d readers, not %d (InvalidKeyId)", p.Name, MaxReaders, len(p.Readers))
	}
	for i, r := range p.Readers {
		if err := r.check(); err != nil {
			return err
		}
		if slices.Contains(p.Readers[:i], r) {
			return fleet.Errorf(fleet.Invalid, "parameter %s: reader %s is there twice (InvalidKeyId)", p.Name, r)
		}
	}
	return nil
}

func (r Reader) check() error {
	ok := false
	switch r.Kind {
	case ByRecovery:
		ok = r == Reader{Kind: r.Kind, Key: r.Key}
	case ByOperator:
		ok = r == Reader{Kind: r.Kind, Name: r.Name, Key: r.Key} && fleet.CheckName(r.Name) == nil
	case ByKeyring:
		ok = fleet.CheckName(r.Name) == nil && !r.Life.IsZero() && r.Epoch > 0
	}
	if !ok || r.Key.IsZero() {
		return fleet.Errorf(fleet.Invalid, "%s of kind %d is no reader of a secret (InvalidKeyId)", r, r.Kind)
	}
	return nil
}

// String names a reader as filters and people do: keyring:NAME, operator:NAME or recovery.
func (r Reader) String() string {
	switch r.Kind {
	case ByRecovery:
		return "recovery"
	case ByOperator:
		return "operator:" + r.Name
	case ByKeyring:
		return "keyring:" + r.Name
	}
	return "reader " + r.Name
}

func (p Put) checkRotation() error {
	if len(p.Rotation) == 0 {
		return nil
	}
	r := p.Rotation[0]
	switch {
	case len(p.Rotation) > 1 || p.Type != SecureString:
		return fleet.Errorf(fleet.Invalid, "parameter %s: only a secret is rotated, in one way (ValidationException)", p.Name)
	case r.Document == "" || len(r.Document) > 128 || !utf8.ValidString(r.Document):
		return fleet.Errorf(fleet.Invalid, "parameter %s: its rotation names no document (ValidationException)", p.Name)
	case r.Target == "" || len(r.Target) > fleet.MaxTarget || !utf8.ValidString(r.Target):
		return fleet.Errorf(fleet.Invalid, "parameter %s: its rotation has no target (ValidationException)", p.Name)
	case r.Every < 0 || r.Every > MaxRotateEvery || r.Every%hour != 0:
		return fleet.Errorf(fleet.Invalid, "parameter %s is rotated every number of hours, up to 366 days (ValidationException)", p.Name)
	case r.Length > MaxGenerated:
		return fleet.Errorf(fleet.Invalid, "parameter %s: a generated value has at most %d characters (ValidationException)", p.Name, MaxGenerated)
	}
	return nil
}

func (d Delete) check() error {
	if d.Version == 0 {
		return fleet.Errorf(fleet.Invalid, "parameter %s is deleted without saying which version is the newest", d.Name)
	}
	return checkPlace(d.Name, d.Born)
}

func (l Label) check() error {
	if err := checkPlace(l.Name, l.Born); err != nil {
		return err
	}
	switch {
	case l.Seq == 0:
		return fleet.Errorf(fleet.Invalid, "parameter %s: a change of labels without its number", l.Name)
	case len(l.Add)+len(l.Remove) == 0:
		return fleet.Errorf(fleet.Invalid, "parameter %s: no label to add or to remove (ValidationException)", l.Name)
	case l.Version == 0 && len(l.Add) > 0:
		return fleet.Errorf(fleet.Invalid, "parameter %s: labels go to a version (ValidationException)", l.Name)
	case len(l.Add) > MaxVersionLabels:
		return errLabelCount(l.Name, l.Version)
	case len(l.Remove) > MaxRemoved:
		return fleet.Errorf(fleet.Invalid, "parameter %s: at most %d labels are removed at once (ValidationException)", l.Name, MaxRemoved)
	}
	return checkEach(l.Name, slices.Concat(l.Add, l.Remove))
}

// MaxRemoved bounds the labels that one operation removes.
const MaxRemoved = 10
