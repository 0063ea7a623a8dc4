package quorum

import "os"

// LogBytes is the size of the file of log entries and stable values; 0 if it cannot be read. It is made smaller by nothing
// but a new replica: what a snapshot frees is used again.
func (q *Quorum) LogBytes() int64 {
	info, err := os.Stat(q.store.path)
	if err != nil {
		return 0
	}
	return info.Size()
}
