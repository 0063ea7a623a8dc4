package cast

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"time"
	"unicode/utf8"
)

// gap is what of a stream is left out, because more is poured out than is recorded: its beginning was, its end will be, and of
// what stood between them the number of bytes and the digest. So whoever has what was poured, a file, can tell later that it was
// this one and no other.
type gap struct {
	since time.Duration
	last  time.Duration // when something came
	bytes int64         // before the tail
	sum   hash.Hash
	tail  []byte
}

const (
	// tailMost is how much of the end is kept, in bytes: some screens.
	tailMost = 32 << 10
	// gapPause is the silence that ends a gap: whoever looks at a screen that stands still can read what is on it.
	gapPause = 250 * time.Millisecond
	// gapMost is how long one lasts at most: of something that never rests, a glimpse is kept now and then.
	gapMost = 10 * time.Second
	// typedLasts is how long after a key what is shown counts as its answer.
	typedLasts = time.Second
)

// add takes what is poured out.
func (g *gap) add(now time.Duration, p []byte) {
	g.last = now
	if over := len(p) - tailMost; over >= 0 {
		g.pass(len(g.tail))
		g.leave(p[:over])
		p = p[over:]
	} else if over := len(g.tail) + len(p) - tailMost; over > 0 {
		g.pass(over)
	}
	g.tail = append(g.tail, p...)
}

// pass leaves out the first n bytes of the tail.
func (g *gap) pass(n int) {
	g.leave(g.tail[:n])
	g.tail = g.tail[:copy(g.tail, g.tail[n:])]
}

func (g *gap) leave(p []byte) {
	g.bytes += int64(len(p))
	g.sum.Write(p)
}

// shorten leaves out more of the tail, so that at most n bytes are left of it, which begin with a line, or a character.
func (g *gap) shorten(n int) {
	if len(g.tail) <= n && g.bytes == 0 {
		return // nothing is left out
	}
	from := max(len(g.tail)-n, 0)
	if i := bytes.IndexByte(g.tail[from:], '\n'); i >= 0 && i < n/2 {
		from += i + 1
	}
	for from < len(g.tail) && !utf8.RuneStart(g.tail[from]) {
		from++
	}
	g.pass(from)
}

func (g *gap) text(stream int) string {
	name := [...]string{streamOutput: "output", streamErrors: "error output", streamInput: "input"}[stream]
	return fmt.Sprintf("%d bytes of %s, SHA-256 %x", g.bytes, name, g.sum.Sum(nil))
}

// settled ends gaps in which nothing came for a while, and those that last too long.
func settled(g *gap, now time.Duration) bool {
	return now-g.last >= gapPause || now-g.since >= gapMost
}

// answered ends those that are not quite young: a key was typed, and what comes now may be its answer.
func answered(g *gap, now time.Duration) bool { return now-g.since >= gapPause }

// inOrder ends all, because something comes that is to stand behind them.
func inOrder(*gap, time.Duration) bool { return true }

// piece records bytes of a stream, or leaves them out.
func (w *Writer) piece(stream int, p []byte) {
	if w.closed {
		return
	}
	now := w.at()
	w.closeGaps(settled)
	g := w.gaps[stream]
	if g == nil && w.try(len(p), int64(len(p)), now, dataEvent(stream, p)) {
		return
	}
	if g == nil {
		g = &gap{since: now, sum: sha256.New()}
		w.gaps[stream] = g
	}
	g.add(now, p)
}

func dataEvent(stream int, p []byte) eventsOf {
	code := codeOutput
	if stream == streamInput {
		code = codeInput
	}
	return func(dst []byte, at time.Duration) []byte { return appendData(dst, at, code, stream == streamErrors, p) }
}

// mark appends a remark. What there is no room for is counted.
func (w *Writer) mark(m Mark, text string) {
	if w.closed {
		return
	}
	w.closeGaps(inOrder)
	w.catchUp()
	if !w.try(0, 0, w.at(), markEvent(m, text)) {
		w.unsaid[m]++
	}
}

