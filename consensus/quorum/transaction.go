package quorum

import (
	"encoding/binary"
	"hash/fnv"
	"io"

	"github.com/muster-fleet/muster/node/fleet"
)

// bbolt ends each transaction by writing one of two meta pages, the first of the file. A page: 16 bytes of header, then
// u32 magic, u32 version, u32 page size, 36 bytes of no interest here, u64 transaction, u64 FNV-1a over what is before
// behind the header. In the byte order of the host (bbolt's internal/common/meta.go).
const (
	metaHeader  = 16
	metaBytes   = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2
)

// newestTx reads the number of the newest transaction from bbolt's file: raft-boltdb does not tell it, and counting
// commits would miss one whose sync failed after its meta page was written.
func newestTx(file io.ReaderAt) (uint64, error) {
	first, pageSize, err := readMeta(file, 0)
	if err != nil {
		return 0, err
	}
	second, _, err := readMeta(file, int64(pageSize))
	if err != nil {
		return 0, err
	}
	return max(first, second), nil
}

func readMeta(file io.ReaderAt, at int64) (tx uint64, pageSize uint32, err error) {
	var page [metaHeader + metaBytes]byte
	if _, err := file.ReadAt(page[:], at); err != nil {
		return 0, 0, fleet.Errorf(fleet.Unavailable, "cannot read bbolt's meta page: %w", err)
	}
	meta, order := page[metaHeader:], binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(meta[:metaBytes-8])
	if order.Uint32(meta) != metaMagic || order.Uint32(meta[4:]) != metaVersion || order.Uint64(meta[metaBytes-8:]) != sum.Sum64() {
		return 0, 0, fleet.Errorf(fleet.Internal, "bbolt's meta page at %d is damaged, or of an unknown version", at)
	}
	return order.Uint64(meta[metaBytes-16:]), order.Uint32(meta[8:]), nil
}
