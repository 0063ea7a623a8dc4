package flow

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// oneOfEach is a frame of every kind and its bytes, which do not change.
var oneOfEach = []struct {
	frame Frame
	raw   string
}{
	{Input("ls\n"), "01 00000003 6c730a"},
	{Input{}, "01 00000000"},
	{EndOfInput{}, "02 00000000"},
	{Resize{Rows: 24, Cols: 80}, "03 00000004 0018 0050"},
	{Signal("RTMIN+1"), "04 00000007 52544d494e2b31"},
	{Output{0, 0xff}, "05 00000002 00ff"},
	{ErrorOutput("no"), "06 00000002 6e6f"},
	{Exit{Code: -1, Signal: "KILL", Why: "idle"}, "07 0000000d ffffffff 04 4b494c4c 69646c65"},
	{Exit{}, "07 00000005 00000000 00"},
	{Notice("é"), "08 00000002 c3a9"},
	{Ack(1 << 40), "09 00000008 0000010000000000"},
	{Ask{}, "0a 00000000"},
	{Have(7), "0b 00000008 0000000000000007"},
}

func TestFramesAsBytes(t *testing.T) {
	kinds := map[kind]bool{}
	for _, c := range oneOfEach {
		want, err := hex.DecodeString(strings.ReplaceAll(c.raw, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		raw := Append([]byte("before"), c.frame)
		if !bytes.Equal(raw, append([]byte("before"), want...)) {
			t.Errorf("%#v is %x, not %x", c.frame, raw[6:], want)
		}
		got, rest, err := Cut(append(want, "behind"...))
		if err != nil || !reflect.DeepEqual(got, c.frame) || string(rest) != "behind" {
			t.Errorf("%x is %#v with %q behind it: %v", want, got, rest, err)
		}
		for short := range want {
			if _, rest, err := Cut(want[:short]); !errors.Is(err, ErrShort) || len(rest) != short {
				t.Errorf("%d bytes of %#v: %v", short, c.frame, err)
			}
		}
		kinds[c.frame.kind()] = true
	}
	for k := range 256 {
		if _, known := longest(kind(k)); known != kinds[kind(k)] {
			t.Errorf("kind %d: known %v", k, known)
		}
	}
}

func TestCutRefuses(t *testing.T) {
	for name, raw := range map[string]string{
		"unknown kind":                    "\x0c",
		"kind 0":                          "\x00",
		"input longer than a payload":     "\x01\x00\x00\x80\x01",
		"all the memory there is":         "\x05\xff\xff\xff\xff",
		"an end of input with something":  "\x02\x00\x00\x00\x01",
		"a short size":                    "\x03\x00\x00\x00\x03abc",
		"a signal in small letters":       "\x04\x00\x00\x00\x03hup",
		"a long signal":                   "\x04\x00\x00\x00\x11",
		"an exit without a signal's size": "\x07\x00\x00\x00\x04abcd",
		"a signal longer than its exit":   "\x07\x00\x00\x00\x06\x00\x00\x00\x00\x02a",
		"a notice that is no text":        "\x08\x00\x00\x00\x01\xff",
		"a long notice":                   "\x08\x00\x00\x04\x01",
		"half an acknowledgement":         "\x09\x00\x00\x00\x04abcd",
		"half a number":                   "\x0b\x00\x00\x00\x04abcd",
		"a signal's name that is no text": "\x07\x00\x00\x00\x06\x00\x00\x00\x00\x01\xff",
		"a long signal of an exit":        "\x07\x00\x00\x00\x16\x00\x00\x00\x00\x11" + strings.Repeat("A", 17),
		"a long reason":                   "\x07\x00\x00\x04\x06\x00\x00\x00\x00\x00" + strings.Repeat("a", 1025),
	} {
		if f, _, err := Cut([]byte(raw)); fleet.KindOf(err) != fleet.Invalid || errors.Is(err, ErrShort) {
			t.Errorf("%s: %#v, %v", name, f, err)
		}
	}
}

// Whatever text is given, the other end takes the frame.
func TestTextsAreMadeToFit(t *testing.T) {
	long := strings.Repeat("é", maxText) + "\xff"
	for _, c := range []struct{ given, want Frame }{
		{Notice(long), Notice(strings.Repeat("é", maxText/2))},
		{Notice("a" + long), Notice("a" + strings.Repeat("é", maxText/2-1))},
		{Notice("a\xffb"), Notice("a\ufffdb")},
		{Signal("sigKILL"), Signal("KILL")},
		{Signal("hup"), Signal("")},
		{Signal(strings.Repeat("A", 100)), Signal(strings.Repeat("A", maxSignal))},
		{Exit{Code: 1, Signal: long, Why: long}, Exit{Code: 1, Signal: strings.Repeat("é", maxSignal/2), Why: strings.Repeat("é", maxText/2)}},
	} {
		got, rest, err := Cut(Append(nil, c.given))
		if err != nil || len(rest) != 0 || got != c.want {
			t.Errorf("%#v came as %#v: %v", c.given, got, err)
		}
	}
}

func TestAppendRefusesTooMuch(t *testing.T) {
	if got := len(Append(nil, Output(make([]byte, MaxPayload)))); got != MaxFrame {
		t.Errorf("the longest frame has %d bytes, not %d", got, MaxFrame)
	}
	defer func() {
		if recover() == nil {
			t.Error("a payload that no other end takes was accepted")
		}
	}()
	Append(nil, Output(make([]byte, MaxPayload+1)))
}

func TestEachFrameHasItsDirection(t *testing.T) {
	for _, c := range oneOfEach {
		var to, from bool
		switch c.frame.(type) {
		case Input, EndOfInput, Resize, Signal:
			to = true
		case Output, ErrorOutput, Notice, Exit:
			from = true
		}
		if Numbered(c.frame) != (to || from) {
			t.Errorf("%#v: numbered %v", c.frame, Numbered(c.frame))
		}
		_, err := NewReceiver(ToProgram, TerminalWindow).Take(c.frame)
		if (err == nil) != to {
			t.Errorf("%#v to the program: %v", c.frame, err)
		}
		_, err = NewReceiver(FromProgram, TerminalWindow).Take(c.frame)
		if (err == nil) != from {
			t.Errorf("%#v from the program: %v", c.frame, err)
		}
	}
}
