package agent

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/params"
)

// TestProved: what was verified is known again, nothing else is, and not under another charter; only so many are kept.
func TestProved(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.putPlain(t, "/app/a", "one", 1, 0)
	read, err := d.ReadParams(t.Context(), node.ParamsAsk{Ask: get(t, "/app/a")})
	if err != nil {
		t.Fatal(err)
	}
	var p proved
	charter := d.record().Charter
	item := read.Answer.Items[0]
	for range 2 {
		if put, err := p.by(charter)(item); err != nil || put.Name != "/app/a" {
			t.Fatal(put, err)
		}
	}
	if len(p.of) != 1 {
		t.Fatalf("%d remembered", len(p.of))
	}
	lie := item
	lie.Change.Signature = make([]byte, 64)
	if _, err := p.by(charter)(lie); err == nil {
		t.Error("another signature is taken for a known one")
	}
	lie = item
	lie.Change.Body = bytes.Clone(lie.Change.Body)
	lie.Change.Body[len(lie.Change.Body)-1] ^= 1
	if _, err := p.by(charter)(lie); err == nil {
		t.Error("another body is taken for a known one")
	}
	lie = item
	lie.Newest++
	if _, err := p.by(charter)(lie); err == nil {
		t.Error("another newest is taken for a known one")
	}
	d.Fleet.Record = d.record()
	compromised := d.DeleteOperator("ada", d.Operator, true)
	record, err := d.record().Apply(auth.Act{Index: 1 << 20, Time: d.Fleet.Now.UnixMilli(), Kind: compromised.Kind, Data: compromised.Data}, d.record().Head)
	if err == nil {
		if _, err := p.by(record.Charter)(item); err == nil {
			t.Error("what a compromised operator signed is taken, for it was once good")
		}
	} else {
		t.Log("the act was not taken: ", err)
		t.Fail()
	}
	remembered := 0
	for i := range 3 * maxProved / (perProved + 1<<10) {
		e := item.Change
		e.Body, e.Signature = make([]byte, 1<<10), bytes64(i)
		p.put(e, params.Change{}, charter.Head())
	}
	for _, some := range []map[signature]provedChange{p.of, p.old} {
		for _, known := range some {
			remembered += perProved + len(known.statement.Body)
		}
	}
	if remembered > maxProved {
		t.Errorf("%d bytes remembered", remembered)
	}
}

func bytes64(i int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 56), uint64(i)) }
