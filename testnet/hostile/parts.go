package hostile

import (
	"encoding/binary"
	"slices"
)

// part is one value of a msgpack text, and the byte strings around it whose lengths have to follow when it changes.
type part struct {
	start, end int
	within     []box
}

// box is a byte string that holds msgpack.
type box struct{ header, start, end int }

func (p part) of(sample []byte) []byte { return sample[p.start:p.end] }

// replace returns the sample with other bytes in place of the part.
func (p part) replace(sample, with []byte) []byte {
	out := slices.Concat(sample[:p.start], with, sample[p.end:])
	grown := len(with) - (p.end - p.start)
	for _, b := range slices.Backward(p.within) { // the innermost first: its header grows, and so do those around it
		size := b.end - b.start + grown
		header := binary.BigEndian.AppendUint32([]byte{0xc6}, uint32(size))
		rest := out[b.start:]
		if size < 1<<16 { // the form that an encoder would choose
			header = binary.BigEndian.AppendUint16([]byte{0xc5}, uint16(size))
		}
		if size < 1<<8 {
			header = []byte{0xc4, byte(size)}
		}
		out = slices.Concat(out[:b.header], header, rest)
		grown += len(header) - (b.start - b.header)
	}
	return out
}

// parts lists the values of a msgpack text, from the outside to the inside, at most maxParts.
func parts(sample []byte) []part {
	var out []part
	end, ok := walk(sample, 0, nil, 0, &out)
	if !ok || end != len(sample) {
		return nil
	}
	return out[:min(len(out), maxParts)]
}

// walk notes the value at a position and those within it, and returns where it ends.
func walk(data []byte, at int, within []box, depth int, out *[]part) (int, bool) {
	if at >= len(data) || depth > 32 {
		return 0, false
	}
	mine := len(*out)
	*out = append(*out, part{start: at, within: within})
	n, items, body := header(data[at:])
	if n == 0 {
		return 0, false
	}
	end, ok := at+n, true
	if end+body > len(data) {
		return 0, false
	}
	if body > 8 && data[at] >= 0xc4 && data[at] <= 0xc6 {
		inner := len(*out)
		boxes := append(within[:len(within):len(within)], box{at, end, end + body})
		if stop, ok := walk(data[:end+body], end, boxes, depth+1, out); !ok || stop != end+body {
			*out = (*out)[:inner] // plain bytes
		}
	}
	end += body
	for ; items > 0 && ok; items-- {
		end, ok = walk(data, end, within, depth+1, out)
	}
	(*out)[mine].end = end
	return end, ok
}

// header reads a msgpack header: its length, how many items follow, how many bytes follow. No length: it is none.
func header(data []byte) (n, items, body int) {
	b := data[0]
	wide := func(width int) int {
		if len(data) < 1+width {
			return -1
		}
		var full [8]byte
		copy(full[8-width:], data[1:1+width])
		return int(binary.BigEndian.Uint64(full[:]) & (1<<31 - 1))
	}
	switch {
	case b <= 0x7f, b >= 0xe0, b == 0xc0, b == 0xc2, b == 0xc3:
		return 1, 0, 0
	case b <= 0x8f:
		return 1, 2 * int(b&15), 0
	case b <= 0x9f:
		return 1, int(b & 15), 0
	case b <= 0xbf:
		return 1, 0, int(b & 31)
	case b >= 0xcc && b <= 0xcf:
		return 1, 0, 1 << (b - 0xcc)
	case b >= 0xd0 && b <= 0xd3:
		return 1, 0, 1 << (b - 0xd0)
	}
	for _, form := range []struct {
		first byte
		width [3]int
		items int
		body  int
	}{{0xc4, [3]int{1, 2, 4}, 0, 1}, {0xd9, [3]int{1, 2, 4}, 0, 1}, {0xdc, [3]int{2, 4, 0}, 1, 0}, {0xde, [3]int{2, 4, 0}, 2, 0}} {
		for i, width := range form.width {
			if width == 0 || b != form.first+byte(i) {
				continue
			}
			claimed := wide(width)
			if claimed < 0 {
				return 0, 0, 0
			}
			return 1 + width, form.items * claimed, form.body * claimed
		}
	}
	return 0, 0, 0
}
