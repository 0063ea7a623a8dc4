package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// closet is a few parameters in memory, each version signed.
type closet struct {
	*authtest.Fleet
	byName map[string]*params.Param
	act    uint64
	events []params.Event
}

func newCloset() *closet {
	return &closet{Fleet: authtest.Found("closet"), byName: map[string]*params.Param{}}
}

func (c *closet) Param(name string) (*params.Param, bool) {
	p, ok := c.byName[name]
	return p, ok
}

func (c *closet) Params(after string, each func(*params.Param) bool) { c.ParamsBelow("/", after, each) }

func (c *closet) ParamsBelow(path, after string, each func(*params.Param) bool) {
	for _, name := range slices.Sorted(maps.Keys(c.byName)) {
		if name > after && params.Below(path, name, true) && !each(c.byName[name]) {
			return
		}
	}
}

func (c *closet) ParamEvents(after params.EventPos, n int) (out []params.Event, ok bool) {
	for _, e := range c.events {
		if after.Before(e.Pos()) && len(out) < n {
			out = append(out, e)
		}
	}
	return out, len(c.events) == 0 || !after.Before(params.EventPos{Act: c.events[0].Act - 1})
}

// change takes operations as one act.
func (c *closet) change(tb testing.TB, contents [][]byte, ops ...params.Op) {
	tb.Helper()
	c.Advance(time.Second)
	c.act++
	header := c.Header(10 * time.Minute)
	for i := range ops {
		ops[i].Salt = c.NewID()
		if len(ops[i].Put) == 1 && ops[i].Put[0].Version == 1 {
			ops[i].Put[0].Born = header.Issued
		}
	}
	change, bodies := params.Commit(header, ops)
	signed := c.Sign(auth.ForParams, change)
	opened, err := change.Open(bodies)
	if err != nil {
		tb.Fatal(err)
	}
	part := uint32(0)
	for i, op := range opened {
		by := params.Signed{Change: &signed, Op: uint32(i), Body: bodies[i], Operator: authtest.OperatorName, Issued: header.Issued, Time: header.Issued, Act: c.act}
		was := c.byName[op.Name()]
		var next *params.Param
		var events []params.Event
		switch {
		case len(op.Put) == 1:
			by.Content = contents[i]
			next, events, err = was.Put(&op.Put[0], by)
		case len(op.Label) == 1:
			next, events, err = was.Labelled(op.Label[0], by)
		default:
			err, events = was.MayDelete(op.Delete[0]), []params.Event{was.Deleted(by)}
		}
		if err != nil {
			tb.Fatal(err)
		}
		if c.byName[op.Name()] = next; next == nil {
			delete(c.byName, op.Name())
		}
		for _, e := range events {
			e.Act, e.Part, e.Time = c.act, part, header.Issued
			c.events, part = append(c.events, e), part+1
		}
	}
}

// put puts plain parameters in one act; text is value, and tags.
func (c *closet) put(tb testing.TB, tags map[string]string, names ...string) {
	tb.Helper()
	var ops []params.Op
	var contents [][]byte
	for _, name := range names {
		op, content := c.plain(name, "value of "+name, tags)
		ops, contents = append(ops, op), append(contents, content)
	}
	c.change(tb, contents, ops...)
}

// plain makes the next version of a String.
func (c *closet) plain(name, value string, tags map[string]string) (params.Op, []byte) {
	content := params.PlainContent([]byte(value)).Encode()
	put := params.Put{
		Name: name, Version: 1, Type: params.String, DataType: params.DataText, Digest: fleet.Sum(content), Size: uint32(len(value)),
		Tier: params.Standard, Tags: tags,
	}
	if was, ok := c.byName[name]; ok {
		put.Born, put.Version = was.Born, was.Last+1
	}
	return params.Op{Put: []params.Put{put}}, content
}

