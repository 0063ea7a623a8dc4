package release

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestVersions(t *testing.T) {
	order := strings.Fields("0.0.0-dev 0.0.0-dev+5.gabc 0.9.9 1.0.0-alpha 1.0.0-alpha.1 1.0.0-rc.2 1.0.0-rc.10 1.0.0 1.0.0+3.gabc 1.0.0+12.gdef 1.0.1-rc.1 1.2.0 1.10.0 2.0.0")
	for i, a := range order {
		for j, b := range order {
			x, err := ParseVersion(a)
			y, err2 := ParseVersion(b)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			if got, want := x.Compare(y), min(1, max(-1, i-j)); got != want {
				t.Errorf("%s compared with %s is %d", a, b, got)
			}
		}
	}
	for _, bad := range strings.Split("|1|1.2|1.2.3.4|v1.2.3|1.2.x|01.2.3|1.2.3-|1.2.3+|1.2.3-a..b|1.2.3 |1.2.3-ä|-1.2.3|99999999999.0.0|1.2.3-"+strings.Repeat("a", 99), "|") {
		if _, err := ParseVersion(bad); err == nil {
			t.Errorf("%q is a version", bad)
		}
	}
}

func TestVersionsCompareBothWays(t *testing.T) {
	text := rapid.StringMatching(`[0-2]\.[0-2]\.[0-2](-(rc|beta)(\.[0-9]{1,2})?)?(\+[0-9]{1,2}\.g[0-9a-f]{2})?`)
	rapid.Check(t, func(t *rapid.T) {
		var v [3]Version
		for i := range v {
			one, err := ParseVersion(text.Filter(func(s string) bool { _, err := ParseVersion(s); return err == nil }).Draw(t, "version"))
			if err != nil {
				t.Fatal(err)
			}
			v[i] = one
		}
		if v[0].Compare(v[1]) != -v[1].Compare(v[0]) {
			t.Fatalf("%v and %v compare in one direction only", v[0], v[1])
		}
		if v[0].Compare(v[1]) <= 0 && v[1].Compare(v[2]) <= 0 && v[0].Compare(v[2]) > 0 {
			t.Fatalf("%v, %v, %v are no order", v[0], v[1], v[2])
		}
	})
}

func TestNotOlder(t *testing.T) {
	for _, test := range []struct {
		from, to string
		refused  bool
	}{
		{"1.2.0", "1.2.0", false}, {"1.2.0", "1.2.1", false}, {"1.2.1", "1.2.0", true}, {"1.2.0", "1.2.0-rc.1", true},
		{"1.2.0+5.gabc", "1.2.0", true}, {"built by hand", "0.1.0", false}, {"", "0.1.0", false},
	} {
		err := NotOlder(test.from, Release{Version: test.to})
		if (err != nil) != test.refused || err != nil && fleet.KindOf(err) != fleet.Denied {
			t.Errorf("from %s to %s: %v", test.from, test.to, err)
		}
	}
}
