package api

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// recordStub is what the agent gives of its record.
type recordStub struct {
	acts  []auth.Act
	head  fleet.ID
	froms []uint64
}

func (r *recordStub) Acts(_ context.Context, from uint64) (Acts, error) {
	r.froms = append(r.froms, from)
	out := Acts{Length: uint64(len(r.acts)), Head: r.head}
	if from < out.Length {
		out.Acts = r.acts[from:]
	}
	return out, nil
}

// ownStub is a record that was verified elsewhere.
type ownStub struct {
	record auth.Record
	err    error
}

func (o ownStub) Newest(context.Context) (auth.Record, error) { return o.record, o.err }

func TestActs(t *testing.T) {
	t.Parallel()
	f := authtest.Found("acts")
	f.AddNode("web01", map[string]string{"role": "web"}, nil)
	b := &stub{recordStub: recordStub{acts: f.Acts, head: f.Record.Head}}
	got, err := serve(t, b).Acts(t.Context(), 1)
	if err != nil || got.Length != f.Record.Length || got.Head != f.Record.Head || len(got.Acts) != len(f.Acts)-1 || b.froms[0] != 1 {
		t.Fatal(got, err)
	}
	record := auth.NewRecord()
	for _, act := range append([]auth.Act{f.Acts[0]}, got.Acts...) {
		if record, err = record.Apply(act, f.ID()); err != nil {
			t.Fatal(err)
		}
	}
	if record.Head != f.Record.Head {
		t.Error("another record came than went")
	}
}

// TestALyingAgent: what an agent says of what operators signed counts for nothing where the asker has a record.
func TestALyingAgent(t *testing.T) {
	t.Parallel()
	f := authtest.FoundWithSecrets("lies")
	ann := f.AddOperator("ann", "root")
	web1 := f.AddNode("web01", map[string]string{"role": "web"}, nil)
	web2 := f.AddNode("web02", map[string]string{"role": "web"}, nil)
	gone := f.AddNode("web03", nil, nil)
	f.MustTake(f.RemoveNode(gone.ID))
	f.AddKeyring("web", "tag.role=web")
	evil := id("evil")
	place := netip.MustParseAddrPort("10.0.0.9:7980")
	lie := fleet.Member{ID: evil, Name: "web02", Status: fleet.Online, Tags: map[string]string{"role": "web"}, Server: true, Addrs: []netip.AddrPort{place}}
	tags := fleet.Member{ID: web1.ID, Name: "db01", Status: fleet.Online, Tags: map[string]string{"role": "db"}, Server: true, Addrs: []netip.AddrPort{place}}
	b := &stub{
		nodes: []Node{{tags, 77}, {lie, 1}, {Member: fleet.Member{ID: gone.ID, Name: "web03", Status: fleet.Online}}}, status: node.Status{
			Fleet: id("other"), FleetName: "prod", CharterHead: id("old"), Act: 99_999, Self: tags, Now: moment,
		},
		operators: []auth.Operator{{Name: "ann", Key: make([]byte, 32), HPKE: []byte("mallory's")}}, policy: "permit (principal, action, resource);",
		groups: []auth.Group{{Name: "web", Target: "all"}}, settings: []auth.Setting{{Name: "output.to", Value: "s3://mallory/x"}},
		keyringStub: keyringStub{list: node.KeyringList{
			Recovery: []byte("mallory's"),
			All: []node.KeyringInfo{{Name: "web", Life: f.Keyring("web").Life, Target: "all", Epochs: []auth.KeyEpoch{{Number: 7, Used: 1}}, Members: []node.KeyringMember{
				{ID: evil, Name: "web02", Alive: true}, {ID: web2.ID, Name: "x", Alive: true, Said: true, Holds: 1},
			}}},
		}, key: []byte("mallory's")},
		sessionsStub: sessionsStub{one: Node{lie, 1}},
	}
	c := serve(t, b).Verified(ownStub{record: f.Record})
	ctx := t.Context()

	nodes, err := c.Nodes(ctx)
	if err != nil || len(nodes) != f.Record.Roster.Len() {
		t.Fatal(nodes, err)
	}
	for _, n := range nodes {
		entry, _ := f.Record.Roster.Node(n.ID)
		if entry == nil || entry.Removed != 0 || n.Name != entry.Name || n.Seq != entry.Seq || n.Server != entry.Server || n.Tags["role"] != entry.Tags["role"] {
			t.Errorf("%+v", n)
		}
		if n.ID == web1.ID && (n.Status != fleet.Online || n.Addrs[0] != place) || n.ID == web2.ID && n.Status != fleet.ConnectionLost {
			t.Errorf("%+v", n)
		}
	}
	if _, err := c.Node(ctx, "web02"); fleet.KindOf(err) != fleet.Denied { // asked for by its ID, the agent gives another
		t.Error(err)
	}
	if b.text != web2.ID.Text() {
		t.Errorf("the agent was asked for %q", b.text)
	}
	if _, err := c.Node(ctx, "web03"); fleet.KindOf(err) != fleet.NotFound {
		t.Error(err)
	}
	b.one = Node{fleet.Member{ID: web2.ID, Name: "x", Tags: map[string]string{"a": "b"}, Addrs: []netip.AddrPort{place}}, 9}
	if n, err := c.Node(ctx, "web02"); err != nil || n.Name != "web02" || n.Tags["a"] != "" || n.Addrs[0] != place {
		t.Error(n, err)
	}

	ops, err := c.Operators(ctx)
	if i := slices.IndexFunc(ops, func(o auth.Operator) bool { return o.Name == "ann" }); err != nil || i < 0 || ops[i].ID() != ann.ID() {
		t.Error(ops, err)
	}
	if text, err := c.Policy(ctx); err != nil || text != f.Record.Charter.Policy().Text() {
		t.Error(text, err)
	}
	if groups, err := c.Groups(ctx); err != nil || len(groups) != 0 {
		t.Error(groups, err)
	}
	if set, err := c.Settings(ctx); err != nil || len(set) != 0 {
		t.Error(set, err)
	}
	if s, err := c.Status(ctx); err != nil || s.Fleet != f.ID() || s.CharterHead != f.Record.Charter.Head() || s.Act != f.Record.Act || s.FleetName != f.Record.Charter.Name() {
		t.Error(s, err)
	}

	rings, err := c.Keyrings(ctx, "")
	if err != nil || len(rings.All) != 1 || string(rings.Recovery) == "mallory's" {
		t.Fatal(rings, err)
	}
	k := rings.All[0]
	if k.Target != "tag.role=web" || len(k.Epochs) != 1 || k.Epochs[0].Number != 1 || len(k.Members) != 2 {
		t.Errorf("%+v", k)
	}
	for _, m := range k.Members {
		if m.ID == web2.ID && (!m.Alive || !m.Said || m.Holds != 1) || m.ID == web1.ID && m.Alive {
			t.Errorf("%+v", m)
		}
	}
	if _, err := c.NodeHPKE(ctx, web1.ID); fleet.KindOf(err) != fleet.Denied {
		t.Error(err)
	}
	if _, err := c.NodeHPKE(ctx, evil); fleet.KindOf(err) != fleet.Denied {
		t.Error(err)
	}
}

