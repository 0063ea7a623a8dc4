package consensus

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// Whatever is proposed, replicas that apply the same bytes hold the same bytes: one that applies all, one that decodes
// what the first wrote, one that was restored from a snapshot on the way. No value that a reader holds ever changes.
func TestReplicasAgree(t *testing.T) {
	base := founded("replicas")
	bob, p := base.NewOperator("bob", time.Hour, "web")
	base.mustPut(t, putAct(p))
	rapid.Check(t, func(t *rapid.T) {
		w := &fleetLife{quorum: base.clone(), bob: bob}
		w.other, w.nodes = w.s, append([]authtest.Node(nil), w.Nodes...)
		t.Repeat(map[string]func(*rapid.T){
			"":         w.check,
			"token":    w.putToken,
			"untoken":  w.deleteToken,
			"enrol":    w.enrolOne,
			"tag":      w.tagNode,
			"remove":   w.removeNode,
			"command":  w.putCommand,
			"cancel":   w.putCancel,
			"request":  w.putRequest,
			"gossip":   w.putGossip,
			"grant":    w.putGrants,
			"end":      w.putEndings,
			"document": w.putDocument,
			"change":   w.changeADocument,
			"group":    w.putGroup,
			"setting":  w.putSetting,
			"garbage":  w.putGarbage,
			"again":    w.putAgain,
			"time":     w.passTime,
			"snapshot": w.restore,
		})
		for _, h := range w.held {
			if h.s.Digest() != h.digest {
				t.Fatalf("a state that was held at act %d has changed", h.s.Act)
			}
		}
	})
}

// fleetLife is a random history of a fleet.
type fleetLife struct {
	*quorum
	other    State // the second replica, which is restored now and then
	bob      auth.Signer
	nodes    []authtest.Node
	tokens   []authtest.Token
	commands []fleet.UUID
	made     int
	held     []held
}

type held struct {
	s      State
	digest fleet.ID
}

func (w *fleetLife) agree(t *rapid.T, e Entry) {
	now := w.Now.UnixMilli() + int64(rapid.IntRange(-2000, 2000).Draw(t, "skew"))
	before := w.s
	r := w.putAt(e, now)
	decoded, stamp, err := Decode(Encode(e, now))
	if err != nil {
		t.Fatal(err)
	}
	var other Result
	if w.other, other = w.other.Apply(decoded, stamp); other != r {
		t.Fatalf("%T came to %+v here and to %+v there", e, r, other)
	}
	switch {
	case w.s.Time < before.Time || w.s.Time < now && now > before.Time:
		t.Fatalf("time went from %d to %d at stamp %d", before.Time, w.s.Time, now)
	case r.Err() != nil && (w.s.Act != before.Act || w.s.Record.Head != before.Record.Head || r.Act != 0):
		t.Fatalf("a refused %T left something: %s", e, r.Why)
	case r.Err() == nil && r.Act > before.Act+1, r.Err() == nil && w.s.Act != max(before.Act, r.Act):
		t.Fatalf("%T took act %d after %d", e, r.Act, before.Act)
	case w.s.Taken > before.Taken+1 || w.s.Taken < before.Taken || w.s.Act > before.Act && w.s.Taken == before.Taken || r.Err() != nil && w.s.Taken != before.Taken:
		t.Fatalf("%T: taken %d after %d", e, w.s.Taken, before.Taken)
	}
}

func (w *fleetLife) check(t *rapid.T) {
	here, there := w.s.Digest(), w.other.Digest()
	if here != there {
		t.Fatal("the replicas differ")
	}
	if len(w.held) == 0 || w.held[len(w.held)-1].s.Taken != w.s.Taken {
		w.held = append(w.held, held{w.s, here})
	}
}

func (w *fleetLife) restore(t *rapid.T) {
	var data bytes.Buffer
	if err := w.other.WriteSnapshot(&data); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.other, err = ReadSnapshot(&data); err != nil {
		t.Fatal(err)
	}
}

func (w *fleetLife) putToken(t *rapid.T) {
	uses := uint32(rapid.IntRange(0, 2).Draw(t, "uses"))
	token := w.NewToken(uses, func(t *auth.Token) { t.Server = uses == 2 })
	w.tokens = append(w.tokens, token)
	w.agree(t, PutToken{token.Statement})
}

func pick[T any](t *rapid.T, what string, from []T) T {
	if len(from) == 0 {
		t.Skip()
	}
	return from[rapid.IntRange(0, len(from)-1).Draw(t, what)]
}

func (w *fleetLife) deleteToken(t *rapid.T) {
	token := pick(t, "token", w.tokens)
	w.agree(t, DeleteToken{w.Sign(auth.ForTokenDelete, auth.DeleteToken{Header: w.Header(0), Token: token.Body.Header.ID})})
}

func (w *fleetLife) enrolOne(t *rapid.T) {
	token := pick(t, "token", w.tokens)
	n := w.NewNode(fmt.Sprint("web-", rapid.IntRange(0, 3).Draw(t, "name")))
	w.nodes = append(w.nodes, n)
	w.agree(t, w.enrol(token, n))
}

