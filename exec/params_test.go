package exec_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func plainParam(name, value string) exec.ParamRef {
	return exec.ParamRef{Name: name, Born: 1, Version: 2, Digest: fleet.Sum([]byte(value)), Value: []byte(value)}
}

func secretParam(name string) exec.ParamRef {
	return exec.ParamRef{Name: name, Born: 1, Version: 2, Digest: fleet.Sum([]byte(name)), Secret: true}
}

func TestCommandChecksItsParameters(t *testing.T) {
	many := func(n int) []exec.ParamRef {
		var out []exec.ParamRef
		for i := range n {
			out = append(out, plainParam("/p/"+string(rune('a'+i%26))+string(rune('a'+i/26)), "v"))
		}
		exec.SortParams(out)
		return out
	}
	one := func(alter func(*exec.ParamRef)) []exec.ParamRef {
		p := plainParam("/a/b", "v")
		alter(&p)
		return []exec.ParamRef{p}
	}
	for name, c := range map[string]struct {
		params []exec.ParamRef
		want   string // empty: it is in order
	}{
		"none":                    {nil, ""},
		"most":                    {many(exec.MaxParams), ""},
		"too many":                {many(exec.MaxParams + 1), "at most 32"},
		"plain and secret":        {[]exec.ParamRef{plainParam("/a", "x"), secretParam("/b/c")}, "canonical"},
		"of one level":            {[]exec.ParamRef{plainParam("a", ""), secretParam("b")}, ""},
		"two versions":            {[]exec.ParamRef{plainParam("a", "x"), func() exec.ParamRef { p := plainParam("a", "y"); p.Selector = "3"; return p }()}, ""},
		"twice":                   {[]exec.ParamRef{plainParam("a", "x"), plainParam("a", "x")}, "twice"},
		"not sorted":              {[]exec.ParamRef{plainParam("b", "x"), plainParam("a", "x")}, "not sorted"},
		"no name":                 {one(func(p *exec.ParamRef) { p.Name = "" }), "no parameter"},
		"a selector in its name":  {one(func(p *exec.ParamRef) { p.Name = "/a/b:3" }), "canonical"},
		"a bad selector":          {one(func(p *exec.ParamRef) { p.Selector = "3x" }), "no parameter"},
		"no version":              {one(func(p *exec.ParamRef) { p.Version = 0 }), "not pinned"},
		"no birth":                {one(func(p *exec.ParamRef) { p.Born = 0 }), "not pinned"},
		"public":                  {one(func(p *exec.ParamRef) { p.Name, p.Version, p.Born = "/muster/public/release/newest", 0, 0 }), ""},
		"public and secret":       {one(func(p *exec.ParamRef) { p.Name, p.Version, p.Secret, p.Value = "/muster/public/x", 0, true, nil }), "not pinned"},
		"a secret with its value": {one(func(p *exec.ParamRef) { p.Secret = true }), "carries the value"},
		"a secret that is a list": {one(func(p *exec.ParamRef) { p.Secret, p.List, p.Value = true, true, nil }), "cannot be a list"},
		"a zero byte":             {one(func(p *exec.ParamRef) { p.Value = []byte("a\x00") }), "no text"},
		"no text":                 {one(func(p *exec.ParamRef) { p.Value = []byte("\xff") }), "no text"},
		"longest":                 {one(func(p *exec.ParamRef) { p.Value = bytes.Repeat([]byte("a"), exec.MaxParamValues) }), ""},
		"too long":                {one(func(p *exec.ParamRef) { p.Value = bytes.Repeat([]byte("a"), exec.MaxParamValues+1) }), "at most 65536"},
		"tags":                    {one(func(p *exec.ParamRef) { p.Tags = map[string]string{"a": "", "b": "c"} }), ""},
		"a long tag":              {one(func(p *exec.ParamRef) { p.Tags = map[string]string{"a": strings.Repeat("x", 257)} }), "too long"},
		"many tags": {one(func(p *exec.ParamRef) {
			p.Tags = map[string]string{}
			for i := range 51 {
				p.Tags[string(rune('A'+i))] = ""
			}
		}), "at most 50"},
	} {
		c2 := exec.Command{Header: auth.Header{ID: fleet.UUID{1}, Issued: 1000, Expires: 2000, Mode: auth.ByQuorum}, Target: "all", Count: 1,
			Run: exec.Run{Argv: []string{"true"}, Timeout: 1}, Params: c.params}
		err := c2.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, wanted %q", name, err, c.want)
		}
	}
}

