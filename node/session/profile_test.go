package session

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/auth"
)

// TestProfile: the lines of a session's document are typed into the shell before anything of the operator's, and what one of them
// starts reads the next ones.
func TestProfile(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := order1(auth.SessionShell)
	o.Terminal = []auth.Terminal{{Name: "dumb", Rows: 24, Cols: 200}}
	o.Profile = "exec /bin/sh\ncd /usr; word=set\n"
	p := h.attach(h.open(o), true)
	p.types("echo $word in $PWD\n")
	p.sees("set in /usr")
	p.types("exit 7\n")
	if exit := p.leaves(); exit.Code != 7 {
		t.Fatalf("%+v", exit)
	}
}

// A document's commands without input read none, though the operator sends it; also more than a pipe holds.
func TestNoInput(t *testing.T) {
	t.Parallel()
	h := open(t, Config{})
	o := program1("exec </dev/null\nwc -c; sleep 0.2; echo end")
	p := h.attach(h.open(o), false)
	p.types(strings.Repeat("x", 1<<20))
	p.sees("0\n")
	p.sees("end")
	if exit := p.leaves(); exit.Code != 0 {
		t.Fatalf("%+v", exit)
	}
}
