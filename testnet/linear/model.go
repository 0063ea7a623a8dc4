package main

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// op is what a client did, as far as the model goes.
type op string

const (
	opGet    op = "get"
	opPut    op = "put" // of the version that follows the newest that the client knew: a compare-and-set
	opDelete op = "delete"
	opLabel  op = "label"
)

// ask is what a client asked of one parameter.
type ask struct {
	op      op
	key     string
	born    int64  // of a change: the life that it is for; of a Put of version 1 its own
	version uint32 // of a change: Put.Version, Delete.Version, Label.Version; of a get by number that number
	seq     uint32 // of a label change
	label   string // that moves, or by which was asked
	value   string
}

// verdict is what a change came to.
type verdict string

const (
	taken   verdict = "taken"
	refused verdict = "refused" // because of what was there
	unknown verdict = "unknown" // it may have been taken, or may still be
)

// answer is what a client was told.
type answer struct {
	verdict verdict // of a change
	found   bool    // by a get; with what it found:
	born    int64
	version uint32
	newest  uint32
	seq     uint32
	value   string
	labels  string // of that version, in order
}

// event is one thing that a client did, with when; both in nanoseconds of the history.
type event struct {
	client int
	ask    ask
	answer answer
	from   int64
	to     int64
	where  string // host, for people
}

// forever is when an unknown change ends: it may take effect at any time.
const forever = math.MaxInt64

// life is a parameter as one host alone would keep it. It is a value that is never changed.
type life struct {
	tomb   int64 // birth of the last one that was deleted; a new one is born later
	born   int64 // 0: there is none
	seq    uint32
	values []string // by version, the first is 1
	labels []labelAt
}

type labelAt struct {
	label   string
	version uint32
}

// allows reports whether a change fits what is there.
func (l life) allows(a ask) bool {
	last := uint32(len(l.values))
	switch a.op {
	case opPut:
		if l.born == 0 {
			return a.version == 1 && a.born > l.tomb
		}
		return a.version == last+1 && a.born == l.born
	case opDelete:
		return l.born != 0 && a.born == l.born && a.version == last
	case opLabel:
		return l.born != 0 && a.born == l.born && a.seq == l.seq+1 && a.version <= last
	case opGet:
	}
	return false
}

// after returns what a change that fits leaves.
func (l life) after(a ask) life {
	switch a.op {
	case opPut:
		l.born = a.born
		l.values = append(slices.Clip(l.values), a.value)
	case opDelete:
		return life{tomb: max(l.tomb, l.born)}
	case opLabel:
		l.seq = a.seq
		l.labels = slices.DeleteFunc(slices.Clone(l.labels), func(at labelAt) bool { return at.label == a.label })
		l.labels = append(l.labels, labelAt{a.label, a.version})
		slices.SortFunc(l.labels, func(x, y labelAt) int { return strings.Compare(x.label, y.label) })
	case opGet:
	}
	return l
}

// shows reports whether a get finds what is there.
func (l life) shows(a ask, got answer) bool {
	version := a.version
	switch {
	case l.born == 0:
		return !got.found
	case a.label != "":
		i := slices.IndexFunc(l.labels, func(at labelAt) bool { return at.label == a.label })
		if i < 0 {
			return !got.found
		}
		version = l.labels[i].version
	case version == 0:
		version = uint32(len(l.values))
	case version > uint32(len(l.values)):
		return !got.found
	}
	return got == answer{
		found: true, born: l.born, version: version, newest: uint32(len(l.values)), seq: l.seq, value: l.values[version-1], labels: l.labelsOf(version),
	}
}

func (l life) labelsOf(version uint32) string {
	var out []string
	for _, at := range l.labels {
		if at.version == version {
			out = append(out, at.label)
		}
	}
	return strings.Join(out, " ")
}

func (l life) String() string {
	if l.born == 0 {
		return fmt.Sprintf("none since %d", l.tomb)
	}
	return fmt.Sprintf("born %d, seq %d, values %q, labels %v", l.born, l.seq, l.values, l.labels)
}

// step is the model: whether what is there could have given that answer, and what is there then. A change whose end nobody
// knows takes effect if it fits; one that never took effect stands at the very end, where nobody looks any more.
func (l life) step(a ask, got answer) (bool, life) {
	if a.op == opGet {
		return l.shows(a, got), l
	}
	fits := l.allows(a)
	switch got.verdict {
	case taken:
		if !fits {
			return false, l
		}
		return true, l.after(a)
	case refused:
		return !fits, l
	case unknown:
		if fits {
			return true, l.after(a)
		}
		return true, l
	}
	return false, l
}

func (l life) equal(o life) bool {
	return l.tomb == o.tomb && l.born == o.born && l.seq == o.seq && slices.Equal(l.values, o.values) && slices.Equal(l.labels, o.labels)
}

func (l life) hash() uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, l.tomb, l.born, l.seq, len(l.values))
	if n := len(l.values); n > 0 {
		h.Write([]byte(l.values[n-1]))
	}
	return h.Sum64()
}

// model is that of a single parameter: those of different names know nothing of each other.
func model() porcupine.Model {
	return porcupine.Model{
		Init:              func() any { return life{} },
		Step:              func(state, input, output any) (bool, any) { return state.(life).step(input.(ask), output.(answer)) },
		Equal:             func(a, b any) bool { return a.(life).equal(b.(life)) },
		Hash:              func(state any) uint64 { return state.(life).hash() },
		DescribeOperation: func(input, output any) string { return describe(input.(ask), output.(answer)) },
		DescribeState:     func(state any) string { return state.(life).String() },
	}
}

func describe(a ask, got answer) string {
	switch {
	case a.op == opGet && got.found:
		return fmt.Sprintf("get %d%s → version %d of %d %q labels %q (born %d, seq %d)", a.version, a.label, got.version, got.newest, got.value, got.labels, got.born, got.seq)
	case a.op == opGet:
		return fmt.Sprintf("get %d%s → nothing", a.version, a.label)
	}
	return fmt.Sprintf("%s version %d %q%s (born %d, seq %d) → %s", a.op, a.version, a.value, a.label, a.born, a.seq, got.verdict)
}

// patience is how long the checker may look at one parameter's history.
const patience = 2 * time.Minute

// judge returns what is wrong with a history, a line each; none: it is linearizable.
func judge(history []event) (wrong []string) {
	byKey := map[string][]porcupine.Operation{}
	for _, e := range history {
		byKey[e.ask.key] = append(byKey[e.ask.key], porcupine.Operation{ClientId: e.client, Input: e.ask, Call: e.from, Output: e.answer, Return: e.to, Metadata: e.where})
	}
	for key, operations := range byKey {
		switch result := porcupine.CheckOperationsTimeout(model(), operations, patience); result {
		case porcupine.Ok:
		case porcupine.Illegal:
			wrong = append(wrong, key+" is not linearizable")
		case porcupine.Unknown:
			wrong = append(wrong, fmt.Sprintf("%s was not judged within %s", key, patience))
		}
	}
	slices.Sort(wrong)
	return wrong
}
