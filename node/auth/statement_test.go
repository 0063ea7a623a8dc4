package auth

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

type note struct {
	Header Header
	Text   string
}

var purposes = []Purpose{
	ForCharter, ForToken, ForTokenDelete, ForEnrol, ForCountersign, ForNodeTags, ForNodeRemove, ForCommand, ForCancel,
	ForBeacon, ForReport, ForRequest,
}

// A signature holds for exactly one purpose, fleet, key and body.
func TestSignaturesAreSeparated(t *testing.T) {
	fleets := []fleet.ID{{}, fleet.Sum([]byte("a")), fleet.Sum([]byte("b"))}
	signers := []Signer{key("a"), key("b")}
	rapid.Check(t, func(t *rapid.T) {
		p, q := rapid.SampledFrom(purposes).Draw(t, "signed for"), rapid.SampledFrom(purposes).Draw(t, "read as")
		f, g := rapid.SampledFrom(fleets).Draw(t, "fleet"), rapid.SampledFrom(fleets).Draw(t, "other fleet")
		a, b := rapid.SampledFrom(signers).Draw(t, "signer"), rapid.SampledFrom(signers).Draw(t, "other signer")
		said := note{Header: Header{ID: uuid("n"), Issued: start}, Text: rapid.String().Draw(t, "text")}
		e := a.Sign(p, f, said)
		same := p == q && f == g && a.ID() == b.ID()
		got, err := Open[note](e, q, g, b.Public())
		if (err == nil) != same {
			t.Fatalf("signed for %s, read as %s: %v", p, q, err)
		}
		if same && got != said {
			t.Fatalf("opened %v, signed %v", got, said)
		}
		if (e.Digest(p, f) == e.Digest(q, g)) != (p == q && f == g) {
			t.Fatal("digests are not separated by purpose and fleet")
		}
	})
}

func TestPurposesCannotBePrefixesOfEachOther(t *testing.T) {
	for i, p := range purposes {
		if slices.Contains([]byte(p), 0) {
			t.Errorf("purpose %q holds the separator", p)
		}
		if slices.Contains(purposes[i+1:], p) {
			t.Errorf("purpose %s is there twice", p)
		}
	}
}

func TestEnvelopeRefusals(t *testing.T) {
	id, signer := fleet.Sum([]byte("fleet")), key("a")
	for name, tc := range map[string]struct {
		change func(*Envelope)
		says   string
	}{
		"format":            {func(e *Envelope) { e.Format = 2 }, "format 2"},
		"format 0":          {func(e *Envelope) { e.Format = 0 }, "format 0"},
		"algorithm":         {func(e *Envelope) { e.Algorithm = 3 }, "algorithm 3"},
		"algorithm SSHSIG":  {func(e *Envelope) { e.Algorithm = SSHSIG }, "algorithm 2"},
		"algorithm 0":       {func(e *Envelope) { e.Algorithm = 0 }, "algorithm 0"},
		"key ID":            {func(e *Envelope) { e.Key = key("b").ID() }, "names key"},
		"body":              {func(e *Envelope) { e.Body = slices.Concat(e.Body, []byte{0}) }, "does not hold"},
		"empty body":        {func(e *Envelope) { e.Body = nil }, "does not hold"},
		"signature":         {func(e *Envelope) { e.Signature = slices.Clone(e.Signature); e.Signature[0] ^= 1 }, "does not hold"},
		"no signature":      {func(e *Envelope) { e.Signature = nil }, "does not hold"},
		"long signature":    {func(e *Envelope) { e.Signature = slices.Concat(e.Signature, []byte{0}) }, "does not hold"},
		"another's in full": {func(e *Envelope) { *e = key("b").Sign(ForToken, id, note{}) }, "names key"},
	} {
		e := signer.Sign(ForToken, id, note{Text: "x"})
		tc.change(&e)
		err := e.Verify(ForToken, id, signer.Public())
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		t.Run(name, func(t *testing.T) { refused(t, err, fleet.KindOf(err), tc.says) })
	}
	for _, short := range [][]byte{nil, {1}, signer.Public()[:31], slices.Concat(signer.Public(), []byte{0})} {
		e := signer.Sign(ForToken, id, note{})
		e.Key = fleet.Sum(short)
		if e.Verify(ForToken, id, short) == nil {
			t.Errorf("a key of %d bytes verified", len(short))
		}
	}
}

