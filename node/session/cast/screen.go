package cast

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// screen is as much of a terminal as it takes to read lines off it: text in rows, erasing, moving, scrolling. It has no
// colours and no scroll region; and while the other screen is shown, as editors do, it looks away.
type screen struct {
	scan scanner
	rows []row // as many as are shown
	wide int
	r, c int // the cursor; c is wide when the next character wraps
	keep [2]int
	away bool
	gone func(row) // a row that leaves the screen at the top, or is erased with it
	feed func()    // the cursor is about to leave its row for the next
}

// row is one row of the screen.
type row struct {
	cells []cell   // up to the last that was written
	wraps bool     // the text goes on in the next row
	notes []string // what is to be said after it, at most maxNotes
}

const maxNotes = 4

// note adds what is to be said after the row in which the cursor stands, or after the one before if nothing stands there yet.
func (s *screen) note(text string) {
	at := s.r
	if at > 0 && len(s.rows[at].cells) == 0 {
		at--
	}
	line := &s.rows[at]
	if n := len(line.notes); n == 0 || (n < maxNotes && line.notes[n-1] != text) {
		line.notes = append(line.notes, text)
	}
}

// cell is a place in a row: a character and what is combined with it. Behind one that takes two places stands an empty one.
type cell struct {
	main rune // 0: the second half of the one before
	more rune // combined with it; 0: none
}

// Bounds of a screen, whatever the terminal claims: they bound memory to half a megabyte.
const (
	maxRows = 120
	maxCols = 500
)

func newScreen(rows, cols uint16, gone func(row), feed func()) *screen {
	s := &screen{gone: gone, feed: feed}
	s.resize(rows, cols)
	return s
}

// resize does not flow text anew: terminals differ in it, and shells draw their line again.
func (s *screen) resize(rows, cols uint16) {
	if rows == 0 || cols == 0 {
		rows, cols = noRows, noCols
	}
	high := min(int(rows), maxRows)
	s.wide = min(int(cols), maxCols)
	for s.r >= high { // the cursor's row stays
		if s.gone != nil {
			s.gone(s.rows[0])
		}
		s.rows = s.rows[1:]
		s.r--
	}
	s.rows = s.rows[:min(len(s.rows), high)]
	for len(s.rows) < high {
		s.rows = append(s.rows, row{})
	}
	for i := range s.rows {
		s.rows[i].cells = s.rows[i].cells[:min(len(s.rows[i].cells), s.wide)]
	}
	s.c = min(s.c, s.wide)
}

func (s *screen) write(p []byte) { s.scan.scan(p, s.item) }

func (s *screen) item(i item) {
	switch i.kind {
	case itemCSI:
		s.csi(i.text)
		return
	case itemEscape:
		if string(i.text) == "c" {
			s.away = false
		}
	case itemText, itemControl, itemOther:
	}
	if s.away {
		return
	}
	switch i.kind {
	case itemText:
		for text := i.text; len(text) > 0; {
			r, size := utf8.DecodeRune(text)
			s.put(r)
			text = text[size:]
		}
	case itemControl:
		s.control(i.final)
	case itemEscape:
		s.escape(i.text)
	case itemCSI, itemOther:
	}
}

func (s *screen) put(r rune) {
	n := places(r)
	if n == 0 {
		s.combine(r)
		return
	}
	if s.c+n > s.wide {
		s.rows[s.r].wraps = true
		s.down()
		s.c = 0
	}
	line := &s.rows[s.r]
	for len(line.cells) < s.c {
		line.cells = append(line.cells, cell{main: ' '})
	}
	line.set(s.c, cell{main: r})
	if n == 2 && s.c+1 < s.wide {
		line.set(s.c+1, cell{})
	}
	s.c = min(s.c+n, s.wide)
}

func (r *row) set(at int, c cell) {
	if at < len(r.cells) {
		r.cells[at] = c
		return
	}
	r.cells = append(r.cells, c)
}

