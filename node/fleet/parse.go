package fleet

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseTarget reads the target language:
//
//	target     = and-terms { "or" and-terms }
//	and-terms  = term { "and" term }
//	term       = "not" term | "(" target ")" | "*" | "all" | "@" group | names | comparison | ssm
//	names      = word { "," word }            web01  web*  web[01-20]  an ID or the beginning of one
//	comparison = key ( "=" | "!=" ) value | key [ "not" ] "in" "(" value { "," value } ")"
//	key        = "tag." K | "name" | "id" | "role" | "os.name" | "os.version" | "arch" | "version"
//	ssm        = "Key=" ( "tag:" K | "tag-key" | "InstanceIds" ) ",Values=" value { "," value }
//
// An unquoted value may hold the wildcards * and ?; quoted text is taken as it is.
func ParseTarget(text string) (Target, error) {
	if len(text) > MaxTarget {
		return Target{}, Errorf(Exhausted, "target: %d bytes; it may have %d", len(text), MaxTarget).
			Hinted("save parts of it as groups, or select by a tag")
	}
	tokens, err := lex(text)
	if err != nil {
		return Target{}, err
	}
	p := &parser{text: text, tokens: tokens, room: MaxExpand}
	root, err := p.or(0)
	if err != nil {
		return Target{}, err
	}
	if p.peek().kind != end {
		return Target{}, p.trailing()
	}
	t := newTarget(root)
	if len(t.text) > MaxTarget {
		return Target{}, Errorf(Exhausted, "target: %d bytes in its full form; it may have %d", len(t.text), MaxTarget)
	}
	return t, nil
}

// kind is a kind of token.
type kind uint8

const (
	end kind = iota
	word
	quoted
	open
	shut
	comma
	equal
	unequal
)

// token is one piece of the text; at is its place in characters, from 0.
type token struct {
	kind kind
	text string
	at   int
}

func (t token) is(keywordText string) bool { return t.kind == word && keyword(t.text) == keywordText }

// wordRune reports whether r may stand in an unquoted word.
func wordRune(r rune) bool {
	return r > ' ' && r != 0x7f && r != utf8.RuneError && !unicode.IsSpace(r) && !unicode.IsControl(r) &&
		!strings.ContainsRune("()=!,\"'&|<>\\;`", r)
}

func lex(text string) ([]token, error) {
	if !utf8.ValidString(text) {
		return nil, Errorf(Invalid, "target: the text is not UTF-8")
	}
	l := lexer{text: text, runes: []rune(text)}
	for l.at < len(l.runes) {
		if err := l.next(); err != nil {
			return nil, err
		}
	}
	return append(l.tokens, token{end, "", len(l.runes)}), nil
}

type lexer struct {
	text   string
	runes  []rune
	at     int
	tokens []token
}

func (l *lexer) ahead(text string) bool {
	return strings.HasPrefix(string(l.runes[l.at:min(l.at+2, len(l.runes))]), text)
}

func (l *lexer) add(k kind, text string, length int) {
	l.tokens = append(l.tokens, token{k, text, l.at})
	l.at += length
}

func (l *lexer) next() error {
	r := l.runes[l.at]
	switch {
	case r == ' ' || r == '\t' || r == '\n' || r == '\r':
		l.at++
	case r == '(':
		l.add(open, "(", 1)
	case r == ')':
		l.add(shut, ")", 1)
	case r == ',':
		l.add(comma, ",", 1)
	case l.ahead("!="):
		l.add(unequal, "!=", 2)
	case l.ahead("=="), l.ahead("=~"):
		return faultAt(l.text, l.at, "unexpected "+string(l.runes[l.at:l.at+2])).Hinted("use = (values may hold * and ?)")
	case r == '=':
		l.add(equal, "=", 1)
	case r == '"' || r == '\'':
		return l.quotedText(r)
	case r == '&':
		return faultAt(l.text, l.at, "unexpected &").Hinted("use and")
	case r == '|':
		return faultAt(l.text, l.at, "unexpected |").Hinted("use or")
	case r == '~': // behind = it would be taken for =~
		return faultAt(l.text, l.at, "unexpected ~").Hinted(`put values that begin with it in quotes: tag.K="~…"`)
	case r == '!':
		return faultAt(l.text, l.at, "unexpected !").Hinted("use not, or != between key and value")
	case wordRune(r):
		return l.word()
	default:
		return faultAt(l.text, l.at, "unexpected character").Hinted(`put values with unusual characters in quotes: tag.K="…"`)
	}
	return nil
}

