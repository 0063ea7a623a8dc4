package document

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// interpreter says how a program that runs code is told which. Values may be its script's arguments, and stand behind the
// options of data; what is not known here is taken for code.
type interpreter struct {
	code   string // letters of the options that code follows
	values string // letters of the options that another word follows, which says what runs
	data   string // letters of the options that another word follows, which is only data
	late   bool   // options may stand between the code option and the code
	script bool   // the first operand is a script's name, or the code came by an option: the rest are its arguments
	shell  bool   // the code is a shell's
	opens  bool   // with code given by an option, operands are opened, and "x|" is a command
}

// interpreterOf knows the interpreters.
func interpreterOf(name string) (interpreter, bool) {
	switch strings.TrimSuffix(name, "-static") {
	case "sh", "bash", "dash", "ash", "zsh", "ksh", "ksh93", "mksh", "lksh", "oksh", "pdksh", "posh", "yash", "rbash", "rksh", "rzsh":
		return interpreter{code: "c", values: "oO", late: true, script: true, shell: true}, true
	case "fish", "csh", "tcsh", "elvish", "nu", "xonsh", "osh", "ysh", "oil":
		return interpreter{code: "c", values: "oO", late: true, script: true}, true
	case "psql":
		return interpreter{code: "c", values: "fPFRLo", data: "dhpUv"}, true
	case "mysql", "mariadb":
		return interpreter{code: "e", data: "hPuDS"}, true
	case "perl":
		return interpreter{code: "eE", values: "ImMx", script: true, opens: true}, true
	case "ruby":
		return interpreter{code: "e", values: "IrCEW", script: true, opens: true}, true
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
		return interpreter{code: "cm", values: "WX", script: true}, true
	}
	return interpreter{}, false
}

// interpreter judges the words of sh, python and the like: what follows the code option is code; before the first operand
// a value could be an option; without code and script, code is read from the input.
func (c *caller) interpreter(name string, p interpreter) {
	c.v.any = true
	code := "in the code that " + name + " runs"
	pending, ended, stdin := false, false, false
	for i := 1; i < len(c.args); i++ {
		word, known := c.w.literal(c.args[i])
		option := known && !ended && len(word) > 1 && (word[0] == '-' || word[0] == '+')
		switch {
		case option && word == "--":
			ended = true
		case pending && !(p.late && option):
			c.v.mark(i, code)
			if p.shell {
				c.snippet(true, i+1, i)
				c.feeds(name, i)
			}
			if p.opens {
				c.rest(i+1, "where "+name+" opens a file, and some names are commands")
			}
			if p.script {
				return
			}
			pending = false
			c.v.any = true
		case option && strings.HasPrefix(word, "--"):
			switch {
			case p.startsCode(word) && !strings.Contains(word, "="):
				pending = true
			case !plainFlag(word):
				c.rest(i+1, "behind an option of "+name+" that is not known here")
			}
		case option:
			if strings.Contains(word, "s") && p.late {
				c.v.runs, stdin = name, true // sh -s
				continue
			}
			last := word[len(word)-1:]
			switch {
			case p.startsCode(word):
				if pending = p.late || strings.ContainsAny(last, p.code); !pending {
					return // the code is within the option
				}
			case strings.ContainsAny(last, p.data):
				i++
				if i < len(c.args) {
					c.fixed(i, name)
				}
			case strings.ContainsAny(last, p.values):
				i++
				c.v.mark(i, "where "+name+" is told what to run")
			}
		case !known && !ended && strings.HasPrefix(word, "-"):
			c.v.mark(i, code) // -c{{ p }}
		case stdin && ended:
			return // its arguments
		case stdin && c.begins(c.args[i]):
			c.v.mark(i, "where "+name+" could take it for an option (write -- before it)")
		case p.script && !stdin && (!known || word != "-"):
			c.v.mark(i, "as the name of a script")
			if known && input0(word) || c.substituted(c.args[i]) {
				c.v.runs = name
			}
			if known && c.w.flow.holds["PWD"] && !strings.HasPrefix(word, "/") {
				c.v.strange = "a script in a folder that a value names,"
			}
			return
		case c.begins(c.args[i]) && !ended:
			c.v.mark(i, "where "+name+" could take it for an option")
		}
	}
	if c.v.runs == "" {
		c.v.runs = name
	}
}

// input0 reports whether a name is one of the input, or of some other descriptor.
func input0(name string) bool {
	return name == "-" || strings.HasPrefix(name, "/dev/") || strings.HasPrefix(name, "/proc/")
}

// substituted reports whether a word is <(…).
func (c *caller) substituted(word *syntax.Word) bool {
	for _, p := range word.Parts {
		if _, ok := p.(*syntax.ProcSubst); ok {
			return true
		}
	}
	return false
}

// plainFlag knows long options of interpreters that neither take a word nor change what is code.
func plainFlag(word string) bool {
	switch word {
	case "--norc", "--noprofile", "--posix", "--login", "--verbose", "--restricted", "--noediting", "--version", "--help", "--quiet", "--silent",
		"--no-psqlrc", "--tuples-only", "--no-align", "--csv", "--single-transaction", "--batch", "--skip-column-names", "--raw", "--table":
		return true
	}
	return false
}

// startsCode reports whether an option is one that code follows, or has it within.
func (p interpreter) startsCode(option string) bool {
	long, isLong := strings.CutPrefix(option, "--")
	switch {
	case isLong:
		return strings.HasPrefix(long, "command") || strings.HasPrefix(long, "eval") || strings.HasPrefix(long, "exec") ||
			strings.HasPrefix(long, "init-") || strings.HasPrefix(long, "rcfile") || strings.HasPrefix(long, "print")
	case len(option) > 1 && option[0] == '-':
		return strings.ContainsAny(option[1:], p.code)
	}
	return false
}

// mark gives a reason for a word, if there is one.
func (v *verdict) mark(i int, reason string) {
	if i < len(v.code) && v.code[i] == "" {
		v.code[i] = reason
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
