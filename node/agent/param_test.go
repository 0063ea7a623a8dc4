package agent

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// plain makes an entry that puts a String; born is of its first version, 0 where this is it.
func (d *desk) plain(name, value string, version uint32, born int64) (consensus.PutParams, int64) {
	content := params.PlainContent([]byte(value)).Encode()
	header := d.Header(10 * time.Minute)
	if version == 1 {
		born = header.Issued
	}
	return d.changesAt(header, [][]byte{content}, params.Op{Put: []params.Put{{
		Name: name, Born: born, Version: version, Type: params.String, DataType: params.DataText, Digest: fleet.Sum(content),
		Size: uint32(len(value)), Tier: params.Standard,
	}}}), born
}

// changes makes an entry of operations.
func (d *desk) changes(contents [][]byte, ops ...params.Op) consensus.PutParams {
	return d.changesAt(d.Header(10*time.Minute), contents, ops...)
}

func (d *desk) changesAt(header auth.Header, contents [][]byte, ops ...params.Op) consensus.PutParams {
	for i := range ops {
		ops[i].Salt = d.NewID()
	}
	change, bodies := params.Commit(header, ops)
	return consensus.PutParams{Statement: d.Sign(auth.ForParams, change), Ops: bodies, Contents: contents}
}

// putPlain writes a String through the agent.
func (d *desk) putPlain(tb testing.TB, name, value string, version uint32, born int64) int64 {
	tb.Helper()
	e, born := d.plain(name, value, version, born)
	if _, err := d.Propose(tb.Context(), e); err != nil {
		tb.Fatal(err)
	}
	return born
}

// reads signs a request to read a scope.
func (d *desk) reads(scope string) []auth.Envelope {
	return []auth.Envelope{d.Sign(auth.ForRequest, node.Read{Header: d.Header(node.ReadLife), What: node.ReadParams, Name: scope})}
}

func get(tb testing.TB, selectors ...string) params.Ask {
	tb.Helper()
	ask := params.Ask{Values: true}
	for _, text := range selectors {
		s, err := params.ParseSelector(text)
		if err != nil {
			tb.Fatal(err)
		}
		ask.Get = append(ask.Get, s)
	}
	return ask
}

// value returns the plain value of an answer's only item.
func value(tb testing.TB, r node.ParamsRead) string {
	tb.Helper()
	if len(r.Answer.Items) != 1 || len(r.Answer.Items[0].Content) != 1 {
		tb.Fatalf("no value in %+v", r)
	}
	c, err := params.DecodeContent(r.Answer.Items[0].Content[0])
	if err != nil {
		tb.Fatal(err)
	}
	return string(c.Plain[0])
}

// TestReadParams: what was written is read at once, by an operator, by the node, and not by an account without a rule.
func TestReadParams(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	born := d.putPlain(t, "/app/a", "one", 1, 0)
	d.putPlain(t, "/app/a", "two", 2, born)
	for what, ask := range map[string]node.ParamsAsk{
		"by an operator":       {Signed: d.reads("/app/"), Ask: get(t, "/app/a")},
		"by the node":          {Ask: get(t, "/app/a")},
		"stale":                {Ask: get(t, "/app/a"), Stale: true},
		"stale by an operator": {Signed: d.reads("/app/a"), Ask: get(t, "/app/a"), Stale: true},
	} {
		read, err := d.ReadParams(t.Context(), ask)
		want := node.FromLeader
		if ask.Stale {
			want = node.FromReplica
		}
		if err != nil || value(t, read) != "two" || read.Source != want {
			t.Errorf("%s: %+v, %v", what, read, err)
		}
	}
	read, err := d.ReadParams(t.Context(), node.ParamsAsk{Local: []node.LocalUser{{Name: "www"}}, Ask: get(t, "/app/a")})
	if err != nil || len(read.Answer.Items) != 0 || len(read.Answer.Missing) != 1 || !strings.Contains(read.Answer.Missing[0].Why, "localuser www may not") {
		t.Errorf("an account: %+v, %v", read, err)
	}
	if _, err := d.ReadParams(t.Context(), node.ParamsAsk{Signed: d.reads("/db/"), Ask: get(t, "/app/a")}); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("beyond what was signed for: %v", err)
	}
	if _, err := d.ReadParams(t.Context(), node.ParamsAsk{Ask: params.Ask{}}); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("nothing asked: %v", err)
	}
}

// TestReadParamsLie: a server that shows an older version than this node has seen is not believed, and says so.
func TestReadParamsLie(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	born := d.putPlain(t, "/app/a", "one", 1, 0)
	ask := node.ParamsAsk{Ask: get(t, "/app/a")}
	old, err := d.answerParams(t.Context(), d.self, wire.Marshal(ask))
	if err != nil {
		t.Fatal(err)
	}
	d.putPlain(t, "/app/a", "two", 2, born)
	if _, err := d.ReadParams(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	d.quorum = elsewhere{stubQuorum{d.replica, d.db.ID}}
	d.peers.kind, d.peers.body = done, old
	if _, err := d.ReadParams(t.Context(), ask); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("an older version is taken: %v", err)
	}
}

// elsewhere is a replica whose leader is another server.
type elsewhere struct{ stubQuorum }

func (q elsewhere) Status() Replication {
	return Replication{Leader: q.self, Term: 1, Voters: []fleet.ID{q.self}, Member: true}
}

func (q elsewhere) Read(context.Context) error { return NotLeader{q.self} }
