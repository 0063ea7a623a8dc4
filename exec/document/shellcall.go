package document

import (
	"cmp"
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

	snippets []snippet
	strange  string // what is run that a value has chosen, though it is in none of the words
}

// inspect decides which words of a command are code. What commands do with their arguments cannot be known of all of
// them; these are the ones that run what they are told: shells, interpreters, remote shells, builtins that evaluate.
func inspect(w *shellWriter, args []*syntax.Word) verdict {
	v := verdict{code: make([]string, len(args))}
	if len(args) == 0 {
		return v
	}
	v.code[0] = "as the name of a command"
	if text, _ := w.literal(args[0]); strings.Contains(text, "/") && text[0] != '/' && w.flow.holds["PWD"] {
		v.strange = "a program in a folder that a value names,"
	}
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
	v.runs, v.strange = cmp.Or(v.runs, inner.runs), cmp.Or(v.strange, inner.strange)
	for _, s := range inner.snippets {
		for j := range s.words {
			s.words[j] += i
		}
		if s.given > 0 {
			s.given += i
		}
		v.snippets = append(v.snippets, s)
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
	if wr, ok := wrapping(name); ok {
		c.wrapped(name, wr, 1)
		return
	}
	if p, ok := interpreterOf(name); ok {
		c.exact(name)
		c.interpreter(name, p)
		return
	}
	if o, ok := launcherOf(name); ok {
		c.launcher(name, o)
		return
	}
	switch name {
	case "eval":
		c.all(name)
		c.snippet(false, 0, c.from(1)...)
	case "trap":
		c.all(name)
		i := 1
		if i < len(c.args) && c.prefix(c.args[i]) == "--" {
			i++
		}
		if i < len(c.args) && !strings.HasPrefix(c.prefix(c.args[i]), "-") {
			c.snippet(false, 0, i)
		}
	case "sed":
		c.exact(name)
		c.sed()
	case "awk", "gawk", "mawk", "nawk":
		c.exact(name)
		c.awk(name)
	case "find":
		c.exact(name)
		c.find()
	case "printf":
		c.exact(name)
		c.printf()
	case "[", "test":
		c.exact(name)
		c.test()
	case "export", "readonly", "local":
		c.exact(name)
		c.exports()
	default:
		if evaluates(name) {
			c.all(name)
		}
	}
}

// from lists the words from i on.
func (c *caller) from(i int) []int {
	var all []int
	for ; i < len(c.args); i++ {
		all = append(all, i)
	}
	return all
}

// snippet notes that words are code for a shell.
func (c *caller) snippet(child bool, given int, words ...int) {
	if len(words) > 0 && words[0] < len(c.args) {
		c.v.snippets = append(c.v.snippets, snippet{words: words, child: child, given: given})
	}
}

// exact restricts words that values may make into several: what stands behind them is judged by its place.
func (c *caller) exact(name string) {
	for i := 1; i < len(c.args); i++ {
		c.fixed(i, name)
	}
}

func (c *caller) fixed(i int, name string) {
	if c.w.many(c.args[i]) {
		c.v.mark(i, "as several words for "+name+", whose words mean something by their place")
	}
}

// rest restricts all words from i on.
func (c *caller) rest(i int, reason string) {
	for ; i < len(c.args); i++ {
		c.v.mark(i, reason)
	}
}

// all restricts every argument.
func (c *caller) all(name string) {
	c.v.any, c.v.runs = true, name
	c.rest(1, "inside "+name)
}

// evaluates names commands that run what their arguments say, in their own ways, or evaluate names that they are given.
func evaluates(name string) bool {
	switch name {
	case "eval", "trap", "alias", ".", "source", "let", "unset", "read", "mapfile", "readarray", "getopts", "wait", "complete", "compgen",
		"bind", "enable", "hash", "fc", "jobs", "declare", "typeset", "shopt", // builtins
		"ssh", "slogin", "rsh", "mosh", "pdsh", "clush", "sshpass", "autossh", "pssh", "ssh-agent", // remote shells
		"parallel", "sem", "rush", "watch", "make", "gmake", "ninja", "at", "batch", "crontab", "tmux", "screen", "expect", "unbuffer", "ansible",
		"osascript", "entr", "sqlite3", "dc", "ed", "ex", "vi", "vim", "nvim", "view", "emacs", "m4", "gdb", "lldb", "tclsh", "wish", "sg", "git-shell",
		"su", "runuser", "script", "scriptreplay", "pkexec", "capsh", "xvfb-run", "dbus-run-session", "dbus-launch", "firejail", "bwrap",
		"systemd-nspawn", "machinectl", "systemd-inhibit", "start-stop-daemon", "daemonize", "daemon", "runcon", "cgexec", "numactl", "prlimit",
		"chpst", "setuidgid", "softlimit", "envdir", "envuidgid", "rlwrap", "valgrind", "perf", "catchsegv", "torsocks", "proxychains",
		"proxychains4", "faketime", "tini", "dumb-init", "catatonit", "aa-exec", "chronic", "ifne", "pee", "mispipe", "lxc-attach", "lxc-execute",
		"socat", "ncat", "nc", "netcat", "lftp", "ftp", "mongosh", "mongo", "sqlplus", "redis-cli", "run-parts", "ld.so", "run0", "rpmspec", "bc",
		"multitime", "hyperfine", "vagrant", "salt", "salt-call", "logrotate", "dpkg-reconfigure", "newgrp", "schroot", "proot", "fakechroot":
		return true
	}
	return strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "ld-musl")
}
