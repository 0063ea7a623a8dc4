package runner

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// The ledger file, all numbers big endian:
//
//	0     header  magic[16] format u16 ID[32] created i64 horizon i64 capacity u64 SHA-256 of these
//	1024  mark    sequence u64 end u64 chain[32] SHA-256 of the header's sum and these
//	2048  mark    the same; the two are written in turn
//	4096  pages   records (see exec), none across a page's end, zeros behind the last in a page and behind the last page
//
// A batch never leaves its page, so that a write that power loss tore harms one page and nothing before the batch. A mark
// is written only after what it covers was synced: below it, nothing bad can be a torn write.
const (
	ledgerFormat = 1
	pageSize     = 4096
	markSize     = 8 + 8 + 32 + sha256.Size
	headerSize   = 16 + 2 + 32 + 8 + 8 + 8 + sha256.Size
)

var (
	ledgerMagic = [16]byte{'m', 'u', 's', 't', 'e', 'r', ' ', 'l', 'e', 'd', 'g', 'e', 'r', '\n'}
	markOffsets = [2]int64{1024, 2048}
)

// header is the start of a ledger file.
type header struct {
	ID       fleet.ID // random, kept through compaction
	Created  time.Time
	Horizon  time.Time // see exec.Ledger
	Capacity int64     // the file's size: a file of another size was truncated or grown by somebody else
}

// encode returns the header and its sum, which is the chain's first link.
func (h header) encode() ([]byte, fleet.ID) {
	b := append([]byte(nil), ledgerMagic[:]...)
	b = binary.BigEndian.AppendUint16(b, ledgerFormat)
	b = append(b, h.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(unixNano(h.Created)))
	b = binary.BigEndian.AppendUint64(b, uint64(unixNano(h.Horizon)))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Capacity))
	sum := fleet.Sum(b)
	return append(b, sum[:]...), sum
}

func decodeHeader(b []byte) (header, fleet.ID, error) {
	var h header
	if len(b) < headerSize || !bytes.Equal(b[:16], ledgerMagic[:]) {
		return h, fleet.ID{}, fleet.Errorf(fleet.Invalid, "this is not a ledger")
	}
	body := b[:headerSize-sha256.Size]
	sum := fleet.Sum(body)
	if sum != fleet.ID(b[headerSize-sha256.Size:headerSize]) {
		return h, sum, fleet.Errorf(fleet.Invalid, "the header does not match its checksum")
	}
	if v := binary.BigEndian.Uint16(body[16:]); v != ledgerFormat {
		return h, sum, fleet.Errorf(fleet.Invalid, "format %d is not known to this version (%d is)", v, ledgerFormat)
	}
	copy(h.ID[:], body[18:50])
	h.Created = fromUnixNano(int64(binary.BigEndian.Uint64(body[50:])))
	h.Horizon = fromUnixNano(int64(binary.BigEndian.Uint64(body[58:])))
	h.Capacity = int64(binary.BigEndian.Uint64(body[66:]))
	return h, sum, nil
}

// mark says up to where the file was synced.
type mark struct {
	Seq   uint64
	End   int64
	Chain fleet.ID
}

func (m mark) encode(headerSum fleet.ID) []byte {
	b := binary.BigEndian.AppendUint64(nil, m.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(m.End))
	b = append(b, m.Chain[:]...)
	sum := markSum(headerSum, b)
	return append(b, sum[:]...)
}

func decodeMark(b []byte, headerSum fleet.ID) (mark, bool) {
	body, sum := b[:markSize-sha256.Size], b[markSize-sha256.Size:markSize]
	if markSum(headerSum, body) != fleet.ID(sum) {
		return mark{}, false
	}
	m := mark{Seq: binary.BigEndian.Uint64(body), End: int64(binary.BigEndian.Uint64(body[8:]))}
	copy(m.Chain[:], body[16:])
	return m, true
}

func markSum(headerSum fleet.ID, body []byte) fleet.ID {
	return fleet.Sum(append(headerSum[:], body...))
}

// newestMark picks the newer of the two marks in the first page. A new file has one, so none at all is damage.
func newestMark(first []byte, headerSum fleet.ID) (mark, error) {
	var newest mark
	for _, off := range markOffsets {
		if m, ok := decodeMark(first[off:off+markSize], headerSum); ok && m.Seq > newest.Seq {
			newest = m
		}
	}
	if newest.Seq == 0 {
		return newest, damaged(markOffsets[0], "neither mark matches its checksum")
	}
	return newest, nil
}

// scanned is what a ledger file holds.
type scanned struct {
	Header  header
	Sum     fleet.ID // of the header
	Mark    mark     // the newest
	Records []exec.Record
	End     int64    // where the next record may go
	Chain   fleet.ID // sum of the last record
	Torn    int64    // where a torn append begins; 0 if there is none. Its page must be zeroed from there on
}

// damage says where a ledger cannot be trusted.
type damage struct {
	Offset int64
	Why    string
}

func (d *damage) Error() string { return fmt.Sprintf("byte %d: %s", d.Offset, d.Why) }

