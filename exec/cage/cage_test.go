package cage

import (
	"fmt"
	"testing"
)

func TestFindCgroups(t *testing.T) {
	const hybrid = `26 25 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
27 26 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw
33 26 0:29 / /sys/fs/cgroup/my\040freezer rw,nosuid shared:9 - cgroup cgroup rw,freezer
34 26 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
`
	if got := find(hybrid); got != (Cgroups{"/sys/fs/cgroup/unified/muster", "/sys/fs/cgroup/my freezer/muster"}) {
		t.Fatalf("%+v", got)
	}
	if got := find("29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\nshort - x\n\n"); got != (Cgroups{v2: "/sys/fs/cgroup/muster"}) {
		t.Fatalf("%+v", got)
	}
}

func TestParseStat(t *testing.T) {
	const text = "42 (a) (b c)) S 7 42 43 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 2560000 200"
	if got, err := parseStat(text); err != nil || got != (Stat{7, 42, 43, 98765}) {
		t.Fatalf("%v %+v", err, got)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// Whatever a program calls itself, its line in /proc is read right.
func FuzzStat(f *testing.F) {
	f.Add("7 (sh) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0", "sh")
	f.Add("7 (a) b) R 1", "a) S 99 (")
	f.Add("", "\n")
	f.Fuzz(func(t *testing.T, text, name string) {
		_, _ = parseStat(text)
		line := fmt.Sprintf("7 (%s) S 4711 7 8 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0", name)
		if got, err := parseStat(line); err != nil || got != (Stat{4711, 7, 8, 12345}) {
			t.Fatalf("%q: %+v, %v", line, got, err)
		}
	})
}
