package cast

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Format is a form in which a recording leaves muster.
type Format string

// The formats.
const (
	FormatCast     Format = "cast"     // asciicast v2 for asciinema's players, decrypted, whole lines alone
	FormatText     Format = "txt"      // what stood on the terminal, line by line, without what moved and coloured it
	FormatCommands Format = "commands" // time and text of each line that was entered, of each connection and file, and the end
	FormatRaw      Format = "raw"      // the bytes that the program wrote, both streams, unchanged
)

// ParseFormat reads a format's name. The error is Invalid.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case FormatCast, FormatText, FormatCommands, FormatRaw:
		return f, nil
	}
	return "", fleet.Errorf(fleet.Invalid, "%q is no form of a recording; it is cast, txt, commands or raw", name)
}

// Export writes a recording to w. What could be read has been written when it returns an error, of Next or of w; where a recording
// without an end stops, txt and commands say so.
func Export(w io.Writer, r *Reader, f Format) error {
	out := bufio.NewWriterSize(w, 64<<10)
	err := export(out, r, f)
	return errors.Join(err, out.Flush())
}

func export(w *bufio.Writer, r *Reader, f Format) error {
	switch f {
	case FormatCast:
		return exportCast(w, r)
	case FormatText:
		return exportText(w, r)
	case FormatCommands:
		return exportCommands(w, r)
	case FormatRaw:
		return each(r, func(e Event) {
			if o, ok := e.(Output); ok {
				w.Write(o.Data) // an error stays in w and comes with Flush
			}
		})
	}
	_, err := ParseFormat(string(f))
	return err
}

func each(r *Reader, on func(Event)) error {
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		on(e)
	}
}

func exportCast(w *bufio.Writer, r *Reader) error {
	w.Write(r.Header().encode())
	var buf []byte
	return each(r, func(e Event) {
		buf = appendAgain(buf[:0], e)
		w.Write(buf)
	})
}

func appendAgain(dst []byte, e Event) []byte {
	switch e := e.(type) {
	case Output:
		return appendData(dst, e.At, codeOutput, e.OnError, e.Data)
	case Input:
		return appendData(dst, e.At, codeInput, false, e.Data)
	case Resize:
		return appendEvent(dst, e.At, codeResize, sizeText(e.Rows, e.Cols))
	case Remark:
		return appendMark(dst, e.At, e.Mark, e.Text)
	}
	panic("cast: an event of a kind that is not there")
}

// stamp is how moments stand in text: the clock of the node.
func stamp(h Header, at time.Duration) string {
	return h.Start.Add(at).UTC().Format("2006-01-02T15:04:05.000Z")
}

func exportCommands(w *bufio.Writer, r *Reader) error {
	h := r.Header()
	err := each(r, func(e Event) {
		remark, ok := e.(Remark)
		if !ok {
			return
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", stamp(h, remark.At), remark.Mark, oneLine(remark.Text))
	})
	if err == nil && !r.Whole() {
		fmt.Fprintf(w, "-\t%s\t%s\n", MarkNotice, cutNote)
	}
	return err
}

const cutNote = "the recording has no end: the session goes on, or its host died"

// oneLine is text as it stands in a line of fields.
func oneLine(text string) string {
	shown := exec.Printable([]byte(text))
	out := make([]byte, 0, len(shown))
	for _, c := range shown {
		switch c {
		case '\n':
			out = append(out, `\n`...)
		case '\t':
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

func exportText(w *bufio.Writer, r *Reader) error {
	h := r.Header()
	if h.Terminal == "" {
		return exportStreams(w, r)
	}
	t := textOf{w: w}
	t.screen = newScreen(h.Rows, h.Cols, t.gone, nil)
	err := each(r, t.event)
	for _, row := range t.screen.rows[:t.screen.filled()] {
		t.gone(row)
	}
	if err == nil && !r.Whole() {
		fmt.Fprintf(w, "[%s]\n", cutNote)
	}
	return err
}

// textOf writes the lines that leave a screen.
type textOf struct {
	w      *bufio.Writer
	screen *screen
}

func (t *textOf) event(e Event) {
	switch e := e.(type) {
	case Output:
		before := t.screen.away
		t.screen.write(e.Data)
		if t.screen.away && !before {
			t.screen.note("a program took the whole screen")
		}
	case Resize:
		t.screen.resize(e.Rows, e.Cols)
	case Remark:
		switch e.Mark {
		case MarkNotice, MarkOmitted:
			t.screen.note(e.Mark.String() + ": " + e.Text)
		case MarkCommand, MarkConnection, MarkFile, MarkEnd:
		}
	case Input:
	}
}

func (t *textOf) gone(r row) {
	t.w.Write(exec.Printable([]byte(r.text())))
	if !r.wraps {
		t.w.WriteByte('\n')
	}
	for _, note := range r.notes {
		fmt.Fprintf(t.w, "[%s]\n", oneLine(note))
	}
}

// exportStreams writes both streams of a program without a terminal, as an operator's terminal may have it.
func exportStreams(w *bufio.Writer, r *Reader) error {
	var rest [2][]byte
	err := each(r, func(e Event) {
		if left, ok := e.(Remark); ok && left.Mark == MarkOmitted {
			fmt.Fprintf(w, "\n[%s: %s]\n", left.Mark, oneLine(left.Text))
		}
		o, ok := e.(Output)
		if !ok {
			return
		}
		half := &rest[0]
		if o.OnError {
			half = &rest[1]
		}
		shown, left := exec.PrintablePart(append(*half, o.Data...))
		w.Write(shown)
		*half = append([]byte(nil), left...)
	})
	for _, half := range rest {
		w.Write(exec.Printable(half))
	}
	if err == nil && !r.Whole() {
		fmt.Fprintf(w, "\n[%s]\n", cutNote)
	}
	return err
}
