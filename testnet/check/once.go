package check

import (
	"strings"
	"time"
)

// Once finds commands that ran more than once on a node.
func Once(h History) []Violation {
	v := violations{promise: PromiseOnce}
	runs, told := h.runsOf(), map[key]bool{}
	for _, r := range h.Runs {
		k := key{r.Command, r.Node}
		if all := runs[k]; len(all) > 1 && !told[k] {
			told[k] = true
			v.add(k.command, k.node, "it began %d times: %s", len(all), beginnings(all))
		}
	}
	return v.found
}

func beginnings(runs []Run) string {
	var out []string
	for _, r := range runs {
		out = append(out, clock(r.Began))
	}
	return strings.Join(out, ", ")
}

// clock shows a moment as precisely as one needs to find it in a log.
func clock(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return t.UTC().Format("15:04:05.000")
}