// combine adds a mark to the character before the cursor; the first one counts.
func (s *screen) combine(r rune) {
	cells := s.rows[s.r].cells
	for at := min(s.c, len(cells)) - 1; at >= 0; at-- {
		if cells[at].main != 0 {
			if cells[at].more == 0 {
				cells[at].more = r
			}
			return
		}
	}
}

// places returns how many places a character takes, after Unicode's East Asian Width, roughly.
func places(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r < 0x1100:
		return 1
	case r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf && r != 0x303f, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1f64f,
		r >= 0x1f900 && r <= 0x1f9ff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

func (s *screen) control(c byte) {
	switch c {
	case '\b':
		s.c = max(min(s.c, s.wide-1)-1, 0)
	case '\t':
		s.c = min((s.c/8+1)*8, s.wide-1)
	case '\n', '\v', '\f':
		s.next()
	case '\r':
		s.c = 0
	}
}

func (s *screen) next() {
	if s.feed != nil {
		s.feed()
	}
	s.rows[s.r].wraps = false
	s.down()
}

func (s *screen) down() {
	if s.r == len(s.rows)-1 {
		s.scroll()
		return
	}
	s.r++
}

// scroll moves all rows up by one; the cursor stays.
func (s *screen) scroll() {
	top := s.rows[0]
	if s.gone != nil {
		s.gone(top)
	}
	copy(s.rows, s.rows[1:])
	s.rows[len(s.rows)-1] = row{cells: top.cells[:0]}
}

func (s *screen) escape(seq []byte) {
	switch string(seq) {
	case "7":
		s.keep = [2]int{s.r, s.c}
	case "8":
		s.to(s.keep[0], s.keep[1])
	case "D":
		s.down()
	case "E":
		s.next()
		s.c = 0
	case "M":
		s.to(s.r-1, s.c)
	case "c":
		s.clear(0, len(s.rows))
		s.to(0, 0)
	}
}

func (s *screen) to(r, c int) {
	s.r = min(max(r, 0), len(s.rows)-1)
	s.c = min(max(c, 0), s.wide-1)
}

func (s *screen) csi(seq []byte) {
	final, params := seq[len(seq)-1], seq[:len(seq)-1]
	if bytes.HasPrefix(params, []byte("?")) {
		s.mode(final, params[1:])
		return
	}
	if s.away || len(bytes.Trim(params, "0123456789;:")) > 0 {
		return
	}
	one, two := numbers(params)
	n := max(one, 1)
	switch final {
	case 'A':
		s.to(s.r-n, s.c)
	case 'B', 'e':
		s.to(s.r+n, s.c)
	case 'C', 'a':
		s.to(s.r, s.c+n)
	case 'D':
		s.to(s.r, s.c-n)
	case 'E':
		s.to(s.r+n, 0)
	case 'F':
		s.to(s.r-n, 0)
	case 'G', '`':
		s.to(s.r, n-1)
	case 'H', 'f':
		s.to(n-1, max(two, 1)-1)
	case 'd':
		s.to(n-1, s.c)
	case 's':
		s.keep = [2]int{s.r, s.c}
	case 'u':
		s.to(s.keep[0], s.keep[1])
	case 'J':
		s.eraseScreen(one)
	case 'K':
		s.eraseLine(one)
	case 'P':
		s.deleteCells(n)
	case '@':
		s.insertCells(n)
	case 'X':
		s.blank(s.c, s.c+n)
	case 'L':
		s.insertRows(n)
	case 'M':
		s.deleteRows(n)
	case 'S':
		for range min(n, len(s.rows)) {
			s.scroll()
		}
	}
}

// mode watches for the other screen.
func (s *screen) mode(final byte, params []byte) {
	if final != 'h' && final != 'l' {
		return
	}
	for mode := range bytes.SplitSeq(params, []byte(";")) {
		switch string(mode) {
		case "47", "1047", "1049":
			s.away = final == 'h'
		}
	}
}

// numbers reads the first two parameters, 0 where one is missing; all beyond what a screen has is alike.
func numbers(params []byte) (one, two int) {
	first, rest, _ := bytes.Cut(params, []byte(";"))
	second, _, _ := bytes.Cut(rest, []byte(";"))
	return number(first), number(second)
}

func number(text []byte) int {
	if len(text) > 5 {
		return 1 << 15
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return 0
	}
	return n
}

func (s *screen) eraseScreen(what int) {
	switch what {
	case 0:
		s.eraseLine(0)
		s.clear(s.r+1, len(s.rows))
	case 1:
		s.clear(0, s.r)
		s.blank(0, s.c+1)
	case 2, 3:
		s.clear(0, len(s.rows))
	}
}

// clear empties rows. When it is all of them, what stood there is gone, not undone.
func (s *screen) clear(from, to int) {
	if from == 0 && to == len(s.rows) && s.gone != nil {
		for _, r := range s.rows[:s.filled()] {
			s.gone(r)
		}
	}
	for i := from; i < to; i++ {
		s.rows[i] = row{cells: s.rows[i].cells[:0]}
	}
}

// filled is how many rows hold text, up to the last that does.
func (s *screen) filled() int {
	n := len(s.rows)
	for n > 0 && s.rows[n-1].text() == "" && s.rows[n-1].notes == nil {
		n--
	}
	return n
}

func (s *screen) eraseLine(what int) {
	line := &s.rows[s.r]
	switch what {
	case 0:
		line.cells = line.cells[:min(s.c, len(line.cells))]
		line.wraps = false
	case 1:
		s.blank(0, s.c+1)
	case 2:
		line.cells, line.wraps = line.cells[:0], false
	}
}

func (s *screen) blank(from, to int) {
	cells := s.rows[s.r].cells
	for i := from; i < min(to, len(cells)); i++ {
		cells[i] = cell{main: ' '}
	}
}

func (s *screen) deleteCells(n int) {
	line := &s.rows[s.r]
	if s.c < len(line.cells) {
		line.cells = append(line.cells[:s.c], line.cells[min(s.c+n, len(line.cells)):]...)
	}
}

func (s *screen) insertCells(n int) {
	line := &s.rows[s.r]
	if s.c >= len(line.cells) {
		return
	}
	n = min(n, s.wide-s.c)
	for range n {
		line.cells = append(line.cells, cell{})
	}
	copy(line.cells[s.c+n:], line.cells[s.c:])
	line.cells = line.cells[:min(len(line.cells), s.wide)]
	s.blank(s.c, s.c+n)
}

func (s *screen) insertRows(n int) {
	n = min(n, len(s.rows)-s.r)
	copy(s.rows[s.r+n:], s.rows[s.r:])
	for i := s.r; i < s.r+n; i++ {
		s.rows[i] = row{}
	}
}

func (s *screen) deleteRows(n int) {
	n = min(n, len(s.rows)-s.r)
	copy(s.rows[s.r:], s.rows[s.r+n:])
	for i := len(s.rows) - n; i < len(s.rows); i++ {
		s.rows[i] = row{}
	}
}

// text is what a row says, without blanks at its end unless it goes on.
func (r row) text() string {
	var out strings.Builder
	for _, c := range r.cells {
		if c.main != 0 {
			out.WriteRune(c.main)
		}
		if c.more != 0 {
			out.WriteRune(c.more)
		}
	}
	if r.wraps {
		return out.String()
	}
	return strings.TrimRight(out.String(), " ")
}

// entered is the line in which the cursor stands, all of its rows.
func (s *screen) entered() string {
	from := s.r
	for from > 0 && s.rows[from-1].wraps {
		from--
	}
	var out strings.Builder
	for i := from; i < len(s.rows); i++ {
		out.WriteString(s.rows[i].text())
		if !s.rows[i].wraps {
			break
		}
	}
	return out.String()
}