// secret puts a SecureString that the operator alone can read.
func (c *closet) secret(tb testing.TB, name string, tags map[string]string) {
	tb.Helper()
	op, _ := c.plain(name, "x", tags)
	put := &op.Put[0]
	public, err := params.PublicOf(c.OperatorPrivate(authtest.OperatorName))
	if err != nil {
		tb.Fatal(err)
	}
	if put.Version == 1 {
		put.Born = c.Now.Add(time.Second).UnixMilli()
	}
	reader := params.Reader{Kind: params.ByOperator, Name: authtest.OperatorName, Key: fleet.Sum(public)}
	sealed, readers, err := params.Seal(params.Binding{Fleet: c.ID(), Name: name, Born: put.Born, Version: put.Version}, []byte("hunter2"), [32]byte{1},
		[]params.Recipient{{Reader: reader, Public: public}})
	if err != nil {
		tb.Fatal(err)
	}
	content := params.SealedContent(sealed).Encode()
	put.Type, put.Readers, put.Digest, put.Size = params.SecureString, readers, fleet.Sum(content), uint32(params.SealedSize(len("hunter2")))
	c.change(tb, [][]byte{content}, op)
}

// root asks for the operator, who may do everything.
func (c *closet) root() ParamAsker {
	return c.asks(auth.Principal{Type: "Operator", Name: "ada", Teams: []string{"root"}})
}

func (c *closet) asks(who ...auth.Principal) ParamAsker {
	return ParamAsker{Who: who, Scope: Everything}
}

// says answers, through the wire, and takes it as the asking node does.
func (c *closet) says(tb testing.TB, asker ParamAsker, ask params.Ask) params.Answer {
	tb.Helper()
	a, err := AnswerParams(c, c.Record, asker, ask)
	if err != nil {
		tb.Fatal(err)
	}
	raw := wire.Marshal(a)
	if len(raw) > 512<<10 {
		tb.Fatalf("an answer of %d bytes", len(raw))
	}
	var back params.Answer
	if err := wire.Unmarshal(raw, &back); err != nil {
		tb.Fatal(err)
	}
	if _, err := TakeParams(c.Now.UnixMilli(), c.verify, ask, back, nothingSeen); err != nil {
		tb.Fatalf("%+v: %v", ask, err)
	}
	return back
}

func (c *closet) verify(i params.Item) (params.Put, error) { return params.Verify(i, c.Record.Charter) }

func nothingSeen(string) (params.Floor, bool) { return params.Floor{}, false }

func names(tb testing.TB, a params.Answer) (out []string) {
	tb.Helper()
	for _, i := range a.Items {
		op, err := params.DecodeOp(i.Body)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, op.Name()+i.Selector)
	}
	return out
}

func sel(text string) params.Selector {
	s, err := params.ParseSelector(text)
	if err != nil {
		panic(err)
	}
	return s
}

func TestParamsAnswer(t *testing.T) {
	t.Parallel()
	c := newCloset()
	c.put(t, nil, "/app/a", "/app/b", "/app/sub/c", "Top")
	c.put(t, nil, "/app/a")
	c.put(t, map[string]string{"env": "prod"}, "/app/prod")
	c.change(t, nil, params.Op{Label: []params.Label{{Name: "/app/a", Born: c.byName["/app/a"].Born, Seq: 1, Version: 1, Add: []string{"old"}}}})
	c.secret(t, "/app/secret", nil)
	for _, tc := range []struct {
		what    string
		ask     params.Ask
		want    string
		missing string
	}{
		{"newest, number, label", params.Ask{Get: []params.Selector{sel("/app/a"), sel("/app/a:1"), sel("/app/a:old")}}, "/app/a /app/a:1 /app/a:old", ""},
		{"missing in order", params.Ask{Get: []params.Selector{sel("/no/one"), sel("/app/a:9"), sel("/app/b"), sel("/app/b:new")}}, "/app/b", "/no/one /app/a:9 /app/b:new"},
		{"one level", params.Ask{Path: []params.PathAsk{{Path: "/app"}}}, "/app/a /app/b /app/prod /app/secret", ""},
		{"recursive", params.Ask{Path: []params.PathAsk{{Path: "/app", Recursive: true}}}, "/app/a /app/b /app/prod /app/secret /app/sub/c", ""},
		{"root, one level", params.Ask{Path: []params.PathAsk{{Path: "/"}}}, "Top", ""},
		{"root", params.Ask{Path: []params.PathAsk{{Path: "/", Recursive: true}}}, "/app/a /app/b /app/prod /app/secret /app/sub/c Top", ""},
		{"by label", params.Ask{Path: []params.PathAsk{{Path: "/app", Filters: []params.Filter{{Key: "Label", Values: []string{"old"}}}}}}, "/app/a:old", ""},
		{"by type", params.Ask{Path: []params.PathAsk{{Path: "/", Recursive: true, Filters: []params.Filter{{Key: "Type", Values: []string{"SecureString"}}}}}}, "/app/secret", ""},
		{"list by tag", params.Ask{List: []params.ListAsk{{Filters: []params.Filter{{Key: "tag:env", Values: []string{"prod"}}}}}}, "/app/prod", ""},
		{"history", params.Ask{History: []params.HistoryAsk{{Name: "/app/a"}}}, "/app/a:1 /app/a:2", ""},
		{"history of nothing", params.Ask{History: []params.HistoryAsk{{Name: "no"}}}, "", "no"},
		{"empty path", params.Ask{Path: []params.PathAsk{{Path: "/none", Recursive: true}}}, "", ""},
	} {
		for _, values := range []bool{false, true} {
			tc.ask.Values = values
			a := c.says(t, c.root(), tc.ask)
			missing := ""
			for _, m := range a.Missing {
				missing += " " + m.Selector.String()
			}
			if got := strings.Join(names(t, a), " "); got != tc.want || strings.TrimSpace(missing) != tc.missing || a.More {
				t.Errorf("%s: %s, missing%s, more %v", tc.what, got, missing, a.More)
			}
			for _, i := range a.Items {
				if (len(i.Content) == 1) != (values && len(tc.ask.List) == 0) {
					t.Errorf("%s: values %v, %d contents", tc.what, values, len(i.Content))
				}
			}
		}
	}
}

