package fleet

import "strings"

// hasGlob reports whether text holds a wildcard.
func hasGlob(text string) bool { return strings.ContainsAny(text, "*?") }

// MatchGlob reports whether text matches pattern: * stands for any run of bytes, ? for one character. It keeps one point
// to return to, so its work is at most len(pattern) × len(text) whatever the pattern: no pattern can make it explode.
func MatchGlob(pattern, text string) bool {
	p, t := 0, 0
	star, mark := -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			t += runeLen(text[t])
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern) && t == len(text)
}

// runeLen returns the bytes of the UTF-8 character that b begins.
func runeLen(b byte) int {
	switch {
	case b < 0xc0:
		return 1
	case b < 0xe0:
		return 2
	case b < 0xf0:
		return 3
	default:
		return 4
	}
}
