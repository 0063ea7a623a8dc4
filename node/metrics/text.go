package metrics

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// series writes metrics, one after the other.
type series struct {
	text  []byte
	list  []Metric // that were begun
	begun bool     // help and type of the last are written
}

// begin begins a metric. Nothing is written of one that gets no value.
func (out *series) begin(name string, kind Kind, help string) {
	out.list, out.begun = append(out.list, Metric{name, kind, help}), false
}

func (out *series) gauge(name, help string, value float64) {
	out.begin(name, Gauge, help)
	out.add(value)
}

func (out *series) counter(name, help string, value float64) {
	out.begin(name, Counter, help)
	out.add(value)
}

// add writes one value, with labels as names and values in turn.
func (out *series) add(value float64, labels ...string) {
	m := out.list[len(out.list)-1]
	if !out.begun {
		out.begun = true
		out.text = append(out.text, "# HELP "+m.Name+" "...)
		out.text = append(out.text, m.Help...) // has no line breaks or backslashes; a test looks
		out.text = append(out.text, "\n# TYPE "+m.Name+" "+string(m.Kind)+"\n"...)
	}
	out.text = append(out.text, m.Name...)
	open := byte('{')
	for i := 0; i+1 < len(labels); i += 2 {
		out.text = append(append(out.text, open), labels[i]...)
		out.text = append(append(append(out.text, `="`...), escaped(labels[i+1])...), '"')
		open = ','
	}
	if len(labels) > 0 {
		out.text = append(out.text, '}')
	}
	out.text = append(out.text, ' ')
	out.text = strconv.AppendFloat(out.text, value, 'f', -1, 64)
	out.text = append(out.text, '\n')
}

func (out *series) counts(label string, all []Count) {
	for _, c := range all {
		out.add(float64(c.N), label, c.Of)
	}
}

// duration tells one that is known.
func (out *series) duration(d time.Duration) {
	if d >= 0 {
		out.add(d.Seconds())
	}
}

// escaped returns a label's value as the text format has it.
func escaped(text string) string {
	if !strings.ContainsAny(text, "\\\n\"") {
		return text
	}
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(text)
}

// Text appends a snapshot to dst in Prometheus' text format, version 0.0.4.
func Text(dst []byte, s Snapshot) []byte {
	out := series{text: slices.Grow(dst, 12<<10)}
	out.tell(&s)
	return out.text
}