// TestParamsPolicy: read and decrypt are told apart, by path and by tag, and a name that may not be known of is answered as
// one that is not there would be.
func TestParamsPolicy(t *testing.T) {
	t.Parallel()
	c := newCloset()
	c.put(t, nil, "/app/a", "/db/a")
	c.put(t, map[string]string{"env": "prod"}, "/app/prod")
	c.secret(t, "/app/secret", nil)
	c.SetPolicy(auth.FirstPolicy + `
		permit (principal == Operator::"bob", action == Action::"param.read", resource is Parameter) when { resource.name like "/app/*" };
		forbid (principal == Operator::"bob", action, resource is Parameter) when { resource.hasTag("env") && resource.getTag("env") == "prod" };
		permit (principal is LocalUser, action == Action::"param.read", resource is Parameter) when { principal.name == "www" && resource.name == "/app/a" };`)
	bob := c.asks(auth.Principal{Type: "Operator", Name: "bob"})
	get := params.Ask{Get: []params.Selector{sel("/app/a"), sel("/db/a"), sel("/app/prod"), sel("/app/secret"), sel("/db/none"), sel("/app/none")}, Values: true}
	a := c.says(t, bob, get)
	if got := strings.Join(names(t, a), " "); got != "/app/a /app/secret" || len(a.Items[0].Content) != 1 || len(a.Items[1].Content) != 0 {
		t.Errorf("bob gets %s", got)
	}
	if why := a.Missing[0].Why; !strings.Contains(why, "no rule permits") || why != strings.ReplaceAll(a.Missing[2].Why, "/db/none", "/db/a") {
		t.Errorf("what bob may not know of tells whether it is there: %q, %q", why, a.Missing[2].Why)
	}
	if got := strings.Join(names(t, c.says(t, bob, params.Ask{List: []params.ListAsk{{}}})), " "); got != "/app/a /app/secret" {
		t.Errorf("bob lists %s", got)
	}
	web, err := NodeAsker(c.Record, c.Nodes[0].ID, nil)
	if err != nil || web.String() != "node node-0" {
		t.Fatal(err, web)
	}
	if a := c.says(t, web, get); len(a.Items) != 4 || len(a.Items[3].Content) != 1 {
		t.Errorf("a node gets %v", names(t, a))
	}
	www, err := NodeAsker(c.Record, c.Nodes[0].ID, []LocalUser{{"www"}})
	if err != nil || www.String() != "user www on node-0" {
		t.Fatal(err, www)
	}
	if got := names(t, c.says(t, www, get)); len(got) != 1 || got[0] != "/app/a" {
		t.Errorf("www gets %v", got)
	}
	// A server that does not ask policy for an account is not the end of it: its node does.
	all := c.says(t, web, get)
	taken, err := TakeParams(c.Now.UnixMilli(), c.verify, get, all, nothingSeen)
	if err != nil {
		t.Fatal(err)
	}
	hidden, puts := HideParams(c.Record.Charter.Policy(), www, all, taken.Puts)
	if got := names(t, hidden); len(got) != 1 || got[0] != "/app/a" || len(puts) != 1 || len(hidden.Missing) != len(all.Missing)+3 {
		t.Errorf("www is shown %v, missing %v", got, hidden.Missing)
	}
	for _, bad := range [][]LocalUser{{{""}}, {{"a"}, {"b"}}, {{strings.Repeat("x", 300)}}} {
		if _, err := NodeAsker(c.Record, c.Nodes[0].ID, bad); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := NodeAsker(c.Record, fleet.Sum([]byte("nobody")), nil); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("a node that was never enrolled: %v", err)
	}
}

