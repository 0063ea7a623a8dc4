package auth

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestCanonicalPath(t *testing.T) {
	for text, want := range map[string]string{
		"/": "/", "//": "/", "/..": "/", "/srv/www": "/srv/www", "/srv/www/": "/srv/www/", "/srv//www/./x": "/srv/www/x", "/srv/www/../x": "/srv/x", "/srv/www/..": "/srv/", "/srv/.": "/srv/",
		"": "~/", "~": "~/", "~/": "~/", ".": "~/", "./": "~/", "x": "~/x", "./x/": "~/x/", "~/x/../y": "~/y", "a/..": "~/", "~/..x": "~/..x", "~ann/x": "~/~ann/x", "/~/x": "/~/x",
		"/var/log/*.gz": "/var/log/*.gz", "/a b/ü": "/a b/ü", "/x/~/y": "/x/~/y", "..x/y": "~/..x/y", "~//etc": "~/etc", "~/../etc/..": "",
		"..": "", "../x": "", "a/../../x": "", "~/../x": "", "~//../x": "", "~//..": "", "x/../..": "", "/a\nb": "", "/a\x00": "", "/\xff": "", "/" + strings.Repeat("x", maxPath): "",
	} {
		got, err := CanonicalPath(text)
		if got != want || (err == nil) != (want != "") || err != nil && fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
}

// What is canonical stays, has no step upwards, and means the same as what was given.
func TestCanonicalPathIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`(~|/|\./)?([a.~*/]{0,3}/){0,5}[a.~]{0,3}`).Draw(t, "path")
		got, err := CanonicalPath(text)
		if err != nil {
			return
		}
		if again, err := CanonicalPath(got); err != nil || again != got {
			t.Fatalf("%q becomes %q, and then %q (%v)", text, got, again, err)
		}
		if !strings.HasPrefix(got, "/") && !strings.HasPrefix(got, "~/") || strings.Contains(got+"/", "/../") || strings.Contains(got+"/", "/./") || strings.Contains(got, "//") {
			t.Fatalf("%q becomes %q", text, got)
		}
		resolve := func(p string) string {
			switch {
			case p == "~" || strings.HasPrefix(p, "~/"):
				return path.Clean("/people/x/" + p[1:])
			case strings.HasPrefix(p, "/"):
				return path.Clean(p)
			}
			return path.Clean("/people/x/" + p)
		}
		if resolve(text) != resolve(got) {
			t.Fatalf("%q leads to %q, and %q to %q", text, resolve(text), got, resolve(got))
		}
	})
}

func TestCanonicalListen(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080", "127.0.0.1:0": "127.0.0.1:0", "127.0.0.1:08": "127.0.0.1:8", "[::1]:80": "[::1]:80", "[0:0::1]:80": "[::1]:80", "[::ffff:127.0.0.1]:80": "127.0.0.1:80",
		"0.0.0.0:80": "0.0.0.0:80", "[::]:80": "[::]:80", "10.0.0.5:65535": "10.0.0.5:65535",
		"": "", "8080": "", ":8080": "", "localhost:80": "", "127.1:80": "", "127.0.0.1:65536": "", "127.0.0.1:-1": "", "127.0.0.1:": "", "::1:80": "", "[fe80::1%eth0]:80": "", "224.0.0.1:80": "",
		"[ff02::1]:80": "", "255.255.255.255:80": "", "/run/x": "", "127.0.0.1:80:81": "", "127.0.0.1:8 ": "", "[127.0.0.1]:80": "127.0.0.1:80",
	} {
		got, err := CanonicalListen(text)
		if got != want || (err == nil) != (want != "") || err != nil && fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
	for at, want := range map[string]bool{
		"127.0.0.1:8080": false, "127.9.9.9:1024": false, "[::1]:1024": false, "127.0.0.1:0": false,
		"127.0.0.1:1023": true, "[::1]:1": true, "0.0.0.0:8080": true, "[::]:0": true, "10.0.0.5:0": true, "nothing": true, "": true,
	} {
		if Exposes(at) != want {
			t.Errorf("%s exposes: %v", at, !want)
		}
	}
}
