package exec_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// order makes an order by signer for nodes. change, which may be nil, alters it before it is signed.
func order(f *authtest.Fleet, signer auth.Signer, nodes []fleet.ID, change func(*exec.Command)) exec.Order {
	nodes = exec.SortIDs(append([]fleet.ID(nil), nodes...))
	cmd := exec.Command{
		Header: f.Header(exec.DefaultExpires), Target: "all", Count: uint32(len(nodes)), Set: exec.SetDigest(nodes),
		Run: exec.Run{Argv: []string{"uptime", "-p"}, User: "deploy", Timeout: time.Minute.Milliseconds()},
	}
	if change != nil {
		change(&cmd)
	}
	return exec.Order{Statement: signer.Sign(auth.ForCommand, f.ID(), cmd), Nodes: nodes}
}

func TestCommandCheck(t *testing.T) {
	good := func() exec.Command {
		return exec.Command{
			Header: auth.Header{ID: fleet.UUID{1}, Issued: 1000, Expires: 2000, Mode: auth.ByQuorum},
			Target: "all", Count: 1, Run: exec.Run{Argv: []string{"true"}, Timeout: 1},
		}
	}
	day := int64(24 * time.Hour / time.Millisecond)
	for name, c := range map[string]struct {
		ok    bool
		alter func(*exec.Command)
	}{
		"plain":                   {true, func(*exec.Command) {}},
		"script without argv":     {true, func(c *exec.Command) { c.Run.Argv, c.Run.Script = nil, []byte("true") }},
		"longest":                 {true, func(c *exec.Command) { c.Header.Expires, c.Run.Timeout = 1000+30*day, 2*day }},
		"most nodes":              {true, func(c *exec.Command) { c.Count = exec.MaxTargets }},
		"environment":             {true, func(c *exec.Command) { c.Run.Env = []string{"A=", "B=x=y", "C=a\nb"} }},
		"no ID":                   {false, func(c *exec.Command) { c.Header.ID = fleet.UUID{} }},
		"nothing to run":          {false, func(c *exec.Command) { c.Run.Argv = nil }},
		"a blank line to run":     {false, func(c *exec.Command) { c.Run.Argv = []string{" "} }},
		"no end":                  {false, func(c *exec.Command) { c.Header.Expires = 0 }},
		"ends as it begins":       {false, func(c *exec.Command) { c.Header.Expires = 1000 }},
		"31 days":                 {false, func(c *exec.Command) { c.Header.Expires = 1000 + 31*day }},
		"centuries, as 0.4 ms":    {false, func(c *exec.Command) { c.Header.Expires = 1000 + 18446744073710 }}, // 2^64 ns
		"from before all times":   {false, func(c *exec.Command) { c.Header.Issued = -1 << 63 }},
		"no timeout":              {false, func(c *exec.Command) { c.Run.Timeout = 0 }},
		"timeout below 0":         {false, func(c *exec.Command) { c.Run.Timeout = -1 }},
		"3 days":                  {false, func(c *exec.Command) { c.Run.Timeout = 3 * day }},
		"timeout of centuries":    {false, func(c *exec.Command) { c.Run.Timeout = 18446744073710 }},
		"no nodes":                {false, func(c *exec.Command) { c.Count = 0 }},
		"too many nodes":          {false, func(c *exec.Command) { c.Count = exec.MaxTargets + 1 }},
		"direct":                  {false, func(c *exec.Command) { c.Header.Mode = auth.Direct }},
		"environment without =":   {false, func(c *exec.Command) { c.Run.Env = []string{"A"} }},
		"environment without key": {false, func(c *exec.Command) { c.Run.Env = []string{"=x"} }},
		"environment, odd key":    {false, func(c *exec.Command) { c.Run.Env = []string{"A\nB=x"} }},
		"zero byte in argv":       {false, func(c *exec.Command) { c.Run.Argv = []string{"a", "b\x00"} }},
		"zero byte in env":        {false, func(c *exec.Command) { c.Run.Env = []string{"A=\x00"} }},
		"zero byte in dir":        {false, func(c *exec.Command) { c.Run.Dir = "\x00" }},
		"zero byte in user":       {false, func(c *exec.Command) { c.Run.User = "\x00" }},
	} {
		cmd := good()
		c.alter(&cmd)
		if err := cmd.Check(); (err == nil) != c.ok || err != nil && fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunShellAndText(t *testing.T) {
	for _, c := range []struct {
		run   exec.Run
		shell bool
		text  string
	}{
		{exec.Run{Argv: []string{"uptime | wc"}}, true, "uptime | wc"},
		{exec.Run{Argv: []string{"uptime", "-p"}}, false, "uptime -p"},
		{exec.Run{Script: []byte("x"), Argv: []string{"a", "b"}}, true, "script (" + fleet.Sum([]byte("x")).String()[:8] + ") a b"},
	} {
		if c.run.Shell() != c.shell || c.run.Text() != c.text {
			t.Errorf("%+v: %v, %q", c.run, c.run.Shell(), c.run.Text())
		}
	}
}

func TestSetOfNodes(t *testing.T) {
	a, b, c := fleet.ID{1}, fleet.ID{2}, fleet.ID{3}
	set := exec.SortIDs([]fleet.ID{c, a, c, b, a})
	if len(set) != 3 || set[0] != a || set[1] != b || set[2] != c {
		t.Fatalf("%v", set)
	}
	o := exec.Order{Nodes: set}
	if !o.Has(a) || !o.Has(b) || !o.Has(c) || o.Has(fleet.ID{4}) || o.Has(fleet.ID{}) {
		t.Error("Has is wrong")
	}
	if exec.SetDigest(set) == exec.SetDigest(set[:2]) || exec.SetDigest(set[:1]) == exec.SetDigest(set[1:2]) {
		t.Error("two sets have one digest")
	}
}

func TestVerifyRefusesWhatIsTooLarge(t *testing.T) {
	f := authtest.Found("a")
	o := order(f, f.Operator, []fleet.ID{f.Nodes[0].ID}, func(c *exec.Command) { c.Run.Stdin = make([]byte, exec.MaxCommand) })
	_, _, err := o.Verify(f.Record.Charter, f.Now)
	if fleet.KindOf(err) != fleet.Exhausted || !strings.Contains(err.Error(), "65") {
		t.Error(err)
	}
}

func FuzzOrderVerify(f *testing.F) {
	fl := authtest.Found("fuzz")
	self := fl.Member(fl.Nodes[0].ID)
	good := order(fl, fl.Operator, []fleet.ID{self.ID}, nil)
	f.Add(good.Encode(), false)
	f.Add(good.Statement.Body, true)
	f.Add(order(fl, authtest.Signer("stranger"), []fleet.ID{self.ID}, nil).Encode(), false)
	f.Add(wire.Marshal(exec.Command{}), true)
	f.Fuzz(func(t *testing.T, data []byte, sign bool) {
		o := exec.Order{Nodes: []fleet.ID{self.ID}}
		if sign { // an operator who signs what they please
			o.Statement = signRaw(fl, data)
		} else if err := wire.Unmarshal(data, &o); err != nil {
			return
		}
		cmd, op, err := o.Verify(fl.Record.Charter, fl.Now)
		if err == nil {
			if op.Name != authtest.OperatorName || cmd.Check() != nil || exec.SetDigest(o.Nodes) != cmd.Set {
				t.Fatal("verified what is wrong")
			}
			if !sign && !bytes.Equal(o.Statement.Body, good.Statement.Body) {
				t.Fatal("verified what nobody signed")
			}
		}
		v, jerr := exec.Judge(o, fl.Record, self, fl.Now)
		if jerr == nil && (v.Status == exec.Pending) != (err == nil && o.Has(self.ID) && v.Reason == "") {
			t.Fatalf("verdict %+v on %v", v, err)
		}
		if len(v.Reason) > exec.MaxReason || len(v.Rule) > exec.MaxReason {
			t.Fatal("a reason without bound")
		}
	})
}

// signRaw signs bytes as they are as the operator's command.
func signRaw(f *authtest.Fleet, body []byte) auth.Envelope {
	return f.Operator.Sign(auth.ForCommand, f.ID(), msgpack.RawMessage(body))
}
