package folder

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

func aSeed(i int) node.Seed {
	name := node.SeedName{Life: fleet.UUID{7}, Number: uint32(i), Key: fleet.Sum([]byte{byte(i)})}
	return node.Seed{Name: name, Keyring: "web", For: fleet.Sum([]byte("for")), Private: bytes.Repeat([]byte{byte(i), 0x5a}, 16)}
}

func TestSeeds(t *testing.T) {
	f := &Folder{dir: t.TempDir()}
	if all, err := f.Seeds(); err != nil || len(all) != 0 {
		t.Errorf("in an empty folder: %v, %v", all, err)
	}
	if _, err := f.Seed(aSeed(1).Name); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("in an empty folder: %v", err)
	}
	must(t, f.DropSeed(aSeed(1).Name))
	for i := range 3 {
		must(t, f.PutSeed(aSeed(i)))
		must(t, f.PutSeed(aSeed(i)))
	}
	for i := range 3 {
		got, err := f.Seed(aSeed(i).Name)
		must(t, err)
		if want := aSeed(i); got.Name != want.Name || got.Keyring != want.Keyring || got.For != want.For || !bytes.Equal(got.Private, want.Private) {
			t.Errorf("%d: %#v", i, got.Name)
		}
	}
	dir := filepath.Join(f.dir, keyringsName)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(f.dir, seedPath(aSeed(1).Name)): 0o600} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, newPrefix+"1"), []byte("half a seed"), 0o600)) // a crash left it
	must(t, os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600))
	must(t, f.DropSeed(aSeed(1).Name))
	must(t, f.DropSeed(aSeed(1).Name))
	all, err := f.Seeds()
	must(t, err)
	if len(all) != 2 {
		t.Fatalf("%d seeds", len(all))
	}
	for _, s := range all {
		if len(s.Private) != 0 || s.Name == aSeed(1).Name || s.For != aSeed(0).For {
			t.Errorf("%+v", s.Name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, newPrefix+"1")); err == nil {
		t.Error("what a crash left is still there")
	}
}

// A damaged seed is none, and keeps nobody from the others; it may come again.
func TestDamagedSeed(t *testing.T) {
	f := &Folder{dir: t.TempDir()}
	must(t, f.PutSeed(aSeed(1)))
	must(t, f.PutSeed(aSeed(2)))
	path := filepath.Join(f.dir, seedPath(aSeed(1).Name))
	data, err := os.ReadFile(path)
	must(t, err)
	data[len(data)-40] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
	if _, err := f.Seed(aSeed(1).Name); err == nil || fleet.KindOf(err) == fleet.NotFound {
		t.Errorf("a damaged one: %v", err)
	}
	// Another's file under its name is no better.
	other, err := os.ReadFile(filepath.Join(f.dir, seedPath(aSeed(2).Name)))
	must(t, err)
	must(t, os.WriteFile(path, other, 0o600))
	all, err := f.Seeds()
	if len(all) != 1 || all[0].Name != aSeed(2).Name || err == nil {
		t.Errorf("%d seeds, %v", len(all), err)
	}
	must(t, f.PutSeed(aSeed(1)))
	if all, err := f.Seeds(); len(all) != 2 || err != nil {
		t.Errorf("%d seeds, %v", len(all), err)
	}
}

// Two keyrings that claim one public key have a file each: what is asked for as one's is never the other's.
func TestSeedsOfOneKey(t *testing.T) {
	f := &Folder{dir: t.TempDir()}
	high, low := aSeed(1), aSeed(1)
	low.Name.Life, low.Private = fleet.UUID{8}, bytes.Repeat([]byte{9}, 32)
	must(t, f.PutSeed(high))
	if _, err := f.Seed(low.Name); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("another keyring's: %v", err)
	}
	must(t, f.PutSeed(low))
	must(t, f.DropSeed(low.Name))
	if got, err := f.Seed(high.Name); err != nil || !bytes.Equal(got.Private, high.Private) {
		t.Errorf("%v", err)
	}
}

// A seed that cannot be written is not said to be kept.
func TestSeedOnABadDisk(t *testing.T) {
	f := &Folder{dir: filepath.Join(t.TempDir(), "gone")}
	if f.PutSeed(aSeed(1)) == nil {
		t.Error("it is kept nowhere")
	}
	must(t, os.WriteFile(f.dir, nil, 0o600))
	if err := f.PutSeed(aSeed(1)); err == nil || strings.Contains(err.Error(), "Z") {
		t.Errorf("%v", err)
	}
	if _, err := f.Seeds(); err == nil {
		t.Error("the disk's error is passed over")
	}
}

// A seed tells nothing when it is printed.
func TestSeedIsNotPrinted(t *testing.T) {
	s := aSeed(3)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%v", []node.Seed{s})} {
		if strings.Contains(text, "90") || strings.Contains(strings.ToLower(text), "5a") {
			t.Error(text)
		}
	}
}

// FuzzSeedFile: a seed is read as it was written, under the name of its key, or it is damaged.
func FuzzSeedFile(f *testing.F) {
	name := seedPath(aSeed(1).Name)
	body := wire.Marshal(seedBody{"web", fleet.UUID{7}, 1, aSeed(1).Name.Key, fleet.ID{}, make([]byte, 32)})
	f.Add(body)
	f.Add(body[:9])
	f.Add([]byte{0x95, 0xdb, 0xff, 0xff, 0xff, 0xff})
	folder := &Folder{dir: f.TempDir()}
	if err := os.Mkdir(filepath.Join(folder.dir, keyringsName), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		data := mended(append(append(header(name), body...), zeros[:]...))
		must(t, os.WriteFile(filepath.Join(folder.dir, name), data, 0o600))
		s, err := folder.Seed(aSeed(1).Name)
		if err != nil {
			return
		}
		if again := wire.Marshal(seedBody{s.Keyring, s.Name.Life, s.Name.Number, s.Name.Key, s.For, s.Private}); !bytes.Equal(again, body) {
			t.Fatalf("%x is written otherwise", body)
		}
	})
}

// A file costs what it weighs.
func TestSeedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	name := seedPath(aSeed(1).Name)
	folder := &Folder{dir: t.TempDir()}
	must(t, os.Mkdir(filepath.Join(folder.dir, keyringsName), 0o700))
	body := wire.Marshal(seedBody{"web", fleet.UUID{7}, 1, aSeed(1).Name.Key, fleet.ID{}, make([]byte, 32)})
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 96}, func(in []byte) {
		must(t, os.WriteFile(filepath.Join(folder.dir, name), mended(append(append(header(name), in...), zeros[:]...)), 0o600))
		_, _ = folder.Seeds()
	}, hostile.Join(hostile.Some(3, hostile.Inputs(1<<14, body)), hostile.Corpus(t, "FuzzSeedFile")))
}

// SecretsOf knows the keys of keyrings too, and changes nothing of a folder that another process works in.
func TestSecretsOfKeyrings(t *testing.T) {
	f := &Folder{dir: t.TempDir()}
	must(t, f.PutSeed(aSeed(1)))
	unfinished := filepath.Join(f.dir, keyringsName, newPrefix+"x")
	must(t, os.WriteFile(unfinished, nil, 0o600))
	if got := SecretsOf(f.dir); len(got) != 1 || !bytes.Equal(got[0], aSeed(1).Private) {
		t.Errorf("%d secrets", len(got))
	}
	if _, err := os.Stat(unfinished); err != nil {
		t.Error(err)
	}
}
