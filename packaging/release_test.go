package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/release"
)

// newKey makes a key file and returns it with the text of its public half.
func newKey(t *testing.T, dir, name string) (file, public string) {
	t.Helper()
	file = filepath.Join(dir, name)
	var said bytes.Buffer
	if err := run(t.Context(), []string{"--new-key", file}, &said); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file + ".pub")
	public = strings.TrimSpace(string(text))
	if err != nil || !strings.Contains(said.String(), "muster setting put release.keys "+public) {
		t.Fatal(err, said.String())
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	return file, public
}

// TestRelease: a release of binaries that lie there is the same each time, and is taken by a fleet that names its keys; another
// signature can be added to it.
func TestRelease(t *testing.T) {
	dir := t.TempDir()
	ann, annPublic := newKey(t, dir, "ann.key")
	bob, bobPublic := newKey(t, dir, "bob.key")
	if err := run(t.Context(), []string{"--new-key", ann}, os.Stdout); err == nil {
		t.Error("a key is written over")
	}
	signers, err := readSigners(ann)
	if err != nil {
		t.Fatal(err)
	}
	o := order{arches: arches(), version: version{core: "1.2.0"}, date: time.Unix(1e9, 0), signers: signers}
	for _, a := range o.arches {
		if err := os.MkdirAll(filepath.Join(dir, a.name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, a.name, "muster"), []byte("a binary for "+a.name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "muster-1.2.0.release")
	var first []byte
	for range 2 {
		if err := o.writeRelease(dir, dir); err != nil {
			t.Fatal(err)
		}
		again := read(t, name)
		if first != nil && !bytes.Equal(first, again) {
			t.Error("the same release is made in two ways")
		}
		first = again
	}
	taken := func(keys string) (release.Release, error) {
		t.Helper()
		trusted, err := auth.ParseReleaseKeys(keys)
		if err != nil {
			t.Fatal(err)
		}
		return release.ReadFile(bytes.NewReader(read(t, name)), trusted, true)
	}
	got, err := taken(annPublic)
	if err != nil || got.Version != "1.2.0" || strings.Join(got.Arches, " ") != "amd64 arm arm64" {
		t.Fatal(got, err)
	}
	both := "2 of " + annPublic + "," + bobPublic
	if _, err := taken(both); err == nil {
		t.Error("one signature counts as two")
	}
	if err := run(t.Context(), []string{"--cosign", name, "--sign", bob}, new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	if more, err := taken(both); err != nil || more.Digest != got.Digest {
		t.Fatal(more, err)
	}
}

func TestReleaseOrders(t *testing.T) {
	dir := t.TempDir()
	key, _ := newKey(t, dir, "a.key")
	open := filepath.Join(dir, "open.key")
	if err := os.WriteFile(open, read(t, key), 0o644); err != nil {
		t.Fatal(err)
	}
	notes := filepath.Join(dir, "notes")
	if err := os.WriteFile(notes, []byte("buy milk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"wants --sign":                   {"--format", "release"},
		"can be read by others":          {"--format", "release", "--sign", open},
		"no file with a release key":     {"--format", "release", "--sign", notes},
		"--cosign wants --sign":          {"--cosign", "x"},
		"no such file":                   {"--cosign", filepath.Join(dir, "x"), "--sign", key},
		"no release file of muster":      {"--cosign", key, "--sign", key},
		"is none of deb, rpm, apk, tar,": {"--format", "snap"},
	} {
		err := run(context.Background(), args, new(bytes.Buffer))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