// TestForgedParams: an answer is taken if an operator signed it, as it is, and not otherwise.
func TestForgedParams(t *testing.T) {
	t.Parallel()
	f := authtest.Found("forged")
	content := params.PlainContent([]byte("good")).Encode()
	head := f.Header(10 * time.Minute)
	put := params.Put{
		Name: "a", Type: params.String, DataType: params.DataText, Tier: params.Standard, Born: head.Issued, Version: 1,
		Digest: fleet.Sum(content), Size: 4,
	}
	change, bodies := params.Commit(head, []params.Op{{Salt: f.NewID(), Put: []params.Put{put}}})
	item := func(by auth.Signer, content []byte) params.Answer {
		return params.Answer{Items: []params.Item{{Change: by.Sign(auth.ForParams, f.ID(), change), Body: bodies[0], Content: [][]byte{content}, Newest: 1}}}
	}
	ask := params.Ask{Get: []params.Selector{{Name: "a"}}, Values: true}
	if err := provenParams(f.Record, ask, item(f.Operator, content), f.Now); err != nil {
		t.Error(err)
	}
	if err := provenParams(f.Record, ask, item(f.Operator, params.PlainContent([]byte("evil")).Encode()), f.Now); err == nil {
		t.Error("another value is taken")
	}
	if err := provenParams(f.Record, ask, item(authtest.Signer("mallory"), content), f.Now); err == nil {
		t.Error("another signer is taken")
	}
	other := params.Ask{Get: []params.Selector{{Name: "b"}}, Values: true}
	if err := provenParams(f.Record, other, item(f.Operator, content), f.Now); err == nil {
		t.Error("the answer to another question is taken")
	}
}

