package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

const (
	tryTime  = 20 * time.Second // for a program to say its version
	maxWords = 64 << 10         // bytes of what it says
)

// said is what a program says of itself with version -o json.
type said struct {
	Version  string      `json:"version"`
	Platform string      `json:"platform"` // linux/amd64
	Level    fleet.Level `json:"level"`    // 0: it knows of none
}

// try runs a program that is to become the agent's, as far as its version.
func (o Order) try(ctx context.Context, path string) error {
	ctx, stop := context.WithTimeout(ctx, tryTime)
	defer stop()
	out, err := runIt(ctx, path, "version", "-o", "json")
	if err != nil {
		return cannotRun(path, err)
	}
	var s said
	if err := json.Unmarshal(out, &s); err != nil {
		return fleet.Errorf(fleet.Invalid, "the new program does not say its version: it is no muster")
	}
	return o.fits(s)
}

// fits compares what a program says with what its release says.
func (o Order) fits(s said) error {
	switch {
	case s.Version != o.To.Version:
		return fleet.Errorf(fleet.Invalid, "the new program says that it is version %s, and its release says %s", s.Version, o.To.Version).
			Hinted("its maker has mixed two builds up: have the release made anew")
	case s.Platform != "linux/"+o.Arch:
		return fleet.Errorf(fleet.Invalid, "the new program is for %s, and this host is linux/%s", s.Platform, o.Arch)
	case max(s.Level, fleet.LevelFirst) != max(o.To.Level, fleet.LevelFirst):
		return fleet.Errorf(fleet.Invalid, "the new program knows levels up to %d, and its release says %d", s.Level, o.To.Level)
	}
	return nil
}

func cannotRun(path string, err error) error {
	e := fleet.Errorf(fleet.Invalid, "the new program does not run on this host: %w", err)
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return e.Hinted("it is for another architecture, or cut: make the release anew")
	case errors.Is(err, syscall.EACCES):
		return e.Hinted("the file system of %s may be mounted noexec", path)
	}
	return e
}

// runIt returns what a program says. A file that was just written may still be open in a process that is just being forked:
// the kernel then does not execute it yet.
func runIt(ctx context.Context, path string, args ...string) ([]byte, error) {
	for {
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "MUSTER_CONFIG="}
		cmd.Stdout, cmd.Stderr = &limited{&out}, &limited{&errs}
		cmd.WaitDelay = time.Second
		err := cmd.Run()
		if errors.Is(err, syscall.ETXTBSY) && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if _, ran := errors.AsType[*exec.ExitError](err); ran {
			if text := strings.TrimSpace(errs.String()); text != "" {
				return nil, fleet.Errorf(fleet.Invalid, "%w: %s", err, firstLine(text))
			}
		}
		return out.Bytes(), err
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.ToValidUTF8(line[:min(len(line), 200)], "")
}

// limited takes no more than maxWords.
type limited struct{ *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxWords {
		return 0, errors.New("it says too much")
	}
	return l.Buffer.Write(p)
}
