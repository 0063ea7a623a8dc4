package consensus

import (
	"fmt"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestNothingBeforeTheFleetIsFounded(t *testing.T) {
	q, other := unfounded("a"), founded("b")
	for _, e := range []Entry{
		PutToken{other.NewToken(1, nil).Statement},
		DeleteToken{other.NewToken(1, nil).Statement},
		other.command(ids(other.Nodes...), nil),
		other.cancel(other.NewID()),
		other.request("bob"),
		putAct(other.TagNode(other.Nodes[0].ID, nil, true)),
		PutAct{},
	} {
		wantKind(t, q.put(e).Err(), fleet.Unavailable)
	}
	if q.s.Act != 0 || len(q.s.Requests()) != 0 {
		t.Errorf("act %d after refusals only", q.s.Act)
	}
}

func TestFirstNode(t *testing.T) {
	q := founded("a")
	if q.s.Act != 3 || q.s.Record.Roster.Len() != 1 || len(q.s.Tokens()) != 0 {
		t.Fatalf("act %d, %d nodes, %d tokens", q.s.Act, q.s.Record.Roster.Len(), len(q.s.Tokens()))
	}
	// A second node of the same kind must have a token that was put, and a countersignature of a server.
	token := q.NewToken(1, func(t *auth.Token) { t.Server = true })
	self := q.NewNode("node-1")
	wantKind(t, q.put(putAct(authtest.Enrol(q.Enrolment(token, self, self)))).Err(), fleet.Denied)
	wantKind(t, q.put(q.enrol(token, self)).Err(), fleet.NotFound)
	q.mustPut(t, PutToken{token.Statement})
	wantKind(t, q.put(putAct(authtest.Enrol(q.Enrolment(token, self, self)))).Err(), fleet.Denied)
	q.mustPut(t, q.enrol(token, self))
}

func TestTokenIsCounted(t *testing.T) {
	q := founded("a")
	token := q.NewToken(2, nil)
	q.mustPut(t, PutToken{token.Statement})
	for i := range 2 {
		q.mustPut(t, q.enrol(token, q.NewNode(fmt.Sprint("web-", i))))
		if got, _ := q.s.Token(token.Body.Header.ID); got.Used != uint32(i+1) {
			t.Fatalf("%d uses counted after %d", got.Used, i+1)
		}
	}
	wantKind(t, q.put(q.enrol(token, q.NewNode("web-2"))).Err(), fleet.Exhausted)
}

func TestEnrolmentRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		want fleet.Kind
		try  func(q *quorum, token authtest.Token) Entry
	}{
		"token never put": {fleet.NotFound, func(q *quorum, _ authtest.Token) Entry {
			return q.enrol(q.NewToken(1, nil), q.NewNode("web-1"))
		}},
		"token expired": {fleet.Expired, func(q *quorum, token authtest.Token) Entry {
			q.Advance(authtest.TokenLife)
			return q.enrol(token, q.NewNode("web-1"))
		}},
		"token deleted": {fleet.Denied, func(q *quorum, token authtest.Token) Entry {
			q.put(DeleteToken{q.Sign(auth.ForTokenDelete, auth.DeleteToken{Header: q.Header(0), Token: token.Body.Header.ID})})
			return q.enrol(token, q.NewNode("web-1"))
		}},
		"another token under the same ID": {fleet.NotFound, func(q *quorum, token authtest.Token) Entry {
			forged := q.NewToken(9, func(t *auth.Token) { t.Header.ID = token.Body.Header.ID })
			return q.enrol(forged, q.NewNode("web-1"))
		}},
		"token of another fleet": {fleet.Denied, func(q *quorum, _ authtest.Token) Entry {
			other := founded("other")
			return q.enrol(other.NewToken(1, nil), q.NewNode("web-1"))
		}},
		"token of somebody who is no operator": {fleet.Denied, func(q *quorum, token authtest.Token) Entry {
			token.Statement = authtest.Signer("stranger").Sign(auth.ForToken, q.ID(), token.Body)
			return q.enrol(token, q.NewNode("web-1"))
		}},
		"request under another secret": {fleet.Denied, func(q *quorum, token authtest.Token) Entry {
			token.Join = authtest.Signer("stranger")
			return q.enrol(token, q.NewNode("web-1"))
		}},
		"name taken": {fleet.Conflict, func(q *quorum, token authtest.Token) Entry {
			return q.enrol(token, q.NewNode("node-0"))
		}},
		"not an enrolment": {fleet.Invalid, func(*quorum, authtest.Token) Entry {
			return PutAct{Kind: auth.ActEnrol, Data: []byte{0x90}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q := founded("a")
			token := q.NewToken(5, nil)
			q.mustPut(t, PutToken{token.Statement})
			e := c.try(q, token)
			before := q.s
			wantKind(t, q.put(e).Err(), c.want)
			if got, _ := q.s.Token(token.Body.Header.ID); got.Used != 0 {
				t.Errorf("a refused enrolment counted %d uses", got.Used)
			}
			if q.s.Act != before.Act || q.s.Record.Head != before.Record.Head {
				t.Error("a refused enrolment left something behind")
			}
		})
	}
}

func TestTokenRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		want fleet.Kind
		try  func(q *quorum) Entry
	}{
		"same ID, other body": {fleet.Conflict, func(q *quorum) Entry {
			first := q.NewToken(1, nil)
			q.put(PutToken{first.Statement})
			return PutToken{q.NewToken(2, func(t *auth.Token) { t.Header.ID = first.Body.Header.ID }).Statement}
		}},
		"by a stranger": {fleet.Denied, func(q *quorum) Entry {
			return PutToken{authtest.Signer("stranger").Sign(auth.ForToken, q.ID(), q.NewToken(1, nil).Body)}
		}},
		"not permitted": {fleet.Denied, func(q *quorum) Entry {
			bob, p := q.NewOperator("bob", 0, "web")
			q.put(putAct(p))
			return PutToken{bob.Sign(auth.ForToken, q.ID(), q.NewToken(1, nil).Body)}
		}},
		"no uses": {fleet.Invalid, func(q *quorum) Entry { return PutToken{q.NewToken(0, nil).Statement} }},
		"expired": {fleet.Expired, func(q *quorum) Entry {
			token := q.NewToken(1, nil)
			q.Advance(authtest.TokenLife)
			return PutToken{token.Statement}
		}},
		"charter unknown": {fleet.Unavailable, func(q *quorum) Entry {
			return PutToken{q.NewToken(1, func(t *auth.Token) { t.Header.Charter = fleet.Sum(nil) }).Statement}
		}},
		"signed for another purpose": {fleet.Denied, func(q *quorum) Entry {
			return PutToken{q.Sign(auth.ForCommand, q.NewToken(1, nil).Body)}
		}},
		"delete of a token that is not there": {fleet.NotFound, func(q *quorum) Entry {
			return DeleteToken{q.Sign(auth.ForTokenDelete, auth.DeleteToken{Header: q.Header(0), Token: q.NewID()})}
		}},
		"delete not permitted": {fleet.Denied, func(q *quorum) Entry {
			bob, p := q.NewOperator("bob", 0, "web")
			q.put(putAct(p))
			token := q.NewToken(1, nil)
			q.put(PutToken{token.Statement})
			return DeleteToken{bob.Sign(auth.ForTokenDelete, q.ID(), auth.DeleteToken{Header: q.Header(0), Token: token.Body.Header.ID})}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q := founded("a")
			e := c.try(q)
			act := q.s.Act
			wantKind(t, q.put(e).Err(), c.want)
			if q.s.Act != act {
				t.Error("a refused entry took an act index")
			}
		})
	}
}

