package folder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-fleet/muster/node/auth"
)

// quarantineName is the file of a host that shall do nothing any more. Nothing but agent generalize removes it.
const quarantineName = "quarantine"

// Quarantine is why and since when a host does nothing any more.
type Quarantine struct {
	Since int64 // Unix milliseconds
	Why   string
	Seen  uint64 // the sequence that somebody else told under this host's key
}

// Quarantine reads whether the host shall do nothing any more. A damaged file says that it shall not.
func (f *Folder) Quarantine() (Quarantine, bool) {
	var q Quarantine
	err := f.read(quarantineName, &q)
	if errors.Is(err, fs.ErrNotExist) {
		return Quarantine{}, false
	}
	if err != nil {
		q = Quarantine{}
		if info, err := os.Stat(filepath.Join(f.dir, quarantineName)); err == nil {
			q.Since = info.ModTime().UnixMilli()
		}
	}
	return q, true
}

// PutQuarantine has the host do nothing any more, in this life and every later one. On a full disk the members' addresses
// make room for it.
func (f *Folder) PutQuarantine(q Quarantine) error {
	err := f.write(quarantineName, q)
	if err != nil && f.quarantineByName(q.Since) {
		return nil
	}
	return err
}

// quarantineByName gives a file that is there the name that counts, whatever it says: that takes no room.
func (f *Folder) quarantineByName(since int64) bool {
	path := filepath.Join(f.dir, quarantineName)
	if os.Rename(filepath.Join(f.dir, "peers"), path) != nil {
		return false
	}
	_ = os.Chtimes(path, time.UnixMilli(since), time.UnixMilli(since)) // only the date that people read hangs on it
	return syncDir(f.dir) == nil
}

// QuarantineOf reads whether the host in dir shall do nothing any more, while its agent has the folder.
func QuarantineOf(dir string) (Quarantine, bool) { return (&Folder{dir: dir}).Quarantine() }

// readmitName is the file by which an operator ends a quarantine at the next start.
const readmitName = "readmit"

// PutReadmit leaves an operator's word for the next start of the host in dir.
func PutReadmit(dir string, signed auth.Envelope) error {
	return (&Folder{dir: dir}).write(readmitName, signed)
}

// TakeReadmit returns an operator's word to end the quarantine, and removes it: it is judged once. A damaged one is none.
func (f *Folder) TakeReadmit() (auth.Envelope, bool) {
	var signed auth.Envelope
	err := f.read(readmitName, &signed)
	if gone := os.Remove(filepath.Join(f.dir, readmitName)); gone != nil { // else it would be judged at every start
		return auth.Envelope{}, false
	}
	return signed, err == nil
}

// EndQuarantine has the host work again.
func (f *Folder) EndQuarantine() error {
	path := filepath.Join(f.dir, quarantineName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove", path, err)
	}
	if err := syncDir(f.dir); err != nil {
		return diskError("write", f.dir, err)
	}
	return nil
}
