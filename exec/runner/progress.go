package runner

import (
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// The files of a run with more than one plain process, in its folder.
const (
	journalName   = "journal"   // of its steps, see exec/steps; kept with the output
	orderName     = "order"     // what it was given, 0600; removed when it has ended
	downloadsName = "downloads" // where relative folders of its steps lie; removed when it has ended
)

// stepJournal is a run's journal as its supervisor writes it.
type stepJournal struct {
	f       file
	end     int64
	chain   fleet.ID
	g       steps.Progress
	entries atomic.Int64
	failed  error // nothing more can be written
}

// createJournal makes the journal with its first entry and with room for all to come, so that a full disk does not
// matter later. It is not synced yet.
func createJournal(command fleet.UUID, e steps.Opened) (*stepJournal, error) {
	g, err := steps.Open(e)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(journalName, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	data, chain := steps.Append(nil, steps.First(command), e)
	j := &stepJournal{f: osFile{f}, end: int64(len(data)), chain: chain, g: g}
	j.entries.Store(1)
	_, err = f.Write(append(data, make([]byte, max(0, int(roundUp(int64(e.Plan.Room())))-len(data)))...))
	return j, err
}

// openJournal goes on with a journal.
func openJournal(command fleet.UUID) (*stepJournal, error) {
	f, err := os.OpenFile(journalName, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	r, g, err := readJournal(f, command)
	if err != nil {
		return nil, err
	}
	j := &stepJournal{f: osFile{f}, end: int64(r.End), chain: r.Chain, g: g}
	j.entries.Store(int64(len(r.Entries)))
	return j, nil
}

// readJournal reads a run's journal. What cannot be trusted to be the whole of it is an error.
func readJournal(from io.Reader, command fleet.UUID) (steps.Read, steps.Progress, error) {
	data, err := io.ReadAll(io.LimitReader(from, steps.MaxJournal))
	if err != nil {
		return steps.Read{}, steps.Progress{}, err
	}
	r := steps.Decode(command, data)
	g, err := steps.Fold(r.Entries)
	if err == nil && !r.Clean {
		err = fleet.Errorf(fleet.Invalid, "the journal of steps is damaged behind its entry %d", len(r.Entries))
	}
	return r, g, err
}

// add folds an entry and writes it, without a sync. One that cannot follow is a mistake of ours.
func (j *stepJournal) add(e steps.Entry) error {
	g, err := j.g.Add(e)
	if err != nil {
		return err
	}
	j.g = g
	data, chain := steps.Append(nil, j.chain, e)
	if j.failed == nil {
		_, j.failed = j.f.WriteAt(data, j.end)
	}
	if j.failed == nil {
		j.end, j.chain = j.end+int64(len(data)), chain
		j.entries.Add(1)
	}
	return j.failed
}

// sync puts on the disk what was added. After a failure nothing more is claimed to be there.
func (j *stepJournal) sync() error {
	if j.failed == nil {
		j.failed = j.f.Datasync()
	}
	return j.failed
}

// progress reads the journal of the run in the folder. The error is fs.ErrNotExist for a plain run, which has none.
func (f folder) progress(command fleet.UUID) (steps.Read, steps.Progress, error) {
	file, err := os.Open(f.path(journalName))
	if err != nil {
		return steps.Read{}, steps.Progress{}, err
	}
	defer file.Close()
	return readJournal(file, command)
}

// Steps lists what became of the steps of a run that were reached so far. It is empty for a run of one plain process,
// and for one whose folder is no longer kept.
func (r *Runner) Steps(command fleet.UUID) []exec.StepReport {
	dir := r.folder(command)
	read, g, err := dir.progress(command)
	if len(read.Entries) == 0 || (err != nil && read.Clean) {
		if !errors.Is(err, os.ErrNotExist) {
			r.cfg.Log.Warn("the journal of a run's steps cannot be read", "command", command.String(), "err", err)
		}
		return nil
	}
	s, _ := r.Ledger().Get(command)
	var out []exec.StepReport
	for _, result := range g.Results(dir.kept(Stdout).Kept, dir.kept(Stderr).Kept) {
		if s.Ended != nil && result.Status == steps.InProgress {
			result.Status = steps.Unknown
		}
		out = append(out, exec.StepReport{
			Name: result.Name, Action: result.Action, Status: exec.Status(result.Status), ExitCode: result.ExitCode, Attempts: result.Attempts,
			Started: result.Started, Ended: result.Ended, Stdout: exec.Span(result.Stdout), Stderr: exec.Span(result.Stderr), Detail: result.Detail,
		})
	}
	return out
}
