package document

import (
	"slices"
	"strings"
)

// wrapper is a command that runs another.
type wrapper struct {
	operands int    // words of its own before the other
	values   string // letters of its options that a word follows
	flags    string // letters of its options that none follows
	long     string // its long options that a word follows, with blanks between
	bare     string // its long options that none follows
	vars     bool   // NAME=VALUE may stand before the other
	alone    bool   // without another it starts a shell
}

// wrapperOf returns of a command that runs another how many words of its own stand before that, and the letters of its
// options that a word follows.
func wrapperOf(name string) (operands int, values string, ok bool) {
	wr, ok := wrapping(name)
	return wr.operands, wr.values, ok
}

// wrapping knows commands that run another. An option that is not here makes code of all that follows.
func wrapping(name string) (wrapper, bool) {
	switch name {
	case "sudo":
		return wrapper{values: "ugpCcrthTDRUa", flags: "ABbEeHiKklnPSsvN", vars: true, alone: true,
			long: "user group prompt close-from role type host command-timeout chdir chroot other-user login-class auth-type",
			bare: "preserve-env set-home login non-interactive stdin shell background askpass reset-timestamp remove-timestamp preserve-groups"}, true
	case "doas":
		return wrapper{values: "uC", flags: "nsL", alone: true}, true
	case "env":
		return wrapper{values: "uC", flags: "i0v", long: "unset chdir", bare: "ignore-environment null debug", vars: true}, true
	case "nice":
		return wrapper{values: "n", long: "adjustment"}, true
	case "ionice":
		return wrapper{values: "ncpPu", flags: "t", long: "class classdata", bare: "ignore"}, true
	case "xargs":
		return wrapper{values: "InLPsdEa", flags: "0prtxeil", bare: "null no-run-if-empty interactive verbose exit",
			long: "arg-file delimiter max-args max-lines max-procs max-chars replace"}, true
	case "exec":
		return wrapper{values: "a", flags: "cl"}, true
	case "time":
		return wrapper{values: "fo", flags: "pavqV", long: "format output", bare: "portability append verbose quiet"}, true
	case "command", "setsid":
		return wrapper{flags: "pvVcfw", bare: "ctty fork wait"}, true
	case "nohup", "builtin", "busybox", "toybox", "eatmydata", "caffeinate", "then", "do":
		return wrapper{}, true
	case "fakeroot":
		return wrapper{values: "lsib", flags: "uv", alone: true}, true
	case "unshare", "nsenter":
		return wrapper{values: "tSGRw", flags: "muinpUCTrcfa", alone: true, long: "target setuid setgid root wd propagation",
			bare: "mount uts ipc net pid user cgroup time fork map-root-user all mount-proc preserve-credentials"}, true
	case "systemd-run":
		return wrapper{values: "HMut", flags: "rtPGqdS", alone: true, long: "unit description slice uid gid nice working-directory host machine",
			bare: "scope user system pty pipe quiet wait collect remain-after-exit no-block no-ask-password same-dir send-sighup"}, true
	case "stdbuf":
		return wrapper{values: "ioe", long: "input output error"}, true
	case "strace", "ltrace":
		return wrapper{values: "eopsuaISPX", flags: "fFcCqtTvxyihdrzwk"}, true
	case "timeout":
		return wrapper{operands: 1, values: "ks", flags: "fpv", long: "kill-after signal", bare: "foreground preserve-status verbose"}, true
	case "chroot":
		return wrapper{operands: 1, long: "userspec groups", bare: "skip-chdir", alone: true}, true
	case "gosu", "su-exec":
		return wrapper{operands: 1, alone: true}, true
	case "setarch", "linux32", "linux64":
		return wrapper{operands: 1, flags: "RFZLXBIS3v", alone: true}, true
	case "setpriv":
		return wrapper{alone: true, long: "reuid regid groups ruid euid rgid egid inh-caps ambient-caps bounding-set securebits pdeathsig",
			bare: "clear-groups keep-groups init-groups no-new-privs nnp reset-env dump"}, true
	case "flock":
		return wrapper{operands: 1, values: "wE", flags: "sexnuoFv", long: "timeout wait conflict-exit-code",
			bare: "shared exclusive nonblock nb unlock close no-fork verbose"}, true
	case "chrt", "taskset":
		return wrapper{operands: 1, values: "TPDp", flags: "abdforimvcR", long: "sched-runtime sched-period sched-deadline",
			bare: "all-tasks batch deadline fifo other rr idle reset-on-fork verbose cpu-list"}, true
	}
	return wrapper{}, false
}

