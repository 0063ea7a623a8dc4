package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestRunningPage runs every block of docs/running.md in one fleet, in the order of the page. A block of yaml with a name
// is a file. In a block of console, what follows "$ " is a shell line, and the lines below are all that it says, on both
// its streams; … stands for any text, and alone for any lines. A line that ends in "# exits N" must exit so.
func TestRunningPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "running.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "fleet 6\npage\n"
	if err := os.WriteFile(filepath.Join(dir, "page.txt"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	params := scriptParams(dir)
	params.Cmds["page"] = func(ts *testscript.TestScript, _ bool, _ []string) { runPage(ts, string(page)) }
	testscript.Run(t, params)
}

// block is a fenced block of a page: what stands behind the fence, its first line in the page, and its text.
type block struct {
	info string
	line int
	text []string
}

func blocksOf(page string) []block {
	var out []block
	inside := false
	for i, line := range strings.Split(page, "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !inside:
			out, inside = append(out, block{info: info, line: i + 2}), true
		case fence:
			inside = false
		case inside:
			out[len(out)-1].text = append(out[len(out)-1].text, line)
		}
	}
	return out
}

func runPage(ts *testscript.TestScript, page string) {
	commands := 0
	for _, b := range blocksOf(page) {
		kind, name, _ := strings.Cut(b.info, " ")
		switch kind {
		case "yaml":
			ts.Check(os.WriteFile(ts.MkAbs(name), []byte(strings.Join(b.text, "\n")+"\n"), 0o600))
		case "console":
			commands += runConsole(ts, b)
		default:
			ts.Fatalf("docs/running.md:%d: a block of %q is not run", b.line, b.info)
		}
	}
	if commands < 30 {
		ts.Fatalf("only %d commands were found in the page", commands)
	}
}

func runConsole(ts *testscript.TestScript, b block) (commands int) {
	for i := 0; i < len(b.text); {
		line, ok := strings.CutPrefix(b.text[i], "$ ")
		if !ok {
			ts.Fatalf("docs/running.md:%d: no command: %q", b.line+i, b.text[i])
		}
		end := i + 1
		for end < len(b.text) && !strings.HasPrefix(b.text[end], "$ ") {
			end++
		}
		want, code := exitWanted(line)
		got, exit := shell(ts, withID(ts, want))
		if exit != code {
			ts.Fatalf("docs/running.md:%d: %s exits %d, want %d; it says\n%s", b.line+i, line, exit, code, got)
		}
		if pattern := patternOf(b.text[i+1 : end]); !pattern.MatchString(got) {
			ts.Fatalf("docs/running.md:%d: %s says\n%s\nbut the page has\n%s", b.line+i, line, got, strings.Join(b.text[i+1:end], "\n"))
		}
		commands, i = commands+1, end
	}
	return commands
}

func exitWanted(line string) (command string, code int) {
	command, comment, ok := strings.Cut(line, "# exits ")
	if ok {
		code, _ = strconv.Atoi(comment)
	}
	return strings.TrimSpace(command), code
}

// withID puts the newest command's ID in the place of the word ID; gates and their like are not meant.
func withID(ts *testscript.TestScript, line string) string {
	if !regexp.MustCompile(`\bID\b`).MatchString(line) {
		return line
	}
	id, _ := shell(ts, `muster command list -o wide | grep -v -e 'gate of' -e 'on stop of' -e '^ID ' | head -n 1 | cut -c1-36`)
	return regexp.MustCompile(`\bID\b`).ReplaceAllString(line, strings.TrimSpace(id))
}

// shell runs a line in the script's environment and returns what it says and its exit code.
func shell(ts *testscript.TestScript, line string) (string, int) {
	err := ts.Exec("sh", "-c", "exec 2>&1\n"+line+"\ncode=$?\necho; echo \"exit $code\"")
	ts.Check(err)
	said := ts.ReadFile("stdout")
	at := strings.LastIndex(said, "\nexit ")
	code, _ := strconv.Atoi(strings.TrimSpace(said[at+len("\nexit "):]))
	return said[:at], code
}

// patternOf returns what matches the lines of a page.
func patternOf(lines []string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for _, line := range lines {
		if line == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(spaced(line) + `\n`)
	}
	b.WriteString(`$`)
	return regexp.MustCompile(b.String())
}

// spaced quotes a line; columns may be as far apart as their content makes them.
func spaced(line string) string {
	var parts []string
	for _, part := range strings.Split(line, "…") {
		parts = append(parts, regexp.MustCompile(`  +`).ReplaceAllString(regexp.QuoteMeta(part), `  +`))
	}
	return strings.Join(parts, `.*`)
}
