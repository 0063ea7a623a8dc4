package agent

import (
	"fmt"
	"testing"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
)

// TestApplyBatch: a batch comes to what its items come to one by one, in order, and is shown at once; who follows hears of it
// when it is shown.
func TestApplyBatch(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	now := d.Fleet.Now.UnixMilli()
	var items [][]byte
	for i := range 10 {
		born := int64(0)
		for version := range 5 {
			var e consensus.PutParams
			e, born = d.plain(fmt.Sprintf("/app/%d", i), fmt.Sprint(version), uint32(version+1), born)
			items = append(items, consensus.Encode(e, now))
		}
	}
	d.order.Statement = auth.Envelope{}
	forged, _ := d.plain("/app/forged", "x", 1, 0)
	forged.Statement.Signature = make([]byte, 64)
	items = append(items, consensus.Encode(forged, now), items[0][:20], items[0])
	one, all := NewReplica(), NewReplica()
	start := d.replica.State()
	one.state.Store(&start)
	all.state.Store(&start)
	var want []any
	for _, item := range items {
		want = append(want, one.Apply(0, item))
	}
	moved := all.paramsMoved()
	got := all.ApplyBatch(0, items)
	if len(got) != len(want) || one.State().Digest() != all.State().Digest() {
		t.Fatalf("%d answers; the states differ", len(got))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("item %d: %+v, one by one %+v", i, got[i], want[i])
		}
	}
	select {
	case <-moved:
	default:
		t.Error("who waits for parameters hears of nothing")
	}
	if r := resultOf(got[0]); r.Why != "" || r != resultOf(got[len(got)-1]) {
		t.Errorf("the first item: %+v; repeated: %+v", r, got[len(got)-1])
	}
}

// TestReadied: an item that this server prepared is taken as it was prepared, another is not, and none stays.
func TestReadied(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	e, _ := d.plain("/app/a", "one", 1, 0)
	item := consensus.Encode(e, d.Fleet.Now.UnixMilli())
	gone := d.replica.readied.put(item, d.replica.State().Prepare(item))
	if _, ok := d.replica.readied.take(append([]byte{}, item...)); !ok {
		t.Error("the same bytes are not known")
	}
	other := append([]byte{}, item...)
	other[len(other)-1] ^= 1
	if _, ok := d.replica.readied.take(other); ok {
		t.Error("other bytes are taken for known ones")
	}
	gone()
	if len(d.replica.readied.of) != 0 {
		t.Error("an item stays")
	}
	for i := range maxReadied + 10 {
		d.replica.readied.put([]byte(fmt.Sprint(i)), consensus.Prepared{})
	}
	if len(d.replica.readied.of) != maxReadied {
		t.Errorf("%d items are kept", len(d.replica.readied.of))
	}
	d.putPlain(t, "/app/b", "x", 1, 0) // beyond the bound it is prepared again
}
