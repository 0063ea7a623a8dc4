package report

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A value: {u32 CRC-32C, big endian; u64 received in Unix milliseconds, big endian; envelope in canonical msgpack}. The
// sum also covers the bucket's name and the key, so that a value cannot be read under another.
const entryHead = 4 + 8

// maxEntry bounds a value: head, body, signature, key and framing.
const maxEntry = entryHead + max(exec.MaxReport, MaxFacts) + 512

// maxSignature is twice an Ed25519 signature, so that the format outlives it.
const maxSignature = 128

func sealEntry(scope, key []byte, received int64, e auth.Envelope) []byte {
	out := make([]byte, entryHead, entryHead+len(e.Body)+256)
	binary.BigEndian.PutUint64(out[4:], uint64(received))
	out = append(out, wire.Marshal(e)...)
	binary.BigEndian.PutUint32(out, entrySum(scope, key, out))
	return out
}

func openEntry(scope, key, value []byte) (e auth.Envelope, err error) {
	if len(value) < entryHead || len(value) > maxEntry || entrySum(scope, key, value) != binary.BigEndian.Uint32(value) {
		return e, fleet.Errorf(fleet.Internal, "the value does not match its checksum")
	}
	err = wire.Unmarshal(value[entryHead:], &e)
	return e, err
}

// receivedAt reads when a value came, without looking at the rest.
func receivedAt(value []byte) int64 {
	if len(value) < entryHead {
		return 0
	}
	return int64(binary.BigEndian.Uint64(value[4:]))
}

func entrySum(scope, key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Update(0, table, scope), table, key)
	return crc32.Update(sum, table, value[4:])
}

// issued returns when a statement's signer made it: every body begins with a header. One without counts as the oldest.
func issued(body []byte) int64 {
	if wire.Scan(body) != nil {
		return 0
	}
	dec := msgpack.NewDecoder(bytes.NewReader(body))
	if n, err := dec.DecodeArrayLen(); err != nil || n < 1 {
		return 0
	}
	first, err := dec.DecodeRaw()
	var h auth.Header
	if err != nil || wire.Unmarshal(first, &h) != nil {
		return 0
	}
	return h.Issued
}

// An age key: {u64 Unix milliseconds, big endian; command}, so that keys sort by time.

func ageKey(ms int64, command []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(max(ms, 0))), command...)
}

func openAgeKey(k []byte) (ms int64, command []byte) {
	return int64(binary.BigEndian.Uint64(k)), k[8:]
}
