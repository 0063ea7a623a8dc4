package document

import (
	"strings"

	"github.com/muster-fleet/muster/exec/steps"
)

// powerShell builds aws:runPowerShellScript.
func (b *builder) powerShell(f *form, out *steps.Step) error {
	out.Interpreter = []string{"pwsh", "-NoProfile", "-NonInteractive", "-File"}
	return b.script(f, out, "_script.ps1", b.rewritePowerShell)
}

// psWriter goes through a PowerShell script once. It knows quotes, here-strings and comments, and takes a value where it
// is an argument of its own, in double quotes, or all of a text in single quotes; everything else it refuses.
type psWriter struct {
	b    *builder
	src  source
	text string
	out  strings.Builder
	done int // what is written up to this byte
}

// rewritePowerShell makes a PowerShell script of a step's commands: {{ p }} becomes ${env:SSM_p}. What came of it may hold
// nothing that could run what a variable holds; a script that does, and reads a value's variable by itself, is raw shell.
func (b *builder) rewritePowerShell(src source) (compiled, error) {
	found := refs(src.text)
	w := &psWriter{b: b, src: src, text: src.text}
	inside := psPlaces(src.text, found)
	var wild []mark
	for i, r := range found {
		p, err := b.d.declared(r.name, src.at(r.start))
		if err != nil {
			return compiled{}, err
		}
		m := mark{start: r.start, end: r.end, at: r.start, p: p}
		if where := w.put(m, inside[i]); where != "" {
			return compiled{}, b.unsafe(src.at(r.start), m, where)
		}
		if !p.tame() && inside[i] != psComment {
			wild = append(wild, m)
		}
	}
	w.out.WriteString(w.text[w.done:])
	out := compiled{text: w.out.String(), stored: b.storedIn(found)}
	if len(wild) == 0 && !b.mentionsWild(src.text) {
		return out, nil
	}
	switch why := psRuns(out.text); {
	case why == "":
	case len(wild) > 0:
		m := wild[0]
		return compiled{}, b.unsafe(src.at(m.start), m, "in a script "+why+", which is not known to be harmless").
			Hinted("use only cmdlets such as Write-Output, Get-Item and Set-Content -Value; or read $env:%s, and the document counts as raw shell", m.p.variable())
	default:
		out.raw = true
	}
	return out, nil
}

// mentionsWild reports whether a script names a value's variable by itself.
func (b *builder) mentionsWild(text string) bool {
	text = strings.ToUpper(text)
	return len(b.d.parameters) > 0 && strings.Contains(text, "SSM_") || len(b.d.stored) > 0 && strings.Contains(text, storeVariable)
}

// psPlace is what a reference stands in.
type psPlace uint8

const (
	psBare psPlace = iota
	psDouble
	psSingle
	psComment
	psUnclear // behind something that this reader does not follow
)

// psPlaces finds what each reference stands in.
func psPlaces(text string, found []ref) []psPlace {
	out := make([]psPlace, 0, len(found))
	place, close := psBare, ""
	next := 0
	for i := 0; i < len(text) && next < len(found); i++ {
		if i == found[next].start {
			out = append(out, place)
			i = found[next].end - 1
			next++
			continue
		}
		rest := text[i:]
		switch place {
		case psBare:
			var opening string
			place, opening, close = psOpen(text, i)
			i += max(len(opening)-1, 0)
		case psDouble:
			switch {
			case rest[0] == '`' || strings.HasPrefix(rest, `""`) && close == `"`:
				i++
			case strings.HasPrefix(rest, "$("):
				place = psUnclear
			case strings.HasPrefix(rest, close):
				place = psBare
				i += len(close) - 1
			}
		case psSingle:
			switch {
			case strings.HasPrefix(rest, "''") && close == "'":
				i++
			case strings.HasPrefix(rest, close):
				place = psBare
				i += len(close) - 1
			}
		case psComment:
			if strings.HasPrefix(rest, close) {
				place = psBare
				i += len(close) - 1
			}
		case psUnclear:
		}
	}
	for len(out) < len(found) { // one that began within what was stepped over
		out = append(out, psUnclear)
	}
	return out
}

// psOpen returns what begins at byte i, how, and what ends it.
func psOpen(text string, i int) (place psPlace, opening, closing string) {
	rest := text[i:]
	switch {
	case strings.HasPrefix(rest, "<#"):
		return psComment, "<#", "#>"
	case rest[0] == '#' && (i == 0 || strings.ContainsRune(" \t\n;(){}", rune(text[i-1]))):
		return psComment, "#", "\n"
	case strings.HasPrefix(rest, `@"`):
		return psDouble, `@"`, "\n\"@"
	case rest[0] == '"':
		return psDouble, `"`, `"`
	case rest[0] == '\'':
		return psSingle, "'", "'"
	}
	// What is literal, escaped, or quoted by one of the curly quotes, which PowerShell takes for quotes, too.
	for _, unclear := range []string{"@'", "`", "--%", "\u2018", "\u2019", "\u201a", "\u201b", "\u201c", "\u201d", "\u201e"} {
		if strings.HasPrefix(rest, unclear) {
			return psUnclear, unclear, ""
		}
	}
	return psBare, "", ""
}

// put writes a reference, or says where it stands that is not safe.
func (w *psWriter) put(m mark, place psPlace) string {
	ref := "${env:" + m.p.variable() + "}"
	before, after := w.text[:m.start], w.text[m.end:]
	switch place {
	case psComment:
		return ""
	case psDouble:
		if strings.HasSuffix(before, "$") || strings.HasSuffix(before, "`") {
			return "behind a $ or a backtick"
		}
		w.write(m.start, ref, m.end)
		return ""
	case psSingle:
		if !strings.HasSuffix(before, "'") || !strings.HasPrefix(after, "'") || !psAlone(before[:len(before)-1], after[1:]) {
			return "inside of a text in single quotes"
		}
		w.write(m.start-1, ref, m.end+1)
		return ""
	case psBare:
		if !psAlone(before, after) {
			return "inside of a word"
		}
		if psCommand(before) {
			return "as the name of a command"
		}
		if m.p.Type == Integer {
			ref = "([long]" + ref + ")"
		}
		w.write(m.start, ref, m.end)
		return ""
	}
	return "behind quoting that is not followed here"
}

func (w *psWriter) write(from int, text string, to int) {
	w.out.WriteString(w.text[w.done:from])
	w.out.WriteString(text)
	w.done = to
}

// psAlone reports whether what stands between two texts is a word of its own.
func psAlone(before, after string) bool {
	return (before == "" || strings.ContainsRune(" \t\n(,=", rune(before[len(before)-1]))) &&
		(after == "" || strings.ContainsRune(" \t\n),;", rune(after[0])))
}

// psCommand reports whether what follows is a command's name.
func psCommand(before string) bool {
	trimmed := strings.TrimRight(before, " \t")
	if found := refs(trimmed); len(found) > 0 && found[len(found)-1].end == len(trimmed) {
		return false // behind another value
	}
	return trimmed == "" || strings.ContainsRune("\n;{}|&(.", rune(trimmed[len(trimmed)-1])) && !strings.HasSuffix(trimmed, "if (")
}
