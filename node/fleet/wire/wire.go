// Package wire encodes and decodes msgpack so that a peer's bytes cost bounded memory and mean one thing only.
//
// It owns the pre-scan that every decode goes through (the msgpack library allocates what a header claims, and for a nil
// whatever it stands in place of, so data is checked against the type and the bytes that are there), and canonical form:
// what is decoded must encode to the same bytes. That refuses unknown fields, missing fields and second spellings at
// once, so a signed body cannot be read two ways.
// It never reads from a connection: frames are bounded before they come here.
package wire

import (
	"bytes"
	"encoding/binary"
	"io"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/node/fleet"
)

// MaxDepth bounds the nesting of arrays and maps. Our deepest format needs 6.
const MaxDepth = 12

// Marshal encodes v: structs as arrays, integers as short as they can be, map keys sorted. It panics when v cannot be
// encoded, which is a mistake in the type and no matter of input.
func Marshal(v any) []byte {
	var out bytes.Buffer
	if err := encode(&out, v); err != nil {
		panic("wire: cannot encode: " + err.Error())
	}
	return out.Bytes()
}

// encode writes the one encoding of v.
func encode(to io.Writer, v any) error {
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(to)
	enc.UseArrayEncodedStructs(true)
	enc.UseCompactInts(true)
	enc.UseCompactFloats(true)
	enc.SetSortMapKeys(true)
	return enc.Encode(v)
}

// expected takes the bytes that it has, in order, and no others.
type expected struct{ rest []byte }

func (e *expected) Write(p []byte) (int, error) {
	if len(p) > len(e.rest) || !bytes.Equal(p, e.rest[:len(p)]) {
		return 0, errForm
	}
	e.rest = e.rest[len(p):]
	return len(p), nil
}

func (e *expected) WriteByte(b byte) error {
	if len(e.rest) == 0 || e.rest[0] != b {
		return errForm
	}
	e.rest = e.rest[1:]
	return nil
}

// Unmarshal decodes data into v (a pointer) and refuses whatever Marshal would not have written.
func Unmarshal(data []byte, v any) (err error) {
	rest, err := fits(data, reflect.ValueOf(v).Elem(), 0)
	if err == nil {
		err = ends(rest)
	}
	if err != nil {
		return err
	}
	defer func() { // a decoder's panic on hostile bytes must cost one message, not the agent
		if recover() != nil {
			err = fleet.Errorf(fleet.Invalid, "malformed message")
		}
	}()
	if err := msgpack.Unmarshal(data, v); err != nil {
		return fleet.Errorf(fleet.Invalid, "malformed message: %w", err)
	}
	again := expected{data}
	if err := encode(&again, v); err != nil || len(again.rest) > 0 {
		return errForm
	}
	return nil
}

// Scan walks one msgpack value that must fill data exactly, and refuses headers that claim more than is there, nesting
// over MaxDepth, and extension types (we use none).
func Scan(data []byte) error {
	rest, err := scanValue(data, 0)
	if err != nil {
		return err
	}
	return ends(rest)
}

func ends(rest []byte) error {
	if len(rest) != 0 {
		return fleet.Errorf(fleet.Invalid, "malformed message: %d bytes behind its end", len(rest))
	}
	return nil
}

var (
	errDeep  = fleet.Errorf(fleet.Invalid, "malformed message: nested deeper than %d", MaxDepth)
	errForm  = fleet.Errorf(fleet.Invalid, "message has unknown fields or is not in canonical form")
	errShort = fleet.Errorf(fleet.Invalid, "malformed message: it claims more than it holds")
)

func scanValue(data []byte, depth int) ([]byte, error) {
	if len(data) == 0 {
		return nil, errShort
	}
	if depth > MaxDepth {
		return nil, errDeep
	}
	b := data[0]
	data = data[1:]
	switch {
	case b <= 0x7f, b >= 0xe0, b == 0xc0, b == 0xc2, b == 0xc3:
		return data, nil
	case b <= 0x8f:
		return scanItems(data, 2*uint64(b&0x0f), depth)
	case b <= 0x9f:
		return scanItems(data, uint64(b&0x0f), depth)
	case b <= 0xbf:
		return skip(data, uint64(b&0x1f))
	}
	switch b {
	case 0xc4, 0xd9:
		return sized(data, 1, func(rest []byte, n uint64) ([]byte, error) { return skip(rest, n) })
	case 0xc5, 0xda:
		return sized(data, 2, func(rest []byte, n uint64) ([]byte, error) { return skip(rest, n) })
	case 0xc6, 0xdb:
		return sized(data, 4, func(rest []byte, n uint64) ([]byte, error) { return skip(rest, n) })
	case 0xcc, 0xd0:
		return skip(data, 1)
	case 0xcd, 0xd1:
		return skip(data, 2)
	case 0xca, 0xce, 0xd2:
		return skip(data, 4)
	case 0xcb, 0xcf, 0xd3:
		return skip(data, 8)
	case 0xdc:
		return sized(data, 2, func(rest []byte, n uint64) ([]byte, error) { return scanItems(rest, n, depth) })
	case 0xdd:
		return sized(data, 4, func(rest []byte, n uint64) ([]byte, error) { return scanItems(rest, n, depth) })
	case 0xde:
		return sized(data, 2, func(rest []byte, n uint64) ([]byte, error) { return scanItems(rest, 2*n, depth) })
	case 0xdf:
		return sized(data, 4, func(rest []byte, n uint64) ([]byte, error) { return scanItems(rest, 2*n, depth) })
	}
	return nil, fleet.Errorf(fleet.Invalid, "malformed message: type 0x%02x is not ours", b)
}

func scanItems(data []byte, n uint64, depth int) ([]byte, error) {
	if n > uint64(len(data)) { // every item takes at least a byte
		return nil, errShort
	}
	var err error
	for ; n > 0; n-- {
		if data, err = scanValue(data, depth+1); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func sized(data []byte, width int, then func([]byte, uint64) ([]byte, error)) ([]byte, error) {
	if len(data) < width {
		return nil, errShort
	}
	var full [8]byte
	copy(full[8-width:], data[:width])
	return then(data[width:], binary.BigEndian.Uint64(full[:]))
}

func skip(data []byte, n uint64) ([]byte, error) {
	if n > uint64(len(data)) {
		return nil, errShort
	}
	return data[n:], nil
}
