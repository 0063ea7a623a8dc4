package params

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

const born = int64(1_800_000_000_000)

// plainPut returns a good Put of a plain value, and its content.
func plainPut(name string, version uint32, value string) (*Put, []byte) {
	raw := PlainContent([]byte(value)).Encode()
	return &Put{
		Name: name, Born: born, Version: version, Type: String, DataType: DataText, Digest: fleet.Sum(raw), Size: uint32(len(value)), Tier: Standard,
	}, raw
}

func changed(p *Put, change func(*Put)) *Put {
	next := *p
	change(&next)
	return &next
}

// salted wraps an operation's salt around it.
func salted(o Op) Op {
	o.Salt = fleet.UUID{1}
	return o
}

// desk signs changes and keeps what the quorum would.
type desk struct {
	*authtest.Fleet
	act uint64
}

func newDesk(seed string) *desk { return &desk{Fleet: authtest.Found(seed)} }

// sign returns a change of operations with where each comes from.
func (d *desk) sign(ops ...Op) []Signed { return d.signAs(d.Operator, ops...) }

func (d *desk) signAs(who auth.Signer, ops ...Op) []Signed {
	h := d.Header(0)
	h.Expires = h.Issued + ChangeLife
	for i := range ops {
		binary.BigEndian.PutUint64(ops[i].Salt[:], d.act<<8|uint64(i)|1<<63)
		for j := range ops[i].Put {
			if ops[i].Put[j].Version == 1 {
				ops[i].Put[j].Born = h.Issued
			}
		}
	}
	body, bodies := Commit(h, ops)
	e := who.Sign(auth.ForParams, d.ID(), body)
	d.act++
	var out []Signed
	for i := range ops {
		out = append(out, Signed{Change: &e, Op: uint32(i), Body: bodies[i], Operator: authtest.OperatorName, Issued: h.Issued, Time: d.Now.UnixMilli(), Act: d.act})
	}
	return out
}

// put makes the next version of p (nil: a new parameter) with a value.
func (d *desk) put(t testing.TB, p *Param, name, value string, labels ...string) *Param {
	t.Helper()
	version, at := uint32(1), d.Now.UnixMilli()
	var seq uint32
	if p != nil {
		version, at, seq = p.Last+1, p.Born, p.Seq
	}
	put, raw := plainPut(name, version, value)
	put.Born, put.Labels = at, labels
	if len(labels) > 0 {
		put.Seq = seq + 1
	}
	return d.take(t, p, put, raw)
}

func (d *desk) take(t testing.TB, p *Param, put *Put, raw []byte) *Param {
	t.Helper()
	by := d.sign(Op{Put: []Put{*put}})[0]
	by.Content = raw
	next, _, err := p.Put(put, by)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Check(); err != nil {
		t.Fatalf("what Put returned contradicts itself: %v", err)
	}
	return next
}

func (d *desk) label(t testing.TB, p *Param, version uint32, add, remove []string) *Param {
	t.Helper()
	l := Label{Name: p.Name, Born: p.Born, Seq: p.Seq + 1, Version: version, Add: add, Remove: remove}
	next, _, err := p.Labelled(l, d.sign(Op{Label: []Label{l}})[0])
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// item is what an honest server answers.
func item(t testing.TB, p *Param, s Selector, content bool) Item {
	t.Helper()
	v, at, err := p.Find(s)
	if err != nil {
		t.Fatal(err)
	}
	i := p.Item(s, v, at)
	if content {
		i.Content = [][]byte{v.Content}
	}
	return i
}

// wants fails unless err is of a kind, with text in it or in its hint.
func wants(t testing.TB, what string, err error, kind fleet.Kind, text string) {
	t.Helper()
	if err == nil || fleet.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v (%v); want %v with %q", what, err, fleet.KindOf(err), kind, text)
	}
}
