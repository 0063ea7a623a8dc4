package cast

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"
)

// The codes of events. The first four are asciicast v2's. Players pass over others, so those that say more about the event after
// them are ours: it stood on standard error; its bytes were exactly these, in base64, though a JSON string cannot hold them.
const (
	codeOutput = "o"
	codeInput  = "i"
	codeResize = "r"
	codeMark   = "m"
	codeError  = "e"
	codeBytes  = "b"
)

// maxPiece is how many bytes one event holds at most: what was more becomes several. Escaped it is six times as long, and
// beside it stands base64; lines stay below maxLine.
const maxPiece = 32 << 10

// appendData appends the event that p was seen at a moment, with the events before it that say what is special about it.
func appendData(dst []byte, at time.Duration, code string, onError bool, p []byte) []byte {
	if onError {
		dst = appendHead(dst, at, codeError)
		dst = append(dst, `""]`+"\n"...)
	}
	if !utf8.Valid(p) {
		dst = appendHead(dst, at, codeBytes)
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, p)
		dst = append(dst, `"]`+"\n"...)
	}
	return appendEvent(dst, at, code, p)
}

func appendEvent(dst []byte, at time.Duration, code string, data []byte) []byte {
	dst = appendHead(dst, at, code)
	dst = appendString(dst, data)
	return append(dst, "]\n"...)
}

// appendHead writes the time as seconds with six digits: integers alone keep it exact.
func appendHead(dst []byte, at time.Duration, code string) []byte {
	micros := max(at, 0).Microseconds()
	dst = append(dst, '[')
	dst = strconv.AppendInt(dst, micros/1e6, 10)
	dst = append(dst, '.')
	for place := int64(1e5); place > 0; place /= 10 {
		dst = append(dst, byte('0'+micros/place%10))
	}
	dst = append(dst, `, "`...)
	dst = append(dst, code...)
	return append(dst, `", `...)
}

const hexDigits = "0123456789abcdef"

// appendString appends p as a JSON string. Each run of bytes that are no UTF-8 becomes one replacement character.
func appendString(dst, p []byte) []byte {
	dst = append(dst, '"')
	plain, broken := 0, false // where what needs no change began; whether a run of bad bytes goes on
	for i := 0; i < len(p); {
		c := p[i]
		if c < utf8.RuneSelf {
			broken = false
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, p[plain:i]...)
			dst = appendEscape(dst, c)
			i++
			plain = i
			continue
		}
		r, size := utf8.DecodeRune(p[i:])
		if r != utf8.RuneError || size > 1 {
			broken = false
			i += size
			continue
		}
		dst = append(dst, p[plain:i]...)
		if !broken {
			dst = append(dst, "\ufffd"...)
		}
		broken = true
		i++
		plain = i
	}
	dst = append(dst, p[plain:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// unfinished returns how many bytes at the end of p are the beginning of a character that more bytes may complete: 0 to 3.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		tail := p[len(p)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
