package main

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestTunnels(t *testing.T) {
	for text, want := range map[string]tunnel{
		"8080:127.0.0.1:80":           {"tcp", "127.0.0.1:8080", "127.0.0.1:80"},
		"0:db:5432":                   {"tcp", "127.0.0.1:0", "db:5432"},
		"0.0.0.0:8080:db:5432":        {"tcp", "0.0.0.0:8080", "db:5432"},
		"[::1]:8080:db:5432":          {"tcp", "[::1]:8080", "db:5432"},
		"[::]:8080:[::1]:80":          {"tcp", "[::]:8080", "[::1]:80"},
		"/run/db.sock:db:5432":        {"unix", "/run/db.sock", "db:5432"},
		"./a:b:db:5432":               {"unix", "./a:b", "db:5432"},
		"/tmp/x:[::1]:5432":           {"unix", "/tmp/x", "[::1]:5432"},
		"localhost:8080:localhost:80": {"tcp", "localhost:8080", "localhost:80"},
	} {
		got, err := parseTunnel(text)
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", ":", "::", ":::", "8080", "8080:80", "8080:db:0", "8080:db:65536", "8080:db:http", "x:db:80", "-1:db:80", "65536:db:80",
		"8080::80", ":8080:db:80", "8080:a b:80", "8080:db\x1b[2J:80", "8080:[::1:80", "8080:::1:80", "[::1]:80", "[8080]:db:80", "8080:a@b:80",
		"8080:[a:b]:80", "8080:" + strings.Repeat("h", 254) + ":80", "/" + strings.Repeat("s", 107) + ":db:80",
	} {
		if got, err := parseTunnel(text); fleet.KindOf(err) != fleet.Invalid || err == nil {
			t.Errorf("%q is %+v, %v; it is no tunnel", text, got, err)
		}
	}
}
