package transport

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// Nothing opens but what was sealed, once; and what does not open leaves nothing behind.
func FuzzOpen(f *testing.F) {
	now, next, foreign := newSealer(1, testKeys(1)), newSealer(2, testKeys(2)), newSealer(3, testKeys(3))
	good := [][]byte{mustSeal(f, now, "payload"), mustSeal(f, now, ""), mustSeal(f, next, "of the next epoch"), mustSeal(f, now, strings.Repeat("x", MaxPayload))}
	for _, packet := range good {
		f.Add(packet)
	}
	f.Add(mustSeal(f, foreign, "under a key that nobody accepts"))
	f.Add(good[0][:headerSize])
	f.Add(good[0][:headerSize+tagSize])
	f.Add(append(bytes.Clone(good[0]), 0))
	f.Add([]byte{})
	f.Add(make([]byte, MaxPacket+1))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := newOpener(testFleet)
		o.use(testKeys(1, 2))
		kind, payload, ok := o.open(data)
		sealed := false
		for _, packet := range good {
			sealed = sealed || bytes.Equal(packet, data)
		}
		switch {
		case ok != sealed:
			t.Fatalf("opened: %v", ok)
		case !ok && len(o.senders.byID) != 0:
			t.Fatal("a forgery is remembered")
		case ok && (kind != KindBell || len(payload) != len(data)-headerSize-tagSize):
			t.Fatalf("kind %d, %d bytes", kind, len(payload))
		}
		if opens(o, data) {
			t.Fatal("opened twice")
		}
	})
}

// What is sealed opens as it was; a bit more or less, and it does not.
func FuzzSeal(f *testing.F) {
	f.Add(byte(KindGossip), []byte("payload"), uint64(1), uint16(0))
	f.Add(byte(KindBell), []byte{}, uint64(1<<63), uint16(9))
	f.Add(byte(maxKind), make([]byte, MaxPayload), uint64(replayWindow), uint16(100))
	f.Add(byte(0x40), []byte("x"), uint64(2), uint16(1))
	f.Add(byte(1), make([]byte, MaxPayload+1), uint64(2), uint16(1))
	f.Fuzz(func(t *testing.T, kind byte, payload []byte, counter uint64, flip uint16) {
		s, o := newSealer(1, testKeys(1)), newOpener(testFleet)
		o.use(testKeys(1))
		s.counter.Store(counter)
		packet, err := s.seal(Kind(kind), payload)
		fits := kind > 0 && kind <= byte(maxKind) && len(payload) <= MaxPayload
		if (err == nil) != fits {
			t.Fatalf("kind %d, %d bytes: %v", kind, len(payload), err)
		}
		if err != nil {
			return
		}
		bent := bytes.Clone(packet)
		bent[int(flip)/8%len(bent)] ^= 1 << (flip % 8)
		if opens(o, bent) {
			t.Fatalf("opened with bit %d flipped", flip)
		}
		gotKind, got, ok := o.open(packet)
		if want := counter+1 != 0; ok != want { // the counter 0 is never used: it would be a second round
			t.Fatalf("opened: %v, counter %d", ok, counter+1)
		}
		if ok && (byte(gotKind) != kind || !bytes.Equal(got, payload) || len(packet) > MaxPacket || packet[0] >= 0x40) {
			t.Fatalf("%d bytes came back as %d", len(payload), len(got))
		}
	})
}