// word takes one word; commas inside brackets belong to it.
func (l *lexer) word() error {
	stop, depth, bracket := l.at, 0, 0
	for stop < len(l.runes) && (wordRune(l.runes[stop]) || (depth > 0 && l.runes[stop] == ',')) {
		switch l.runes[stop] {
		case '[':
			depth, bracket = depth+1, stop
		case ']':
			depth = max(depth-1, 0)
		}
		stop++
	}
	if depth > 0 {
		return faultAt(l.text, bracket, "[ without ]").Hinted("a nodeset is written web[01-20,25]")
	}
	l.add(word, string(l.runes[l.at:stop]), stop-l.at)
	return nil
}

func (l *lexer) quotedText(mark rune) error {
	var b strings.Builder
	for i := l.at + 1; i < len(l.runes); i++ {
		r := l.runes[i]
		switch {
		case r == mark:
			l.add(quoted, b.String(), i+1-l.at)
			return nil
		case unicode.IsControl(r):
			return faultAt(l.text, i, "a control character in quotes")
		case r == '\\' && mark == '"' && i+1 < len(l.runes) && !unicode.IsControl(l.runes[i+1]):
			i++
			b.WriteRune(l.runes[i])
		default:
			b.WriteRune(r)
		}
	}
	return faultAt(l.text, l.at, "a quote that does not end")
}

// faultAt makes the error for a place in text: what and column, the text, and a mark under the place.
func faultAt(text string, at int, what string) *Error {
	const around = 60 // characters shown on either side
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.IsSpace(r) {
			return ' '
		}
		return r
	}, text))
	from, to := max(0, at-around), min(len(runes), at+around)
	lead, tail := "", ""
	if from > 0 {
		lead = "…"
	}
	if to < len(runes) {
		tail = "…"
	}
	indent := strings.Repeat(" ", at-from+utf8.RuneCountInString(lead))
	return Errorf(Invalid, "target: %s at column %d\n  %s%s%s\n  %s^", what, at+1, lead, string(runes[from:to]), tail, indent)
}

type parser struct {
	text   string
	tokens []token
	next   int
	room   int // names that nodesets may still stand for
}

func (p *parser) peek() token { return p.tokens[p.next] }

func (p *parser) after(n int) token { return p.tokens[min(p.next+n, len(p.tokens)-1)] }

func (p *parser) take() token {
	t := p.tokens[p.next]
	if t.kind != end {
		p.next++
	}
	return t
}

func (p *parser) fault(t token, what string) *Error { return faultAt(p.text, t.at, what) }

// trailing says what is wrong with a token behind a complete term.
func (p *parser) trailing() error {
	t := p.peek()
	switch {
	case t.kind == shut:
		return p.fault(t, ") without (")
	case t.kind == comma:
		return p.fault(t, "unexpected comma").Hinted("several values are written: key in (a, b)")
	case t.kind == equal, t.kind == unequal:
		return p.fault(t, "expected and or or, not "+t.text).Hinted("quote keys and values with unusual characters")
	default:
		return p.fault(t, "expected and or or").Hinted("join terms with and or or; list names with commas: web01,web02")
	}
}

func (p *parser) or(depth int) (node, error) { return p.chain(depth, "or", p.and, joinOr) }

func (p *parser) and(depth int) (node, error) { return p.chain(depth, "and", p.term, joinAnd) }

