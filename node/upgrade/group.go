package upgrade

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// groups are the control groups that a process lives in: the path in each hierarchy, which is named by its controllers. That of
// version 2 has the name "".
type groups map[string]string

// groupsOf reads them, for a process as /proc names it.
func groupsOf(pid string) groups {
	raw, _ := os.ReadFile("/proc/" + pid + "/cgroup")
	out := groups{}
	for line := range strings.Lines(string(raw)) {
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			out[f[1]] = strings.TrimSuffix(f[2], " (deleted)")
		}
	}
	return out
}

// enter moves this process into the groups, so that what it forks is born there, and whoever ends the group that we live in does not
// end that too. Moving by hand is understood by both versions, and works where what is cloned into a group that was killed once is
// killed (Linux 6.14). back returns.
func (g groups) enter() (back func(), err error) {
	was, mounts := groupsOf("self"), hierarchies()
	moved := groups{}
	for name, path := range g {
		if was[name] == path {
			continue
		}
		m, ok := mounts.of(name)
		if !ok {
			err = fleet.Errorf(fleet.Unavailable, "the control group %s of the agent is nowhere mounted", path)
		} else if e := m.join(path); e != nil {
			err = fleet.Errorf(fleet.Unavailable, "cannot enter the agent's control group %s: %w", path, bare(e))
		} else {
			moved[name] = was[name]
		}
	}
	return func() {
		for name, path := range moved {
			if m, ok := mounts.of(name); ok {
				_ = m.join(path)
			}
		}
	}, err
}

// hierarchy is one that is mounted.
type hierarchy struct {
	at, root string // root is the path of the group that is seen at the mount
	options  []string
	v2       bool
}

type mounted []hierarchy

// hierarchies reads our mount table.
func hierarchies() mounted {
	raw, _ := os.ReadFile("/proc/self/mountinfo")
	return hierarchiesOf(string(raw))
}

func hierarchiesOf(mountinfo string) (out mounted) {
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(kind) < 3 || kind[0] != "cgroup" && kind[0] != "cgroup2" {
			continue
		}
		out = append(out, hierarchy{at: f[4], root: f[3], options: strings.Split(kind[2], ","), v2: kind[0] == "cgroup2"})
	}
	return out
}

// of finds a hierarchy by its name.
func (m mounted) of(name string) (hierarchy, bool) {
	i := slices.IndexFunc(m, func(h hierarchy) bool {
		if name == "" || h.v2 {
			return name == "" && h.v2
		}
		return !slices.ContainsFunc(strings.Split(name, ","), func(one string) bool { return !slices.Contains(h.options, one) })
	})
	if i < 0 {
		return hierarchy{}, false
	}
	return m[i], true
}

// join moves this process into the group of a path or, where that was removed since, into the nearest above it that takes processes.
func (h hierarchy) join(path string) error {
	if h.root != "/" {
		path = strings.TrimPrefix(path, h.root)
	}
	for path = filepath.Join("/", path); ; path = filepath.Dir(path) {
		err := os.WriteFile(filepath.Join(h.at, path, "cgroup.procs"), []byte("0"), 0)
		if err == nil || path == "/" {
			return err
		}
	}
}