// Frames are read as they were written, one after the other, however the stream is cut into pieces.
func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, 1, []byte("body")))
	f.Add(appendFrame(appendFrame(appendFrame(nil, 1, nil), KindError, encodeError(io.EOF)), 2, make([]byte, firstChunk+1)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0, 0, 0xff, 0xff, 1, 2})
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 16
		whole, pieces := bytes.NewReader(data), iotest.HalfReader(bytes.NewReader(data))
		var read []byte
		for {
			kind, body, err := readFrame(whole, limit)
			sameKind, same, sameErr := readFrame(pieces, limit)
			if kind != sameKind || !bytes.Equal(body, same) || (err == nil) != (sameErr == nil) {
				t.Fatalf("in pieces: %v, whole: %v", sameErr, err)
			}
			if err != nil {
				if (err == io.EOF) != (len(read) == len(data)) {
					t.Fatalf("%v after %d of %d bytes", err, len(read), len(data))
				}
				return
			}
			if len(body) > limit || cap(body) > 2*len(body)+firstChunk {
				t.Fatalf("%d bytes of room for %d", cap(body), len(body))
			}
			read = appendFrame(read, kind, body)
			if !bytes.HasPrefix(data, read) {
				t.Fatal("a frame is read as something else")
			}
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(hello{Fleet: testFleet, Proof: []byte("p"), Seen: "10.0.0.1:1"}.encode())
	f.Add(hello{Fleet: testFleet, Instance: [8]byte{1, 2, 3}, Proof: make([]byte, 300), Seen: "[fd00::1%eth0]:7980"}.encode())
	f.Add(hello{Seen: "::ffff:10.0.0.1"}.encode())
	f.Add([]byte{1, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decodeHello(data)
		if err != nil {
			return
		}
		if !bytes.Equal(h.encode(), data) || len(h.Proof) > MaxProof {
			t.Fatal("two spellings of one hello")
		}
		var s sightings
		if addr, ok := h.seenAt(); ok {
			if _, err := netip.ParseAddrPort(addr.String()); err != nil || addr.Addr().Is4In6() {
				t.Fatalf("%q is seen as %s", h.Seen, addr)
			}
			s.note(idOf(1), addr)
		}
	})
}

func FuzzErrorFrame(f *testing.F) {
	f.Add(encodeError(fleet.Errorf(fleet.Denied, "no")))
	f.Add(encodeError(fleet.Errorf(fleet.Exhausted, "%s", strings.Repeat("é", maxReason)).Hinted("muster \x1b[31m status")))
	f.Add(encodeError(io.EOF))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := decodeError(data)
		e, ok := errors.AsType[*fleet.Error](err)
		if !ok || strings.ContainsAny(e.What+e.Hint, "\x1b\n\r\x00") || len(e.What) > 2*maxReason {
			t.Fatalf("%#v", err)
		}
		again, ok := errors.AsType[*fleet.Error](decodeError(encodeError(err)))
		if !ok || again.Kind != e.Kind || again.What != e.What || again.Hint != e.Hint {
			t.Fatalf("%#v is passed on as %#v", e, again)
		}
	})
}

// TestMemory: what comes from strangers costs what it weighs.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	packet := mustSeal(t, newSealer(1, testKeys(1)), "payload")
	o := newOpener(testFleet)
	o.use(testKeys(1))
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 2}, func(in []byte) { opens(o, in) },
		hostile.Join(hostile.Inputs(2*MaxPacket, packet), hostile.Corpus(t, "FuzzOpen")))

	frame := appendFrame(nil, 1, make([]byte, 300))
	for _, plane := range alpns() {
		limits, _ := Plane(plane).limits()
		hostile.Check(t, hostile.Bound{Base: 2 * firstChunk, PerByte: 4}, func(in []byte) { _, _, _ = readFrame(bytes.NewReader(in), limits.frame) },
			hostile.Join(hostile.Inputs(1<<16, frame), hostile.Corpus(t, "FuzzFrame")))
	}
	h := hello{Fleet: testFleet, Proof: make([]byte, 100), Seen: "10.0.0.1:1"}.encode()
	behind := func(first byte, inputs func(func(string, []byte) bool)) func(func(string, []byte) bool) {
		return func(yield func(string, []byte) bool) {
			for name, in := range inputs {
				if !yield(name, append([]byte{first}, in...)) {
					return
				}
			}
		}
	}
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 16}, func(in []byte) { _, _ = decodeHello(in) },
		hostile.Join(behind(helloFormat, hostile.Inputs(maxHello, h[1:])), hostile.Corpus(t, "FuzzHello")))
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 16}, func(in []byte) { _ = decodeError(in) },
		hostile.Join(hostile.Inputs(1<<16, encodeError(fleet.Errorf(fleet.Denied, "no").Hinted("ask"))), hostile.Corpus(t, "FuzzErrorFrame")))
}
