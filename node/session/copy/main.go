package copy

import (
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// Main is the far end of a copy: a process of the account whose files are copied, which speaks the language over its
// standard input and output, and does no more than its arguments say (talk.Grant.Words). Paths begin where the process does: at
// the account's home. It returns the exit code: 0 if all went well, 1 if not; the other end has heard why.
func Main(args []string, stdin io.Reader, stdout, _ io.Writer) int {
	from, stop := untilSignal(stdin)
	defer stop()
	total, err := answer(newLine(from, stdout), args)
	if err != nil || total.Failed > 0 {
		return 1
	}
	return 0
}

// answer does what the first message asks for.
func answer(l *line, args []string) (Total, error) {
	ask, b, err := admitted(l, args)
	if err != nil {
		_ = l.now(talk.Fatal{Problem: talk.ProblemOf(err)})
		return Total{}, err
	}
	if ask.Put {
		return receive(l, b, Order{To: tilde(ask.Paths[0])}, talk.Inbox{Deep: ask.Deep, Resume: ask.Resume}, ask.Into)
	}
	if to := b.elsewhere(ask.Paths); len(to) > 0 {
		err := &Elsewhere{Paths: to}
		if said := l.now(talk.Elsewhere{Paths: to}); fleet.KindOf(said) == fleet.Exhausted { // so many links
			_ = l.now(talk.Fatal{Problem: talk.ProblemOf(err.plain())})
		}
		return Total{}, err
	}
	return send(l, b, Order{Sources: ask.Paths, Deep: ask.Deep, Resume: ask.Resume})
}

// admitted hears the first message, and holds it to what was signed.
func admitted(l *line, args []string) (talk.Ask, *bounds, error) {
	ask, err := hearAsk(l)
	if err != nil {
		return ask, nil, err
	}
	g, err := talk.GrantOf(args)
	if err != nil {
		return ask, nil, err
	}
	b, err := boundsOf(g)
	if err == nil {
		err = b.admit(ask)
	}
	return ask, b, err
}

func hearAsk(l *line) (talk.Ask, error) {
	m, err := l.hear()
	if err != nil {
		return talk.Ask{}, err
	}
	ask, ok := m.(talk.Ask)
	switch {
	case !ok || len(ask.Paths) == 0 || (ask.Put && len(ask.Paths) != 1):
		return ask, fleet.Errorf(fleet.Invalid, "the other end does not ask for a copy")
	case ask.Version != talk.Version:
		return ask, fleet.Errorf(fleet.Invalid, "this node speaks version %d of copies, not %d", talk.Version, ask.Version).
			Hinted("the same muster on both hosts speaks the same")
	}
	return ask, nil
}

// untilSignal returns standard input as it is read until somebody ends this process kindly, so that a copy that is ended
// leaves nothing half done.
func untilSignal(stdin io.Reader) (io.Reader, func()) {
	file, ok := stdin.(*os.File)
	if !ok {
		return stdin, func() {}
	}
	fd, err := unix.Dup(int(file.Fd()))
	if err != nil || unix.SetNonblock(fd, true) != nil { // else a read could not be ended
		return stdin, func() {}
	}
	from := os.NewFile(uintptr(fd), "stdin")
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) // a write to who is gone is an error, not the end of the process
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGHUP, unix.SIGTERM, unix.SIGINT)
	go func() {
		for range signals {
			from.Close()
		}
	}()
	return from, func() {
		signal.Stop(signals)
		close(signals)
	}
}
