package exec

import (
	"crypto/sha256"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestOutputCheck(t *testing.T) {
	t.Parallel()
	head := func(kept int64, ended bool, of string) OutputHead {
		h := OutputHead{Sum: OutputSum{Size: kept, Kept: kept}, Ended: ended}
		if of != "" {
			h.Sum.Digest = sha256.Sum256([]byte(of))
		}
		return h
	}
	whole, some := OutputAsk{Stream: StdoutName}, OutputAsk{Stream: StdoutName, From: 2, To: 4}
	rest := OutputAsk{Stream: StdoutName, From: 2, Follow: true}
	for what, c := range map[string]struct {
		ask  OutputAsk
		came string
		last OutputHead
		kind fleet.Kind
		err  string
	}{
		"whole":                  {whole, "abcd", head(4, true, "abcd"), 0, ""},
		"empty":                  {whole, "", head(0, true, ""), 0, ""},
		"another digest":         {whole, "abcd", head(4, true, "abce"), fleet.Internal, "digest"},
		"no digest":              {whole, "abcd", head(4, true, ""), 0, ""},
		"not ended":              {whole, "abcd", head(4, false, "abce"), 0, ""},
		"too little":             {whole, "abc", head(4, true, "abc"), fleet.Unavailable, "ends at byte 3"},
		"too little, not ended":  {whole, "abc", head(4, false, ""), fleet.Unavailable, "ends at byte 3"},
		"too much":               {whole, "abcd", head(3, true, "abcd"), fleet.Invalid, "more output"},
		"a span":                 {some, "cd", head(9, true, "another"), 0, ""},
		"less than a span":       {some, "c", head(9, true, "another"), fleet.Unavailable, "ends at byte 3"},
		"a span beyond the end":  {some, "", head(1, true, "a"), 0, ""},
		"a span up to the end":   {some, "c", head(3, true, "abc"), 0, ""},
		"the rest, followed":     {rest, "cd", head(4, true, "abcd"), 0, ""},
		"the rest, not all":      {rest, "c", head(4, true, "abcd"), fleet.Unavailable, "ends at byte 3"},
		"kept more than written": {whole, "", OutputHead{Sum: OutputSum{Size: 1, Kept: 2}}, fleet.Invalid, "cannot have kept"},
	} {
		check := NewOutputCheck(c.ask)
		if c.came != "" {
			if err := check.Take([]byte(c.came)); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		err := check.End(c.last)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || fleet.KindOf(err) != c.kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOutputCheckTakesOnlyWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	check := NewOutputCheck(OutputAsk{Stream: StdoutName, From: 10, To: 15})
	if err := check.Take([]byte("1234")); err != nil || check.At() != 14 || check.From() != 10 {
		t.Errorf("at %d, %v", check.At(), err)
	}
	for _, p := range []string{"", "12", strings.Repeat("x", MaxOutputPiece+1)} {
		if err := check.Take([]byte(p)); fleet.KindOf(err) != fleet.Invalid || check.At() != 14 {
			t.Errorf("%d bytes: at %d, %v", len(p), check.At(), err)
		}
	}
}

// However an output is cut into pieces, it passes whole and fails with any byte changed.
func TestPropertyOutputCheck(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 1000).Draw(t, "data")
		last := OutputHead{Sum: OutputSum{Size: int64(len(data)), Kept: int64(len(data)), Digest: sha256.Sum256(data)}, Ended: true}
		changed := rapid.IntRange(-1, len(data)-1).Draw(t, "changed")
		if changed >= 0 {
			data[changed] ^= 1
		}
		check := NewOutputCheck(OutputAsk{Stream: StderrName})
		for len(data) > 0 {
			n := rapid.IntRange(1, len(data)).Draw(t, "piece")
			if err := check.Take(data[:n]); err != nil {
				t.Fatal(err)
			}
			data = data[n:]
		}
		if err := check.End(last); (err == nil) != (changed < 0) {
			t.Fatalf("changed at %d: %v", changed, err)
		}
	})
}
