package document

import (
	"slices"
	"strconv"
	"strings"
)

// environment returns the variables of a step: its own, and every parameter as SSM_<name>, where a script finds it
// whether the document names it there or not; but a secret only where the step names it. Ours come last and win.
func (b *builder) environment(f *form, c *compiled) []string {
	var env []string
	if err := b.checkEnvironment(f.raw("environment")); err != nil {
		if f.err == nil {
			f.err = err
		}
		return nil
	}
	if n := f.take("environment"); n != nil && n.shape != open {
		if n.shape != dict {
			f.fail(n.line, "environment is a map, not %s", n.shape)
			return nil
		}
		for i, k := range n.keys {
			v := n.items[i]
			if !isVariable(k.text) {
				f.fail(k.line, "environment: %q is no name of a variable, or none that a document may set", clip(k.text))
			}
			if v.shape == open {
				continue
			}
			if v.shape != scalar {
				f.fail(v.line, "environment: %s is a text, not %s", k.text, v.shape)
			}
			env = append(env, k.text+"="+v.text)
		}
	}
	more, err := b.variables(c)
	if err != nil && f.err == nil {
		f.err = err
	}
	return append(env, more...)
}

// variables returns the values as a script finds them: the document's own parameters, all of them but for secrets that the
// step does not name, and those of the store that the script refers to. A value that is the whole script is not among them.
func (b *builder) variables(c *compiled) ([]string, error) {
	var env []string
	for _, name := range keysOf(b.r.v.of) {
		entry := variable(name) + "=" + stringify(b.r.v.of[name])
		if (c.whole == nil || c.whole.Name != name) && (!b.d.store.hides(entry) || b.names(name, c)) {
			env = append(env, entry)
		}
	}
	for _, p := range c.lines {
		env = append(env, linesVariable(p.Name)+"="+joined(b.r.v.of[p.Name]))
	}
	for _, p := range c.stored {
		v, err := b.r.value(p, b.s.line)
		if err != nil {
			return nil, err
		}
		if v != nil {
			env = append(env, p.variable()+"="+stringify(v))
		}
	}
	return env, nil
}

// names reports whether the step names a parameter of the document: between braces, or by its variable. A secret that was
// given for one is no business of the other steps and of what they start.
func (b *builder) names(name string, c *compiled) bool {
	if c.whole != nil {
		if script, err := b.r.value(c.whole, b.s.line); err == nil && mentionsWord(joined(script), variable(name)) {
			return true
		}
	}
	return b.s.inputs.hasText(func(text string) bool {
		return mentionsWord(text, variable(name)) || slices.ContainsFunc(refs(text), func(r ref) bool { return r.name == name })
	})
}

// hasText reports whether a text in a piece of a document is as asked for.
func (n *node) hasText(is func(string) bool) bool {
	return n.shape == scalar && is(n.text) || slices.ContainsFunc(n.items, func(c *node) bool { return c.hasText(is) })
}

// mentionsWord reports whether the name of a variable stands in a text, and not only as a part of a longer one.
func mentionsWord(text, name string) bool {
	inName := func(at int) bool { return at >= 0 && at < len(text) && (letter(rune(text[at])) || text[at] == '_') }
	for at := 0; ; {
		i := strings.Index(text[at:], name)
		if i < 0 {
			return false
		}
		at += i + len(name)
		if !inName(at-len(name)-1) && !inName(at) {
			return true
		}
	}
}

// variable names the variable that holds a parameter: SSM's name for it.
func variable(parameter string) string { return "SSM_" + parameter }

// variable names the variable that holds the parameter. The store's have names with slashes and dots, so they have a
// number; no parameter of a document's own can come to the same name.
func (p *parameter) variable() string {
	if p.store != nil {
		return storeVariable + strconv.Itoa(p.number)
	}
	return variable(p.Name)
}

const storeVariable = "MUSTER_PARAM_"

// isVariable reports whether a document's environment may set a variable.
func isVariable(name string) bool {
	for i, r := range name {
		if !(letter(r) || r == '_') || i == 0 && r >= '0' && r <= '9' {
			return false
		}
	}
	return name != "" && !slices.Contains([]string{"SSM_COMMAND_ID"}, name)
}

