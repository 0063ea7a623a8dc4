package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestDanger(t *testing.T) {
	for pattern, want := range map[string]string{
		"":      "no quorum is known: nothing can be written",
		"+":     "1 voter: losing web1 stops writes",
		"-":     "none of 1 voter can be seen: writes stop until 1 more can be (missing: web1)",
		"++":    "2 voters: losing one stops writes",
		"+-":    "1 of 2 voters can be seen: writes stop until 1 more can be (missing: web2)",
		"+++":   "",
		"++-":   "2 of 3 voters can be seen: losing one more stops writes (missing: web3)",
		"+--":   "1 of 3 voters can be seen: writes stop until 1 more can be (missing: web[2-3])",
		"-----": "none of 5 voters can be seen: writes stop until 3 more can be (missing: web[1-5])",
		"++++-": "",
		"+++--": "3 of 5 voters can be seen: losing one more stops writes (missing: web[4-5])",
	} {
		var voters []ServerStatus
		for i, c := range pattern {
			voters = append(voters, ServerStatus{Name: "web" + string(rune('1'+i)), Online: c == '+'})
		}
		if got := Danger(voters); got != want {
			t.Errorf("%q: %q, want %q", pattern, got, want)
		}
	}
}

func TestSameAddresses(t *testing.T) {
	nat, own := netip.MustParseAddrPort("10.0.2.15:7980"), netip.MustParseAddrPort("10.0.0.1:7980")
	seen := func(status fleet.Status, id byte, addrs ...netip.AddrPort) Sighting {
		return Sighting{ID: fleet.ID{id}, Status: status, Addrs: addrs}
	}
	const warning = "web[1-2] all say that they are at 10.0.2.15:7980: give each an address of its own (muster agent --advertise IP:PORT)"
	for name, c := range map[string]struct {
		in   []Sighting
		want []string
	}{
		"none":            {nil, nil},
		"different":       {[]Sighting{seen(fleet.Online, 1, nat), seen(fleet.Online, 2, own)}, nil},
		"the same":        {[]Sighting{seen(fleet.Online, 1, nat), seen(fleet.Online, 2, own, nat)}, []string{warning}},
		"one says twice":  {[]Sighting{seen(fleet.Online, 1, nat, nat)}, nil},
		"one has left":    {[]Sighting{seen(fleet.Online, 1, nat), seen(fleet.Left, 2, nat)}, nil},
		"one is not seen": {[]Sighting{seen(fleet.Online, 1, nat), seen(fleet.ConnectionLost, 2, nat)}, nil},
	} {
		if got := SameAddresses(c.in, func(id fleet.ID) string { return "web" + string('0'+rune(id[0])) }); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestDescribe(t *testing.T) {
	w := newTown(5, 3)
	b := auth.Beacon{Leader: w.Nodes[0].ID, Voters: w.ids(0, 2), Spares: w.ids(2, 3)}
	for i, want := range []fleet.Role{fleet.Lead, fleet.Voter, fleet.Spare, fleet.Plain} {
		entry, _ := w.Record.Roster.Node(w.Nodes[i].ID)
		m := Describe(entry, Sighting{LastSeen: 7}, fleet.Facts{OS: "debian"}, b)
		if m.Role != want || m.Status != fleet.ConnectionLost || m.Facts.OS != "debian" || m.Name != w.Nodes[i].Name || m.LastSeen != time.UnixMilli(7) {
			t.Errorf("%+v", m)
		}
	}
	if RoleOf(auth.Beacon{}, fleet.ID{}) != fleet.Plain {
		t.Error("nobody leads")
	}
}

// TestMayRead: who is an operator, and whom no rule lets read, is told nothing.
func TestMayRead(t *testing.T) {
	f := authtest.Found("may read")
	bob := f.AddOperator("bob", "web")
	f.SetPolicy(auth.FirstPolicy + `permit (principal in Team::"ops", action == Action::"read", resource is Fleet);`)
	ops := f.AddOperator("olga", "ops")
	for name, c := range map[string]struct {
		by  fleet.ID
		may bool
	}{"a root operator": {f.Operator.ID(), true}, "whom a rule lets": {ops.ID(), true}, "whom none lets": {bob.ID(), false}, "no operator": {fleet.Sum(nil), false}} {
		if err := MayRead(f.Record, c.by, f.Now); (err == nil) != c.may {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenRead(t *testing.T) {
	w := newTown(5, 3)
	bob := w.AddOperator("bob", "ops")
	read := func(signer auth.Signer, life time.Duration) auth.Envelope {
		return signer.Sign(auth.ForRequest, w.ID(), Read{Header: w.Header(life), What: ReadCommands})
	}
	for _, c := range []struct {
		name string
		e    auth.Envelope
		late time.Duration
		want fleet.Kind
	}{
		{"permitted", read(w.Operator, ReadLife), 0, fleet.Internal}, // no refusal
		{"not permitted", read(bob, ReadLife), 0, fleet.Denied},
		{"too long a life", read(w.Operator, ReadLife+1e6), 0, fleet.Invalid},
		{"no end", read(w.Operator, 0), 0, fleet.Invalid},
		{"expired", read(w.Operator, ReadLife), time.Hour, fleet.Expired},
		{"altered", alter(read(w.Operator, ReadLife), func(r *Read) { r.What = ReadTokens }), 0, fleet.Denied},
		{"a command's signature", w.Operator.Sign(auth.ForCommand, w.ID(), Read{Header: w.Header(ReadLife)}), 0, fleet.Denied},
		{"nobody's", read(authSigner("nobody"), ReadLife), 0, fleet.Denied},
	} {
		_, err := OpenRead(w.Record, c.e, w.Now.Add(c.late))
		if (err == nil) != (c.want == fleet.Internal) || err != nil && fleet.KindOf(err) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestClip(t *testing.T) {
	if got := clip("häh", 2); got != "h" {
		t.Errorf("%q", got)
	}
	if got := len(clip(string(make([]byte, 9999)), exec.MaxDetail)); got != exec.MaxDetail {
		t.Errorf("%d bytes", got)
	}
}

// What a node is asked for is signed for that node alone; what servers are asked for names none.
func TestReadIsForOneNode(t *testing.T) {
	w := newTown(5, 3)
	here, elsewhere := w.Nodes[3].ID, w.Nodes[4].ID
	read := func(what ReadWhat, node fleet.ID) auth.Envelope {
		return w.Sign(auth.ForRequest, Read{Header: w.Header(ReadLife), What: what, Node: node})
	}
	for _, what := range []ReadWhat{ReadOutput, ReadWhy, ReadReport} {
		if got, err := OpenNodeRead(w.Record, read(what, here), here, what, w.Now); err != nil || got.Node != here {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := OpenNodeRead(w.Record, read(what, elsewhere), here, what, w.Now); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%s, for another node: %v", what, err)
		}
		if _, err := OpenNodeRead(w.Record, read(what, fleet.ID{}), here, what, w.Now); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s, for no node: %v", what, err)
		}
	}
	if _, err := OpenNodeRead(w.Record, read(ReadWhy, here), here, ReadOutput, w.Now); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("another thing: %v", err)
	}
	if _, err := OpenNodeRead(w.Record, read(ReadCommand, fleet.ID{}), here, ReadOutput, w.Now); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("a command: %v", err)
	}
	for _, what := range []ReadWhat{ReadCommands, ReadCommand, ReadTokens, ReadRequests, ReadDocuments, ReadDocument} {
		if _, err := OpenRead(w.Record, read(what, here), w.Now); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s at the servers, for a node: %v", what, err)
		}
		if _, err := OpenRead(w.Record, read(what, fleet.ID{}), w.Now); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
