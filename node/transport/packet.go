package transport

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/muster-fleet/muster/node/fleet"
)

// A sealed packet is
//
//	kind u8 | key epoch u32 | salt [8] | counter u64 | AES-256-GCM ciphertext and tag
//
// all big endian, header as additional data. The salt is fresh per process and the counter never repeats within one, so
// the key (HKDF of fleet key, salt and fleet ID) and the nonce (the counter) are used once together.
const (
	headerSize = 1 + 4 + saltSize + 8
	saltSize   = 8
	tagSize    = 16
	nonceSize  = 12
)

// Kind is a sealed packet's first byte on the wire, 0x01 to 0x3f: QUIC takes all that is 0x40 and above.
type Kind byte

// The kinds in use.
const (
	KindGossip Kind = 1 // serf's packets
	KindBell   Kind = 2 // "there is something to do"
	KindBeacon Kind = 3 // "this is the newest state that I know of"
	KindRelay  Kind = 4 // a packet of another kind, for a node that keeps an uplink here
)

const maxKind Kind = 0x3f

// Keys are the fleet's gossip keys by epoch: one to send with, all that are still accepted.
type Keys struct {
	Send   uint32
	Accept map[uint32][32]byte
}

type header struct {
	kind    Kind
	epoch   uint32
	salt    [saltSize]byte
	counter uint64
}

func (h header) append(b []byte) []byte {
	b = append(b, byte(h.kind))
	b = binary.BigEndian.AppendUint32(b, h.epoch)
	b = append(b, h.salt[:]...)
	return binary.BigEndian.AppendUint64(b, h.counter)
}

func parseHeader(b []byte) header {
	return header{
		kind:    Kind(b[0]),
		epoch:   binary.BigEndian.Uint32(b[1:]),
		salt:    [saltSize]byte(b[5:]),
		counter: binary.BigEndian.Uint64(b[13:]),
	}
}

func (h header) nonce() []byte {
	return binary.BigEndian.AppendUint64(make([]byte, nonceSize-8, nonceSize), h.counter)
}

// packetKey derives the AEAD of one sender's process under one fleet key.
func packetKey(key [32]byte, salt [saltSize]byte, id fleet.ID) cipher.AEAD {
	derived, err := hkdf.Key(sha256.New, key[:], salt[:], "muster sealed packet 1"+string(id[:]), 32)
	if err != nil {
		panic("transport: " + err.Error()) // only for lengths that are constants here
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		panic("transport: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("transport: " + err.Error())
	}
	return aead
}

// sealer makes packets; safe for concurrent use.
type sealer struct {
	fleet   fleet.ID
	salt    [saltSize]byte
	counter atomic.Uint64
	sending atomic.Pointer[sendKey]
}

type sendKey struct {
	epoch uint32
	aead  cipher.AEAD
}

// use switches to the key of the epoch to send with; without one, sealing fails.
func (s *sealer) use(keys Keys) {
	key, ok := keys.Accept[keys.Send]
	if !ok {
		s.sending.Store(nil)
		return
	}
	s.sending.Store(&sendKey{keys.Send, packetKey(key, s.salt, s.fleet)})
}

func (s *sealer) seal(kind Kind, payload []byte) ([]byte, error) {
	if kind == 0 || kind > maxKind {
		return nil, fleet.Errorf(fleet.Internal, "packet kind 0x%02x is outside 0x01 to 0x3f", byte(kind))
	}
	if len(payload) > MaxPayload {
		return nil, fleet.Errorf(fleet.Exhausted, "packet of %d bytes; at most %d fit", len(payload), MaxPayload)
	}
	key := s.sending.Load()
	if key == nil {
		return nil, fleet.Errorf(fleet.Unavailable, "no gossip key to send with yet")
	}
	h := header{kind, key.epoch, s.salt, s.counter.Add(1)}
	b := h.append(make([]byte, 0, headerSize+len(payload)+tagSize))
	return key.aead.Seal(b, h.nonce(), payload, b), nil
}

// opener authenticates packets; safe for concurrent use. It remembers a sender only once a packet of it was genuine.
type opener struct {
	fleet   fleet.ID
	mu      sync.Mutex
	keys    map[uint32][32]byte
	senders *senders
}

func newOpener(id fleet.ID) *opener {
	return &opener{fleet: id, senders: newSenders(rememberedSenders)}
}

// use replaces the accepted keys and forgets senders under keys that went or changed. Others keep their replay windows.
func (o *opener) use(keys Keys) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.keys
	o.keys = make(map[uint32][32]byte, len(keys.Accept))
	for epoch, key := range keys.Accept {
		o.keys[epoch] = key
	}
	o.senders.forget(func(id senderID) bool {
		key, ok := o.keys[id.epoch]
		return !ok || key != old[id.epoch]
	})
}

// open returns the payload of a genuine packet that was not seen before; the payload is the caller's.
func (o *opener) open(packet []byte) (Kind, []byte, bool) {
	if len(packet) < headerSize+tagSize || len(packet) > MaxPacket {
		return 0, nil, false
	}
	h := parseHeader(packet)
	if h.kind == 0 || h.kind > maxKind {
		return 0, nil, false
	}
	aead, key, ok := o.lookup(h)
	if !ok {
		return 0, nil, false
	}
	if aead == nil {
		aead = packetKey(key, h.salt, o.fleet) // outside the lock: strangers' salts must not slow members down
	}
	payload, err := aead.Open(nil, h.nonce(), packet[headerSize:], packet[:headerSize])
	if err != nil || !o.accept(h, aead, key) {
		return 0, nil, false
	}
	return h.kind, payload, true
}

// lookup returns the sender's AEAD, or nil and the key to make it from; false when the packet cannot be good.
func (o *opener) lookup(h header) (cipher.AEAD, [32]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key, ok := o.keys[h.epoch]
	if !ok {
		return nil, key, false
	}
	s := o.senders.get(senderID{h.epoch, h.salt})
	if s == nil {
		return nil, key, true
	}
	return s.aead, key, s.window.fresh(h.counter)
}

// accept marks an authenticated packet as seen, and says whether it is the first of its kind.
func (o *opener) accept(h header, aead cipher.AEAD, key [32]byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now, ok := o.keys[h.epoch]; !ok || now != key {
		return false // the keys changed while the packet was being opened
	}
	s := o.senders.get(senderID{h.epoch, h.salt})
	if s == nil {
		s = o.senders.add(senderID{h.epoch, h.salt}, aead)
	}
	return s.window.mark(h.counter)
}