// Verified bytes that are not the canonical form of the type are refused, so one body has one meaning.
func TestOpenRefusesUnknownFields(t *testing.T) {
	id, signer := fleet.Sum([]byte("fleet")), key("a")
	type newer struct {
		Header Header
		Text   string
		Extra  uint8
	}
	if _, err := Open[note](signer.Sign(ForToken, id, newer{Text: "x"}), ForToken, id, signer.Public()); err == nil {
		t.Error("a field that this version does not know was ignored")
	}
}

func TestCheckTime(t *testing.T) {
	now, skew := at(start), MaxSkew.Milliseconds()
	for name, tc := range map[string]struct {
		issued, expires int64
		kind            fleet.Kind // Internal: accepted
	}{
		"now":                       {start, 0, fleet.Internal},
		"unset":                     {0, 0, fleet.Internal},
		"long ago":                  {1, 0, fleet.Internal},
		"skew ahead":                {start + skew, 0, fleet.Internal},
		"beyond skew":               {start + skew + 1, 0, fleet.Denied},
		"last moment":               {start, start + 1, fleet.Internal},
		"expired":                   {start, start, fleet.Expired},
		"end of time":               {start, MaxTime, fleet.Internal},
		"issued at the end of time": {MaxTime, 0, fleet.Denied},
		"behind the end of time":    {start, MaxTime + 1, fleet.Invalid},
		"negative":                  {-1, 0, fleet.Invalid},
		"negative end":              {start, -1, fleet.Invalid},
		"most negative":             {math.MinInt64, 0, fleet.Invalid},
		"huge":                      {math.MaxInt64, 0, fleet.Invalid},
		"huge end":                  {start, math.MaxInt64, fleet.Invalid},
	} {
		err := Header{Issued: tc.issued, Expires: tc.expires}.CheckTime(now)
		if tc.kind == fleet.Internal && err == nil {
			continue
		}
		if err == nil || fleet.KindOf(err) != tc.kind {
			t.Errorf("%s: %v, want kind %s", name, err, tc.kind)
		}
	}
	if got := at(MaxTime).UTC(); got != time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC) {
		t.Errorf("MaxTime is %s", got)
	}
}

// An order is judged when it acts: its signer must stand now, and its charter head must be known.
func TestOpenOrder(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob"))
	pick := header(func(n note) Header { return n.Header })
	order := func(change func(*Header)) Envelope {
		h := w.header()
		h.Expires = w.now + hour
		change(&h)
		return key("bob").Sign(ForCommand, w.fleetID(), note{Header: h})
	}
	open := func(e Envelope) error {
		_, _, err := OpenOrder(w.record.Charter, e, ForCommand, at(w.now), pick)
		return err
	}
	good := order(func(*Header) {})
	if err := open(good); err != nil {
		t.Fatal(err)
	}
	refused(t, open(order(func(h *Header) { h.Charter = fleet.Sum([]byte("newer")) })), fleet.Unavailable, "has not got")
	refused(t, open(order(func(h *Header) { h.Expires = w.now })), fleet.Expired, "expired")
	refused(t, open(order(func(h *Header) { h.Issued = w.now + 2*MaxSkew.Milliseconds() })), fleet.Denied, "future")
	refused(t, open(key("mallory").Sign(ForCommand, w.fleetID(), note{})), fleet.Denied, "no operator")
	refused(t, open(key("root1").Sign(ForCommand, w.fleetID(), note{})), fleet.Denied, "no operator")
	if _, _, err := OpenOrder(nil, good, ForCommand, at(w.now), pick); err == nil {
		t.Error("an order was accepted without a charter")
	}
	w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()})
	refused(t, open(good), fleet.Denied, "removed")
}

// What a signer's statement costs to decode is bounded by its bytes, whatever they say.
func TestDecodingDoesNotAmplify(t *testing.T) {
	const size = 24 << 10
	nils := func(head ...byte) []byte { // an array that claims as many items as there are bytes, each nil
		body := append(head, 0xdc, byte(size>>8), byte(size&0xff))
		return append(body, make([]byte, size)...)
	}
	for i, data := range [][]byte{nils(0x93, 1, 0xc4, 0), nils(0x99), nils()} {
		for j := range data[len(data)-size:] {
			data[len(data)-size+j] = 0xc0
		}
		var entry CharterEntry
		var g Genesis
		var ids []fleet.ID
		allocated := allocatedBy(func() {
			_, _, _ = wire.Unmarshal(data, &entry), wire.Unmarshal(data, &g), wire.Unmarshal(data, &ids)
		})
		if allocated > 600*size {
			t.Errorf("%d: %d bytes of input cost %d bytes of memory", i, len(data), allocated)
		}
	}
}
