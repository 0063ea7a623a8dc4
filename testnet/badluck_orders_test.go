package testnet

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// removedWhileDown stops a node and then removes another, so that the gossip key changes without it.
func removedWhileDown(t *testing.T, w *badLuck) {
	gone := w.stranger("gone")
	w.spent = w.Token()
	w.Must(gone, "join", w.spent, "--name", gone.Name, "--bind", gone.Addr)
	w.Until("the node is known", func() bool {
		return strings.Contains(w.Must(w.one, "node", "list", "-o", "name"), gone.Name)
	})
	w.down.Kill()
	w.Must(w.one, "node", "delete", gone.Name)

	id := w.send(w.one, "--target", w.down.Name, "--expires", "10s", "--", "echo expired >> "+filepath.Join(w.Dir, "missed"))
	w.waiting = append(w.waiting, waiter{"an expired command", id, "DeliveryTimedOut", ""})
}

// person is an operator beside the fleet's first, with a key of their own.
func (w *badLuck) person(n *Node, name string, approve ...string) (identity string) {
	w.t.Helper()
	identity = filepath.Join(w.Dir, name+".key")
	var asked struct{ Code string }
	w.JSON(&asked, n, "--identity", identity, "operator", "request", "--name", name)
	w.Must(w.one, append([]string{"operator", "approve", asked.Code}, approve...)...)
	return identity
}

func operatorsComeAndGo(t *testing.T, w *badLuck) {
	bob, carol := w.person(w.Nodes[1], "bob"), w.person(w.Nodes[2], "carol", "--team", "web")
	ran := filepath.Join(w.Dir, "operators.ran")

	w.Muster(w.one, "--identity", bob, "operator", "delete", "carol").complains(t, 3, "no root key")
	alive := w.names()
	alive = slices.DeleteFunc(alive, func(name string) bool { return name == w.down.Name })
	target := strings.Join(alive, " or ")
	w.Until("bob's right has reached his host", func() bool {
		return w.Muster(w.Nodes[1], "--identity", bob, "run", "--target", target, "--", "echo $MUSTER_NODE >> "+ran).Code == 0
	})
	if got := lines(t, ran); !slices.Equal(got, alive) {
		t.Fatalf("bob's command ran on %v", got)
	}

	// Policy gives carol's team nothing. That the nodes refuse by themselves, the member that lies shows.
	for _, name := range alive {
		w.Muster(w.Find(name), "--identity", carol, "run", "--target", target, "--", "echo carol >> "+ran).
			complains(t, 3, "operator carol may not run on")
	}
	if got := lines(t, ran); slices.Contains(got, "carol") {
		t.Fatalf("ran: %v", got)
	}

	var sent struct{ ID string }
	w.JSON(&sent, w.Nodes[1], "--identity", bob, "run", "--async", "--target", w.down.Name, "--", "echo bob >> "+filepath.Join(w.Dir, "missed"))
	w.waiting = append(w.waiting, waiter{"a removed operator's command", sent.ID, "Refused", "bob"})
	w.Must(w.one, "operator", "delete", "bob")
	for _, name := range alive {
		n := w.Find(name)
		w.Until(name+" refuses bob", func() bool {
			return w.Muster(n, "--identity", bob, "run", "--all", "--", "echo bob >> "+ran).Code == 3
		})
		w.Muster(n, "--identity", bob, "run", "--all", "--", "echo bob >> "+ran).complains(t, 3, "bob")
		w.Muster(n, "--identity", bob, "command", "list").complains(t, 3, "bob")
	}
	if got := lines(t, ran); slices.Contains(got, "bob") {
		t.Fatalf("ran: %v", got)
	}
}

func tagsChangeTargets(t *testing.T, w *badLuck) {
	ran := filepath.Join(w.Dir, "tags.ran")
	w.Must(w.one, "node", "tag", w.victim.Name, "role=web")
	w.Must(w.one, "node", "tag", w.Nodes[1].Name, "role=db")
	w.Must(w.one, "run", "--target", "tag.role=web", "--", "echo $MUSTER_NODE >> "+ran)
	w.Must(w.one, "node", "tag", w.victim.Name, "role-")
	w.Must(w.one, "node", "tag", w.Nodes[1].Name, "role=web")
	w.Must(w.one, "run", "--target", "tag.role=web", "--", "echo $MUSTER_NODE >> "+ran)
	if got := lines(t, ran); !slices.Equal(got, []string{w.Nodes[1].Name, w.victim.Name}) {
		t.Fatalf("ran on %v", got)
	}
	w.Muster(w.one, "run", "--target", "tag.role=db", "--", "true").complains(t, 1, "no node matches")

	w.Must(w.one, "node", "tag", w.down.Name, "role=cache")
	id := w.send(w.one, "--target", "tag.role=cache", "--", "echo tag >> "+filepath.Join(w.Dir, "missed"))
	w.Must(w.one, "node", "tag", w.down.Name, "role-")
	w.waiting = append(w.waiting, waiter{"a command by a tag that is gone", id, "Refused", "does not match"})
}

