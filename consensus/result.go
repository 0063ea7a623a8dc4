package consensus

import (
	"bytes"
	"cmp"

	"github.com/muster-fleet/muster/node/fleet"
)

// results remembers what was accepted, so that a statement that comes again gets its first result.
type results struct {
	byKey tree[statementID, uint64] // act index
	byAct tree[actIndex, accepted]
}

// accepted is a statement that was accepted.
type accepted struct {
	key  fleet.UUID // statementKey
	time int64      // Unix milliseconds
}

type (
	statementID fleet.UUID
	actIndex    uint64
)

func (a statementID) compare(b statementID) int { return bytes.Compare(a[:], b[:]) }

func (a actIndex) compare(b actIndex) int { return cmp.Compare(a, b) }

// find returns the first result of the statement with that key.
func (rs results) find(key fleet.UUID) (Result, bool) {
	act, ok := rs.byKey.get(statementID(key))
	if !ok {
		return Result{}, false
	}
	a, _ := rs.byAct.get(actIndex(act))
	return Result{Act: act, Time: a.time}, true
}

// with returns what is remembered after one statement more, of which the oldest may be forgotten.
func (rs results) with(key fleet.UUID, r Result) results {
	rs.byKey, rs.byAct = rs.byKey.put(0, statementID(key), r.Act), rs.byAct.put(0, actIndex(r.Act), accepted{key, r.Time})
	if rs.byAct.length() > MaxResults {
		act, oldest, _ := rs.byAct.first()
		rs.byKey, rs.byAct = rs.byKey.drop(0, statementID(oldest.key)), rs.byAct.drop(0, act)
	}
	return rs
}

// newest returns the greatest act index that is remembered; 0: none.
func (rs results) newest() uint64 {
	act, _, _ := rs.byAct.last()
	return uint64(act)
}
