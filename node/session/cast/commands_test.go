package cast

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// bash.cast was recorded from a shell with all that was typed: editing, history, completion, a wrapped line, a password,
// pasting, a cleared screen, an editor, wide characters, typing ahead, a search.
func bashCast(t testing.TB) *Reader {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "bash.cast"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// enter plays a recording as a Writer has it, and returns what was entered.
func enter(t *testing.T, r *Reader) []string {
	t.Helper()
	c := newCommands(r.Header().Rows, r.Header().Cols)
	var out []string
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := e.(type) {
		case Output:
			out = append(out, c.output(e.At, e.Data)...)
		case Input:
			c.input(e.At, e.Data)
		case Resize:
			c.resize(e.Rows, e.Cols)
		case Remark:
		}
	}
}

func TestCommandsOfAShell(t *testing.T) {
	const prompt = "bash-5.2# "
	want := []string{
		prompt + "echo one", prompt + "echo two", prompt + "echo one", prompt + "ls /usr/share/base-files/",
		prompt + "echo " + strings.Repeat("long-", 20) + "end", prompt + "echo Xabcdef", prompt + "read -s -p 'Password: ' p",
		"Password: " + prompt + "echo pasted1", // no new line came between them
		"pasted1",                              // of the two lines that were pasted, one was answered before the other was shown
		prompt + "echo pasted2", prompt + "echo cleared", prompt + "vi -u NONE /tmp/h4none", prompt + "echo 世界 é", prompt + "sleep 3",
		"echo ahead", prompt + "echo two", prompt + "exit",
	}
	got := enter(t, bashCast(t))
	if !slices.Equal(got, want) {
		t.Errorf("entered\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, line := range got {
		if strings.Contains(line, "hunter2") {
			t.Error("a password is in the log")
		}
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps string // > typed, < shown, ! seconds pass; one per line
		want  []string
	}{
		{"echoed by the terminal", "<name? \n>ann\\r\n<ann\\r\\n", []string{"name? ann"}},
		{"an Enter that was for something else", "<--More--\n>\\r\n!3\n<x\\r\\ny\\r\\n", nil},
		{"in an editor", "<\\x1b[?1049h\n>ihello\\r\\r\\r\n<hello\\r\\n\\x1b[?1049l$ \n>ls\\r\n<ls\\r\\nfile\\r\\n", []string{"$ ls"}},
		{"an Enter before the editor closed", "<$ \n>vi\\r\n<vi\\r\\n\\x1b[?1049h\n>\\r\\r\n<\\x1b[?1049l\\r\\nbye\\r\\n", []string{"$ vi"}},
		{"two Enters, and an editor took the second", "<$ vi\n>\\r\\r\n<\\r\\n\\x1b[?1049h\n<\\x1b[?1049lbye\\r\\n", []string{"$ vi"}},
		{"drawn anew", "<$ lx\\b\\x1b[Ks\n>\\r\n<\\r\\n", []string{"$ ls"}},
		{"a new line alone", "<$ ls\n>\\n\n<\\n", []string{"$ ls"}},
		{"nothing there", ">\\r\n<\\r\\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := newCommands(24, 80)
			var got []string
			at := time.Minute
			for step := range strings.SplitSeq(c.steps, "\n") {
				text := strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\b`, "\b", `\x1b`, "\x1b").Replace(step[1:])
				switch step[0] {
				case '<':
					got = append(got, log.output(at, []byte(text))...)
				case '>':
					log.input(at, []byte(text))
				case '!':
					at += 3 * time.Second
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("entered %q, want %q", got, c.want)
			}
		})
	}
}

// However much was poured out before, in however large pieces, the prompt at its end is there when Enter comes.
func TestCommandsAfterMuchOutput(t *testing.T) {
	var much bytes.Buffer
	for i := range 30_000 {
		fmt.Fprintf(&much, "\x1b[3%dmline %d\x1b[0m é世\r\n", i%8, i)
	}
	for _, size := range []int{1, 100, 4095, 32 << 10} {
		c := newCommands(24, 80)
		part := much.Bytes()[:min(much.Len(), size*1000)]
		for piece := range slices.Chunk(part[:bytes.LastIndexByte(part, '\n')+1], size) {
			c.output(0, piece)
			if cap(c.late) > 4*lateMost {
				t.Fatalf("%d bytes wait", cap(c.late))
			}
		}
		c.output(0, []byte("\r\n$ wor\r\n\x1b[A\x1b[5C\x1b[K"))
		c.output(0, []byte("k"))
		c.input(0, []byte("\r"))
		if got := c.output(0, []byte("\r\n")); !slices.Equal(got, []string{"$ work"}) {
			t.Errorf("in pieces of %d: entered %q", size, got)
		}
	}
}

// An editor that draws much is an editor to the end.
func TestCommandsBehindMuchDrawing(t *testing.T) {
	c := newCommands(24, 80)
	c.output(0, []byte("$ vi\r\n\x1b[?1049h"))
	for range 100 {
		c.output(0, bytes.Repeat([]byte("text\r\n"), 1000))
	}
	c.input(0, []byte("o\r"))
	if got := c.output(0, []byte("o\r\n")); got != nil {
		t.Errorf("entered %q in an editor", got)
	}
	c.output(0, append([]byte("\x1b[?1049l"), bytes.Repeat([]byte("text\r\n"), 10_000)...))
	c.output(0, []byte("$ ls"))
	c.input(0, []byte("\r"))
	if got := c.output(0, []byte("\r\n")); !slices.Equal(got, []string{"$ ls"}) {
		t.Errorf("entered %q behind it", got)
	}
}

func TestScreen(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"plain", "one\r\ntwo", "one|two"},
		{"wraps", strings.Repeat("x", 12), "xxxxxxxxxx…xx"},
		{"does not wrap before it must", strings.Repeat("x", 10) + "\r\ny", "xxxxxxxxxx|y"},
		{"a progress bar", "10%\r20%\r\x1b[K100%", "100%"},
		{"moves", "ab\x1b[2;3Hc\x1b[1;1HX\x1b[dY", "XY|  c"},
		{"erases", "abcdef\x1b[3D\x1b[1Kxy\x1b[X", "   xy"},
		{"deletes and inserts", "abcdef\x1b[4D\x1b[P\x1b[2@", "ab  def"},
		{"rows", "a\r\nb\r\nc\x1b[2;1H\x1b[Lx\x1b[1;1H\x1b[M", "x|b|c"},
		{"saved", "ab\x1b7cd\x1b8X\x1b[sY\x1b[uZ", "abXZ"},
		{"wide", "世界世界世界", "世界世界世…界"},
		{"combined", "e\u0301e", "e\u0301e"},
		{"tabs", "\ta", "        a"},
		{"titles are no text", "\x1b]0;title\x07a\x1bP1$r\x1b\\b\x1b_c\x1b\\", "ab"},
		{"the other screen", "a\x1b[?1049hsecret\x1b[2J\x1b[?1049lb", "ab"},
		{"scrolls", "1\n2\n3\n4\n5\n6\n7", "1| 2|  3|   4|    5|     6|      7"},
		{"cleared, and yet seen", "a\r\nb\x1b[2J\x1b[Hc", "a|b|c"},
		{"one up", "a\nb\x1bMc", "a c| b"},
	} {
		var lines []string
		wrapped := ""
		take := func(r row) {
			wrapped += r.text()
			if r.wraps {
				wrapped += "…"
				return
			}
			lines, wrapped = append(lines, wrapped), ""
		}
		s := newScreen(5, 10, take, nil)
		s.write([]byte(c.in))
		for _, r := range s.rows[:s.filled()] {
			take(r)
		}
		if got := strings.Join(lines, "|"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A terminal that is made smaller keeps the cursor's row.
func TestScreenResize(t *testing.T) {
	var gone []string
	s := newScreen(5, 10, func(r row) { gone = append(gone, r.text()) }, nil)
	s.write([]byte("1\r\n2\r\n3\r\n4"))
	s.resize(2, 20)
	if !slices.Equal(gone, []string{"1", "2"}) || s.entered() != "4" {
		t.Errorf("gone %q, the cursor in %q", gone, s.entered())
	}
	s.resize(0, 0)
	s.write([]byte("!"))
	if s.entered() != "4!" {
		t.Errorf("the cursor in %q", s.entered())
	}
}

// Nothing that a program writes breaks the screen or makes it grow, nor passes Tame twice differently, nor differently in
// pieces.
func FuzzScreen(f *testing.F) {
	f.Add([]byte("a\x1b[2;3Hc\x1b[1;1HX\x1b[99999P\x1b[5@\xe4\xb8\x96"), uint8(3), uint8(5), uint8(2))
	f.Add([]byte("\x1b]0;x\x1b\\\x1bP\x18\x9b[c\x1b[6n\x1b[?1000h\xc2\x9b6n\xf0\x9f"), uint8(1), uint8(1), uint8(1))
	f.Add([]byte("\x1b[\x1b[\x1b]\x1b[c\x1b(0\x1b[1 q\x1b[!p\x1b[?J\x1b[?25;1000h"), uint8(200), uint8(255), uint8(7))
	f.Fuzz(func(t *testing.T, data []byte, rows, cols, piece uint8) {
		s := newScreen(uint16(rows), uint16(cols), func(r row) { r.text() }, nil)
		c := newCommands(uint16(rows), uint16(cols))
		var whole, parts Tame
		inParts := []byte{}
		for p := range slices.Chunk(data, int(piece)+1) {
			s.write(p)
			s.entered()
			c.input(0, p)
			c.output(0, p)
			s.resize(uint16(p[0]), uint16(len(p)))
			inParts = append(inParts, parts.Show(p)...)
		}
		if len(s.rows) > maxRows || s.r >= len(s.rows) || s.c > s.wide || s.c < 0 || len(s.scan.seq) > maxSequence+1 || len(s.scan.half) > 3 {
			t.Fatalf("the screen has %d rows, the cursor at %d, %d of %d", len(s.rows), s.r, s.c, s.wide)
		}
		for _, r := range s.rows {
			if len(r.cells) > maxCols+1 {
				t.Fatalf("a row of %d", len(r.cells))
			}
		}
		shown := whole.Show(data)
		if !bytes.Equal(shown, inParts) {
			t.Fatalf("shown %q, in pieces %q", shown, inParts)
		}
		if again := new(Tame).Show(shown); !bytes.Equal(again, shown) || !utf8.Valid(shown) {
			t.Fatalf("shown %q, again %q", shown, again)
		}
	})
}
