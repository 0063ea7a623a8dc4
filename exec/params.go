package exec

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Limits of what a command takes from the parameter store.
const (
	MaxParams      = 32       // versions of parameters
	MaxParamValues = 64 << 10 // bytes of all plain values together
	// MaxSecretValues is how many bytes all secrets of a run may have together, once they are open: what masks them in the
	// output grows with it.
	MaxSecretValues = 64 << 10
	maxParamTags    = 50  // SSM's
	maxTagKey       = 128 // bytes
	maxTagValue     = 256 // bytes
)

// ParamRef pins a version of a parameter. Of a plain one the value itself is signed with the command; a secret is opened
// on the node that runs it.
type ParamRef struct {
	Name     string // canonical
	Selector string // as the command's texts have it: empty, a version's number or a label
	Born     int64  // Unix milliseconds: which of the parameters that had the name
	Version  uint32 // 0 of a public parameter, which no store holds
	Digest   fleet.ID
	// Tags are the version's, as the signer saw them: policy is asked about them. Of a secret the node holds them against
	// what the secret's writer signed.
	Tags   map[string]string
	List   bool   // a StringList
	Secret bool   // a SecureString
	Value  []byte // of a plain one
}

// String returns the reference as texts have it, without braces.
func (p ParamRef) String() string {
	return document.StoreRef{Name: p.Name, Selector: p.Selector, Secure: p.Secret}.String()
}

// Text names the version for people: NAME version 3.
func (p ParamRef) Text() string {
	if p.Version == 0 {
		return p.Name
	}
	return p.Name + " version " + strconv.FormatUint(uint64(p.Version), 10)
}

// SameTags reports whether the secret's true tags are those that the command was signed with.
func (p ParamRef) SameTags(tags map[string]string) bool {
	if len(tags) != len(p.Tags) {
		return false
	}
	for k, v := range p.Tags {
		if was, ok := tags[k]; !ok || was != v {
			return false
		}
	}
	return true
}

// SortParams puts pins into the order in which they are signed.
func SortParams(all []ParamRef) { slices.SortFunc(all, ParamRef.compare) }

func (p ParamRef) compare(o ParamRef) int {
	return cmp.Or(cmp.Compare(p.Name, o.Name), cmp.Compare(p.Selector, o.Selector))
}

// Secrets returns those of the command's parameters that a node has to open.
func (c Command) Secrets() []ParamRef {
	var out []ParamRef
	for _, p := range c.Params {
		if p.Secret {
			out = append(out, p)
		}
	}
	return out
}

// Store returns the command's parameters as documents are bound to them.
func (c Command) Store() *document.Store {
	all := make([]document.Pinned, len(c.Params))
	for i, p := range c.Params {
		all[i] = document.Pinned{Name: p.Name, Selector: p.Selector, List: p.List, Secret: p.Secret, Value: string(p.Value)}
	}
	return document.NewStore(all, c.Header.ID.String())
}

func (c Command) checkParams() error {
	if len(c.Params) > MaxParams {
		return fleet.Errorf(fleet.Invalid, "a command takes at most %d parameters from the store, not %d", MaxParams, len(c.Params))
	}
	size := 0
	for i, p := range c.Params {
		if err := p.check(); err != nil {
			return err
		}
		if i > 0 && c.Params[i-1].compare(p) >= 0 {
			return fleet.Errorf(fleet.Invalid, "the parameters are not sorted, or %s is there twice", p)
		}
		size += len(p.Value)
	}
	if size > MaxParamValues {
		return fleet.Errorf(fleet.Exhausted, "the parameters' values have %d bytes; a command carries at most %d", size, MaxParamValues).
			Hinted("let the hosts read what is long: muster param get")
	}
	return nil
}

func (p ParamRef) check() error {
	ref, err := document.ParseStoreRef(p.String())
	switch {
	case err != nil:
		return err
	case ref.Name != p.Name || ref.Selector != p.Selector:
		return fleet.Errorf(fleet.Invalid, "parameter %q is not in canonical form", clip(p.Name))
	case (p.Version == 0 || p.Born <= 0) && (p.Secret || !isPublicParam(p.Name)):
		return fleet.Errorf(fleet.Invalid, "parameter %s is not pinned to a version", p)
	case p.Secret && len(p.Value) > 0:
		return fleet.Errorf(fleet.Invalid, "the command carries the value of secret %s", p)
	case p.Secret && p.List:
		return fleet.Errorf(fleet.Invalid, "secret %s cannot be a list", p)
	case bytes.IndexByte(p.Value, 0) >= 0 || !utf8.Valid(p.Value):
		return fleet.Errorf(fleet.Invalid, "the value of %s is no text", p)
	}
	return p.checkTags()
}

func (p ParamRef) checkTags() error {
	if len(p.Tags) > maxParamTags {
		return fleet.Errorf(fleet.Invalid, "%s with %d tags; at most %d", p, len(p.Tags), maxParamTags)
	}
	for k, v := range p.Tags {
		if len(k) > maxTagKey || len(v) > maxTagValue {
			return fleet.Errorf(fleet.Invalid, "%s with a tag that is too long", p)
		}
	}
	return nil
}

// isPublicParam reports whether a parameter is one of those that muster itself publishes.
func isPublicParam(name string) bool { return strings.HasPrefix(name, "/muster/public/") }

// MayUseParams reports why op may not use the command's parameters, or nil: read the plain ones, decrypt the secrets.
func MayUseParams(cmd Command, op auth.Operator, policy *auth.Policy) error {
	for _, p := range cmd.Params {
		if isPublicParam(p.Name) {
			continue // everybody has them
		}
		action := auth.ActReadParam
		if p.Secret {
			action = auth.ActDecryptParam
		}
		if _, err := policy.Decide(auth.Ask{
			Principal: op.AsPrincipal(), Action: action, Resource: auth.ParameterResource(p.Name, p.Tags),
		}); err != nil {
			return err
		}
	}
	return nil
}
