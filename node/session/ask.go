package session

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// What the agent asks of a supervisor. A connection begins with one ask, which is answered by a reply; askAttach goes on with
// flow, askLook with what is shown, and askFollow has a second reply when the session has ended.
const (
	askFollow = 'F' // answered when the program runs, or cannot; and when it has ended
	askAttach = 'A' // with Have, answered with Have
	askState  = 'S' // answered with the vital signs
	askKill   = 'K' // with the reason in Text
	askLook   = 'L' // with who it is in Text; answered, and then what is shown as cast has it
)

// ask is what the agent says first.
type ask struct {
	Kind byte
	Have uint64
	Text string
}

// reply is what it hears.
type reply struct {
	Failed   []failure // none or one: why not
	Have     uint64
	Active   int64 // Unix milliseconds
	Attached bool
	In       int64
	Out      int64
	Recorded int64
	Sealed   bool
}

// failure is a *fleet.Error on its way between processes.
type failure struct {
	Kind string
	What string
	Hint string
}

func failureOf(err error) failure {
	f := failure{Kind: fleet.KindOf(err).String(), What: err.Error()}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		f.Hint = e.Hint
	}
	return f
}

// err is the failure of a reply, or nil.
func (r reply) err() error {
	for _, f := range r.Failed {
		return &fleet.Error{Kind: fleet.ParseKind(f.Kind), What: f.What, Hint: f.Hint}
	}
	return nil
}

// maxAsk bounds one message on the socket, in bytes.
const maxAsk = 16 << 10

// say writes a message: u8 format, u32 length, body.
func say(to io.Writer, v any) error {
	body := wire.Marshal(v)
	out := append([]byte{noteFormat}, binary.BigEndian.AppendUint32(nil, uint32(len(body)))...)
	_, err := to.Write(append(out, body...))
	return err
}

// hear reads a message, and not a byte more.
func hear(from io.Reader, v any) error {
	var head [5]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return err
	}
	if head[0] != noteFormat {
		return fleet.Errorf(fleet.Unavailable, "this session is kept by another version of muster (format %d, not %d)", head[0], noteFormat).
			Hinted("end it and open another one: muster session kill ID")
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxAsk {
		return fleet.Errorf(fleet.Invalid, "a message of %d bytes; at most %d", size, maxAsk)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(from, body); err != nil {
		return err
	}
	return wire.Unmarshal(body, v)
}
