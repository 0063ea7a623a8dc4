package exec

import (
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Printable returns a node's output as the operator's terminal may have it: whatever could move the cursor, set colours
// and titles, answer for the keyboard, turn the direction of text or hide stands there in visible form (\x1b, \u202e).
// New lines, tabs and all other text, of any script, are unchanged. Text without such characters is returned as it is,
// not copied.
//
// One host must not be able to forge what its neighbours seem to say, nor type on the operator's behalf. Raw bytes are
// for files and pipes.
func Printable(b []byte) []byte {
	shown, rest := PrintablePart(b)
	if len(rest) > 0 {
		shown = slices.Clip(shown) // what follows may be the caller's
	}
	for _, c := range rest {
		shown = fmt.Appendf(shown, `\x%02x`, c)
	}
	return shown
}

// PrintablePart is Printable for a piece of a stream. rest is the beginning of a character that the next piece may
// complete, at most 3 bytes: put it before the next piece. At the end of the stream, rest goes through Printable.
func PrintablePart(b []byte) (shown, rest []byte) {
	plain := 0 // bytes that stand as they are, while nothing needed a change
	for len(b) > plain {
		if !utf8.FullRune(b[plain:]) {
			return b[:plain], b[plain:]
		}
		r, size := utf8.DecodeRune(b[plain:])
		if !showable(r, size) {
			break
		}
		plain += size
	}
	if plain == len(b) {
		return b, nil
	}
	shown = append(make([]byte, 0, len(b)+16), b[:plain]...)
	for b = b[plain:]; len(b) > 0; {
		if !utf8.FullRune(b) {
			return shown, b
		}
		r, size := utf8.DecodeRune(b)
		shown = appendShown(shown, b[:size], r)
		b = b[size:]
	}
	return shown, nil
}

func appendShown(dst, raw []byte, r rune) []byte {
	switch {
	case showable(r, len(raw)):
		return append(dst, raw...)
	case len(raw) == 1: // a control character, or a byte that is no UTF-8
		return fmt.Appendf(dst, `\x%02x`, raw[0])
	case r > 0xffff:
		return fmt.Appendf(dst, `\U%08x`, r)
	}
	return fmt.Appendf(dst, `\u%04x`, r)
}

// showable reports whether a terminal does no more than show the character, in the place where it stands.
func showable(r rune, size int) bool {
	switch {
	case r == '\n' || r == '\t':
		return true
	case r < utf8.RuneSelf:
		return r >= ' ' && r != 0x7f
	case r == utf8.RuneError && size == 1:
		return false
	}
	// Cf holds the bidi controls, zero-width characters and tags; Zl and Zp break lines where we do not see it; the
	// last are blank by design, though not all of them are assigned yet.
	return !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point)
}
