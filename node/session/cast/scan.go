package cast

import "unicode/utf8"

// item is one thing that a terminal is told.
type item struct {
	kind  itemKind
	text  []byte // itemText: UTF-8 without controls; itemEscape, itemCSI: all of the sequence after ESC or CSI; valid until the next item
	final byte   // itemControl: the control; itemEscape, itemCSI: the last byte
}

type itemKind uint8

const (
	itemText    itemKind = iota
	itemControl          // C0
	itemEscape           // ESC, intermediates, a final
	itemCSI              // ESC [, parameters, intermediates, a final
	itemOther            // strings (titles, clipboard, device control), what is too long, and bytes that are no UTF-8
)

// scanner takes apart what a terminal is told, piece by piece as it comes, after ECMA-48 for a terminal that speaks UTF-8.
type scanner struct {
	state scanState
	seq   []byte // of the sequence so far
	half  []byte // the beginning of a character
}

type scanState uint8

const (
	ground    scanState = iota
	escape              // after ESC
	csi                 // after ESC [
	stringing           // in a string that ESC \ ends, or BEL
	stringEsc           // after ESC in one
)

// maxSequence is how long a sequence may be, in bytes. Real ones have a dozen; colours in full some sixty.
const maxSequence = 256

const (
	escByte = 0x1b
	canByte = 0x18
	subByte = 0x1a
	belByte = 0x07
)

// scan hands on the items in p.
func (s *scanner) scan(p []byte, on func(item)) {
	if len(s.half) > 0 {
		p, s.half = append(s.half, p...), nil
	}
	for len(p) > 0 {
		if s.state != ground || p[0] < ' ' || p[0] == 0x7f {
			s.byte(p[0], on)
			p = p[1:]
			continue
		}
		n := plainRun(p)
		if n > 0 {
			on(item{kind: itemText, text: p[:n]})
			p = p[n:]
			continue
		}
		if !utf8.FullRune(p) {
			s.half = append([]byte(nil), p...)
			return
		}
		_, size := utf8.DecodeRune(p) // a stray byte, or a control in two bytes, which some terminals obey
		on(item{kind: itemOther})
		p = p[size:]
	}
}

// plainRun returns how many bytes of p are whole characters that no terminal takes for a control.
func plainRun(p []byte) int {
	i := 0
	for i < len(p) {
		if c := p[i]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return i
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(p[i:])
		if size == 1 || r < 0xa0 {
			return i
		}
		i += size
	}
	return i
}

// byte takes a control, or a byte within a sequence or string.
func (s *scanner) byte(c byte, on func(item)) {
	switch s.state {
	case stringing:
		switch c {
		case escByte:
			s.state = stringEsc
		case canByte, subByte, belByte:
			s.end(on)
		}
		return
	case stringEsc:
		if s.end(on); c == '\\' {
			return
		}
		s.state = escape // a new sequence cuts the string off
	}
	switch {
	case c == escByte:
		if s.state != ground {
			on(item{kind: itemOther})
		}
		s.state, s.seq = escape, s.seq[:0]
	case c == canByte || c == subByte:
		s.end(on)
	case c < ' ' || c == 0x7f: // obeyed at once, within sequences too
		on(item{kind: itemControl, final: c})
	case c >= utf8.RuneSelf || len(s.seq) >= maxSequence:
		s.end(on)
	case s.state == escape:
		s.escape(c, on)
	default:
		s.seq = append(s.seq, c)
		if c >= '@' {
			s.state = ground
			on(item{kind: itemCSI, text: s.seq, final: c})
		}
	}
}

// end drops the sequence or string that goes on.
func (s *scanner) end(on func(item)) {
	if s.state != ground {
		on(item{kind: itemOther})
	}
	s.state, s.seq = ground, s.seq[:0]
}

func (s *scanner) escape(c byte, on func(item)) {
	if len(s.seq) == 0 {
		switch c {
		case '[':
			s.state = csi
			return
		case ']', 'P', 'X', '^', '_':
			s.state = stringing
			return
		}
	}
	s.seq = append(s.seq, c)
	if c >= '0' {
		s.state = ground
		on(item{kind: itemEscape, text: s.seq, final: c})
	}
}