// TestOpenParamRead: a signed read is for parameters, within its scope and its time.
func TestOpenParamRead(t *testing.T) {
	t.Parallel()
	c := newCloset()
	read := func(change func(*Read)) auth.Envelope {
		r := Read{Header: c.Header(ReadLife), What: ReadParams, Name: "/app/"}
		change(&r)
		return c.Sign(auth.ForRequest, r)
	}
	asker, err := OpenParamRead(c.Record, read(func(*Read) {}), c.Now)
	if err != nil || asker.Scope != "/app/" || asker.String() != "operator ada" || asker.Expires != c.Now.Add(ReadLife).UnixMilli() {
		t.Fatal(asker, err)
	}
	for what, change := range map[string]func(*Read){
		"another purpose":    func(r *Read) { r.What = ReadCommands },
		"one node":           func(r *Read) { r.Node = c.Nodes[0].ID },
		"too long":           func(r *Read) { r.Header.Expires += 1 },
		"for ever":           func(r *Read) { r.Header.Expires = 0 },
		"over":               func(r *Read) { r.Header.Issued, r.Header.Expires = 1, 2 },
		"no scope":           func(r *Read) { r.Name = "" },
		"not its one name":   func(r *Read) { r.Name = "/top" },
		"beyond all lengths": func(r *Read) { r.Name = "/a/" + strings.Repeat("x", 2000) },
	} {
		if _, err := OpenParamRead(c.Record, read(change), c.Now); err == nil {
			t.Errorf("%s: is taken", what)
		}
	}
	if _, err := OpenParamRead(c.Record, authtest.Signer("eve").Sign(auth.ForRequest, c.ID(), Read{Header: c.Header(ReadLife), What: ReadParams, Name: "/"}), c.Now); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("nobody's signature: %v", err)
	}
	if _, err := OpenRead(c.Record, read(func(*Read) {}), c.Now); err != nil {
		t.Errorf("lookUp is to refuse it, by What: %v", err)
	}
	for _, ask := range []params.Ask{
		{Get: []params.Selector{sel("/db/a")}}, {Get: []params.Selector{sel("/app/a"), sel("/ap")}}, {Path: []params.PathAsk{{Path: "/"}}},
		{Path: []params.PathAsk{{Path: "/application"}}}, {List: []params.ListAsk{{}}}, {History: []params.HistoryAsk{{Name: "/b/a"}}},
	} {
		if _, err := AnswerParams(c, c.Record, asker, ask); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%+v beyond the scope: %v", ask, err)
		}
	}
}

