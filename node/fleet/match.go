package fleet

import (
	"slices"
	"strings"
)

// tagPrefix begins the keys that name tags.
const tagPrefix = "tag."

// plainKeys are the keys beside tag.K.
func plainKeys() []string {
	return []string{"name", "id", "role", "os.name", "os.version", "arch", "version"}
}

func isKey(word string) bool {
	return strings.HasPrefix(word, tagPrefix) || slices.Contains(plainKeys(), word)
}

func isFact(key string) bool {
	switch key {
	case "os.name", "os.version", "arch", "version":
		return true
	}
	return false
}

// read returns what m has under key, and whether it has the key at all. A fact not yet reported is absent.
func read(m *Member, key string) (string, bool) {
	switch key {
	case "name":
		return m.Name, true
	case "id":
		return m.ID.Text(), true
	case "role":
		return string(m.Role), m.Role != ""
	case "os.name":
		return m.Facts.OS, m.Facts.OS != ""
	case "os.version":
		return m.Facts.OSVersion, m.Facts.OSVersion != ""
	case "arch":
		return m.Facts.Arch, m.Facts.Arch != ""
	case "version":
		return m.Facts.Version, m.Facts.Version != ""
	}
	text, ok := m.Tags[strings.TrimPrefix(key, tagPrefix)]
	return text, ok
}

func (everyNode) match(*Member) bool   { return true }
func (groupNode) match(*Member) bool   { return false }
func (n notNode) match(m *Member) bool { return !n.of.match(m) }

func (n andNode) match(m *Member) bool {
	for _, part := range n.of {
		if !part.match(m) {
			return false
		}
	}
	return true
}

func (n orNode) match(m *Member) bool {
	for _, part := range n.of {
		if part.match(m) {
			return true
		}
	}
	return false
}

func (n namesNode) match(m *Member) bool {
	for i := range n.items {
		if n.items[i].match(m) {
			return true
		}
	}
	return false
}

func (i *item) match(m *Member) bool {
	switch {
	case i.set != nil:
		_, ok := i.set[m.Name]
		return ok
	case i.glob:
		return MatchGlob(i.text, m.Name)
	default:
		return i.text == m.Name || matchID(i.text, m)
	}
}

// matchID reports whether word is the ID of m or the beginning of its screen form.
func matchID(word string, m *Member) bool {
	if len(word) < minIDPrefix || !likeID(word) {
		return false
	}
	return strings.HasPrefix(m.ID.Text(), word)
}

// likeID reports whether word has only characters of an ID's text.
func likeID(word string) bool {
	for i := range len(word) {
		if c := word[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// match compares; an absent key is never equal and, so that a typing error selects nothing, never unequal either.
func (n testNode) match(m *Member) bool {
	have, ok := read(m, n.key)
	if !ok {
		return false
	}
	for _, v := range n.values {
		if v.match(n.key, have) {
			return !n.negate
		}
	}
	return n.negate
}

func (v value) match(key, have string) bool {
	switch {
	case v.glob:
		return MatchGlob(v.text, have)
	case key == "id" && len(v.text) >= ScreenLen:
		return strings.HasPrefix(have, v.text) // the screen form or all of it
	default:
		return v.text == have
	}
}

func (everyNode) write(b *strings.Builder)   { b.WriteByte('*') }
func (n groupNode) write(b *strings.Builder) { b.WriteString("@" + n.name) }

func (n notNode) write(b *strings.Builder) {
	b.WriteString("not ")
	switch n.of.(type) {
	case andNode, orNode:
		writeInParens(b, n.of)
	case everyNode, groupNode, notNode, namesNode, testNode:
		n.of.write(b)
	}
}

func (n andNode) write(b *strings.Builder) {
	for i, part := range n.of {
		if i > 0 {
			b.WriteString(" and ")
		}
		if _, or := part.(orNode); or {
			writeInParens(b, part)
			continue
		}
		part.write(b)
	}
}

func (n orNode) write(b *strings.Builder) {
	for i, part := range n.of {
		if i > 0 {
			b.WriteString(" or ")
		}
		part.write(b)
	}
}

func writeInParens(b *strings.Builder, n node) {
	b.WriteByte('(')
	n.write(b)
	b.WriteByte(')')
}

func (n namesNode) write(b *strings.Builder) {
	for i, it := range n.items {
		if i > 0 {
			b.WriteByte(',')
		}
		if !it.glob && it.set == nil && reserved(it.text) {
			b.WriteString(quote(it.text))
			continue
		}
		b.WriteString(it.text)
	}
}

func (n testNode) write(b *strings.Builder) {
	b.WriteString(quoteWord(n.key))
	if len(n.values) == 1 {
		b.WriteString(map[bool]string{false: "=", true: "!="}[n.negate])
		n.values[0].write(b)
		return
	}
	b.WriteString(map[bool]string{false: " in (", true: " not in ("}[n.negate])
	for i, v := range n.values {
		if i > 0 {
			b.WriteString(", ")
		}
		v.write(b)
	}
	b.WriteByte(')')
}

func (v value) write(b *strings.Builder) {
	if v.glob || (!hasGlob(v.text) && plainWord(v.text)) {
		b.WriteString(v.text)
		return
	}
	b.WriteString(quote(v.text))
}

// quoteWord quotes a key or value that the parser would not read back as one word.
func quoteWord(text string) string {
	if plainWord(text) {
		return text
	}
	return quote(text)
}

// plainWord reports whether text reads back as one word and no keyword.
func plainWord(text string) bool {
	if text == "" || text[0] == '~' || keyword(text) != "" {
		return false
	}
	for _, r := range text {
		if !wordRune(r) || r == '[' || r == ']' {
			return false
		}
	}
	return true
}

func quote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// reserved reports whether a bare word would not be read as a name.
func reserved(word string) bool { return keyword(word) != "" || word == "all" || isKey(word) }

// keyword returns the keyword that word is in any case, or nothing.
func keyword(word string) string {
	for _, k := range [...]string{"and", "or", "not", "in"} {
		if strings.EqualFold(word, k) {
			return k
		}
	}
	return ""
}
