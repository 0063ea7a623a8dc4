package runner

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/muster-fleet/muster/exec/cage"
)

// scriptFD is where a script is open in a process of another user: it can read the file through the descriptor, but not
// enter the run folder.
const scriptFD = 3

// writeScript writes the script of a step and returns the path by which the child finds it.
func (c *child) writeScript(o order, i int) (string, error) {
	step := o.Plan.Steps[i]
	if len(step.Script) == 0 {
		return "", nil
	}
	if step.ScriptName != "" {
		return writeNamedScript(o, i)
	}
	name := scriptName
	if len(o.Plan.Steps) > 1 { // what a step left may still read its own
		name += "-" + strconv.Itoa(i+1)
	}
	if err := writeScriptFile(o, name, step.Script); err != nil {
		return "", err
	}
	if !o.Drop {
		return filepath.Abs(name)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	c.close = append(c.close, f)
	c.attr.Files = append(c.attr.Files, f.Fd())
	return "/proc/self/fd/" + string(rune('0'+scriptFD)), nil
}

// writeNamedScript is for interpreters that look at the file's name: it lies where the run's user finds it.
func writeNamedScript(o order, i int) (string, error) {
	dir := filepath.Join(o.Downloads, "."+scriptName+"-"+strconv.Itoa(i+1))
	if err := makeOwned(dir, o); err != nil && !os.IsExist(err) {
		return "", err
	}
	path := filepath.Join(dir, o.Plan.Steps[i].ScriptName)
	return path, writeScriptFile(o, path, o.Plan.Steps[i].Script)
}

func writeScriptFile(o order, path string, script []byte) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) { // of an earlier attempt
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(script); err != nil {
		return err
	}
	if o.Drop {
		return f.Chown(o.UID, o.GID)
	}
	return nil
}

// downloadsHome is where the downloads of runs of other users lie: they cannot enter the run folder, and what a step
// downloaded must still be there after a restart of the host.
const downloadsHome = "/var/tmp"

// downloadsOf returns the folder of a run's downloads.
func downloadsOf(dir folder, drop bool) string {
	if drop {
		return filepath.Join(downloadsHome, "muster-"+cage.Name(string(dir)))
	}
	return dir.path(downloadsName)
}

// makeDownloads makes the run's folder for them.
func makeDownloads(o order) error {
	err := makeOwned(o.Downloads, o)
	if !o.Resume || !os.IsExist(err) {
		return err
	}
	return nil
}

// makeOwned makes a folder that belongs to the run's user alone. One that exists is an error: whose it is, is not known.
func makeOwned(path string, o order) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if !o.Drop {
		return nil
	}
	return os.Lchown(path, o.UID, o.GID)
}

// removeDownloads removes what a run downloaded, whoever it ran as.
func removeDownloads(dir folder) error {
	if err := os.RemoveAll(downloadsOf(dir, false)); err != nil {
		return err
	}
	return os.RemoveAll(downloadsOf(dir, true))
}
