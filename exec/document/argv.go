package document

import (
	"path"
	"slices"
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
		if b.hidesIn(c) {
			return b.noSecret(c.line, "in argv")
		}
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

// mostWords is as how many words a list is judged: an option, what it takes, and one more. Three of them come to every
// place that many would.
const mostWords = 3

// checkWords refuses values as the program's name, and where the program would run them: by what is known of programs,
// and as a shell command of the same words, each in single quotes, with lists as none, one, two and three words.
func (b *builder) checkWords(argv *node) error {
	all, err := b.wordsOf(argv)
	if err != nil {
		return err
	}
	if i, where := all.runs(0); i >= 0 {
		return b.unsafe(all[i].line, all[i].m, where).Hinted("put it behind --, give it to a script as an argument, or list the parameter's allowedValues")
	}
	if err := b.checkCode(all); err != nil {
		return err
	}
	most := 1
	if slices.ContainsFunc(all, func(w word) bool { return w.list }) {
		most = mostWords
	}
	for n := most; n >= 0; n-- {
		if _, err := b.rewriteShell(all.line(n)); err != nil {
			return err
		}
		if most == 1 {
			break
		}
	}
	return nil
}

// line makes one shell command of the words, with every list n times.
func (a words) line(n int) source {
	var src source
	for _, w := range a {
		times := 1
		if w.list {
			times = n
		}
		for range times {
			src.starts = append(src.starts, len(src.text))
			src.lines = append(src.lines, w.line)
			src.text += quote(w.text) + " "
		}
	}
	if len(src.lines) == 0 {
		src.starts, src.lines = []int{0}, []int{1}
	}
	return src
}

// checkCode judges the code of sh -c CODE NAME VALUE…, which may run its arguments or its variables: as a script that was
// given them.
func (b *builder) checkCode(all words) error {
	for i, w := range all {
		p, shell := interpreterOf(path.Base(w.text))
		if !w.known || !shell || !p.late {
			continue
		}
		for j := i + 1; j < len(all); j++ {
			code := all[j]
			if !code.known || len(code.text) > 1 && strings.ContainsAny(code.text[:1], "-+") {
				continue
			}
			if !p.startsCode(all[j-1].text) {
				break
			}
			if err := b.checkArguments(code, all[min(j+2, len(all)):]); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

func (b *builder) checkArguments(code word, given words) error {
	src := source{starts: []int{0}, lines: []int{code.line}}
	if i, _ := given.anyOpen(0, ""); i >= 0 {
		src = given.line(mostWords)
		src.text = "set -- " + src.text + "\n"
		for k := range src.starts {
			src.starts[k] += len("set -- ")
		}
		src.starts, src.lines = append(src.starts, len(src.text)), append(src.lines, code.line)
	}
	src.text += code.text + "\n"
	_, err := b.rewriteShell(src)
	return err
}

// quote returns a word for a shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