// TestForgedReport: what a node did not sign, or signed of something else, is no report of it.
func TestForgedReport(t *testing.T) {
	t.Parallel()
	f := authtest.Found("report")
	web := f.AddNode("web01", nil, nil)
	r := exec.Report{Command: uuid("c"), Node: web.ID, Seq: 1, Status: exec.Success}
	signed := web.Signer.Sign(auth.ForReport, f.ID(), r)
	if err := provenReport(f.Record, web.ID, uuid("c"), signed); err != nil {
		t.Error(err)
	}
	if err := provenReport(f.Record, web.ID, uuid("d"), signed); fleet.KindOf(err) != fleet.Denied {
		t.Error(err)
	}
	signed.Signature[3] ^= 1
	if err := provenReport(f.Record, web.ID, uuid("c"), signed); err == nil {
		t.Error("taken")
	}
}

// TestForgedNews: results count as their nodes signed them, whatever the agent says beside that.
func TestForgedNews(t *testing.T) {
	t.Parallel()
	f := authtest.Found("news")
	web := f.AddNode("web01", nil, nil)
	before := f.Record
	late := f.AddNode("web02", nil, nil) // enrolled after the record was read
	report := func(n authtest.Node, s exec.Status) (exec.Report, *auth.Envelope) {
		r := exec.Report{Command: uuid("c"), Node: n.ID, Seq: 1, Status: s}
		signed := n.Signer.Sign(auth.ForReport, f.ID(), r)
		return r, &signed
	}
	failed, signed := report(web, exec.Failed)
	_, lateSigned := report(late, exec.Failed)
	_, others := report(f.NewNode("evil"), exec.Success)
	lie := failed
	lie.Status = exec.Success
	for name, c := range map[string]struct {
		update node.Update
		own    OwnRecord
		kind   fleet.Kind
	}{
		"as signed":        {node.Update{Report: &failed, Signed: signed}, ownStub{record: f.Record}, 0},
		"said otherwise":   {node.Update{Report: &lie, Signed: signed}, ownStub{record: f.Record}, 0},
		"of a newer node":  {node.Update{Report: &lie, Signed: lateSigned}, &growing{[]auth.Record{before, f.Record}}, 0},
		"of another's key": {node.Update{Report: &lie, Signed: others}, ownStub{record: f.Record}, fleet.Denied},
		"not signed":       {node.Update{Report: &lie}, ownStub{record: f.Record}, fleet.Denied},
	} {
		c2 := serve(t, &stub{updates: []node.Update{c.update}}).Verified(c.own)
		var got []exec.Status
		err := c2.Watch(t.Context(), auth.Envelope{}, func(u node.Update) error {
			got = append(got, u.Report.Status)
			return nil
		})
		if c.kind != 0 && (fleet.KindOf(err) != c.kind || len(got) > 0) || c.kind == 0 && (len(got) != 1 || got[0] != exec.Failed) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// growing is a record that is newer each time.
type growing struct{ records []auth.Record }

func (g *growing) Newest(context.Context) (auth.Record, error) {
	r := g.records[0]
	if len(g.records) > 1 {
		g.records = g.records[1:]
	}
	return r, nil
}

// TestNoOwnRecord: where the record cannot be had, nothing is believed in its place.
func TestNoOwnRecord(t *testing.T) {
	t.Parallel()
	c := serve(t, &stub{nodes: []Node{{Member: aMember("web01")}}, policy: "x"})
	ctx := t.Context()
	for name, own := range map[string]ownStub{
		"error": {err: fleet.Errorf(fleet.Conflict, "another history")}, "empty": {record: auth.NewRecord()},
	} {
		v := c.Verified(own)
		for what, ask := range map[string]func() error{
			"nodes":     func() error { _, err := v.Nodes(ctx); return err },
			"node":      func() error { _, err := v.Node(ctx, "web01"); return err },
			"operators": func() error { _, err := v.Operators(ctx); return err },
			"policy":    func() error { _, err := v.Policy(ctx); return err },
			"groups":    func() error { _, err := v.Groups(ctx); return err },
			"settings":  func() error { _, err := v.Settings(ctx); return err },
			"keyrings":  func() error { _, err := v.Keyrings(ctx, ""); return err },
			"key":       func() error { _, err := v.NodeHPKE(ctx, id("web01")); return err },
			"status":    func() error { _, err := v.Status(ctx); return err },
			"news":      func() error { return v.Watch(ctx, auth.Envelope{}, func(node.Update) error { return nil }) },
			"params":    func() error { _, err := v.ReadParams(ctx, asks("a")); return err },
		} {
			if ask() == nil {
				t.Errorf("%s, %s: believed", name, what)
			}
		}
	}
}
