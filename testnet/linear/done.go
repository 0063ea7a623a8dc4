package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// judged is the file of histories that were judged before: a line each, seed and number. Without a path it remembers nothing.
type judged struct {
	path string
	had  map[string]bool
}

func openJudged(path string) (judged, error) {
	j := judged{path: path, had: map[string]bool{}}
	if path == "" {
		return j, nil
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return j, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		j.had[strings.TrimSpace(lines.Text())] = true
	}
	return j, lines.Err()
}

func nameOf(seed uint64, number int) string { return fmt.Sprintf("%d %d", seed, number) }

func (j judged) has(seed uint64, number int) bool { return j.had[nameOf(seed, number)] }

func (j judged) add(seed uint64, number int) error {
	if j.path == "" {
		return nil
	}
	file, err := os.OpenFile(j.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, nameOf(seed, number))
	return errors.Join(err, file.Close())
}

// left lists the numbers from first on, so many, that were not judged before.
func (j judged) left(seed uint64, first, many int) (out []int) {
	for number := first; number < first+many; number++ {
		if !j.has(seed, number) {
			out = append(out, number)
		}
	}
	return out
}

// dump leaves what clients saw for people, and says where.
func (n *notes) dump(seed uint64, number int) string {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("linear-%d-%d.txt", seed, number))
	var out strings.Builder
	for _, e := range n.events {
		fmt.Fprintf(&out, "%s\t%d\t%d\tclient %d\t%s\t%s\n", e.ask.key, e.from, e.to, e.client, e.where, describe(e.ask, e.answer))
	}
	if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
		return err.Error()
	}
	return "what the clients saw is in " + path
}
