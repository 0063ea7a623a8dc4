package cast

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Event is one thing that a recording saw: an Output, an Input, a Resize or a Remark.
type Event interface {
	When() time.Duration // since the start
	event()
}

// Output is what the program wrote, its exact bytes.
type Output struct {
	At      time.Duration
	Data    []byte
	OnError bool // to standard error
}

// Input is what was typed.
type Input struct {
	At   time.Duration
	Data []byte
}

// Resize is a new size of the terminal.
type Resize struct {
	At   time.Duration
	Rows uint16
	Cols uint16
}

// Remark is muster's own word.
type Remark struct {
	At   time.Duration
	Mark Mark
	Text string // may hold what a program wrote: show it as exec.Printable has it
}

// When returns At.
func (e Output) When() time.Duration { return e.At }

// When returns At.
func (e Input) When() time.Duration { return e.At }

// When returns At.
func (e Resize) When() time.Duration { return e.At }

// When returns At.
func (e Remark) When() time.Duration { return e.At }

func (Output) event() {}
func (Input) event()  {}
func (Resize) event() {}
func (Remark) event() {}

// said is what an event of ours said about the one after it.
type said struct {
	onError bool
	exact   []byte // nil: the text is all
}

// line is an event as it stands in the file.
type line struct {
	at   time.Duration
	code string
	data string
}

// maxAt is the latest moment that an event can have: a hundred years, far below what overflows.
const maxAt = 100 * 365 * 24 * time.Hour

func parseLine(text []byte) (line, error) {
	var parts [4]json.RawMessage // as an array, so that a line of a million parts costs no more than four
	if err := json.Unmarshal(text, &parts); err != nil {
		return line{}, err
	}
	var l line
	if parts[2] == nil || parts[3] != nil {
		return line{}, fleet.Errorf(fleet.Invalid, "an event is a list of three")
	}
	var seconds float64
	if err := json.Unmarshal(parts[0], &seconds); err != nil {
		return line{}, err
	}
	if seconds < 0 || seconds > maxAt.Seconds() {
		return line{}, fleet.Errorf(fleet.Invalid, "an event at %g s", seconds)
	}
	l.at = time.Duration(math.Round(seconds*1e6)) * time.Microsecond
	if err := json.Unmarshal(parts[1], &l.code); err != nil {
		return line{}, err
	}
	return l, json.Unmarshal(parts[2], &l.data)
}

// event makes an event of a line and of what the lines before said of it. None, and what is now said: the line is about the next
// one, or of a code that is not ours.
func (l line) event(before said) (Event, said, error) {
	data := before.exact
	if data == nil {
		data = []byte(l.data)
	}
	switch l.code {
	case codeError:
		before.onError = true
		return nil, before, nil
	case codeBytes:
		exact, err := base64.StdEncoding.DecodeString(l.data)
		if err != nil {
			return nil, said{}, err
		}
		before.exact = append([]byte{}, exact...)
		return nil, before, nil
	case codeOutput:
		return Output{At: l.at, Data: data, OnError: before.onError}, said{}, nil
	case codeInput:
		return Input{At: l.at, Data: data}, said{}, nil
	case codeResize:
		rows, cols, err := parseSize(l.data)
		return Resize{At: l.at, Rows: rows, Cols: cols}, said{}, err
	case codeMark:
		mark, text := parseMark(l.data)
		return Remark{At: l.at, Mark: mark, Text: text}, said{}, nil
	}
	return nil, before, nil
}

func parseSize(text string) (rows, cols uint16, err error) {
	c, r, ok := strings.Cut(text, "x")
	wide, err1 := strconv.ParseUint(c, 10, 16)
	high, err2 := strconv.ParseUint(r, 10, 16)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, fleet.Errorf(fleet.Invalid, "a terminal of size %q", text)
	}
	return uint16(high), uint16(wide), nil
}
