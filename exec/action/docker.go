package action

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// killPatience is how long the engine has to kill the container of a run that was stopped. With mercy before it, it stays
// below the grace that the run's supervisor gives.
const killPatience = 1500 * time.Millisecond

// docker has the container engine do something, or with Configure the engine installed.
func (h host) docker(ctx context.Context, in document.Docker) error {
	if in.Configure {
		return h.configureDocker(ctx, in)
	}
	work, err := readContainerWork(in)
	if err != nil {
		return err
	}
	engine, ok := h.engine()
	if !ok {
		return invalidPlatform("this host has neither docker nor podman")
	}
	private, remove, err := h.privateFolder()
	if err != nil {
		return err
	}
	defer remove()
	files := containerFiles{env: filepath.Join(private, "env"), id: filepath.Join(private, "id")}
	// The environment goes by a file: arguments can be read by everybody on the host.
	if err := os.WriteFile(files.env, []byte(strings.Join(append(work.env, ""), "\n")), 0o600); err != nil {
		return troubleAt(private, err)
	}
	err = h.call(ctx, tool{path: engine, args: work.args(files), stdout: h.stdout, stderr: h.stderr})
	if ctx.Err() != nil {
		h.killContainer(engine, files.id)
	}
	return err
}

func (h host) engine() (string, bool) {
	if path, ok := h.find("docker"); ok {
		return path, true
	}
	return h.find("podman")
}

// killContainer ends what a stopped "run" left in the engine, which is not among this process's children. The engine wrote
// the container's ID into the file when it made it.
func (h host) killContainer(engine, file string) {
	id, err := os.ReadFile(file)
	if err != nil || len(id) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), killPatience)
	defer cancel()
	words := &tail{limit: 1 << 10}
	if err := h.call(ctx, tool{path: engine, args: []string{"kill", "--", strings.TrimSpace(string(id))}, stdout: words, stderr: words}); err != nil &&
		!strings.Contains(string(words.bytes()), "not running") {
		h.say("the container %s may still run: %s", strings.TrimSpace(string(id)), oneLine(err.Error()))
	}
}

// configureDocker installs or removes the container engine by the host's package manager, and starts it.
func (h host) configureDocker(ctx context.Context, in document.Docker) error {
	install := strings.EqualFold(in.Action, "install")
	if !install && !strings.EqualFold(in.Action, "uninstall") {
		return fleet.Errorf(fleet.Invalid, "docker is to Install or to Uninstall, not to %q", in.Action)
	}
	if path, ok := h.engine(); ok && install {
		h.sayOut("%s is there", path)
		return nil
	}
	m, path, err := h.manager()
	if err != nil {
		return err
	}
	s := seat{host: h, manager: m, path: path}
	if install {
		return s.installEngine(ctx)
	}
	for _, name := range enginePackages(m.program) {
		if err := s.uninstall(ctx, wanted{name: name}); err != nil {
			return err
		}
	}
	return nil
}

// enginePackages are the names under which distributions have an engine, the wanted one first.
func enginePackages(program string) []string {
	switch program {
	case "apt-get":
		return []string{"docker.io"}
	case "dnf", "yum":
		return []string{"docker", "moby-engine", "podman"} // Amazon's, Fedora's, Red Hat's
	}
	return []string{"docker"}
}

func (s seat) installEngine(ctx context.Context) error {
	var err error
	for _, name := range enginePackages(s.program) {
		if err = s.install(ctx, wanted{name: name, install: true}); err == nil {
			return s.startEngine(ctx, name)
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return err
}

// startEngine starts what was installed. podman has nothing to start.
func (s seat) startEngine(ctx context.Context, name string) error {
	if name == "podman" {
		return nil
	}
	if path, ok := s.find("systemctl"); ok {
		return s.call(ctx, tool{path: path, args: []string{"enable", "--now", "docker"}, stdout: s.stdout, stderr: s.stderr})
	}
	if path, ok := s.find("rc-service"); ok {
		return s.call(ctx, tool{path: path, args: []string{"docker", "start"}, stdout: s.stdout, stderr: s.stderr})
	}
	s.say("%s is installed; this host has no service manager that is known, so it is not started", name)
	return nil
}
