package account

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// An account that exists stays as it is, whatever it is.
func TestMakeLeavesWhatThereIs(t *testing.T) {
	if err := Make(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
}

// A tool that fails is quoted, and what it was told is what makes an unprivileged account.
func TestToolFails(t *testing.T) {
	script := filepath.Join(t.TempDir(), "useradd")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"no: $*\" >&2\nexit 9\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := tool{path: script}.make(t.Context(), "nobody-yet", tools[0].args("nobody-yet", "/bin/sh"))
	if fleet.KindOf(err) != fleet.Unavailable || !strings.Contains(err.Error(), "no: --system") {
		t.Fatalf("%v", err)
	}
	for _, tool := range tools {
		args := tool.args("name", "/bin/sh")
		if args[len(args)-1] != "name" || slices.Contains(args, "muster") || slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "-G") || a == "-p" || a == "-o" }) {
			t.Errorf("%v", args)
		}
	}
}
