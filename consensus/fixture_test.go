package consensus

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// quorum is a replica with the keys to make everything that it may be asked to agree on.
type quorum struct {
	*authtest.Fleet
	s   State
	log []logged
}

type logged struct {
	e   Entry
	now int64
}

// unfounded returns a quorum that has agreed on nothing.
func unfounded(seed string) *quorum { return &quorum{Fleet: authtest.Empty(seed), s: NewState()} }

// founded returns a quorum whose fleet has an operator and a first node.
func founded(seed string) *quorum {
	q := unfounded(seed)
	for _, p := range q.Founding() {
		if r := q.put(putAct(p)); r.Err() != nil {
			panic(r.Why)
		}
	}
	return q
}

func putAct(p authtest.Proposal) PutAct { return PutAct(p) }

// put applies an entry at the fleet's time.
func (q *quorum) put(e Entry) Result { return q.putAt(e, q.Now.UnixMilli()) }

func (q *quorum) putAt(e Entry, now int64) (r Result) {
	q.log = append(q.log, logged{e, now})
	q.s, r = q.s.Apply(e, now)
	q.Record = q.s.Record
	return r
}

func (q *quorum) mustPut(t testing.TB, e Entry) Result {
	t.Helper()
	r := q.put(e)
	if r.Err() != nil {
		t.Fatalf("%T was refused: %v", e, r.Err())
	}
	return r
}

// enrolled puts a token and enrols nodes with it.
func (q *quorum) enrolled(t testing.TB, names ...string) []authtest.Node {
	t.Helper()
	token := q.NewToken(uint32(len(names)), nil)
	q.mustPut(t, PutToken{token.Statement})
	var out []authtest.Node
	for _, name := range names {
		n := q.NewNode(name)
		q.mustPut(t, q.enrol(token, n))
		out = append(out, n)
	}
	return out
}

func (q *quorum) enrol(token authtest.Token, n authtest.Node) PutAct {
	return putAct(authtest.Enrol(q.Enrolment(token, n, q.Nodes[0])))
}

// command makes a command by the operator for nodes. change, which may be nil, alters it before it is signed.
func (q *quorum) command(nodes []fleet.ID, change func(*exec.Command)) PutCommand {
	return q.commandBy(q.Operator, nodes, change)
}

func (q *quorum) commandBy(op auth.Signer, nodes []fleet.ID, change func(*exec.Command)) PutCommand {
	nodes = exec.SortIDs(append([]fleet.ID(nil), nodes...))
	body := exec.Command{
		Header: q.Header(exec.DefaultExpires), Target: "all", Count: uint32(len(nodes)), Set: exec.SetDigest(nodes),
		Run: exec.Run{Argv: []string{"true"}, Timeout: time.Minute.Milliseconds()},
	}
	if change != nil {
		change(&body)
	}
	return PutCommand{op.Sign(auth.ForCommand, q.ID(), body), nodes}
}

// cancel makes a cancel by the operator.
func (q *quorum) cancel(command fleet.UUID) PutCancel {
	return PutCancel{q.Sign(auth.ForCancel, exec.Cancel{Header: q.Header(48 * time.Hour), Command: command})}
}

// cancelOn makes a cancel by the operator for single nodes.
func (q *quorum) cancelOn(command fleet.UUID, nodes ...fleet.ID) PutCancel {
	return PutCancel{q.Sign(auth.ForCancel, exec.Cancel{Header: q.Header(48 * time.Hour), Command: command, Nodes: exec.SortIDs(nodes)})}
}

// document makes a publication by the operator.
func (q *quorum) document(name, text string) PutDocument {
	return PutDocument{q.Sign(auth.ForDocument, exec.Publication{Header: q.Header(exec.PublishLife), Name: name, Text: []byte(text)})}
}

// changeDocument makes a change of a document by the operator.
func (q *quorum) changeDocument(name string, change func(*exec.DocumentChange)) ChangeDocument {
	body := exec.DocumentChange{Header: q.Header(exec.PublishLife), Name: name}
	change(&body)
	return ChangeDocument{q.Sign(auth.ForDocumentChange, body)}
}

// group makes the act that saves a group.
func (q *quorum) group(name, target string) PutAct {
	return PutAct{auth.ActGroup, wireOf(q.Sign(auth.ForGroup, auth.GroupChange{Header: q.Header(0), Name: name, Target: target}))}
}

// setting makes the act that changes a setting.
func (q *quorum) setting(name, value string) PutAct {
	return PutAct{auth.ActSetting, wireOf(q.Sign(auth.ForSetting, auth.SettingChange{Header: q.Header(0), Name: name, Value: value}))}
}

func limited(p exec.Pace) func(*exec.Command) {
	p.Limited = true
	return func(c *exec.Command) { c.Pace = p }
}

func (q *quorum) rollout(t testing.TB, e PutCommand) exec.Rollout {
	t.Helper()
	c, ok := q.s.Command(commandID(e))
	if !ok {
		t.Fatal("the command is not there")
	}
	return c.Rollout
}

func (q *quorum) request(name string) PutRequest {
	return PutRequest{OperatorRequest{
		Nonce: q.NewID(), Name: name, Key: authtest.Signer(q.Seed + name).Public(), Node: q.Nodes[0].ID, Issued: q.Now.UnixMilli(),
	}}
}

func ids(nodes ...authtest.Node) (out []fleet.ID) {
	for _, n := range nodes {
		out = append(out, n.ID)
	}
	return out
}

func snapshot(t testing.TB, s State) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.WriteSnapshot(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func restore(t testing.TB, data []byte) State {
	t.Helper()
	s, err := ReadSnapshot(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantKind(t *testing.T, err error, want fleet.Kind) {
	t.Helper()
	if err == nil || fleet.KindOf(err) != want {
		t.Errorf("got %v (%s), want a refusal that says %s", err, fleet.KindOf(err), want)
	}
}

// commandID returns the ID of a command that the fixture made.
func commandID(e PutCommand) fleet.UUID {
	body, err := auth.Peek[exec.Command](e.Statement)
	if err != nil {
		panic(err)
	}
	return body.Header.ID
}

// clone returns a quorum that goes its own way from here.
func (q *quorum) clone() *quorum {
	return &quorum{Fleet: q.Fleet.Clone(), s: q.s, log: slices.Clip(q.log)}
}

func wireOf(v any) []byte { return wire.Marshal(v) }
