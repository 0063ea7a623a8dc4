package quorum

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/muster-fleet/muster/node/fleet"
)

// A log entry is stored by raft-boltdb (its index is its key, raft.Log in msgpack its value) and carries a seal in
// raft.Log.Extensions, on disk as between servers: u8 format 1, then 16 bytes of SHA-256 over index, term, type and data.
const (
	sealFormat = 1
	sealSize   = 17
	entryHead  = 112 // bytes of a stored entry beside its data: names, numbers, seal, time
)

// entrySize is about what an entry takes in the file.
func entrySize(entry *raft.Log) int64 { return entryHead + int64(len(entry.Data)) }

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

// readEntry reads an entry and checks its seal. An entry that cannot be trusted is a damaged error.
func readEntry(from *raftboltdb.BoltStore, index uint64, entry *raft.Log) error {
	var read raft.Log // an empty one: what a damaged record does not name would keep the value that is there
	err := from.GetLog(index, &read)
	if errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return err
	}
	if err != nil {
		return damagef("log entry %d is damaged: %w", index, err)
	}
	if read.Index != index || !bytes.Equal(read.Extensions, seal(&read)) {
		return damagef("log entry %d is damaged: its checksum is wrong", index)
	}
	*entry = read
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