func damaged(off int64, format string, args ...any) error {
	return &damage{off, fmt.Sprintf(format, args...)}
}

// scan reads a whole ledger of the given size. Its error is *damage unless reading failed.
func scan(r io.ReaderAt, size int64) (scanned, error) {
	s, err := scanHeader(r, size)
	if err != nil {
		return s, err
	}
	page := make([]byte, pageSize)
	s.End, s.Chain = pageSize, s.Sum
	for off := int64(pageSize); off < size; off += pageSize {
		if err := readFull(r, page, off); err != nil {
			return s, err
		}
		used, err := s.scanPage(page, off)
		if err != nil {
			return s, s.tornOr(r, off, size, err)
		}
		if used == 0 {
			break
		}
	}
	if err := s.lost(); err != nil {
		return s, err
	}
	if off, err := firstNonZero(r, roundUp(s.End), size); err != nil || off >= 0 {
		return s, orDamage(err, roundUp(s.End), "a page of records is gone: there is more at byte %d", off)
	}
	return s, nil
}

func scanHeader(r io.ReaderAt, size int64) (scanned, error) {
	var s scanned
	if size < 2*pageSize {
		return s, damaged(size, "the file is cut short")
	}
	first := make([]byte, pageSize)
	if err := readFull(r, first, 0); err != nil {
		return s, err
	}
	var err error
	if s.Header, s.Sum, err = decodeHeader(first); err != nil {
		return s, damaged(0, "%v", err)
	}
	if s.Header.Capacity != size || size%pageSize != 0 {
		return s, damaged(size, "the file has %d bytes, its header says %d", size, s.Header.Capacity)
	}
	s.Mark, err = newestMark(first, s.Sum)
	return s, err
}

// scanPage reads the records of one page, and returns how many bytes they take.
func (s *scanned) scanPage(page []byte, off int64) (int, error) {
	at := 0
	for at+4 <= len(page) && binary.BigEndian.Uint32(page[at:]) != 0 {
		record, sum, n, err := exec.DecodeRecord(page[at:], s.Chain)
		if err != nil {
			return at, damaged(off+int64(at), "%v", err)
		}
		s.Records = append(s.Records, record)
		s.Chain, at = sum, at+n
		s.End = off + int64(at)
	}
	if i := indexNonZero(page[at:]); i >= 0 {
		return at, damaged(off+int64(at), "the record is gone: there is more at byte %d", off+int64(at+i))
	}
	return at, nil
}

// lost reports records that were synced and are not there: the last one ends before the mark.
func (s *scanned) lost() error {
	if s.End < s.Mark.End {
		return damaged(s.End, "%d bytes that were synced are gone", s.Mark.End-s.End)
	}
	return nil
}

// tornOr decides whether what is bad in the page at off is the remains of a torn append: all that was ever synced lies
// before it, and the rest of the file is zeros.
func (s *scanned) tornOr(r io.ReaderAt, off, size int64, bad error) error {
	at := bad.(*damage).Offset
	if at < s.Mark.End {
		return bad
	}
	if err := s.lost(); err != nil {
		return err
	}
	more, err := firstNonZero(r, off+pageSize, size)
	if err != nil || more >= 0 {
		return orDamage(err, at, "%s, and there is more at byte %d", bad.(*damage).Why, more)
	}
	s.Torn, s.End = at, at
	return nil
}

func orDamage(err error, off int64, format string, args ...any) error {
	if err != nil {
		return err
	}
	return damaged(off, format, args...)
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	if n, err := r.ReadAt(p, off); n < len(p) {
		return fmt.Errorf("read at byte %d: %w", off, err)
	}
	return nil
}

// firstNonZero returns the offset of the first byte that is not zero in [from, to), or -1.
func firstNonZero(r io.ReaderAt, from, to int64) (int64, error) {
	buf := make([]byte, max(0, min(256<<10, to-from)))
	for from < to {
		p := buf[:min(int64(len(buf)), to-from)]
		if err := readFull(r, p, from); err != nil {
			return -1, err
		}
		if i := indexNonZero(p); i >= 0 {
			return from + int64(i), nil
		}
		from += int64(len(p))
	}
	return -1, nil
}

func indexNonZero(p []byte) int {
	for i, b := range p {
		if b != 0 {
			return i
		}
	}
	return -1
}

func roundUp(n int64) int64 { return (n + pageSize - 1) / pageSize * pageSize }

// place returns where in the file a record of n bytes goes when the records so far end at end: behind them, or at the
// start of the next page when it would cross into it.
func place(end int64, n int) int64 {
	if end/pageSize != (end+int64(n)-1)/pageSize {
		return roundUp(end)
	}
	return end
}

// layOut encodes records for a file whose pages hold nothing yet. It returns the pages' bytes and the chain.
func layOut(records []exec.Record, chain fleet.ID) ([]byte, fleet.ID) {
	var out []byte
	for _, r := range records {
		data, sum := exec.AppendRecord(nil, chain, r)
		out = append(out, make([]byte, place(int64(len(out)), len(data))-int64(len(out)))...)
		out, chain = append(out, data...), sum
	}
	return out, chain
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromUnixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