// wrapped judges the words of a command that runs another. Its own words begin at from.
func (c *caller) wrapped(name string, wr wrapper, from int) {
	operands, ended := wr.operands, false
	for i := from; i < len(c.args); i++ {
		word, known := c.w.literal(c.args[i])
		switch {
		case known && word == "--" && !ended:
			ended = true
		case !ended && splits(name, word):
			c.v.any = true
			reason := "in the code that " + name + " runs"
			c.rest(i, reason)
			if name == "flock" && known && !strings.Contains(word, "=") {
				c.snippet(true, 0, i+1)
				c.feeds(name, i+1)
			}
			return
		case !ended && known && len(word) > 1 && word[0] == '-':
			takes, ok := wr.option(word)
			if !ok {
				c.rest(i+1, "behind an option of "+name+" that is not known here")
				c.v.sub(c.w, c.args, i+1)
				return
			}
			if i += takes; takes > 0 && i < len(c.args) {
				c.fixed(i, name)
			}
		case !ended && !known && strings.HasPrefix(word, "-"):
			if at := strings.IndexByte(word, '='); at > 0 && strings.HasPrefix(word, "--") && slices.Contains(strings.Fields(wr.long), word[2:at]) {
				continue
			}
			c.v.mark(i, "in an option of "+name)
		case wr.vars && strings.Contains(word, "="):
			variable, _, _ := strings.Cut(word, "=")
			c.v.mark(i, steers(variable))
			c.fixed(i, name)
		case operands > 0:
			operands--
			c.fixed(i, name)
			if c.begins(c.args[i]) && !ended {
				c.v.mark(i, "where "+name+" could take it for an option")
			}
		default:
			c.fixed(i, name)
			c.v.sub(c.w, c.args, i)
			if name == "xargs" && !(known && slices.Contains(harmlessUnderXargs(), word)) {
				c.v.runs = name // what it reads becomes words that run
			}
			return
		}
	}
	if wr.alone {
		c.v.runs = name
	}
}

// harmlessUnderXargs are programs that do nothing with any words but what their names say.
func harmlessUnderXargs() []string {
	return []string{"echo", "rm", "rmdir", "ls", "cat", "grep", "chmod", "chown", "chgrp", "mkdir", "touch", "kill", "wc", "stat", "du", "cp", "mv", "ln",
		"basename", "dirname", "realpath", "readlink", "head", "tail", "md5sum", "sha256sum", "gzip", "gunzip", "systemctl"}
}

// option returns how many words an option takes behind it, and whether it is known.
func (wr wrapper) option(word string) (takes int, known bool) {
	if long, ok := strings.CutPrefix(word, "--"); ok {
		key, _, within := strings.Cut(long, "=")
		switch {
		case slices.Contains(strings.Fields(wr.bare), key):
			return 0, true
		case slices.Contains(strings.Fields(wr.long), key) && within:
			return 0, true
		case slices.Contains(strings.Fields(wr.long), key):
			return 1, true
		}
		return 0, false
	}
	for i := 1; i < len(word); i++ {
		letter := word[i : i+1]
		switch {
		case strings.Contains(wr.values, letter) && i+1 == len(word):
			return 1, true
		case strings.Contains(wr.values, letter):
			return 0, true
		case !strings.Contains(wr.flags, letter) && !(letter[0] >= '0' && letter[0] <= '9'):
			return 0, false
		}
	}
	return 0, true
}

// splits reports whether an option of a wrapper is followed by a line of shell, or has words of a command in it.
func splits(name, option string) bool {
	short := strings.HasPrefix(option, "-") && !strings.HasPrefix(option, "--")
	switch name {
	case "env":
		return short && strings.Contains(option, "S") || strings.HasPrefix(option, "--s")
	case "flock":
		return short && strings.Contains(option, "c") || strings.HasPrefix(option, "--com")
	}
	return false
}
