package params

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func policyText(kind, attributes string) string {
	return fmt.Sprintf(`{"Type":%q,"Version":"1.0","Attributes":{%s}}`, kind, attributes)
}

func TestParsePolicies(t *testing.T) {
	at := time.Date(2030, 1, 31, 22, 0, 0, 0, time.UTC).UnixMilli()
	expires := policyText("Expiration", `"Timestamp":"2030-01-31T22:00:00.000Z"`)
	for text, want := range map[string][]Policy{
		"": nil, " ": nil, "[]": nil, "[{}]": nil,
		"[" + expires + "]": {{Kind: Expiration, At: at}},
		"[" + policyText("Expiration", `"Timestamp":"2030-02-01T00:00:00+02:00"`) + "]":                          {{Kind: Expiration, At: at}},
		"[" + policyText("Expiration", `"Timestamp":"2030-01-31T22:00Z"`) + "]":                                  {{Kind: Expiration, At: at}},
		"[" + expires + "," + policyText("ExpirationNotification", `"Before":"15","Unit":"Days"`) + "]":          {{Kind: Expiration, At: at}, {Kind: ExpirationNotification, Before: 15 * day}},
		"[" + policyText("NoChangeNotification", `"After":"20","Unit":"Hours"`) + "]":                            {{Kind: NoChangeNotification, After: 20 * hour}},
		"[" + policyText("NoChangeNotification", `"After":20,"Unit":"Hours"`) + "]":                              {{Kind: NoChangeNotification, After: 20 * hour}},
		" [ " + expires + " , " + policyText("ExpirationNotification", `"Before":"36","Unit":"Hours"`) + " ] \n": {{Kind: Expiration, At: at}, {Kind: ExpirationNotification, Before: 36 * hour}},
	} {
		got, err := ParsePolicies(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
		if again, err := ParsePolicies(FormatPolicies(got)); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%s is written as %s, which is %+v, %v", text, FormatPolicies(got), again, err)
		}
	}
	for text, want := range map[string]string{
		"{}": "InvalidPolicyAttributeException", "[1]": "InvalidPolicyAttributeException", "[{},{}]": "InvalidPolicyAttributeException", "[" + expires + "]]": "InvalidPolicyAttributeException", "[" + expires + "] x": "InvalidPolicyAttributeException",
		`[{"Type":"Expiration","Attributes":{"Timestamp":"2030-01-31T22:00:00Z"}}]`:                "version",
		`[{"Type":"Expire","Version":"1.0"}]`:                                                      "InvalidPolicyTypeException",
		`[{"Type":"Expiration","Version":"1.0","Extra":1}]`:                                        "InvalidPolicyAttributeException",
		"[" + policyText("Expiration", ``) + "]":                                                   "no moment",
		"[" + policyText("Expiration", `"Timestamp":"tomorrow"`) + "]":                             "no moment",
		"[" + policyText("Expiration", `"Timestamp":"1960-01-01T00:00:00Z"`) + "]":                 "no moment",
		"[" + policyText("Expiration", `"Timestamp":"2030-01-31T22:00:00Z","Unit":"Days"`) + "]":   "nothing else",
		"[" + policyText("NoChangeNotification", `"After":"0","Unit":"Days"`) + "]":                "no number",
		"[" + policyText("NoChangeNotification", `"After":"-1","Unit":"Days"`) + "]":               "no number",
		"[" + policyText("NoChangeNotification", `"After":"1.5","Unit":"Days"`) + "]":              "no number",
		"[" + policyText("NoChangeNotification", `"After":"4000000000","Unit":"Days"`) + "]":       "no number",
		"[" + policyText("NoChangeNotification", `"After":"1","Unit":"Weeks"`) + "]":               "no number",
		"[" + policyText("NoChangeNotification", `"Before":"1","Unit":"Days"`) + "]":               "nothing else",
		"[" + policyText("ExpirationNotification", `"Before":"1","Unit":"Days"`) + "]":             "IncompatiblePolicyException",
		"[" + expires + "," + policyText("Expiration", `"Timestamp":"2031-01-31T22:00:00Z"`) + "]": "IncompatiblePolicyException",
		"[" + expires + "," + expires + "]":                                                        "IncompatiblePolicyException",
	} {
		_, err := ParsePolicies(text)
		wants(t, text, err, fleet.Invalid, want)
	}
	eleven := "[" + strings.TrimSuffix(strings.Repeat(expires+",", 11), ",") + "]"
	for _, text := range []string{eleven, "[" + strings.Repeat(" ", MaxPolicyText) + "]"} {
		_, err := ParsePolicies(text)
		wants(t, "too many", err, fleet.Exhausted, "PoliciesLimitExceededException")
	}
}

