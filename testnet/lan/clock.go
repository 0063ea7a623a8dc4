package lan

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Clock sets the wall clock of the host's agents off from this machine's by so much, at once, running or not. Only an agent
// that was built with the tag testclock looks: see Build. Command lines and runs on the host have this machine's clock.
func (h *Host) Clock(offset time.Duration) error {
	path := h.clockFile()
	return errors.Join(os.WriteFile(path+".new", []byte(offset.String()), 0o644), os.Rename(path+".new", path))
}

func (h *Host) clockFile() string { return filepath.Join(h.lan.shared(), "clock", h.name) }

// clockVariable tells an agent where its offset stands.
func (h *Host) clockVariable() string { return "MUSTER_TEST_CLOCK=/run/lan/clock/" + h.name }

// Build builds muster, with build tags: "testclock" makes its agents listen to Host.Clock.
func Build(ctx context.Context, path string, tags ...string) error {
	args := []string{"build", "-o", path}
	for _, tag := range tags {
		args = append(args, "-tags", tag)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/muster-fleet/muster/cmd/muster")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}
