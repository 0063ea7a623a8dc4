package fleet

import (
	"testing"

	"pgregory.net/rapid"
)

func TestDrainedNodesAreLeftOutOrMeant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{
			"*", "web1", "web1,db1", "tag.role=web", "tag.role=web or db1", "tag.role=web and not db1", "not (web1 or db1)", "os.name in (debian, alpine)",
		}).Draw(t, "target")
		target, err := ParseTarget(text)
		if err != nil {
			t.Fatal(err)
		}
		m := Member{
			Name: rapid.SampledFrom([]string{"web1", "db1", "x"}).Draw(t, "name"), Facts: Facts{OS: rapid.SampledFrom([]string{"debian", "fedora"}).Draw(t, "os")},
			Tags: map[string]string{"role": rapid.SampledFrom([]string{"web", "db"}).Draw(t, "role")},
		}
		drained := rapid.Bool().Draw(t, "drained")
		if drained {
			m.Tags[DrainTag] = rapid.SampledFrom([]string{"true", "", "a reason"}).Draw(t, "why")
		}
		if (DrainOf(m.Tags) != "") != drained {
			t.Fatalf("%v is drained: %v", m.Tags, !drained)
		}
		without, with := reparsed(t, target.WithoutDrained()), reparsed(t, target.WithDrained())
		if got, want := without.Match(&m), target.Match(&m) && !drained; got != want {
			t.Fatalf("%s matches: %v", without, got)
		}
		if with.Match(&m) != target.Match(&m) {
			t.Fatalf("%s matches otherwise than %s", with, target)
		}
		if MeansDrained(text) || !MeansDrained(with.String()) || !MeansDrained(without.String()) {
			t.Fatalf("%s, %s or %s are misunderstood", text, with, without)
		}
	})
}

func TestMeansDrained(t *testing.T) {
	for text, want := range map[string]bool{
		"tag.muster.drain=*": true, "web1 and tag.muster.drain=true": true, "not tag.muster.drain=*": true, "*": false, "tag.muster=drain": false,
		"": false, "tag.muster.drain=* and (": false,
	} {
		if MeansDrained(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
	if !(Target{}).WithDrained().IsZero() || !(Target{}).WithoutDrained().IsZero() {
		t.Error("nobody becomes somebody")
	}
}

// reparsed is what a node makes of the text.
func reparsed(t *rapid.T, target Target) Target {
	again, err := ParseTarget(target.String())
	if err != nil || !again.Equal(target) {
		t.Fatalf("%s: %v", target, err)
	}
	return again
}
