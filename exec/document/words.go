package document

import (
	"path"
	"slices"
	"strings"
)

// word is an item of argv, as far as it can be known before there are values.
type word struct {
	text  string
	line  int
	known bool // no parameter is in it
	open  bool // a value is in it which the author has not listed
	list  bool // it becomes none, one or many words
	first bool // it begins with a value
	m     mark // the first open one, for the refusal
}

// words are a program and its arguments.
type words []word

// wordsOf reads argv.
func (b *builder) wordsOf(argv *node) (words, error) {
	out := make(words, 0, len(argv.items))
	for _, c := range argv.items {
		if c.shape != scalar {
			return nil, refuse(c.line, "%s: argv is a list of texts, not one with %s in it", b.s.of(), c.shape)
		}
		w := word{text: c.text, line: c.line, known: true}
		for _, r := range refs(c.text) {
			p, err := b.d.declared(r.name, c.line)
			if err != nil {
				return nil, err
			}
			_, alone := whole(c.text)
			w.known = false
			w.list = w.list || alone && p.Type == StringList
			w.first = w.first || r.start == 0
			if !p.tame() && !w.open {
				w.open, w.m = true, mark{p: p}
			}
		}
		out = append(out, w)
	}
	return out, nil
}

// runs finds a word that the program at i could run because of a value, and says how; none is -1. It is stricter than the
// judgement of shell scripts: what it does not know of a program that runs others, it refuses.
func (a words) runs(i int) (int, string) {
	if i >= len(a) {
		return -1, ""
	}
	if !a[i].known {
		if a[i].open {
			return i, "as the name of a command"
		}
		return a.anyOpen(i+1, "given to a program that only the values name")
	}
	name := path.Base(a[i].text)
	if _, letters, ok := wrapperOf(name); ok {
		return a.wrapped(i, name, letters)
	}
	if p, ok := interpreterOf(name); ok {
		return a.interpreted(i, name, p)
	}
	switch use := useOfProgram(name); {
	case use == runsAll || evaluates(name):
		return a.anyOpen(i+1, "inside "+name)
	case use == runsSome:
		return a.command(i, name)
	case use == edits:
		return a.edited(i, name)
	case use == takesCode:
		if at, where := a.anyList(i+1, name, true); at >= 0 {
			return at, where
		}
		return a.behindOptions(i, name)
	case use == placed:
		return a.anyList(i+1, name, false)
	}
	return a.handedOn(i)
}

// anyOpen finds the first open word from i on.
func (a words) anyOpen(i int, where string) (int, string) {
	for ; i < len(a); i++ {
		if a[i].open {
			return i, where
		}
	}
	return -1, ""
}

// anyList finds the first list from i on: many words, of which some could be options and their arguments. Behind -- they
// are operands.
func (a words) anyList(i int, name string, ends bool) (int, string) {
	for ; i < len(a); i++ {
		if ends && a[i].known && a[i].text == "--" {
			return -1, ""
		}
		if a[i].list {
			return i, "as a list of words where " + name + " could take one for an option"
		}
	}
	return -1, ""
}

// handedOn judges the arguments of a program that nobody has heard of, where they look like a command.
func (a words) handedOn(i int) (int, string) {
	for j := i + 1; j+1 < len(a); j++ {
		if !a[j].known {
			continue
		}
		name := path.Base(a[j].text)
		_, shell := interpreterOf(name)
		wraps := slices.Contains([]string{"sudo", "env", "xargs", "nohup", "timeout", "nice", "doas", "ssh"}, name)
		if !shell && !wraps {
			continue
		}
		option := a[j+1].known && strings.HasPrefix(a[j+1].text, "-")
		if at, where := a.runs(j); at >= 0 && (option || a[at].list) {
			return at, where
		}
	}
	return -1, ""
}

// wrapped judges sudo, env and the like. Where an option of theirs may have a word of its own or not, both are tried.
func (a words) wrapped(i int, name, letters string) (int, string) {
	operands, _, _ := wrapperOf(name)
	mild := slices.Contains([]string{"sudo", "doas", "nice", "ionice", "timeout", "chroot"}, name)
	if name == "flock" && slices.ContainsFunc(a[i:], func(w word) bool { return w.known && splits(name, w.text) }) {
		return a.anyOpen(i+1, "in the code that flock runs")
	}
	unsure, ended := false, false
	for i++; i < len(a); i++ {
		w := a[i]
		variable, _, assigns := strings.Cut(w.text, "=")
		option := !ended && !w.first && len(w.text) > 1 && w.text[0] == '-'
		switch {
		case w.list:
			return i, "as a list of words of " + name + "'s own"
		case !ended && w.text == "--":
			ended = true
		case option && (splits(name, w.text) || w.open && !mild):
			return a.anyOpen(i, "in an option of "+name)
		case option && strings.HasPrefix(w.text, "--"):
			unsure = unsure || !assigns
		case option && strings.ContainsAny(w.text[len(w.text)-1:], letters):
			i++
			if i < len(a) && (a[i].list || a[i].open && !mild && name != "env") {
				return i, "in an option of " + name
			}
		case option:
			unsure = unsure || !strings.ContainsAny(w.text[1:2], letters) // -u{{ p }} has it within
		case assigns && !w.first && isVariable(variable) && (name == "env" || name == "sudo"):
			if w.open && steers(variable) != "" {
				return i, steers(variable)
			}
		case operands > 0:
			operands--
			if w.open && w.first {
				return i, "where " + name + " could take it for an option"
			}
		default:
			at, where := a.runs(i)
			if at < 0 && unsure {
				at, where = a.runs(i + 1)
			}
			return at, where
		}
	}
	return -1, ""
}

