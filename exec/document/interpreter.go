package document

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// interpreter says how a program that runs code is told which.
type interpreter struct {
	code   string // letters of the options that code follows
	values string // letters of the options that another word follows
	late   bool   // options may stand between the code option and the code
	script bool   // the first operand is a script's name, or the code came by an option: the rest are its arguments
}

// interpreterOf knows the interpreters.
func interpreterOf(name string) (interpreter, bool) {
	switch name {
	case "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "rbash", "fish":
		return interpreter{code: "c", values: "oO", late: true, script: true}, true
	case "su", "runuser", "script":
		return interpreter{code: "c", values: "gGsTuwEIOBlomt"}, true
	case "psql":
		return interpreter{code: "c", values: "dfhpUvPFRLo"}, true
	case "mysql", "mariadb":
		return interpreter{code: "e", values: "hPuDS"}, true
	case "perl":
		return interpreter{code: "eE", values: "I", script: true}, true
	case "ruby":
		return interpreter{code: "e", values: "IrCEW", script: true}, true
	case "node", "nodejs", "deno", "bun":
		return interpreter{code: "ep", values: "rC", script: true}, true
	case "php":
		return interpreter{code: "rBRE", values: "dcfFtz", script: true}, true
	case "lua", "luajit", "R", "Rscript", "groovy", "scala", "julia":
		return interpreter{code: "eE", values: "l", script: true}, true
	case "pwsh", "powershell":
		return interpreter{code: "cCeE"}, true
	}
	if rest, ok := strings.CutPrefix(name, "python"); ok && strings.Trim(rest, "0123456789.") == "" {
		return interpreter{code: "c", values: "WX", script: true}, true
	}
	return interpreter{}, false
}

// interpreter judges the words of sh, python and the like: what follows the code option is code; before the first
// operand a value could be an option; without code and script, code is read from the input.
func (c *caller) interpreter(name string, p interpreter) {
	c.v.any = true
	pending, told := false, false
	for i := 1; i < len(c.args); i++ {
		word, known := c.w.literal(c.args[i])
		option := known && len(word) > 1 && (word[0] == '-' || word[0] == '+')
		switch {
		case pending && !(p.late && option):
			c.v.code[i] = "in the code that " + name + " runs"
			pending, told = false, true
			if p.script {
				return
			}
		case known && word == "--":
			if !pending && i+1 < len(c.args) {
				return // the next is an operand, whatever it begins with
			}
		case option:
			pending = pending || p.startsCode(word)
			if strings.Contains(word, "s") && p.late {
				told, c.v.runs = true, name // sh -s
			}
			if strings.ContainsAny(word[len(word)-1:], p.values) && !strings.HasPrefix(word, "--") {
				i++ // its word, which may be one of ours
			}
		case c.begins(c.args[i]):
			c.v.code[i] = "where " + name + " could take it for an option"
		case p.startsCode(c.prefix(c.args[i])):
			c.v.code[i] = "in the code that " + name + " runs" // -c{{ p }}
		case p.script && known && word != "-" || p.script && !known && !c.expands(c.args[i]):
			return // the script's name
		}
	}
	if !told && c.v.runs == "" {
		c.v.runs = name
	}
}

// startsCode reports whether an option is one that code follows, or has it within.
func (p interpreter) startsCode(option string) bool {
	long, isLong := strings.CutPrefix(option, "--")
	switch {
	case isLong:
		return strings.HasPrefix(long, "command") || strings.HasPrefix(long, "eval") || strings.HasPrefix(long, "exec") ||
			strings.HasPrefix(long, "init-") || strings.HasPrefix(long, "rcfile") || strings.HasPrefix(long, "session-command")
	case len(option) > 1 && option[0] == '-':
		return strings.ContainsAny(option[1:], p.code)
	}
	return false
}

// wrapperOf knows commands that run another: how many words of their own stand before it, and the letters of their
// options that a word follows.
func wrapperOf(name string) (operands int, values string, ok bool) {
	switch name {
	case "sudo":
		return 0, "ugpCcrthTDRU", true
	case "doas":
		return 0, "uC", true
	case "env":
		return 0, "uC", true
	case "nice", "ionice":
		return 0, "ncpPu", true
	case "xargs":
		return 0, "IinLPsdEae", true
	case "exec":
		return 0, "a", true
	case "nohup", "setsid", "command", "builtin", "time", "busybox", "toybox", "eatmydata", "fakeroot", "caffeinate", "then", "do":
		return 0, "", true
	case "unshare", "nsenter":
		return 0, "tSGRw", true
	case "systemd-run":
		return 0, "pHMEut", true
	case "stdbuf":
		return 0, "ioe", true
	case "strace", "ltrace":
		return 0, "eopsuEaISPX", true
	case "timeout":
		return 1, "ks", true
	case "chroot", "gosu", "su-exec", "setpriv", "setarch":
		return 1, "", true
	case "flock":
		return 1, "wE", true
	case "chrt", "taskset":
		return 1, "TPD", true
	}
	return 0, "", false
}

