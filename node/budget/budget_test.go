package budget

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const mib = 1 << 20

// life runs samples, one every 10 s after the process has settled, and returns the acts by their second.
func life(b Budget, restarted time.Duration, samples func(second int) (memory int64, cpuPercent int), seconds int) map[int][]Do {
	w, out := New(b, 0, restarted), map[int][]Do{}
	var cpu time.Duration
	for s := 0; s <= seconds; s += 10 {
		memory, percent := samples(s)
		cpu += 10 * time.Second * time.Duration(percent) / 100
		var acts []Act
		w, acts = w.Step(Sample{Boot: time.Duration(s) * time.Second, Memory: memory, CPU: cpu})
		for _, a := range acts {
			out[s] = append(out[s], a.Do)
		}
	}
	return out
}

func TestMemory(t *testing.T) {
	t.Parallel()
	steady := func(m int64) func(int) (int64, int) { return func(int) (int64, int) { return m * mib, 1 } }
	b := Budget{MemoryBytes: 100 * mib}
	for name, c := range map[string]struct {
		budget  Budget
		samples func(int) (int64, int)
		last    int
		want    map[int][]Do
	}{
		"no budget":    {Budget{}, steady(1 << 20), 600, map[int][]Do{}},
		"well below":   {b, steady(79), 600, map[int][]Do{}},
		"near it":      {b, steady(80), 130, map[int][]Do{60: {Return}, 90: {Return}, 120: {Return}}},
		"over it":      {b, steady(100), 100, map[int][]Do{60: {Return}, 80: {Refuse}, 90: {Return}}},
		"far over it":  {b, steady(150), 190, map[int][]Do{60: {Return}, 80: {Refuse}, 90: {Return}, 120: {Return}, 150: {Return}, 180: {Return, Restart}}},
		"start-up":     {b, func(s int) (int64, int) { return int64(300-s*4) * mib, 1 }, 120, map[int][]Do{}},
		"back to well": {b, func(s int) (int64, int) { return map[bool]int64{true: 110, false: 74}[s < 100] * mib, 1 }, 200, map[int][]Do{60: {Return}, 80: {Refuse}, 90: {Return}, 100: {Admit}}},
		"not yet well": {b, func(s int) (int64, int) { return map[bool]int64{true: 110, false: 76}[s < 100] * mib, 1 }, 110, map[int][]Do{60: {Return}, 80: {Refuse}, 90: {Return}}},
	} {
		got := life(c.budget, -1, c.samples, c.last)
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
			continue
		}
		for s, want := range c.want {
			if !slices.Equal(got[s], want) {
				t.Errorf("%s: %v after %d s, want %v", name, got[s], s, want)
			}
		}
	}
}

func TestProcessor(t *testing.T) {
	t.Parallel()
	b := Budget{CPUPercent: 25}
	got := life(b, -1, func(s int) (int64, int) { return mib, 30 }, 3600)
	// Settled after a minute, the window is full five minutes later, and half an hour after that it is no work any more.
	if want := map[int][]Do{360: {Refuse}, 2160: {Restart}}; len(got) != 2 || !slices.Equal(got[360], want[360]) || !slices.Equal(got[2160], want[2160]) {
		t.Errorf("a loop that spins: %v", got)
	}
	burst := func(s int) (int64, int) {
		if s >= 600 && s < 660 {
			return mib, 100
		}
		return mib, 1
	}
	if got := life(b, -1, burst, 3600); len(got) != 0 {
		t.Errorf("a burst: %v", got)
	}
}

// TestRestartsAreRare: a restart that mended nothing is not repeated for an hour, also by the process that it made.
func TestRestartsAreRare(t *testing.T) {
	t.Parallel()
	leak := func(int) (int64, int) { return 500 * mib, 1 }
	b := Budget{MemoryBytes: 100 * mib}
	got := life(b, 0, leak, 2*3600)
	var restarts []int
	for s, acts := range got {
		if slices.Contains(acts, Restart) {
			restarts = append(restarts, s)
		}
	}
	slices.Sort(restarts)
	if !slices.Equal(restarts, []int{3600, 7200}) {
		t.Errorf("restarted at %v", restarts)
	}
}

// TestPromises: whatever is measured, acts come in an order that makes sense, and what is refused is taken again.
func TestPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := Budget{MemoryBytes: rapid.Int64Range(0, 256*mib).Draw(t, "memory"), CPUPercent: rapid.IntRange(0, 200).Draw(t, "cpu")}
		w := New(b, 0, -1)
		at, cpu, refusing, restarted, returned := time.Duration(0), time.Duration(0), false, -RestartEvery, -ReturnEvery
		for range rapid.IntRange(1, 300).Draw(t, "samples") {
			at += time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second
			cpu += time.Duration(rapid.IntRange(0, 300).Draw(t, "work")) * time.Second
			var acts []Act
			w, acts = w.Step(Sample{Boot: at, Memory: rapid.Int64Range(0, 1<<40).Draw(t, "bytes"), CPU: cpu})
			for _, a := range acts {
				switch a.Do {
				case Return:
					if at-returned < ReturnEvery {
						t.Fatal("collected again too soon")
					}
					returned = at
				case Refuse, Admit:
					if refusing == (a.Do == Refuse) {
						t.Fatalf("%v said twice", a.Do)
					}
					refusing = !refusing
				case Restart:
					if at-restarted < RestartEvery {
						t.Fatal("restarted again too soon")
					}
					restarted = at
				}
				if b == (Budget{}) || a.Why == "" || strings.Contains(a.Why, "%!") {
					t.Fatalf("%v without a reason: %q", a.Do, a.Why)
				}
			}
			if refusing != (w.Refusing() != "") {
				t.Fatal("it does not say what it does")
			}
			if len(w.window) > maxWindow+1 {
				t.Fatalf("%d samples are kept", len(w.window))
			}
		}
		for range 300 { // idle from now on
			at += 10 * time.Second
			w, _ = w.Step(Sample{Boot: at, Memory: 0, CPU: cpu})
		}
		if w.Refusing() != "" {
			t.Fatal("an idle process still refuses:", w.Refusing())
		}
	})
}

func TestTally(t *testing.T) {
	t.Parallel()
	var got Tally
	for _, a := range []Act{{Return, "a"}, {Refuse, "b"}, {Admit, "c"}, {Refuse, "d"}, {Restart, "e"}} {
		got = got.Count(a)
	}
	if got != (Tally{Returned: 1, Refused: 2, Restarts: 1, Refusing: "d"}) {
		t.Errorf("%+v", got)
	}
}
