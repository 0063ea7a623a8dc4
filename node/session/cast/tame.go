package cast

import (
	"bytes"
	"slices"
)

// Tame lets through what draws on a terminal and nothing else: no question that the terminal would answer as if it were typed, no
// clipboard, title, link, mouse, key or device control, no byte that is no UTF-8. A recording is shown on another day than it was made, on
// the terminal of somebody who has not typed any of it.
type Tame struct {
	scan scanner
}

// Show returns what of p is to be shown; what p leaves unfinished comes with a later piece.
func (t *Tame) Show(p []byte) []byte {
	out := make([]byte, 0, len(p))
	t.scan.scan(p, func(i item) { out = appendTame(out, i) })
	return out
}

func appendTame(dst []byte, i item) []byte {
	switch i.kind {
	case itemText:
		return append(dst, i.text...)
	case itemControl:
		if bytes.IndexByte([]byte("\a\b\t\n\v\f\r\x0e\x0f"), i.final) >= 0 {
			return append(dst, i.final)
		}
	case itemEscape:
		if drawsEscape(i.text) {
			return append(append(dst, escByte), i.text...)
		}
	case itemCSI:
		if drawsCSI(i.text) {
			return append(append(dst, escByte, '['), i.text...)
		}
	case itemOther:
	}
	return dst
}

// drawsEscape: the cursor saved and restored, lines, tabs, the whole screen, character sets.
func drawsEscape(seq []byte) bool {
	switch len(seq) {
	case 1:
		return bytes.IndexByte([]byte("78DEHMc"), seq[0]) >= 0
	case 2:
		return bytes.IndexByte([]byte("()*+-./#"), seq[0]) >= 0
	}
	return false
}

// drawnModes are the private modes that change how things look: reverse, origin, wrapping, the cursor, the other screen,
// updates at once. Those that change what keys and mouse send, or that report, are left out.
var drawnModes = [...]string{"5", "6", "7", "12", "25", "45", "47", "1047", "1048", "1049", "2026"}

func drawsCSI(seq []byte) bool {
	final, before := seq[len(seq)-1], seq[:len(seq)-1]
	plain := len(bytes.Trim(before, "0123456789;:")) == 0
	switch {
	case plain:
		return bytes.IndexByte([]byte("@ABCDEFGHIJKLMPSTXZ`abdefgmrsu"), final) >= 0 || (bytes.IndexByte([]byte("hl"), final) >= 0 && string(before) == "4")
	case final == 'p':
		return string(before) == "!" // all modes as they were
	case final == 'q':
		return bytes.HasSuffix(before, []byte(" ")) && len(bytes.Trim(before, "0123456789 ")) == 0 // the cursor's shape
	case before[0] != '?':
		return false
	case final == 'J', final == 'K':
		return len(bytes.Trim(before[1:], "0123456789;")) == 0
	case final == 'h', final == 'l':
		return !slices.ContainsFunc(bytes.Split(before[1:], []byte(";")), func(mode []byte) bool {
			return !slices.Contains(drawnModes[:], string(mode))
		})
	}
	return false
}

// calm is what brings a terminal back to itself after a recording: the first screen, the cursor shown, plain text.
const calm = "\x1b[?1049l\x1b[!p\x1b[?25h\x1b[0m"
