package params

import (
	"fmt"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// BenchmarkPut is a version more of a parameter that has all it can keep: what every replica does with a write, apart from
// its signature.
func BenchmarkPut(b *testing.B) {
	d := newDesk("bench put")
	p := d.put(b, nil, "/app/prod/url", "v1")
	for i := range MaxVersions {
		p = d.put(b, p, "/app/prod/url", fmt.Sprint("v", i))
	}
	put, raw := plainPut("/app/prod/url", p.Last+1, string(make256()))
	put.Born = p.Born
	by := d.sign(Op{Put: []Put{*put}})[0]
	by.Content = raw
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := p.Put(put, by); err != nil {
			b.Fatal(err)
		}
	}
}

func make256() []byte {
	out := make([]byte, 256)
	for i := range out {
		out[i] = 'a' + byte(i%26)
	}
	return out
}

// BenchmarkOpenChange is what a replica checks of a change of one Put with 256 bytes, apart from its signature.
func BenchmarkOpenChange(b *testing.B) {
	put, raw := plainPut("/app/prod/url", 2, string(make256()))
	d := newDesk("bench open")
	h := d.Header(0)
	h.Expires = h.Issued + ChangeLife
	c, bodies := Commit(h, []Op{salted(Op{Put: []Put{*put}})})
	b.ReportAllocs()
	for b.Loop() {
		ops, err := c.Open(bodies)
		if err != nil {
			b.Fatal(err)
		}
		if err := ops[0].Put[0].CheckContent(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify is what a reader does with an answer of 256 bytes, signature and all.
func BenchmarkVerify(b *testing.B) {
	d := newDesk("bench verify")
	p := d.put(b, nil, "/app/prod/url", string(make256()))
	i := item(b, p, Selector{Name: "/app/prod/url"}, true)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(i, d.Record.Charter); err != nil {
			b.Fatal(err)
		}
	}
}

func benchRecipients(n int) (out []Recipient) {
	for i := range n {
		_, public := keyPair(fmt.Sprint("reader ", i))
		out = append(out, Recipient{Reader{Kind: ByKeyring, Name: fmt.Sprint("k", i), Life: fleet.UUID{1}, Epoch: 1}, public})
	}
	return out
}

// BenchmarkSeal is a secret of 256 bytes for some readers; bytes/op of the metrics is what is kept of it.
func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{1, 3, MaxReaders} {
		b.Run(fmt.Sprint(n, "-readers"), func(b *testing.B) {
			to := benchRecipients(n)
			kept := 0
			b.ReportAllocs()
			for b.Loop() {
				s, _, err := Seal(place(), make256(), [32]byte{1}, to)
				if err != nil {
					b.Fatal(err)
				}
				kept = len(SealedContent(s).Encode())
			}
			b.ReportMetric(float64(kept), "kept-bytes")
		})
	}
}

// BenchmarkOpen is what one reader does.
func BenchmarkOpen(b *testing.B) {
	s, readers, err := Seal(place(), make256(), [32]byte{1}, benchRecipients(3))
	if err != nil {
		b.Fatal(err)
	}
	private, _ := keyPair("reader 1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(place(), readers, 1, private); err != nil {
			b.Fatal(err)
		}
	}
}
