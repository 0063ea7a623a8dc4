package auth

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// start is when the fleets of these tests are founded, in Unix milliseconds.
const start = int64(1_800_000_000_000)

const hour = int64(3_600_000)

// key returns the same key for the same label.
func key(label string) Signer {
	var seed [32]byte = fleet.Sum([]byte(label))
	return JoinString{Seed: seed[:]}.Signer()
}

func uuid(label string) fleet.UUID {
	sum := fleet.Sum([]byte(label))
	return fleet.UUID(sum[:16])
}

// failer is what testing.TB and rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// town is a fleet with its keys: what tests change the record of.
type town struct {
	t      failer
	record Record
	acts   []Act
	now    int64
	roots  []Signer
	count  int // of statements made, so that every one has an ID of its own
}

// newTown founds a fleet of two roots and threshold one, with operator alice (team root) and the first node n1.
func newTown(t failer) *town {
	t.Helper()
	w := &town{t: t, record: NewRecord(), now: start, roots: []Signer{key("root1"), key("root2")}}
	w.must(ActCharter, wire.Marshal(genesis(1, w.roots...)))
	w.charter(CharterPutOperator, operator("alice", RootTeam))
	w.must(ActEnrol, w.enrolment("n1", "n1", w.token("first", nil)).Encode())
	return w
}

func genesis(threshold uint8, roots ...Signer) CharterEntry {
	return SignCharter(nil, Header{ID: uuid("genesis"), Issued: start}, CharterGenesis,
		Genesis{Name: "lab", Nonce: fleet.Sum([]byte("nonce")), Roots: publics(roots...), Threshold: threshold}, roots...)
}

func publics(roots ...Signer) (out [][]byte) {
	for _, r := range roots {
		out = append(out, r.Public())
	}
	return out
}

func operator(name string, teams ...string) Operator {
	return Operator{Name: name, Key: key(name).Public(), HPKE: hpkeKey(name), Teams: teams}
}

// hpkeKey has the size of an HPKE public key; nobody seals anything to it here.
func hpkeKey(label string) []byte {
	sum := fleet.Sum([]byte("hpke " + label))
	return bytes.Repeat(sum[:], KeySize/len(sum))
}

// apply takes one act and checks that the record it came from stayed as it was.
func (w *town) apply(kind ActKind, data []byte) error {
	w.t.Helper()
	w.now += 1000
	act := Act{Index: w.record.Act + 1, Time: w.now, Kind: kind, Data: slices.Clone(data)}
	before := picture(w.record)
	next, err := w.record.Apply(act, fleet.ID{})
	if after := picture(w.record); after != before {
		w.t.Fatalf("Apply changed the old record:\n%s\nto\n%s", before, after)
	}
	if err != nil {
		if picture(next) != before {
			w.t.Fatalf("a refused act changed the record: %v", err)
		}
		return err
	}
	if next.Length != w.record.Length+1 || next.Head == w.record.Head || next.Size <= w.record.Size {
		w.t.Fatalf("the chain did not grow by one: %d after %d", next.Length, w.record.Length)
	}
	clear(act.Data) // the caller's buffer is the caller's
	w.acts = append(w.acts, Act{Index: act.Index, Time: act.Time, Kind: kind, Data: data})
	w.record = next
	return nil
}

func (w *town) must(kind ActKind, data []byte) {
	w.t.Helper()
	if err := w.apply(kind, data); err != nil {
		w.t.Fatalf("act of kind %d: %v", kind, err)
	}
}

// header is that of a statement made now.
func (w *town) header() Header {
	w.count++
	var id fleet.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(w.count))
	h := Header{ID: id, Issued: w.now, Act: w.record.Act}
	if w.record.Charter != nil {
		h.Charter = w.record.Charter.Head()
	}
	return h
}

func (w *town) charter(kind CharterKind, content any) {
	w.t.Helper()
	w.must(ActCharter, wire.Marshal(SignCharter(w.record.Charter, w.header(), kind, content, w.roots...)))
}

func (w *town) fleetID() fleet.ID { return w.record.Charter.Fleet() }

// token is a good one of alice's for 100 uses; label names its join secret, change what is special about it.
func (w *town) token(label string, change func(*Token)) Token {
	t := Token{Header: w.header(), Join: key("join " + label).Public(), Uses: 100, Tags: map[string]string{"role": "web"}, Server: true}
	t.Header.Expires = t.Header.Issued + hour
	if change != nil {
		change(&t)
	}
	return t
}

// enrolment enrols the node with key label under name, countersigned by n1 (or by itself, when it is n1).
func (w *town) enrolment(label, name string, t Token) Enrolment {
	return w.enrolBy("alice", joinLabel(t), label, name, "n1", t)
}

