package cast

import (
	"bytes"
	"time"
)

// commands reads off a terminal what lines were entered: when Enter was typed, the line in which the cursor stands as it leaves it. So
// a line from the history or completed by Tab is there in full, and a password, which no terminal echoes, is not. It is a help for
// who reads: a program can draw whatever it likes, and the recording is what happened.
type commands struct {
	screen *screen
	late   []byte        // output that the screen is still to take, while no Enter needs it
	typed  int           // Enters whose line is not seen yet
	at     time.Duration // of the last of them
	lines  []string
}

// Bounds: an Enter that moved nothing for so long was for something else; and so many are remembered.
const (
	enterLasts = 2 * time.Second
	enterMost  = 64
)

// Of output that no Enter looks for, the end alone is put on the screen, in one go, and it may wait: what a program pours out costs
// little.
const (
	lateMost = 32 << 10
	lateEnd  = 8 << 10
)

func newCommands(rows, cols uint16) *commands {
	c := &commands{}
	c.screen = newScreen(rows, cols, nil, c.fed)
	return c
}

// input takes what was typed.
func (c *commands) input(at time.Duration, p []byte) {
	n := bytes.Count(p, []byte{'\r'}) + bytes.Count(p, []byte{'\n'})
	if n == 0 {
		return
	}
	c.catchUp()
	if c.screen.away {
		return
	}
	c.typed, c.at = min(c.typed+n, enterMost), at
}

// output takes what was shown and returns the lines that were entered.
func (c *commands) output(at time.Duration, p []byte) []string {
	if at-c.at > enterLasts {
		c.typed = 0
	}
	if c.typed == 0 {
		c.late = append(c.late, p...)
		c.shorten()
		return nil
	}
	c.lines = nil
	c.catchUp()
	c.screen.write(p)
	if c.screen.away {
		c.typed = 0
	}
	return c.lines
}

func (c *commands) resize(rows, cols uint16) {
	c.catchUp()
	c.screen.resize(rows, cols)
}

func (c *commands) catchUp() {
	c.screen.write(c.late)
	c.late = c.late[:0]
}

// shorten leaves out the beginning of much output, up to the end of a line, unless it may switch screens.
func (c *commands) shorten() {
	if len(c.late) <= lateMost {
		return
	}
	from := len(c.late) - lateEnd
	cut := from + bytes.IndexByte(c.late[from:], '\n')
	if cut < from || c.screen.scan.state != ground || bytes.Contains(c.late[:cut], []byte("\x1b[?")) {
		c.catchUp()
		return
	}
	c.late = c.late[:copy(c.late, c.late[cut:])]
}

func (c *commands) fed() {
	if c.typed == 0 {
		return
	}
	c.typed--
	if line := c.screen.entered(); line != "" {
		c.lines = append(c.lines, line)
	}
}
