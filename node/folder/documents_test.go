package folder

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestDocuments(t *testing.T) {
	f := &Folder{dir: t.TempDir()}
	key := func(i int) fleet.ID { return fleet.Sum([]byte{byte(i), byte(i >> 8)}) }
	e := auth.Envelope{Format: 1, Body: []byte("hello")}
	if _, err := f.Document(key(0)); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("in an empty folder: %v", err)
	}
	must(t, f.PutDocument(key(0), e))
	if got, err := f.Document(key(0)); err != nil || string(got.Body) != "hello" {
		t.Errorf("%+v, %v", got, err)
	}
	info, err := os.Stat(filepath.Join(f.dir, documentPath(key(0))))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s", info.Mode())
	}
	must(t, os.WriteFile(filepath.Join(f.dir, documentsName, newPrefix+"1"), nil, 0o600)) // a crash left it
	old := time.Now().Add(-time.Hour)
	for i := range 2 * MaxDocuments {
		must(t, f.PutDocument(key(i), e))
		path := filepath.Join(f.dir, documentPath(key(i)))
		must(t, os.Chtimes(path, old.Add(time.Duration(i)*time.Second), old.Add(time.Duration(i)*time.Second)))
		_, err := f.Document(key(0)) // needed all the time
		must(t, err)
	}
	entries, err := os.ReadDir(filepath.Join(f.dir, documentsName))
	must(t, err)
	if len(entries) != MaxDocuments {
		t.Errorf("%d files", len(entries))
	}
	path := filepath.Join(f.dir, documentPath(key(0)))
	data, err := os.ReadFile(path)
	must(t, err)
	data[len(data)-40] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
	if _, err := f.Document(key(0)); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("a damaged one: %v", err)
	}
	if all := f.Documents(); len(all) != MaxDocuments-1 {
		t.Errorf("%d whole ones are kept", len(all))
	}
	must(t, f.PutDocument(key(0), e)) // it comes again
	if _, err := f.Document(key(0)); err != nil {
		t.Error(err)
	}
}
