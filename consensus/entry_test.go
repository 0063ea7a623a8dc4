package consensus

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// oneOfEach returns an entry of every kind, as a founded fleet may get them.
func oneOfEach(q *quorum) []Entry {
	token := q.NewToken(1, nil)
	command := q.command(ids(q.Nodes...), nil)
	return []Entry{
		putAct(q.TagNode(q.Nodes[0].ID, map[string]string{"a": "b"}, true)),
		PutToken{token.Statement},
		DeleteToken{q.Sign(auth.ForTokenDelete, auth.DeleteToken{Header: q.Header(0), Token: token.Body.Header.ID})},
		command,
		q.cancel(commandID(command)),
		q.request("eve"),
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
		seen[e.kind()] = true
	}
	for kind := kindPutAct; kind <= kindPutRequest; kind++ {
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
		"kind to come":    change(0, kindPutRequest+1),
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
	}
}

// The largest command that may be signed, for the most nodes, must fit into an entry.
func TestLargestCommandFits(t *testing.T) {
	e := PutCommand{
		Statement: auth.Envelope{Format: 1, Algorithm: 1, Body: make([]byte, 64<<10), Signature: make([]byte, 64)},
		Nodes:     make([]fleet.ID, 10_000),
	}
	if _, _, err := Decode(Encode(e, 1)); err != nil {
		t.Error(err)
	}
}
