package exec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// webPolicy lets team web run as deploy, without a shell, on nodes tagged role=web, and never on what is frozen.
const webPolicy = auth.FirstPolicy + `
@id("web-runs")
permit (principal in Team::"web", action == Action::"run", resource is Node)
when { resource.hasTag("role") && resource.getTag("role") == "web" && context.user == "deploy" && !context.shell };
@id("web-cancels")
permit (principal in Team::"web", action == Action::"cancel", resource is Node)
when { resource.hasTag("role") && resource.getTag("role") == "web" };
@id("frozen")
forbid (principal, action == Action::"run", resource is Node)
when { resource.hasTag("frozen") };
`

// scene is a fleet with a web server and bob, who may do something on it.
type scene struct {
	*authtest.Fleet
	web, db authtest.Node
	bob     auth.Signer
}

func newScene() *scene {
	f := authtest.Found("scene")
	s := &scene{Fleet: f}
	s.web = f.AddNode("web-1", map[string]string{"role": "web"}, nil)
	s.db = f.AddNode("db-1", map[string]string{"role": "db"}, nil)
	s.bob = f.AddOperator("bob", "web")
	f.SetPolicy(webPolicy)
	return s
}

// order makes bob's order for the web server. change, which may be nil, alters it before it is signed.
func (s *scene) order(change func(*exec.Command)) exec.Order {
	return order(s.Fleet, s.bob, []fleet.ID{s.web.ID}, change)
}