func TestTokensAreBounded(t *testing.T) {
	q := founded("a")
	var last authtest.Token
	for range auth.MaxTokens {
		last = q.NewToken(1, nil)
		q.mustPut(t, PutToken{last.Statement})
	}
	one := q.NewToken(1, nil)
	wantKind(t, q.put(PutToken{one.Statement}).Err(), fleet.Exhausted)

	// A deleted one makes room, and cannot come back even when its results are forgotten.
	q.mustPut(t, DeleteToken{q.Sign(auth.ForTokenDelete, auth.DeleteToken{Header: q.Header(0), Token: last.Body.Header.ID})})
	if len(q.s.Tokens()) != auth.MaxTokens-1 {
		t.Errorf("%d tokens listed", len(q.s.Tokens()))
	}
	forgetResults(q)
	q.mustPut(t, PutToken{one.Statement})
	wantKind(t, q.put(PutToken{last.Statement}).Err(), fleet.Conflict)

	// What has expired goes by itself.
	q.Advance(authtest.TokenLife + auth.MaxSkew + time.Second)
	q.mustPut(t, PutToken{q.NewToken(1, nil).Statement})
	if q.s.tokens.Len() != 1 {
		t.Errorf("%d tokens kept of which one can be used", q.s.tokens.Len())
	}
}

// forgetResults does what MaxResults further statements would.
func forgetResults(q *quorum) {
	empty := NewState()
	q.s.results = empty.results
}

func TestRepeatedStatementReturnsItsFirstResult(t *testing.T) {
	q := founded("a")
	token := q.NewToken(3, nil)
	web := q.NewNode("web-1")
	enrolment := q.Enrolment(token, web, q.Nodes[0])
	command := q.command(ids(q.Nodes...), nil)
	_, bob := q.NewOperator("bob", 0, "web")
	entries := []Entry{
		PutToken{token.Statement}, putAct(authtest.Enrol(enrolment)), command, q.cancel(commandID(command)), q.request("eve"),
		DeleteToken{q.Sign(auth.ForTokenDelete, auth.DeleteToken{Header: q.Header(0), Token: token.Body.Header.ID})},
		putAct(bob),
	}
	var first []Result
	for _, e := range entries {
		first = append(first, q.mustPut(t, e))
		q.Advance(time.Second)
	}
	digest := q.s.Digest()
	at := q.s.Time
	for i, e := range entries {
		if again := q.putAt(e, at); again != first[i] {
			t.Errorf("%T again: %+v, first %+v", e, again, first[i])
		}
	}
	// A joiner that asks another server, or again, gets another countersignature for the same request.
	enrolment.Countersign = authtest.Countersign(q.ID(), enrolment.Request, q.Header(0), web, q.Nodes[0])
	if again := q.putAt(putAct(authtest.Enrol(enrolment)), at); again != first[1] {
		t.Errorf("enrolment again: %+v, first %+v", again, first[1])
	}
	if q.s.Digest() != digest {
		t.Error("repetitions changed the state")
	}
	q.Advance(time.Hour)
	if why := q.put(DeleteToken{q.NewToken(1, nil).Statement}); why.Err() == nil || q.s.Time == at || q.s.Digest() != digest {
		t.Error("what was refused has left more than its time, or counts in the digest")
	}
}

func TestRefusedStatementIsJudgedAgain(t *testing.T) {
	q := founded("a")
	token := q.NewToken(1, nil)
	web := q.NewNode("web-1")
	wantKind(t, q.put(q.enrol(token, web)).Err(), fleet.NotFound)
	e := q.enrol(token, web)
	wantKind(t, q.put(e).Err(), fleet.NotFound)
	q.mustPut(t, PutToken{token.Statement})
	q.mustPut(t, e)
}

