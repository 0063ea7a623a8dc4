package document

import (
	"strings"

	"github.com/muster-fleet/muster/exec/steps"
)

// argv builds muster:run: a program and its arguments. Values stand for themselves, whole or inside of a word, and no
// shell sees them; a list that is a whole word becomes as many words as it has items.
func (b *builder) argv(f *form, out *steps.Step) error {
	n := f.raw("argv")
	if n == nil || n.shape != list || len(n.items) == 0 {
		return refuse(b.s.line, "%s: argv is a list: a program and its arguments", b.s.of()).Hinted(`argv: ["systemctl", "restart", "{{ unit }}"]`)
	}
	if err := b.checkWords(n); err != nil {
		return err
	}
	resolved, err := b.r.resolve(n)
	if err != nil {
		return err
	}
	for _, c := range resolved.items {
		words, err := c.words()
		if err != nil {
			return refuse(c.line, "%s: argv is a list of texts: %w", b.s.of(), err)
		}
		out.Argv = append(out.Argv, words...)
	}
	out.Dir = f.text("workingDirectory")
	out.Env = b.environment(f, &compiled{})
	if len(out.Argv) == 1 {
		out.Argv[0] = "exec " + quote(out.Argv[0]) // one word alone would be a shell line
	}
	return f.err
}

// words returns what an item of argv becomes.
func (n *node) words() ([]string, error) {
	switch n.shape {
	case scalar:
		return []string{n.text}, nil
	case open:
		return nil, nil
	case list:
		return n.texts()
	case null, dict:
	}
	return nil, refuse(n.line, "a text is wanted, not %s", n.shape)
}

// checkWords refuses values as the program's name, and where the program would run them: argv is judged as a shell
// command of the same words, each in single quotes.
func (b *builder) checkWords(argv *node) error {
	var src source
	for _, c := range argv.items {
		if c.shape != scalar {
			return refuse(c.line, "%s: argv is a list of texts, not one with %s in it", b.s.of(), c.shape)
		}
		src.starts = append(src.starts, len(src.text))
		src.lines = append(src.lines, c.line)
		src.text += quote(c.text) + " "
	}
	_, err := b.rewriteShell(src)
	return err
}

// quote returns a word for a shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
