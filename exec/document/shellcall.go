package document

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// verdict is what is known about the words of a simple command.
type verdict struct {
	code []string // per word: why a value in it would be read as code; empty: it would not
	runs string   // the program that reads code from its input, if one does
	any  bool     // some program here runs code
}

// inspect decides which words of a command are code. What commands do with their arguments cannot be known of all of
// them; these are the ones that run what they are told: shells, interpreters, remote shells, builtins that evaluate.
func inspect(w *shellWriter, args []*syntax.Word) verdict {
	v := verdict{code: make([]string, len(args))}
	if len(args) == 0 {
		return v
	}
	v.code[0] = "as the name of a command"
	if name, known := w.program(args[0]); known {
		c := &caller{w: w, args: args, v: &v}
		c.named(name)
	} else {
		for i := 1; i < len(args); i++ {
			v.code[i] = "given to a command that only the host knows"
		}
	}
	v.scan(w, args)
	return v
}

// program returns the name of the program that a command's first word runs: what stands behind its last slash.
func (w *shellWriter) program(word *syntax.Word) (name string, known bool) {
	text, known := w.literal(word)
	if known {
		return path.Base(text), text != ""
	}
	last := word.Parts[len(word.Parts)-1]
	if q, ok := last.(*syntax.DblQuoted); ok && len(q.Parts) > 0 { // "$folder/name"
		last = q.Parts[len(q.Parts)-1]
	}
	text, known = w.literals([]syntax.WordPart{last})
	at := strings.LastIndexByte(text, '/')
	return text[at+1:], known && at >= 0 && at < len(text)-1
}

// scan looks for programs that a command runs which nobody has heard of: … sh -c CODE, find … -exec PROGRAM.
func (v *verdict) scan(w *shellWriter, args []*syntax.Word) {
	for i := 1; i < len(args); i++ {
		word, known := w.literal(args[i])
		if !known {
			continue
		}
		base := path.Base(word)
		_, runs := interpreterOf(base)
		switch {
		case slices.Contains([]string{"-exec", "-execdir", "-ok", "-okdir"}, word):
			v.sub(w, args, i+1)
		case runs && i+1 < len(args):
			if next, ok := w.literal(args[i+1]); ok && strings.HasPrefix(next, "-") {
				v.sub(w, args, i)
			}
		}
	}
}

// sub judges the words from i on as a command of their own.
func (v *verdict) sub(w *shellWriter, args []*syntax.Word, i int) {
	if i >= len(args) {
		return
	}
	inner := inspect(w, args[i:])
	v.any = v.any || inner.any
	if v.runs == "" {
		v.runs = inner.runs
	}
	for j, reason := range inner.code {
		if v.code[i+j] == "" {
			v.code[i+j] = reason
		}
	}
}

// caller judges the words of a command whose name is known.
type caller struct {
	w    *shellWriter
	args []*syntax.Word
	v    *verdict
}

func (c *caller) named(name string) {
	if skip, options, ok := wrapperOf(name); ok {
		c.wrapped(name, skip, options)
		return
	}
	if p, ok := interpreterOf(name); ok {
		c.interpreter(name, p)
		return
	}
	switch name {
	case "sed", "awk", "gawk", "mawk", "nawk":
		c.editor(name)
	case "printf":
		c.printf()
	case "[", "test":
		c.test()
	case "export", "readonly", "local":
		c.exports()
	default:
		if evaluates(name) {
			c.all(name)
		}
	}
}

// all restricts every argument.
func (c *caller) all(name string) {
	c.v.any, c.v.runs = true, name
	for i := 1; i < len(c.args); i++ {
		c.v.code[i] = "inside " + name
	}
}

// evaluates names commands that run what their arguments say, in their own ways, or evaluate names that they are given.
func evaluates(name string) bool {
	switch name {
	case "eval", "trap", "alias", ".", "source", "let", "unset", "read", "mapfile", "readarray", "getopts", "wait", "complete", "compgen",
		"bind", "enable", "hash", "fc", "jobs", "declare", "typeset", // builtins
		"ssh", "slogin", "rsh", "mosh", "pdsh", "clush", "sshpass", "autossh", // remote shells
		"parallel", "watch", "make", "gmake", "at", "batch", "crontab", "tmux", "screen", "expect", "ansible", "osascript", "entr",
		"sqlite3", "dc", "ed", "ex", "vi", "vim", "nvim", "view", "emacs", "m4", "gdb", "tclsh", "wish", "sg", "git-shell":
		return true
	}
	return false
}
