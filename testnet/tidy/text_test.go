package tidy

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// machinePath finds paths that exist on somebody's machine only. It is put together so that it does not find itself.
var machinePath = regexp.MustCompile(strings.Join([]string{`/wor` + `k/`, `/tm` + `p/h/`, `/hom` + `e/[a-z]`, `/Use` + `rs/`}, "|"))

// readTexts reads every text of the project: path below its folder → text. What git ignores is not of it.
func readTexts(t *testing.T, top string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if name == ".git" || name == "bin" || name == ".vagrant" {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || name == "muster" || strings.HasSuffix(name, ".test") || strings.HasSuffix(name, ".out") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil && utf8.Valid(text) {
			out[name] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// machinePaths lists lines that name a path of one machine.
func machinePaths(texts map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		number := 0
		for line := range strings.Lines(texts[name]) {
			number++
			if found := machinePath.FindString(line); found != "" {
				out = append(out, fmt.Sprintf("%s:%d: names %s, a path of one machine", name, number, found))
			}
		}
	}
	return out
}

func TestNoMachinePaths(t *testing.T) { none(t, machinePaths(readTexts(t, root(t)))) }

func TestNoMachinePathsCatches(t *testing.T) {
	texts := map[string]string{
		"exec/a.go": "package exec\n// see /wor" + "k/here\n",
		"README.md": "cd /hom" + "e/alice/src\n",
		"fine.md":   "/var/lib/muster and /root/join and https://example.org/home\n",
	}
	caught(t, machinePaths(texts), "README.md:1", "exec/a.go:2")
}