// catchUp says what there was no room for before: the terminal's size, and how many remarks.
func (w *Writer) catchUp() {
	if w.resized && w.try(0, 0, w.at(), w.sizeEvent()) {
		w.resized = false
	}
	for m, n := range w.unsaid {
		if n > 0 && w.try(0, 0, w.at(), markEvent(MarkOmitted, unsaidText(Mark(m), n))) {
			w.unsaid[m] = 0
		}
	}
}

func (w *Writer) sizeEvent() eventsOf {
	return func(dst []byte, at time.Duration) []byte {
		return appendEvent(dst, at, codeResize, sizeText(w.rows, w.cols))
	}
}

func unsaidText(m Mark, n int) string { return fmt.Sprintf("%d remarks (%s)", n, m) }

// try appends events that are about n bytes of the session, if the ration has room for them; least is what they take in any
// case. What only the disk refuses counts as appended: how much that is is said elsewhere.
func (w *Writer) try(least int, n int64, now time.Duration, events eventsOf) bool {
	w.ration.fill(now, w.size)
	typed := w.answers(now)
	if !w.ration.room(float64(least), typed) {
		return false
	}
	before := len(w.buf)
	if !w.add(n, events) {
		return true
	}
	if w.ration.take(len(w.buf)-before, typed) {
		return true
	}
	w.buf = w.buf[:before]
	return false
}

// answers reports whether what is shown now may be the answer to a key.
func (w *Writer) answers(now time.Duration) bool { return now-w.typed <= typedLasts }

// closeGaps ends the gaps that are due, where there is room to say so.
func (w *Writer) closeGaps(which func(g *gap, now time.Duration) bool) {
	if w.gaps == [3]*gap{} || w.closed {
		return
	}
	now := w.at()
	w.ration.fill(now, w.size)
	for stream, g := range w.gaps {
		if g != nil && which(g, now) && w.ration.room(gapText, w.answers(now)) {
			w.closeGap(stream, now)
		}
	}
}

// gapText is about what it takes to say what was left out, in bytes.
const gapText = 200

// closeGap records the end of what was poured out, as much of it as there is room for, behind a word about the rest.
func (w *Writer) closeGap(stream int, now time.Duration) {
	g := w.gaps[stream]
	w.gaps[stream] = nil
	missing := w.missing
	for most := tailMost; most >= leastTail; most /= 4 {
		g.shorten(most)
		if w.try(len(g.tail), g.bytes+int64(len(g.tail)), now, g.events(stream)) {
			if missing == w.missing { // the disk may refuse it
				w.omitted += g.bytes
			}
			return
		}
	}
	w.put(g, stream, 0)
}

// put records a gap with so much of its end, whatever it takes.
func (w *Writer) put(g *gap, stream, most int) {
	g.shorten(most)
	before := len(w.buf)
	if w.add(g.bytes+int64(len(g.tail)), g.events(stream)) {
		w.ration.bulk.have -= float64(len(w.buf) - before)
		w.omitted += g.bytes
	}
}

// leastTail is how much of an end is worth keeping, in bytes.
const leastTail = 512

// events are the word about what was left out, and what is left.
func (g *gap) events(stream int) eventsOf {
	return func(dst []byte, at time.Duration) []byte {
		if g.bytes > 0 {
			dst = appendMark(dst, at, MarkOmitted, g.text(stream))
		}
		if len(g.tail) == 0 {
			return dst
		}
		return dataEvent(stream, g.tail)(dst, at)
	}
}

// closeAll says at the end what is still to be said, whatever it takes: the last words of all are worth it.
func (w *Writer) closeAll() {
	for stream, g := range w.gaps {
		if g != nil {
			w.put(g, stream, tailMost)
		}
	}
	w.gaps = [3]*gap{}
	if w.resized {
		w.add(0, w.sizeEvent())
	}
	for m, n := range w.unsaid {
		if n > 0 {
			w.add(0, markEvent(MarkOmitted, unsaidText(Mark(m), n)))
		}
	}
}
