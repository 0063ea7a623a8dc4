package fleet

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestExpand(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"web01", "web01"},
		{"web[01-03]", "web01 web02 web03"},
		{"web[1-3,7]", "web1 web2 web3 web7"},
		{"web[8-11]", "web8 web9 web10 web11"},
		{"web[08-11]", "web08 web09 web10 web11"},
		{"web[098-101]", "web098 web099 web100 web101"},
		{"web[98-101]", "web98 web99 web100 web101"},
		{"web[2,1,1-2]", "web2 web1"},
		{"r[1-2]-w[1-2].dc1", "r1-w1.dc1 r1-w2.dc1 r2-w1.dc1 r2-w2.dc1"},
		{"web[1-2],db1,web1", "web1 web2 db1"},
		{"[0-2]", "0 1 2"},
	} {
		got, err := Expand(c.text)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, %v", c.text, got, err)
		}
	}
	for _, bad := range []string{
		"", "web[", "web[]", "web[1-]", "web[3-1]", "web[1--2]", "web[a-b]", "web[01-9]", "web[1-09]", "Web[1-2]", "web[1-10001]",
		"a[1-101]b[1-100]", "web[1-9999999999]", "web]", "-a[1-2]", "web[1-2],", strings.Repeat("a", 64), "a[1-6000],b[1-6000]",
	} {
		if got, err := Expand(bad); err == nil {
			t.Errorf("%q expands to %d names", bad, len(got))
		}
	}
	if got, err := Expand("web[00001-10000]"); err != nil || len(got) != MaxExpand {
		t.Errorf("%d names, %v", len(got), err)
	}
}

// TestExpandStopsEarly holds the promise that many brackets cost no more than a name may be long.
func TestExpandStopsEarly(t *testing.T) {
	if allocated := testing.AllocsPerRun(1, func() {
		if _, err := Expand("[0-9][0-9][0-9][0-9]" + strings.Repeat("[0]", 1300)); err == nil {
			t.Error("a name of 1,304 characters is accepted")
		}
	}); allocated > 3_000_000 {
		t.Errorf("%.0f allocations", allocated)
	}
}

func TestFoldNames(t *testing.T) {
	var most []string
	for i := 1; i <= 99; i++ {
		if i != 98 {
			most = append(most, fmt.Sprintf("web%02d", i))
		}
	}
	for _, c := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"a"}, "a"},
		{[]string{"db1", "web03", "web01", "web02", "web01"}, "db1,web[01-03]"},
		{most, "web[01-97,99]"},
		{[]string{"web9", "web10", "web11"}, "web[9-11]"},
		{[]string{"web09", "web10", "web11"}, "web[09-11]"},
		{[]string{"web099", "web100", "web1000"}, "web[099-100,1000]"},
		{[]string{"web1", "web01", "web2"}, "web[1,01,2]"},
		{[]string{"web1.dc1", "web2.dc1", "web3.dc1"}, "web[1-3].dc1"},
		{[]string{"r1-w1", "r1-w2", "r1-w3", "r2-w1"}, "r1-w[1-3],r2-w1"},
		{[]string{"n123456789012", "n123456789013"}, "n123456789012,n123456789013"},
	} {
		if got := FoldNames(c.names); got != c.want {
			t.Errorf("%v: %s, want %s", c.names, got, c.want)
		}
	}
}

func TestFoldGivesBackWhatItTook(t *testing.T) {
	name := rapid.OneOf(
		rapid.StringMatching(`(web|db|r[0-9]{1,2}-)[0-9]{1,3}(\.dc[12])?`),
		rapid.StringMatching(`[a-z0-9][a-z0-9.-]{0,10}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(name, 1, 60).Draw(t, "names")
		folded := FoldNames(names)
		back, err := Expand(folded)
		if err != nil {
			t.Fatalf("%s: %v", folded, err)
		}
		want := slices.Compact(slices.Sorted(slices.Values(names)))
		if slices.Sort(back); !slices.Equal(back, want) {
			t.Fatalf("%s gave back %v, want %v", folded, back, want)
		}
		if FoldNames(back) != folded {
			t.Fatalf("%s folds again to %s", folded, FoldNames(back))
		}
	})
}

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"web[01-20]", "web[1-3,7],db1", "a[1-2]b[03-04]", "[", "]", "a[1-2]]", "web[09-100]", "a,,b", "1,01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		names, err := Expand(text)
		if err != nil {
			return
		}
		if len(names) > MaxExpand {
			t.Fatalf("%d names", len(names))
		}
		back, err := Expand(FoldNames(names))
		slices.Sort(names)
		if slices.Sort(back); err != nil || !slices.Equal(back, names) {
			t.Fatalf("%q: %v, %v", text, FoldNames(names), err)
		}
	})
}

func BenchmarkFold10000(b *testing.B) {
	names, err := Expand("web[00001-10000]")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		FoldNames(names)
	}
}
