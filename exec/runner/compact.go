package runner

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"

	"github.com/muster-fleet/muster/exec/cage"
)

// compact rewrites what is still needed into the spare and exchanges the two files. The old one becomes the spare. When
// more than half would be full again the new file is larger, if the disk has room for it.
func (j *journal) compact() error {
	records, horizon := j.book.live()
	h := j.header
	h.Horizon = horizon
	layout, _ := layOut(records, fleet.ID{})
	for h.Capacity/2 < int64(len(layout)) {
		h.Capacity += ledgerStep
	}
	spare := filepath.Join(j.dir, spareName)
	raw, next, err := writeLedger(spare, h, records)
	if err != nil && h.Capacity > j.header.Capacity && j.header.Capacity > int64(len(layout))+2*pageSize {
		h.Capacity = j.header.Capacity
		raw, next, err = writeLedger(spare, h, records)
	}
	if err != nil {
		return err
	}
	if err := exchange(spare, filepath.Join(j.dir, ledgerName)); err != nil {
		raw.Close()
		return err
	}
	j.f.Close()
	j.f, j.header, j.mark = j.wrap(osFile{raw}), h, next
	if j.failed = cage.SyncDir(j.dir); j.failed != nil { // after a power cut the old file could be back, without what comes now
		return j.failed
	}
	j.spareTrouble = ensureSpare(j.dir, h.Capacity)
	return nil
}

// exchange swaps two names in one step, or, on file systems that cannot, replaces the second by the first.
func exchange(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return os.Rename(from, to)
	}
	return err
}

func createLedger(dir string, h header) error {
	tmp := filepath.Join(dir, newName)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	raw, _, err := writeLedger(tmp, h, nil)
	if err != nil {
		return err
	}
	raw.Close()
	if err := os.Rename(tmp, filepath.Join(dir, ledgerName)); err != nil {
		return err
	}
	return cage.SyncDir(dir)
}

// writeLedger makes a whole, synced ledger file: every block is written once, so that later writes need no new ones.
func writeLedger(path string, h header, records []exec.Record) (*os.File, mark, error) {
	head, sum := h.encode()
	data, chain := layOut(records, sum)
	m := mark{1, pageSize + int64(len(data)), chain}
	raw, err := zeroed(path, h.Capacity)
	if err != nil {
		return nil, m, err
	}
	first := make([]byte, pageSize)
	copy(first, head)
	copy(first[markOffsets[1]:], m.encode(sum))
	if _, err = raw.WriteAt(first, 0); err == nil {
		_, err = raw.WriteAt(data, pageSize)
	}
	if err == nil {
		err = raw.Sync()
	}
	if err != nil {
		raw.Close()
		return nil, m, err
	}
	return raw, m, nil
}

// zeroed opens path with size bytes of written zeros.
func zeroed(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = f.Truncate(size)
	for off, zeros := int64(0), make([]byte, 1<<20); err == nil && off < size; off += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ensureSpare makes the spare if it is not there in full.
func ensureSpare(dir string, size int64) error {
	path := filepath.Join(dir, spareName)
	if info, err := os.Lstat(path); err == nil && info.Size() == size {
		return nil
	}
	f, err := zeroed(path, size)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
