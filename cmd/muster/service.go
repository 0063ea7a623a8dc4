package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// What starts the agent; packages install these files as they are.
var (
	//go:embed service/muster.service
	systemdUnit string
	//go:embed service/muster.initd
	openRCScript string
)

const (
	packagedBin  = "/usr/bin/muster"  // where packages put the binary, and what the two files above name
	systemJoin   = "/etc/muster/join" // a join string for the system's agent, from cloud-init or an image
	serviceGroup = "muster"           // whose members may list nodes
	serviceWait  = time.Minute        // for a service manager to start or stop the agent
)

// manager is what starts services on a host.
type manager int

const (
	noManager manager = iota
	systemd
	openRC
)

// system is where a service is installed.
type system struct {
	root string // of its files: "/", but in tests
	out  io.Writer
	// run runs a program of the system, and returns what it said with its error.
	run func(ctx context.Context, argv ...string) error
}

func thisSystem(out io.Writer) system { return system{root: "/", out: out, run: runQuietly} }

func runQuietly(ctx context.Context, argv ...string) error {
	ctx, stop := context.WithTimeout(ctx, serviceWait)
	defer stop()
	said, err := osexec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fleet.Errorf(fleet.Internal, "%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}

func (s system) at(path string) string { return filepath.Join(s.root, path) }

func (s system) has(path string) bool { return exists(s.at(path)) }

func (s system) tell(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// manager finds what starts services, and whether it runs: in a chroot or the build of an image it does not.
func (s system) manager() (m manager, runs bool) {
	switch {
	case s.has("/run/systemd/system"):
		return systemd, true
	case s.has("/run/openrc/softlevel"):
		return openRC, true
	case s.has("/usr/lib/systemd/systemd"), s.has("/lib/systemd/systemd"):
		return systemd, false
	case s.has("/sbin/openrc-run"), s.has("/usr/sbin/openrc-run"):
		return openRC, false
	}
	return noManager, false
}

// Where units and scripts lie: those that people write, and those that packages bring.
const (
	ownUnit   = "/etc/systemd/system/muster.service"
	ownScript = "/etc/init.d/muster"
)

// installed returns the file that starts the agent under m, and whether a package brought it; "" if there is none.
func (s system) installed(m manager) (path string, packaged bool) {
	switch m {
	case systemd:
		if s.has(ownUnit) {
			return ownUnit, false
		}
		for _, dir := range []string{"/usr/lib/systemd/system", "/lib/systemd/system"} {
			if path := dir + "/muster.service"; s.has(path) {
				return path, true
			}
		}
	case openRC:
		if s.has(ownScript) {
			return ownScript, s.program(ownScript) == packagedBin
		}
	case noManager:
	}
	return "", false
}

// program returns the program that a unit or script starts.
func (s system) program(path string) string {
	text, err := os.ReadFile(s.at(path))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		for _, key := range []string{"ExecStart=", "command="} {
			if words := strings.Fields(strings.TrimPrefix(line, key)); strings.HasPrefix(line, key) && len(words) > 0 {
				return words[0]
			}
		}
	}
	return ""
}

// unit returns where a unit or script of m goes, and what it says for a program at bin.
func (m manager) unit(bin string) (path, text string, mode os.FileMode) {
	if m == openRC {
		return ownScript, strings.ReplaceAll(openRCScript, packagedBin, bin), 0o755
	}
	return ownUnit, strings.ReplaceAll(systemdUnit, packagedBin, bin), 0o644
}

// verb returns what a service manager is told, in its words.
func (m manager) verb(verb string) []string {
	if m == systemd {
		return []string{"systemctl", verb, "muster"}
	}
	switch verb {
	case "enable":
		return []string{"rc-update", "add", "muster", "default"}
	case "disable":
		return []string{"rc-update", "del", "muster"}
	}
	return []string{"rc-service", "muster", verb}
}