// checkEnvironment refuses values that would choose a variable's name, or that stand in a variable which steers a shell,
// a loader or an interpreter. It looks at what the document says, so that no value can matter to it.
func (b *builder) checkEnvironment(n *node) error {
	if n == nil {
		return nil
	}
	if n.shape == scalar && len(refs(n.text)) > 0 {
		return refuse(n.line, "%s: environment: a value may not choose the names of variables", b.s.of()).
			Hinted(`name them: environment: {STAGE: "{{ stage }}"}`)
	}
	for i, k := range n.keys {
		where := steers(k.text)
		if v := n.items[i]; where != "" && b.d.wild(v) {
			return refuse(v.line, "%s: environment: a value %s: a shell, the loader or an interpreter runs what it says", b.s.of(), where).
				Hinted("give it another name, or list the parameter's allowedValues")
		}
	}
	return nil
}

// wild reports whether a value that is not tame goes into n.
func (d *Document) wild(n *node) bool {
	return slices.ContainsFunc(refs(n.text), func(r ref) bool {
		p, err := d.parameter(r.name)
		return err != nil || !p.tame()
	})
}

// held returns the names of the step's own variables that hold a value.
func (b *builder) held() []string {
	n := b.s.inputs.get("environment")
	if n == nil || n.shape != dict {
		return nil
	}
	var names []string
	for i, k := range n.keys {
		if b.d.wild(n.items[i]) {
			names = append(names, k.text)
		}
	}
	return names
}

// steers says why a variable may not have a value: a shell, the loader or some program runs what it says, or finds there
// what it runs.
func steers(name string) string {
	if name == "BASH_REMATCH" {
		return "" // it only tells
	}
	for _, prefix := range steering() {
		if whole, ok := strings.CutSuffix(prefix, "$"); ok && name == whole || !ok && strings.HasPrefix(name, prefix) {
			return "as the value of " + name
		}
	}
	for _, suffix := range []string{"PAGER", "EDITOR", "_ASKPASS", "_PRELOAD", "_RSH", "_SHELL", "BROWSER"} {
		if strings.HasSuffix(name, suffix) {
			return "as the value of " + name
		}
	}
	return ""
}

// steering are the beginnings of names; with a $ behind, whole names.
func steering() []string {
	return []string{
		"PATH$", "IFS$", "ENV$", "HOME$", "SHELL$", "SHELLOPTS$", "CDPATH$", "FPATH$", "PS0$", "PS1$", "PS2$", "PS3$", "PS4$", "PROMPT_",
		"VISUAL$", "INPUTRC$", "ZDOTDIR$", "HISTFILE$", "FCEDIT$", "TMOUT$", "EXECIGNORE$", "GLOBIGNORE$", "FIGNORE$",
		"BASH", "LD_", "DYLD_", "GLIBC_", "GCONV_", "LOCPATH$", "NLSPATH$", "MALLOC_", "TERMINFO", "TERMCAP$", "XDG_",
		"PYTHON", "npm_config_", "PERL", "RUBY", "NODE_", "NPM_", "JAVA", "_JAVA", "JDK_", "CLASSPATH$", "LUA_", "PHPRC$", "PHP_INI_", "R_PROFILE", "R_HOME$", "R_ENVIRON", "R_LIBS", "ERL_", "GEM_", "BUNDLE_",
		"CARGO_", "RUSTC", "RUSTFLAGS$", "RUSTUP_", "GOFLAGS$", "GOTOOLCHAIN$", "DOTNET_", "COMPLUS_", "CORECLR_", "PSMODULE", "POWERSHELL_", "VIRTUAL_ENV$", "PIP_",
		"GIT_", "SSH_", "RSYNC_", "CVS_", "SVN_", "HGRCPATH$", "HGMERGE$", "LESS", "MANPATH$", "MANOPT$", "MANLESS$", "TAR_", "MAKE$", "MAKEFLAGS$", "MAKEFILES$", "MAKEOVERRIDES$", "MFLAGS$", "GNUMAKEFLAGS$", "CC$", "CXX$", "CPP$", "AWKPATH$", "AWKLIBPATH$",
		"SUDO_", "DOCKER_HOST$", "DOCKER_CON", "DOCKER_CERT_PATH$", "KUBECONFIG$", "ANSIBLE_", "OPENSSL_", "GNUPG", "GPG", "CURL_HOME$", "WGETRC$", "SYSTEMD_", "RPM_", "DPKG_", "APT_",
		"DEBCONF_", "VIM$", "VIMINIT$", "VIMRUNTIME$", "EXINIT$", "GVIM", "SCREENRC$", "TMUX", "AWS_CONFIG_FILE$", "AWS_SHARED_CREDENTIALS_FILE$", "KRB5", "PSQL", "PGSERVICE",
		"PGSYSCONFDIR$", "MYSQL_HOME$", "LIBMYSQL_", "TCLLIBPATH$", "TK_", "GTK_", "QT_", "GDK_", "GIO_", "GUILE_", "OCAML", "SQLITE_",
	}
}
