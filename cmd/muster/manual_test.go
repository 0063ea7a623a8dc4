package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManual: every command that the help shows has a page, with its flags, its examples and pages that exist.
func TestManual(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := newRootCommand(&app{getenv: func(string) string { return "" }})
	if err := writeManual(root, dir, "2026-11-23"); err != nil {
		t.Fatal(err)
	}
	count := 0
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		count++
		raw, err := os.ReadFile(filepath.Join(dir, manName(cmd)+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		text := string(raw)
		for i, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, ".") && !knownMacro(line) {
				t.Errorf("%s.1:%d: %q is a request by accident", manName(cmd), i+1, line)
			}
		}
		for _, want := range []string{".SH \"NAME\"\n" + manName(cmd), `.SH "SYNOPSIS"`, `.SH "DESCRIPTION"`} {
			if !strings.Contains(text, strings.ReplaceAll(want, "-", `\-`)) && !strings.Contains(text, want) {
				t.Errorf("%s.1 has no %q", manName(cmd), want)
			}
		}
		for _, below := range shown(cmd) {
			if !strings.Contains(text, roff(manName(below))) {
				t.Errorf("%s.1 does not name %s", manName(cmd), below.Name())
			}
			check(below)
		}
	}
	check(root)
	made, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(made) != count || count < 60 {
		t.Errorf("%d pages of %d commands: %v", len(made), count, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "muster-manual.1")); err == nil {
		t.Error("a hidden command has a page")
	}
}

func knownMacro(line string) bool {
	word, _, _ := strings.Cut(line[1:], " ")
	switch word {
	case "TH", "SH", "PP", "TP", "nf", "fi":
		return true
	}
	return false
}

func TestRoff(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		".so /etc/passwd": `\&.so /etc/passwd`, "'it": `\&'it`, `a\nb`: `a\enb`, "--all": `\-\-all`, "x → y …": `x \(-> y \&...`,
	} {
		if got := roff(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
