package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// arch is an architecture, in the words of whoever asks.
type arch struct {
	name string // ours, in file names
	env  []string
	deb  string
	rpm  string
	apk  string
}

// arches are those that are made where nobody says otherwise.
func arches() []arch {
	return []arch{
		{"amd64", []string{"GOARCH=amd64", "GOAMD64=v1"}, "amd64", "x86_64", "x86_64"},
		{"arm64", []string{"GOARCH=arm64", "GOARM64=v8.0"}, "arm64", "aarch64", "aarch64"},
		{"armv7", []string{"GOARCH=arm", "GOARM=7"}, "armhf", "armv7hl", "armv7"},
	}
}

func archNames(list []arch) string {
	var names []string
	for _, a := range list {
		names = append(names, a.name)
	}
	return strings.Join(names, ",")
}

func pickArches(names string) ([]arch, error) {
	var out []arch
next:
	for _, name := range strings.Split(names, ",") {
		for _, a := range arches() {
			if a.name == name {
				out = append(out, a)
				continue next
			}
		}
		return nil, fmt.Errorf("--arch %q is none of %s", name, archNames(arches()))
	}
	return out, nil
}

// of returns what a package format calls the architecture.
func (a arch) of(format string) string {
	switch format {
	case "deb":
		return a.deb
	case "rpm":
		return a.rpm
	}
	return a.apk
}

// build makes the binary. Nothing of the folder, the machine, its user or its settings gets into it.
func (o order) build(ctx context.Context, a arch, bin string) error {
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return err
	}
	flags := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X main.release=" + o.version.String(), "-o", bin, "./cmd/muster"}
	cmd := exec.CommandContext(ctx, "go", flags...)
	cmd.Dir = o.top
	cmd.Env = append(os.Environ(), append([]string{"GOFLAGS=", "CGO_ENABLED=0", "GOOS=linux", "GOEXPERIMENT=", "GOFIPS140="}, a.env...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}
