package metrics

import (
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]struct {
		at   string
		open bool
	}{
		"7981":                 {"127.0.0.1:7981", false},
		":7981":                {"127.0.0.1:7981", false},
		"127.0.0.1:9100":       {"127.0.0.1:9100", false},
		"127.1.2.3:9100":       {"127.1.2.3:9100", false},
		"[::1]:9100":           {"[::1]:9100", false},
		"[::ffff:127.0.0.1]:9": {"127.0.0.1:9", false},
		"0.0.0.0:9100":         {"0.0.0.0:9100", true},
		"[::]:9100":            {"[::]:9100", true},
		"10.0.0.7:9100":        {"10.0.0.7:9100", true},
	} {
		at, open, err := ParseAddress(text)
		if err != nil || at.String() != want.at || open != want.open {
			t.Errorf("%q: %s, %v, %v", text, at, open, err)
		}
	}
	for _, text := range []string{"", ":", "0", ":0", "web1:7981", "localhost:7981", "7981x", "127.0.0.1", "127.0.0.1:", ":70000", "::1", "a:b:c"} {
		if at, _, err := ParseAddress(text); err == nil || fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%q is read as %s, %v", text, at, err)
		}
	}
}
