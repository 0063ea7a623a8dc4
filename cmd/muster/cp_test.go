package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestReadErrand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args   string
		target string
		want   errand
	}{
		{"a web1:b", "", errand{true, "web1", false, []string{"a"}, "b"}},
		{"a ./b:c web1:", "", errand{true, "web1", false, []string{"a", "./b:c"}, ""}},
		{"/x:y web1:/b:c", "", errand{true, "web1", false, []string{"/x:y"}, "/b:c"}},
		{"web1:a web1:b .", "", errand{false, "web1", false, []string{"a", "b"}, "."}},
		{"web1: dir/c:d", "", errand{false, "web1", false, []string{""}, "dir/c:d"}},
		{"a @web:b", "", errand{true, "@web", true, []string{"a"}, "b"}},
		{"a web[01-20]:b", "", errand{true, "web[01-20]", true, []string{"a"}, "b"}},
		{"a tag.role=web:b", "", errand{true, "tag.role=web", true, []string{"a"}, "b"}},
		{"a b /etc/c", "web1", errand{true, "web1", true, []string{"a", "b"}, "/etc/c"}},
		{"a :c", "@web", errand{true, "@web", true, []string{"a"}, "c"}},
	} {
		if got, err := readErrand(strings.Fields(c.args), c.target); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.args, got, err)
		}
	}
	for _, args := range []string{
		"", "a", "web1:a", "a b", "web1:a web2:b", "web1:a b web1:c", "web1:a web2:a .", "@web:a .", "a :b", ":a b", "web1:a b c", "web[1-2]:a .",
	} {
		if got, err := readErrand(strings.Fields(args), ""); fleet.KindOf(err) != fleet.Invalid || err == nil {
			t.Errorf("%s: %+v, %v", args, got, err)
		}
	}
	if _, err := readErrand([]string{"a", ""}, ""); err == nil {
		t.Error("an empty path is taken")
	}
}

func TestAmount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 511_000_000: "511 MB", 2_250_000_000: "2.25 GB", 3e12: "3 TB"} {
		if got := amount(n); got != want {
			t.Errorf("%d: %s, not %s", n, got, want)
		}
	}
}

func TestHaulLine(t *testing.T) {
	t.Parallel()
	one := &haul{files: 1, moved: 250e6, name: "/x/disk.img", size: 500e6, at: 250e6}
	if got, want := one.line(2*time.Second), "250 MB  125 MB/s  disk.img  50% of 500 MB, about 2 s left"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	tree := &haul{files: 1200, moved: 3e6, name: "a", size: 0}
	if got, want := tree.line(3*time.Second), "1200 files  3 MB  1 MB/s  a"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	many := &haul{nodes: 40, done: 12, moved: 8e9, name: "a", size: 1}
	if got, want := many.line(8*time.Second), "12 of 40 nodes  8 GB  1 GB/s"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestCopyOverLostLines: a copy whose connection is lost again and again arrives whole, in one session.
func TestCopyOverLostLines(t *testing.T) {
	t.Parallel()
	w, err := newTown(1)
	if err != nil {
		t.Fatal(err)
	}
	w.openDoors(t)
	dir := t.TempDir()
	w.open(t, dir, dir)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	if err := os.WriteFile(filepath.Join(dir, "from"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	d := w.doors[w.byName("web01").ID]
	go func() {
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for range 5 {
			select {
			case <-tick.C:
				d.cut()
			case <-ctx.Done():
				return
			}
		}
	}()
	var said bytes.Buffer
	a := &app{
		stdin: strings.NewReader(""), stdout: &said, stderr: &said, euid: os.Geteuid(),
		getenv:     func(name string) string { return map[string]string{"MUSTER_DATA_DIR": dir, "HOME": dir}[name] },
		interrupts: func() (<-chan os.Signal, func()) { return nil, func() {} },
	}
	if code := runApp(ctx, a, []string{"cp", dir + "/from", "web01:" + dir + "/to"}); code != 0 {
		t.Fatalf("exit %d: %s", code, said.String())
	}
	if got, err := os.ReadFile(filepath.Join(dir, "to")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes of %d arrive, %v", len(got), len(content), err)
	}
	if n := len(d.states()); n != 1 {
		t.Errorf("it took %d sessions", n)
	}
}