// joinLabel finds the label that town.token made the join secret of.
func joinLabel(t Token) string {
	for _, label := range []string{"first", "second", "third", "replace"} {
		if slices.Equal(t.Join, key("join "+label).Public()) {
			return "join " + label
		}
	}
	return "join " + t.Pattern
}

// enrolBy makes an enrolment of named keys, so that tests can put any of them in the wrong place.
func (w *town) enrolBy(op, join, node, name, server string, t Token) Enrolment {
	id := w.fleetID()
	e := Enrolment{Token: key(op).Sign(ForToken, id, t)}
	e.Request = key(join).Sign(ForEnrol, id, EnrolRequest{
		Header: w.header(), Token: t.Header.ID, Key: key(node).Public(), HPKE: fleet.Sum([]byte("hpke " + node)), Name: name,
	})
	e.Countersign = key(server).Sign(ForCountersign, id, Countersign{
		Header: w.header(), Request: e.Request.Digest(ForEnrol, id), Node: key(node).ID(),
	})
	return e
}

func (w *town) enrol(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.must(ActEnrol, w.enrolment(name, name, w.token("second", nil)).Encode())
	}
}

func (w *town) tags(op, node string, seq uint64, server bool, tags map[string]string) []byte {
	return wire.Marshal(key(op).Sign(ForNodeTags, w.fleetID(), NodeTags{Header: w.header(), Node: key(node).ID(), Seq: seq, Tags: tags, Server: server}))
}

func (w *town) removal(op, node string) []byte {
	return wire.Marshal(key(op).Sign(ForNodeRemove, w.fleetID(), NodeRemove{Header: w.header(), Node: key(node).ID()}))
}

// picture writes down all that a record says, to compare two.
func picture(r Record) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.Length, r.Head, r.Act, r.Time, r.Size, r.Gossip, r.Sending, r.Roster.Len(), r.Removal, r.KeyedAt, r.Groups, r.Settings)
	if c := r.Charter; c != nil {
		fmt.Fprintln(&b, c.fleetID, c.name, c.head, c.seq, c.size, c.threshold, c.epoch, c.standing, c.policy.text)
		for _, id := range slices.SortedFunc(maps.Keys(c.roots), fleet.ID.Compare) {
			fmt.Fprintln(&b, "root", id, c.roots[id])
		}
		for k := range c.known() {
			fmt.Fprintf(&b, "operator %s %t %d %t\n", fleet.Sum(wire.Marshal(k.Operator)), k.Gone, k.Removed, k.Compromised)
		}
		c.heads.Root().Walk(func(k []byte, n uint64) bool { fmt.Fprintf(&b, "head %x %d\n", k, n); return false })
	}
	fmt.Fprintln(&b, r.Keyrings.floor, r.Keyrings.made, r.Keyrings.deleted)
	for _, k := range r.Keyrings.sorted {
		fmt.Fprintf(&b, "keyring %+v\n", *k)
	}
	r.Keyrings.tree().Root().Walk(func(k []byte, p []parting) bool { fmt.Fprintf(&b, "left %x %v\n", k, p); return false })
	if r.Charter != nil {
		fmt.Fprintf(&b, "recovery %x\n", r.Charter.recovery)
	}
	r.Roster.nodes.Root().Walk(func(k []byte, n *Node) bool {
		fmt.Fprintf(&b, "node %x %s\n", k, fleet.Sum(wire.Marshal(n)))
		return false
	})
	r.Roster.names.Root().Walk(func(k []byte, n *Node) bool { fmt.Fprintf(&b, "name %s %s\n", k, n.ID); return false })
	r.Roster.tokens.Root().Walk(func(k []byte, s *spent) bool {
		fmt.Fprintf(&b, "token %x %d %s %s\n", k, s.uses, fleet.Sum(wire.Marshal(s.statement)), fleet.Sum(wire.Marshal(s.token)))
		return false
	})
	return b.String()
}

// refused checks that an act was refused, of which kind, and that the error says why.
func refused(t *testing.T, err error, kind fleet.Kind, says string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("accepted; it should be refused because %q", says)
	case fleet.KindOf(err) != kind || !strings.Contains(err.Error(), says):
		t.Errorf("refused as %s with %q; it should be %s with %q", fleet.KindOf(err), err, kind, says)
	}
}

func at(ms int64) time.Time { return time.UnixMilli(ms) }

func header[T any](pick func(T) Header) func(T) Header { return pick }

// allocatedBy returns the bytes that f allocates, the least of three tries: other goroutines allocate too.
func allocatedBy(f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}
