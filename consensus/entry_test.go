package consensus

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// oneOfEach returns an entry of every kind, as a founded fleet may get them.
func oneOfEach(q *quorum) []Entry {
	token := q.NewToken(1, nil)
	command := q.command(ids(q.Nodes...), nil)
	paced := q.command(ids(q.Nodes...), limited(exec.Pace{Concurrency: 1}))
	return []Entry{
		putAct(q.TagNode(q.Nodes[0].ID, map[string]string{"a": "b"}, true)),
		PutToken{token.Statement},
		DeleteToken{q.Sign(auth.ForTokenDelete, auth.DeleteToken{Header: q.Header(0), Token: token.Body.Header.ID})},
		command,
		q.cancel(commandID(command)),
		q.request("eve"),
		paced,
		PutGrants{commandID(paced), []uint32{0}},
		PutEndings{commandID(paced), []exec.Ending{{Node: 0, As: exec.EndedOK}}},
		q.document("greet", "one"),
		q.document("greet", "two"),
		q.changeDocument("greet", func(c *exec.DocumentChange) { c.Default = 2 }),
		q.group("canary", "web-1"),
		q.setting(auth.SettingRecordsKeep, "10d"),
		q.change(q.set("/app/lease", "one", func(p *params.Put) { // whose notice is due at once
			p.Tier, p.Policies = params.Advanced, []params.Policy{
				{Kind: params.Expiration, At: q.Now.Add(2 * time.Hour).UnixMilli()}, {Kind: params.ExpirationNotification, Before: (24 * time.Hour).Milliseconds()},
			}
		})),
		ParamsDue{},
		SetLevel{fleet.LevelReleases},
	}
}

func TestEncodeDecode(t *testing.T) {
	seen := map[uint8]bool{}
	for _, e := range oneOfEach(founded("a")) {
		data := Encode(e, 1234567890123)
		got, now, err := Decode(data)
		if err != nil || now != 1234567890123 || !reflect.DeepEqual(got, e) {
			t.Errorf("%T came back as %+v at %d: %v", e, got, now, err)
		}
		if again := Encode(got, now); !bytes.Equal(again, data) {
			t.Errorf("%T encodes to other bytes the second time", e)
		}
		for _, stamp := range []int64{0, 1, 200, 1 << 20, 1234567890123, -7} {
			if stamped, err := Stamp(data, stamp); err != nil || !bytes.Equal(stamped, Encode(e, stamp)) {
				t.Errorf("%T stamped with %d: %v", e, stamp, err)
			}
		}
		seen[e.kind()] = true
	}
	for kind := kindPutAct; kind < kindsEnd; kind++ {
		if !seen[kind] {
			t.Errorf("kind %d has no test", kind)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := Encode(founded("a").request("eve"), 1)
	change := func(at int, b byte) []byte {
		out := bytes.Clone(good)
		out[at] = b
		return out
	}
	for name, data := range map[string][]byte{
		"nothing":         nil,
		"one byte":        good[:1],
		"kind 0":          change(0, 0),
		"kind to come":    change(0, kindsEnd),
		"another kind":    change(0, kindPutCommand),
		"version 0":       change(1, 0),
		"version to come": change(1, EntryVersion+1),
		"cut":             good[:len(good)-1],
		"longer":          append(bytes.Clone(good), 0),
		"too long":        make([]byte, MaxEntry+1),
	} {
		if e, _, err := Decode(data); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %T, %v", name, e, err)
		}
		if _, err := Stamp(data, 1<<60); err == nil && len(data) < 5 {
			t.Errorf("%s: stamped", name)
		}
	}
}

// The largest command that may be signed, for the most nodes, must fit into an entry.
func TestLargestCommandFits(t *testing.T) {
	e := PutCommand{
		Statement: auth.Envelope{Format: 1, Algorithm: 1, Body: make([]byte, 64<<10), Signature: make([]byte, 64)},
		Nodes:     make([]fleet.ID, 10_000),
	}
	grants := PutGrants{Nodes: make([]uint32, exec.MaxTargets)}
	ends := PutEndings{Ends: make([]exec.Ending, exec.MaxTargets)}
	for i := range exec.MaxTargets {
		grants.Nodes[i], ends.Ends[i].Node = 1<<32-1, 1<<32-1
	}
	change := PutParams{Statement: auth.Envelope{Format: 1, Algorithm: 1, Body: make([]byte, params.MaxSigned), Signature: make([]byte, 64)}}
	for range params.MaxOps {
		change.Ops, change.Contents = append(change.Ops, make([]byte, params.MaxChange/params.MaxOps)), append(change.Contents, make([]byte, params.MaxContents/params.MaxOps))
	}
	for _, e := range []Entry{e, grants, ends, change} {
		if _, _, err := Decode(Encode(e, 1)); err != nil {
			t.Errorf("%T: %v", e, err)
		}
	}
}
