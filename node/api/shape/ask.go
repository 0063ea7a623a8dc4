package shape

import (
	"errors"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/fleet"
)

// Entry is the body of POST /v1/entries: the bytes of consensus.Encode, in base64.
type Entry struct {
	Entry []byte `json:"entry"`
}

// Statement is the body of POST /v1/read and /v1/watch: the canonical msgpack of the signed envelope, in base64.
type Statement struct {
	Statement []byte `json:"statement"`
}

// Result is what an entry came to. A refusal is an answer, not an error of the API.
type Result struct {
	Accepted bool      `json:"accepted"`
	Act      uint64    `json:"act"`
	Time     time.Time `json:"time"`
	Error    *Error    `json:"error,omitempty"`
}

// Error is something that went wrong, for people.
type Error struct {
	Kind string `json:"kind"`
	What string `json:"what"`
	Hint string `json:"hint,omitempty"`
}

// Failure is the body of every answer that is none.
type Failure struct {
	Error Error `json:"error"`
	// Refused says that the fleet itself refused an entry: nothing was taken. Without it nobody may have answered, and the
	// entry may have been taken all the same.
	Refused bool `json:"refused,omitzero"`
}

// OfResult returns the shape of r.
func OfResult(r consensus.Result) Result {
	out := Result{Accepted: r.Why == "", Act: r.Act, Time: At(r.Time)}
	if r.Why != "" {
		out.Error = &Error{r.Kind.String(), r.Why, r.Hint}
	}
	return out
}

// Result returns what OfResult was given.
func (r Result) Result() consensus.Result {
	out := consensus.Result{Act: r.Act, Time: Milli(r.Time)}
	if r.Error != nil {
		out.Kind, out.Why, out.Hint = fleet.ParseKind(r.Error.Kind), r.Error.What, r.Error.Hint
	}
	return out
}

// OfError returns the shape of err.
func OfError(err error) Error {
	out := Error{Kind: fleet.KindOf(err).String(), What: err.Error()}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		out.Hint = e.Hint
	}
	return out
}

// Err returns the error.
func (e Error) Err() error {
	return &fleet.Error{Kind: fleet.ParseKind(e.Kind), What: e.What, Hint: e.Hint}
}