func (s *scene) judge(o exec.Order) (exec.Verdict, error) {
	return exec.Judge(o, s.Record, fleet.Member{ID: s.web.ID, Name: "web-1", Facts: fleet.Facts{OS: "debian"}}, s.Now)
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		status exec.Status
		says   string // part of the reason, or of the rule
		forged bool   // not what an operator signed
		make   func(s *scene) exec.Order
	}{
		"permitted": {exec.Pending, "web-runs", false, func(s *scene) exec.Order { return s.order(nil) }},
		"permitted to the root team": {exec.Pending, "root-operators-do-everything", false, func(s *scene) exec.Order {
			return order(s.Fleet, s.Operator, []fleet.ID{s.web.ID, s.db.ID}, func(c *exec.Command) { c.Run.Argv = []string{"uptime | wc"} })
		}},
		"target by tag":  {exec.Pending, "", false, func(s *scene) exec.Order { return s.order(func(c *exec.Command) { c.Target = "tag.role=web" }) }},
		"target by fact": {exec.Pending, "", false, func(s *scene) exec.Order { return s.order(func(c *exec.Command) { c.Target = "os.name=debian" }) }},
		"signature": {exec.Refused, "does not hold", true, func(s *scene) exec.Order {
			o := s.order(nil)
			o.Statement.Signature[0] ^= 1
			return o
		}},
		"body": {exec.Refused, "does not hold", true, func(s *scene) exec.Order {
			o := s.order(nil)
			o.Statement.Body[len(o.Statement.Body)-1] ^= 1
			return o
		}},
		"not a command": {exec.Refused, "", true, func(s *scene) exec.Order {
			return exec.Order{Statement: s.bob.Sign(auth.ForCommand, s.ID(), "hello"), Nodes: []fleet.ID{s.web.ID}}
		}},
		"operator unknown": {exec.Refused, "no operator", true, func(s *scene) exec.Order {
			return order(s.Fleet, authtest.Signer("stranger"), []fleet.ID{s.web.ID}, nil)
		}},
		"operator removed": {exec.Refused, "operator bob was removed", false, func(s *scene) exec.Order {
			o := s.order(nil)
			s.MustTake(s.DeleteOperator("bob", s.bob, false))
			return o
		}},
		"operator removed, order forged": {exec.Refused, "operator bob was removed", true, func(s *scene) exec.Order {
			o := s.order(nil)
			o.Statement.Signature[0] ^= 1
			s.MustTake(s.DeleteOperator("bob", s.bob, false))
			return o
		}},
		"operator compromised": {exec.Refused, "operator bob was removed", true, func(s *scene) exec.Order {
			o := s.order(nil)
			s.MustTake(s.DeleteOperator("bob", s.bob, true))
			return o
		}},
		"operator expired": {exec.Refused, "key of operator eve expired", false, func(s *scene) exec.Order {
			eve, p := s.NewOperator("eve", time.Minute, "web")
			s.MustTake(p)
			o := order(s.Fleet, eve, []fleet.ID{s.web.ID}, nil)
			s.Advance(time.Minute)
			return o
		}},
		"purpose": {exec.Refused, "does not hold", true, func(s *scene) exec.Order {
			o := s.order(nil)
			cmd, _ := auth.Peek[exec.Command](o.Statement)
			o.Statement = s.bob.Sign(auth.ForCancel, s.ID(), cmd)
			return o
		}},
		"another fleet": {exec.Refused, "does not hold", true, func(s *scene) exec.Order {
			o := s.order(nil)
			cmd, _ := auth.Peek[exec.Command](o.Statement)
			o.Statement = s.bob.Sign(auth.ForCommand, fleet.Sum([]byte("another fleet")), cmd)
			return o
		}},
		"expired": {exec.DeliveryTimedOut, "expired at", false, func(s *scene) exec.Order {
			o := s.order(nil)
			s.Advance(exec.DefaultExpires)
			return o
		}},
		"last moment": {exec.Pending, "", false, func(s *scene) exec.Order {
			o := s.order(nil)
			s.Advance(exec.DefaultExpires - time.Millisecond)
			return o
		}},
		"future": {exec.Refused, "in the future", false, func(s *scene) exec.Order {
			return s.order(func(c *exec.Command) {
				c.Header.Issued += auth.MaxSkew.Milliseconds() + 1
				c.Header.Expires += auth.MaxSkew.Milliseconds() + 1
			})
		}},
		"clocks a little apart": {exec.Pending, "", false, func(s *scene) exec.Order {
			return s.order(func(c *exec.Command) { c.Header.Issued += auth.MaxSkew.Milliseconds() })
		}},
		"malformed": {exec.Refused, "nothing to run", false, func(s *scene) exec.Order {
			return s.order(func(c *exec.Command) { c.Run.Argv = nil })
		}},
		"too large": {exec.Refused, "command of", true, func(s *scene) exec.Order {
			return s.order(func(c *exec.Command) { c.Run.Stdin = make([]byte, exec.MaxCommand) })
		}},
		"set with another node": {exec.Refused, "not the one that was signed", true, func(s *scene) exec.Order {
			o := s.order(nil)
			o.Nodes = exec.SortIDs([]fleet.ID{s.web.ID, s.db.ID})
			return o
		}},
		"set exchanged": {exec.Refused, "not the one that was signed", true, func(s *scene) exec.Order {
			o := s.order(nil)
			o.Nodes = []fleet.ID{s.db.ID}
			return o
		}},
		"set not sorted": {exec.Refused, "not sorted", true, func(s *scene) exec.Order {
			turned := exec.SortIDs([]fleet.ID{s.web.ID, s.db.ID})
			turned[0], turned[1] = turned[1], turned[0]
			o := order(s.Fleet, s.bob, turned, func(c *exec.Command) { c.Set = exec.SetDigest(turned) })
			o.Nodes = turned
			return o
		}},
		"not in the set": {exec.Refused, "not in the set", false, func(s *scene) exec.Order {
			return order(s.Fleet, s.bob, []fleet.ID{s.db.ID}, nil)
		}},
		"target unreadable": {exec.Refused, "", false, func(s *scene) exec.Order {
			return s.order(func(c *exec.Command) { c.Target = "((" })
		}},
		"tag changed since": {exec.Refused, "does not match tag.role=web any more", false, func(s *scene) exec.Order {
			o := s.order(func(c *exec.Command) { c.Target = "tag.role=web" })
			s.MustTake(s.TagNode(s.web.ID, map[string]string{"role": "db"}, false))
			return o
		}},
		"fact is another": {exec.Refused, "does not match", false, func(s *scene) exec.Order {
			return s.order(func(c *exec.Command) { c.Target = "os.name=fedora" })
		}},
		"policy has no rule: user": {exec.Refused, "no rule permits it", false, func(s *scene) exec.Order {
			return s.order(func(c *exec.Command) { c.Run.User = "root" })
		}},
		"policy has no rule: shell": {exec.Refused, "no rule permits it", false, func(s *scene) exec.Order {
			return s.order(func(c *exec.Command) { c.Run.Argv = []string{"uptime -p"} })
		}},
		"policy has no rule: script": {exec.Refused, "no rule permits it", false, func(s *scene) exec.Order {
			return s.order(func(c *exec.Command) { c.Run.Script = []byte("uptime") })
		}},
		"policy has no rule: tags": {exec.Refused, "no rule permits it", false, func(s *scene) exec.Order {
			o := s.order(nil)
			s.MustTake(s.TagNode(s.web.ID, nil, false))
			return o
		}},
		"policy forbids": {exec.Refused, "forbidden by frozen", false, func(s *scene) exec.Order {
			o := s.order(nil)
			s.MustTake(s.TagNode(s.web.ID, map[string]string{"role": "web", "frozen": "1"}, false))
			return o
		}},
		"this node was removed": {exec.Refused, "was removed", false, func(s *scene) exec.Order {
			o := s.order(nil)
			s.MustTake(s.RemoveNode(s.web.ID))
			return o
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene()
			v, err := s.judge(c.make(s))
			if err != nil {
				t.Fatal(err)
			}
			if v.Status != c.status || !strings.Contains(v.Reason+v.Rule, c.says) || v.Genuine == c.forged {
				t.Errorf("%s, reason %q, rule %q, genuine %v", v.Status, v.Reason, v.Rule, v.Genuine)
			}
			if (v.Status == exec.Pending) != (v.Reason == "") || (v.Status == exec.Pending) != (v.Rule != "") {
				t.Errorf("%s with reason %q and rule %q", v.Status, v.Reason, v.Rule)
			}
		})
	}
}