func (w *fleetLife) tagNode(t *rapid.T) {
	w.agree(t, putAct(w.TagNode(pick(t, "node", w.nodes).ID, map[string]string{"n": fmt.Sprint(w.made)}, true)))
}

func (w *fleetLife) removeNode(t *rapid.T) {
	if n := pick(t, "node", w.nodes); n.ID != w.Nodes[0].ID { // somebody must countersign
		w.agree(t, putAct(w.RemoveNode(n.ID)))
	}
}

func (w *fleetLife) putCommand(t *rapid.T) {
	set := []fleet.ID{w.Nodes[0].ID, pick(t, "node", w.nodes).ID}
	signer := pick(t, "signer", []auth.Signer{w.Operator, w.bob})
	e := w.commandBy(signer, set, func(c *exec.Command) {
		c.Header.Expires = c.Header.Issued + rapid.Int64Range(0, 3).Draw(t, "minutes")*60_000
		c.Pace.Limited = rapid.Bool().Draw(t, "limited")
		if c.Pace.Limited && len(w.commands) > 0 && rapid.Bool().Draw(t, "on stop") {
			c.Pace.OnStop = pick(t, "on-stop command", w.commands)
		}
		if c.Pace.Limited && c.Pace.OnStop.IsZero() && rapid.Bool().Draw(t, "waits") {
			c.After = exec.After{Command: w.NewID()}
		}
	})
	w.commands = append(w.commands, commandID(e))
	w.agree(t, e)
}

func (w *fleetLife) putCancel(t *rapid.T) {
	id := pick(t, "command", w.commands)
	if rapid.Bool().Draw(t, "on one node") {
		w.agree(t, w.cancelOn(id, pick(t, "node", w.nodes).ID))
		return
	}
	w.agree(t, w.cancel(id))
}

func (w *fleetLife) putGrants(t *rapid.T) {
	w.agree(t, PutGrants{pick(t, "command", w.commands), rapid.SliceOfN(rapid.Uint32Range(0, 2), 0, 2).Draw(t, "places")})
}

func (w *fleetLife) putEndings(t *rapid.T) {
	w.agree(t, PutEndings{pick(t, "command", w.commands), []exec.Ending{{
		Node: rapid.Uint32Range(0, 2).Draw(t, "place"), As: exec.EndKind(rapid.IntRange(0, 5).Draw(t, "as")),
	}}})
}

func (w *fleetLife) putDocument(t *rapid.T) {
	w.agree(t, named(w.quorum, rapid.SampledFrom([]string{"doc-a", "doc-b"}).Draw(t, "name"), rapid.SampledFrom([]string{"", "v1"}).Draw(t, "version"),
		rapid.SampledFrom([]string{"one", "two", "three"}).Draw(t, "text")))
}

func (w *fleetLife) changeADocument(t *rapid.T) {
	w.agree(t, w.changeDocument(rapid.SampledFrom([]string{"doc-a", "doc-b"}).Draw(t, "name"), func(c *exec.DocumentChange) {
		number := rapid.Uint32Range(0, 4).Draw(t, "number")
		if c.Delete = rapid.Bool().Draw(t, "delete"); c.Delete {
			c.Version = number
		} else {
			c.Default = number
		}
	}))
}

func (w *fleetLife) putGroup(t *rapid.T) {
	w.agree(t, w.group(rapid.SampledFrom([]string{"canary", "web"}).Draw(t, "name"), rapid.SampledFrom([]string{"", "web-1", "tag.a=b", "@web", "(("}).Draw(t, "target")))
}

func (w *fleetLife) putSetting(t *rapid.T) {
	w.agree(t, w.setting(rapid.SampledFrom(auth.SettingNames).Draw(t, "name"), rapid.SampledFrom([]string{"", "2d", "syslog", "4GiB"}).Draw(t, "value")))
}

func (w *fleetLife) putRequest(t *rapid.T) {
	w.made++
	w.agree(t, w.request(fmt.Sprint("op-", w.made%3)))
}

func (w *fleetLife) putGossip(t *rapid.T) {
	g := auth.GossipEpoch{Epoch: w.Record.Gossip.Epoch + 1, Hash: fleet.Sum([]byte{byte(w.made)})}
	if rapid.Bool().Draw(t, "send") {
		g = w.Record.Gossip
		g.Send = true
	}
	w.agree(t, PutAct{auth.ActGossipEpoch, wireOf(g)})
}

func (w *fleetLife) putGarbage(t *rapid.T) {
	w.agree(t, PutAct{auth.ActKind(rapid.IntRange(0, 11).Draw(t, "kind")), rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "data")})
}

func (w *fleetLife) putAgain(t *rapid.T) { w.agree(t, pick(t, "entry", w.log).e) }

func (w *fleetLife) passTime(t *rapid.T) {
	w.Advance(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
}