// An ID that somebody else has seen must not let them answer for a statement that was never agreed on.
func TestClaimedIDAnswersForNothing(t *testing.T) {
	q := founded("a")
	command := q.command(ids(q.Nodes...), nil)
	id := commandID(command)
	request := q.request("eve")
	request.Request.Nonce = id
	q.mustPut(t, request)
	token := q.NewToken(1, func(t *auth.Token) { t.Header.ID = id })
	q.mustPut(t, PutToken{token.Statement})
	q.mustPut(t, command)
	if _, ok := q.s.Command(id); !ok {
		t.Fatal("the command was said to be accepted and is not there")
	}
	other := q.command(ids(q.Nodes...), func(c *exec.Command) { c.Header.ID, c.Run.Argv = id, []string{"false"} })
	wantKind(t, q.put(other).Err(), fleet.Conflict)
	forged := command
	forged.Statement.Key = authtest.Signer("stranger").ID()
	wantKind(t, q.put(forged).Err(), fleet.Denied)
	// The bodies of a cancel and of a token's deletion look alike; one does not answer for the other.
	cancel := q.cancel(id)
	q.mustPut(t, cancel)
	wantKind(t, q.put(DeleteToken(cancel)).Err(), fleet.Denied)
}

func TestResultsAreBounded(t *testing.T) {
	s := NewState()
	key := func(i int) fleet.UUID { return fleet.UUID{byte(i), byte(i >> 8), byte(i >> 16)} }
	for i := range MaxResults + 10 {
		s.Act++
		s.results = s.results.with(key(i), Result{Act: s.Act})
	}
	if s.results.byKey.length() != MaxResults || s.results.byAct.length() != MaxResults {
		t.Fatalf("%d results in %d places", s.results.byKey.length(), s.results.byAct.length())
	}
	oldest, newest := key(9), key(10)
	if _, ok := s.results.find(oldest); ok {
		t.Error("the oldest was kept")
	}
	if _, ok := s.results.find(newest); !ok {
		t.Error("one too many was dropped")
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	q := founded("a")
	start := q.s.Time
	for _, c := range []struct{ stamp, want int64 }{
		{start + 5, start + 5}, {start + 3, start + 5}, {-1, start + 5}, {auth.MaxTime + 1, start + 5}, {start + 6, start + 6},
	} {
		r := q.putAt(PutAct{}, c.stamp)
		if q.s.Time != c.want || r.Time != c.want {
			t.Errorf("stamp %d: time %d, result's %d, want %d", c.stamp-start, q.s.Time-start, r.Time-start, c.want-start)
		}
	}
	if r := q.putAt(PutToken{q.NewToken(1, nil).Statement}, start-1); r.Err() != nil || r.Time != start+6 {
		t.Errorf("accepted at %d: %v", r.Time-start, r.Err())
	}
}

func TestCommandRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		want fleet.Kind
		try  func(q *quorum, nodes []fleet.ID) PutCommand
	}{
		"signature": {fleet.Denied, func(q *quorum, nodes []fleet.ID) PutCommand {
			e := q.command(nodes, nil)
			e.Statement.Signature[0] ^= 1
			return e
		}},
		"other purpose": {fleet.Denied, func(q *quorum, nodes []fleet.ID) PutCommand {
			e := q.command(nodes, nil)
			body, _ := auth.Peek[exec.Command](e.Statement)
			e.Statement = q.Sign(auth.ForCancel, body)
			return e
		}},
		"other fleet": {fleet.Denied, func(_ *quorum, nodes []fleet.ID) PutCommand { return founded("other").command(nodes, nil) }},
		"stranger": {fleet.Denied, func(q *quorum, nodes []fleet.ID) PutCommand {
			return q.commandBy(authtest.Signer("stranger"), nodes, nil)
		}},
		"operator removed": {fleet.Denied, func(q *quorum, nodes []fleet.ID) PutCommand {
			bob, p := q.NewOperator("bob", 0, auth.RootTeam)
			q.put(putAct(p))
			e := q.commandBy(bob, nodes, nil)
			q.put(putAct(q.DeleteOperator("bob", bob, false)))
			return e
		}},
		"operator expired": {fleet.Expired, func(q *quorum, nodes []fleet.ID) PutCommand {
			bob, p := q.NewOperator("bob", time.Minute, auth.RootTeam)
			q.put(putAct(p))
			e := q.commandBy(bob, nodes, nil)
			q.Advance(time.Minute)
			return e
		}},
		"expired": {fleet.Expired, func(q *quorum, nodes []fleet.ID) PutCommand {
			e := q.command(nodes, nil)
			q.Advance(exec.DefaultExpires)
			return e
		}},
		"from the future": {fleet.Denied, func(q *quorum, nodes []fleet.ID) PutCommand {
			return q.command(nodes, func(c *exec.Command) {
				c.Header.Issued += auth.MaxSkew.Milliseconds() + 1
				c.Header.Expires += auth.MaxSkew.Milliseconds() + 1
			})
		}},
		"set digest": {fleet.Denied, func(q *quorum, nodes []fleet.ID) PutCommand {
			return q.command(nodes, func(c *exec.Command) { c.Set = fleet.Sum(nil) })
		}},
		"set with one node less": {fleet.Denied, func(q *quorum, nodes []fleet.ID) PutCommand {
			e := q.command(nodes, nil)
			e.Nodes = e.Nodes[1:]
			return e
		}},
		"set not sorted": {fleet.Invalid, func(q *quorum, nodes []fleet.ID) PutCommand {
			sorted := exec.SortIDs(append([]fleet.ID(nil), nodes...))
			turned := []fleet.ID{sorted[1], sorted[0]}
			e := q.command(nodes, func(c *exec.Command) { c.Set = exec.SetDigest(turned) })
			e.Nodes = turned
			return e
		}},
		"unknown node": {fleet.Denied, func(q *quorum, nodes []fleet.ID) PutCommand {
			return q.command(append(nodes, fleet.Sum([]byte("nobody"))), nil)
		}},
		"removed node": {fleet.Denied, func(q *quorum, nodes []fleet.ID) PutCommand {
			q.put(putAct(q.RemoveNode(nodes[1])))
			return q.command(nodes, nil)
		}},
		"charter unknown": {fleet.Unavailable, func(q *quorum, nodes []fleet.ID) PutCommand {
			return q.command(nodes, func(c *exec.Command) { c.Header.Charter = fleet.Sum(nil) })
		}},
		"act that never was": {fleet.Conflict, func(q *quorum, nodes []fleet.ID) PutCommand {
			return q.command(nodes, func(c *exec.Command) { c.Header.Act++ })
		}},
		"nothing to run": {fleet.Invalid, func(q *quorum, nodes []fleet.ID) PutCommand {
			return q.command(nodes, func(c *exec.Command) { c.Run.Argv = nil })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q := founded("a")
			e := c.try(q, ids(append(q.enrolled(t, "web-1"), q.Nodes...)...))
			act := q.s.Act
			wantKind(t, q.put(e).Err(), c.want)
			if q.s.Act != act || len(q.s.Commands(10)) != 0 {
				t.Error("a refused command was kept")
			}
		})
	}
}

