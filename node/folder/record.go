package folder

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// The record file is {header line, then per act: u32 length, canonical act, first 8 bytes of the chain's head}. The
// chain is the record's own, so that a damaged act shows where it stands.
const (
	maxAct    = 32 << 10
	chainSize = 8
)

// LoadRecord reads and verifies every act. A last act that was cut by a crash is dropped: it was not acknowledged to
// anybody and comes again from the peers. Anything else that does not hold is damage.
func (f *Folder) LoadRecord(want fleet.ID) (auth.Record, error) {
	record := auth.NewRecord()
	path := filepath.Join(f.dir, "record")
	f.size = int64(len(header("record")))
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return record, nil // the first acts make it
	}
	if err != nil {
		return record, diskError("read", path, err)
	}
	head := header("record")
	if len(data) < len(head) || string(data[:len(head)]) != string(head) {
		return record, mendRecord(damaged(path, "it does not begin as a record"))
	}
	starts, at, err := replay(data, len(head), path, want, &record)
	if err == nil {
		err = f.checkFloor(record, path)
	}
	if err != nil {
		return record, mendRecord(err)
	}
	if f.record, err = os.OpenFile(path, os.O_RDWR, 0o600); err != nil {
		return record, diskError("open", path, err)
	}
	f.size, f.starts, f.kept = int64(at), starts, Floor{Length: record.Length, Head: record.Head}
	if at == len(data) {
		return record, nil
	}
	if err := f.record.Truncate(f.size); err != nil {
		return record, diskError("write", path, err)
	}
	return record, nil
}

func replay(data []byte, at int, path string, want fleet.ID, record *auth.Record) (starts []int64, end int, err error) {
	for at < len(data) {
		rest := data[at:]
		if len(rest) < 4 {
			return starts, at, nil
		}
		size := int(binary.BigEndian.Uint32(rest))
		if size > maxAct {
			return nil, at, fleet.Errorf(fleet.Invalid, "%s is damaged at byte %d: an act of %d bytes", path, at, size)
		}
		if len(rest) < 4+size+chainSize {
			return starts, at, nil
		}
		var act auth.Act
		err := wire.Unmarshal(rest[4:4+size], &act)
		if err == nil {
			before := *record
			if *record, err = before.Apply(act, want); err != nil && otherFleets(before, act) {
				return nil, at, fleet.Errorf(fleet.Conflict, "%s is of another fleet than the identity beside it", path).
					Hinted("one of the two was replaced: put back the one that belongs here, or enrol this host in an empty folder")
			}
			if fleet.IsNewer(err) { // the file is whole: a newer program wrote it
				return nil, at, newerRecord(path, err)
			}
		}
		if err != nil {
			return nil, at, fleet.Errorf(fleet.Invalid, "%s is damaged at byte %d: %w", path, at, err)
		}
		if string(rest[4+size:4+size+chainSize]) != string(record.Head[:chainSize]) {
			return nil, at, fleet.Errorf(fleet.Invalid, "%s is damaged at byte %d: its chain differs", path, at)
		}
		starts = append(starts, int64(at))
		at += 4 + size + chainSize
	}
	return starts, at, nil
}

// newerRecord says that this program is too old for what stands in the record, and keeps that apart from damage.
func newerRecord(path string, err error) error {
	e := fleet.Errorf(fleet.KindOf(err), "%s has what this version of muster does not know: %w", path, err)
	if newer, ok := errors.AsType[*fleet.Error](err); ok {
		e.Hint = newer.Hint
	}
	return e
}

// otherFleets reports whether an act that was refused founds some fleet all the same.
func otherFleets(before auth.Record, act auth.Act) bool {
	if before.Length > 0 {
		return false
	}
	_, err := before.Apply(act, fleet.ID{})
	return err == nil
}

// checkFloor refuses a record that is shorter than it once was: somebody put an older copy in place.
func (f *Folder) checkFloor(record auth.Record, path string) error {
	floor, err := f.Floor()
	if err != nil {
		return err
	}
	if record.Length < floor.Length {
		return fleet.Errorf(fleet.Invalid, "%s is cut or old: it has %d acts and once had %d", path, record.Length, floor.Length)
	}
	return nil
}

func mendRecord(err error) error {
	return hint(err, "move the file away, not the others; the host fetches the record again from its peers and verifies it")
}

// AppendActs makes acts durable. heads are the chain's heads after each. Acts that the disk does not take wait in memory,
// in their order, and are tried again with the next ones and with every floor: a full disk leaves no hole in the record.
// What waits at the end of the process comes again from the peers.
func (f *Folder) AppendActs(acts []auth.Act, heads []fleet.ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, act := range acts {
		raw := wire.Marshal(act)
		f.starts = append(f.starts, f.size+int64(len(f.waiting)))
		f.waiting = binary.BigEndian.AppendUint32(f.waiting, uint32(len(raw)))
		f.waiting = append(f.waiting, raw...)
		f.waiting = append(f.waiting, heads[i][:chainSize]...)
		f.heads = append(f.heads, heads[i])
	}
	return f.flush()
}

// flush writes what waits. The caller holds f.mu.
func (f *Folder) flush() error {
	if len(f.waiting) == 0 {
		return nil
	}
	if f.record == nil {
		if err := f.startRecord(); err != nil {
			return err
		}
	} else if err := f.extendRecord(); err != nil {
		return err
	}
	f.size += int64(len(f.waiting))
	f.kept = Floor{Length: uint64(len(f.starts)), Head: f.heads[len(f.heads)-1]}
	f.waiting, f.heads = nil, nil
	return nil
}

// startRecord makes the file with the acts that wait: a record without any would look like one that was cut.
func (f *Folder) startRecord() error {
	path := filepath.Join(f.dir, "record")
	if err := WriteFile(path, append(header("record"), f.waiting...), 0o600); err != nil {
		return err
	}
	var err error
	if f.record, err = os.OpenFile(path, os.O_RDWR, 0o600); err != nil {
		return diskError("open", path, err)
	}
	return nil
}

func (f *Folder) extendRecord() error {
	_, err := f.record.WriteAt(f.waiting, f.size)
	if err == nil {
		err = f.record.Sync()
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, f.record.Truncate(f.size)) // half an act is none
	return diskError("write", f.record.Name(), err)
}

// ReadActs returns acts from a position on (0 is the genesis), up to about maxBytes of them, for peers that lack them.
func (f *Folder) ReadActs(from uint64, maxBytes int) ([]auth.Act, error) {
	f.mu.Lock()
	starts, size, waiting := f.starts, f.size, f.waiting
	f.mu.Unlock()
	var acts []auth.Act
	for used := 0; from < uint64(len(starts)) && used < maxBytes; from++ {
		end := size + int64(len(waiting))
		if from+1 < uint64(len(starts)) {
			end = starts[from+1]
		}
		raw := make([]byte, end-starts[from])
		if starts[from] >= size {
			copy(raw, waiting[starts[from]-size:])
		} else if _, err := f.record.ReadAt(raw, starts[from]); err != nil {
			return nil, diskError("read", f.record.Name(), err)
		}
		var act auth.Act
		if err := wire.Unmarshal(raw[4:len(raw)-chainSize], &act); err != nil {
			return nil, mendRecord(damaged(f.record.Name(), err.Error()))
		}
		acts = append(acts, act)
		used += len(raw)
	}
	return acts, nil
}
