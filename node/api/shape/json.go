package shape

import (
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Format is the version of the shapes. Objects that stand alone carry it.
const Format = 1

// full passes over bytes that are no UTF-8 in a text (a node's detail, a tag): one liar must not silence an answer.
func full() json.Options {
	return json.JoinOptions(jsontext.AllowInvalidUTF8(true), json.WithMarshalers(json.MarshalToFunc(func(enc *jsontext.Encoder, id fleet.ID) error {
		return enc.WriteToken(jsontext.String(id.Text()))
	})))
}

func strict() json.Options {
	return json.JoinOptions(json.RejectUnknownMembers(true), lenient())
}

func lenient() json.Options {
	return json.WithUnmarshalers(json.UnmarshalFromFunc(func(dec *jsontext.Decoder, id *fleet.ID) error {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() != '"' {
			return fleet.Errorf(fleet.Invalid, "an ID must be text of 52 characters")
		}
		parsed, err := fleet.ParseID(token.String())
		*id = parsed
		return err
	}))
}

// Marshal encodes v with IDs in full.
func Marshal(v any) ([]byte, error) { return json.Marshal(v, full()) }

// Unmarshal decodes an answer. Fields that this version does not know are passed over: the agent may be newer.
func Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v, lenient()) }

// Ask decodes one request from r, which the caller has bounded. Fields that this version does not know are errors.
func Ask(r io.Reader, v any) error {
	if err := json.UnmarshalRead(r, v, strict()); err != nil {
		return fleet.Errorf(fleet.Invalid, "malformed request: %w", err)
	}
	return nil
}

// At turns Unix milliseconds into a time; 0 is the zero time, which JSON leaves out. JSON has no times after 9999: what a
// node or a person claims beyond (auth.MaxTime), or from before 1970, becomes the nearest of these, as it must not silence
// the answer that it is part of.
func At(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(min(ms, auth.MaxTime)).UTC()
}

// Milli is At's inverse.
func Milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
