package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

func TestScopeOfCoversItsNamesAndNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"/app/prod/url"}, "/app/prod/url"},
		{[]string{"top"}, "top"},
		{[]string{"/app/prod/url", "/app/prod/size"}, "/app/prod/"},
		{[]string{"/app/prod/url", "/app/test/url"}, "/app/"},
		{[]string{"/app/prod/url", "/application/url"}, "/"},
		{[]string{"/app/prod/url", "top"}, "/"},
		{[]string{"top", "/app/prod/url"}, "/"},
		{[]string{"/app/prod/url", "/app/prod/"}, "/app/prod/"},
	} {
		if got := scopeOf(c.names...); got != c.want {
			t.Errorf("scopeOf(%v) = %q, want %q", c.names, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.StringMatching(`/[ab]{1,2}(/[ab]{1,2}){1,3}`), 1, 5).Draw(t, "names")
		scope := scopeOf(names...)
		for _, name := range names {
			if !params.Covers(scope, name) {
				t.Fatalf("%q does not cover %q of %v", scope, name, names)
			}
		}
	})
}

func TestVariableName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, name, want string }{
		{"/app/prod", "/app/prod/db/url", "DB_URL"},
		{"/app/prod", "/app/prod/db-1.url", "DB_1_URL"},
		{"/", "top", "TOP"},
		{"/", "/a/b", "A_B"},
		{"/app", "/app/2fa", "_2FA"},
	} {
		if got := variableName(c.path, c.name); got != c.want {
			t.Errorf("variableName(%q, %q) = %q, want %q", c.path, c.name, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`/[A-Za-z0-9_.-]{1,9}(/[A-Za-z0-9_.-]{1,9}){0,3}`).Draw(t, "name")
		if got := variableName("/", name); !fleet.Pattern(`^[A-Z_][A-Z0-9_]*$`).MatchString(got) {
			t.Fatalf("%q becomes %q", name, got)
		}
	})
}

func TestCheckVariables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		variables []variable
		kind      fleet.Kind
	}{
		{[]variable{{"A", "/x/a", "1"}, {"B", "/x/b", "1"}}, 0},
		{[]variable{{"A_B", "/x/a.b", "1"}, {"A_B", "/x/a/b", "1"}}, fleet.Conflict},
		{[]variable{{"A", "/x/a", "1"}, {"A", "/x/a", "1"}}, fleet.Invalid},
		{[]variable{{"PATH", "/x/path", "1"}}, fleet.Denied},
		{[]variable{{"LD_AUDIT", "/x/ld/audit", "1"}}, fleet.Denied},
		{[]variable{{"BASH_ENV", "/x/bash/env", "1"}}, fleet.Denied},
		{[]variable{{"OPENSSL_CONF", "/x/openssl/conf", "1"}}, fleet.Denied},
		{[]variable{{"PROMPT_COMMAND", "/x/prompt/command", "1"}}, fleet.Denied},
	} {
		err := checkVariables(c.variables)
		if (err == nil) != (c.kind == 0) || err != nil && fleet.KindOf(err) != c.kind {
			t.Errorf("%v: %v, want kind %s", c.variables, err, c.kind)
		}
	}
	got := mergeEnvironment([]string{"A=old", "AB=stays", "C=3"}, []variable{{"A", "/a", "new"}})
	if want := []string{"AB=stays", "C=3", "A=new"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestGeneratedIsOfItsLettersAndNeverTheSame(t *testing.T) {
	t.Parallel()
	seen := map[byte]int{}
	for _, c := range generated(62_000) {
		seen[c]++
	}
	if len(seen) != len(letters) {
		t.Errorf("%d different letters of %d", len(seen), len(letters))
	}
	for c, n := range seen {
		if !strings.ContainsRune(letters, rune(c)) || n < 700 || n > 1300 { // 1,000 each; nine deviations
			t.Errorf("%q came %d times in 62,000", c, n)
		}
	}
	if one, other := generated(32), generated(32); string(one) == string(other) {
		t.Error("twice the same")
	}
}

// TestWritersOfOneParameterAllGetThrough: whoever was slower makes his version anew.
func TestWritersOfOneParameterAllGetThrough(t *testing.T) {
	t.Parallel()
	w, err := newTown(1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w.open(t, dir, dir)
	const writers = 5
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			if code, said := typed(t, dir, "param", "put", "/hot", fmt.Sprint(i), "--overwrite"); code != 0 {
				t.Errorf("writer %d exits %d: %s", i, code, said)
			}
		})
	}
	group.Wait()
	code, said := typed(t, dir, "param", "history", "/hot", "-o", "name")
	if code != 0 || strings.Count(said, "\n") != writers {
		t.Errorf("exit %d, %q; want %d versions", code, said, writers)
	}
}

// TestFirstKeyIsForMembersByTheRecord: who lost his tag while the keyring was made is not given its key.
func TestFirstKeyIsForMembersByTheRecord(t *testing.T) {
	t.Parallel()
	w, err := newTown(2)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w.open(t, dir, dir)
	for _, name := range []string{"web01", "web02"} {
		if code, said := typed(t, dir, "node", "tag", name, "role=web"); code != 0 {
			t.Fatal(said)
		}
	}
	left := w.byName("web02")
	w.mu.Lock()
	w.vault.after = func() {
		statement := w.who.signer().Sign(auth.ForNodeTags, w.who.Fleet, auth.NodeTags{Header: w.header(0), Node: left.ID, Seq: left.Seq + 1, Server: left.Server})
		if err := w.act(auth.ActNodeTags, statement); err != nil {
			t.Error(err)
		}
	}
	w.mu.Unlock()
	code, said := typed(t, dir, "keyring", "put", "web", "--target", "tag.role=web")
	if code != 0 || !strings.Contains(said, "web01 took the key") || slices.Contains(w.vault.asked, left.ID) {
		t.Errorf("exit %d, web02 was asked for its key: %v\n%s", code, slices.Contains(w.vault.asked, left.ID), said)
	}
}

// typed runs a command line in this process, on the town that is open in dir.
func typed(t *testing.T, dir string, args ...string) (int, string) {
	var out strings.Builder
	a := &app{
		stdin: strings.NewReader(""), stdout: &out, stderr: &out, euid: os.Geteuid(),
		getenv:     func(name string) string { return map[string]string{"HOME": dir, "MUSTER_DATA_DIR": dir}[name] },
		interrupts: func() (<-chan os.Signal, func()) { return nil, func() {} },
	}
	return runApp(t.Context(), a, args), out.String()
}

func FuzzReadImport(f *testing.F) {
	f.Add(`{"muster_parameters": 1, "parameters": [{"name": "/a", "type": "String", "value": "1"}]}`)
	f.Add(`{"Parameters": [{"Name": "/a", "Type": "String", "Value": "1"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := readImport([]byte(text))
		if err == nil && doc.Format != exportFormat {
			t.Errorf("form %d was taken", doc.Format)
		}
	})
}

func FuzzParseFilter(f *testing.F) {
	for _, text := range []string{"type=String", "name^=/a,/b", "Key=Name,Option=Contains,Values=x,y", "tag:a=", "="} {
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text string) { _, _ = parseFilters([]string{text}, false) })
}
