package fleet

import (
	"errors"
	"fmt"
)

// Kind says what sort of thing went wrong. The list is closed: kinds cross the wire and map to exit codes.
type Kind uint8

// The kinds, with what a caller can do about each.
const (
	Internal    Kind = iota // a broken promise of ours: report it
	Invalid                 // the input is wrong: mend it
	Denied                  // policy, signature or role says no: ask who may
	NotFound                // no such thing
	Conflict                // something else has the name, or it has changed meanwhile
	Unavailable             // nobody answers now: try again
	Expired                 // its time is over
	Exhausted               // a limit is reached: disk, uses, size
)

var kindNames = [...]string{"internal", "invalid", "denied", "not-found", "conflict", "unavailable", "expired", "exhausted"}

// String returns the kind's name on the wire and in JSON.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// ParseKind reads a kind's name; an unknown one is Internal.
func ParseKind(name string) Kind {
	for i, n := range kindNames {
		if n == name {
			return Kind(i)
		}
	}
	return Internal
}

// Error is an error for people: what went wrong and where, and, in Hint, the command or act that mends it.
type Error struct {
	Kind Kind
	What string // one line, lower case, no full stop
	Hint string // what to type or do; may be empty
	Err  error  // the cause; may be nil
}

// Error returns what and cause, without the hint.
func (e *Error) Error() string {
	if _, said := e.Err.(silent); said || e.Err == nil {
		return e.What
	}
	return e.What + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of a kind; %w keeps the cause.
func Errorf(kind Kind, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Kind: kind, What: wrapped.Error(), Err: silent{errors.Unwrap(wrapped)}.orNil()}
}

// silent keeps a cause for errors.Is without printing it again.
type silent struct{ error }

func (s silent) orNil() error {
	if s.error == nil {
		return nil
	}
	return s
}

func (s silent) Unwrap() error { return s.error }

// Hinted returns e with the line that mends it.
func (e *Error) Hinted(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// KindOf returns the kind of the first Error in err's chain, Internal for any other error.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
