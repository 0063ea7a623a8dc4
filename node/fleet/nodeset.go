package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxExpand bounds how many names one nodeset, or all nodesets of one target, may stand for: the size of the largest
// fleet that the design aims at.
const MaxExpand = 10_000

// maxDigits bounds a number inside a name; longer runs of digits are text to us (hashes, serial numbers).
const maxDigits = 9

// Expand returns the names that a nodeset stands for, in the order of the text, each once: web[01-03,7],db1 is web01,
// web02, web03, web7 and db1. A leading zero sets the width of its range. More than MaxExpand names are refused,
// repetitions counted.
func Expand(text string) ([]string, error) {
	var names []string
	seen := make(map[string]bool)
	room := MaxExpand
	for _, item := range splitItems(text) {
		expanded, err := expandItem(item, room)
		if err != nil {
			return nil, err
		}
		if room -= len(expanded); room < 0 {
			return nil, errTooMany(text)
		}
		for _, name := range expanded {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// splitItems cuts at the commas that stand outside brackets.
func splitItems(text string) []string {
	var items []string
	depth, start := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '[':
			depth++
		case ']':
			depth--
		case ',':
			if depth == 0 {
				items = append(items, text[start:i])
				start = i + 1
			}
		}
	}
	return append(items, text[start:])
}

func errTooMany(text string) *Error {
	return Errorf(Exhausted, "nodeset %q stands for more than %d nodes", clip(text), MaxExpand).
		Hinted("select by a tag instead, such as tag.role=web")
}

// expandItem expands one item, which may hold several brackets; limit bounds the result.
func expandItem(item string, limit int) ([]string, error) {
	names := []string{""}
	rest := item
	for rest != "" {
		open := strings.IndexByte(rest, '[')
		if open < 0 {
			names = appendAll(names, rest)
			break
		}
		length := strings.IndexByte(rest[open:], ']')
		if length < 0 {
			return nil, Errorf(Invalid, "nodeset %q: [ without ]", clip(item))
		}
		ranges, err := parseRanges(rest[open+1 : open+length])
		if err != nil {
			return nil, Errorf(Invalid, "nodeset %q: %w", clip(item), err)
		}
		if names, err = multiply(appendAll(names, rest[:open]), ranges, limit); err != nil {
			return nil, errTooMany(item)
		}
		if err := CheckName(names[0]); err != nil { // before the next bracket makes ever longer names out of it
			return nil, Errorf(Invalid, "nodeset %q: %w", clip(item), err)
		}
		rest = rest[open+length+1:]
	}
	for _, name := range names {
		if err := CheckName(name); err != nil {
			return nil, Errorf(Invalid, "nodeset %q: %w", clip(item), err)
		}
	}
	return names, nil
}

func appendAll(names []string, suffix string) []string {
	if suffix == "" {
		return names
	}
	for i := range names {
		names[i] += suffix
	}
	return names
}

func multiply(names []string, ranges []span, limit int) ([]string, error) {
	count := 0
	for _, r := range ranges {
		count += r.hi - r.lo + 1
		if count > limit {
			return nil, errShortOfRoom
		}
	}
	if count*len(names) > limit {
		return nil, errShortOfRoom
	}
	out := make([]string, 0, count*len(names))
	for _, name := range names {
		for _, r := range ranges {
			for n := r.lo; n <= r.hi; n++ {
				out = append(out, name+r.format(n))
			}
		}
	}
	return out, nil
}

var errShortOfRoom = Errorf(Exhausted, "too many names")

// span is one range inside brackets; width 0 means no padding.
type span struct{ lo, hi, width int }

func (s span) format(n int) string {
	digits := strconv.Itoa(n)
	if len(digits) >= s.width {
		return digits
	}
	return strings.Repeat("0", s.width-len(digits)) + digits
}

func parseRanges(text string) ([]span, error) {
	var spans []span
	for part := range strings.SplitSeq(text, ",") {
		lo, hi, ranged := strings.Cut(part, "-")
		if !ranged {
			hi = lo
		}
		first, err := parseDigits(lo)
		if err != nil {
			return nil, err
		}
		last, err := parseDigits(hi)
		if err != nil {
			return nil, err
		}
		width := paddedWidth(lo)
		switch {
		case last < first:
			return nil, Errorf(Invalid, "%q counts down", part)
		case paddedWidth(hi) != 0 && len(hi) != len(lo), width > len(hi):
			return nil, Errorf(Invalid, "%q is padded on one side only", part)
		}
		spans = append(spans, span{first, last, width})
	}
	return spans, nil
}

// paddedWidth returns the width that a leading zero asks for, or 0.
func paddedWidth(digits string) int {
	if len(digits) > 1 && digits[0] == '0' {
		return len(digits)
	}
	return 0
}

func parseDigits(text string) (int, error) {
	if text == "" || len(text) > maxDigits || strings.Trim(text, "0123456789") != "" {
		return 0, Errorf(Invalid, "%q is not a number of 1 to %d digits", clip(text), maxDigits)
	}
	return strconv.Atoi(text)
}

// FoldNames writes names as a nodeset, as short as one varying number per item allows: web01, web02, web03 and db1 are
// db1,web[01-03]. Each name counts once and Expand gives them all back.
func FoldNames(names []string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	groups := groupNames(names)
	folded := make([]string, 0, len(groups))
	for _, g := range groups {
		folded = append(folded, g.String())
	}
	slices.Sort(folded)
	return strings.Join(folded, ",")
}

// frame is a name with one of its numbers taken out.
type frame struct{ before, after string }

// fold is a frame and the numbers that stand in it; without numbers it is a name as it is (in before).
type fold struct {
	frame
	numbers []string
}

// groupNames gives every name to the largest group that any of its numbers would put it in, largest group first, so that
// rack1-web01 … rack1-web40 fold on the second number and a1.x … a9.x on the first.
func groupNames(names []string) []fold {
	members := make(map[frame][]string)
	for _, name := range names {
		for _, at := range numberRuns(name) {
			f := frame{name[:at[0]], name[at[1]:]}
			members[f] = append(members[f], name)
		}
	}
	frames := make([]frame, 0, len(members))
	for f := range members {
		frames = append(frames, f)
	}
	slices.SortFunc(frames, func(a, b frame) int {
		return cmp.Or(cmp.Compare(len(members[b]), len(members[a])), cmp.Compare(len(b.before), len(a.before)),
			cmp.Compare(a.before, b.before), cmp.Compare(a.after, b.after))
	})
	return assign(names, frames, members)
}

func assign(names []string, frames []frame, members map[frame][]string) []fold {
	taken := make(map[string]bool, len(names))
	var folds []fold
	for _, f := range frames {
		if len(members[f]) < 2 {
			break
		}
		var numbers []string
		var last string
		for _, name := range members[f] {
			if !taken[name] {
				taken[name] = true
				last = name
				numbers = append(numbers, name[len(f.before):len(name)-len(f.after)])
			}
		}
		switch len(numbers) {
		case 0:
		case 1:
			folds = append(folds, fold{frame: frame{before: last}})
		default:
			folds = append(folds, fold{f, numbers})
		}
	}
	for _, name := range names {
		if !taken[name] {
			folds = append(folds, fold{frame: frame{before: name}})
		}
	}
	return folds
}

// numberRuns returns where the digits of name begin and end, run by run.
func numberRuns(name string) [][2]int {
	var runs [][2]int
	for i := 0; i < len(name); i++ {
		if name[i] < '0' || name[i] > '9' {
			continue
		}
		start := i
		for i < len(name) && name[i] >= '0' && name[i] <= '9' {
			i++
		}
		if i-start <= maxDigits {
			runs = append(runs, [2]int{start, i})
		}
	}
	return runs
}

// String writes the fold as one item of a nodeset.
func (f fold) String() string {
	if len(f.numbers) == 0 {
		return f.before
	}
	return f.before + "[" + foldNumbers(f.numbers) + "]" + f.after
}

// foldNumbers writes numbers as ranges. A range goes on as long as the padding of its first number yields the next one.
func foldNumbers(numbers []string) string {
	slices.SortFunc(numbers, func(a, b string) int {
		return cmp.Or(cmp.Compare(atoi(a), atoi(b)), cmp.Compare(len(a), len(b)))
	})
	var parts []string
	for i := 0; i < len(numbers); {
		first := numbers[i]
		run := span{lo: atoi(first), hi: atoi(first), width: paddedWidth(first)}
		for i++; i < len(numbers) && numbers[i] == run.format(run.hi+1); i++ {
			run.hi++
		}
		if run.lo == run.hi {
			parts = append(parts, first)
			continue
		}
		parts = append(parts, fmt.Sprintf("%s-%s", first, run.format(run.hi)))
	}
	return strings.Join(parts, ",")
}

// atoi reads digits that numberRuns found, which always fit.
func atoi(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

// clip shortens text for an error line.
func clip(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
