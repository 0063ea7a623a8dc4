package params

import (
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Limits of policies, as Systems Manager has them.
const (
	MaxPolicies   = 10
	MaxPolicyText = 4096 // characters of their JSON
)

const (
	hour = int64(time.Hour / time.Millisecond)
	day  = 24 * hour
	// maxPeriod bounds a notice's period, so that sums with times cannot overflow: a hundred years.
	maxPeriod = 36_525 * day
)

// policyJSON is a policy as Systems Manager writes it.
type policyJSON struct {
	Type       string         `json:"Type"`
	Version    string         `json:"Version"`
	Attributes attributesJSON `json:"Attributes"`
}

// attributesJSON has the attributes of all kinds; each kind has its own.
type attributesJSON struct {
	Timestamp string `json:"Timestamp,omitempty"`
	Before    digits `json:"Before,omitempty"`
	After     digits `json:"After,omitempty"`
	Unit      string `json:"Unit,omitempty"`
}

// digits is a number that Systems Manager writes between quotes, and people do not.
type digits string

// UnmarshalJSON takes both.
func (d *digits) UnmarshalJSON(raw []byte) error {
	*d = digits(strings.Trim(string(raw), `"`))
	return nil
}

// String returns the kind's name, "" for what is none.
func (k PolicyKind) String() string {
	switch k {
	case Expiration:
		return "Expiration"
	case ExpirationNotification:
		return "ExpirationNotification"
	case NoChangeNotification:
		return "NoChangeNotification"
	}
	return ""
}

// ParsePolicies reads policies in Systems Manager's JSON. An empty text, [] and [{}] are none.
func ParsePolicies(text string) ([]Policy, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if n := utf8.RuneCountInString(text); n > MaxPolicyText {
		return nil, fleet.Errorf(fleet.Exhausted, "policies of %d characters; at most %d (PoliciesLimitExceededException)", n, MaxPolicyText)
	}
	var raw []policyJSON
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&raw); err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "policies are no JSON list of policies: %w (InvalidPolicyAttributeException)", err).Hinted("%s", policyHint)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fleet.Errorf(fleet.Invalid, "policies: there is something behind the list (InvalidPolicyAttributeException)").Hinted("%s", policyHint)
	}
	if len(raw) == 1 && raw[0] == (policyJSON{}) {
		return nil, nil
	}
	if len(raw) > MaxPolicies {
		return nil, errPolicyCount(len(raw))
	}
	var out []Policy
	for _, r := range raw {
		p, err := r.policy()
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, CheckPolicies(out)
}

const policyHint = `[{"Type":"Expiration","Version":"1.0","Attributes":{"Timestamp":"2030-01-31T00:00:00Z"}}]`

func errPolicyCount(n int) error {
	return fleet.Errorf(fleet.Exhausted, "%d policies; at most %d (PoliciesLimitExceededException)", n, MaxPolicies)
}

func (r policyJSON) policy() (Policy, error) {
	if r.Version != "1.0" {
		return Policy{}, fleet.Errorf(fleet.Invalid, "policy %s has version %q; there is 1.0 (InvalidPolicyAttributeException)", r.Type, r.Version)
	}
	a := r.Attributes
	switch r.Type {
	case Expiration.String():
		if a != (attributesJSON{Timestamp: a.Timestamp}) {
			return Policy{}, errAttributes(r.Type, "Timestamp")
		}
		at, err := parseInstant(a.Timestamp)
		return Policy{Kind: Expiration, At: at}, err
	case ExpirationNotification.String():
		if a != (attributesJSON{Before: a.Before, Unit: a.Unit}) {
			return Policy{}, errAttributes(r.Type, "Before and Unit")
		}
		before, err := parsePeriod(r.Type, a.Before, a.Unit)
		return Policy{Kind: ExpirationNotification, Before: before}, err
	case NoChangeNotification.String():
		if a != (attributesJSON{After: a.After, Unit: a.Unit}) {
			return Policy{}, errAttributes(r.Type, "After and Unit")
		}
		after, err := parsePeriod(r.Type, a.After, a.Unit)
		return Policy{Kind: NoChangeNotification, After: after}, err
	}
	return Policy{}, fleet.Errorf(fleet.Invalid, "%q is no kind of policy: Expiration, ExpirationNotification or NoChangeNotification (InvalidPolicyTypeException)", r.Type)
}

