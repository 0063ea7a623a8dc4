package document

import (
	"slices"
	"strings"
)

// launcher is a program that runs others when options tell it to.
type launcher struct {
	code   string // letters of the options that say what runs
	long   string // beginnings of its long options that do
	data   string // letters of the options that a word of data follows
	words  bool   // a value that begins an operand could be such an option
	verbs  string // behind these words all is code
	inside string // behind this word another command begins, after one operand, or behind --
}

// launcherOf knows such programs.
func launcherOf(name string) (launcher, bool) {
	switch name {
	case "ip":
		return launcher{code: "b", long: "batch", verbs: "exec vrf", words: true}, true
	case "docker", "podman", "nerdctl", "kubectl", "oc", "k3s", "crictl", "lxc", "incus", "ctr", "microk8s":
		return launcher{inside: "exec", verbs: "debug attach"}, true
	case "tar", "gtar", "bsdtar":
		return launcher{code: "IF", long: "to-c use- checkpoint-a rsh- rmt- info- new-volume", data: "fCXTgKNbHLV", words: true}, true
	case "rsync":
		return launcher{code: "eM", long: "rsh rsync-path remote-option", data: "BT", words: true}, true
	case "git":
		return launcher{code: "cu", long: "upload-pack receive-pack exec config-env open-files extcmd", data: "C",
			verbs: "config bisect submodule filter-branch difftool mergetool rebase fast-import send-email"}, true
	case "scp", "sftp":
		return launcher{code: "oSFDJ", data: "iPlc", words: true}, true
	case "rpm", "rpmbuild":
		return launcher{code: "ED", long: "eval define pipe load macros rcfile", words: true}, true
	case "zip":
		return launcher{code: "T", long: "unzip-command", words: true}, true
	case "wget":
		return launcher{code: "e", long: "use-askpass execute config"}, true
	case "curl":
		return launcher{code: "K", long: "config"}, true
	}
	return launcher{}, false
}

func (c *caller) launcher(name string, l launcher) {
	reason := "where " + name + " is told what to run"
	ended := false
	for i := 1; i < len(c.args); i++ {
		word, known := c.w.literal(c.args[i])
		switch {
		case known && word == "--":
			ended = true
		case ended:
		case known && slices.Contains(strings.Fields(l.verbs), word):
			c.v.any = true
			c.rest(i+1, reason)
			return
		case known && l.inside != "" && word == l.inside:
			c.v.any = true
			c.contained(name, i+1)
			return
		case strings.HasPrefix(word, "--"):
			if slices.ContainsFunc(strings.Fields(l.long), func(o string) bool {
				return strings.HasPrefix(word[2:], o) || strings.HasPrefix(o, word[2:]) && len(word) > 2 && known
			}) {
				c.v.mark(i, reason)
				c.v.mark(i+1, reason)
			} else if word == "--" {
				c.v.mark(i, "as an option of "+name) // --{{ p }}
			}
		case strings.HasPrefix(word, "-"):
			if !known && len(word) == 1 || strings.ContainsAny(word, l.code) {
				c.v.mark(i, reason)
				c.v.mark(i+1, reason)
			} else if known && strings.ContainsAny(word[len(word)-1:], l.data) {
				i++
			}
		case known && i == 1 && strings.HasSuffix(name, "tar") && word != "":
			if strings.ContainsAny(word[len(word)-1:], l.data) {
				i++ // tar xzf FILE
			}
		case c.w.many(c.args[i]) && l.words:
			c.fixed(i, name)
		case l.words && c.begins(c.args[i]):
			c.v.mark(i, "where "+name+" could take it for an option (write -- before it)")
		}
	}
}

// contained judges docker exec CONTAINER COMMAND, and kubectl exec POD -- COMMAND.
func (c *caller) contained(name string, from int) {
	for i := from; i < len(c.args); i++ {
		if word, known := c.w.literal(c.args[i]); known && word == "--" {
			for j := from; j < i; j++ {
				if c.begins(c.args[j]) && !strings.HasPrefix(c.prefix(c.args[j-1]), "-") {
					c.v.mark(j, "where "+name+" could take it for an option")
				}
			}
			c.v.sub(c.w, c.args, i+1)
			return
		}
	}
	c.wrapped(name+" exec", wrapper{operands: 1, values: "uewnc", flags: "itd", long: "user env workdir env-file detach-keys namespace container",
		bare: "interactive tty detach privileged stdin"}, from)
}