func (p *parser) chain(depth int, by string, part func(int) (node, error), join func([]node) node) (node, error) {
	first, err := part(depth)
	if err != nil || !p.peek().is(by) {
		return first, err
	}
	all := []node{first}
	for p.peek().is(by) {
		p.take()
		n, err := part(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return join(all), nil
}

func (p *parser) term(depth int) (node, error) {
	t := p.peek()
	if depth >= maxTargetDepth {
		return nil, p.fault(t, "nested too deep").Hinted("save parts of it as groups")
	}
	switch {
	case t.is("not"):
		p.take()
		of, err := p.term(depth + 1)
		return notNode{of}, err
	case t.kind == open:
		return p.inParens(depth)
	case t.kind == word, t.kind == quoted:
		return p.wordTerm(t)
	case t.kind == end && len(p.tokens) == 1:
		return nil, p.fault(t, "expected a target").Hinted("for every node say * (on the command line: --all)")
	default:
		return nil, p.fault(t, "expected a node's name or key=value")
	}
}

func (p *parser) inParens(depth int) (node, error) {
	opened := p.take()
	n, err := p.or(depth + 1)
	if err != nil {
		return nil, err
	}
	switch t := p.peek(); t.kind {
	case shut:
		p.take()
		return n, nil
	case end:
		return nil, p.fault(opened, "( without )")
	default:
		return nil, p.trailing()
	}
}

func (p *parser) wordTerm(t token) (node, error) {
	switch after := p.after(1); {
	case t.kind == word && keyword(t.text) != "":
		return nil, p.fault(t, "expected a node's name or key=value before "+t.text)
	case t.kind == word && t.text == "Key" && after.kind == equal:
		return p.ssm()
	case after.kind == equal, after.kind == unequal, after.is("in"), after.is("not") && p.after(2).is("in"):
		return p.comparison()
	case t.kind == quoted:
		return p.names()
	case strings.HasPrefix(t.text, "@"):
		return p.group()
	case isKey(t.text):
		return nil, p.fault(after, "expected = or in after "+t.text).Hinted("%s=VALUE", t.text)
	case t.text == "*", t.text == "all":
		p.take()
		return everyNode{}, nil
	}
	return p.names()
}

func (p *parser) group() (node, error) {
	t := p.take()
	name := t.text[1:]
	if CheckName(name) != nil {
		return nil, p.fault(t, "expected a group's name after @")
	}
	return groupNode{name}, nil
}

func (p *parser) comparison() (node, error) {
	t := p.take()
	if err := p.checkKey(t); err != nil {
		return nil, err
	}
	op := p.take()
	n := testNode{key: t.text, negate: op.kind == unequal || op.is("not")}
	var err error
	if op.kind == word {
		if op.is("not") {
			p.take() // in
		}
		n.values, err = p.list()
	} else {
		n.values, err = p.single()
	}
	if err != nil {
		return nil, err
	}
	return n, p.checkRoles(t, n)
}

func (p *parser) checkKey(t token) error {
	if strings.HasPrefix(t.text, tagPrefix) {
		if !isTagKey(t.text[len(tagPrefix):]) {
			return p.fault(t, "expected a tag's key after tag.").Hinted("letters, digits and _ . / : -")
		}
		return nil
	}
	if isKey(t.text) {
		return nil
	}
	err := p.fault(t, "unknown key "+t.text)
	if near := nearest(t.text, plainKeys(), 1); len(near) > 0 {
		return err.Hinted("did you mean %s?", near[0])
	}
	if isTagKey(t.text) {
		return err.Hinted("for a tag say tag.%s; other keys: %s", strings.TrimPrefix(t.text, "tag:"), strings.Join(plainKeys(), ", "))
	}
	return err.Hinted("keys: tag.K, %s", strings.Join(plainKeys(), ", "))
}

// checkRoles refuses roles that no member can have: role=web is meant to be tag.role=web.
func (p *parser) checkRoles(t token, n testNode) error {
	if n.key != "role" {
		return nil
	}
	roles := []string{string(Plain), string(Spare), string(Voter), string(Lead)}
	for _, v := range n.values {
		if !v.glob && !slices.Contains(roles, v.text) {
			return p.fault(t, "role is one of "+strings.Join(roles, ", ")).Hinted("for a tag say tag.role=%s", quoteWord(v.text))
		}
	}
	return nil
}

func (p *parser) single() ([]value, error) {
	if t := p.peek(); t.kind == open {
		return nil, p.fault(t, "expected a value").Hinted("several values are written: key in (a, b)")
	}
	v, err := p.value()
	return []value{v}, err
}

func (p *parser) value() (value, error) {
	t := p.peek()
	switch {
	case t.kind == quoted:
		p.take()
		return value{text: t.text}, nil
	case t.kind == word && keyword(t.text) == "":
		p.take()
		return value{t.text, hasGlob(t.text)}, nil
	case t.kind == word:
		return value{}, p.fault(t, "expected a value").Hinted("a value that is the word %s goes in quotes", t.text)
	default:
		return value{}, p.fault(t, "expected a value")
	}
}

func (p *parser) list() ([]value, error) {
	opened := p.take()
	if opened.kind != open {
		return nil, p.fault(opened, "expected ( after in").Hinted("key in (a, b)")
	}
	var values []value
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		switch t := p.peek(); t.kind {
		case shut:
			p.take()
			return values, nil
		case comma:
			p.take()
		case end:
			return nil, p.fault(opened, "( without )")
		default:
			return nil, p.fault(t, "expected a comma or )")
		}
	}
}

// names reads a list of bare words, and sorts it: the order says nothing.
func (p *parser) names() (node, error) {
	var items []item
	for {
		it, err := p.item()
		if err != nil {
			return nil, err
		}
		items = append(items, it)
		if p.peek().kind != comma {
			break
		}
		p.take()
	}
	if slices.ContainsFunc(items, func(it item) bool { return it.text == "*" }) {
		return everyNode{}, nil
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.text, b.text) })
	return namesNode{slices.CompactFunc(items, func(a, b item) bool { return a.text == b.text })}, nil
}