// interpreted judges shells and interpreters: values may stand behind a script that is known, as its arguments.
func (a words) interpreted(i int, name string, p interpreter) (int, string) {
	if slices.Contains([]string{"su", "runuser", "script", "pwsh", "powershell"}, name) {
		return a.anyOpen(i+1, "inside "+name)
	}
	if !p.script { // clients of databases: their words are judged one by one
		return a.anyList(i+1, name, false)
	}
	unsure, reads := false, false
	for i++; i < len(a); i++ {
		w := a[i]
		option := len(w.text) > 1 && (w.text[0] == '-' || w.text[0] == '+')
		switch {
		case w.open || !w.known:
			return a.anyOpen(i, "before the script of "+name)
		case w.text == "--":
		case option && p.startsCode(w.text):
			return a.behindCode(i, name, p)
		case option && strings.HasPrefix(w.text, "--"):
			unsure = unsure || !strings.Contains(w.text, "=")
		case option:
			reads = reads || (name == "perl" || name == "ruby") && strings.ContainsAny(w.text, "np") // they open their operands, and run some
			if strings.ContainsAny(w.text[len(w.text)-1:], p.values) {
				i++
				if i < len(a) && a[i].open {
					return i, "before the script of " + name
				}
			}
		case unsure:
			unsure = false // it may belong to the option: the next one is the script then
		case reads || strings.HasPrefix(w.text, "/dev/") || strings.HasPrefix(w.text, "/proc/"):
			return a.anyOpen(i, "as a file that "+name+" opens")
		default:
			return -1, ""
		}
	}
	return -1, ""
}

// behindCode judges the words behind an option that code follows.
func (a words) behindCode(i int, name string, p interpreter) (int, string) {
	reads := (name == "perl" || name == "ruby") && slices.ContainsFunc(a[1:i+1], func(w word) bool {
		return len(w.text) > 1 && w.text[0] == '-' && strings.ContainsAny(w.text, "np")
	})
	if reads {
		return a.anyOpen(i, "as a file that "+name+" opens")
	}
	for i++; i < len(a) && p.late && a[i].known && len(a[i].text) > 1 && strings.ContainsAny(a[i].text[:1], "-+"); i++ {
		if strings.ContainsAny(a[i].text[len(a[i].text)-1:], p.values) {
			i++
		}
	}
	if i < len(a) && !a[i].known {
		return a.anyOpen(i, "in the code that "+name+" runs")
	}
	if p.late || i >= len(a) {
		return -1, ""
	}
	// perl -e 'code' VALUE: options end at the first operand or --.
	for i++; i < len(a); i++ {
		switch {
		case a[i].open && a[i].first:
			if name == "python" || strings.HasPrefix(name, "python") {
				return -1, "" // -c ends python's options
			}
			return i, "where " + name + " could take it for an option"
		case a[i].text == "--" || !strings.HasPrefix(a[i].text, "-"):
			return -1, ""
		}
	}
	return -1, ""
}

// command judges docker, ip and the like: some of their commands run others.
func (a words) command(i int, name string) (int, string) {
	for j := i + 1; j < len(a); j++ {
		switch w := a[j]; {
		case w.known && slices.Contains([]string{"exec", "run", "create", "debug", "shell", "copy", "machine", "compose", "vrf", "plugin", "config"}, w.text):
			return a.anyOpen(i+1, "given to "+name+" "+w.text)
		case w.list && (j == i+1 || strings.HasPrefix(a[i+1].text, "-")), w.open && j == i+1:
			return j, "as the command of " + name
		}
	}
	return a.anyList(i+1, name, true)
}

// edited judges sed and awk: values may stand behind --, when it is certain that the program stood before it.
func (a words) edited(i int, name string) (int, string) {
	told := false
	for i++; i < len(a); i++ {
		w, before := a[i].text, a[i-1].text
		switch {
		case a[i].open:
			return i, "where " + name + " could take it for an option or its program: put -- before it"
		case w == "--":
			if told {
				return -1, ""
			}
			return a.anyOpen(i, "in the program of "+name)
		case len(w) > 1 && w[0] == '-':
		case before == "" || before[0] != '-' || before == "-e" || name == "sed" && strings.Trim(before[1:], "nirEsz") == "":
			told = true
		}
	}
	return -1, ""
}

