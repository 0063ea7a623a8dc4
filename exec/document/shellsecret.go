package document

import (
	"slices"

	"mvdan.cc/sh/v3/syntax"
)

// The arguments of a program are for all on a host to see (ps). So a script may give a secret to what the shell does by
// itself, to a variable, to a program's environment and to what a program reads, and not as an argument.

// isSecret reports whether the parameter is one of the store's secrets.
func (p *parameter) isSecret() bool { return p.store != nil && p.store.Secure }

// argvOf returns the program that a command starts with its words as arguments; empty if the shell does it by itself.
func (w *shellWriter) argvOf(first *syntax.Word) string {
	name, known := w.literal(first)
	switch {
	case !known:
		return "a command that only the host knows"
	case len(w.flow.functions[name]) > 0 || ownCommand(name):
		return ""
	}
	return name
}

// ownCommand reports whether every shell does a command without another process.
func ownCommand(name string) bool {
	switch name {
	case ":", "true", "false", "echo", "printf", "test", "[", "set", "export", "readonly", "local", "declare", "typeset", "return":
		return true
	}
	return false
}

// shows reports whether a secret would be an argument here, and notes the document's own parameters that are.
func (w *shellWriter) shows(m mark) bool {
	if w.starts == "" {
		return false
	}
	if m.p.store == nil && !slices.Contains(w.shown, m.p.Name) {
		w.shown = append(w.shown, m.p.Name)
	}
	return m.p.isSecret()
}

func (w *shellWriter) refuseSecret(m mark) {
	if w.err != nil {
		return
	}
	what := "as the name of a command"
	if w.starts != "" {
		what = "as an argument of " + w.starts
	}
	w.err = refuse(w.src.at(m.at), "%s: the secret %s %s: everybody on the host can read it there", w.b.s.of(), m.p.store.braced(), what).
		Hinted("give it to the program's environment (PASSWORD=%[1]s program) or let it read it (printf %%s %[1]s | program)", m.p.store.braced())
}

// checkShown refuses a secret that was given for a parameter which the script hands on as an argument.
func (b *builder) checkShown(c *compiled) error {
	for _, name := range c.shown {
		if b.d.store.hides(stringify(b.r.v.of[name])) {
			return refuse(b.s.line, "%s: a secret was given for %s, which the script hands to a program as an argument: everybody on the host can read it there", b.s.of(), name).
				Hinted("change the document, or do without the secret")
		}
	}
	return nil
}
