package quorum

import (
	"github.com/muster-fleet/muster/node/fleet"
)

// A raft stream carries requests, one behind the other: u8 kind, then a msgpack map; behind that of a snapshot come the
// snapshot's bytes. Raft's decoder makes 160 bytes out of an empty map, so a budget of bytes alone would let a server
// that turned bad fill the others' memory. requests counts along what the peer sends, without keeping any of it, and
// refuses a request of more values than any has: 16 entries take 230.
type requests struct {
	bulk   bool // one snapshot, nothing else; else anything but snapshots
	inside bool // in a request; else its kind is next
	raw    bool // what comes is a snapshot's bytes
	open   int  // values of the request that are still to come
	values int  // of it so far
	skip   uint64
	code   byte // of a header whose length field is still to come
	wide   int  // bytes of that field to come
	length uint64
}

const (
	requestValues = 1024
	kindSnapshot  = 2 // raft's rpcInstallSnapshot
)

// take follows the stream; an error means that the rest is not to be read.
func (r *requests) take(data []byte) error {
	for len(data) > 0 && !r.raw {
		if r.skip > 0 {
			n := min(r.skip, uint64(len(data)))
			r.skip, data = r.skip-n, data[n:]
			r.ended()
			continue
		}
		b := data[0]
		data = data[1:]
		if err := r.byte(b); err != nil {
			return err
		}
		r.ended()
	}
	return nil
}

func (r *requests) byte(b byte) error {
	switch {
	case !r.inside:
		if (b == kindSnapshot) != r.bulk {
			return fleet.Errorf(fleet.Invalid, "a raft request of kind %d on the wrong plane", b)
		}
		r.inside, r.open, r.values = true, 1, 0
		return nil
	case r.wide > 0:
		r.length = r.length<<8 | uint64(b)
		if r.wide--; r.wide == 0 {
			return r.claim(r.length)
		}
		return nil
	}
	return r.header(b)
}

// ended notes the end of a request.
func (r *requests) ended() {
	if r.inside && r.open == 0 && r.skip == 0 && r.wide == 0 {
		r.inside, r.raw = false, r.bulk
	}
}

// header takes a value's first byte.
func (r *requests) header(b byte) error {
	r.open--
	if r.values++; r.values > requestValues {
		return errTooManyValues
	}
	r.code, r.length = b, 0
	switch {
	case b <= 0x7f, b >= 0xe0, b == 0xc0, b == 0xc1, b == 0xc2, b == 0xc3:
	case b <= 0x8f:
		return r.items(2 * uint64(b&0x0f))
	case b <= 0x9f:
		return r.items(uint64(b & 0x0f))
	case b <= 0xbf:
		r.skip = uint64(b & 0x1f)
	case b <= 0xc9: // bytes and extensions of 8, 16 and 32 bits
		r.wide = 1 << ((b - 0xc4) % 3)
	case b <= 0xcb: // floats
		r.skip = 4 << (b - 0xca)
	case b <= 0xcf:
		r.skip = 1 << (b - 0xcc)
	case b <= 0xd3:
		r.skip = 1 << (b - 0xd0)
	case b <= 0xd8: // extensions of 1 to 16 bytes, and their type
		r.skip = 1 + 1<<(b-0xd4)
	case b <= 0xdb:
		r.wide = 1 << (b - 0xd9)
	default: // arrays and maps of 16 and 32 bits
		r.wide = 2 << ((b - 0xdc) % 2)
	}
	return nil
}

// claim takes the length that a header's field says.
func (r *requests) claim(n uint64) error {
	switch r.code {
	case 0xc7, 0xc8, 0xc9:
		r.skip = n + 1
	case 0xdc, 0xdd:
		return r.items(n)
	case 0xde, 0xdf:
		return r.items(2 * n)
	default:
		r.skip = n
	}
	return nil
}

func (r *requests) items(n uint64) error {
	if n > requestValues {
		return errTooManyValues
	}
	r.open += int(n)
	return nil
}

var errTooManyValues = fleet.Errorf(fleet.Exhausted, "a raft request of more than %d values", requestValues)