// behindOptions judges programs that have options which name others to run: a value is an operand behind --, or what an
// option takes of which it is known that it is no code.
func (a words) behindOptions(i int, name string) (int, string) {
	flags, valued := mildOptions(name)
	for j := i + 1; j < len(a); j++ {
		w := a[j]
		before := a[j-1]
		switch {
		case w.known && w.text == "--":
			return -1, ""
		case !w.open:
		case w.first:
			last := len(before.text) - 1
			if j == i+1 || last < 1 || before.text[0] != '-' || !before.known || strings.Trim(before.text[1:last], flags) != "" ||
				!strings.ContainsAny(before.text[last:], valued) {
				return j, "where " + name + " could take it for an option: put -- before it"
			}
		case w.text[0] == '-' && (len(w.text) < 2 || !strings.ContainsAny(w.text[1:2], valued)):
			return j, "in an option of " + name
		case before.known && len(before.text) > 1 && before.text[0] == '-' && strings.Trim(before.text[1:], flags+valued) != "":
			return j, "behind an option of " + name + " that may name a program"
		}
	}
	return -1, ""
}

// mildOptions returns the letters of options that neither run anything nor are followed by a word, and of those that are
// followed by one which is no code. Long options are not known.
func mildOptions(name string) (flags, valued string) {
	switch name {
	case "tar", "bsdtar":
		return "acdrtuxvzjJpkmO", "fC"
	case "rsync":
		return "arvzlptgoDnuxHAXqhRciPS", ""
	case "git":
		return "", "C"
	case "scp", "sftp":
		return "rpqvBC346", "Pl"
	case "rpm":
		return "qaivhUFVlsR", ""
	case "curl":
		return "sSfLOkI", "XHdu"
	case "wget":
		return "qcnv", ""
	case "sort":
		return "rnuVbf", "kt"
	case "less":
		return "NSR", ""
	case "apt-get", "apt", "dnf", "yum":
		return "yqs", ""
	}
	return "", ""
}

// use is what a program does with its arguments.
type use uint8

const (
	plain     use = iota // nothing that is known
	runsAll              // it runs them
	runsSome             // it has commands that run them
	takesCode            // it has options that name a program, or code
	placed               // what a word means goes by its place
	edits                // its first operand is a program
)

// useOfProgram knows programs that run others, beyond those of the shell's list.
func useOfProgram(name string) use {
	switch name {
	case "pkexec", "capsh", "xvfb-run", "dbus-run-session", "dbus-launch", "chpst", "s6-setuidgid", "setuidgid", "softlimit", "envdir", "runcon",
		"firejail", "bwrap", "daemonize", "daemon", "start-stop-daemon", "unbuffer", "rlwrap", "valgrind", "perf", "numactl", "cgexec", "prlimit",
		"choom", "schedtool", "logsave", "machinectl", "systemd-nspawn", "systemd-inhibit", "systemd-cat", "scriptreplay", "proot", "fakechroot",
		"torsocks", "proxychains", "proxychains4", "tini", "dumb-init", "catatonit", "nice19", "run-parts", "socat", "ncat", "nc", "netcat", "lftp",
		"mongosh", "mongo", "redis-cli", "ansible-playbook", "vagrant", "puppet", "chef-client", "salt", "salt-call", "inotifywait", "watchexec", "hyperfine",
		"tcpdump", "gpg", "openssl", "setfattr", "ld.so", "ld-linux-x86-64.so.2", "busctl", "dbus-send", "gdbus", "logrotate", "cpio", "pax", "man", "more", "most",
		"jshell", "java", "dotnet", "go", "cargo", "npm", "npx", "yarn", "pip", "pip3", "gem", "bundle", "composer", "erl", "elixir", "iex", "ghci", "runghc", "guile",
		"sbcl", "clisp", "racket", "octave", "gnuplot", "qemu-system-x86_64", "gcc", "cc", "g++", "ld", "rake", "ant", "mvn", "gradle", "ninja", "cmake", "just", "task":
		return runsAll
	case "docker", "podman", "nerdctl", "ctr", "crictl", "kubectl", "oc", "lxc", "incus", "ip", "virsh", "helm":
		return runsSome
	case "tar", "bsdtar", "rsync", "git", "scp", "sftp", "rpm", "rpmbuild", "curl", "wget", "zip", "sort", "split", "less", "apt-get", "apt", "dnf", "yum", "dpkg":
		return takesCode
	case "find", "test", "[", "printf", "expr":
		return placed
	case "sed", "awk", "gawk", "mawk", "nawk":
		return edits
	}
	return plain
}
