package flow

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
)

// header is u8 kind, u32 length of what follows (big endian).
const header = 1 + 4

// MaxFrame bounds the bytes of a frame: a buffer of this size holds any.
const MaxFrame = header + MaxPayload

// ErrShort says that a frame goes on behind the bytes that are there.
var ErrShort = errors.New("the frame goes on")

// Append appends the form of f. It panics at more than MaxPayload bytes, which is a mistake of the caller; texts that are too
// long are cut, and what is no text in them replaced.
func Append(b []byte, f Frame) []byte {
	start := len(b)
	b = append(b, byte(f.kind()), 0, 0, 0, 0)
	switch f := f.(type) {
	case Input:
		b = append(b, f...)
	case Output:
		b = append(b, f...)
	case ErrorOutput:
		b = append(b, f...)
	case EndOfInput, Ask:
	case Resize:
		b = binary.BigEndian.AppendUint16(b, f.Rows)
		b = binary.BigEndian.AppendUint16(b, f.Cols)
	case Signal:
		b = append(b, signalName(string(f))...)
	case Notice:
		b = append(b, text(string(f), maxText)...)
	case Exit:
		signal := text(f.Signal, maxSignal)
		b = binary.BigEndian.AppendUint32(b, uint32(f.Code))
		b = append(b, byte(len(signal)))
		b = append(b, signal...)
		b = append(b, text(f.Why, maxText)...)
	case Ack:
		b = binary.BigEndian.AppendUint64(b, uint64(f))
	case Have:
		b = binary.BigEndian.AppendUint64(b, uint64(f))
	}
	size := len(b) - start - header
	if size > MaxPayload {
		panic("flow: a frame of more than MaxPayload bytes")
	}
	binary.BigEndian.PutUint32(b[start+1:], uint32(size))
	return b
}

// Cut takes the first frame off b. The bytes of an Input, Output or ErrorOutput are those of b. Errors: ErrShort when the frame
// is not whole yet (no more than MaxFrame bytes are ever needed), Invalid when b cannot become a frame.
func Cut(b []byte) (f Frame, rest []byte, err error) {
	if len(b) == 0 {
		return nil, b, ErrShort
	}
	k := kind(b[0])
	most, known := longest(k)
	if !known {
		return nil, b, fleet.Errorf(fleet.Invalid, "session: a frame of unknown kind %d", b[0])
	}
	if len(b) < header {
		return nil, b, ErrShort
	}
	size := binary.BigEndian.Uint32(b[1:])
	if size > most {
		return nil, b, fleet.Errorf(fleet.Invalid, "session: a frame of kind %d with %d bytes; at most %d", k, size, most)
	}
	if len(b) < header+int(size) {
		return nil, b, ErrShort
	}
	end := header + int(size)
	if f = parse(k, b[header:end:end]); f == nil {
		return nil, b, fleet.Errorf(fleet.Invalid, "session: malformed frame of kind %d", k)
	}
	return f, b[end:], nil
}

// longest returns how many bytes the payload of a kind may have.
func longest(k kind) (most uint32, known bool) {
	switch k {
	case kindInput, kindOutput, kindErrorOutput:
		return MaxPayload, true
	case kindEndOfInput, kindAsk:
		return 0, true
	case kindResize:
		return 4, true
	case kindSignal:
		return maxSignal, true
	case kindNotice:
		return maxText, true
	case kindExit:
		return 4 + 1 + maxSignal + maxText, true
	case kindAck, kindHave:
		return 8, true
	}
	return 0, false
}

// parse reads a payload that is no longer than its kind allows; nil if Append does not write such a one.
func parse(k kind, p []byte) Frame {
	switch k {
	case kindInput:
		return Input(p)
	case kindOutput:
		return Output(p)
	case kindErrorOutput:
		return ErrorOutput(p)
	case kindEndOfInput:
		return EndOfInput{}
	case kindAsk:
		return Ask{}
	case kindResize:
		if len(p) == 4 {
			return Resize{Rows: binary.BigEndian.Uint16(p), Cols: binary.BigEndian.Uint16(p[2:])}
		}
	case kindSignal:
		if name := string(p); signalName(name) == name {
			return Signal(name)
		}
	case kindNotice:
		if utf8.Valid(p) {
			return Notice(p)
		}
	case kindExit:
		return parseExit(p)
	case kindAck:
		if len(p) == 8 {
			return Ack(binary.BigEndian.Uint64(p))
		}
	case kindHave:
		if len(p) == 8 {
			return Have(binary.BigEndian.Uint64(p))
		}
	}
	return nil
}

func parseExit(p []byte) Frame {
	if len(p) < 5 {
		return nil
	}
	code, size, words := int32(binary.BigEndian.Uint32(p)), int(p[4]), p[5:]
	if size > maxSignal || size > len(words) || len(words)-size > maxText {
		return nil
	}
	signal, why := words[:size], words[size:]
	if !utf8.Valid(signal) || !utf8.Valid(why) {
		return nil
	}
	return Exit{Code: code, Signal: string(signal), Why: string(why)}
}

// signalName leaves of a name what the name of a signal can have.
func signalName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '-' {
			return r
		}
		return -1
	}, name)
	return name[:min(len(name), maxSignal)]
}

// text makes UTF-8 of at most so many bytes.
func text(s string, most int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
