package talk

import (
	"encoding/binary"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Version is that of the language; an Ask of another is refused.
const Version = 2

// The sizes of frames: a kind, the length of what follows (big-endian), and that.
const (
	HeaderSize = 1 + 4
	MaxPayload = 64<<10 - HeaderSize // bytes: a frame is two of a session's flow, and a read of a file that costs little
)

// MaxDepth bounds folders within folders. A path has at most 4,096 bytes, so real trees stay far below.
const MaxDepth = 1024

// Window is how many files a sender may name ahead of their content when it resumes, so that asking what the other end
// has costs one round trip for many. Each holds a name and maybe an open file at the receiver.
const Window = 256

// Message is what one end says to the other.
type Message interface{ kind() byte }

// Ask is the first message, from the end that a person sits at.
type Ask struct {
	Version uint8
	Put     bool // that person's end sends
	// Paths are, for a put, the one destination; else the sources, each maybe with a pattern in its last name.
	Paths  []string
	Into   bool // for a put: the destination must be a folder
	Deep   bool // folders with what is in them
	Resume bool // files are named ahead, and the receiver says what it has of each
}

// Folder begins a folder: what follows is in it, until Leave. At the top the name may be empty: what is in it is meant.
type Folder struct {
	Name string
	Mode uint16 // permission bits
	Time int64  // last change, nanoseconds since 1970
}

// File names a file. Its content follows as Body, Data…, Done; at once, unless copies are resumed.
type File struct {
	Name string
	Mode uint16
	Time int64
	Size int64 // bytes; 0 may also be a file that does not say, as those of /proc
}

// Link is a symbolic link, which neither end follows.
type Link struct {
	Name string
	To   string
	Time int64
}

// Leave ends the folder that was begun last.
type Leave struct{}

// Body begins the content of a file that was named: of its bytes from From on.
type Body struct {
	N    uint64
	From int64
}

// Data is bytes of the content. What Decode returns is part of the payload.
type Data []byte

// Done ends the content.
type Done struct {
	Why []Problem // none, or one: why it is not whole
}

// Skipped says what a sender could not read.
type Skipped struct{ Problem Problem }

// End says that there is no more.
type End struct{}

// Have answers a File when copies are resumed, in the order of the Files.
type Have struct {
	N    uint64
	Size int64    // bytes from the beginning of it that are there; 0: none
	Sum  [32]byte // their SHA-256
}

// Failed says that a receiver could not write what a sender named as the N-th.
type Failed struct {
	N       uint64
	Problem Problem
}

// Finished answers End: all that did not fail is in place, and on the disk.
type Finished struct{ Total Total }

// Fatal ends the copy, from either end.
type Fatal struct{ Problem Problem }

// Elsewhere ends a copy before anything was copied: by links, what was asked for lies where the session was not signed for. The
// paths are where.
type Elsewhere struct{ Paths []string }

// Total counts what was copied.
type Total struct {
	Files   uint64 // with those that were there already
	Kept    uint64 // files of a resumed copy that were there already, whole
	Folders uint64
	Links   uint64
	Bytes   uint64 // of content, that crossed the line
	Reused  uint64 // of content, that a resumed copy did not send again
	Failed  uint64 // entries that could not be read or written
}

// Problem is an error on its way to the other end.
type Problem struct {
	Kind uint8
	What string
	Hint string
}

// maxText bounds a line of an error: a path, and words about it.
const maxText = 5000

// ProblemOf makes a message of an error.
func ProblemOf(err error) Problem {
	e, ok := err.(*fleet.Error)
	if !ok {
		e = fleet.Errorf(fleet.KindOf(err), "%w", err)
	}
	return Problem{uint8(e.Kind), shorten(e.Error()), shorten(e.Hint)}
}

func shorten(text string) string { return text[:min(len(text), maxText)] }

// Error makes an error of a message.
func (p Problem) Error() *fleet.Error {
	kind := fleet.Kind(p.Kind)
	if kind > fleet.Exhausted {
		kind = fleet.Internal
	}
	return &fleet.Error{Kind: kind, What: p.What, Hint: p.Hint}
}

// The kinds of frames.
const (
	kindAsk = iota + 1
	kindFolder
	kindFile
	kindLink
	kindLeave
	kindBody
	kindData
	kindDone
	kindSkipped
	kindEnd
	kindHave
	kindFailed
	kindFinished
	kindFatal
	kindElsewhere
)

func (Ask) kind() byte       { return kindAsk }
func (Folder) kind() byte    { return kindFolder }
func (File) kind() byte      { return kindFile }
func (Link) kind() byte      { return kindLink }
func (Leave) kind() byte     { return kindLeave }
func (Body) kind() byte      { return kindBody }
func (Data) kind() byte      { return kindData }
func (Done) kind() byte      { return kindDone }
func (Skipped) kind() byte   { return kindSkipped }
func (End) kind() byte       { return kindEnd }
func (Have) kind() byte      { return kindHave }
func (Failed) kind() byte    { return kindFailed }
func (Finished) kind() byte  { return kindFinished }
func (Fatal) kind() byte     { return kindFatal }
func (Elsewhere) kind() byte { return kindElsewhere }

// Encode returns a message's frame. One that is larger than a frame is Exhausted.
func Encode(m Message) ([]byte, error) {
	body, raw := m.(Data)
	if !raw {
		body = wire.Marshal(m)
	}
	if len(body) > MaxPayload {
		return nil, fleet.Errorf(fleet.Exhausted, "a message takes %d bytes; at most %d", len(body), MaxPayload).
			Hinted("name fewer paths at a time")
	}
	out := make([]byte, HeaderSize, HeaderSize+len(body))
	DataHeader(out, len(body))
	out[0] = m.kind()
	return append(out, body...), nil
}

// DataHeader writes the header of a Data of n bytes to the beginning of frame.
func DataHeader(frame []byte, n int) {
	frame[0] = kindData
	binary.BigEndian.PutUint32(frame[1:], uint32(n))
}

// Header reads the header of a frame: its kind, and how long its payload is.
func Header(frame [HeaderSize]byte) (kind byte, size int, err error) {
	n := binary.BigEndian.Uint32(frame[1:])
	if frame[0] < kindAsk || frame[0] > kindElsewhere || n > MaxPayload {
		return 0, 0, errNoise
	}
	return frame[0], int(n), nil
}

var errNoise = fleet.Errorf(fleet.Invalid, "the other end does not speak the language of copies")

// Decode reads the payload of a frame.
func Decode(kind byte, payload []byte) (Message, error) {
	switch kind {
	case kindAsk:
		return decode[Ask](payload)
	case kindFolder:
		return decode[Folder](payload)
	case kindFile:
		return decode[File](payload)
	case kindLink:
		return decode[Link](payload)
	case kindLeave:
		return decode[Leave](payload)
	case kindBody:
		return decode[Body](payload)
	case kindData:
		return Data(payload), nil
	case kindDone:
		return decode[Done](payload)
	case kindSkipped:
		return decode[Skipped](payload)
	case kindEnd:
		return decode[End](payload)
	case kindHave:
		return decode[Have](payload)
	case kindFailed:
		return decode[Failed](payload)
	case kindFinished:
		return decode[Finished](payload)
	case kindFatal:
		return decode[Fatal](payload)
	case kindElsewhere:
		return decode[Elsewhere](payload)
	}
	return nil, errNoise
}

func decode[M Message](payload []byte) (Message, error) {
	var m M
	if err := wire.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	return m, nil
}
