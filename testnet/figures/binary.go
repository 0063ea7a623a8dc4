package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// source is the package of the binary that is measured.
const source = "github.com/muster-fleet/muster/cmd/muster"

// build builds muster as it is shipped, but for what linkerFlags say.
func build(ctx context.Context, to, linkerFlags string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-trimpath", "-ldflags="+linkerFlags, "-o", to, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w: %s", source, err, out)
	}
	return nil
}

// binarySizes builds muster twice and weighs it.
func binarySizes(ctx context.Context, folder string) ([]figure, error) {
	stripped := figure{key: "binary_stripped_bytes", name: "binary, stripped", unit: octets, aim: 30e6}
	whole := figure{key: "binary_bytes", name: "binary, with symbols", unit: octets}
	for f, flags := range map[*figure]string{&stripped: "-s -w", &whole: ""} {
		path := filepath.Join(folder, f.key)
		if err := build(ctx, path, flags); err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		f.value = float64(info.Size())
	}
	return []figure{stripped, whole}, nil
}
