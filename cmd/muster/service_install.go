package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

var errNoManager = fleet.Errorf(fleet.NotFound, "neither systemd nor OpenRC is on this host").
	Hinted("have whatever starts programs here start: muster agent")

func (s system) install(ctx context.Context, self, prefix string) error {
	m, runs := s.manager()
	if m == noManager {
		return errNoManager
	}
	bin := filepath.Join(prefix, "bin", "muster")
	if path, packaged := s.installed(m); packaged {
		return fleet.Errorf(fleet.Conflict, "a package has installed the service already: %s", path).
			Hinted("upgrade the package; or remove it first, the host stays what it is")
	}
	if bin == packagedBin {
		return fleet.Errorf(fleet.Invalid, "%s is where packages put the program", bin).Hinted("--prefix /usr/local")
	}
	changed, err := s.copyProgram(self, bin)
	if err != nil {
		return err
	}
	path, text, mode := m.unit(bin)
	written, err := s.put(path, []byte(text), mode)
	if err != nil {
		return err
	}
	s.tell("program  %s", bin)
	s.tell("service  %s", path)
	s.makeGroup(ctx)
	return s.enable(ctx, m, runs, changed || written)
}

// enable has the service started with the host, and starts it now if there is something to run.
func (s system) enable(ctx context.Context, m manager, runs, changed bool) error {
	if m == systemd && runs {
		if err := s.run(ctx, "systemctl", "daemon-reload"); err != nil {
			return err
		}
	}
	if err := s.run(ctx, m.verb("enable")...); err != nil {
		return err
	}
	start := strings.Join(m.verb("start"), " ")
	switch {
	case !s.has(systemData+"/identity") && !s.has(systemJoin):
		s.tell("this host is in no fleet yet; next: muster init, or muster join")
		return nil
	case !runs:
		s.tell("the agent starts with the host")
		return nil
	}
	verb := "start"
	if changed {
		verb = "restart" // starts what does not run
	}
	if err := s.run(ctx, m.verb(verb)...); err != nil {
		return err
	}
	s.tell("the agent runs (%s)", start)
	return nil
}

// copyProgram puts the program in its place, whole or not at all; an agent that runs keeps the old one until it ends.
func (s system) copyProgram(self, bin string) (changed bool, err error) {
	data, err := os.ReadFile(self)
	if err != nil {
		return false, fleet.Errorf(fleet.Internal, "this program cannot read itself: %w", err)
	}
	return s.put(bin, data, 0o755)
}

// put writes a file of the system, if it says something else, and reports whether it did.
func (s system) put(path string, data []byte, mode os.FileMode) (changed bool, err error) {
	path = s.at(path)
	if had, err := os.ReadFile(path); err == nil && string(had) == string(data) {
		return false, os.Chmod(path, mode)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fleet.Errorf(fleet.Unavailable, "cannot make a folder: %w", err).Hinted("--prefix FOLDER, one that can be written")
	}
	return true, folder.WriteFile(path, data, mode)
}

// makeGroup makes the group whose members may list nodes. Without it only root and operators' keys open the agent, which is
// no reason to fail.
func (s system) makeGroup(ctx context.Context) {
	if s.groupExists() {
		return
	}
	err := s.run(ctx, "groupadd", "--system", "--force", serviceGroup)
	if err != nil {
		err = s.run(ctx, "addgroup", "-S", serviceGroup) // busybox
	}
	if err != nil {
		s.tell("no group %s could be made; its members could list nodes (%v)", serviceGroup, err)
		return
	}
	s.tell("group    %s: its members may list nodes", serviceGroup)
}

func (s system) groupExists() bool {
	groups, err := os.ReadFile(s.at("/etc/group"))
	return err == nil && strings.Contains("\n"+string(groups), "\n"+serviceGroup+":")
}

func (s system) uninstall(ctx context.Context, purge bool) error {
	m, runs := s.manager()
	path, packaged := s.installed(m)
	if packaged {
		return fleet.Errorf(fleet.Conflict, "a package has installed the service: %s", path).
			Hinted("remove the package: apt remove muster, dnf remove muster or apk del muster")
	}
	if path != "" {
		if err := s.removeService(ctx, m, runs, path); err != nil {
			return err
		}
	} else {
		s.tell("no service muster is installed here")
	}
	if purge {
		if err := os.RemoveAll(s.at(systemData)); err != nil {
			return fleet.Errorf(fleet.Internal, "the data folder is not wholly removed: %w", err)
		}
		s.tell("removed  %s: this host's keys and all that it kept", systemData)
		s.tell("on a host of the fleet: muster node delete NAME")
	} else if s.has(systemData) {
		s.tell("left     %s: this host's keys, output and share of the fleet's state (--purge removes it)", systemData)
	}
	if s.groupExists() {
		s.tell("left     the group %s (groupdel %s)", serviceGroup, serviceGroup)
	}
	s.tell("left     operators' keys in their homes, ~/.config/muster; the account muster-user, if there were sessions")
	return nil
}

func (s system) removeService(ctx context.Context, m manager, runs bool, path string) error {
	bin := s.program(path)
	if runs {
		if err := s.run(ctx, m.verb("stop")...); err != nil {
			return err
		}
	}
	if err := s.run(ctx, m.verb("disable")...); err != nil {
		return err
	}
	for _, file := range []string{path, bin} {
		if file == "" || !s.has(file) {
			continue
		}
		if err := os.Remove(s.at(file)); err != nil {
			return fleet.Errorf(fleet.Internal, "%s stays: %w", file, err)
		}
		s.tell("removed  %s", file)
	}
	if m == systemd && runs {
		return s.run(ctx, "systemctl", "daemon-reload")
	}
	return nil
}