// What others say of this node, and what it says of itself, does not count: the roster does.
func TestJudgeGoesByRosterTags(t *testing.T) {
	s := newScene()
	liar := fleet.Member{ID: s.db.ID, Name: "web-1", Tags: map[string]string{"role": "web"}}
	v, err := exec.Judge(order(s.Fleet, s.bob, []fleet.ID{s.db.ID}, nil), s.Record, liar, s.Now)
	if err != nil || v.Status != exec.Refused || !strings.Contains(v.Reason, "db-1") {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestJudgeBehind(t *testing.T) {
	for name, later := range map[string]func(s *scene) exec.Order{
		"policy changed since": func(s *scene) exec.Order {
			s.SetPolicy(webPolicy + "// more")
			return s.order(nil)
		},
		"tags changed since": func(s *scene) exec.Order {
			s.MustTake(s.TagNode(s.db.ID, nil, false))
			return s.order(nil)
		},
		"the operator is new": func(s *scene) exec.Order {
			eve := s.AddOperator("eve", "web")
			return order(s.Fleet, eve, []fleet.ID{s.web.ID}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene()
			old := s.Record
			o := later(s)
			self := s.Member(s.web.ID)
			if v, err := exec.Judge(o, old, self, s.Now); fleet.KindOf(err) != fleet.Unavailable || v.Status != "" {
				t.Errorf("behind: %+v, %v", v, err)
			}
			if v, err := exec.Judge(o, s.Record, self, s.Now); err != nil || v.Status != exec.Pending {
				t.Errorf("caught up: %+v, %v", v, err)
			}
			if _, err := exec.Judge(o, auth.NewRecord(), self, s.Now); fleet.KindOf(err) != fleet.Unavailable {
				t.Errorf("without a record: %v", err)
			}
		})
	}
}

// A head that this node has not got says that it may be behind, even where the act index does not.
func TestJudgeUnknownCharterHead(t *testing.T) {
	s := newScene()
	o := s.order(func(c *exec.Command) { c.Header.Charter, c.Header.Act = fleet.Sum([]byte("a fork")), 0 })
	if v, err := s.judge(o); fleet.KindOf(err) != fleet.Unavailable || v.Status != "" {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestJudgeBoundsItsReasons(t *testing.T) {
	s := newScene()
	s.SetPolicy(webPolicy + `@id("` + strings.Repeat("x", 2000) + `") forbid (principal, action == Action::"run", resource) when { context.shell };`)
	v, err := s.judge(s.order(func(c *exec.Command) { c.Run.Argv = []string{"uptime -p"} }))
	if err != nil || v.Status != exec.Refused || len(v.Reason) > exec.MaxReason {
		t.Errorf("%s with %d bytes, %v", v.Status, len(v.Reason), err)
	}
}

func TestJudgeCancel(t *testing.T) {
	for name, c := range map[string]struct {
		want fleet.Kind // Internal: obeyed
		make func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope
	}{
		"permitted": {fleet.Internal, func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			return by(s.bob, nil)
		}},
		"not permitted": {fleet.Denied, func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			s.MustTake(s.TagNode(s.web.ID, nil, false))
			return by(s.bob, nil)
		}},
		"signature": {fleet.Denied, func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			e := by(s.bob, nil)
			e.Signature[0] ^= 1
			return e
		}},
		"purpose": {fleet.Denied, func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			body, _ := auth.Peek[exec.Cancel](by(s.bob, nil))
			return s.bob.Sign(auth.ForCommand, s.ID(), body)
		}},
		"stranger": {fleet.Denied, func(_ *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			return by(authtest.Signer("stranger"), nil)
		}},
		"operator removed": {fleet.Denied, func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			e := by(s.bob, nil)
			s.MustTake(s.DeleteOperator("bob", s.bob, false))
			return e
		}},
		"expired": {fleet.Expired, func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			return by(s.bob, func(c *exec.Cancel) { c.Header.Expires = s.Now.UnixMilli() })
		}},
		"charter unknown": {fleet.Unavailable, func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			return by(s.bob, func(c *exec.Cancel) { c.Header.Charter = fleet.Sum(nil) })
		}},
		"act to come": {fleet.Unavailable, func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			return by(s.bob, func(c *exec.Cancel) { c.Header.Act++ })
		}},
		"too large": {fleet.Exhausted, func(s *scene, by func(auth.Signer, func(*exec.Cancel)) auth.Envelope) auth.Envelope {
			e := by(s.bob, nil)
			e.Body = make([]byte, exec.MaxCommand+1)
			return e
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene()
			id := s.NewID()
			e := c.make(s, func(signer auth.Signer, change func(*exec.Cancel)) auth.Envelope {
				body := exec.Cancel{Header: s.Header(time.Hour), Command: id}
				if change != nil {
					change(&body)
				}
				return signer.Sign(auth.ForCancel, s.ID(), body)
			})
			cancel, err := exec.JudgeCancel(e, s.Record, fleet.Member{ID: s.web.ID, Name: "web-1", Tags: map[string]string{"role": "web"}}, s.Now)
			if fleet.KindOf(err) != c.want || (c.want == fleet.Internal) != (err == nil) {
				t.Fatal(err)
			}
			if err == nil && cancel.Command != id {
				t.Errorf("cancels %s", cancel.Command)
			}
		})
	}
	if _, err := exec.JudgeCancel(auth.Envelope{}, auth.NewRecord(), fleet.Member{}, time.Unix(0, 0)); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("without a record: %v", err)
	}
}

func TestMayRunSaysNoBeforeAnythingIsSent(t *testing.T) {
	f := authtest.Found("may run")
	nodes := []fleet.ID{f.Nodes[0].ID}
	order := func(user string) exec.Order {
		cmd := exec.Command{
			Header: f.Header(time.Hour), Target: "all", Count: 1, Set: exec.SetDigest(nodes),
			Run: exec.Run{Argv: []string{"true"}, User: user, Timeout: 1000},
		}
		return exec.Order{Statement: f.Sign(auth.ForCommand, cmd), Nodes: nodes}
	}
	if err := exec.MayRun(order(""), f.Record, f.Now); err != nil {
		t.Fatalf("the first policy lets root operators run: %v", err)
	}
	f.SetPolicy(auth.FirstPolicy + `@id("not-as-root") forbid (principal, action == Action::"run", resource) when { context.user == "root" };`)
	if err := exec.MayRun(order("root"), f.Record, f.Now); fleet.KindOf(err) != fleet.Denied || !strings.Contains(err.Error(), "not-as-root") {
		t.Fatalf("got %v", err)
	}
	if err := exec.MayRun(order("web"), f.Record, f.Now); err != nil {
		t.Fatal(err)
	}
}