func drawPolicies(t *rapid.T) []Policy {
	var out []Policy
	if rapid.Bool().Draw(t, "expires") {
		out = append(out, Policy{Kind: Expiration, At: rapid.Int64Range(1, auth.MaxTime).Draw(t, "at")})
		for _, n := range rapid.SliceOfNDistinct(rapid.Int64Range(1, 500), 0, 3, rapid.ID).Draw(t, "before") {
			out = append(out, Policy{Kind: ExpirationNotification, Before: n * hour})
		}
	}
	for _, n := range rapid.SliceOfNDistinct(rapid.Int64Range(1, 500), 0, 3, rapid.ID).Draw(t, "after") {
		out = append(out, Policy{Kind: NoChangeNotification, After: n * hour})
	}
	return out
}

func TestPoliciesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawPolicies(t)
		got, err := ParsePolicies(FormatPolicies(want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v came back as %+v, %v", want, got, err)
		}
	})
}

func TestCheckPolicies(t *testing.T) {
	for _, bad := range []Policy{
		{}, {Kind: 9}, {Kind: Expiration}, {Kind: Expiration, At: -1}, {Kind: Expiration, At: auth.MaxTime + 1}, {Kind: Expiration, At: 5, After: hour}, {Kind: NoChangeNotification}, {Kind: NoChangeNotification, After: hour + 1},
		{Kind: NoChangeNotification, After: maxPeriod + hour}, {Kind: NoChangeNotification, After: hour, At: 5},
	} {
		if CheckPolicies([]Policy{bad}) == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestTierOf(t *testing.T) {
	for _, c := range []struct {
		asked          string
		before         Tier
		size, policies int
		want           Tier
		text           string
	}{
		{"", 0, 1, 0, Standard, ""}, {"", 0, MaxStandard, 0, Standard, ""}, {"", 0, MaxStandard + 1, 0, Advanced, ""}, {"", 0, 1, 1, Advanced, ""}, {"", Advanced, 1, 0, Advanced, ""},
		{IntelligentTiering, 0, 1, 0, Standard, ""}, {IntelligentTiering, Standard, 5000, 0, Advanced, ""}, {"Advanced", 0, 1, 0, Advanced, ""}, {"Advanced", Standard, MaxAdvanced, 9, Advanced, ""},
		{"Standard", Standard, 1, 0, Standard, ""}, {"Standard", Advanced, 1, 0, 0, "no way down"}, {"Standard", 0, MaxStandard + 1, 0, 0, "takes 4096"}, {"Standard", 0, 1, 1, 0, "policies need"},
		{"", 0, MaxAdvanced + 1, 0, 0, "at most 65536"}, {"Advanced", 0, MaxAdvanced + 1, 0, 0, "at most 65536"}, {"advanced", 0, 1, 0, 0, "no tier"},
	} {
		got, err := TierOf(c.asked, c.before, c.size, c.policies)
		if got != c.want || (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	for _, typ := range []Type{String, StringList, SecureString} {
		if got, err := ParseType(typ.String()); got != typ || err != nil {
			t.Errorf("%v is read as %v, %v", typ, got, err)
		}
	}
	_, err := ParseType("string")
	wants(t, "string", err, fleet.Invalid, "UnsupportedParameterType")
}
