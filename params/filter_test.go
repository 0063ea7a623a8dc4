package params

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestCheckFilters(t *testing.T) {
	long := strings.Repeat("x", MaxFilterValue+1)
	for _, c := range []struct {
		f          Filter
		list, path string // what is wrong with it there; empty: nothing
	}{
		{Filter{"Name", "", []string{"a"}}, "", "InvalidFilterKey"}, {Filter{"Name", "Contains", []string{"a"}}, "", "InvalidFilterKey"}, {Filter{"Name", "Recursive", []string{"a"}}, "InvalidFilterOption", "InvalidFilterKey"},
		{Filter{"Type", "Equals", []string{"String"}}, "", ""}, {Filter{"Type", "BeginsWith", []string{"String"}}, "InvalidFilterOption", "InvalidFilterOption"}, {Filter{"Type", "", []string{"string"}}, "UnsupportedParameterType", "UnsupportedParameterType"},
		{Filter{"KeyId", "", []string{"keyring:web"}}, "", ""}, {Filter{"Label", "", []string{"prod"}}, "InvalidFilterKey", ""}, {Filter{"Label", "Contains", []string{"prod"}}, "InvalidFilterKey", "InvalidFilterOption"},
		{Filter{"Path", "", []string{"/a"}}, "", "InvalidFilterKey"}, {Filter{"Path", "Recursive", []string{"/a/"}}, "", "InvalidFilterKey"}, {Filter{"Path", "Equals", []string{"/a"}}, "InvalidFilterOption", "InvalidFilterKey"}, {Filter{"Path", "", []string{"a"}}, "must begin", "InvalidFilterKey"},
		{Filter{"Tier", "", []string{"Advanced"}}, "", "InvalidFilterKey"}, {Filter{"Tier", "", []string{"Big"}}, "no tier", "InvalidFilterKey"}, {Filter{"DataType", "", []string{"text"}}, "", "InvalidFilterKey"},
		{Filter{"tag:env", "", nil}, "", "InvalidFilterKey"}, {Filter{"tag:env", "", []string{""}}, "", "InvalidFilterKey"}, {Filter{"tag:", "", nil}, "InvalidFilterKey", "InvalidFilterKey"}, {Filter{"", "", nil}, "InvalidFilterKey", "InvalidFilterKey"},
		{Filter{"name", "", []string{"a"}}, "InvalidFilterKey", "InvalidFilterKey"}, {Filter{"Type", "", nil}, "InvalidFilterValue", "InvalidFilterValue"}, {Filter{"KeyId", "", []string{""}}, "InvalidFilterValue", "InvalidFilterValue"},
		{Filter{"KeyId", "", []string{long}}, "InvalidFilterValue", "InvalidFilterValue"}, {Filter{"KeyId", "", make([]string, MaxFilterValues+1)}, "InvalidFilterValue", "InvalidFilterValue"}, {Filter{"tag:" + long, "", nil}, "InvalidFilterKey", "InvalidFilterKey"},
		{Filter{"KeyId", "", []string{"\xff"}}, "InvalidFilterValue", "InvalidFilterValue"},
	} {
		for _, forPath := range []bool{false, true} {
			want := c.list
			if forPath {
				want = c.path
			}
			err := CheckFilters([]Filter{c.f}, forPath)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%.80v, for a path %v: %v; want %q", c.f, forPath, err, want)
			}
		}
	}
	typed := Filter{"Type", "", []string{"String"}}
	wants(t, "twice", CheckFilters([]Filter{typed, typed}, true), fleet.Invalid, "twice")
	wants(t, "many", CheckFilters(make([]Filter, MaxFilters+1), false), fleet.Invalid, "at most 10")
}

func TestMatches(t *testing.T) {
	d := newDesk("filter")
	p := d.put(t, nil, "/app/web/url", "v1", "prod")
	put, raw := plainPut("/app/web/url", 2, "x")
	put.Born, put.Type, put.Tier, put.Tags = p.Born, SecureString, Advanced, map[string]string{"env": "prod"}
	put.Readers = []Reader{{Kind: ByKeyring, Name: "web"}, {Kind: ByOperator, Name: "ada"}, {Kind: ByRecovery}}
	p.Versions = append(p.Versions, newVersion(put, Signed{Content: raw}))
	one := &Param{Name: "P", Versions: []*Version{{Put: &Put{Name: "P", Type: String, Tier: Standard, DataType: DataText}}}}
	for _, c := range []struct {
		f        Filter
		web, one bool
	}{
		{Filter{"Name", "", []string{"/app/web/url"}}, true, false}, {Filter{"Name", "Equals", []string{"/P", "x"}}, false, true}, {Filter{"Name", "", []string{"P"}}, false, true}, {Filter{"Name", "", []string{"/app"}}, false, false},
		{Filter{"Name", "BeginsWith", []string{"/app"}}, true, false}, {Filter{"Name", "BeginsWith", []string{"/"}}, true, true}, {Filter{"Name", "BeginsWith", []string{"P"}}, false, true}, {Filter{"Name", "Contains", []string{"web"}}, true, false},
		{Filter{"Path", "", []string{"/"}}, false, true}, {Filter{"Path", "", []string{"/app/web"}}, true, false}, {Filter{"Path", "OneLevel", []string{"/app"}}, false, false}, {Filter{"Path", "Recursive", []string{"/app"}}, true, false}, {Filter{"Path", "Recursive", []string{"/"}}, true, true},
		{Filter{"Type", "", []string{"SecureString"}}, true, false}, {Filter{"Type", "", []string{"SecureString", "String"}}, true, true}, {Filter{"Tier", "", []string{"Standard"}}, false, true}, {Filter{"DataType", "", []string{"text"}}, true, true},
		{Filter{"KeyId", "", []string{"keyring:web"}}, true, false}, {Filter{"KeyId", "", []string{"operator:ada"}}, true, false}, {Filter{"KeyId", "", []string{"recovery"}}, true, false}, {Filter{"KeyId", "", []string{"web"}}, false, false},
		{Filter{"tag:env", "", nil}, true, false}, {Filter{"tag:env", "", []string{"prod"}}, true, false}, {Filter{"tag:env", "", []string{"test"}}, false, false}, {Filter{"Label", "", []string{"prod"}}, true, false}, {Filter{"Label", "", []string{"test"}}, false, false},
	} {
		if got := p.Matches([]Filter{c.f}); got != c.web {
			t.Errorf("%v: %v", c.f, got)
		}
		if got := one.Matches([]Filter{c.f}); got != c.one {
			t.Errorf("%v: %v for P", c.f, got)
		}
	}
	if !p.Matches(nil) || p.Matches([]Filter{{"tag:env", "", nil}, {"Tier", "", []string{"Standard"}}}) {
		t.Error("all filters count")
	}
	if v, at := p.Chosen([]Filter{{"Label", "", []string{"x", "prod"}}}); v.Number != 1 || at == nil || at.Label != "prod" {
		t.Errorf("%+v", v)
	}
	if v, at := p.Chosen([]Filter{{"Type", "", []string{"SecureString"}}}); v.Number != 2 || at != nil {
		t.Errorf("%+v", v)
	}
}
