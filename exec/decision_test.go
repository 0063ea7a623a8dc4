package exec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func TestDecisionLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		d    Decision
		want string
	}{
		{Decision{1_700_000_000_123, DecidedPolicy, "permitted by ops"}, "2023-11-14 22:13:20.123Z  policy     permitted by ops"},
		{Decision{0, DecidedSignature, "of tester"}, "1970-01-01 00:00:00.000Z  signature  of tester"},
		{Decision{0, DecidedBell, ""}, "1970-01-01 00:00:00.000Z  bell"},
		{Decision{0, "a\nb", "x\ty\x1b[2J\u202e"}, `1970-01-01 00:00:00.000Z  a b        x y\x1b[2J\u202e`},
	} {
		if got := c.d.Line(); got != c.want {
			t.Errorf("got %q, not %q", got, c.want)
		}
	}
}

// Whatever a decision says, it is kept as one line of bounded, valid, printable text, and keeping it again changes nothing.
func TestPropertyBoundedDecisions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := Decision{rapid.Int64().Draw(t, "at"), rapid.String().Draw(t, "what"), string(rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "detail"))}
		b := d.Bounded()
		if len(b.What) > MaxDecisionWhat || len(b.Detail) > MaxDecisionDetail || !utf8.ValidString(b.What+b.Detail) || strings.ContainsAny(b.What+b.Detail, "\n\t\x1b") {
			t.Fatalf("%+q", b.Line())
		}
		if b.Bounded() != b || b.Check() != nil || b.At != d.At {
			t.Fatalf("%+v is not settled", b)
		}
	})
}

func TestLongListsOfDecisionsAreShortInTheMiddle(t *testing.T) {
	t.Parallel()
	list := func(n int) (out []Decision) {
		for i := range n {
			out = append(out, Decision{int64(i), DecidedGrant, fmt.Sprint(i)})
		}
		return out
	}
	if got := ShortDecisions(list(MaxDecisions)); !slices.Equal(got, list(MaxDecisions)) {
		t.Error("a list that fits is changed")
	}
	got := ShortDecisions(list(10_000))
	if len(got) != MaxDecisions+1 || got[0].Detail != "0" || got[MaxDecisions].Detail != "9999" {
		t.Errorf("%d: from %+v to %+v", len(got), got[0], got[len(got)-1])
	}
	if gap := got[MaxDecisions/2]; gap.What != DecidedLost || !strings.HasPrefix(gap.Detail, "9500 decisions are left out") {
		t.Errorf("in the middle: %+v", gap)
	}
	worst := make([]Decision, MaxDecisions+100)
	for i := range worst {
		worst[i] = Decision{1 << 62, strings.Repeat("w", 100), strings.Repeat("d", 1000)}
	}
	if data := EncodeDecisions(worst); len(data) > MaxDecisionsSize {
		t.Errorf("%d bytes, more than %d", len(data), MaxDecisionsSize)
	} else if back, err := DecodeDecisions(data); err != nil || len(back) != MaxDecisions+1 {
		t.Errorf("%d came back, %v", len(back), err)
	}
}

func TestDecodeDecisionsRefuses(t *testing.T) {
	t.Parallel()
	for what, data := range map[string][]byte{
		"a detail that is too long": wire.Marshal([]Decision{{1, "bell", strings.Repeat("x", MaxDecisionDetail+1)}}),
		"an escape":                 wire.Marshal([]Decision{{1, "bell", "\x1b[2J"}}),
		"too much":                  make([]byte, MaxDecisionsSize+1),
		"nonsense":                  {0x91, 0x90},
	} {
		if _, err := DecodeDecisions(data); err == nil || fleet.KindOf(err) == fleet.Internal {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzDecodeDecisions(f *testing.F) {
	f.Add(EncodeDecisions([]Decision{{1, DecidedBell, "rung"}, {2, DecidedEnd, ""}}))
	f.Add(EncodeDecisions(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := DecodeDecisions(data)
		if err != nil {
			return
		}
		for _, d := range all {
			if d.Check() != nil || strings.Contains(d.Line(), "\n") {
				t.Fatalf("%+v passes", d)
			}
		}
	})
}