// TestParamsPages: however names, policy and page sizes fall, going on with Next shows everything that may be seen, once, in
// order, and nothing else.
func TestParamsPages(t *testing.T) {
	t.Parallel()
	c := newCloset()
	var all []string
	for i := range 140 {
		name := fmt.Sprintf("/%c/%c/%02d", 'a'+i%3, 'x'+i%2, i)
		all = append(all, name)
		c.put(t, map[string]string{"n": fmt.Sprint(i % 5)}, name)
	}
	slices.Sort(all)
	c.SetPolicy(auth.FirstPolicy + `
		permit (principal == Operator::"bob", action == Action::"param.read", resource is Parameter)
		when { resource.hasTag("n") && (resource.getTag("n") == "1" || resource.getTag("n") == "3") };`)
	rapid.Check(t, func(t *rapid.T) {
		asker := c.root()
		bob := rapid.Bool().Draw(t, "bob")
		if bob {
			asker = c.asks(auth.Principal{Type: "Operator", Name: "bob"})
		}
		path := rapid.SampledFrom([]string{"/", "/a", "/a/x", "/b", "/none"}).Draw(t, "path")
		most := rapid.Uint32Range(0, params.MaxPage).Draw(t, "max")
		list := path == "/" && rapid.Bool().Draw(t, "list")
		var got, want []string
		for _, name := range all {
			n := c.byName[name].Newest().Put.Tags["n"]
			if params.Below(path, name, true) && (!bob || n == "1" || n == "3") {
				want = append(want, name)
			}
		}
		after := ""
		for pages := 0; ; pages++ {
			ask := params.Ask{Path: []params.PathAsk{{Path: path, Recursive: true, Max: most, After: after}}}
			if list {
				ask = params.Ask{List: []params.ListAsk{{Max: most, After: after}}}
			}
			a, err := AnswerParams(c, c.Record, asker, ask)
			if err == nil {
				_, err = TakeParams(c.Now.UnixMilli(), c.verify, ask, a, nothingSeen)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range a.Items {
				op, _ := params.DecodeOp(i.Body)
				got = append(got, op.Name())
			}
			if !a.More {
				break
			}
			if a.Next <= after || pages > len(all) {
				t.Fatalf("the page after %q goes on with %q", after, a.Next)
			}
			after = a.Next
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v\nwant %v", got, want)
		}
	})
}

// TestParamsLiars: whatever a server changes in an answer is refused, and says what is wrong.
func TestParamsLiars(t *testing.T) {
	t.Parallel()
	c := newCloset()
	c.put(t, nil, "/app/a", "/app/b", "/app/c/d", "/db/a")
	before := *c.byName["/app/a"]
	c.put(t, nil, "/app/a")
	c.change(t, nil, params.Op{Label: []params.Label{{Name: "/app/a", Born: before.Born, Seq: 1, Version: 1, Add: []string{"live"}}}})
	labelled := *c.byName["/app/a"]
	c.change(t, nil, params.Op{Label: []params.Label{{Name: "/app/a", Born: before.Born, Seq: 2, Version: 2, Add: []string{"live"}}}})
	get := params.Ask{Get: []params.Selector{sel("/app/a"), sel("/app/b")}, Values: true}
	path := params.Ask{Path: []params.PathAsk{{Path: "/app"}}, Values: true}
	label := params.Ask{Get: []params.Selector{sel("/app/a:live")}, Values: true}
	history := params.Ask{History: []params.HistoryAsk{{Name: "/app/a"}}, Values: true}
	seen := map[string]params.Floor{}
	for _, ask := range []params.Ask{get, path, label, history} {
		taken, err := TakeParams(c.Now.UnixMilli(), c.verify, ask, c.says(t, c.root(), ask), func(name string) (params.Floor, bool) { f, ok := seen[name]; return f, ok })
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(seen, taken.Floors)
	}
	was := func(p params.Param, s string) params.Item {
		v, at, err := p.Find(sel(s))
		if err != nil {
			t.Fatal(err)
		}
		item := p.Item(sel(s), v, at)
		item.Content = [][]byte{v.Content}
		return item
	}
	other := c.says(t, c.root(), params.Ask{Get: []params.Selector{sel("/db/a")}, Values: true}).Items[0]
	lateCloset := newCloset()
	lateCloset.Advance(auth.MaxSkew + time.Minute)
	lateCloset.put(t, nil, "/app/late")
	late, _ := lateCloset.item(t, "/app/late")
	deep := c.says(t, c.root(), params.Ask{Get: []params.Selector{sel("/app/c/d")}, Values: true}).Items[0]
	for _, tc := range []struct {
		what string
		ask  params.Ask
		lie  func(a *params.Answer)
		say  string
	}{
		{"an older version", get, func(a *params.Answer) { a.Items[0] = was(before, "/app/a") }, "older"},
		{"an older place of a label", label, func(a *params.Answer) { a.Items[0] = was(labelled, "/app/a:live") }, "older"},
		{"another parameter", get, func(a *params.Answer) { a.Items[0] = other }, "answered with"},
		{"the parameters swapped", get, func(a *params.Answer) { a.Items[0], a.Items[1] = a.Items[1], a.Items[0] }, "answered with"},
		{"contents swapped", get, func(a *params.Answer) {
			a.Items[0].Content, a.Items[1].Content = a.Items[1].Content, a.Items[0].Content
		}, "not the value"},
		{"operations swapped", get, func(a *params.Answer) { a.Items[0].Body, a.Items[1].Body = a.Items[1].Body, a.Items[0].Body }, "not what was signed"},
		{"a value made up", get, func(a *params.Answer) { a.Items[0].Content = [][]byte{params.PlainContent([]byte("evil")).Encode()} }, "not the value"},
		{"a change made up", get, func(a *params.Answer) { a.Items[0].Change.Signature = make([]byte, 64) }, "signature"},
		{"a newest that is not shown", get, func(a *params.Answer) { a.Items[0].Newest++ }, "version 2 of 3"},
		{"a label forged", label, func(a *params.Answer) { a.Items[0] = was(before, "/app/a"); a.Items[0].Selector = ":live" }, "prove"},
		{"a label's proof for another version", label, func(a *params.Answer) {
			p := a.Items[0].Proof
			a.Items[0] = was(before, "/app/a:1")
			a.Items[0].Selector, a.Items[0].Proof = ":live", p
		}, "prove"},
		{"a value held back", get, func(a *params.Answer) { a.Items[0].Content = nil }, "holds"},
		{"one left out", get, func(a *params.Answer) { a.Items = a.Items[:1] }, "does not answer"},
		{"one too many", get, func(a *params.Answer) { a.Items = append(a.Items, other) }, "not asked for"},
		{"missing, and not asked for", get, func(a *params.Answer) { a.Missing = []params.Missing{{Selector: sel("/x")}} }, "not asked for"},
		{"one that is beside the path", path, func(a *params.Answer) { a.Items[1] = other }, "not asked for"},
		{"one that is too deep", path, func(a *params.Answer) { a.Items[1] = deep }, "not asked for"},
		{"a page out of order", path, func(a *params.Answer) { a.Items[0], a.Items[1] = a.Items[1], a.Items[0] }, "order"},
		{"a page with one twice", path, func(a *params.Answer) { a.Items[1] = a.Items[0] }, "order"},
		{"one of the future", params.Ask{Get: []params.Selector{sel("/app/late")}}, func(a *params.Answer) { a.Items, a.Missing = []params.Item{late}, nil }, "future"},
		{"a history of another", history, func(a *params.Answer) { a.Items[0] = other; a.Items[0].Selector = ":1" }, "answered with"},
		{"a history out of order", history, func(a *params.Answer) { a.Items[0], a.Items[1] = a.Items[1], a.Items[0] }, "order"},
	} {
		a := c.says(t, c.root(), tc.ask)
		tc.lie(&a)
		_, err := TakeParams(c.Now.UnixMilli(), c.verify, tc.ask, a, func(name string) (params.Floor, bool) { f, ok := seen[name]; return f, ok })
		if err == nil || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v", tc.what, err)
		}
	}
}

