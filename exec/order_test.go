package exec_test

import (
	"bytes"
	"fmt"
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
		"plain":                 {true, func(*exec.Command) {}},
		"script without argv":   {true, func(c *exec.Command) { c.Run.Argv, c.Run.Script = nil, []byte("true") }},
		"longest":               {true, func(c *exec.Command) { c.Header.Expires, c.Run.Timeout = 1000+30*day, 2*day }},
		"most nodes":            {true, func(c *exec.Command) { c.Count = exec.MaxTargets }},
		"environment":           {true, func(c *exec.Command) { c.Run.Env = []string{"A=", "B=x=y", "C=a\nb"} }},
		"no ID":                 {false, func(c *exec.Command) { c.Header.ID = fleet.UUID{} }},
		"nothing to run":        {false, func(c *exec.Command) { c.Run.Argv = nil }},
		"a blank line to run":   {false, func(c *exec.Command) { c.Run.Argv = []string{" "} }},
		"no end":                {false, func(c *exec.Command) { c.Header.Expires = 0 }},
		"ends as it begins":     {false, func(c *exec.Command) { c.Header.Expires = 1000 }},
		"31 days":               {false, func(c *exec.Command) { c.Header.Expires = 1000 + 31*day }},
		"centuries, as 0.4 ms":  {false, func(c *exec.Command) { c.Header.Expires = 1000 + 18446744073710 }}, // 2^64 ns
		"from before all times": {false, func(c *exec.Command) { c.Header.Issued = -1 << 63 }},
		"no timeout":            {false, func(c *exec.Command) { c.Run.Timeout = 0 }},
		"timeout below 0":       {false, func(c *exec.Command) { c.Run.Timeout = -1 }},
		"3 days":                {false, func(c *exec.Command) { c.Run.Timeout = 3 * day }},
		"timeout of centuries":  {false, func(c *exec.Command) { c.Run.Timeout = 18446744073710 }},
		"no nodes":              {false, func(c *exec.Command) { c.Count = 0 }},
		"too many nodes":        {false, func(c *exec.Command) { c.Count = exec.MaxTargets + 1 }},
		"direct":                {true, func(c *exec.Command) { c.Header.Mode = auth.Direct }},
		"direct, 15 minutes":    {true, func(c *exec.Command) { c.Header.Mode, c.Header.Expires = auth.Direct, 1000+15*60_000 }},
		"direct, longer":        {false, func(c *exec.Command) { c.Header.Mode, c.Header.Expires = auth.Direct, 1001+15*60_000 }},
		"direct, paced":         {false, func(c *exec.Command) { c.Header.Mode, c.Pace.Limited = auth.Direct, true }},
		"direct, after another": {false, func(c *exec.Command) {
			c.Header.Mode, c.Pace.Limited, c.After = auth.Direct, true, exec.After{Command: fleet.UUID{2}}
		}},
		"no mode":   {false, func(c *exec.Command) { c.Header.Mode = 0 }},
		"odd mode":  {false, func(c *exec.Command) { c.Header.Mode = 3 }},
		"document":  {true, func(c *exec.Command) { pinned(c, 1) }},
		"documents": {true, func(c *exec.Command) { pinned(c, exec.MaxDocuments) }},
		"values": {true, func(c *exec.Command) {
			pinned(c, 1)
			c.Run.Values = []exec.Argument{{Name: "a", Value: `"x"`}, {Name: "b", Value: "[]"}}
		}},
		"document and a program":   {false, func(c *exec.Command) { pinned(c, 1); c.Run.Argv = []string{"true"} }},
		"document and a script":    {false, func(c *exec.Command) { pinned(c, 1); c.Run.Script = []byte("true") }},
		"too many documents":       {false, func(c *exec.Command) { pinned(c, exec.MaxDocuments+1) }},
		"a document twice":         {false, func(c *exec.Command) { pinned(c, 2); c.Documents[1].Name = c.Documents[0].Name }},
		"a document without name":  {false, func(c *exec.Command) { pinned(c, 1); c.Documents[0].Name = "" }},
		"a document of no version": {false, func(c *exec.Command) { pinned(c, 1); c.Documents[0].Version = 0 }},
		"a document of no text":    {false, func(c *exec.Command) { pinned(c, 1); c.Documents[0].Digest = fleet.ID{} }},
		"values without document":  {false, func(c *exec.Command) { c.Run.Values = []exec.Argument{{Name: "a"}} }},
		"too many values": {false, func(c *exec.Command) {
			pinned(c, 1)
			for i := range exec.MaxValues + 1 {
				c.Run.Values = append(c.Run.Values, exec.Argument{Name: fmt.Sprintf("%04d", i)})
			}
		}},
		"values not sorted": {false, func(c *exec.Command) { pinned(c, 1); c.Run.Values = []exec.Argument{{Name: "b"}, {Name: "a"}} }},
		"a value twice":     {false, func(c *exec.Command) { pinned(c, 1); c.Run.Values = []exec.Argument{{Name: "a"}, {Name: "a"}} }},
		"a nameless value":  {false, func(c *exec.Command) { pinned(c, 1); c.Run.Values = []exec.Argument{{}} }},
		"a long name": {false, func(c *exec.Command) {
			pinned(c, 1)
			c.Run.Values = []exec.Argument{{Name: strings.Repeat("x", exec.MaxValueName+1)}}
		}},
		"limits": {true, func(c *exec.Command) {
			c.Pace = exec.Pace{Limited: true, Concurrency: 10_000, Errors: 10_000, Strict: true}
		}},
		"limits, unset": {false, func(c *exec.Command) { c.Pace = exec.Pace{Concurrency: 1} }},
		"strict, unset": {false, func(c *exec.Command) { c.Pace = exec.Pace{Strict: true} }},
		"concurrency":   {false, func(c *exec.Command) { c.Pace = exec.Pace{Limited: true, Concurrency: 10_001} }},
		"errors":        {false, func(c *exec.Command) { c.Pace = exec.Pace{Limited: true, Errors: 10_001} }},
		"waves":         {true, func(c *exec.Command) { waves(c, 1, 2, 5) }},
		"gates": {true, func(c *exec.Command) {
			waves(c, 1, 2, 5)
			c.Pace.Gates = []fleet.UUID{{2}, {3}}
			c.Pace.OnStop = fleet.UUID{4}
		}},
		"most waves":        {true, func(c *exec.Command) { waves(c, upTo(exec.MaxWaves)...) }},
		"too many waves":    {false, func(c *exec.Command) { waves(c, upTo(exec.MaxWaves+1)...) }},
		"waves, unset":      {false, func(c *exec.Command) { waves(c, 1, 2); c.Pace.Limited = false }},
		"waves go down":     {false, func(c *exec.Command) { waves(c, 2, 1, 5) }},
		"an empty wave":     {false, func(c *exec.Command) { waves(c, 0, 5) }},
		"waves stand":       {false, func(c *exec.Command) { waves(c, 2, 2, 5) }},
		"waves end early":   {false, func(c *exec.Command) { waves(c, 1, 2); c.Count = 3 }},
		"waves end late":    {false, func(c *exec.Command) { waves(c, 1, 3); c.Count = 2 }},
		"too few gates":     {false, func(c *exec.Command) { waves(c, 1, 2, 5); c.Pace.Gates = []fleet.UUID{{2}} }},
		"too many gates":    {false, func(c *exec.Command) { waves(c, 1, 5); c.Pace.Gates = []fleet.UUID{{2}, {3}} }},
		"gates, no waves":   {false, func(c *exec.Command) { c.Pace = exec.Pace{Limited: true, Gates: []fleet.UUID{{2}}} }},
		"one gate twice":    {false, func(c *exec.Command) { waves(c, 1, 2, 5); c.Pace.Gates = []fleet.UUID{{2}, {2}} }},
		"its own gate":      {false, func(c *exec.Command) { waves(c, 1, 5); c.Pace.Gates = []fleet.UUID{{1}} }},
		"no gate":           {false, func(c *exec.Command) { waves(c, 1, 5); c.Pace.Gates = []fleet.UUID{{}} }},
		"its own roll-back": {false, func(c *exec.Command) { waves(c, 1, 5); c.Pace.OnStop = fleet.UUID{1} }},
		"a gate as roll-back": {false, func(c *exec.Command) {
			waves(c, 1, 5)
			c.Pace.Gates, c.Pace.OnStop = []fleet.UUID{{2}}, fleet.UUID{2}
		}},
		"after another":        {true, func(c *exec.Command) { c.After, c.Pace.Limited = exec.After{Command: fleet.UUID{2}, Wave: 63}, true }},
		"after, unlimited":     {false, func(c *exec.Command) { c.After = exec.After{Command: fleet.UUID{2}} }},
		"after nothing":        {false, func(c *exec.Command) { c.After, c.Pace.Limited = exec.After{Wave: 1}, true }},
		"after itself":         {false, func(c *exec.Command) { c.After, c.Pace.Limited = exec.After{Command: fleet.UUID{1}}, true }},
		"after a wave too far": {false, func(c *exec.Command) { c.After, c.Pace.Limited = exec.After{Command: fleet.UUID{2}, Wave: 64}, true }},
		"after, in waves":      {false, func(c *exec.Command) { waves(c, 1, 5); c.After = exec.After{Command: fleet.UUID{2}} }},
		"after, with a roll-back": {false, func(c *exec.Command) {
			c.After, c.Pace = exec.After{Command: fleet.UUID{2}}, exec.Pace{Limited: true, OnStop: fleet.UUID{3}}
		}},
		"comment":                 {true, func(c *exec.Command) { c.Comment = "CHG-1: größer, 更大" }},
		"longest comment":         {true, func(c *exec.Command) { c.Comment = strings.Repeat("x", exec.MaxComment) }},
		"comment too long":        {false, func(c *exec.Command) { c.Comment = strings.Repeat("x", exec.MaxComment+1) }},
		"comment of two lines":    {false, func(c *exec.Command) { c.Comment = "a\nb" }},
		"comment with colours":    {false, func(c *exec.Command) { c.Comment = "\x1b[31m" }},
		"comment of C1":           {false, func(c *exec.Command) { c.Comment = "\u009b31m" }},
		"comment not of text":     {false, func(c *exec.Command) { c.Comment = "\xff" }},
		"output to a folder":      {true, func(c *exec.Command) { c.OutputTo = "/var/log/muster" }},
		"output to nowhere":       {false, func(c *exec.Command) { c.OutputTo = "there" }},
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

func pinned(c *exec.Command, n int) {
	c.Run.Argv = nil
	for i := range n {
		c.Documents = append(c.Documents, exec.DocumentRef{Name: fmt.Sprintf("doc-%d", i), Version: 1, Digest: fleet.ID{1}})
	}
}

func waves(c *exec.Command, ends ...uint32) {
	c.Pace = exec.Pace{Limited: true, Waves: ends}
	c.Count = ends[len(ends)-1]
}

func upTo(n uint32) (out []uint32) {
	for i := range n {
		out = append(out, i+1)
	}
	return out
}

func TestCancelCheck(t *testing.T) {
	many := make([]fleet.ID, exec.MaxCancelNodes+1)
	for i := range many {
		many[i] = fleet.ID{byte(i >> 8), byte(i)}
	}
	for name, c := range map[string]struct {
		ok    bool
		nodes []fleet.ID
	}{
		"all": {true, nil}, "some": {true, []fleet.ID{{1}, {2}}}, "most": {true, many[1:]}, "too many": {false, many},
		"not sorted": {false, []fleet.ID{{2}, {1}}}, "twice": {false, []fleet.ID{{1}, {1}}},
	} {
		if err := (exec.Cancel{Nodes: c.nodes}).Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	some := exec.Cancel{Nodes: []fleet.ID{{1}, {3}}}
	if !some.Concerns(fleet.ID{1}) || some.Concerns(fleet.ID{2}) || !(exec.Cancel{}).Concerns(fleet.ID{2}) {
		t.Error("Concerns is wrong")
	}
}

func TestCommandText(t *testing.T) {
	c := exec.Command{Run: exec.Run{Argv: []string{"uptime", "-p"}}}
	if c.Text() != "uptime -p" || c.Document() != "" {
		t.Errorf("%q", c.Text())
	}
	c.Documents = []exec.DocumentRef{{Name: "greet", Version: 3}, {Name: "other", Version: 1}}
	c.Run = exec.Run{Values: []exec.Argument{{Name: "who", Value: `"you"`}}}
	if c.Text() != `greet:3 who="you"` || c.Document() != "greet" {
		t.Errorf("%q", c.Text())
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
	if fleet.KindOf(err) != fleet.Exhausted || !strings.Contains(err.Error(), "16") {
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
	f.Add(order(fl, fl.Operator, []fleet.ID{self.ID}, everything).Statement.Body, true)
	f.Add(order(fl, fl.Operator, []fleet.ID{self.ID}, func(c *exec.Command) {
		c.Pace, c.After = exec.Pace{Limited: true, Errors: 1}, exec.After{Command: fleet.UUID{8}, Wave: 1}
	}).Statement.Body, true)
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

// everything sets all that a command may carry.
func everything(c *exec.Command) {
	pinned(c, 2)
	c.Run.Values = []exec.Argument{{Name: "who", Value: `"you"`}}
	c.Pace = exec.Pace{Limited: true, Concurrency: 1, Errors: 1, Strict: true, Waves: []uint32{c.Count}, OnStop: fleet.UUID{7}}
	c.Comment, c.OutputTo = "CHG-1", "s3://bucket/prefix"
	tagged := secretParam("/a/key")
	tagged.Selector, tagged.Tags = "pending", map[string]string{"env": "prod"}
	c.Params = []exec.ParamRef{plainParam("/a/b", "v"), tagged, plainParam("c", "")}
}

// signRaw signs bytes as they are as the operator's command.
func signRaw(f *authtest.Fleet, body []byte) auth.Envelope {
	return f.Operator.Sign(auth.ForCommand, f.ID(), msgpack.RawMessage(body))
}
