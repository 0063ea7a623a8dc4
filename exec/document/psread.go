package document

import (
	"slices"
	"strings"
)

// psReader reads a PowerShell script and looks for anything that could run what a variable holds. It knows a part of the
// language in which nothing can: commands of a short list, comparisons, strings, assignments. What it does not know, it
// names. PowerShell has too many ways to run a text for a list of those.
type psReader struct {
	text  string
	i     int
	depth int
	why   string // the first thing that is not known to be harmless
	env   bool   // the statement names a variable of the environment
}

// psRuns returns what in a script could run a value that a variable holds, as "with …"; empty: nothing could.
func psRuns(text string) string {
	if strings.ContainsAny(text, "\u2018\u2019\u201a\u201b\u201c\u201d\u201e") {
		return "with curly quotes, which PowerShell takes for quotes"
	}
	r := &psReader{text: text}
	for r.why == "" && r.i < len(r.text) {
		r.code(0, false)
	}
	return r.why
}

func (r *psReader) refuse(what string) {
	if r.why == "" {
		r.why = "with " + clip(what)
	}
}

// psStatement is where the reader is within a statement.
type psStatement struct {
	start    bool   // a command may begin here
	command  string // whose arguments follow, in small letters; empty: an expression
	option   string // the parameter that stood last
	value    bool   // the last token was a value, which members and indices may follow
	adjacent bool   // nothing stands between that and what follows
}

// code reads up to a closing byte, 0 for the end of the script.
func (r *psReader) code(end byte, table bool) {
	if r.depth++; r.depth > maxDepth {
		r.refuse("blocks that are nested too deep")
		return
	}
	defer func() { r.depth-- }()
	s := psStatement{start: true}
	for r.why == "" && r.i < len(r.text) {
		c := r.text[r.i]
		if c == end && end != 0 {
			r.i++
			return
		}
		r.token(c, &s, table)
	}
}

func (r *psReader) token(c byte, s *psStatement, table bool) {
	rest := r.text[r.i:]
	switch {
	case c == ' ' || c == '\t' || c == '\r':
		r.i++
		s.adjacent = false
		return
	case c == '\n' || c == ';' || c == '|' || strings.HasPrefix(rest, "&&"):
		if c == '&' {
			r.i++
		}
		r.i++
		*s, r.env = psStatement{start: true}, false
		return
	case s.adjacent && (c == '#' || strings.HasPrefix(rest, "<#")):
		r.refuse("a # behind something else") // a comment in some places only
	case c == '#':
		r.skip("\n", false)
		return
	case strings.HasPrefix(rest, "<#"):
		r.skip("#>", true)
		return
	case c == '{':
		r.i++
		r.code('}', false)
		s.start, s.value = true, true
	case c == '(':
		r.argument(s, "in parentheses")
		r.i++
		r.code(')', false)
		s.start, s.value = false, true
	case c == '[':
		r.bracket(s)
	case c == '@':
		r.at(s)
	case c == '"' || c == '\'':
		r.quoted(s, string(c), string(c))
	case c == '$':
		r.variable(s)
	case c == '>':
		r.redirect()
	case c == '=':
		r.i++
		if s.command == "" {
			if r.env {
				r.refuse("an assignment to $env:")
			}
			s.start = true
		}
		s.value = false
	case c == '.' && s.value && s.adjacent && !strings.HasPrefix(rest, ".."):
		r.member(s)
	case strings.IndexByte("+*/!,<", c) >= 0, !s.start && (c == '%' || c == '?'):
		r.i++
		s.value = false
	default:
		r.word(s, table)
	}
	s.adjacent = true
}

// skip goes behind a text, or to the end.
func (r *psReader) skip(to string, over bool) {
	n := strings.Index(r.text[r.i:], to)
	if n < 0 {
		r.i = len(r.text)
		return
	}
	r.i += n
	if over {
		r.i += len(to)
	}
}

// argument judges something whose value is not known as an argument of the command that it is given to.
func (r *psReader) argument(s *psStatement, what string) {
	switch {
	case psWrites(s.command) && s.option != "-value":
		r.refuse(s.command + " of a path that is not written out")
	case psEach(s.command):
		r.refuse(s.command + " and an argument " + what)
	}
	s.option = ""
}

