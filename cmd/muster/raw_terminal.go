package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/flow"
)

// What a program has where a terminal does not say.
const (
	someRows, someCols = 24, 80
	someTerminal       = "dumb"
)

// rawTerminal is the person's terminal while a program on a node has it: no key means anything here but to escapes.
type rawTerminal struct {
	in  *os.File
	out io.Writer

	mu     sync.Mutex
	state  *term.State   // as it was; nil: it is given back
	barred bool          // muster's bar is shown
	redraw chan struct{} // told when the program should draw its screen anew
}

// takeTerminal makes the terminal at stdin raw. Whoever has it must give it back.
func (a *app) takeTerminal() (*rawTerminal, error) {
	t := &rawTerminal{in: a.stdin.(*os.File), out: a.stdout, redraw: make(chan struct{}, 1)} // isTerminal said so
	return t, t.take()
}

func (t *rawTerminal) take() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	state, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return fleet.Errorf(fleet.Unavailable, "cannot make the terminal raw: %w", err)
	}
	t.state = state
	return nil
}

// giveBack puts the terminal back as it was. It may be called more than once.
func (t *rawTerminal) giveBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != nil {
		_ = term.Restore(int(t.in.Fd()), t.state)
		t.state = nil
	}
}

// suspend stops this process as Ctrl-Z stops others, and takes the terminal again when it goes on.
func (t *rawTerminal) suspend() error {
	t.giveBack()
	_ = syscall.Kill(0, syscall.SIGTSTP) // the whole job, as the terminal would
	return t.take()
}

// sane switches off what a program may have left on when its session ended without it: mouse reports, pasting in brackets,
// the alternate screen, a hidden cursor, colours. None of them does anything where it is off.
const sane = "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1047l\x1b[?1l\x1b>\x1b[?25h\x1b[0m"

// calm makes the screen usable after a program that could not clean up.
func (t *rawTerminal) calm() { _, _ = io.WriteString(t.out, sane+"\r\n") }

// bar shows a line at the top of the screen, over whatever the program has there, and leaves the cursor where it is.
func (t *rawTerminal) bar(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.barred = true
	t.top("\x1b[7m " + text + " \x1b[0m")
}

// unbar takes the line away. What was below it only the program knows: it is asked to draw.
func (t *rawTerminal) unbar() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.barred {
		return
	}
	t.barred = false
	t.top("")
	select {
	case t.redraw <- struct{}{}:
	default:
	}
}

func (t *rawTerminal) top(text string) {
	_, _ = io.WriteString(t.out, "\x1b7\x1b[1;1H\x1b[0m\x1b[2K"+text+"\x1b8")
}

// Write shows what the program writes. The first of it takes the bar away: it is heard again.
func (t *rawTerminal) Write(p []byte) (int, error) {
	t.unbar()
	return t.out.Write(p)
}

// terminalHere describes the terminal that a program on a node shall see: this one, as far as there is one.
func (a *app) terminalHere() auth.Terminal {
	rows, cols := a.terminalSize()
	name := a.getenv("TERM")
	if name == "" {
		name = someTerminal
	}
	return auth.Terminal{Name: name, Rows: rows, Cols: cols}
}

// terminalSize is that of the terminal at stdin, else of stdout's.
func (a *app) terminalSize() (rows, cols uint16) {
	for _, stream := range []any{a.stdin, a.stdout} {
		f, ok := stream.(*os.File)
		if !ok {
			continue
		}
		// Not by term.GetSize: a size of nothing is what a terminal of unknown size says.
		size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err == nil && size.Row > 0 && size.Col > 0 {
			return min(size.Row, auth.MaxTerminalSize), min(size.Col, auth.MaxTerminalSize)
		}
	}
	return someRows, someCols
}

// terminalSizes tells the terminal's size whenever it has changed, until ctx ends; and, whenever redraw is told, first another
// size: a program draws all of its screen anew then.
func (a *app) terminalSizes(ctx context.Context, redraw <-chan struct{}) <-chan flow.Resize {
	out := make(chan flow.Resize)
	changes := make(chan os.Signal, 1) // which holds one while another is told: the size is looked at afterwards
	signal.Notify(changes, syscall.SIGWINCH)
	tell := func(rows, cols uint16) {
		select {
		case out <- flow.Resize{Rows: rows, Cols: cols}:
		case <-ctx.Done():
		}
	}
	go func() {
		defer signal.Stop(changes)
		for {
			select {
			case <-changes:
			case <-redraw:
				rows, cols := a.terminalSize()
				tell(max(rows-1, 1), cols)
			case <-ctx.Done():
				return
			}
			tell(a.terminalSize())
		}
	}()
	return out
}
