package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func testKeys(t testing.TB) (identity, rootKey) {
	t.Helper()
	i, err := newIdentity(fleet.Sum([]byte("lab")), "lab", "alice")
	if err != nil {
		t.Fatal(err)
	}
	return i, rootKey{i.Fleet, "lab", newSeed()}
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	a := &app{getenv: func(string) string { return "" }, euid: os.Geteuid()}
	i, k := testKeys(t)
	dir := filepath.Join(t.TempDir(), "a", "b")
	path, rootPath := filepath.Join(dir, identityName), filepath.Join(dir, rootKeyName)
	if err := a.writeIdentity(path, i); err != nil {
		t.Fatal(err)
	}
	if err := a.writeRootKey(rootPath, k); err != nil {
		t.Fatal(err)
	}
	got, err := a.readIdentity(path)
	if err != nil || !reflect.DeepEqual(got, i) {
		t.Errorf("got %+v, %v", got, err)
	}
	gotRoot, err := a.readRootKey(rootPath)
	if err != nil || !reflect.DeepEqual(gotRoot, k) {
		t.Errorf("got %+v, %v", gotRoot, err)
	}
	for _, p := range []string{path, rootPath} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", dir, info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("%d files are left", len(left))
	}

	// A key is never written over, and not confused with another kind.
	other, _ := testKeys(t)
	if err := a.writeIdentity(path, other); fleet.KindOf(err) != fleet.Conflict {
		t.Errorf("over a key: %v", err)
	}
	if again, err := a.readIdentity(path); err != nil || !reflect.DeepEqual(again, i) {
		t.Errorf("the first key is gone: %v", err)
	}
	if _, err := a.readIdentity(rootPath); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("a root key as an operator's: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := a.readIdentity(path); fleet.KindOf(err) != fleet.Denied {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := a.readIdentity(filepath.Join(dir, "none")); fleet.KindOf(err) != fleet.Denied {
		t.Errorf("no key: %v", err)
	}
}

// TestKeyText: every change of a byte, and every cut, is seen.
func TestKeyText(t *testing.T) {
	t.Parallel()
	i, _ := testKeys(t)
	text := i.text()
	body := strings.Index(text, "\n") + 1 // the comment is for people
	for at := body; at < len(text); at++ {
		changed := []byte(text)
		changed[at] ^= 1
		if got, err := parseIdentity(string(changed)); err == nil && !reflect.DeepEqual(got, i) {
			t.Errorf("byte %d changes the key unseen", at)
		}
		if _, err := parseIdentity(text[:at]); err == nil {
			t.Errorf("cut at %d is taken", at)
		}
	}
}

func TestRecoveryText(t *testing.T) {
	t.Parallel()
	seed := newSeed()
	text := recoveryText(seed)
	if len(text) != 14*4+13 {
		t.Errorf("%q", text)
	}
	for _, form := range []string{text, strings.ToLower(text), strings.ReplaceAll(text, "-", " "), "\n " + strings.ReplaceAll(text, "-", "") + "\n"} {
		got, err := parseRecoveryText(form)
		if err != nil || string(got) != string(seed) {
			t.Errorf("%q: %v", form, err)
		}
	}
	for i := range text {
		if text[i] == '-' {
			continue
		}
		slip := []byte(text)
		slip[i] = map[bool]byte{true: 'Q', false: 'R'}[text[i] != 'Q']
		if _, err := parseRecoveryText(string(slip)); err == nil && string(slip) != text {
			t.Errorf("a slip at %d is not seen", i)
		}
	}
}

func FuzzKeyText(f *testing.F) {
	i, k := testKeys(f)
	f.Add(i.text())
	f.Add(k.text())
	f.Add(recoveryText(k.Seed))
	f.Fuzz(func(t *testing.T, text string) {
		if i, err := parseIdentity(text); err == nil {
			if again, err := parseIdentity(i.text()); err != nil || !reflect.DeepEqual(again, i) {
				t.Errorf("%q: %v", text, err)
			}
		}
		if k, err := parseRootKey(text); err == nil {
			if again, err := parseRootKey(k.text()); err != nil || !reflect.DeepEqual(again, k) {
				t.Errorf("%q: %v", text, err)
			}
		}
		if seed, err := parseRecoveryText(text); err == nil {
			if again, err := parseRecoveryText(recoveryText(seed)); err != nil || string(again) != string(seed) {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