// endless shows one parameter again and again, as if there were very many.
type endless struct {
	Parameters
	param *params.Param
	shown int
}

func (e *endless) Params(_ string, each func(*params.Param) bool) {
	for e.shown = range 10 * maxParamLooks {
		if !each(e.param) {
			return
		}
	}
}

// TestParamsFilterWork: what filters cost ends a page, whatever their values are; small ones look at many parameters still.
func TestParamsFilterWork(t *testing.T) {
	t.Parallel()
	c := newCloset()
	c.put(t, nil, "/app/service/database/url")
	values := func(size int) (out []string) {
		for range params.MaxFilterValues {
			out = append(out, strings.Repeat("x", size))
		}
		return out
	}
	for what, tc := range map[string]struct {
		filter   params.Filter
		min, max int // parameters that are looked at
	}{
		"one value":    {params.Filter{Key: "Name", Option: "Contains", Values: []string{"none"}}, maxParamLooks, maxParamLooks},
		"small values": {params.Filter{Key: "Name", Option: "Contains", Values: values(5)}, maxParamLooks / 5, maxParamLooks / 2},
		"large values": {params.Filter{Key: "Name", Option: "Contains", Values: values(1000)}, 500, maxParamLooks / 40},
		"readers":      {params.Filter{Key: "KeyId", Values: values(1000)}, 500, maxParamLooks / 40},
	} {
		from := &endless{param: c.byName["/app/service/database/url"]}
		a, err := AnswerParams(from, c.Record, c.root(), params.Ask{List: []params.ListAsk{{Filters: []params.Filter{tc.filter}}}})
		if err != nil || !a.More || a.Next == "" || from.shown < tc.min || from.shown > tc.max {
			t.Errorf("%s: %d are looked at, more %v, %v", what, from.shown, a.More, err)
		}
	}
}
