package folder

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// TestCopies: what is kept comes back, also through a restart; what is damaged or half written is none, and goes.
func TestCopies(t *testing.T) {
	t.Parallel()
	f := &Folder{dir: t.TempDir()}
	key := func(name string) fleet.ID { return fleet.Sum([]byte(name)) }
	if _, err := f.Copy(key("a")); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("nothing kept: %v", err)
	}
	if err := f.Copies(func(fleet.ID, []byte) { t.Error("there is a copy") }); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if err := f.PutCopy(key(name), []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.PutCopy(key("a"), []byte("anew")); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(f.dir, copiesName)
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(f.dir, copyPath(key("a"))): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if err := os.WriteFile(filepath.Join(f.dir, copyPath(key("b"))), []byte("MUSTER1 broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{newPrefix + "1", "somebody's own"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// One parameter's file in the place of another's is damage, too.
	raw, err := os.ReadFile(filepath.Join(f.dir, copyPath(key("c"))))
	if err == nil {
		err = os.WriteFile(filepath.Join(f.dir, copyPath(key("d"))), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := map[fleet.ID]string{}
	if err := (&Folder{dir: f.dir}).Copies(func(key fleet.ID, data []byte) { got[key] = string(data) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[key("a")] != "anew" || got[key("c")] != "c" {
		t.Errorf("kept: %v", got)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 3 {
		t.Errorf("left on disk: %v", entries)
	}
	for range 2 {
		if err := f.DropCopy(key("a")); err != nil {
			t.Error(err)
		}
	}
	if _, err := f.Copy(key("a")); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("a copy that was dropped: %v", err)
	}
}
