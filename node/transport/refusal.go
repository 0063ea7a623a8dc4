package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/quic-go/quic-go"

	"github.com/muster-fleet/muster/node/fleet"
)

// Codes with which a connection is closed. From closeRefused on, the code is closeRefused plus a fleet.Kind and the
// reason is one line for people.
const (
	closeGone         quic.ApplicationErrorCode = 0 // shutting down
	closeSuperseded   quic.ApplicationErrorCode = 1 // a better connection to the same peer is there
	closeAnotherFleet quic.ApplicationErrorCode = 2
	closePipeBroke    quic.ApplicationErrorCode = 3 // what it was carried by is gone; said by nobody but ourselves
	closeRefused      quic.ApplicationErrorCode = 0x100
)

// Codes with which a stream is ended before its time.
const (
	streamDone      quic.StreamErrorCode = 0 // the reader has all it wants
	streamDenied    quic.StreamErrorCode = 1 // Gate.Allow said no
	streamNotServed quic.StreamErrorCode = 2 // nothing handles this plane here
	streamBusy      quic.StreamErrorCode = 3 // too many open already
	streamBroken    quic.StreamErrorCode = 4 // the handler failed
	streamCancelled quic.StreamErrorCode = 5 // the opener gave up
)

// ErrAnotherFleet is told from other refusals by its code, so that it can be said without naming either fleet.
var ErrAnotherFleet = fleet.Errorf(fleet.Denied, "another fleet").Hinted("compare the fleet ID on both hosts: muster status")

// closing returns the code and reason with which err is told to the peer.
func closing(err error) (quic.ApplicationErrorCode, string) {
	if errors.Is(err, ErrAnotherFleet) {
		return closeAnotherFleet, ""
	}
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || e.Kind == fleet.Internal {
		return closeRefused + quic.ApplicationErrorCode(fleet.Internal), "internal error" // others' texts stay here
	}
	return closeRefused + quic.ApplicationErrorCode(e.Kind), printable(e.Error())
}

// closed turns the peer's (or our own) CONNECTION_CLOSE into an error for people.
func closed(e *quic.ApplicationError, who string) *fleet.Error {
	switch {
	case e.ErrorCode == closeAnotherFleet:
		return fleet.Errorf(fleet.Denied, "%s belongs to %w", who, ErrAnotherFleet).Hinted("%s", ErrAnotherFleet.Hint)
	case e.ErrorCode == closeSuperseded:
		return &fleet.Error{Kind: fleet.Unavailable, What: "the connection to " + who + " was replaced by another"}
	case e.ErrorCode == closePipeBroke:
		return &fleet.Error{Kind: fleet.Unavailable, What: "lost contact with " + who}
	case e.ErrorCode >= closeRefused && e.ErrorCode <= closeRefused+quic.ApplicationErrorCode(fleet.Exhausted):
		kind := fleet.Kind(e.ErrorCode - closeRefused)
		if e.Remote {
			return &fleet.Error{Kind: kind, What: who + " refused: " + printable(e.ErrorMessage)}
		}
		return &fleet.Error{Kind: kind, What: "closed the connection to " + who + ": " + e.ErrorMessage}
	case e.Remote:
		return &fleet.Error{Kind: fleet.Unavailable, What: who + " closed the connection"}
	}
	return &fleet.Error{Kind: fleet.Unavailable, What: "this node is shutting down"}
}

// broken turns what a read or write on a stream returned into an error for people. io.EOF and passed deadlines stay
// what they are, because callers of a net.Conn look for them.
func broken(err error, who string) error {
	switch {
	case err == nil, err == io.EOF, errors.Is(err, os.ErrDeadlineExceeded):
		return err
	}
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok {
		return closed(e, who)
	}
	if e, ok := errors.AsType[*quic.StreamError](err); ok {
		return ended(e, who)
	}
	switch {
	case isA[*quic.StatelessResetError](err):
		return &fleet.Error{Kind: fleet.Unavailable, What: who + " has restarted"}
	case isA[*quic.IdleTimeoutError](err):
		return &fleet.Error{Kind: fleet.Unavailable, What: "lost contact with " + who}
	}
	return &fleet.Error{Kind: fleet.Unavailable, What: "the connection to " + who + " broke", Err: err}
}

func ended(e *quic.StreamError, who string) error {
	if !e.Remote {
		return &fleet.Error{Kind: fleet.Unavailable, What: "the stream to " + who + " is closed", Err: net.ErrClosed}
	}
	switch e.ErrorCode {
	case streamDenied:
		return &fleet.Error{Kind: fleet.Denied, What: who + " does not let this node speak there (any more)"}
	case streamNotServed:
		return &fleet.Error{Kind: fleet.Unavailable, What: who + " does not serve that"}
	case streamBusy:
		return &fleet.Error{Kind: fleet.Unavailable, What: who + " has too many requests of this node open"} // not begun: may be asked again
	case streamBroken:
		return &fleet.Error{Kind: fleet.Internal, What: who + " failed at it; its log says more"}
	}
	return &fleet.Error{Kind: fleet.Unavailable, What: who + " ended the stream"}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// printable makes a peer's text fit for one line of a terminal: no control characters, at most maxReason bytes.
func printable(text string) string {
	clean := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	for len(clean) > maxReason {
		_, size := utf8.DecodeLastRuneInString(clean)
		clean = clean[:len(clean)-size]
	}
	return clean
}