func TestCommandIsKept(t *testing.T) {
	q := founded("a")
	e := q.command(ids(q.Nodes...), nil)
	r := q.mustPut(t, e)
	c, ok := q.s.Command(commandID(e))
	if !ok || c.Act != r.Act || c.Operator != authtest.OperatorName || c.Committed != q.s.Time || c.Cancel != nil {
		t.Fatalf("%+v", c)
	}
	if list := q.s.Commands(5); len(list) != 1 || list[0] != c {
		t.Errorf("listed: %v", list)
	}
}

func TestCancel(t *testing.T) {
	q := founded("a")
	e := q.command(ids(q.Nodes...), nil)
	id := commandID(e)
	wantKind(t, q.put(q.cancel(id)).Err(), fleet.NotFound)
	put := q.mustPut(t, e)
	other := q.command(ids(q.Nodes...), nil)
	q.mustPut(t, other)
	q.Advance(time.Second)
	r := q.mustPut(t, q.cancel(id))
	c, _ := q.s.Command(id)
	if c.Cancel == nil || c.Cancelled != q.s.Time || c.Act != r.Act || c.Committed == c.Cancelled || c.Act <= put.Act {
		t.Fatalf("%+v", c)
	}
	// A second one, also by somebody else, changes nothing.
	q.mustPut(t, q.cancel(id))
	if again, _ := q.s.Command(id); again != c {
		t.Error("the second cancel replaced the first")
	}
	if q.s.commands.Len() != 2 || q.s.byID.Len() != 2 {
		t.Errorf("%d commands, %d IDs", q.s.commands.Len(), q.s.byID.Len())
	}
}

