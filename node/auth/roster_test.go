package auth

import (
	"fmt"
	"slices"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestTagSequence(t *testing.T) {
	w := newTown(t)
	set := func(seq uint64, v string) error {
		return w.apply(ActNodeTags, w.tags("alice", "n1", seq, true, map[string]string{"v": v}))
	}
	refused(t, set(0, "a"), fleet.Conflict, "changed meanwhile")
	refused(t, set(2, "a"), fleet.Conflict, "changed meanwhile")
	first := w.tags("alice", "n1", 1, true, map[string]string{"v": "a"})
	w.must(ActNodeTags, first)
	refused(t, w.apply(ActNodeTags, first), fleet.Conflict, "changed meanwhile")
	refused(t, set(1, "b"), fleet.Conflict, "changed meanwhile")
	if err := set(2, "b"); err != nil {
		t.Error(err)
	}
	n, _ := w.record.Roster.ByName("n1")
	if n.Tags["v"] != "b" || len(n.Tags) != 1 || n.Seq != 2 {
		t.Errorf("the whole set is replaced: %v at %d", n.Tags, n.Seq)
	}
	refused(t, w.apply(ActNodeTags, w.tags("alice", "n1", 3, true, map[string]string{"": "x"})), fleet.Invalid, "tag")
	refused(t, w.apply(ActNodeTags, w.tags("alice", "n1", 3, true, map[string]string{"a": "\x1b[2J"})), fleet.Invalid, "control")
}

func TestServerEligibilityIsTheOperatorsWord(t *testing.T) {
	w := newTown(t)
	w.must(ActEnrol, w.enrolment("n2", "n2", w.token("third", func(tk *Token) { tk.Server = false })).Encode())
	eligible := func() bool { n, _ := w.record.Roster.ByName("n2"); return n.Server }
	if eligible() {
		t.Error("a token without eligibility made a server")
	}
	w.must(ActNodeTags, w.tags("alice", "n2", 1, true, nil))
	if !eligible() {
		t.Error("an operator's statement did not make a server")
	}
	w.must(ActNodeTags, w.tags("alice", "n2", 2, false, nil))
	if eligible() {
		t.Error("an operator's statement did not take eligibility back")
	}
}

func TestRemovalIsFinal(t *testing.T) {
	w := newTown(t)
	w.enrol("n2")
	w.must(ActNodeRemove, w.removal("alice", "n2"))
	id := key("n2").ID()
	n, ok := w.record.Roster.Node(id)
	if !ok || n.Removed != w.now || n.Name != "n2" || n.Tags != nil || n.Enrolment.Token.Body != nil {
		t.Errorf("tombstone %+v", n)
	}
	_, err := w.record.Roster.Enrolled(id)
	refused(t, err, fleet.Denied, "was removed")
	if _, ok := w.record.Roster.ByName("n2"); ok || w.record.Roster.Len() != 1 {
		t.Error("a removed node still has its name")
	}
	refused(t, w.apply(ActNodeRemove, w.removal("alice", "n2")), fleet.Denied, "was removed")
	refused(t, w.apply(ActNodeTags, w.tags("alice", "n2", n.Seq+1, true, nil)), fleet.Denied, "was removed")
	refused(t, w.tryEnrol(w.enrolment("n2", "n9", w.token("second", nil))), fleet.Denied, "was removed")
	if err := w.tryEnrol(w.enrolment("n3", "n2", w.token("second", nil))); err != nil {
		t.Errorf("its name is free: %v", err)
	}
}

// A removal at time 0 (a leader that has no clock) is one all the same.
func TestRemovalAtTimeZero(t *testing.T) {
	n := &Node{ID: fleet.Sum([]byte("x")), Name: "x"}
	r, err := emptyRoster().put(n).remove(NodeRemove{Node: n.ID}, 0)
	if _, enrolled := r.Enrolled(n.ID); err != nil || enrolled == nil || r.Len() != 0 {
		t.Errorf("still enrolled (%v)", err)
	}
}

func TestNameClash(t *testing.T) {
	w := newTown(t)
	w.enrol("n2")
	refused(t, w.tryEnrol(w.enrolment("n3", "n2", w.token("second", nil))), fleet.Conflict, "named n2 is enrolled already")
	refused(t, w.tryEnrol(w.enrolment("n2", "n3", w.token("second", nil))), fleet.Conflict, "as n2")
}

func TestRosterLimitAndOrder(t *testing.T) {
	r := emptyRoster()
	for i := range MaxNodes {
		r = r.put(&Node{ID: fleet.Sum([]byte(fmt.Sprint(i))), Name: fmt.Sprintf("n%05d", (i*7919)%MaxNodes)})
	}
	if r.Len() != MaxNodes {
		t.Fatalf("%d nodes", r.Len())
	}
	a := Admitted{ID: fleet.Sum([]byte("more")), Token: Token{Uses: 1}, Request: EnrolRequest{Name: "more"}}
	_, err := r.enrol(a, Enrolment{}, fleet.ID{}, start)
	refused(t, err, fleet.Exhausted, "limit")
	var names []string
	for n := range r.All() {
		names = append(names, n.Name)
		if len(names) == 100 {
			break // an early end must not go on
		}
	}
	if len(names) != 100 || !slices.IsSorted(names) || names[99] != "n00099" {
		t.Errorf("the first hundred: %v", names)
	}
}