// wrapped judges the words of a command that runs another.
func (c *caller) wrapped(name string, operands int, values string) {
	for i := 1; i < len(c.args); i++ {
		word, known := c.w.literal(c.args[i])
		switch {
		case known && word == "--":
		case known && len(word) > 1 && word[0] == '-':
			if splits(name, word) { // env -S CODE, flock FILE -c CODE
				c.v.any = true
				c.v.mark(i+1, "in the code that "+name+" runs")
			}
			if !strings.HasPrefix(word, "--") && strings.ContainsAny(word[len(word)-1:], values) {
				i++
			}
		case name == "env" && strings.Contains(c.prefix(c.args[i]), "="):
			variable, _, _ := strings.Cut(c.prefix(c.args[i]), "=")
			c.v.code[i] = steers(variable)
		case strings.HasPrefix(c.prefix(c.args[i]), "-") && !known:
			if splits(name, c.prefix(c.args[i])) {
				c.v.code[i] = "in the code that " + name + " runs"
			}
		case operands > 0:
			operands--
			if c.begins(c.args[i]) {
				c.v.code[i] = "where " + name + " could take it for an option"
			}
		default:
			c.v.sub(c.w, c.args, i)
			if name == "xargs" && c.v.any {
				c.v.runs = name // what it reads becomes a part of the words that run
			}
			return
		}
	}
}

// splits reports whether an option of a wrapper is followed by a line of shell.
func splits(name, option string) bool {
	switch name {
	case "env":
		return strings.HasPrefix(option, "-S") || strings.HasPrefix(option, "--split")
	case "flock":
		return strings.HasPrefix(option, "-c") || strings.HasPrefix(option, "--command")
	}
	return false
}

// mark gives a reason for a word, if there is one.
func (v *verdict) mark(i int, reason string) {
	if i < len(v.code) && v.code[i] == "" {
		v.code[i] = reason
	}
}

// editor judges sed and awk, whose programs can run commands.
func (c *caller) editor(name string) {
	c.v.any = true
	reason := "in the program of " + name
	told, ended := false, false
	for i := 1; i < len(c.args); i++ {
		word, known := c.w.literal(c.args[i])
		prefix := c.prefix(c.args[i])
		switch {
		case known && word == "--" && !ended:
			ended = true
		case !ended && (prefix == "-e" || prefix == "-f" || prefix == "-v" || prefix == "-F") && known:
			told = told || prefix == "-e" || prefix == "-f"
			if prefix == "-e" {
				c.v.mark(i+1, reason)
			}
			i++
		case !ended && strings.HasPrefix(prefix, "-") && len(prefix) > 1:
			if !strings.HasPrefix(prefix, "-v") && !strings.HasPrefix(prefix, "-F") {
				c.v.mark(i, reason) // -e{{ p }}, --expression={{ p }}
			}
			if option := strings.TrimLeft(prefix, "-"); known && name == "sed" && strings.HasSuffix(option, "e") { // -ne CODE
				told = true
				c.v.mark(i+1, reason)
				i++
			}
		case !told:
			told = true
			c.v.mark(i, reason)
		case !ended && name == "sed" && c.begins(c.args[i]):
			c.v.mark(i, "where sed could take it for an option")
		}
	}
}

// printf judges printf: its format is text, but an option -v names a variable, and bash evaluates that name.
func (c *caller) printf() {
	i := 1
	if i < len(c.args) {
		if word, known := c.w.literal(c.args[i]); known && word == "--" {
			return
		}
		if strings.HasPrefix(c.prefix(c.args[i]), "-v") {
			c.v.mark(i, "as a variable's name")
			c.v.mark(i+1, "as a variable's name")
		}
		if c.begins(c.args[i]) {
			c.v.mark(i, "at the beginning of a format")
		}
	}
}

// exports judges export and its like where the parser takes them for commands: NAME=VALUE is an assignment, other words
// are options and names.
func (c *caller) exports() {
	for i := 1; i < len(c.args); i++ {
		prefix := c.prefix(c.args[i])
		if strings.HasPrefix(prefix, "-") && strings.ContainsAny(prefix, "in") {
			c.all("a declaration of numbers or references")
			return
		}
		name, _, assigns := strings.Cut(prefix, "=")
		c.v.mark(i, steers(name))
		if !assigns {
			c.v.mark(i, "as a variable's name")
		}
	}
}

// test judges [ and test: two words that both come from values could be -v and a name that bash evaluates.
func (c *caller) test() {
	for i := 1; i < len(c.args)-1; i++ {
		word, _ := c.w.literal(c.args[i])
		switch {
		case word == "-v" || word == "-R":
			c.v.mark(i+1, "as a variable's name")
		case c.begins(c.args[i]) && c.begins(c.args[i+1]):
			c.v.mark(i, "next to another value in a test")
		}
	}
}

// prefix returns the literal text that a word begins with.
func (c *caller) prefix(word *syntax.Word) string {
	text, _ := c.w.literal(word)
	return text
}

// begins reports whether a word begins with something that a value decides.
func (c *caller) begins(word *syntax.Word) bool {
	return c.prefix(word) == "" && c.w.carries(word)
}

// expands reports whether a word begins with an expansion, which may be an option.
func (c *caller) expands(word *syntax.Word) bool { return c.prefix(word) == "" }
