package document

import (
	"fmt"
	"strings"
)

// Help returns what a person needs to run the document that is called name: what it is, its parameters with what they
// take, its steps, and a command to begin with.
func (d *Document) Help(name string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s (schema %s)\n", name, d.schema)
	if text := strings.TrimSpace(d.description); text != "" {
		fmt.Fprintf(&out, "%s\n", text)
	}
	if d.RawShell() {
		out.WriteString("Whoever gives the values decides what code runs: policy treats it as raw shell.\n")
	}
	if len(d.parameters) > 0 {
		out.WriteString("\nParameters:\n")
	}
	for _, p := range d.parameters {
		p.help(&out)
	}
	for i, p := range d.stored {
		if i == 0 {
			out.WriteString("\nFrom the parameter store:\n")
		}
		fmt.Fprintf(&out, "  %s\n", p.store.braced())
	}
	out.WriteString("\nSteps:\n")
	for i, s := range d.steps {
		fmt.Fprintf(&out, "  %d. %s (%s)%s\n", i+1, s.name, s.action, s.notes())
	}
	fmt.Fprintf(&out, "\nExample:\n  muster run --doc %s --target EXPR%s\n", name, d.example())
	return out.String()
}

func (p *parameter) help(out *strings.Builder) {
	need := "required"
	if !p.Required {
		need = "default " + p.Default
	}
	fmt.Fprintf(out, "  %s  %s, %s\n", p.Name, p.Type, need)
	if text := strings.Join(strings.Fields(p.Description), " "); text != "" {
		fmt.Fprintf(out, "      %s\n", text)
	}
	if c := p.constraints(); len(c) > 0 {
		fmt.Fprintf(out, "      %s\n", strings.Join(c, "; "))
	}
}

// notes says when a step runs, where that is not plain.
func (s *step) notes() string {
	var notes []string
	if s.when != nil {
		notes = append(notes, fmt.Sprintf("only if %s is %s", s.when.left, s.when.right))
	}
	for _, key := range []string{"onFailure", "onSuccess", "finallyStep"} {
		for _, n := range []*node{s.flow.get(key), s.inputs.get(key)} {
			if n != nil && n.shape == scalar {
				notes = append(notes, key+": "+n.text)
			}
		}
	}
	if len(notes) == 0 {
		return ""
	}
	return ", " + strings.Join(notes, ", ")
}

// example gives every parameter that must be given.
func (d *Document) example() string {
	var out strings.Builder
	for _, p := range d.parameters {
		if p.Required {
			fmt.Fprintf(&out, " %s=%s", p.Name, p.sample())
		}
	}
	return out.String()
}

func (p *parameter) sample() string {
	switch {
	case len(p.AllowedValues) > 0:
		return p.AllowedValues[0]
	case p.Type == Integer:
		return "1"
	case p.Type == Boolean:
		return "true"
	case p.Type == StringMap:
		return `'{"key":"value"}'`
	case p.Type == MapList:
		return `'[{"key":"value"}]'`
	}
	return "VALUE"
}
