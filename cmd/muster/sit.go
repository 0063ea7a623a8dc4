package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/attach"
	"github.com/muster-fleet/muster/node/session/flow"
)

// sitting is one session with a program, and the person before it.
type sitting struct {
	*app
	*visit
	id       fleet.UUID
	first    io.ReadWriteCloser // the connection that opened the session; nil once it was taken
	terminal *rawTerminal       // nil: the person's input is no terminal, or not the program's
}

// errLeft ends a sitting because the person wants it.
var errLeft = errors.New("you ended the session")

// sit opens a session, joins the person to its program, and returns an exitCode with what the program ended with. What the
// person leaves does not live on: the node is told.
func (a *app) sit(ctx context.Context, v *visit, s auth.Session, in io.Reader) error {
	signed, id, err := v.sign(v.at, s)
	if err != nil {
		return err
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	// Before the session begins: none that is pressed meanwhile is lost. A pipe that nobody reads is no reason to die with a
	// raw terminal: writing to it fails.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signals, release := a.passSignals(ctx, leave)
	defer release()
	conn, _, err := v.open(ctx, v.at, signed)
	if err != nil {
		return left(ctx, err)
	}
	t := &sitting{app: a, visit: v, id: id, first: conn}
	client := attach.Client{
		Open: t.connect, Terminal: len(s.Terminal) > 0, Stdin: in, Stdout: a.stdout, Stderr: a.stderr, Signals: signals, Notice: t.notice, Line: t.line,
	}
	if client.Terminal && in != nil && isTerminal(in) {
		if t.terminal, err = a.takeTerminal(); err != nil {
			v.leave(v.at, id)
			return err
		}
		defer t.terminal.giveBack()
		client.Stdin, client.Stdout = &typing{sitting: t, from: in, leave: leave}, t.terminal
		client.Resizes = a.terminalSizes(ctx, t.terminal.redraw)
	}
	exit, err := client.Run(ctx)
	switch {
	case err == nil && exit.Why == "":
		return t.programsEnd(exit)
	case err == nil && neverRan(exit):
		if t.terminal != nil {
			t.terminal.giveBack()
		}
		t.say("on %s: %s", v.at.Name, exit.Why)
		return exitCode(exit.Code)
	}
	if t.terminal != nil {
		t.terminal.calm() // the program did not end by itself, and may have left the screen to nobody
		t.terminal.giveBack()
	}
	if err != nil {
		v.leave(v.at, id)
		return left(ctx, err)
	}
	return fleet.Errorf(fleet.Expired, "the session on %s was ended: %s", v.at.Name, exit.Why).Hinted("muster session show %s --node %s", id, v.at.Name)
}

// left says that it was the person who ended it, if so.
func left(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errLeft) {
		return fleet.Errorf(fleet.Expired, "%w", errLeft)
	}
	return err
}

// neverRan reports whether the end is a shell's word for a program that is not there, or cannot be run.
func neverRan(exit flow.Exit) bool {
	return exit.Signal == "" && (exit.Code == 126 || exit.Code == 127)
}

// programsEnd is what this program exits with when that on the node has ended: its own code, or 128 and the signal's number, as
// shells have it.
func (t *sitting) programsEnd(exit flow.Exit) error {
	if exit.Signal == "" {
		return exitCode(exit.Code & 0xff)
	}
	if t.terminal != nil {
		t.terminal.giveBack()
	}
	if exit.Signal != "PIPE" { // nobody reads here any more, and wants no words
		t.say("on %s: ended by SIG%s", t.at.Name, exit.Signal)
	}
	return exitCode(codeOfSignal(exit.Signal))
}

// connect gives the attachment its first connection, and others when that was lost.
func (t *sitting) connect(ctx context.Context, have uint64) (io.ReadWriteCloser, uint64, error) {
	if conn := t.first; conn != nil {
		t.first = nil
		return conn, 0, nil
	}
	conn, theirs, err := t.attach(ctx, t.at, t.id, have)
	if err != nil {
		return nil, 0, err
	}
	return conn, theirs, nil
}

// tell writes a line of muster's own beside the program's output.
func (t *sitting) tell(format string, args ...any) {
	if t.terminal == nil {
		t.say(format, args...)
		return
	}
	text := printable(fmt.Sprintf(format, args...))
	fmt.Fprintf(t.stderr, "\r\n%s\r\n", strings.ReplaceAll(text, "\n", "\r\n")) // a raw terminal returns no carriage
}

func (t *sitting) notice(text string) { t.tell("%s: %s", t.at.Name, text) }

// line tells of a node that is not heard. On a terminal that takes the top line of the screen for as long.
func (t *sitting) line(s attach.State) {
	switch {
	case t.terminal == nil && s.Silent:
		t.say("nothing is heard from %s; the session goes on when it is back", t.at.Name)
	case t.terminal == nil:
		t.say("%s is back", t.at.Name)
	case s.Silent:
		t.terminal.bar("nothing is heard from " + printable(t.at.Name) + "; what you type waits (Enter ~. ends the session)")
	default:
		t.terminal.unbar()
	}
}

// passSignals hands what is meant for the program to it: Ctrl-C where the terminal sends it here, and Ctrl-\. The second
// Ctrl-C, and what ends programs, ends the session.
func (a *app) passSignals(ctx context.Context, leave func(error)) (<-chan flow.Signal, func()) {
	out := make(chan flow.Signal, 4)
	pressed, release := a.interrupts()
	others := make(chan os.Signal, 4)
	signal.Notify(others, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		interrupted := false
		for {
			select {
			case <-ctx.Done():
				return
			case <-pressed:
				if interrupted {
					leave(errLeft)
					return
				}
				interrupted = true
				out <- "INT"
			case s := <-others:
				if s != syscall.SIGQUIT {
					leave(errLeft)
					return
				}
				select {
				case out <- "QUIT":
				default: // nobody takes them: the node is not heard
				}
			}
		}
	}()
	return out, func() { signal.Stop(others); release() }
}

// typing is what the person types for the program: all but the escapes.
type typing struct {
	*sitting
	from  io.Reader
	leave func(error)
	found escapes
	rest  []byte // read, and not looked at
	ready []byte // for the program
	err   error
}

// Read returns what is for the program.
func (t *typing) Read(p []byte) (int, error) {
	for len(t.ready) == 0 {
		if t.err != nil {
			return 0, t.err
		}
		if len(t.rest) == 0 {
			buffer := make([]byte, len(p))
			n, err := t.from.Read(buffer)
			t.rest, t.err = buffer[:n], err
		}
		var act escapeAct
		t.ready, act, t.rest = t.found.take(t.rest)
		t.do(act)
		if t.err != nil && len(t.rest) == 0 {
			t.ready = append(t.ready, t.found.rest()...)
		}
	}
	n := copy(p, t.ready)
	t.ready = t.ready[n:]
	return n, nil
}

func (t *typing) do(act escapeAct) {
	switch act {
	case actNone:
	case actEnd:
		t.leave(errLeft)
	case actHelp:
		t.tell("%s", escapeHelp)
	case actSuspend:
		t.tell("suspended; fg brings the session back")
		if err := t.terminal.suspend(); err != nil {
			t.leave(err)
		}
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGWINCH) // its size may have changed meanwhile
	}
}

// codeOfSignal is what shells call the end by a signal: 128 and its number.
func codeOfSignal(name string) int {
	if number := unix.SignalNum("SIG" + name); number != 0 {
		return 128 + int(number)
	}
	return exitOurs
}
