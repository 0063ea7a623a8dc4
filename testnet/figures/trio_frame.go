package main

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A frame between a trio and its clients: u32 length of what follows, u32 id, u8 kind, body.
const (
	trioPut   = 'p' // body: u16 length of the key, key, value
	trioGet   = 'g' // body: key; answer: value
	trioStale = 's' // the same, without asking anybody
	trioError = 'e' // body: text

	trioHead  = 5
	trioFrame = 1 << 20
)

func appendTrioFrame(to []byte, id uint32, kind byte, body []byte) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(trioHead+len(body)))
	to = binary.BigEndian.AppendUint32(to, id)
	to = append(to, kind)
	return append(to, body...)
}

func readTrioFrame(in io.Reader) (id uint32, kind byte, body []byte, err error) {
	var head [4 + trioHead]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < trioHead || size > trioFrame {
		return 0, 0, nil, fmt.Errorf("a frame of %d bytes", size)
	}
	body = make([]byte, size-trioHead)
	_, err = io.ReadFull(in, body)
	return binary.BigEndian.Uint32(head[4:]), head[8], body, err
}

func trioItem(key string, value []byte) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(len(key)))
	out = append(out, key...)
	return append(out, value...)
}

func splitTrioItem(item []byte) (key string, value []byte, ok bool) {
	if len(item) < 2 {
		return "", nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(item))
	if n > len(item) {
		return "", nil, false
	}
	return string(item[2:n]), item[n:], true
}
