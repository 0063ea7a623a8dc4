package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestParseInlet(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]inlet{
		"8080:127.0.0.1:3000":     {"127.0.0.1:8080", "tcp", "127.0.0.1:3000"},
		"localhost:8080:web:3000": {"127.0.0.1:8080", "tcp", "web:3000"},
		"*:8080:web:3000":         {"0.0.0.0:8080", "tcp", "web:3000"},
		"0:web:3000":              {"127.0.0.1:0", "tcp", "web:3000"},
		"[::1]:8080:[fd00::1]:80": {"[::1]:8080", "tcp", "[fd00::1]:80"},
		"10.0.0.5:8080:web:3000":  {"10.0.0.5:8080", "tcp", "web:3000"},
		"8080:/run/my:x.sock":     {"127.0.0.1:8080", "unix", "/run/my:x.sock"},
		"[::1]:8080:/run/x.sock":  {"[::1]:8080", "unix", "/run/x.sock"},
		"0:./here.sock":           {"127.0.0.1:0", "unix", "./here.sock"},
	} {
		if got, err := parseInlet(text); err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "8080", "8080:3000", "8080:web:", "8080:web:0", "8080:web:99999", "8080::3000", "web01:8080:web:3000", "99999:web:80", "/run/x:web:80", "::1:8080:web:80", ":8080:web:80",
	} {
		if got, err := parseInlet(text); err == nil || fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), "nothing to listen for") {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
}

// The node listens, and what connects there comes out here; also behind a restart of the agent there, of which nobody tells. A
// place that refuses here is a failure there, and nothing listens behind the end.
func TestForwardReverse(t *testing.T) {
	t.Parallel()
	to := answering(t)
	d := newDesk(t, strings.NewReader(""))
	d.types("-o", "json", "forward", "--reverse", "web01", "0:"+to, "[::1]:0:127.0.0.1:1")
	errs := lines(d.errs)
	dec := json.NewDecoder(d.out)
	begins := func() (out [2]struct{ Remote, To, Node string }) {
		for i := range out {
			if err := dec.Decode(&out[i]); err != nil {
				t.Fatal(err, <-errs)
			}
		}
		return out
	}
	through := func(remote, text string) (string, error) {
		at, err := net.ResolveTCPAddr("tcp", remote)
		if err != nil {
			return "", err
		}
		return askThrough(at, text)
	}
	first := begins()
	if first[0].To != to || first[0].Node != "web01" || !strings.HasPrefix(first[0].Remote, "127.0.0.1:") || !strings.HasPrefix(first[1].Remote, "[::1]:") {
		t.Errorf("%+v", first)
	}
	for range 2 * waiting {
		if got, err := through(first[0].Remote, "hello"); got != "HELLO" {
			t.Fatal(got, err)
		}
	}
	if got, err := through(first[1].Remote, "hello"); err == nil {
		t.Errorf("a port that refuses answers %q", got)
	}
	if said := <-errs; !strings.Contains(said, "127.0.0.1:1 is not reached from here") {
		t.Error(said)
	}
	d.door().forget()
	again := begins()
	if got, err := through(again[0].Remote, "again"); got != "AGAIN" {
		t.Error(got, err)
	}
	d.door().killTunnels("ended by bob")
	if said := <-errs; !strings.Contains(said, "has ended: ended by bob") {
		t.Error(said)
	}
	if code := <-d.code; code != exitOurs {
		t.Errorf("exit %d", code)
	}
	if _, err := through(again[0].Remote, "more"); err == nil {
		t.Error("it listens after its end")
	}
}

func TestForwardReverseEndsItsSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, strings.NewReader(""))
	d.types("forward", "--reverse", "web01", "0:127.0.0.1:1")
	if said := <-lines(d.errs); !strings.Contains(said, " of web01 → 127.0.0.1:1") {
		t.Error(said)
	}
	d.ctrl <- os.Interrupt
	if code := <-d.code; code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, s := range d.door().states() {
		if s.Ended == 0 {
			t.Error("the session goes on")
		}
	}
}
