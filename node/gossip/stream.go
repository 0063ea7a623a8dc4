package gossip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// Bounds of one push/pull. memberlist would allocate for a million nodes and 20 MiB on a peer's word.
const (
	maxStateNodes = 20_000 // twice the largest fleet aimed at
	nodeStateSize = 768    // one node's state: a name, a tag, versions
	maxErrorText  = 1024
)

// stateHeader begins a push/pull, after the type byte.
type stateHeader struct {
	Nodes        int
	UserStateLen int
	Join         bool
}

// headerRoom holds any header: three keys of 5, 12 and 4 characters, two numbers and a bool. The first node's state
// behind it is longer than that, so peeking so far never waits in vain.
const headerRoom = 1 + 48

// guardedConn lets one push/pull through, both ways, without serf's part of it: membership goes by memberlist's part,
// and serf's could make members seem to leave and fill memory with events.
type guardedConn struct {
	net.Conn
	incoming bool
	from     io.Reader // nil until the first Read
	closed   func()
	once     sync.Once
}

func guard(conn net.Conn, incoming bool, closed func()) *guardedConn {
	return &guardedConn{Conn: conn, incoming: incoming, closed: closed}
}

// Close closes the stream, once.
func (c *guardedConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.Conn.Close()
		c.closed()
	})
	return err
}

// Read checks the header before it hands anything on.
func (c *guardedConn) Read(p []byte) (int, error) {
	if c.from == nil {
		from, err := c.check()
		if err != nil {
			return 0, err
		}
		c.from = from
	}
	return c.from.Read(p)
}

func (c *guardedConn) check() (io.Reader, error) {
	r := bufio.NewReader(c.Conn)
	first, err := r.Peek(1)
	if err != nil {
		return nil, err
	}
	switch {
	case first[0] == msgPushPull:
	case first[0] == msgError && !c.incoming:
		return io.LimitReader(r, maxErrorText), nil
	default:
		return nil, fmt.Errorf("gossip: stream of type %d refused", first[0])
	}
	head, err := r.Peek(headerRoom)
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	h, _, err := readHeader(head[1:])
	if err != nil {
		return nil, err
	}
	if h.Nodes < 1 || h.Nodes > maxStateNodes || h.UserStateLen != 0 {
		return nil, fmt.Errorf("gossip: state of %d nodes and %d bytes refused", h.Nodes, h.UserStateLen)
	}
	return io.LimitReader(r, int64(headerRoom+h.Nodes*nodeStateSize)), nil
}

// Write takes serf's part off a push/pull, which memberlist writes in one piece.
func (c *guardedConn) Write(p []byte) (int, error) {
	out, err := withoutUserState(p)
	if err != nil {
		return 0, err
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func withoutUserState(p []byte) ([]byte, error) {
	if len(p) == 0 || p[0] != msgPushPull {
		return p, nil
	}
	h, length, err := readHeader(p[1:])
	if err != nil {
		return nil, err
	}
	nodes := p[1+length:]
	if h.UserStateLen < 0 || h.UserStateLen > len(nodes) {
		return nil, errHeader
	}
	nodes = nodes[:len(nodes)-h.UserStateLen]
	h.UserStateLen = 0
	return append(encodeList(msgPushPull, h), nodes...), nil
}

var errHeader = errors.New("gossip: malformed state header")

// readHeader reads {Nodes, UserStateLen, Join}, each once, and returns how many bytes it took.
func readHeader(data []byte) (stateHeader, int, error) {
	var h stateHeader
	r := bytes.NewReader(data)
	dec := msgpack.NewDecoder(r)
	if n, err := dec.DecodeMapLen(); err != nil || n != 3 {
		return h, 0, errHeader
	}
	seen := make(map[string]bool, 3)
	for range 3 {
		key, err := readKey(r)
		if err != nil || seen[key] {
			return h, 0, errHeader
		}
		seen[key] = true
		switch key {
		case "Nodes":
			h.Nodes, err = dec.DecodeInt()
		case "UserStateLen":
			h.UserStateLen, err = dec.DecodeInt()
		case "Join":
			h.Join, err = dec.DecodeBool()
		default:
			err = errHeader
		}
		if err != nil {
			return h, 0, errHeader
		}
	}
	return h, len(data) - r.Len(), nil
}

// readKey reads a string of at most 31 bytes, without allocating for what a longer one would claim.
func readKey(r *bytes.Reader) (string, error) {
	code, err := r.ReadByte()
	if err != nil || code&0xe0 != 0xa0 {
		return "", errHeader
	}
	key := make([]byte, code&0x1f)
	_, err = io.ReadFull(r, key)
	return string(key), err
}
