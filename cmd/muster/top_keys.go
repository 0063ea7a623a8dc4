package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// topKey is a key that means something to muster top.
type topKey uint8

const (
	pressOther topKey = iota // nothing
	pressText                // a character of a filter
	pressUp
	pressDown
	pressPageUp
	pressPageDown
	pressHome
	pressEnd
	pressEnter
	pressErase
	pressEscape
	pressFilter
	pressQuit
	pressRedraw
)

// maxFilter bounds a filter, in characters.
const maxFilter = 60

// pressAll presses every key that was typed at once. A key that sends several bytes sends them together.
func (v topView) pressAll(typed []byte) (_ topView, over bool) {
	for len(typed) > 0 && !over {
		k, c, n := nextKey(typed, v.Typing)
		typed = typed[n:]
		v, over = v.press(k, c)
	}
	return v, over
}

// nextKey reads one key of what was typed, and how many bytes it has, at least one.
func nextKey(typed []byte, typing bool) (k topKey, c rune, n int) {
	if k, n = escapeKey(typed); n > 0 {
		return k, 0, n
	}
	c, n = utf8.DecodeRune(typed)
	return plainKey(c, typing), c, n
}

func plainKey(c rune, typing bool) topKey {
	switch {
	case c == 3 || c == 4: // Ctrl-C, Ctrl-D
		return pressQuit
	case c == '\r' || c == '\n':
		return pressEnter
	case c == 0x7f || c == '\b':
		return pressErase
	case c == 'L'-'@':
		return pressRedraw
	case c == utf8.RuneError || !unicode.IsPrint(c):
		return pressOther
	case typing:
		return pressText
	}
	switch c {
	case 'q', 'Q':
		return pressQuit
	case '/':
		return pressFilter
	case 'k':
		return pressUp
	case 'j':
		return pressDown
	case ' ', 'f':
		return pressPageDown
	case 'b':
		return pressPageUp
	case 'g':
		return pressHome
	case 'G':
		return pressEnd
	}
	return pressOther
}

// escapeKey reads a key that begins with ESC, and how many bytes it has; 0: it does not.
func escapeKey(typed []byte) (topKey, int) {
	if typed[0] != 0x1b {
		return pressOther, 0
	}
	if len(typed) == 1 || typed[1] != '[' && typed[1] != 'O' {
		return pressEscape, 1
	}
	end := 2
	for end < len(typed) && (typed[end] < 0x40 || typed[end] > 0x7e) {
		end++
	}
	if end == len(typed) { // cut short: nothing
		return pressOther, end
	}
	switch string(typed[2 : end+1]) {
	case "A":
		return pressUp, end + 1
	case "B":
		return pressDown, end + 1
	case "5~":
		return pressPageUp, end + 1
	case "6~":
		return pressPageDown, end + 1
	case "H", "1~", "7~":
		return pressHome, end + 1
	case "F", "4~", "8~":
		return pressEnd, end + 1
	}
	return pressOther, end + 1
}

// press returns how one looks at it after a key, and whether one has seen enough. Where there is nothing more to scroll to, the
// next frame says so.
func (v topView) press(k topKey, c rune) (topView, bool) {
	page := max(1, v.Rows/2)
	switch k {
	case pressQuit:
		return v, true
	case pressText:
		if utf8.RuneCountInString(v.Filter) < maxFilter {
			v.Filter += string(c)
		}
		v.Scroll = 0
	case pressErase:
		if v.Typing && v.Filter != "" {
			_, n := utf8.DecodeLastRuneInString(v.Filter)
			v.Filter = v.Filter[:len(v.Filter)-n]
		}
	case pressEnter:
		v.Typing = false
		v.Filter = strings.TrimSpace(v.Filter)
	case pressEscape:
		v.Typing, v.Filter = false, ""
	case pressFilter:
		v.Typing = true
	case pressUp:
		v.Scroll = max(0, v.Scroll-1)
	case pressDown:
		v.Scroll++
	case pressPageUp:
		v.Scroll = max(0, v.Scroll-page)
	case pressPageDown:
		v.Scroll += page
	case pressHome:
		v.Scroll = 0
	case pressEnd:
		v.Scroll = 1 << 30
	case pressOther, pressRedraw:
	}
	return v, false
}
