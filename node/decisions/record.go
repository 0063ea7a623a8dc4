package decisions

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"unicode/utf8"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// A record: {marker; u16 length of the body; u32 CRC-32C of length and body; body}. The body: {u64 sequence; command; i64
// Unix milliseconds; u8 length of what; what; detail}, all integers big endian. The marker begins with bytes that no text
// holds, so that a reader finds the next record behind damage, and no detail passes for one.
const (
	marker     = "\xff\xfem1"
	recordHead = len(marker) + 2 + 4
	bodyHead   = 8 + 16 + 8 + 1
	maxBody    = bodyHead + exec.MaxDecisionWhat + exec.MaxDecisionDetail
)

// record is a decision with its place among all of this host. One without a command says that some are missing there.
type record struct {
	seq      uint64
	command  fleet.UUID
	decision exec.Decision
}

// appendRecord appends the encoded record to dst. The decision must be bounded.
func appendRecord(dst []byte, r record) []byte {
	from := len(dst)
	dst = append(dst, marker...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(bodyHead+len(r.decision.What)+len(r.decision.Detail)))
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, r.seq)
	dst = append(dst, r.command[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.decision.At))
	dst = append(dst, byte(len(r.decision.What)))
	dst = append(append(dst, r.decision.What...), r.decision.Detail...)
	binary.BigEndian.PutUint32(dst[from+len(marker)+2:], sumOf(dst[from:]))
	return dst
}

// size returns how many bytes a record takes.
func (r record) size() int64 {
	return int64(recordHead + bodyHead + len(r.decision.What) + len(r.decision.Detail))
}

func sumOf(data []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, data[len(marker):len(marker)+2])
	return crc32.Update(sum, table, data[recordHead:])
}

// openBody reads a body whose checksum is right.
func openBody(body []byte) (r record, ok bool) {
	if len(body) < bodyHead || bodyHead+int(body[bodyHead-1]) > len(body) {
		return r, false
	}
	r.seq = binary.BigEndian.Uint64(body)
	copy(r.command[:], body[8:])
	r.decision.At = int64(binary.BigEndian.Uint64(body[24:]))
	text := body[bodyHead:]
	if !utf8.Valid(text) {
		return r, false
	}
	what := int(body[bodyHead-1])
	r.decision.What, r.decision.Detail = string(text[:what]), string(text[what:])
	return r, true
}

// found is one thing in a file: a record, or bytes that are none.
type found struct {
	record  record // of damaged bytes: the one behind them; zero at the end of the file
	damaged int64  // bytes; 0: record is one
}

// scan reads a file from its beginning. What is damaged is passed over up to the next record, and reported in its place. The
// error is the reader's: what lies behind it could not be read.
func scan(in io.Reader, each func(found) error) error {
	r := bufio.NewReaderSize(in, 32<<10)
	bad := int64(0)
	tell := func(behind record) error {
		if bad == 0 {
			return nil
		}
		was := bad
		bad = 0
		return each(found{damaged: was, record: behind})
	}
	for {
		head, err := r.Peek(recordHead)
		if len(head) == 0 {
			if err := tell(record{}); err != nil {
				return err
			}
			if err == io.EOF {
				return nil
			}
			return err
		}
		rec, size := next(r, head)
		if size == 0 {
			n, _ := r.Discard(skip(r))
			bad += int64(n)
			continue
		}
		if err := tell(rec); err != nil {
			return err
		}
		if err := each(found{record: rec}); err != nil {
			return err
		}
		_, _ = r.Discard(size)
	}
}

// next reads the record that begins here; a size of 0: there is none.
func next(r *bufio.Reader, head []byte) (rec record, size int) {
	if len(head) < recordHead || string(head[:len(marker)]) != marker {
		return rec, 0
	}
	size = recordHead + int(binary.BigEndian.Uint16(head[len(marker):]))
	if size > recordHead+maxBody {
		return rec, 0
	}
	all, _ := r.Peek(size)
	if len(all) < size || sumOf(all) != binary.BigEndian.Uint32(all[len(marker)+2:]) {
		return rec, 0
	}
	rec, ok := openBody(all[recordHead:])
	if !ok {
		return rec, 0
	}
	return rec, size
}

// skip returns how many bytes to pass over: up to where a marker may begin.
func skip(r *bufio.Reader) int {
	chunk, _ := r.Peek(max(1, r.Buffered()))
	if at := bytes.IndexByte(chunk[1:], marker[0]); at >= 0 {
		return at + 1
	}
	return len(chunk)
}