// TestTheLargestCommandFits: all nodes, all values and a script of 64 KiB in one entry.
func TestTheLargestCommandFits(t *testing.T) {
	s := newScene()
	o := s.order(func(c *exec.Command) {
		c.Run.Argv, c.Run.Script = nil, bytes.Repeat([]byte("#"), 64<<10)
		for i := range exec.MaxParams {
			p := plainParam("/p/"+string(rune('a'+i%26))+string(rune('a'+i/26)), strings.Repeat("v", exec.MaxParamValues/exec.MaxParams))
			p.Tags = map[string]string{"environment": "production", "team": "web"}
			c.Params = append(c.Params, p)
		}
		exec.SortParams(c.Params)
	})
	if _, _, err := o.Verify(s.Record.Charter, s.Now); err != nil {
		t.Error(err)
	}
	o.Nodes = make([]fleet.ID, exec.MaxTargets)
	if n := len(o.Encode()) + exec.MaxCommand - len(o.Statement.Body); n > 512<<10-1024 {
		t.Errorf("an order may have %d bytes, more than an entry", n)
	}
}

const paramPolicy = `@id("web-runs")
permit (principal in Team::"web", action == Action::"run", resource is Node);
@id("web-reads")
permit (principal in Team::"web", action == Action::"param.read", resource is Parameter) when { resource.name like "/web/*" };
@id("web-decrypts")
permit (principal in Team::"web", action == Action::"param.decrypt", resource is Parameter) when { resource.hasTag("for") && resource.getTag("for") == "web" };
`

// TestPolicyIsAskedAboutParameters: reading and decrypting are rights of their own, by name and by tag; of a document as of a
// plain command, and before it is sent as on the node.
func TestPolicyIsAskedAboutParameters(t *testing.T) {
	tagged := secretParam("/web/key")
	tagged.Tags = map[string]string{"for": "web"}
	public := plainParam("/muster/public/x", "v")
	public.Born, public.Version = 0, 0
	for name, c := range map[string]struct {
		params []exec.ParamRef
		want   string
	}{
		"none":                   {nil, ""},
		"read":                   {[]exec.ParamRef{plainParam("/web/a", "x")}, ""},
		"public":                 {[]exec.ParamRef{public}, ""},
		"not to be read":         {[]exec.ParamRef{plainParam("/db/a", "x"), plainParam("/web/a", "x")}, "may not param.read on /db/a"},
		"decrypted":              {[]exec.ParamRef{tagged}, ""},
		"read is not to decrypt": {[]exec.ParamRef{secretParam("/web/key")}, "may not param.decrypt on /web/key"},
		"one of two":             {[]exec.ParamRef{plainParam("/web/a", "x"), secretParam("/web/b")}, "may not param.decrypt on /web/b"},
	} {
		for _, doc := range []bool{false, true} {
			s := newScene()
			s.SetPolicy(paramPolicy)
			o := s.order(func(c2 *exec.Command) {
				c2.Params = c.params
				if doc {
					c2.Run.Argv, c2.Documents = nil, []exec.DocumentRef{ref("AWS-RunShellScript", builtIn(t, "AWS-RunShellScript"))}
				}
			})
			v, err := s.judge(o)
			if err != nil {
				t.Fatal(err)
			}
			if (v.Status == exec.Pending) != (c.want == "") || !strings.Contains(v.Reason, c.want) {
				t.Errorf("%s: %s %s, wanted %q", name, v.Status, v.Reason, c.want)
			}
			err = exec.MayRun(o, s.Record, s.Now)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: fast %v, wanted %q", name, err, c.want)
			}
			if !doc || v.Status != exec.Pending {
				continue
			}
			s.SetPolicy(webPolicy + `permit (principal in Team::"web", action == Action::"run", resource is Node);`)
			v, _, err = exec.JudgeDocuments(v, nil, s.Record, fleet.Member{ID: s.web.ID}, s.Now)
			if refused := v.Status == exec.Refused; err != nil || refused != (len(c.params) > 0 && name != "public") {
				t.Errorf("%s: the right was taken away meanwhile: %s %s %v", name, v.Status, v.Reason, err)
			}
		}
	}
}

