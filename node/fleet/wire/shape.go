package wire

import (
	"reflect"

	"github.com/muster-fleet/muster/node/fleet"
)

var errShape = fleet.Errorf(fleet.Invalid, "malformed message: a part of it is of another type, or missing")

// fits walks data along the value that it is to become (only v's type counts) and returns what lies behind it. It
// refuses what Marshal never writes for that type: above all nil and empty arrays in place of structs, of which the
// library makes hundreds of bytes out of one. What is left costs little more in memory than on the wire; the worst are
// empty lists, fifty times, and maps of one entry, a hundred times.
//
// A type that embeds a struct or leaves out an exported field would not fit itself: there is none in our formats.
func fits(data []byte, v reflect.Value, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, errDeep
	}
	if len(data) == 0 {
		return nil, errShort
	}
	b := data[0]
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if b == 0xc0 {
			return data[1:], nil
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		return fitsStruct(data, v, depth)
	case reflect.Pointer:
		return fits(data, reflect.Zero(v.Type().Elem()), depth)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return fitsBytes(data, -1)
		}
		return fitsSlice(data, v, depth)
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return fitsBytes(data, v.Len())
		}
	case reflect.Map:
		return fitsMap(data, v, depth)
	case reflect.Bool:
		if b == 0xc2 || b == 0xc3 {
			return data[1:], nil
		}
		return nil, errShape
	case reflect.String:
		if b&0xe0 != 0xa0 && (b < 0xd9 || b > 0xdb) {
			return nil, errShape
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if b > 0x7f && b < 0xe0 && (b < 0xcc || b > 0xd3) {
			return nil, errShape
		}
	}
	return scanValue(data, depth)
}

func fitsStruct(data []byte, v reflect.Value, depth int) ([]byte, error) {
	if v.NumField() > 0 && !v.Field(0).CanInterface() {
		return scanValue(data, depth) // it keeps its fields to itself, and so encodes itself
	}
	n, data, err := count(data, 0x90, 0xdc)
	if err != nil {
		return nil, err
	}
	for i := range v.NumField() {
		field := v.Field(i)
		if !field.CanInterface() {
			continue
		}
		if data, err = fits(data, field, depth+1); err != nil {
			return nil, err
		}
		n--
	}
	if n != 0 {
		return nil, errShape
	}
	return data, nil
}

func fitsSlice(data []byte, v reflect.Value, depth int) ([]byte, error) {
	n, data, err := count(data, 0x90, 0xdc)
	if err != nil {
		return nil, err
	}
	element := reflect.Zero(v.Type().Elem())
	for ; n > 0; n-- {
		if data, err = fits(data, element, depth+1); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func fitsMap(data []byte, v reflect.Value, depth int) ([]byte, error) {
	n, data, err := count(data, 0x80, 0xde)
	if err != nil {
		return nil, err
	}
	key, element := reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem())
	for ; n > 0; n-- {
		if data, err = fits(data, key, depth+1); err != nil {
			return nil, err
		}
		if data, err = fits(data, element, depth+1); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// fitsBytes takes a byte string of exactly want bytes; -1: of any number.
func fitsBytes(data []byte, want int) ([]byte, error) {
	if data[0] < 0xc4 || data[0] > 0xc6 {
		return nil, errShape
	}
	var n uint64
	rest, err := sized(data[1:], 1<<(data[0]-0xc4), func(rest []byte, claimed uint64) ([]byte, error) {
		n = claimed
		return skip(rest, claimed)
	})
	if err == nil && want >= 0 && n != uint64(want) {
		err = errShape
	}
	return rest, err
}

// count reads the header of an array or a map: short is its shortest form for none, long its form with 16 bits, which
// that with 32 follows. Every item takes at least a byte, so no more are claimed than there are bytes behind it.
func count(data []byte, short, long byte) (n uint64, rest []byte, err error) {
	keep := func(rest []byte, claimed uint64) ([]byte, error) {
		n = claimed
		return rest, nil
	}
	switch b := data[0]; {
	case b&0xf0 == short:
		n, rest = uint64(b&0x0f), data[1:]
	case b == long:
		rest, err = sized(data[1:], 2, keep)
	case b == long+1:
		rest, err = sized(data[1:], 4, keep)
	default:
		err = errShape
	}
	if err == nil && n > uint64(len(rest)) {
		err = errShort
	}
	return n, rest, err
}
