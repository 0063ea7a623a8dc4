package machine

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// section returns the lines of a page below one of its headings, up to the next.
func section(t *testing.T, page, heading string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "## ") {
			inside = line == "## "+heading
		} else if inside {
			lines = append(lines, line)
		}
	}
	return lines
}

// typist types what a page has in its blocks of console: NAME# is a prompt on that machine, the rest a shell line there, and the
// lines below are all that it says; … stands for any text, and alone for any lines. Below a line that ends in "# exits N" it says
// so.
type typist struct {
	net   *Net
	m     *Machine // of the line that is being read; nil: none
	line  string
	want  string
	lines int
	fleet map[*Machine]bool // where an agent runs by now
}

// transcript types the lines below one heading of a page, of which there are so many at least.
func transcript(t *testing.T, n *Net, page, heading string, least int) {
	t.Helper()
	ty := &typist{net: n, fleet: map[*Machine]bool{}}
	prompt := regexp.MustCompile(`^(\w+)# (.*)$`)
	inside := false
	for _, l := range section(t, page, heading) {
		if strings.HasPrefix(l, "```") {
			ty.check(t)
			inside = !inside && l == "```console"
			continue
		}
		if found := prompt.FindStringSubmatch(l); inside && found != nil {
			ty.check(t)
			if ty.m, ty.line = n.Machine(found[1]), found[2]; ty.m == nil {
				t.Fatalf("%s has a line for %s, which is no machine", page, found[1])
			}
		} else if inside {
			ty.want += l + "\n"
		}
	}
	if ty.lines < least {
		t.Fatalf("below %q %s has %d lines to type, not %d", heading, page, ty.lines, least)
	}
}

// check types the line that was read, and compares.
func (ty *typist) check(t *testing.T) {
	t.Helper()
	if ty.m == nil {
		return
	}
	ty.lines++
	got := strings.ReplaceAll(ty.typed(t), "\r", "")
	if ty.want != "" && !matches(got, ty.want) {
		t.Fatalf("%s# %s\nsays\n%s\nand the page has\n%s", ty.m.Name, ty.line, got, ty.want)
	}
	ty.m, ty.want = nil, ""
}

var (
	copied = regexp.MustCompile(`scp (\S+) (\w+):`)
	exits  = regexp.MustCompile(`# exits (\d+)$`)
)

// typed runs the line, in which scp copies between machines without any keys.
func (ty *typist) typed(t *testing.T) string {
	t.Helper()
	if strings.Contains(ty.line, "muster run") && len(ty.fleet) > 0 { // whoever types takes as long to look at the fleet
		until(t, ty.m, "it sees the fleet", "muster status | grep -q '^nodes *"+strconv.Itoa(len(ty.fleet))+" online'")
	}
	if strings.HasPrefix(ty.line, "scp ") {
		for _, c := range copied.FindAllStringSubmatch(ty.line, -1) {
			files, err := filepath.Glob(ty.m.Path("/root/" + c[1]))
			if err != nil || len(files) == 0 {
				t.Fatalf("%s# %s: there is no %s: %v", ty.m.Name, ty.line, c[1], err)
			}
			for _, file := range files {
				give(t, ty.net.Machine(c[2]), file, "/root/"+filepath.Base(file))
			}
		}
		return ""
	}
	said, err := shell(t.Context(), ty.m, "{ "+exits.ReplaceAllString(ty.line, "")+"\n} 2>&1")
	end := "exit status 0"
	if err != nil {
		end = err.Error()
	}
	want := "exit status 0"
	if found := exits.FindStringSubmatch(ty.line); found != nil {
		want = "exit status " + found[1]
	}
	if end != want {
		t.Fatalf("%s# %s\n%s, not %s\n%s", ty.m.Name, ty.line, end, want, said)
	}
	if strings.Contains(ty.line, "muster init") || strings.Contains(ty.line, "muster join") {
		ty.fleet[ty.m] = true
	}
	return said
}

// matches reports whether a text is what a page has.
func matches(got, want string) bool {
	var form strings.Builder
	form.WriteString(`\A`)
	for line := range strings.Lines(want) {
		if line == "…\n" {
			form.WriteString(`(?s:.*)`)
			continue
		}
		form.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSuffix(line, "\n")), "…", `.*`) + `\n`)
	}
	return regexp.MustCompile(form.String() + `\z`).MatchString(got)
}

// TestMatches: a page that says something else is told apart.
func TestMatches(t *testing.T) {
	t.Parallel()
	for want, gots := range map[string]map[string]bool{
		"a\n":         {"a\n": true, "b\n": false, "a\na\n": false, "": false},
		"a … c\n":     {"a b c\n": true, "a b\nb c\n": false},
		"…\nend\n":    {"a\nb\nend\n": true, "end\n": true, "end\nmore\n": false},
		"a.b\n…\n":    {"a.b\n": true, "a.b\nc\n": true, "axb\n": false},
		"[1-3] (3)\n": {"[1-3] (3)\n": true, "2 3\n": false},
	} {
		for _, got := range slices.Sorted(maps.Keys(gots)) {
			if matches(got, want) != gots[got] {
				t.Errorf("%q of %q: %v", got, want, !gots[got])
			}
		}
	}
}
