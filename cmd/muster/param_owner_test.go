package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestSecretsAreNotGivenToWhoeverWasThereFirst(t *testing.T) {
	t.Parallel()
	const self, app, eve = 1000, 2000, 3000
	for _, c := range []struct {
		what string
		place
		self    int
		refused bool
	}{
		{"my own file", place{owner: self, mode: 0o600, dirOwner: self, dirMode: 0o755, keepsMode: true}, self, false},
		{"an app's file in root's folder", place{owner: app, mode: 0o640, dirMode: 0o755, keepsMode: true}, 0, false},
		{"an app's file in its own folder", place{owner: app, mode: 0o600, dirOwner: app, dirMode: 0o700, keepsMode: true}, 0, false},
		{"somebody's file in /tmp", place{owner: eve, mode: 0o600, dirMode: 0o777, keepsMode: true}, 0, true},
		{"somebody's file in /tmp, with a mode", place{owner: eve, mode: 0o600, dirMode: 0o777}, 0, true},
		{"somebody's file in an app's folder", place{owner: eve, mode: 0o600, dirOwner: app, dirMode: 0o770, keepsMode: true}, 0, true},
		{"what everybody reads", place{owner: self, mode: 0o644, dirOwner: self, dirMode: 0o755, keepsMode: true}, self, true},
		{"what everybody reads, with a mode", place{owner: self, mode: 0o644, dirOwner: self, dirMode: 0o755}, self, false},
	} {
		err := c.mayHoldSecret(c.self)
		if (err != nil) != c.refused || err != nil && fleet.KindOf(err) != fleet.Denied {
			t.Errorf("%s: %v, refused should be %v", c.what, err, c.refused)
		}
	}
}

// TestExportedFilesBelongToTheExporter: also where somebody else has made the file before.
func TestExportedFilesBelongToTheExporter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out.json")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if err := replaceFile(path, []byte("new"), fileLook{mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() || info.Mode().Perm() != 0o600 {
		t.Errorf("it belongs to %d with mode %o", owner, info.Mode().Perm())
	}
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(link, []byte("x"), fileLook{mode: 0o600}); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("a link was replaced: %v", err)
	}
}
