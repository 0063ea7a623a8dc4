package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A frame is u32 length of the body (big endian), u8 kind, body.
const frameHeader = 4 + 1

// KindError is the frame kind that carries an error; callers use the others.
const KindError byte = 0xff

// firstChunk is what is allocated for a frame before any of its body is there: a length alone costs no memory.
const firstChunk = 16 << 10

// errorBody is the body of a KindError frame.
type errorBody struct {
	Kind string
	What string
	Hint string
}

func encodeError(err error) []byte {
	body := errorBody{Kind: fleet.Internal.String(), What: "internal error"} // others' texts may name what is ours alone
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		body = errorBody{e.Kind.String(), printable(e.Error()), printable(e.Hint)}
	}
	return wire.Marshal(body)
}

func decodeError(data []byte) error {
	var body errorBody
	if err := wire.Unmarshal(data, &body); err != nil {
		return err
	}
	return &fleet.Error{Kind: fleet.ParseKind(body.Kind), What: printable(body.What), Hint: printable(body.Hint)}
}

func appendFrame(b []byte, kind byte, body []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, kind)
	return append(b, body...)
}

// readFrame reads one frame of at most limit bytes. It returns io.EOF only where a frame could have begun.
func readFrame(r io.Reader, limit int) (byte, []byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, cutShort(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if uint64(size) > uint64(limit) {
		return 0, nil, fleet.Errorf(fleet.Exhausted, "frame of %d bytes; at most %d", size, limit)
	}
	body := make([]byte, 0, min(int(size), firstChunk))
	for len(body) < int(size) {
		have := len(body)
		if have == cap(body) {
			body = append(make([]byte, 0, min(2*have, int(size))), body...)
		}
		n, err := io.ReadFull(r, body[have:cap(body)])
		body = body[:have+n]
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, cutShort(err)
		}
	}
	return head[4], body, nil
}

func cutShort(err error) error {
	if err == io.ErrUnexpectedEOF {
		return fleet.Errorf(fleet.Unavailable, "the peer ended the stream in the middle of a frame")
	}
	return err
}

// ReadFrame reads a frame within the plane's limit. An error frame comes back as a *fleet.Error, what does not fit as one
// of kind Exhausted, and the orderly end of the stream as io.EOF.
func (s *Stream) ReadFrame() (kind byte, body []byte, err error) {
	return s.ReadFrameOf(s.link.limits.frame)
}

// ReadFrameOf is ReadFrame of a frame whose body has at most that many bytes, for a reader who expects less than the plane
// lets through.
func (s *Stream) ReadFrameOf(most int) (kind byte, body []byte, err error) {
	kind, body, err = readFrame(s, min(most, s.link.limits.frame))
	if err == nil && kind == KindError {
		return 0, nil, decodeError(body)
	}
	return kind, body, err
}

// WriteFrame writes a frame within the plane's limit.
func (s *Stream) WriteFrame(kind byte, body []byte) error {
	if err := s.link.limits.fits(body, s.link.plane); err != nil {
		return err
	}
	_, err := s.Write(appendFrame(make([]byte, 0, frameHeader+len(body)), kind, body))
	return err
}

// WriteError writes err as an error frame: kind, one line and hint of a *fleet.Error; of any other error nothing but
// that there was one.
func (s *Stream) WriteError(err error) error { return s.WriteFrame(KindError, encodeError(err)) }

func (l planeLimits) fits(body []byte, plane Plane) error {
	if len(body) > l.frame {
		return fleet.Errorf(fleet.Exhausted, "frame of %d bytes; at most %d on %s", len(body), l.frame, plane)
	}
	return nil
}

// Ask makes one request on a stream that was opened for it: it writes a frame, reads the answer, and closes the stream.
// The end of ctx ends it at once.
func (s *Stream) Ask(ctx context.Context, kind byte, body []byte) (byte, []byte, error) {
	defer s.Close()
	if err := s.link.limits.fits(body, s.link.plane); err != nil {
		return 0, nil, err
	}
	defer context.AfterFunc(ctx, s.Abort)()
	wrote := s.WriteFrame(kind, body)
	if wrote == nil {
		_ = s.CloseWrite() // fails only where the peer reads no more, and then its own word counts
	}
	// The answer is read even if the request could not be written to its end: a peer that refuses early says why.
	gotKind, got, err := s.ReadFrame()
	switch {
	case err == nil:
		return gotKind, got, nil
	case ctx.Err() != nil:
		return 0, nil, &fleet.Error{Kind: fleet.Unavailable, What: "no answer in time from " + s.link.who(), Err: context.Cause(ctx)}
	case wrote != nil:
		return 0, nil, wrote
	case err == io.EOF:
		return 0, nil, fleet.Errorf(fleet.Unavailable, "%s ended the stream without an answer", s.link.who())
	}
	return 0, nil, err
}

// Answer makes a StreamFunc out of a function from request to answer: it reads one frame, writes what answer returns, an
// error as an error frame, and closes the stream. It is the other end of Request and Ask.
func Answer(answer func(s *Stream, kind byte, body []byte) (byte, []byte, error)) StreamFunc {
	return func(s *Stream) {
		defer s.Close()
		kind, body, err := s.ReadFrame()
		if err == nil {
			kind, body, err = answer(s, kind, body)
		}
		if err != nil {
			_ = s.WriteError(err) // the peer is gone then, and with it whom to tell
			return
		}
		if err := s.WriteFrame(kind, body); err != nil {
			_ = s.WriteError(err) // too long an answer is said, not cut
		}
	}
}
