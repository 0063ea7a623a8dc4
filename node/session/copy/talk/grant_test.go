package talk

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestGrantCovers(t *testing.T) {
	for _, c := range []struct {
		signed, home, real string
		want               bool
	}{
		{"/srv/www", "", "/srv/www", true},
		{"/srv/www", "", "/srv/www/a/b", true},
		{"/srv/www/", "", "/srv/www", true},
		{"/srv/www/", "", "/srv/www/a", true},
		{"/srv/www", "", "/srv/www2", false},
		{"/srv/www", "", "/srv", false},
		{"/srv/www", "", "/", false},
		{"/", "", "/etc/shadow", true},
		{"/srv/www", "", "/srv/www/../../etc/shadow", false}, // the system never says so
		{"/srv/www", "", "/srv/www/x (deleted)", true},       // a name as any other
		{"/srv/www", "", "srv/www", false},
		{"/srv/www", "", "", false},
		{"/srv/www", "", "/srv/www/", false},
		{"~/", "/people/ann", "/people/ann", true},
		{"~/site", "/people/ann", "/people/ann/site/index", true},
		{"~/site", "/people/ann", "/people/ann/.ssh/authorized_keys", false},
		{"~/", "", "/etc/shadow", false},
		{"~/", "", "/", false},
		{"~/x", "/", "/x", true},
		{"~/*", "/people/a*n", "/people/ann/x", false}, // the home's name is no pattern
		{"/var/log/*.gz", "", "/var/log/a.gz", true},
		{"/var/log/*.gz", "", "/var/log/a.gz/b", false},
		{"/var/log/*.gz", "", "/var/log/a/b.gz", false},
		{"/var/*/log", "", "/var/x/log", true},
		{"/var/*/log", "", "/var/x/y/log", false},
		{"/var/log/*", "", "/etc/shadow", false},
		{"/var/log/[", "", "/etc/shadow", false},
		{`/var/log/\../x`, "", "/var/x", false},
		{"etc", "", "/etc", false},
		{"~root/x", "/people/ann", "/people/ann/x", false},
	} {
		if got := (Grant{Paths: []string{c.signed}}).Covers(c.real, c.home); got != c.want {
			t.Errorf("%q at home %q covers %q: %v", c.signed, c.home, c.real, got)
		}
	}
	if (Grant{}).Covers("/", "") || (Grant{Paths: []string{"/a", "/b"}}).Covers("/c", "") || !(Grant{Paths: []string{"/a", "/b"}}).Covers("/b", "") {
		t.Error("several paths")
	}
}

// What is covered begins as what was signed does, up to its first pattern: a rule for what is below a folder holds.
func TestGrantStaysBelow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-c.*?\[\]\\^-]{1,4}`)
		signed := path.Clean("/" + strings.Join(rapid.SliceOfN(name, 0, 4).Draw(t, "signed"), "/"))
		real := path.Clean("/" + strings.Join(rapid.SliceOfN(rapid.StringMatching(`[a-c.*]{1,4}`), 0, 5).Draw(t, "real"), "/"))
		if !(Grant{Paths: []string{signed}}).Covers(real, "") {
			return
		}
		literal := signed
		if at := strings.IndexAny(signed, `*?[\`); at >= 0 {
			literal = signed[:at]
		}
		if !strings.HasPrefix(real, literal) && !below(signed, real) {
			t.Fatalf("%q covers %q", signed, real)
		}
	})
}

func TestGrantWords(t *testing.T) {
	for _, g := range []Grant{{Paths: []string{"/a"}}, {Put: true, Paths: []string{"put", "deep"}}, {Deep: true, Paths: []string{""}}, {Put: true, Deep: true, Paths: []string{"~/", "/x y"}}} {
		got, err := GrantOf(g.Words())
		if err != nil || got.Put != g.Put || got.Deep != g.Deep || strings.Join(got.Paths, "|") != strings.Join(g.Paths, "|") {
			t.Errorf("%+v: %+v %v", g, got, err)
		}
	}
	for _, words := range [][]string{nil, {"put"}, {"put", "deep"}, {"give", "deep", "/"}, {"get", "wide", "/"}, {"/", "/", "/"}} {
		if g, err := GrantOf(words); fleet.KindOf(err) != fleet.Denied || len(g.Paths) > 0 {
			t.Errorf("%q: %+v %v", words, g, err)
		}
	}
}

func TestGrantCheck(t *testing.T) {
	for _, c := range []struct {
		g    Grant
		ask  Ask
		says string
	}{
		{Grant{Put: true}, Ask{Put: true}, ""},
		{Grant{}, Ask{}, ""},
		{Grant{Deep: true}, Ask{Deep: true}, ""},
		{Grant{Deep: true}, Ask{}, ""},
		{Grant{Put: true}, Ask{}, "not to read"},
		{Grant{}, Ask{Put: true}, "not to write"},
		{Grant{Put: true}, Ask{Put: true, Deep: true}, "not for folders"},
	} {
		if err := c.g.Check(c.ask); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v %+v: %v", c.g, c.ask, err)
		}
	}
}
