package action

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/muster-fleet/muster/node/fleet"
)

// decoded reads inputs and does something with them. What it does not know it refuses: it could be what matters.
func decoded[T any](inputs []byte, do func(T) error) error {
	var v T
	d := json.NewDecoder(bytes.NewReader(inputs))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return fleet.Errorf(fleet.Invalid, "the inputs cannot be read: %w", withoutText(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fleet.Errorf(fleet.Invalid, "the inputs cannot be read: more follows")
	}
	return do(v)
}

// withoutText keeps values out of a decoding error: they may be secrets.
func withoutText(err error) error {
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return errors.New(te.Field + " is of another type")
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return errors.New("not JSON")
	}
	return err
}
