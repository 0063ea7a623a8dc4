package main

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drain feeds pieces and returns what reached the program, and the acts.
func drain(pieces ...[]byte) (passed []byte, acts []escapeAct) {
	var e escapes
	for _, p := range pieces {
		for {
			pass, act, rest := e.take(p)
			passed = append(passed, pass...)
			if act == actNone {
				break
			}
			acts, p = append(acts, act), rest
		}
	}
	return append(passed, e.rest()...), acts
}

func TestEscapes(t *testing.T) {
	for typed, want := range map[string]struct {
		passed string
		acts   []escapeAct
	}{
		"":              {"", nil},
		"ls\r":          {"ls\r", nil},
		"~.":            {"", []escapeAct{actEnd}},
		"ls\r~.":        {"ls\r", []escapeAct{actEnd}},
		"ls\n~?pwd\r":   {"ls\npwd\r", []escapeAct{actHelp}},
		"~?~.":          {"", []escapeAct{actHelp, actEnd}},
		"~\x1a":         {"", []escapeAct{actSuspend}},
		"~~.":           {"~.", nil},
		"~~~.":          {"~~.", nil},
		"ls ~.":         {"ls ~.", nil},
		"ls ~/x\r~/x\r": {"ls ~/x\r~/x\r", nil},
		"~\r~.":         {"~\r", []escapeAct{actEnd}},
		"~":             {"~", nil},
	} {
		passed, acts := drain([]byte(typed))
		if string(passed) != want.passed || !slices.Equal(acts, want.acts) {
			t.Errorf("%q passes %q with %v, want %q with %v", typed, passed, acts, want.passed, want.acts)
		}
	}
}

// However the bytes arrive, they mean the same; and what has no ~ arrives unchanged.
func TestEscapesArriveInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typed := rapid.SliceOfN(rapid.SampledFrom([]byte("~.?\r\nab\x1a")), 0, 40).Draw(t, "typed")
		whole, acts := drain(typed)
		var pieces [][]byte
		for _, c := range typed {
			pieces = append(pieces, []byte{c})
		}
		single, actsSingle := drain(pieces...)
		if !bytes.Equal(whole, single) || !slices.Equal(acts, actsSingle) {
			t.Fatalf("%q: %q %v in one, %q %v in pieces", typed, whole, acts, single, actsSingle)
		}
		if !bytes.Contains(typed, []byte("~")) && !bytes.Equal(whole, typed) {
			t.Fatalf("%q arrives as %q", typed, whole)
		}
	})
}
