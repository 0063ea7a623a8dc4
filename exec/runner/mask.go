package runner

import (
	"bytes"
)

// What is kept or told of a run shows maskText in the place of its secrets: of each value, of each line of a value that has
// several, and of what programs make of a value by themselves (maskForms). Shorter ones are left alone, as they would be found
// in everything.
const (
	maskText    = "****"
	minMasked   = 4 // bytes of a value
	minMaskLine = 8 // bytes of a line of it
)

// masker finds any of many texts, overlapping or not, in one pass (Aho and Corasick). It never changes.
type masker struct {
	letter  []byte
	child   []int32 // the first; 0: none
	sibling []int32 // the next child of the same parent
	fail    []int32 // the longest other text that ends here and begins a pattern
	depth   []int32
	found   []int32      // bytes of the longest pattern that ends here; 0: none
	next    [][256]int32 // of the first nodes: after no letter and after one, where almost all of a text is; of the rest, follow
}

// newMasker returns what masks secrets; nil if there is nothing to mask.
func newMasker(secrets [][]byte) *masker {
	patterns := maskPatterns(secrets)
	if len(patterns) == 0 {
		return nil
	}
	m := &masker{}
	m.node(0, 0)
	for _, p := range patterns {
		m.add(p[:1]) // first of all: the first nodes are those of one letter
	}
	near := len(m.letter)
	for _, p := range patterns {
		m.found[m.add(p)] = int32(len(p))
	}
	m.link()
	for at := range near {
		m.near(int32(at))
	}
	return m
}

// maskPatterns returns the texts that are masked.
func maskPatterns(secrets [][]byte) [][]byte {
	var out [][]byte
	seen := map[string]bool{}
	add := func(p []byte, least int) {
		if len(p) >= least && !seen[string(p)] {
			seen[string(p)], out = true, append(out, p)
		}
	}
	for _, s := range secrets {
		add(s, minMasked)
		add(bytes.Trim(s, " \t\r\n"), minMasked) // $(cat file) drops the newline at its end
		for line := range bytes.Lines(s) {
			add(bytes.Trim(line, " \t\r\n"), minMaskLine)
		}
	}
	for _, f := range maskForms(secrets) {
		add(f, minMasked)
	}
	return out
}

func (m *masker) node(letter byte, depth int32) int32 {
	m.letter, m.depth = append(m.letter, letter), append(m.depth, depth)
	m.child, m.sibling, m.fail, m.found = append(m.child, 0), append(m.sibling, 0), append(m.fail, 0), append(m.found, 0)
	return int32(len(m.letter) - 1)
}

// add makes the nodes of a text and returns its last.
func (m *masker) add(text []byte) int32 {
	at := int32(0)
	for _, b := range text {
		next := m.step(at, b)
		if next == 0 {
			next = m.node(b, m.depth[at]+1)
			m.sibling[next], m.child[at] = m.child[at], next
		}
		at = next
	}
	return at
}

// near fills in what follows a node.
func (m *masker) near(at int32) {
	var next [256]int32
	for b := range next {
		next[b] = m.follow(at, byte(b))
	}
	m.next = append(m.next, next)
}

// step follows one letter from a node; 0: no pattern goes on so.
func (m *masker) step(at int32, b byte) int32 {
	for c := m.child[at]; c != 0; c = m.sibling[c] {
		if m.letter[c] == b {
			return c
		}
	}
	return 0
}

// link sets fail, breadth first: what it refers to is always done before.
func (m *masker) link() {
	queue := []int32{0}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for c := m.child[at]; c != 0; c = m.sibling[c] {
			if at != 0 {
				m.fail[c] = m.follow(m.fail[at], m.letter[c])
			}
			m.found[c] = max(m.found[c], m.found[m.fail[c]])
			queue = append(queue, c)
		}
	}
}

// follow returns the node of the longest text that ends in b and begins a pattern.
func (m *masker) follow(at int32, b byte) int32 {
	for {
		if int(at) < len(m.next) {
			return m.next[at][b]
		}
		if c := m.step(at, b); c != 0 {
			return c
		}
		if at == 0 {
			return 0
		}
		at = m.fail[at]
	}
}

// text masks a text that is there as a whole.
func (m *masker) text(s string) string {
	if m == nil {
		return s
	}
	f := m.stream()
	return string(append(f.write([]byte(s)), f.flush()...))
}

func (m *masker) stream() *maskStream { return &maskStream{m: m} }

// maskStream masks a stream as it comes. It holds back what may turn out to be the beginning of a secret.
type maskStream struct {
	m     *masker
	at    int32      // node
	base  int64      // place in the stream of held's first byte
	held  []byte     // not yet given out
	spans [][2]int64 // of held: what is masked, in order, apart from each other
	inked bool       // what was given out last is a mask
}

// write takes more of the stream and returns what may be shown now. It is valid until the next call.
func (f *maskStream) write(p []byte) []byte {
	n := f.base + int64(len(f.held))
	f.held = append(f.held, p...)
	at, near, found := f.at, f.m.next, f.m.found
	for i, b := range p {
		if int(at) < len(near) {
			at = near[at][b]
		} else {
			at = f.m.follow(at, b)
		}
		if size := int64(found[at]); size > 0 {
			f.cover(n+int64(i)+1-size, n+int64(i)+1)
		}
	}
	f.at = at
	return f.give(n + int64(len(p)) - int64(f.m.depth[at]))
}

// flush returns what was held back: the stream has ended, or what comes next belongs to something else.
func (f *maskStream) flush() []byte {
	f.at = 0
	return f.give(f.base + int64(len(f.held)))
}

// cover notes that a part is masked. It ends behind all that were noted before.
func (f *maskStream) cover(from, to int64) {
	for len(f.spans) > 0 {
		last := f.spans[len(f.spans)-1]
		if last[1] < from {
			break
		}
		from = min(from, last[0])
		f.spans = f.spans[:len(f.spans)-1]
	}
	f.spans = append(f.spans, [2]int64{from, to})
}

// give returns the stream up to a place, masked.
func (f *maskStream) give(to int64) []byte {
	var out []byte
	at := f.base
	plain := func(until int64) {
		if until > at {
			out = append(out, f.held[at-f.base:until-f.base]...)
			at, f.inked = until, false
		}
	}
	for len(f.spans) > 0 && f.spans[0][0] < to {
		span := f.spans[0]
		plain(span[0])
		if !f.inked {
			out = append(out, maskText...)
			f.inked = true
		}
		if span[1] > to {
			f.spans[0][0], at = to, to
			break
		}
		at, f.spans = span[1], f.spans[1:]
	}
	plain(to)
	f.held = append(f.held[:0], f.held[at-f.base:]...)
	f.base = at
	return out
}
