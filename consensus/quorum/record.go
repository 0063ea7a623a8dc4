package quorum

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// A log entry on disk: u8 format 1, u64 term, u8 type, i64 appended (Unix ns), 17 bytes seal, data. Big endian. Its
// index is its key. The seal travels to the other servers in raft.Log.Extensions: u8 format 1, then 16 bytes of
// SHA-256 over index, term, type and data.
const (
	recordFormat = 1
	sealFormat   = 1
	sealSize     = 17
	recordHead   = 1 + 8 + 1 + 8 + sealSize
)

// seal returns the checksum of an entry as it goes into Extensions.
func seal(entry *raft.Log) []byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[0:], entry.Index)
	binary.BigEndian.PutUint64(head[8:], entry.Term)
	head[16] = byte(entry.Type)
	hash := sha256.New()
	hash.Write(head[:])
	hash.Write(entry.Data)
	return append([]byte{sealFormat}, hash.Sum(nil)[:sealSize-1]...)
}

// sealed puts the seal on an entry that has none (this server is the leader that made it), and checks the seal of one
// that came from elsewhere.
func sealed(entry *raft.Log) error {
	want := seal(entry)
	if len(entry.Extensions) == 0 {
		entry.Extensions = want
		return nil
	}
	if !bytes.Equal(entry.Extensions, want) {
		return fleet.Errorf(fleet.Internal, "log entry %d (term %d) arrived damaged", entry.Index, entry.Term)
	}
	return nil
}

// encodeRecord returns the bytes of a sealed entry on disk.
func encodeRecord(entry *raft.Log) []byte {
	out := make([]byte, 0, recordHead+len(entry.Data))
	out = append(out, recordFormat)
	out = binary.BigEndian.AppendUint64(out, entry.Term)
	out = append(out, byte(entry.Type))
	var appended int64
	if !entry.AppendedAt.IsZero() {
		appended = entry.AppendedAt.UnixNano()
	}
	out = binary.BigEndian.AppendUint64(out, uint64(appended))
	out = append(out, entry.Extensions...)
	return append(out, entry.Data...)
}

// decodeRecord reads an entry from disk and checks it. It copies: bytes from the database die with their transaction.
func decodeRecord(index uint64, record []byte, entry *raft.Log) error {
	if len(record) < recordHead || record[0] != recordFormat {
		return fleet.Errorf(fleet.Internal, "log entry %d is damaged", index)
	}
	*entry = raft.Log{
		Index:      index,
		Term:       binary.BigEndian.Uint64(record[1:]),
		Type:       raft.LogType(record[9]),
		Extensions: bytes.Clone(record[18:recordHead]),
		Data:       bytes.Clone(record[recordHead:]),
	}
	if appended := int64(binary.BigEndian.Uint64(record[10:])); appended != 0 {
		entry.AppendedAt = time.Unix(0, appended)
	}
	if !bytes.Equal(entry.Extensions, seal(entry)) {
		return fleet.Errorf(fleet.Internal, "log entry %d is damaged: its checksum is wrong", index)
	}
	return nil
}

// A stable value on disk (term, vote): 16 bytes of SHA-256 over key, zero, value; then the value.
const stableSum = 16

func sumStable(key, value []byte) []byte {
	hash := sha256.New()
	hash.Write(key)
	hash.Write([]byte{0})
	hash.Write(value)
	return hash.Sum(nil)[:stableSum]
}

func encodeStable(key, value []byte) []byte {
	return append(sumStable(key, value), value...)
}

func decodeStable(key, record []byte) ([]byte, error) {
	if len(record) < stableSum || !bytes.Equal(record[:stableSum], sumStable(key, record[stableSum:])) {
		return nil, fleet.Errorf(fleet.Internal, "the stored %s is damaged", key)
	}
	return bytes.Clone(record[stableSum:]), nil
}
