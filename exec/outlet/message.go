package outlet

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxText is the most bytes of a line that one message carries. With what stands before it a message stays below the 2,048
// bytes that RFC 5424 asks every receiver to take.
const maxText = 1800

// Priorities: facility daemon, and a severity that shows which stream it was without raising an alarm.
const (
	priorityStdout = 3<<3 | 6 // informational
	priorityStderr = 3<<3 | 5 // notice
)

// message makes one message as local daemons take it (RFC 3164 without a host name): identity muster, then command, node
// and stream. A "+" behind the stream says that the text goes on where the message before it ended.
func message(at time.Time, s Source, text string, cont bool) []byte {
	priority, mark := priorityStdout, ""
	if s.Stream == streamErr {
		priority = priorityStderr
	}
	if cont {
		mark = "+"
	}
	return fmt.Appendf(nil, "<%d>%s muster: %s %s %s%s: %s", priority, at.Format(time.Stamp), s.Command, s.Node, s.Stream, mark, text)
}

// pieces makes a line printable, and cuts it into texts of at most maxText bytes. Control characters (but a tab), and bytes
// that are no UTF-8, are shown as \x1b: a log is read on terminals. A line without anything is one empty piece.
func pieces(line []byte) []string {
	var out []string
	var piece strings.Builder
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		shown := string(line[:n])
		if (r == utf8.RuneError && n == 1) || (r != '\t' && unicode.IsControl(r)) {
			shown = ""
			for _, b := range line[:n] {
				shown += fmt.Sprintf(`\x%02x`, b)
			}
		}
		if piece.Len()+len(shown) > maxText {
			out = append(out, piece.String())
			piece.Reset()
		}
		piece.WriteString(shown)
		line = line[n:]
	}
	return append(out, piece.String())
}