// A cancel that nodes would not obey must not take the place of one that they would.
func TestCancelNeedsPolicyOnEveryNode(t *testing.T) {
	q := founded("a")
	web := q.enrolled(t, "web-1")[0]
	bob, p := q.NewOperator("bob", 0, "web")
	q.mustPut(t, putAct(p))
	q.mustPut(t, putAct(q.Charter(auth.CharterPutPolicy, auth.PutPolicy{Policy: auth.FirstPolicy +
		`permit (principal in Team::"web", action == Action::"cancel", resource == Node::"web-1");`})))
	both, one := q.command(ids(web, q.Nodes[0]), nil), q.command(ids(web), nil)
	q.mustPut(t, both)
	q.mustPut(t, one)
	cancel := func(e PutCommand) PutCancel {
		return PutCancel{bob.Sign(auth.ForCancel, q.ID(), exec.Cancel{Header: q.Header(time.Hour), Command: commandID(e)})}
	}
	q.mustPut(t, cancel(one))
	wantKind(t, q.put(cancel(both)).Err(), fleet.Denied)
	q.mustPut(t, q.cancel(commandID(both)))
	if c, _ := q.s.Command(commandID(both)); c.Cancel == nil {
		t.Error("the operator's cancel got lost")
	}
}

func TestCommandsAreBounded(t *testing.T) {
	q := founded("a")
	q.s = crowded(q.s, MaxCommands, exec.MaxExpires)
	e := q.command(ids(q.Nodes...), nil)
	wantKind(t, q.put(e).Err(), fleet.Exhausted)

	// One long command in front must not keep those behind it, which are over, from going.
	q = founded("a")
	q.s = crowded(q.s, 1, exec.MaxExpires)
	q.s = crowded(q.s, MaxCommands-1, time.Minute)
	oldest, second := q.s.Commands(MaxCommands)[MaxCommands-1], q.s.Commands(MaxCommands)[MaxCommands-2]
	q.Advance(time.Hour)
	q.mustPut(t, q.command(ids(q.Nodes...), nil))
	if _, ok := q.s.Command(oldest.ID()); !ok {
		t.Error("a command that may still run was dropped")
	}
	if _, ok := q.s.Command(second.ID()); ok || q.s.commands.Len() != MaxCommands || q.s.byID.Len() != MaxCommands {
		t.Errorf("the oldest that is over was not dropped, or more: %d", q.s.commands.Len())
	}

	// What is over stays for KeepCommands, and no longer.
	q.Now = time.UnixMilli(second.Committed).Add(KeepCommands)
	q.mustPut(t, q.command(ids(q.Nodes...), nil))
	if q.s.commands.Len() != MaxCommands {
		t.Errorf("%d commands kept on their last day", q.s.commands.Len())
	}
	q.Advance(time.Second)
	q.mustPut(t, q.command(ids(q.Nodes...), nil))
	// The long one expired this moment and may still run; the two newest are young.
	if q.s.commands.Len() != 4 || q.s.byID.Len() != 4 {
		t.Errorf("%d commands kept, want 4", q.s.commands.Len())
	}
}

// crowded returns the state with n commands more, as if they had been committed.
func crowded(s State, n int, life time.Duration) State {
	for range n {
		s.Act++
		c := &Command{Act: s.Act, Committed: s.Time}
		sum := fleet.Sum(key64(s.Act))
		c.Body.Header = auth.Header{ID: fleet.UUID(sum[:16]), Expires: s.Time + life.Milliseconds()}
		c.Body.Run.Timeout = time.Minute.Milliseconds()
		id := c.ID()
		s.commands, _, _ = s.commands.Insert(key64(c.Act), c)
		s.byID, _, _ = s.byID.Insert(id[:], c.Act)
	}
	return s
}

