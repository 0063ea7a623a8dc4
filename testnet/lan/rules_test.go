package lan

import (
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	cut := func(pairs ...pair) map[pair]bool {
		out := map[pair]bool{}
		for _, p := range pairs {
			out[p] = true
		}
		return out
	}
	for name, c := range map[string]struct {
		faults faults
		me     int
		want   []string // what is dropped, rule by rule
	}{
		"nothing":                {newFaults(), 1, nil},
		"cut":                    {faults{cut: cut(pair{3, 1}, pair{2, 1}, pair{1, 4})}, 1, []string{"ether saddr { 02:77:00:00:00:02, 02:77:00:00:00:03 } drop"}},
		"one way only":           {faults{cut: cut(pair{1, 2})}, 1, nil},
		"losses of one's own":    {faults{loss: map[int]int{1: 30, 2: 50}}, 1, []string{"numgen random mod 100 < 30 drop"}},
		"losses of others":       {faults{loss: map[int]int{2: 30, 3: 30, 4: 5, 5: 0}}, 1, []string{"ether saddr { 02:77:00:00:00:04 } numgen random mod 100 < 5 drop", "ether saddr { 02:77:00:00:00:02, 02:77:00:00:00:03 } numgen random mod 100 < 30 drop"}},
		"all is lost":            {faults{loss: map[int]int{1: 100}}, 1, []string{"drop"}},
		"a cut comes first":      {faults{cut: cut(pair{2, 1}), loss: map[int]int{1: 10}}, 1, []string{"ether saddr { 02:77:00:00:00:02 } drop", "numgen random mod 100 < 10 drop"}},
		"two digits, as nft has": {faults{cut: cut(pair{200, 1})}, 1, []string{"ether saddr { 02:77:00:00:00:c8 } drop"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for line := range strings.Lines(c.faults.rules(c.me)) {
				if rule, ok := strings.CutPrefix(strings.TrimSpace(line), `iifname "eth0" `); ok {
					got = append(got, rule)
				}
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

func TestHidden(t *testing.T) {
	f := newFaults()
	f.hidden[2], f.loss[2] = true, 30
	if got := f.rules(2); !strings.Contains(got, hiding) || !strings.Contains(got, "< 30 drop") {
		t.Errorf("got\n%s", got)
	}
	if got := f.rules(1); strings.Contains(got, hiding) {
		t.Errorf("another host is hidden:\n%s", got)
	}
}

func TestRing(t *testing.T) {
	for hosts, seen := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3, 7: 3} { // self and neighbours
		f := newFaults()
		f.ring(hosts)
		for me := 1; me <= hosts; me++ {
			if got := hosts - len(f.cutFrom(me)); got != seen {
				t.Errorf("of %d hosts, n%d sees %d", hosts, me, got)
			}
		}
	}
	f := newFaults()
	f.ring(5)
	for _, p := range []pair{{1, 2}, {2, 1}, {1, 5}, {5, 1}} {
		if f.cut[p] {
			t.Errorf("neighbours are cut: %v", p)
		}
	}
}
