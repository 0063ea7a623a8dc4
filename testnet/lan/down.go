package lan

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

// Down ends every process of every host, and removes the lan's folder. It may be called again, and after an Up that
// failed.
func (l *Lan) Down() error {
	l.mu.Lock()
	was := l.down
	l.down = true
	l.mu.Unlock()
	if was {
		return nil
	}
	errs := []error{l.each(l.hosts, (*Host).PowerCut)}
	if l.hub.alive() {
		errs = append(errs, l.hub.end(unix.SIGKILL))
	}
	close(l.over)
	return errors.Join(append(errs, clearAway(l.opts.Name, l.opts.Dir))...)
}

// clearAway removes what is left of one lan when its processes have ended.
func clearAway(name, dir string) error {
	if err := released(dir); err != nil {
		return err
	}
	return errors.Join(removeCgroups(name), os.RemoveAll(dir))
}

// Sweep ends and removes all lans whose names are meant, whoever made them, and returns their names. What is left when the
// process that made a lan was killed is its folder; a lan that stays is left whole. A lan whose folder is not in the
// temporary folder is found only while processes of it live.
func Sweep(meant func(name string) bool) ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, needsRoot()
	}
	found, err := leftovers(meant)
	if err != nil {
		return nil, err
	}
	var errs []error
	names := slices.Sorted(maps.Keys(found))
	for _, name := range names {
		firsts, err := titled(name)
		errs = append(errs, err)
		for _, p := range firsts {
			errs = append(errs, p.end(unix.SIGKILL))
		}
		errs = append(errs, clearAway(name, found[name]))
	}
	return names, errors.Join(errs...)
}

// leftovers maps the names of lans to their folders.
func leftovers(meant func(string) bool) (map[string]string, error) {
	found := map[string]string{}
	scripts, err := filepath.Glob(filepath.Join(FolderOf("*"), scriptName))
	if err != nil {
		return nil, err
	}
	for _, script := range scripts {
		dir := filepath.Dir(script)
		if name := strings.TrimPrefix(filepath.Base(dir), prefix+"-"); meant(name) {
			found[name] = dir
		}
	}
	all, err := pids()
	if err != nil {
		return nil, err
	}
	for _, pid := range all {
		w := words(pid, "cmdline")
		if len(w) < 3 || filepath.Base(w[2]) != scriptName {
			continue
		}
		rest, ours := strings.CutPrefix(w[0], prefix+":")
		if name, _, ok := strings.Cut(rest, ":"); ours && ok && meant(name) {
			found[name] = filepath.Dir(w[2])
		}
	}
	return found, nil
}

func needsRoot() error {
	return fleet.Errorf(fleet.Denied, "namespaces with networks need root").Hinted("run it with sudo")
}
