package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

// seeds is a simple model of who may know what: it lets every member have every seed the moment that somebody could give it
// to him, and forgets nothing.
type seeds struct {
	town     *town
	tags     map[string]string // node → role; absent: not enrolled
	rings    map[string]*ringModel
	held     []*heldStatement // made, and not put yet
	accepted []Act
}

type ringModel struct {
	life   fleet.UUID
	target string // role=X, or *
	epochs map[uint32]*epochModel
	newest uint32
	away   map[string]uint32 // nodes that had been members: the newest epoch that they know
}

type epochModel struct {
	knows   map[string]bool // nodes
	keepers []string
}

// heldStatement is an epoch that a member made. It may have told any member of it since.
type heldStatement struct {
	ring, maker string
	number      uint32
	need        uint8
	knows       map[string]bool
	data        []byte
}

var modelNodes, modelRings, modelRoles = []string{"n1", "n2", "n3", "n4"}, []string{"a", "b"}, []string{"web", "db", "none"}

func newSeeds(t *rapid.T) *seeds {
	w := newTown(t)
	w.charter(CharterPutRoots, PutRoots{Roots: publics(w.roots...), Threshold: 1, Recovery: hpkeKey("recovery")})
	w.charter(CharterPutOperator, operator("bob", RootTeam))
	w.enrol("n2", "n3")
	m := &seeds{town: w, tags: map[string]string{"n1": "web", "n2": "web", "n3": "web"}, rings: map[string]*ringModel{}}
	m.makeRing(t, "bob", "a", "web")
	return m
}

func (m *seeds) makeRing(t *rapid.T, op, name, role string) {
	m.mustPut(t, ActKeyring, m.town.newKeyring(op, name, modelTarget(role)))
	k := m.town.keyring(name)
	m.rings[name] = &ringModel{
		life: k.Life, target: role, newest: 1, away: map[string]uint32{},
		epochs: map[uint32]*epochModel{1: {knows: map[string]bool{}, keepers: m.keepers(k.Newest())}},
	}
	m.spread()
}

func (m *seeds) in(r *ringModel, node string) bool {
	role, ok := m.tags[node]
	return ok && (r.target == "*" || r.target == role)
}

func modelTarget(role string) string {
	if role == "*" {
		return "*"
	}
	return "tag.role=" + role
}

// spread tells every member all seeds there are, and every member whatever is made and not put yet.
func (m *seeds) spread() {
	for name, r := range m.rings {
		for _, node := range modelNodes {
			if !m.in(r, node) {
				continue
			}
			delete(r.away, node)
			for _, e := range r.epochs {
				e.knows[node] = true
			}
			for _, h := range m.held {
				if h.ring == name {
					h.knows[node] = true
				}
			}
		}
	}
}

// moved takes in that membership may have changed.
func (m *seeds) moved(change func()) {
	before := map[string][]string{}
	for name, r := range m.rings {
		for _, node := range modelNodes {
			if m.in(r, node) {
				before[name] = append(before[name], node)
			}
		}
	}
	change()
	for name, r := range m.rings {
		for _, node := range before[name] {
			if !m.in(r, node) {
				r.away[node] = r.newest
			}
		}
	}
	m.spread()
}

func (m *seeds) put(kind ActKind, data []byte) error {
	err := m.town.apply(kind, data)
	if err == nil && kind >= ActKeyring {
		m.accepted = append(m.accepted, Act{Kind: kind, Data: data})
	}
	return err
}

func (m *seeds) mustPut(t *rapid.T, kind ActKind, data []byte) {
	if err := m.put(kind, data); err != nil {
		t.Fatalf("act of kind %d: %v", kind, err)
	}
}

func (m *seeds) keepers(e *KeyEpoch) []string {
	var out []string
	for _, k := range e.Escrow {
		out = append(out, k.Operator)
	}
	return out
}

func (m *seeds) takeEpoch(h *heldStatement) {
	r := m.rings[h.ring]
	r.newest = h.number
	r.epochs[h.number] = &epochModel{knows: h.knows, keepers: m.keepers(m.town.keyring(h.ring).Newest())}
	m.held = slices.DeleteFunc(m.held, func(o *heldStatement) bool { return o == h })
	m.spread()
}

func (m *seeds) drawOperator(t *rapid.T) string {
	return rapid.SampledFrom([]string{"alice", "bob"}).Draw(t, "operator")
}

