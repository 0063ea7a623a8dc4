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

// TestPages runs every block of pages of examples, each page in one fleet, in the order of the page. A block of yaml with a
// name is a file. In a block of console, what follows "$ " is a shell line, with the lines behind "> ", and the lines below
// are all that it says, on both its streams; … stands for any text, and alone for any lines. A line that ends in "# exits N"
// must exit so. A block of ini is read by people alone.
func TestPages(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]struct {
		least  int    // commands that it has
		before string // of the script, behind its fleet
		id     string // the line that says what the word ID stands for
	}{
		"running.md":    {30, "", newestCommand},
		"parameters.md": {30, "", newestCommand},
		"observing.md":  {6, "", newestCommand},
		"remote.md":     {8, "elsewhere\ndoors\npolicy policy.cedar\n", newestSession},
		"sessions.md":   {20, "doors\npolicy policy.cedar\n", newestSession},
		"doctor.md":     {10, "", newestCommand},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			script := "fleet 6\n" + p.before + "page\n-- policy.cedar --\n" + pagePolicy
			if err := os.WriteFile(filepath.Join(dir, "page.txt"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			params := scriptParams(dir)
			params.Cmds["page"] = func(ts *testscript.TestScript, _ bool, _ []string) {
				page{ts, "docs/" + name, p.id}.run(string(text), p.least)
			}
			testscript.Run(t, params)
		})
	}
}

// The newest of a fleet's commands; gates and their like are not meant. And the newest session.
const (
	newestCommand = `muster command list -o wide | grep -v -e 'gate of' -e 'on stop of' -e '^ID ' | head -n 1 | cut -c1-36`
	newestSession = `muster session list -o name | head -n 1`
)

// pagePolicy lets operators do all but be root in sessions.
const pagePolicy = `permit (principal, action, resource) unless { action == Action::"session" };
permit (principal, action == Action::"session", resource) unless { context has user && context.user == "root" };
`

// page is a page that is run.
type page struct {
	ts   *testscript.TestScript
	name string
	id   string // the line that says what the word ID stands for
}

// block is a fenced block of a page: what stands behind the fence, its first line in the page, and its text.
type block struct {
	info string
	line int
	text []string
}

func blocksOf(text string) []block {
	var out []block
	inside := false
	for i, line := range strings.Split(text, "\n") {
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

func (p page) run(text string, least int) {
	commands := 0
	for _, b := range blocksOf(text) {
		kind, name, _ := strings.Cut(b.info, " ")
		switch kind {
		case "yaml":
			p.ts.Check(os.WriteFile(p.ts.MkAbs(name), []byte(strings.Join(b.text, "\n")+"\n"), 0o600))
		case "console":
			commands += p.console(b)
		case "ini":
		default:
			p.ts.Fatalf("%s:%d: a block of %q is not run", p.name, b.line, b.info)
		}
	}
	if commands < least {
		p.ts.Fatalf("only %d commands were found in %s", commands, p.name)
	}
}

func (p page) console(b block) (commands int) {
	for i := 0; i < len(b.text); {
		line, ok := strings.CutPrefix(b.text[i], "$ ")
		if !ok {
			p.ts.Fatalf("%s:%d: no command: %q", p.name, b.line+i, b.text[i])
		}
		begin := i + 1
		for ; begin < len(b.text) && strings.HasPrefix(b.text[begin], "> "); begin++ {
			line += "\n" + b.text[begin][2:]
		}
		end := begin
		for end < len(b.text) && !strings.HasPrefix(b.text[end], "$ ") {
			end++
		}
		want, code := exitWanted(line)
		got, exit := shell(p.ts, p.withID(want))
		if exit != code {
			p.ts.Fatalf("%s:%d: %s exits %d, want %d; it says\n%s", p.name, b.line+i, line, exit, code, got)
		}
		if pattern := patternOf(b.text[begin:end]); !pattern.MatchString(got) {
			p.ts.Fatalf("%s:%d: %s says\n%s\nbut the page has\n%s", p.name, b.line+i, line, got, strings.Join(b.text[begin:end], "\n"))
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

// withID puts the newest one's ID in the place of the word ID.
func (p page) withID(line string) string {
	if !regexp.MustCompile(`\bID\b`).MatchString(line) {
		return line
	}
	id, _ := shell(p.ts, p.id)
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
