package hostile

import (
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
)

// Bound is how many bytes a decoder may allocate in all: so many whatever comes, and so many for each byte of input.
type Bound struct{ Base, PerByte int }

// Cost returns how many bytes f allocates in all, freed or not. Nothing else may run beside it.
func Cost(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// meter reads the same count without stopping the world. It lags behind by what the runtime has at hand for small
// objects, some tens of kilobytes.
type meter []metrics.Sample

func newMeter() meter { return meter{{Name: "/gc/heap/allocs:bytes"}} }

func (m meter) cost(f func()) int {
	metrics.Read(m)
	before := m[0].Value.Uint64()
	f()
	metrics.Read(m)
	return int(m[0].Value.Uint64() - before)
}

// Check fails t for every input that costs more than the bound, and returns how many there were. Tests that call it must
// not be parallel.
func Check(t *testing.T, b Bound, decode func([]byte), inputs iter.Seq2[string, []byte]) (count int) {
	t.Helper()
	quick, worst, of, failed := newMeter(), 0.0, "", 0
	decode(nil) // what is made once
	for name, in := range inputs {
		count++
		bound := b.Base + b.PerByte*len(in)
		cost := quick.cost(func() { decode(in) })
		if cost > bound/2 {
			cost = Cost(func() { decode(in) })
		}
		if cost > bound { // what a library keeps from now on is not this input's
			cost = min(cost, Cost(func() { decode(in) }))
		}
		if cost > bound {
			if failed++; failed <= 5 {
				t.Errorf("%s: %d bytes of input cost %d bytes; bound %d + %d for each", name, len(in), cost, b.Base, b.PerByte)
			}
		}
		if share := float64(cost) / float64(bound); share > worst {
			worst, of = share, name
		}
	}
	if count == 0 {
		t.Error("no inputs")
	}
	t.Logf("%d inputs; the worst takes %.0f %% of its bound: %s", count, 100*worst, of)
	return count
}

// Corpus yields the byte inputs that are kept for a fuzz target of the package under test: of each file, every argument
// that is text or bytes.
func Corpus(t testing.TB, target string) iter.Seq2[string, []byte] {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(string, []byte) bool) {
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				in, ok := argument(strings.TrimSpace(line))
				if ok && !yield(target+"/"+filepath.Base(file), in) {
					return
				}
			}
		}
	}
}

// argument reads a line of a corpus file: []byte("…") or string("…").
func argument(line string) ([]byte, bool) {
	for _, kind := range []string{"[]byte(", "string("} {
		if quoted, ok := strings.CutPrefix(line, kind); ok {
			text, err := strconv.Unquote(strings.TrimSuffix(quoted, ")"))
			return []byte(text), err == nil
		}
	}
	return nil, false
}

// Join yields one after the other.
func Join(all ...iter.Seq2[string, []byte]) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, inputs := range all {
			for name, in := range inputs {
				if !yield(name, in) {
					return
				}
			}
		}
	}
}

// Some yields every nth, for decoders that take their time.
func Some(n int, inputs iter.Seq2[string, []byte]) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		count := 0
		for name, in := range inputs {
			if count++; count%n == 0 && !yield(name, in) {
				return
			}
		}
	}
}