// drawMaker draws a node, most often a member.
func (m *seeds) drawMaker(t *rapid.T, r *ringModel) string {
	members := slices.DeleteFunc(slices.Clone(modelNodes), func(node string) bool { return !m.in(r, node) })
	if len(members) > 0 && rapid.IntRange(0, 4).Draw(t, "a member") > 0 {
		return rapid.SampledFrom(members).Draw(t, "maker")
	}
	return rapid.SampledFrom(modelNodes).Draw(t, "maker")
}

func (m *seeds) stands(op string) bool {
	_, ok := m.town.record.Charter.OperatorByName(op)
	return ok
}

func (m *seeds) check(t *rapid.T) {
	w := m.town
	for name, r := range m.rings {
		var members, away []string
		for _, node := range modelNodes {
			if m.in(r, node) {
				members = append(members, node)
			}
		}
		slices.Sort(members)
		if got := w.members(name); got != strings.Join(members, " ") {
			t.Fatalf("members of %s are %s, not %v", name, got, members)
		}
		for node, last := range r.away {
			away = append(away, fmt.Sprintf("%s:%d", node, last))
		}
		slices.Sort(away)
		if got := w.formers(name); got != strings.Join(away, " ") {
			t.Fatalf("who could read %s is %q, not %v", name, got, away)
		}
		why, due := w.record.KeyringDue(name, w.now)
		k, e, err := w.record.Sealable(name)
		if err != nil {
			if !due && w.keyring(name).Newest().Used != 0 {
				t.Fatalf("keyring %s is closed (%v), and nobody has to mend it", name, err)
			}
			continue
		}
		known, ok := r.epochs[e.Number]
		if !ok || k.Life != r.life {
			t.Fatalf("keyring %s is sealed to epoch %d, which nobody made", name, e.Number)
		}
		for node := range known.knows {
			if !m.in(r, node) {
				t.Fatalf("keyring %s is sealed to epoch %d, whose seed %s may have, who is not in it (due: %q)", name, e.Number, node, why)
			}
		}
		for _, op := range known.keepers {
			if op != "" && !m.stands(op) {
				t.Fatalf("keyring %s is sealed to epoch %d, which removed operator %s keeps", name, e.Number, op)
			}
		}
	}
	if w.record.Keyrings.Len() != len(m.rings) {
		t.Fatalf("%d keyrings, not %d", w.record.Keyrings.Len(), len(m.rings))
	}
}