// find judges find: a value at its beginning could be an operator, unless a test takes it for its own.
func (c *caller) find() {
	for i := 1; i < len(c.args); i++ {
		word, known := c.w.literal(c.args[i])
		if known || word != "" || !c.begins(c.args[i]) || i > 1 && findTest(c.prefix(c.args[i-1])) {
			continue
		}
		if i+1 < len(c.args) {
			next, plain := c.w.literal(c.args[i+1])
			if plain && next != "" && strings.ContainsAny(next[:1], "-(!") {
				continue
			}
			c.v.mark(i, "where find could take it for an operator")
		}
	}
}

func findTest(word string) bool {
	switch word {
	case "-name", "-iname", "-path", "-ipath", "-wholename", "-regex", "-iregex", "-user", "-group", "-size", "-type", "-perm", "-newer", "-mtime",
		"-mmin", "-ctime", "-cmin", "-atime", "-amin", "-maxdepth", "-mindepth", "-fstype", "-uid", "-gid", "-links", "-inum":
		return true
	}
	return false
}

// sed judges sed, whose programs can run commands. All that may be an option or the program is code.
func (c *caller) sed() {
	c.v.any = true
	const code = "in the program of sed"
	told, ended := false, false
	for i := 1; i < len(c.args); i++ {
		word, known := c.w.literal(c.args[i])
		switch {
		case known && word == "--" && !ended:
			ended = true
		case !ended && strings.HasPrefix(word, "-") && len(word) > 1:
			c.v.mark(i, code)
			takes, program := sedOption(word)
			told = told || program
			if takes && i+1 < len(c.args) {
				i++
				c.program("sed", i, strings.Contains(word, "f"))
			}
		case !told:
			told = true
			c.program("sed", i, false)
		case !ended && (c.begins(c.args[i]) || !known && word == "-"):
			c.v.mark(i, "where sed could take it for an option (write -- before it)")
		}
	}
}

// program restricts a word that is a program, or the name of a program's file.
func (c *caller) program(name string, i int, file bool) {
	c.v.mark(i, "in the program of "+name)
	if word, known := c.w.literal(c.args[i]); file && (known && input0(word) || c.substituted(c.args[i])) {
		c.v.runs = name
	}
}

// sedOption reports whether a word follows an option, and whether the option says the program.
func sedOption(word string) (takes, program bool) {
	if long, ok := strings.CutPrefix(word, "--"); ok {
		key, _, within := strings.Cut(long, "=")
		program = key != "" && (strings.HasPrefix("expression", key) || strings.HasPrefix("file", key))
		return !within && (program || strings.HasPrefix("line-length", key)), program
	}
	for j := 1; j < len(word); j++ {
		switch word[j] {
		case 'e', 'f':
			return j+1 == len(word), true
		case 'l':
			return j+1 == len(word), false
		case 'i':
			return false, false // the rest is a suffix
		}
	}
	return false, false
}

// awk judges awk. A program that runs commands may have no values at all.
func (c *caller) awk(name string) {
	c.v.any = true
	told := false
	for i := 1; i < len(c.args); i++ {
		word, known := c.w.literal(c.args[i])
		switch {
		case known && word == "--" && !told:
			continue
		case told:
			if strings.HasPrefix(word, "-") || c.begins(c.args[i]) && c.w.many(c.args[i]) {
				c.v.mark(i, "where "+name+" could take it for an option")
			}
		case known && (word == "-v" || word == "--assign"):
			i++
			if i < len(c.args) && !strings.Contains(c.prefix(c.args[i]), "=") {
				c.v.mark(i, "as a variable's name")
			}
		case known && (word == "-F" || word == "--field-separator"):
			i++
		case strings.HasPrefix(word, "-v") && strings.Contains(word, "="), strings.HasPrefix(word, "-F"):
		case known && (word == "-f" || word == "--file"):
			i++
			told = true
			if i < len(c.args) {
				c.program(name, i, true)
			}
		case strings.HasPrefix(word, "-") && len(word) > 1:
			c.rest(i, "behind an option of "+name+" that is not known here")
			return
		default:
			told = true
			c.program(name, i, false)
			if known && runsCommands(word) {
				c.rest(1, "in a program of "+name+" that runs commands")
				c.v.runs = name
			}
		}
	}
}

// runsCommands reports whether a program of awk may run a command, or call a function by a name that it has computed.
func runsCommands(program string) bool {
	rest := strings.ReplaceAll(program, "||", "")
	return strings.Contains(rest, "system") || strings.Contains(rest, "|") || strings.Contains(rest, "@")
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
