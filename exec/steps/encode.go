package steps

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// An entry on disk: {u32 length of body, big endian; u8 kind; body in canonical msgpack; SHA-256}. The sum covers the sum
// of the entry before, the length, the kind and the body.
const (
	entryHead = 5
	entryTail = sha256.Size

	kindOpened  = 1
	kindBegan   = 2
	kindEnded   = 3
	kindStopped = 4

	// MaxEntry is the most bytes that an entry other than Opened takes on disk.
	MaxEntry = 640
	// MaxOpened is the most bytes that Opened takes on disk.
	MaxOpened = 1<<10 + MaxSteps*(3*MaxName+MaxWhy+160)
	// MaxJournal is the most bytes that a journal takes on disk.
	MaxJournal = MaxOpened + MaxEntry*(1+2*MaxSteps*(MaxAttempts+MaxReboots))
)

// Room returns how many bytes the journal of a run with this plan takes on disk if every attempt is made and one step
// asks for reboots: what to set aside for it.
func (p Plan) Room() int {
	attempts := MaxReboots
	for _, s := range p.Steps {
		attempts += int(s.attempts())
	}
	return len(appendEntry(nil, fleet.ID{}, Opened{Plan: p.Outline()})) + 9 + MaxEntry*(1+2*attempts)
}

// First returns the link that a run's first entry is chained to.
func First(command fleet.UUID) fleet.ID { return fleet.Sum(command[:]) }

// Append appends the encoded entry to dst. chain is the sum of the entry before, or First; the entry's own is returned.
func Append(dst []byte, chain fleet.ID, e Entry) ([]byte, fleet.ID) {
	dst = appendEntry(dst, chain, e)
	return dst, fleet.ID(dst[len(dst)-entryTail:])
}

func appendEntry(dst []byte, chain fleet.ID, e Entry) []byte {
	body := wire.Marshal(e.body())
	from := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)))
	dst = append(dst, e.kind())
	dst = append(dst, body...)
	sum := entrySum(chain, dst[from:])
	return append(dst, sum[:]...)
}

// Read is a journal as it was read.
type Read struct {
	Entries []Entry
	End     int      // where the next entry goes
	Chain   fleet.ID // sum of the last entry
	// Clean says that there is nothing behind End but zeros. What else lies there may be an append that a power cut tore,
	// or an entry that was damaged since: of a step that has run.
	Clean bool
}

// Decode reads a journal. Zeros may follow its last entry.
func Decode(command fleet.UUID, data []byte) Read {
	r := Read{Chain: First(command)}
	data = data[:min(len(data), MaxJournal)]
	for {
		e, sum, n := decodeEntry(data[r.End:], r.Chain)
		if n == 0 {
			break
		}
		r.Entries, r.Chain, r.End = append(r.Entries, e), sum, r.End+n
	}
	r.Clean = true
	for _, b := range data[r.End:] {
		r.Clean = r.Clean && b == 0
	}
	return r
}

// decodeEntry returns the entry at the start of data, its sum, and how many bytes it took: 0 if there is none.
func decodeEntry(data []byte, chain fleet.ID) (Entry, fleet.ID, int) {
	if len(data) < entryHead+entryTail {
		return nil, chain, 0
	}
	size := uint64(binary.BigEndian.Uint32(data))
	if size > MaxOpened || entryHead+size+entryTail > uint64(len(data)) {
		return nil, chain, 0
	}
	end := entryHead + int(size)
	sum := entrySum(chain, data[:end])
	if sum != fleet.ID(data[end:end+entryTail]) {
		return nil, chain, 0
	}
	e, err := decodeBody(data[4], data[entryHead:end])
	if err != nil {
		return nil, chain, 0
	}
	return e, sum, end + entryTail
}

func entrySum(chain fleet.ID, headAndBody []byte) fleet.ID {
	h := sha256.New()
	h.Write(chain[:])
	h.Write(headAndBody)
	return fleet.ID(h.Sum(nil))
}

func (e Opened) kind() byte  { return kindOpened }
func (e Began) kind() byte   { return kindBegan }
func (e Ended) kind() byte   { return kindEnded }
func (e Stopped) kind() byte { return kindStopped }

func (e Opened) body() any { return e }
func (e Began) body() any  { e.Boot = clip(e.Boot); return e }
func (e Ended) body() any  { e.Detail = clip(e.Detail); return e }
func (e Stopped) body() any {
	e.Why = clip(e.Why)
	return e
}

func decodeBody(kind byte, data []byte) (Entry, error) {
	switch kind {
	case kindOpened:
		return decode[Opened](data)
	case kindBegan:
		return decode[Began](data)
	case kindEnded:
		return decode[Ended](data)
	case kindStopped:
		return decode[Stopped](data)
	}
	return nil, fleet.Errorf(fleet.Invalid, "journal entry of kind %d is not known to this version", kind)
}

func decode[E Entry](data []byte) (Entry, error) {
	var e E
	err := wire.Unmarshal(data, &e)
	return e, err
}