// Whatever happens in whatever order: nothing can be sealed to an epoch of which somebody may have the seed who is no member
// now, or an operator who was removed; only members make epochs; what was put cannot be put again.
func TestNothingIsSealedToWhoLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newSeeds(t)
		w := m.town
		ring := func(t *rapid.T) (string, *ringModel) {
			if len(m.rings) == 0 {
				t.Skip("no keyring")
			}
			name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.rings))).Draw(t, "keyring")
			return name, m.rings[name]
		}
		t.Repeat(map[string]func(*rapid.T){
			"make": func(t *rapid.T) {
				name, op := rapid.SampledFrom(modelRings).Draw(t, "name"), m.drawOperator(t)
				role := rapid.SampledFrom([]string{"web", "db", "*"}).Draw(t, "role")
				if m.rings[name] != nil || !m.stands(op) {
					t.Skip("is there, or its maker is not")
				}
				m.makeRing(t, op, name, role)
			},
			"retarget": func(t *rapid.T) {
				name, r := ring(t)
				role, op := rapid.SampledFrom([]string{"web", "db", "*"}).Draw(t, "role"), m.drawOperator(t)
				if !m.stands(op) {
					t.Skip("removed")
				}
				m.mustPut(t, ActKeyring, w.retarget(op, name, modelTarget(role), rapid.Bool().Draw(t, "rotate")))
				m.moved(func() { r.target = role })
			},
			"delete": func(t *rapid.T) {
				name, _ := ring(t)
				if op := m.drawOperator(t); m.stands(op) && rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					m.mustPut(t, ActKeyring, w.keyringChange(op, func(c *KeyringChange) { c.Name, c.Target = name, "" }))
					delete(m.rings, name)
				}
			},
			"tag": func(t *rapid.T) {
				node := rapid.SampledFrom(modelNodes).Draw(t, "node")
				if _, ok := m.tags[node]; !ok || !m.stands("alice") {
					t.Skip("not there")
				}
				role := rapid.SampledFrom(modelRoles).Draw(t, "role")
				n, _ := w.record.Roster.Node(key(node).ID())
				m.mustPut(t, ActNodeTags, w.tags("alice", node, n.Seq+1, true, map[string]string{"role": role}))
				m.moved(func() { m.tags[node] = role })
			},
			"enrol": func(t *rapid.T) {
				node := rapid.SampledFrom(modelNodes[1:]).Draw(t, "node")
				if _, ok := w.record.Roster.Node(key(node).ID()); ok || !m.stands("alice") {
					t.Skip("was there once")
				}
				role := rapid.SampledFrom(modelRoles).Draw(t, "role")
				token := w.token("second", func(tk *Token) { tk.Tags = map[string]string{"role": role} })
				m.mustPut(t, ActEnrol, w.enrolment(node, node, token).Encode())
				m.moved(func() { m.tags[node] = role })
			},
			"remove": func(t *rapid.T) {
				node := rapid.SampledFrom(modelNodes[1:]).Draw(t, "node")
				if _, ok := m.tags[node]; !ok || !m.stands("alice") {
					t.Skip("not there")
				}
				m.mustPut(t, ActNodeRemove, w.removal("alice", node))
				m.moved(func() { delete(m.tags, node) })
			},
			"remove operator": func(t *rapid.T) {
				if !m.stands("bob") || rapid.IntRange(0, 3).Draw(t, "really") != 0 {
					t.Skip("stays")
				}
				w.charter(CharterDeleteOperator, DeleteOperator{Name: "bob", Key: key("bob").ID()})
			},
			"make an epoch": func(t *rapid.T) { // and keep it back
				name, r := ring(t)
				maker := m.drawMaker(t, r)
				h := &heldStatement{ring: name, maker: maker, number: w.keyring(name).Newest().Number + 1, need: rapid.Uint8Range(1, 3).Draw(t, "need"), knows: map[string]bool{maker: true}}
				h.data = w.epoch(maker, name, h.need, nil)
				m.held = append(m.held, h)
				m.spread()
			},
			"put an epoch": func(t *rapid.T) {
				if len(m.held) == 0 {
					t.Skip("none")
				}
				h := rapid.SampledFrom(m.held).Draw(t, "statement")
				_, due := w.record.KeyringDue(h.ring, w.now+1000)
				least := w.record.LeastNeed(h.ring, w.now+1000)
				if err := m.put(ActKeyringEpoch, h.data); err != nil {
					return
				}
				r := m.rings[h.ring]
				if !due || int(h.need) < least || !m.in(r, h.maker) || h.number != r.newest+1 {
					t.Fatalf("epoch %d of %s by %s was taken", h.number, h.ring, h.maker)
				}
				m.takeEpoch(h)
			},
			"make and put an epoch": func(t *rapid.T) { // a member that has seen everything can always mend what is due
				name, r := ring(t)
				maker := m.drawMaker(t, r)
				_, due := w.record.KeyringDue(name, w.now+1000)
				h := &heldStatement{ring: name, maker: maker, number: r.newest + 1, knows: map[string]bool{maker: true}}
				h.need = uint8(w.record.LeastNeed(name, w.now+1000))
				h.data = w.epoch(maker, name, h.need, nil)
				err := m.put(ActKeyringEpoch, h.data)
				if may := due && m.in(r, maker); (err == nil) != may {
					t.Fatalf("an epoch by %s (may %v): %v", maker, may, err)
				}
				if err == nil {
					m.takeEpoch(h)
					for _, node := range modelNodes {
						if node != maker && m.in(r, node) && w.keyring(name).Newest().Used == 0 {
							m.mustPut(t, ActKeyringHolding, w.holding(node, name, nil))
						}
					}
					if _, _, err := w.record.Sealable(name); err != nil {
						t.Fatalf("a new key that as few as may be must hold does not open the keyring: %v", err)
					}
				}
			},
			"hold": func(t *rapid.T) {
				name, r := ring(t)
				node := rapid.SampledFrom(modelNodes).Draw(t, "node")
				before := *w.keyring(name).Newest()
				err := m.put(ActKeyringHolding, w.holding(node, name, nil))
				if may := m.in(r, node) && before.Used == 0 && !slices.Contains(before.Holders, key(node).ID()); err == nil && !may {
					t.Fatalf("%s holds epoch %d", node, before.Number)
				}
			},
			"wait": func(t *rapid.T) { w.now += rapid.SampledFrom([]int64{EpochPatience, 10 * EpochPatience}).Draw(t, "ms") },
			"repeat": func(t *rapid.T) {
				if len(m.accepted) == 0 {
					t.Skip("nothing yet")
				}
				act := rapid.SampledFrom(m.accepted).Draw(t, "act")
				if err := w.apply(act.Kind, act.Data); err == nil {
					t.Fatalf("an act of kind %d was taken twice", act.Kind)
				}
			},
			"": m.check,
		})
	})
}
