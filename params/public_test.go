package params

import (
	"slices"
	"strings"
	"testing"
)

func TestPublicParameters(t *testing.T) {
	all := PublicParameters("0.1.0", []PublicDocument{{Name: "AWS-RunShellScript", Digest: "abc", Schema: "2.2"}})
	if !slices.IsSortedFunc(all, func(a, b PublicParameter) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not by name")
	}
	values := map[string]string{}
	for _, p := range all {
		if name, err := CanonicalName(p.Name); err != nil || name != p.Name || !Public(p.Name) || p.Value == "" {
			t.Errorf("%+v: %v", p, err)
		}
		values[p.Name] = p.Value
	}
	for name, want := range map[string]string{
		"/muster/public/release/version": "0.1.0", "/muster/public/documents/AWS-RunShellScript/digest": "abc", "/muster/public/documents/AWS-RunShellScript/schema": "2.2", "/muster/public/os/debian/packages": "apt", "/muster/public/os/rocky/family": "rhel",
	} {
		if values[name] != want {
			t.Errorf("%s is %q", name, values[name])
		}
	}
	if len(values) != len(all) || Public("/muster/publicity") || Public("/x/muster/public/a") {
		t.Error("names")
	}
}
