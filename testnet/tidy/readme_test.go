package tidy

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block returns the lines of the first fenced block behind a heading.
func block(text, heading string) []string {
	_, rest, ok := strings.Cut(text, "\n"+heading+"\n")
	if !ok {
		return nil
	}
	_, rest, ok = strings.Cut(rest, "```")
	if !ok {
		return nil
	}
	inside, _, _ := strings.Cut(rest, "\n```")
	lines := strings.Split(inside, "\n")
	return lines[1:] // behind the language
}

// The headings of the README that are held to the code.
const (
	mapHeading     = "## The map of the house"
	pictureHeading = "## The way of a command"
)

// wrongMap compares the README's map with the packages that there are.
func wrongMap(h house, readme string) []string {
	drawn := map[string]bool{}
	var out []string
	for _, line := range block(readme, mapHeading) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) < 3 {
			out = append(out, fmt.Sprintf("the map does not say what %s is", words[0]))
		}
		if drawn[words[0]] {
			out = append(out, fmt.Sprintf("the map has %s twice", words[0]))
		}
		drawn[words[0]] = true
	}
	for _, r := range h.rooms {
		if !drawn[r.path] {
			out = append(out, fmt.Sprintf("the map lacks %s", r.path))
		}
		delete(drawn, r.path)
	}
	for path := range drawn {
		out = append(out, fmt.Sprintf("the map has %s, which is no package", path))
	}
	slices.Sort(out)
	return out
}

// hop is a step of the picture: a file, and a function or Type.Method in it.
var hop = regexp.MustCompile(`([a-z][a-z0-9_/]*\.go) +([A-Za-z]\w*(?:\.[A-Za-z]\w*)?)`)

// wrongPicture lists steps of the picture that are not in the code.
func wrongPicture(h house, readme string) []string {
	var out []string
	hops := 0
	for _, line := range block(readme, pictureHeading) {
		for _, m := range hop.FindAllStringSubmatch(line, -1) {
			hops++
			f, ok := h.find(m[1])
			if !ok {
				out = append(out, "the picture has "+m[1]+", which is no file")
			} else if !declares(f, m[2]) {
				out = append(out, fmt.Sprintf("the picture has %s, which is not in %s", m[2], m[1]))
			}
		}
	}
	if hops == 0 {
		out = append(out, "the picture shows no step")
	}
	return out
}

func declares(f file, name string) bool {
	for _, d := range f.Decls {
		d, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		full := d.Name.Name
		if of := receiver(d); of != "" {
			full = of + "." + full
		}
		if full == name {
			return true
		}
	}
	return false
}

func readReadme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadmeDrawsTheHouse(t *testing.T) {
	h, readme := standing(t), readReadme(t)
	none(t, wrongMap(h, readme))
	none(t, wrongPicture(h, readme))
}

func TestReadmeDrawsTheHouseCatches(t *testing.T) {
	h := plant(t, map[string]string{
		"exec/judge.go": "package exec\nfunc Judge() {}\ntype Order struct{}\nfunc (o *Order) Has() {}",
		"node/a.go":     "package node",
	})
	readme := "# x\n" + mapHeading + "\nwords\n```\nexec   decides about commands\nexec  decides twice here\nparams  keeps\n```\n" +
		pictureHeading + "\n```text\n exec/judge.go  Judge     then exec/judge.go  Order.Has\n exec/judge.go  Has\n exec/gone.go  Judge\n```\n"
	caught(t, wrongMap(h, readme),
		"the map does not say what params is", "the map has exec twice", "the map has params, which is no package", "the map lacks node")
	caught(t, wrongPicture(h, readme), "the picture has Has, which is not in exec/judge.go", "the picture has exec/gone.go")
	caught(t, wrongPicture(h, "# nothing"), "the picture shows no step")
}
