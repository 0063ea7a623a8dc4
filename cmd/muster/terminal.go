package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/muster-fleet/muster/node/fleet"
)

// tint is a colour of a terminal.
type tint string

// The colours, for what went well, badly, or is not known.
const (
	plain  tint = ""
	green  tint = "\x1b[32m"
	red    tint = "\x1b[31m"
	yellow tint = "\x1b[33m"
	faint  tint = "\x1b[2m"
)

func (t tint) on(text string) string {
	if t == plain || text == "" {
		return text
	}
	return string(t) + text + "\x1b[0m"
}

// isTerminal reports whether stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colours reports whether w shows colours.
func (a *app) colours(w io.Writer) bool {
	return !a.flags.noColor && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb" && isTerminal(w)
}

// width returns the columns of a terminal; 80 when it does not say.
func width(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}

// confirm asks the person whether to go on. Where nobody can be asked, the act is refused.
func (a *app) confirm(yes bool, format string, args ...any) error {
	if yes {
		return nil
	}
	question := printable(fmt.Sprintf(format, args...))
	if !isTerminal(a.stdin) || !isTerminal(a.stderr) {
		return fleet.Errorf(fleet.Denied, "%s Nobody can be asked here", question).Hinted("--yes, if that is what you want")
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && line == "" {
		return fleet.Errorf(fleet.Denied, "not confirmed")
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return fleet.Errorf(fleet.Denied, "not confirmed: nothing was done")
}

// askSecret reads a line without showing it.
func (a *app) askSecret(prompt string) (string, error) {
	fmt.Fprint(a.stderr, prompt)
	defer fmt.Fprintln(a.stderr)
	raw, err := term.ReadPassword(int(a.stdin.(*os.File).Fd())) // isTerminal said so
	if err != nil {
		return "", fleet.Errorf(fleet.Invalid, "cannot read from the terminal: %w", err)
	}
	return string(raw), nil
}

// ago says how long ago t was.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return span(max(now.Sub(t), 0)) + " ago"
}

// span writes a duration with one unit, as people say it.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.3g s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// when writes a moment, or a hyphen for none.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