func (p *parser) item() (item, error) {
	t := p.peek()
	switch {
	case t.kind == quoted, t.kind == word && !strings.ContainsAny(t.text, "*?["):
		return p.exact(t)
	case t.kind != word:
		return item{}, p.fault(t, "expected a node's name")
	case strings.Contains(t.text, "["):
		return p.nodeset(t)
	}
	if CheckName(strings.NewReplacer("*", "a", "?", "a").Replace(t.text)) != nil {
		return item{}, p.notName(t)
	}
	p.take()
	return item{text: t.text, glob: true}, nil
}

func (p *parser) exact(t token) (item, error) {
	if t.kind == word && reserved(t.text) {
		return item{}, p.fault(t, "expected a node's name, not "+t.text).Hinted("a node of that name goes in quotes")
	}
	if CheckName(t.text) != nil {
		return item{}, p.notName(t)
	}
	p.take()
	return item{text: t.text}, nil
}

func (p *parser) notName(t token) error {
	err := p.fault(t, "not a node's name")
	if lower := strings.ToLower(t.text); lower != t.text && CheckName(lower) == nil {
		return err.Hinted("names are in small letters: %s", lower)
	}
	return err.Hinted("names have a-z, 0-9, dot and hyphen; tags are written tag.K=VALUE")
}

func (p *parser) nodeset(t token) (item, error) {
	if hasGlob(t.text) {
		return item{}, p.fault(t, "a nodeset with a wildcard").Hinted("write them apart: web[01-20],db*")
	}
	names, err := expandItem(t.text, p.room)
	if err != nil {
		e := p.fault(t, err.Error())
		if KindOf(err) == Exhausted {
			e.Kind = Exhausted
		}
		return item{}, e
	}
	p.take()
	p.room -= len(names)
	set := make(map[string]struct{}, len(names))
	for _, name := range names {
		set[name] = struct{}{}
	}
	return item{text: t.text, set: set}, nil
}

// ssm reads SSM's way of writing targets: Key=tag:role,Values=web,db.
func (p *parser) ssm() (node, error) {
	p.take() // Key
	p.take() // =
	key := p.take()
	if key.kind != word && key.kind != quoted {
		return nil, p.fault(key, "expected tag:K, tag-key or InstanceIds after Key=")
	}
	if t := p.take(); t.kind != comma {
		return nil, p.fault(t, "expected ,Values=").Hinted("Key=tag:role,Values=web,db")
	}
	if t := p.take(); t.kind != word || t.text != "Values" {
		return nil, p.fault(t, "expected Values=").Hinted("Key=tag:role,Values=web,db")
	}
	if t := p.take(); t.kind != equal {
		return nil, p.fault(t, "expected = after Values")
	}
	switch {
	case strings.HasPrefix(key.text, "tag:") && isTagKey(key.text[len("tag:"):]):
		values, err := p.ssmValues()
		return testNode{key: tagPrefix + key.text[len("tag:"):], values: values}, err
	case key.text == "tag-key":
		return p.ssmTagKeys()
	case key.text == "InstanceIds":
		return p.names()
	}
	return nil, p.fault(key, "expected tag:K, tag-key or InstanceIds after Key=")
}

// ssmValues reads values until there is no comma. SSM knows no wildcards here.
func (p *parser) ssmValues() ([]value, error) {
	var values []value
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, value{text: v.text})
		if p.peek().kind != comma {
			return values, nil
		}
		p.take()
	}
}

func (p *parser) ssmTagKeys() (node, error) {
	at := p.peek()
	keys, err := p.ssmValues()
	if err != nil {
		return nil, err
	}
	var of []node
	for _, k := range keys {
		if !isTagKey(k.text) {
			return nil, p.fault(at, "not a tag's key: "+quote(k.text))
		}
		of = append(of, testNode{key: tagPrefix + k.text, values: []value{{"*", true}}})
	}
	if len(of) == 1 {
		return of[0], nil
	}
	return joinOr(of), nil
}