// bracket reads an index, or a type's name.
func (r *psReader) bracket(s *psStatement) {
	if s.value && s.adjacent {
		r.i++
		r.code(']', false)
		return
	}
	n := strings.IndexByte(r.text[r.i:], ']')
	name := strings.ToLower(r.text[r.i+1 : r.i+max(n, 1)])
	if strings.HasSuffix(name, "[") { // string[]
		name, n = strings.TrimSuffix(name, "["), n+1
	}
	if n < 0 || !slices.Contains(strings.Fields("string int int32 int64 long bool double float decimal datetime timespan char byte array version guid regex object pscustomobject ordered hashtable void switch"), name) {
		r.refuse("[" + name + "]")
		return
	}
	r.i += n + 1
	s.value = false
}

// at reads @( ), @{ } and here-strings.
func (r *psReader) at(s *psStatement) {
	rest := r.text[r.i:]
	switch {
	case strings.HasPrefix(rest, "@("), strings.HasPrefix(rest, "@{"):
		r.argument(s, "in parentheses")
		r.i += 2
		r.code(map[byte]byte{'(': ')', '{': '}'}[rest[1]], rest[1] == '{')
	case strings.HasPrefix(rest, `@"`), strings.HasPrefix(rest, "@'"):
		r.quoted(s, rest[:2], "\n"+rest[1:2]+"@")
	default:
		r.refuse("@ before a name")
	}
	s.start, s.value = false, true
}

// quoted reads a text in quotes; what $( ) holds in it is code.
func (r *psReader) quoted(s *psStatement, opening, closing string) {
	from := r.i
	r.i += len(opening)
	double := strings.HasSuffix(opening, `"`)
	expands := false
	for r.why == "" {
		if r.i >= len(r.text) {
			r.refuse("a text that has no end")
			return
		}
		rest := r.text[r.i:]
		switch {
		case double && rest[0] == '`':
			r.i += 2
		case double && strings.HasPrefix(rest, "$("):
			expands = true
			r.i += 2
			r.code(')', false)
		case len(closing) == 1 && strings.HasPrefix(rest, closing+closing):
			r.i += 2
		case strings.HasPrefix(rest, closing):
			r.i += len(closing)
			if expands {
				r.argument(s, "that is put together")
			} else if psWrites(s.command) && s.option != "-value" && strings.Contains(r.text[from:r.i], ":") {
				r.refuse(s.command + " of a path with a colon") // Function:x is one, and what it holds is run
			}
			s.start, s.value, s.option = false, true, ""
			return
		default:
			expands = expands || double && rest[0] == '$'
			r.i++
		}
	}
}

// variable reads $x, ${x}, $env:x and $( ).
func (r *psReader) variable(s *psStatement) {
	rest := r.text[r.i:]
	if strings.HasPrefix(rest, "$(") {
		r.argument(s, "in parentheses")
		r.i += 2
		r.code(')', false)
		s.start, s.value = false, true
		return
	}
	name, n := "", 1
	if strings.HasPrefix(rest, "${") {
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			r.refuse("${ that has no end")
			return
		}
		name, n = rest[2:end], end+1
	} else {
		for n < len(rest) && (letter(rune(rest[n])) || rest[n] == '_' || rest[n] == ':' && n+1 < len(rest) && letter(rune(rest[n+1]))) {
			n++
		}
		name = rest[1:n]
		if name == "" && len(rest) > 1 && strings.IndexByte("?$^", rest[1]) >= 0 {
			n++
		}
	}
	name = strings.ToLower(name)
	drive, own, scoped := strings.Cut(name, ":")
	switch {
	case !scoped:
		own = name
	case drive == "env":
		r.env = true
	case !slices.Contains([]string{"script", "global", "local", "private"}, drive):
		r.refuse("$" + name)
	}
	if slices.Contains([]string{"executioncontext", "psdefaultparametervalues", "pscmdlet", "myinvocation", "host", "psmodulepath"}, own) {
		r.refuse("$" + name)
	}
	r.i += n
	if after := strings.TrimLeft(r.text[r.i:], " \t\r\n"); r.env && len(after) > 3 && strings.EqualFold(after[:2], "in") && !letter(rune(after[2])) {
		r.refuse("an assignment to $env:")
	}
	if name != "null" && name != "true" && name != "false" {
		r.argument(s, "from a variable")
	}
	s.start, s.value = false, true
}

// redirect reads > FILE. The file must be written out.
func (r *psReader) redirect() {
	r.i++
	after := strings.TrimLeft(r.text[r.i:], "> \t")
	switch {
	case strings.HasPrefix(after, "&"):
		r.i = len(r.text) - len(after) + 1
	case strings.HasPrefix(strings.ToLower(after), "$null"):
	case strings.HasPrefix(after, "$") || strings.HasPrefix(after, `"`) || strings.HasPrefix(after, "(") || strings.HasPrefix(after, "@"):
		r.refuse("> and a path that is not written out")
	default:
		r.i = len(r.text) - len(after)
		for r.i < len(r.text) && strings.IndexByte(" \t\r\n;|})", r.text[r.i]) < 0 {
			if strings.IndexByte(":$\"'`(", r.text[r.i]) >= 0 {
				r.refuse("> and a path that is not written out")
			}
			r.i++
		}
	}
}

