package cast

import (
	"fmt"
	"strings"
	"time"
)

// Mark says what a remark in a recording is about. Players show remarks as places to jump to.
type Mark uint8

// The kinds of remarks.
const (
	MarkNotice     Mark = 1 // what the human was told, and what the recording has to say of itself
	MarkCommand    Mark = 2 // a line that was entered, as the terminal showed it, prompt and all
	MarkConnection Mark = 3 // a forwarded connection: to where, when, how many bytes
	MarkFile       Mark = 4 // a file that was copied
	MarkOmitted    Mark = 5 // what was left out just before, because too much was poured out: how many bytes, and their SHA-256
	MarkEnd        Mark = 6 // how the session ended: nothing comes after it
)

// markNames is how remarks begin in the file.
var markNames = [...]string{MarkNotice: "muster", MarkCommand: "command", MarkConnection: "connection", MarkFile: "file", MarkOmitted: "omitted", MarkEnd: "end"}

// String returns the word that such remarks begin with.
func (m Mark) String() string {
	if m == 0 || int(m) >= len(markNames) {
		return fmt.Sprintf("mark(%d)", uint8(m))
	}
	return markNames[m]
}

// maxMark is how long a remark is at most, in bytes.
const maxMark = 4 << 10

func appendMark(dst []byte, at time.Duration, m Mark, text string) []byte {
	if len(text) > maxMark {
		text = text[:maxMark]
		text = text[:len(text)-unfinished([]byte(text))] + "…"
	}
	return appendEvent(dst, at, codeMark, []byte(m.String()+": "+text))
}

// parseMark reads a remark. A remark of another program's is a notice.
func parseMark(label string) (Mark, string) {
	for m := MarkNotice; int(m) < len(markNames); m++ {
		if text, ok := strings.CutPrefix(label, m.String()+": "); ok {
			return m, text
		}
	}
	return MarkNotice, label
}

// text says the end in words; endOf reads it.
func (e End) text(missing int64) string {
	out := fmt.Sprintf("exit %d", e.Code)
	if e.Signal != "" {
		out = "signal " + e.Signal
	}
	if e.Why != "" {
		out += ", " + e.Why
	}
	if missing > 0 {
		out += fmt.Sprintf(" (%d bytes of the session are not in this recording)", missing)
	}
	return out
}
