package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// MaxInputs bounds what an act reads of its inputs, in bytes: documents have 64 KiB, and a nested one carries those it may
// need.
const MaxInputs = 16 << 20

// Exit codes beside steps.ExitInvalidPlatform and those of the tools that are called.
const (
	exitFailed  = 1
	exitInputs  = 2                          // the inputs are wrong
	exitStopped = 128 + int(syscall.SIGTERM) // somebody stopped it
)

// Main performs one act: the last of args is its name, behind what Argv has put there; stdin is its inputs in JSON. It returns the
// process's exit code.
func Main(args []string, ways Ways, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	h, err := newHost(os.Environ(), stdout, stderr)
	if err == nil {
		h.ways = ways
		args = h.cutOptions(args)
		err = h.main(ctx, args, stdin)
	}
	return h.verdict(ctx, err)
}

func (h host) main(ctx context.Context, args []string, stdin io.Reader) error {
	if len(args) != 1 {
		return fleet.Errorf(fleet.Invalid, "an act has one name")
	}
	inputs, err := io.ReadAll(io.LimitReader(stdin, MaxInputs+1))
	switch {
	case err != nil:
		return fleet.Errorf(fleet.Unavailable, "the inputs cannot be read: %w", err)
	case len(inputs) > MaxInputs:
		return fleet.Errorf(fleet.Exhausted, "the inputs have more than %d bytes", MaxInputs)
	}
	return h.act(ctx, args[0], inputs)
}

// act performs an act by its name.
func (h host) act(ctx context.Context, name string, inputs []byte) error {
	switch name {
	case document.ActDownload:
		return decoded(inputs, func(in document.Download) error { return h.download(ctx, in) })
	case document.ActPackage:
		return decoded(inputs, func(in document.Package) error { return h.software(ctx, in) })
	case document.ActDocker:
		return decoded(inputs, func(in document.Docker) error { return h.docker(ctx, in) })
	case document.ActDocument:
		return decoded(inputs, func(in document.Nested) error { return h.nested(ctx, in) })
	case document.ActUpgrade:
		return decoded(inputs, func(in document.Upgrade) error { return h.upgrade(ctx, in) })
	case document.ActInventory:
		return notBuilt("aws:softwareInventory gathers an inventory, and inventories")
	case document.ActAssociation:
		return notBuilt("aws:refreshAssociation applies associations, and associations")
	}
	return fleet.Errorf(fleet.Invalid, "there is no act %q; the document is for a newer muster", name)
}

func notBuilt(what string) error {
	return fleet.Errorf(fleet.Unavailable, "not built yet: %s are not there in this version", what)
}

// exitError is a failure whose exit code is somebody else's: that of the tool that was called, which has said why.
type exitError struct {
	what string
	code int
}

func (e *exitError) Error() string {
	if e.code <= 0 {
		return e.what
	}
	return fmt.Sprintf("%s: exit code %d", e.what, e.code)
}

// signalError is the end of a program by a signal.
type signalError struct {
	what   string
	signal syscall.Signal
}

func (e *signalError) Error() string { return e.what + ": " + e.signal.String() }

// wrongHost is a failure because this host lacks what it takes.
type wrongHost struct{ why *fleet.Error }

func (w *wrongHost) Error() string { return w.why.Error() }

func (w *wrongHost) Unwrap() error { return w.why }

func invalidPlatform(format string, args ...any) error {
	return &wrongHost{fleet.Errorf(fleet.Invalid, format, args...)}
}

// verdict says on stderr what went wrong, and returns the exit code.
func (h host) verdict(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		h.say("stopped")
		return exitStopped
	}
	h.explain(err)
	return exitCode(err)
}

// explain says on stderr what went wrong, and what mends it.
func (h host) explain(err error) {
	h.say("%s", oneLine(err.Error()))
	if e, ok := errors.AsType[*fleet.Error](err); ok && e.Hint != "" {
		h.say("  → %s", oneLine(e.Hint))
	}
}

// exitCode returns an error's. Those that mean something to the run are no tool's to give: they become a plain failure.
func exitCode(err error) int {
	if _, ok := errors.AsType[*wrongHost](err); ok {
		return steps.ExitInvalidPlatform
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return plainCode(e.code)
	}
	if fleet.KindOf(err) == fleet.Invalid {
		return exitInputs
	}
	return exitFailed
}

func plainCode(code int) int {
	switch code {
	case steps.ExitSuccess, steps.ExitFailed, steps.ExitReboot, steps.ExitInvalidPlatform:
		return exitFailed
	}
	if code <= 0 || code > 255 {
		return exitFailed
	}
	return code
}

// oneLine keeps an error readable in a log: other people's words are in it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}