func TestStoreOfACommand(t *testing.T) {
	list := plainParam("c", "x,y")
	list.List = true
	cmd := exec.Command{Header: auth.Header{ID: fleet.UUID{7}}, Params: []exec.ParamRef{plainParam("/a/b", "v"), secretParam("b"), list}}
	d, err := document.Parse([]byte("schemaVersion: '2.2'\nparameters: {l: {type: StringList}}\nmainSteps:\n- name: a\n  action: muster:run\n  inputs: {argv: [x, '{{ ssm:/a/b }}', '{{ l }}'], environment: {K: '{{ ssm-secure:b }}'}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	d = d.Bind(cmd.Store())
	v, err := d.Complete([]document.Argument{{Name: "l", Value: `"{{ ssm:c }}"`}})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := d.Plan(v, document.Host{Platform: document.Linux}, nil)
	if err != nil || strings.Join(plan.Steps[0].Argv, " ") != "x v x y" || len(plan.Steps[0].Secrets) != 1 || plan.Steps[0].Secrets[0].Parts[0].Secret != 1 {
		t.Errorf("%+v, %v", plan, err)
	}
	if secrets := cmd.Secrets(); len(secrets) != 1 || secrets[0].Name != "b" {
		t.Errorf("%+v", secrets)
	}
}

func TestSameTags(t *testing.T) {
	p := exec.ParamRef{Tags: map[string]string{"a": "1", "b": ""}}
	for _, c := range []struct {
		tags map[string]string
		same bool
	}{
		{map[string]string{"a": "1", "b": ""}, true},
		{map[string]string{"a": "1"}, false},
		{map[string]string{"a": "1", "c": ""}, false},
		{map[string]string{"a": "1", "b": "", "c": ""}, false},
		{map[string]string{"a": "2", "b": ""}, false},
		{nil, false},
	} {
		if p.SameTags(c.tags) != c.same {
			t.Errorf("%v", c.tags)
		}
	}
	if !(exec.ParamRef{}).SameTags(nil) {
		t.Error("none are none")
	}
}

// FuzzParamRef: a pin that a command may have is read from its own text again, and round trips.
func FuzzParamRef(f *testing.F) {
	tagged := secretParam("/a/b")
	tagged.Tags, tagged.Selector = map[string]string{"k": "v"}, "pending"
	for _, p := range []exec.ParamRef{plainParam("a", "v"), secretParam("/a/b"), tagged} {
		f.Add(wire.Marshal(p))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p exec.ParamRef
		if wire.Unmarshal(data, &p) != nil {
			return
		}
		c := exec.Command{Header: auth.Header{ID: fleet.UUID{1}, Issued: 1, Expires: 2, Mode: auth.ByQuorum}, Count: 1, Run: exec.Run{Argv: []string{"true"}, Timeout: 1}, Params: []exec.ParamRef{p}}
		if c.Check() != nil {
			return
		}
		if !bytes.Equal(wire.Marshal(p), data) {
			t.Fatal("it does not come back")
		}
		r, err := document.ParseStoreRef(p.String())
		if err != nil || r != (document.StoreRef{Name: p.Name, Selector: p.Selector, Secure: p.Secret}) {
			t.Fatalf("%s is read as %+v, %v", p, r, err)
		}
		if plain, secret, err := c.Store().Environment([]string{"A={{" + p.String() + "}}"}); err != nil || len(plain)+len(secret) != 1 || (len(secret) == 1) != p.Secret {
			t.Fatalf("%q %v %v", plain, secret, err)
		}
	})
}
