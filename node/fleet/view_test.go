package fleet

import (
	"slices"
	"strings"
	"testing"
)

func TestViewIsSortedAndItsOwn(t *testing.T) {
	given := fleetOfSix()
	v := NewView(given)
	given[0].Name = "changed"
	var names []string
	for m := range v.All() {
		names = append(names, m.Name)
	}
	if !slices.IsSorted(names) || slices.Contains(names, "changed") || v.Len() != 6 {
		t.Errorf("members %v", names)
	}
	m, ok := v.ByName("db1")
	if byID, found := v.ByID(m.ID); !ok || !found || byID.Name != "db1" {
		t.Error("db1 is not found by its ID")
	}
	if _, ok := v.ByID(ID{}); ok {
		t.Error("the zero ID names a member")
	}
	if v.Version() != 1 || v.Next(given).Version() != 2 || (View{}).Version() != 0 {
		t.Error("versions do not count")
	}
	target, _ := ParseTarget("tag.env=prod")
	if got := selected(target, v.Select(target)); got != "db1 web01 web13" {
		t.Errorf("selected %s", got)
	}
}

func TestViewFind(t *testing.T) {
	v := NewView(append(fleetOfSix(), member("web")))
	db := Sum([]byte("db1"))
	for _, c := range []struct{ text, want, fault, hint string }{
		{"web01", "web01", "", ""},
		{"web", "web", "", ""}, // a whole name wins over the beginning of others
		{"db", "db1", "", ""},
		{db.String(), "db1", "", ""},
		{db.Text(), "db1", "", ""},
		{db.String()[:10], "db1", "", ""},
		{"web0", "", `"web0" may be any of 2 nodes: web01 (`, "give more"},
		{"wbe01", "", `no node "wbe01"`, "did you mean web01"},
		{"zzzzzz", "", `no node "zzzzzz"`, "node list"},
		{"", "", "expected a node's name", ""},
	} {
		m, err := v.Find(c.text)
		if c.fault == "" {
			if err != nil || m.Name != c.want {
				t.Errorf("%s finds %s, %v", c.text, m.Name, err)
			}
			continue
		}
		if e, ok := err.(*Error); !ok || !strings.Contains(e.What, c.fault) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%q: %#v, want %q", c.text, err, c.fault)
		}
	}
}

func TestViewPin(t *testing.T) {
	v := NewView(fleetOfSix())
	id := Sum([]byte("web13")).String()
	for _, c := range []struct{ text, want, fault string }{
		{"tag.a=b and not " + id[:9], "tag.a=b and not web13", ""},
		{"web01," + id[:12] + ",web[1-3],foo*", "foo*,web01,web13,web[1-3]", ""},
		{"(" + id[:9] + " or db1) and *", "(web13 or db1) and *", ""},
		{"web14", "", `no node "web14"`},
	} {
		target, err := ParseTarget(c.text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Pin(target)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%s: %v", c.text, err)
			}
			continue
		}
		if err != nil || got.String() != c.want {
			t.Errorf("%s is pinned to %s, %v", c.text, got, err)
		}
	}
	twins := []Member{member("a1"), member("a2")}
	twins[1].ID = twins[0].ID
	twins[1].ID[31] ^= 1
	target, _ := ParseTarget(twins[0].ID.String())
	if _, err := NewView(twins).Pin(target); err == nil || !strings.Contains(err.Error(), "may be any of 2 nodes") {
		t.Errorf("an ambiguous ID is pinned: %v", err)
	}
}
