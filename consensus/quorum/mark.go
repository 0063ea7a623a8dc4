package quorum

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"sync"

	"github.com/muster-fleet/muster/node/fleet"
)

// marking is what the mark file remembers of a replica: how far its files had come at least. Files that are behind it
// have been rolled back.
type marking struct {
	Incarnation uint64
	Tx          uint64 // bbolt's highest transaction
	Snapshot    uint64 // index of the newest snapshot
}

// The mark file has two slots, written in turn, so that one torn by a power cut leaves the other. A slot: "mark1", 3
// bytes zero, u64 incarnation, u64 tx, u64 snapshot, 16 bytes of SHA-256 over what is before.
const (
	markMagic = "mark1\x00\x00\x00"
	markSlot  = 512 // a sector each
	markBody  = 32
	markSize  = markBody + 16
)

func (m marking) encode() []byte {
	out := []byte(markMagic)
	out = binary.BigEndian.AppendUint64(out, m.Incarnation)
	out = binary.BigEndian.AppendUint64(out, m.Tx)
	out = binary.BigEndian.AppendUint64(out, m.Snapshot)
	sum := sha256.Sum256(out)
	return append(out, sum[:markSize-markBody]...)
}

func decodeMarking(slot []byte) (marking, bool) {
	if len(slot) < markSize || string(slot[:8]) != markMagic {
		return marking{}, false
	}
	sum := sha256.Sum256(slot[:markBody])
	if !bytes.Equal(sum[:markSize-markBody], slot[markBody:markSize]) {
		return marking{}, false
	}
	return marking{
		Incarnation: binary.BigEndian.Uint64(slot[8:]),
		Tx:          binary.BigEndian.Uint64(slot[16:]),
		Snapshot:    binary.BigEndian.Uint64(slot[24:]),
	}, true
}

// newest returns the furthest of the slots that can be read.
func newest(file []byte) (best marking, found bool) {
	for slot := range 2 {
		if len(file) < slot*markSlot {
			break
		}
		if m, ok := decodeMarking(file[slot*markSlot:]); ok && (!found || m.Tx >= best.Tx && m.Snapshot >= best.Snapshot) {
			best, found = m, true
		}
	}
	return best, found
}

// mark is the open mark file. It is written behind each commit and not synced: a power cut may leave it behind the
// database, which is harmless, and never ahead of it.
type mark struct {
	mu   sync.Mutex
	file *os.File
	now  marking
	turn int
}

// createMark starts the mark of a new replica, durably.
func createMark(path string, incarnation uint64) (*mark, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot create %s: %w", path, err)
	}
	m := &mark{file: file, now: marking{Incarnation: incarnation}}
	if err := errors.Join(m.write(), m.write(), file.Sync()); err != nil {
		return nil, errors.Join(fleet.Errorf(fleet.Unavailable, "cannot write %s: %w", path, err), file.Close())
	}
	return m, nil
}

// openMark opens the mark of a replica; found is false when there is none that can be read.
func openMark(path string) (m *mark, found bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fleet.Errorf(fleet.Unavailable, "cannot read %s: %w", path, err)
	}
	now, found := newest(data)
	if !found {
		return nil, false, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, fleet.Errorf(fleet.Unavailable, "cannot open %s: %w", path, err)
	}
	return &mark{file: file, now: now}, true, nil
}

// committed notes that transaction tx is durable.
func (m *mark) committed(tx uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Tx = max(m.now.Tx, tx)
	return m.write()
}

// stored notes that a snapshot at index is durable.
func (m *mark) stored(index uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Snapshot = max(m.now.Snapshot, index)
	return m.write()
}

func (m *mark) write() error {
	m.turn = 1 - m.turn
	_, err := m.file.WriteAt(m.now.encode(), int64(m.turn)*markSlot)
	return err
}

func (m *mark) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(m.file.Sync(), m.file.Close())
}