func TestRequests(t *testing.T) {
	q := founded("a")
	for i := range MaxRequests {
		q.mustPut(t, q.request(fmt.Sprint("op-", i)))
	}
	wantKind(t, q.put(q.request("late")).Err(), fleet.Exhausted)
	if got := q.s.Requests(); len(got) != MaxRequests || got[0].Name != "op-0" {
		t.Fatalf("%d requests", len(got))
	}
	q.Advance(KeepRequests)
	q.put(PutAct{}) // time goes on
	if len(q.s.Requests()) != MaxRequests {
		t.Error("requests lapsed early")
	}
	q.Advance(time.Millisecond)
	q.put(PutAct{})
	if len(q.s.Requests()) != 0 {
		t.Error("requests outlived their hour")
	}
	late := q.request("late")
	q.mustPut(t, late)
	if got := q.s.Requests(); len(got) != 1 || len(q.s.requests) != 1 || got[0].Code() != late.Request.Code() {
		t.Errorf("%d requests listed, %d kept", len(got), len(q.s.requests))
	}
	forgetResults(q)
	q.mustPut(t, late)
	if len(q.s.Requests()) != 1 {
		t.Error("one request stands there twice")
	}
	_, p := q.NewOperator("late", 0)
	q.mustPut(t, putAct(p))
	if len(q.s.Requests()) != 0 {
		t.Error("a request outlived its approval")
	}
}

func TestRequestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		want  fleet.Kind
		alter func(*OperatorRequest)
	}{
		"name":             {fleet.Invalid, func(r *OperatorRequest) { r.Name = "Über" }},
		"key":              {fleet.Invalid, func(r *OperatorRequest) { r.Key = r.Key[1:] }},
		"hpke":             {fleet.Invalid, func(r *OperatorRequest) { r.HPKE = make([]byte, 2049) }},
		"name taken":       {fleet.Conflict, func(r *OperatorRequest) { r.Name = authtest.OperatorName }},
		"old":              {fleet.Denied, func(r *OperatorRequest) { r.Issued -= auth.MaxSkew.Milliseconds() + 1 }},
		"future":           {fleet.Denied, func(r *OperatorRequest) { r.Issued += auth.MaxSkew.Milliseconds() + 1 }},
		"before all times": {fleet.Denied, func(r *OperatorRequest) { r.Issued = -1 << 63 }},
		"centuries ahead":  {fleet.Denied, func(r *OperatorRequest) { r.Issued += 18446744073710 }}, // 2^64 ns
	} {
		t.Run(name, func(t *testing.T) {
			q := founded("a")
			e := q.request("eve")
			c.alter(&e.Request)
			wantKind(t, q.put(e).Err(), c.want)
			if len(q.s.Requests()) != 0 {
				t.Error("it was kept")
			}
		})
	}
}

func TestActs(t *testing.T) {
	q := founded("a")
	q.enrolled(t, "web-1", "web-2")
	all := q.s.Acts(0, 100)
	if uint64(len(all)) != q.s.Record.Length {
		t.Fatalf("%d acts of %d", len(all), q.s.Record.Length)
	}
	record := auth.NewRecord()
	for from := uint64(0); ; {
		page := q.s.Acts(from, 2)
		if len(page) == 0 {
			break
		}
		for _, act := range page {
			var err error
			if record, err = record.Apply(act, q.ID()); err != nil {
				t.Fatal(err)
			}
		}
		from += uint64(len(page))
	}
	if record.Head != q.s.Record.Head {
		t.Error("the acts make another record")
	}
}

func TestRefusalCarriesItsHint(t *testing.T) {
	q := founded("a")
	err := q.put(q.cancel(q.NewID())).Err()
	e, ok := err.(*fleet.Error)
	if !ok || e.Hint == "" || e.What == "" {
		t.Errorf("%#v", err)
	}
}
