package node

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// A grant to connect is none to listen, one to listen is none to expose the node, and each place and path must be granted.
func TestWhatPolicyHearsOfListenersAndPaths(t *testing.T) {
	d := newDoor()
	tunnel := func(listen ...string) auth.Session {
		return d.asks(auth.SessionForward, func(s *auth.Session) { s.Forward, s.Listen = nil, listen })
	}
	copies := func(put bool, paths ...string) auth.Session {
		return d.asks(auth.SessionCopy, func(s *auth.Session) { s.Paths, s.Put, s.User = paths, put, "www-data" })
	}
	all := map[string]auth.Session{
		"forward": d.asks(auth.SessionForward, nil), "loop": tunnel("127.0.0.1:8080"), "any": tunnel("[::1]:0"), "low": tunnel("127.0.0.1:80"), "wide": tunnel("0.0.0.0:8080"),
		"loop+wide": tunnel("127.0.0.1:8080", "0.0.0.0:8080"), "both": d.asks(auth.SessionForward, func(s *auth.Session) { s.Listen = []string{"127.0.0.1:8080"} }),
		"get": copies(false, "/srv/www/a"), "put": copies(true, "/srv/www/"), "get+": copies(false, "/srv/www/a", "/etc/shadow"), "home": copies(true, "~/"),
	}
	for when, want := range map[string][]string{
		`context.kind == "forward"`:                                        {"forward"},
		`context.kind == "listen"`:                                         {"loop", "any"},
		`context.kind == "expose"`:                                         {"low", "wide"},
		`["listen", "expose"].contains(context.kind)`:                      {"loop", "any", "low", "wide", "loop+wide"},
		`["listen", "forward"].contains(context.kind)`:                     {"forward", "loop", "any", "both"},
		`context.kind == "listen" && context.listen == "127.0.0.1:8080"`:   {"loop"},
		`context.listen like "127.0.0.1:*"`:                                {"loop", "low"},
		`context.kind == "copy"`:                                           {"get", "put", "get+", "home"},
		`context.kind == "copy" && context.path like "/srv/www/*"`:         {"get", "put"},
		`context.path like "/srv/www/*" && !context.put`:                   {"get"},
		`context.kind == "copy" && context.put`:                            {"put", "home"},
		`context.path like "~/*"`:                                          {"home"},
		`context.kind == "copy" && context.user == "www-data"`:             {"get", "put", "get+", "home"},
		`context.to == "db:5432" || context.listen == "127.0.0.1:8080"`:    {"forward", "loop", "both"},
		`context.path == "/srv/www/a" || context.path like "/etc/shadow*"`: {"get", "get+"},
	} {
		d.SetPolicy(`permit (principal, action == Action::"session", resource) when { ` + when + ` };`)
		for name, s := range all {
			o, err := d.judge(s)
			if (err == nil) != slices.Contains(want, name) {
				t.Errorf("%s: %s: %v", when, name, err)
			}
			if err == nil && (!slices.Equal(o.Listen, s.Listen) || !slices.Equal(o.Paths, s.Paths) || o.Put != s.Put) {
				t.Errorf("%s becomes %+v", name, o)
			}
			if err != nil && fleet.KindOf(err) != fleet.Denied {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Whoever is refused is told the rule that would let him in, and no wider one.
func TestTheRuleThatIsMissingForListenersAndPaths(t *testing.T) {
	d := newDoor()
	for hint, s := range map[string]auth.Session{
		`context.kind == "listen" && context.listen == "127.0.0.1:8080"`:                                             d.asks(auth.SessionForward, func(s *auth.Session) { s.Forward, s.Listen = nil, []string{"127.0.0.1:8080"} }),
		`context.kind == "expose" && context.listen == "0.0.0.0:80"`:                                                 d.asks(auth.SessionForward, func(s *auth.Session) { s.Forward, s.Listen = nil, []string{"0.0.0.0:80"} }),
		`context.kind == "copy" && context.user == "www-data" && context.path == "/etc/motd" && context.put == true`: d.asks(auth.SessionCopy, func(s *auth.Session) { s.Paths, s.Put, s.User = []string{"/etc/motd"}, true, "www-data" }),
	} {
		d.SetPolicy(`permit (principal, action == Action::"read", resource);`)
		_, err := d.judge(s)
		var e *fleet.Error
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		missing := e.Hint
		if !strings.Contains(missing, hint) {
			t.Errorf("%v → %s", err, missing)
		}
		d.SetPolicy(`permit (principal, action == Action::"session", resource) when { ` + hint + ` };`)
		if _, err := d.judge(s); err != nil {
			t.Errorf("the rule does not help: %v", err)
		}
	}
}