// member reads .Name, and refuses methods that are not known.
func (r *psReader) member(s *psStatement) {
	r.i++
	n := 0
	for r.i+n < len(r.text) && (letter(rune(r.text[r.i+n])) || r.text[r.i+n] == '_') {
		n++
	}
	name := strings.ToLower(r.text[r.i : r.i+n])
	r.i += n
	called := r.i < len(r.text) && (r.text[r.i] == '(' || r.text[r.i] == '{')
	if n == 0 || called && !slices.Contains(strings.Fields("tostring trim trimstart trimend split replace tolower toupper contains startswith endswith substring indexof padleft padright adddays addhours addminutes equals"), name) {
		r.refuse("the method " + name)
	}
	s.value = true
}

// word reads a bare word: a command, a keyword, an operator, an argument.
func (r *psReader) word(s *psStatement, table bool) {
	n := 0
	for r.i+n < len(r.text) && strings.IndexByte(" \t\r\n;|&(){}'\"$,@`<>=", r.text[r.i+n]) < 0 {
		if r.text[r.i+n] > '~' {
			r.refuse("signs that are not ASCII, outside of texts")
			return
		}
		n++
	}
	if n == 0 {
		r.refuse("the sign " + r.text[r.i:r.i+1])
		return
	}
	word := strings.ToLower(r.text[r.i : r.i+n])
	r.i += n
	option := word[0] == '-'
	number := word[0] >= '0' && word[0] <= '9'
	key := table && strings.HasPrefix(strings.TrimLeft(r.text[r.i:], " \t"), "=")
	switch {
	case strings.Contains(word, "::") || word == "--%" || word == "-as":
		r.refuse(word)
	case s.command != "" && !s.start:
		r.given(s, word)
	case key && s.start, number, option:
		s.start = false
	case word == "in" && !s.start:
		s.start = true
		return
	case psKeyword(word):
		*s = psStatement{start: true}
		return
	case psHarmless(word):
		*s = psStatement{command: word}
		return
	default:
		r.refuse(word)
	}
	s.value = number
}

// given judges a bare word as an argument.
func (r *psReader) given(s *psStatement, word string) {
	if word[0] == '-' {
		s.option = word
		for _, prefix := range []string{"-outv", "-errorv", "-warningv", "-informationv", "-pipelinev", "-ov", "-ev", "-wv", "-iv", "-pv"} {
			if strings.HasPrefix(word, prefix) {
				r.refuse(word)
			}
		}
		if psEach(s.command) && word != "-begin" && word != "-process" && word != "-end" {
			r.refuse(s.command + " " + word)
		}
		if strings.Contains(word, ":") {
			r.refuse(word)
		}
		return
	}
	if psEach(s.command) {
		r.refuse(s.command + " " + word)
	}
	if psWrites(s.command) && s.option != "-value" && strings.ContainsAny(word, ":") {
		r.refuse(s.command + " of a path with a colon")
	}
	s.option = ""
}

func psKeyword(word string) bool {
	return slices.Contains(strings.Fields("if else elseif foreach for while do until switch default try catch finally return exit throw break continue"), word)
}

// psWrites reports whether a command writes to a path; a function's is one, too.
func psWrites(command string) bool {
	return command == "set-content" || command == "add-content" || command == "out-file"
}

// psEach reports whether a command runs a block for each of what it gets, or a method by its name.
func psEach(command string) bool { return command == "foreach-object" || command == "%" }

// psHarmless is the list of commands that a script with values may have: none runs what it is given. Function:, Alias: and
// Env: are paths to PowerShell, so that those which write are watched (psWrites), and those that make, move or remove
// items are not here.
func psHarmless(word string) bool {
	return slices.Contains(strings.Fields(`write-output write-host write-verbose write-warning write-error write-information write-debug echo
		get-item get-childitem get-content get-process get-service get-date get-location get-random get-filehash get-computerinfo get-uptime
		get-culture get-timezone get-host test-path test-connection join-path split-path resolve-path select-object where-object ? sort-object measure-object
		group-object compare-object foreach-object % format-table format-list format-wide out-string out-null out-host out-default convertto-json
		convertfrom-json convertto-csv convertfrom-csv select-string start-sleep set-content add-content out-file stop-process wait-process
		start-service stop-service restart-service`), word)
}
