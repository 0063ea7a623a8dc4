package hostile

import (
	"fmt"
	"iter"
	"strings"
)

// JSON yields hostile JSON of at most most bytes, each with a name. fields are names that the format knows.
func JSON(most int, fields ...string) iter.Seq2[string, []byte] {
	repeat := func(begin, item, end string) []byte {
		n := (most - len(begin) - len(end)) / len(item)
		return []byte(begin + strings.Repeat(item, max(n, 0)) + end)
	}
	return func(yield func(string, []byte) bool) {
		for name, in := range map[string][]byte{
			"open arrays":   repeat("", "[", ""),
			"open objects":  repeat("", `{"a":`, ""),
			"nulls":         repeat("[", "null,", "null]"),
			"empty objects": repeat("[", "{},", "{}]"),
			"long text":     repeat(`"`, "a", `"`),
			"escapes":       repeat(`"`, `\u0000`, `"`),
			"long number":   repeat("", "9", ""),
			"spaces":        repeat("", " ", ""),
			"repeated keys": repeat("{", `"a":0,`, `"a":0}`),
			"nothing":       nil,
		} {
			if !yield(name, in) {
				return
			}
		}
		for _, field := range fields {
			for name, in := range map[string][]byte{
				"open arrays":   repeat(`{"`+field+`":`, "[", ""),
				"long text":     repeat(`{"`+field+`":"`, "A", `"}`),
				"escapes":       repeat(`{"`+field+`":"`, `\u0041`, `"}`),
				"long number":   repeat(`{"`+field+`":`, "9", "}"),
				"repeated keys": repeat(`{"`+field+`":"",`, `"`+field+`":"",`, `"a":0}`),
				"unknown keys":  repeat(`{"`+field+`":"",`, `"a":0,`, `"a":0}`),
			} {
				if !yield(fmt.Sprintf("%s in %s", name, field), in) {
					return
				}
			}
		}
	}
}