func errAttributes(kind, takes string) error {
	return fleet.Errorf(fleet.Invalid, "policy %s takes %s and nothing else (InvalidPolicyAttributeException)", kind, takes)
}

func parseInstant(text string) (int64, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00"} {
		if at, err := time.Parse(layout, text); err == nil && at.UnixMilli() > 0 && at.UnixMilli() <= auth.MaxTime {
			return at.UnixMilli(), nil
		}
	}
	return 0, fleet.Errorf(fleet.Invalid, "%q is no moment, such as 2030-01-31T00:00:00Z or 2030-01-31T00:00:00+02:00 (InvalidPolicyAttributeException)", text)
}

func parsePeriod(kind string, count digits, unit string) (int64, error) {
	each := map[string]int64{"Days": day, "Hours": hour}[unit]
	n, err := strconv.ParseUint(string(count), 10, 32)
	if each == 0 || err != nil || n == 0 || int64(n) > maxPeriod/each {
		return 0, fleet.Errorf(fleet.Invalid, "policy %s: %q %q is no number of Days or Hours (InvalidPolicyAttributeException)", kind, count, unit)
	}
	return int64(n) * each, nil
}

// FormatPolicies returns what ParsePolicies reads; "" for none.
func FormatPolicies(policies []Policy) string {
	if len(policies) == 0 {
		return ""
	}
	var out []policyJSON
	for _, p := range policies {
		r := policyJSON{Type: p.Kind.String(), Version: "1.0"}
		switch p.Kind {
		case Expiration:
			r.Attributes.Timestamp = time.UnixMilli(p.At).UTC().Format("2006-01-02T15:04:05.000Z")
		case ExpirationNotification:
			r.Attributes.Before, r.Attributes.Unit = formatPeriod(p.Before)
		case NoChangeNotification:
			r.Attributes.After, r.Attributes.Unit = formatPeriod(p.After)
		}
		out = append(out, r)
	}
	text, _ := json.Marshal(out) // strings and lists alone
	return string(text)
}

func formatPeriod(ms int64) (count digits, unit string) {
	if ms%day == 0 {
		return digits(strconv.FormatInt(ms/day, 10)), "Days"
	}
	return digits(strconv.FormatInt(ms/hour, 10)), "Hours"
}

// CheckPolicies reports what is wrong with policies on the face of them, or nil.
func CheckPolicies(policies []Policy) error {
	if len(policies) > MaxPolicies {
		return errPolicyCount(len(policies))
	}
	for i, p := range policies {
		if err := p.check(); err != nil {
			return err
		}
		if slices.Contains(policies[:i], p) {
			return fleet.Errorf(fleet.Invalid, "policy %s is there twice (IncompatiblePolicyException)", p.Kind)
		}
	}
	switch count := countKind(policies, Expiration); {
	case count > 1:
		return fleet.Errorf(fleet.Invalid, "a parameter expires once; there are %d policies Expiration (IncompatiblePolicyException)", count)
	case count == 0 && countKind(policies, ExpirationNotification) > 0:
		return fleet.Errorf(fleet.Invalid, "policy ExpirationNotification needs a policy Expiration (IncompatiblePolicyException)")
	}
	return nil
}

func countKind(policies []Policy, kind PolicyKind) (n int) {
	for _, p := range policies {
		if p.Kind == kind {
			n++
		}
	}
	return n
}

func (p Policy) check() error {
	isPeriod := func(ms int64) bool { return ms > 0 && ms <= maxPeriod && ms%hour == 0 }
	ok := false
	switch p.Kind {
	case Expiration:
		ok = p == Policy{Kind: p.Kind, At: p.At} && p.At > 0 && p.At <= auth.MaxTime
	case ExpirationNotification:
		ok = p == Policy{Kind: p.Kind, Before: p.Before} && isPeriod(p.Before)
	case NoChangeNotification:
		ok = p == Policy{Kind: p.Kind, After: p.After} && isPeriod(p.After)
	default:
		return fleet.Errorf(fleet.Invalid, "policy of kind %d is not understood by this version (InvalidPolicyTypeException)", p.Kind)
	}
	if !ok {
		return fleet.Errorf(fleet.Invalid, "policy %s has values that it cannot have (InvalidPolicyAttributeException)", p.Kind)
	}
	return nil
}

// expiry returns when policies end a parameter.
func expiry(policies []Policy) (at int64, ok bool) {
	for _, p := range policies {
		if p.Kind == Expiration {
			return p.At, true
		}
	}
	return 0, false
}
