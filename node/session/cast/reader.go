package cast

import (
	"bufio"
	"bytes"
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// maxLine is how long a line of a recording may be, in bytes; the longest of ours have a fifth of that.
const maxLine = 1 << 20

// Keys returns the private key of the auditor whose public key has that hash; nil: it is not at hand.
type Keys func(auditor fleet.ID) []byte

// Reader reads one recording, plain or sealed.
type Reader struct {
	header Header
	sealed *Sealed // nil: plain
	lines  *bufio.Reader
	chunks *chunks // nil: plain
	at     int     // the line that was read last, from 1
	whole  bool
	over   bool
}

// Sealed is what a sealed recording says in the clear.
type Sealed struct {
	Session  fleet.UUID
	Start    time.Time
	Auditors []fleet.ID // hashes of the keys that open it
}

// Open reads a recording's header. keys may be nil for one that is plain. Errors are Invalid (no recording, or damaged), Denied (sealed
// for others) or the reader's own.
func Open(from io.Reader, keys Keys) (*Reader, error) {
	r := &Reader{lines: bufio.NewReaderSize(from, 64<<10)}
	if first, err := r.lines.Peek(len(magic)); err == nil && string(first) == magic {
		if err := r.unseal(keys); err != nil {
			return nil, err
		}
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	first, err := r.line()
	if errors.Is(err, io.EOF) {
		return nil, fleet.Errorf(fleet.Invalid, "the recording was cut off within its header")
	}
	if err != nil {
		return nil, err
	}
	r.header, err = parseHeader(first)
	return r, err
}

// unseal reads the head of a sealed recording and sets the reader on what is in it.
func (r *Reader) unseal(keys Keys) error {
	s, opened, err := readSealed(r.lines, keys)
	if err != nil {
		return err
	}
	r.sealed, r.chunks = &s, &chunks{from: r.lines, box: opened}
	r.lines = bufio.NewReaderSize(r.chunks, 64<<10)
	return nil
}

func readSealed(from io.Reader, keys Keys) (Sealed, box, error) {
	var prefix [len(magic) + 4]byte
	errCut := fleet.Errorf(fleet.Invalid, "the sealed recording was cut off within its head")
	if _, err := io.ReadFull(from, prefix[:]); err != nil {
		return Sealed{}, box{}, errCut
	}
	n := binary.BigEndian.Uint32(prefix[len(magic):])
	if n > maxHead {
		return Sealed{}, box{}, fleet.Errorf(fleet.Invalid, "a sealed recording with a head of %d bytes; it has at most %d", n, maxHead)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(from, body); err != nil {
		return Sealed{}, box{}, errCut
	}
	var head sealHead
	if err := wire.Unmarshal(body, &head); err != nil {
		return Sealed{}, box{}, fleet.Errorf(fleet.Invalid, "the head of the sealed recording is damaged: %w", err)
	}
	s := Sealed{Session: head.Session, Start: time.UnixMilli(head.Start).UTC()}
	for _, k := range head.Keys {
		s.Auditors = append(s.Auditors, k.Auditor)
	}
	key, err := head.unwrap(keys)
	if err != nil {
		return s, box{}, err
	}
	return s, newBox(key, body), nil
}

func (h sealHead) unwrap(keys Keys) ([]byte, error) {
	if len(h.Keys) > MaxAuditors {
		return nil, fleet.Errorf(fleet.Invalid, "a recording sealed for %d auditors; there may be %d", len(h.Keys), MaxAuditors)
	}
	var names []byte
	for _, k := range h.Keys {
		names = append(append(names, ' '), k.Auditor.String()...)
		if keys == nil {
			continue
		}
		private := keys(k.Auditor)
		if private == nil {
			continue
		}
		kem, kdf, aead := suite()
		key, err := kem.NewPrivateKey(private)
		if err != nil || fleet.Sum(key.PublicKey().Bytes()) != k.Auditor {
			return nil, fleet.Errorf(fleet.Denied, "the key at hand is not that of auditor %s", k.Auditor)
		}
		secret, err := hpke.Open(key, kdf, aead, sealInfo(h.Session, h.Start, k.Auditor), k.Wrap)
		if err != nil || len(secret) != keySize {
			return nil, fleet.Errorf(fleet.Invalid, "the recording of session %s was tampered with or damaged: its key does not open for auditor %s", h.Session, k.Auditor)
		}
		return secret, nil
	}
	return nil, fleet.Errorf(fleet.Denied, "the recording of session %s is sealed for auditors whose keys are not at hand:%s", h.Session, names)
}

// Header returns what the recording begins with.
func (r *Reader) Header() Header { return r.header }

// Sealed returns whether the recording is sealed, and what it says in the clear.
func (r *Reader) Sealed() (Sealed, bool) {
	if r.sealed == nil {
		return Sealed{}, false
	}
	return *r.sealed, true
}

// Whole reports, once Next has returned io.EOF, whether the recording has its end. That of a session that lives, or whose host
// died, has none.
func (r *Reader) Whole() bool { return r.whole && (r.chunks == nil || r.chunks.done) }

// Next returns the next event, io.EOF after the last whole one, or an error: Invalid for what is damaged, or the reader's own.
// Codes that are not ours are passed over.
func (r *Reader) Next() (Event, error) {
	var before said
	for {
		text, err := r.line()
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		l, err := parseLine(text)
		if err != nil {
			return nil, r.damaged(err)
		}
		e, now, err := l.event(before)
		if err != nil {
			return nil, r.damaged(err)
		}
		if e != nil {
			end, ok := e.(Remark)
			r.whole = ok && end.Mark == MarkEnd
			return e, nil
		}
		before = now
	}
}

func (r *Reader) damaged(err error) error {
	r.over = true
	return fleet.Errorf(fleet.Invalid, "line %d of the recording is damaged: %w", r.at, err)
}

// line returns the next whole line, valid until the next call; io.EOF when there is none.
func (r *Reader) line() ([]byte, error) {
	if r.over {
		return nil, io.EOF
	}
	r.at++
	text, err := r.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		var all []byte
		for errors.Is(err, bufio.ErrBufferFull) && len(all)+len(text) <= maxLine {
			all = append(all, text...)
			text, err = r.lines.ReadSlice('\n')
		}
		text = append(all, text...)
	}
	switch {
	case len(text) > maxLine:
		return nil, r.damaged(errLong)
	case errors.Is(err, io.EOF): // what stands there was cut off
		r.over = true
		return nil, io.EOF
	case err != nil:
		r.over = true
		return nil, err
	}
	return text[:len(text)-1], nil
}

var errLong = fleet.Errorf(fleet.Invalid, "it is longer than %d bytes", maxLine)

// chunks is the plain recording in a sealed one.
type chunks struct {
	from io.Reader
	box  box
	next uint64
	rest []byte // of the chunk that was opened last
	buf  []byte
	done bool // the last chunk was there, and nothing after it
}

// Read returns io.EOF at the end, and where the file was cut off.
func (c *chunks) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.done {
			return 0, io.EOF
		}
		if err := c.open(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *chunks) open() error {
	var head [4]byte
	if _, err := io.ReadFull(c.from, head[:]); err != nil {
		return cutOr(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	last := n&lastChunk != 0
	n &^= lastChunk
	if n < gcmTag || n > maxChunk+gcmTag {
		return fleet.Errorf(fleet.Invalid, "part %d of the sealed recording has %d bytes; it was tampered with or damaged", c.next+1, n)
	}
	if c.buf == nil {
		c.buf = make([]byte, maxChunk+gcmTag)
	}
	if _, err := io.ReadFull(c.from, c.buf[:n]); err != nil {
		return cutOr(err)
	}
	plain, err := c.box.aead.Open(c.buf[:0], nonce(c.next, last), c.buf[:n], c.box.bound[:])
	if err != nil {
		return fleet.Errorf(fleet.Invalid, "part %d of the sealed recording does not open: it was tampered with or damaged", c.next+1)
	}
	c.next++
	c.rest = plain
	if !last {
		return nil
	}
	if _, err := io.ReadFull(c.from, head[:1]); !errors.Is(err, io.EOF) {
		return fleet.Errorf(fleet.Invalid, "something stands behind the end of the sealed recording: it was tampered with or damaged")
	}
	c.done = true
	return nil
}

// cutOr makes an end in the middle a plain end.
func cutOr(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return io.EOF
	}
	return err
}