// missedItAll brings back the node that was down while a node was removed, the gossip key turned, operators and tags
// came and went, and commands waited.
func missedItAll(t *testing.T, w *badLuck) {
	w.Until("the gossip key has turned", func() bool { return w.recordOf(w.one).Sending.Epoch == 2 })
	w.down.Start()
	w.Settled()
	for _, missed := range w.waiting {
		w.awaitFate(w.one, missed.id, w.down.Name, missed.status, missed.detail)
	}
	if got := lines(t, filepath.Join(w.Dir, "missed")); len(got) != 0 {
		t.Fatalf("it ran %v", got)
	}
	w.Until("it has the whole record", func() bool { return w.recordOf(w.down).Head == w.recordOf(w.one).Head })
	w.awaitKey(w.down, 2)
	w.Settled()
	w.Must(w.one, "run", "--target", w.down.Name, "--", "true")
	if _, ok := w.recordOf(w.down).Charter.OperatorByName("bob"); ok {
		t.Fatal("it still knows bob")
	}
}

// awaitKey waits until a node has kept the gossip key of an epoch.
func (f *Fleet) awaitKey(n *Node, epoch uint32) {
	f.t.Helper()
	f.Until(n.Name+" has the new gossip key", func() bool {
		keys, err := f.copyOf(n, "gossip-keys").GossipKeys()
		return err == nil && slices.ContainsFunc(keys, func(k folder.GossipKey) bool { return k.Epoch == epoch })
	})
}

// recordOf reads a copy of the record of a node that may run; it is empty before the first act.
func (f *Fleet) recordOf(n *Node) auth.Record {
	f.t.Helper()
	if _, err := os.Stat(filepath.Join(n.Dir, "record")); os.IsNotExist(err) {
		return auth.NewRecord()
	}
	c := f.copyOf(n, "record")
	me, err := c.Identity()
	if err != nil {
		f.t.Fatal(err)
	}
	record, err := c.LoadRecord(me.Fleet)
	if err != nil {
		f.t.Fatal(err)
	}
	return record
}

// copyOf opens a folder with copies of a node's identity and of one other file.
func (f *Fleet) copyOf(n *Node, name string) *folder.Folder {
	f.t.Helper()
	dir := f.t.TempDir()
	for _, each := range []string{"identity", name} {
		data, err := os.ReadFile(filepath.Join(n.Dir, each))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, each), data, 0o600)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	c, err := folder.Open(dir)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

// lyingMember takes the victim's place with its keys: it rings bells and serves bodies that no good node may run.
func lyingMember(t *testing.T, w *badLuck) {
	hit := w.Nodes[2]
	w.awaitKey(w.victim, w.recordOf(hit).Sending.Epoch)
	w.victim.Stop()
	ran := filepath.Join(w.Dir, "liar.ran")
	line := func(what string) string { return "echo " + what + " >> " + ran }
	l := w.newLiar(t, w.victim, hit)
	operator := w.signer(t)

	genuine := l.order(operator, line("once"), hit)
	w.put(t, genuine)
	w.awaitFate(w.one, genuine.id.String(), hit.Name, "Success", "")
	elsewhere := l.order(operator, line("elsewhere"), w.one)
	w.put(t, elsewhere)
	w.awaitFate(w.one, elsewhere.id.String(), w.one.Name, "Success", "")
	w.put(t, elsewhere) // a repeated statement is answered as the first
	want := []string{"elsewhere", "once"}

	forged := l.order(operator, line("forged"), hit)
	forged.order.Statement.Signature[0] ^= 1
	stranger := l.order(newSigner(), line("stranger"), hit)
	claimed := l.order(newSigner(), line("claimed"), hit)
	claimed.order.Statement.Key = operator.ID()
	changed := l.order(operator, line("changed"), hit)
	changed.order.Statement.Body = []byte(strings.Replace(string(changed.order.Statement.Body), "changed", "chanced", 1))
	otherSet := l.order(operator, line("otherset"), w.one)
	otherSet.order.Nodes = []fleet.ID{l.idOf(hit)} // not what was signed
	expired := l.orderAt(operator, time.Now().Add(-2*time.Hour), line("expired"), hit)
	removed := l.order(w.signerIn(t, filepath.Join(w.Dir, "bob.key")), line("bob"), hit)
	rightless := l.order(w.signerIn(t, filepath.Join(w.Dir, "carol.key")), line("carol"), hit)
	for _, lie := range []lie{forged, stranger, claimed, changed, otherSet} {
		w.Until("a lie is fetched", func() bool {
			l.ring(hit, lie)
			return l.wasAsked(lie)
		})
	}
	for _, lie := range []lie{forged, stranger, claimed, changed, otherSet, expired, removed, rightless, elsewhere, genuine} {
		l.tell(hit, lie)
	}
	w.Must(w.one, "run", "--target", hit.Name, "--", "true") // what came before was looked at by then
	hit.Kill()
	hit.Start() // and again by an agent that only its ledger reminds
	l.meet(hit)
	for _, lie := range []lie{genuine, elsewhere, expired} {
		l.tell(hit, lie)
	}
	w.Must(w.one, "run", "--target", hit.Name, "--", "true")
	if got := lines(t, ran); !slices.Equal(got, want) {
		t.Fatalf("ran %v; only %v were ordered", got, want)
	}
	for what, lie := range map[string]lie{"forged": forged, "a stranger's": stranger, "expired": expired, "bob's": removed, "carol's": rightless} {
		if _, err := w.propose(lie); err == nil {
			t.Errorf("the quorum takes the %s order", what)
		}
	}
	l.close()
	w.victim.Start()
	w.Settled()
}
