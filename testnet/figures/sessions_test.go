package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/muster-fleet/muster/testnet/delay"
)

func TestSessionWays(t *testing.T) {
	t.Parallel()
	for _, w := range sessionWays() {
		if err := w.path.Check(); err != nil || w.far != (w.path != delay.Path{}) {
			t.Errorf("%+v: %v", w, err)
		}
	}
	for _, keys := range [][]string{wayKeys(), actKeys()} {
		if compact := slices.Compact(slices.Sorted(slices.Values(keys))); len(compact) != len(keys) {
			t.Errorf("a key twice: %v", keys)
		}
	}
	if !chosen(nil, "echo") || !chosen([]string{"open", "echo"}, "echo") || chosen([]string{"open"}, "echo") {
		t.Error("the wrong ones are chosen")
	}
	o, err := parseOptions(strings.Fields("--only sessions --ways far,far5 --acts open"), keys(), io.Discard)
	if err != nil || !slices.Equal(o.ways, []string{"far", "far5"}) || !slices.Equal(o.acts, []string{"open"}) || o.wantsFleet() || !o.wantsMuster() {
		t.Errorf("%+v, %v", o, err)
	}
	for _, line := range []string{"--ways near", "--acts sleep"} {
		if _, err := parseOptions(strings.Fields(line), keys(), io.Discard); err == nil {
			t.Errorf("%s is taken", line)
		}
	}
}

// TestSessionAims: which figures are held to something depends on the way.
func TestSessionAims(t *testing.T) {
	t.Parallel()
	ways := sessionWays()
	near, far := &couple{ground: &ground{}, way: ways[0]}, &couple{ground: &ground{far: true}, way: ways[1]}
	for _, c := range []struct {
		of                 *couple
		ours, theirs       float64
		key, rate, against string
	}{
		{near, 130e6, 200e6, "session_loopback_x_muster_bytes_per_second", "130,000,000 B/s  ", "0.65×  "},
		{near, 100e6, 300e6, "session_loopback_x_muster_bytes_per_second", "100,000,000 B/s !", "0.33× !"},
		{far, 10e6, 40e6, "session_far_x_muster_bytes_per_second", "10,000,000 B/s  ", "0.25×  "},
	} {
		got := c.of.besides("x", "x", c.ours, c.theirs)
		if got[0].key != c.key || marked(got[0]) != c.rate || marked(got[2]) != c.against {
			t.Errorf("%+v", got)
		}
	}
	if got := seconds.text(-0.0021); got != "-2.1 ms" {
		t.Errorf("a difference is %q", got)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	endless := func(b byte) io.Reader { return &repeated{b} }
	rate, err := drain(t.Context(), []io.Reader{endless('a'), endless('b')}, 50*time.Millisecond)
	if err != nil || rate <= 0 {
		t.Errorf("%v, %v", rate, err)
	}
	if _, err := drain(t.Context(), []io.Reader{endless('a'), strings.NewReader("")}, time.Millisecond); err == nil {
		t.Error("nothing is a stream")
	}
	if _, err := drain(t.Context(), []io.Reader{iotest.ErrReader(errors.New("broken"))}, time.Millisecond); err == nil {
		t.Error("what breaks is a stream")
	}
}

// repeated is one byte for ever.
type repeated struct{ b byte }

func (r *repeated) Read(p []byte) (int, error) {
	p[0] = r.b
	return 1, nil
}

func TestWriteText(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "text")
	if err := writeText(path, 100_000); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) != 100_000 || bytes.Count(raw, []byte("\n")) < 500 || bytes.ContainsFunc(raw, func(r rune) bool { return r != ' ' && r != '\n' && (r < 'a' || r > 'z') }) {
		t.Errorf("%d bytes, %v: %.200q", len(raw), err, raw)
	}
}

func TestDescends(t *testing.T) {
	t.Parallel()
	parents := map[int]int{2: 1, 3: 2, 4: 3, 5: 1, 6: 6}
	for pid, want := range map[int]bool{3: true, 4: true, 2: false, 5: false, 6: false, 7: false} {
		if got := descends(parents, pid, 2); got != want {
			t.Errorf("%d descends from 2: %v", pid, got)
		}
	}
	own, err := parentsOfAll()
	if err != nil || own[os.Getpid()] != os.Getppid() {
		t.Errorf("this process is a child of %d, %v", own[os.Getpid()], err)
	}
}

// TestSessionFigures: the keys of what is measured on loopback are a promise; sizes are the machine's affair.
func TestSessionFigures(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	needsRoot(t)
	var stdout, stderr strings.Builder
	args := strings.Fields("--only sessions --ways loopback,far --acts open,echo --runs 1 --json -")
	if code := command(t.Context(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, &stdout, &stderr)
	}
	var got reportJSON
	if err := json.Unmarshal([]byte(stdout.String()), &got); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, way := range []string{"loopback", "far"} {
		for _, key := range []string{"open_muster_seconds", "open_muster_p90_seconds", "open_ssh_seconds", "open_ssh_p90_seconds", "open_ssh_warm_seconds", "open_ratio",
			"echo_muster_p50_seconds", "echo_muster_p99_seconds", "echo_ssh_p50_seconds", "echo_ssh_p99_seconds", "echo_behind_p50_seconds", "echo_behind_p99_seconds"} {
			want = append(want, "session_"+way+"_"+key)
		}
	}
	slices.Sort(want)
	if keys := slices.Sorted(maps.Keys(got.Alone)); !slices.Equal(keys, want) {
		t.Errorf("the figures are %v", keys)
	}
	for key, f := range got.Alone {
		if f.Value <= 0 && !strings.Contains(key, "behind") {
			t.Errorf("%s is %v", key, f.Value)
		}
	}
	if trip := got.Alone["session_far_echo_muster_p50_seconds"].Value; trip < roundTrip.Seconds() {
		t.Errorf("over a way of %s a key is back after %v s", roundTrip, trip)
	}
}

func TestServeZeros(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go serveZeros(l)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.CopyN(io.Discard, conn, 1<<20); err != nil {
		t.Error(err)
	}
}
