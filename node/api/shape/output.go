package shape

import (
	"fmt"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Policy is what a host judges by.
type Policy struct {
	Format int    `json:"format"`
	Text   string `json:"text"` // Cedar
}

// Store is one part of a host's data folder.
type Store struct {
	What  string `json:"what"`
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Bound int64  `json:"bound_bytes"` // 0: none of its own
	Items int64  `json:"items"`
	Free  int64  `json:"disk_free_bytes"`
}

// Decision is one thing that a node decided about a command.
type Decision struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"`
	Detail string    `json:"detail"`
}

// Order is the body of POST /v1/direct: the bytes of exec.Order.Encode, in base64.
type Order struct {
	Order []byte `json:"order"`
}

// OutputAsk is the body of POST /v1/output/NODE.
type OutputAsk struct {
	Statement []byte `json:"statement"`
	Stream    string `json:"stream"` // stdout or stderr
	From      int64  `json:"from,omitzero"`
	To        int64  `json:"to,omitzero"` // the byte behind the last; 0: to the end
	Follow    bool   `json:"follow,omitzero"`
}

// OutputHead is what a node says of one output of a run.
type OutputHead struct {
	Size   int64     `json:"size"`
	Kept   int64     `json:"kept"`
	Digest *fleet.ID `json:"digest,omitempty"`
	Cut    bool      `json:"cut"`
	Ended  bool      `json:"ended"`
}

// OfDecisions returns the shape of all.
func OfDecisions(all []exec.Decision) []Decision {
	out := make([]Decision, 0, len(all))
	for _, d := range all {
		out = append(out, Decision{At(d.At), d.What, d.Detail})
	}
	return out
}

// Decisions returns what OfDecisions was given.
func Decisions(all []Decision) []exec.Decision {
	out := make([]exec.Decision, 0, len(all))
	for _, d := range all {
		out = append(out, exec.Decision{At: Milli(d.At), What: d.What, Detail: d.Detail})
	}
	return out
}

// OfOutputAsk returns the shape of a request for output; statement is the encoded signed read.
func OfOutputAsk(statement []byte, ask exec.OutputAsk) OutputAsk {
	return OutputAsk{statement, ask.Stream, ask.From, ask.To, ask.Follow}
}

// Ask returns what OfOutputAsk was given.
func (a OutputAsk) Ask() exec.OutputAsk {
	return exec.OutputAsk{Stream: a.Stream, From: a.From, To: a.To, Follow: a.Follow}
}

// OfOutputHead returns the shape of h.
func OfOutputHead(h exec.OutputHead) OutputHead {
	out := OutputHead{Size: h.Sum.Size, Kept: h.Sum.Kept, Cut: h.Sum.Cut, Ended: h.Ended}
	if !h.Sum.Digest.IsZero() {
		out.Digest = &h.Sum.Digest
	}
	return out
}

// Head returns what OfOutputHead was given.
func (h OutputHead) Head() exec.OutputHead {
	out := exec.OutputHead{Sum: exec.OutputSum{Size: h.Size, Kept: h.Kept, Cut: h.Cut}, Ended: h.Ended}
	if h.Digest != nil {
		out.Sum.Digest = *h.Digest
	}
	return out
}

// ASCII writes JSON text without other characters than printable ASCII.
func ASCII(text []byte) []byte {
	var out []byte
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r >= ' ' && r < 0x7f:
			out = append(out, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out
}
