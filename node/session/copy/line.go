package copy

import (
	"bufio"
	"errors"
	"io"
	"sync"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// line speaks the language over two streams of bytes. One goroutine hears; any may say.
type line struct {
	from    *bufio.Reader
	payload []byte

	mu sync.Mutex
	to *bufio.Writer
}

// frameSize is that of the largest frame.
const frameSize = talk.HeaderSize + talk.MaxPayload

func newLine(from io.Reader, to io.Writer) *line {
	return &line{
		from: bufio.NewReaderSize(from, 2*frameSize), payload: make([]byte, talk.MaxPayload),
		to: bufio.NewWriterSize(to, frameSize),
	}
}

// errBrokenOff is what either end sees when the other is gone.
var errBrokenOff = fleet.Errorf(fleet.Unavailable, "the copy broke off: the other end is gone")

// hear returns the next message. Data is good until the next call.
func (l *line) hear() (talk.Message, error) {
	var header [talk.HeaderSize]byte
	if _, err := io.ReadFull(l.from, header[:]); err != nil {
		return nil, lost(err)
	}
	kind, size, err := talk.Header(header)
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(l.from, l.payload[:size]); err != nil {
		return nil, lost(err)
	}
	return talk.Decode(kind, l.payload[:size])
}

// lost says what a failing stream means; what the caller's own stream says of itself is kept.
func lost(err error) error {
	if _, ok := errors.AsType[*fleet.Error](err); ok {
		return err
	}
	return errBrokenOff
}

// say puts a message behind those said before; flush sends them.
func (l *line) say(m talk.Message) error {
	frame, err := talk.Encode(m)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.put(frame)
}

// put takes a whole frame. The caller holds the lock.
func (l *line) put(frame []byte) error {
	if _, err := l.to.Write(frame); err != nil {
		return lost(err)
	}
	return nil
}

// data says the frame of bytes that were read behind room for a header.
func (l *line) data(frame []byte) error {
	talk.DataHeader(frame, len(frame)-talk.HeaderSize)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.put(frame)
}

func (l *line) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.to.Flush(); err != nil {
		return lost(err)
	}
	return nil
}

// now says a message and sends it.
func (l *line) now(m talk.Message) error {
	if err := l.say(m); err != nil {
		return err
	}
	return l.flush()
}
