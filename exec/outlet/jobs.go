package outlet

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// The queue is a folder with a file for each copy, COMMAND.json. A file that cannot be read is set aside, not removed.
const (
	jobSuffix  = ".json"
	asideWord  = ".unreadable"
	partSuffix = ".part"
	jobFormat  = 1
	maxJob     = 16 << 10 // bytes
)

// jobFile is the content of a file.
type jobFile struct {
	Format int    `json:"format"`
	To     string `json:"to"`
	Since  int64  `json:"since"`           // Unix milliseconds: when the run was expected
	Ready  int64  `json:"ready,omitempty"` // when it had ended; 0: it goes on
}

func readJobs(dir string, log *slog.Logger) (map[fleet.UUID]*job, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the queue of copies cannot be made: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "the queue of copies cannot be read: %w", err)
	}
	jobs := map[fleet.UUID]*job{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		text, ok := strings.CutSuffix(e.Name(), jobSuffix)
		if !ok {
			if strings.HasSuffix(e.Name(), partSuffix) { // a crash left it before it had its name
				os.Remove(path)
			}
			continue
		}
		command, err := fleet.ParseUUID(text)
		var j *job
		if err == nil {
			j, err = readJob(path)
		}
		if err != nil {
			log.Error("a copy of an output is lost: its file cannot be read", "file", path, "err", err)
			os.Rename(path, path+asideWord)
			continue
		}
		jobs[command] = j
	}
	return jobs, nil
}

func readJob(path string) (*job, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJob))
	if err != nil {
		return nil, err
	}
	return decodeJob(text)
}

func decodeJob(text []byte) (*job, error) {
	var file jobFile
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if file.Format != jobFormat {
		return nil, fleet.Errorf(fleet.Invalid, "format %d is not understood by this version", file.Format)
	}
	if err := Check(file.To); err != nil {
		return nil, err
	}
	j := &job{to: file.To, since: time.UnixMilli(file.Since)}
	if file.Ready != 0 {
		j.ready = time.UnixMilli(file.Ready)
	}
	return j, nil
}

// writeJob puts a job on the disk for good.
func writeJob(dir string, command fleet.UUID, j *job) (err error) {
	defer func() {
		if err != nil {
			err = fleet.Errorf(fleet.Unavailable, "the queue of copies cannot be written: %w", err)
		}
	}()
	file := jobFile{Format: jobFormat, To: j.to, Since: j.since.UnixMilli()}
	if !j.ready.IsZero() {
		file.Ready = j.ready.UnixMilli()
	}
	text, err := json.Marshal(file)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, command.String()+jobSuffix)
	f, err := os.OpenFile(name+partSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(name+partSuffix, name)
	}
	if err != nil {
		os.Remove(name + partSuffix)
		return err
	}
	return syncDir(dir)
}

func removeJob(dir string, command fleet.UUID) error {
	err := os.Remove(filepath.Join(dir, command.String()+jobSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(dir))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
