package agent

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// frameLimit is the peer plane's.
const frameLimit = 512 << 10

// enrolment is a request that the join secret signed, by a node with that key.
func (d *desk) enrolment(name string) (fleet.ID, auth.Envelope) {
	n := d.NewNode(name)
	return n.ID, d.join.Join.Sign(auth.ForEnrol, d.Fleet.ID(), auth.EnrolRequest{
		Header: d.Header(0), Token: d.join.Body.Header.ID, Key: n.Signer.Public(), HPKE: n.HPKE, Name: name,
	})
}

// requestSeeds are requests as members make them, by kind.
func requestSeeds(d *desk) map[byte][]byte {
	_, request := d.enrolment("n7")
	read := d.Sign(auth.ForRequest, node.Read{Header: d.Header(node.ReadLife), What: node.ReadCommand, Arg: d.commandID()})
	report := exec.Report{Command: d.commandID(), Node: d.web.ID, Seq: 1, Status: exec.Success}
	cancel := d.Sign(auth.ForCancel, exec.Cancel{Header: d.Header(exec.MaxExpires), Command: d.commandID()})
	beacon := d.Fleet.Nodes[0].Signer.Sign(auth.ForBeacon, d.Fleet.ID(), auth.Beacon{Time: d.Fleet.Now.UnixMilli(), Act: 5})
	return map[byte][]byte{
		askBeacon: wire.Marshal(beaconBody{Beacon: []auth.Envelope{beacon}}), askActs: wire.Marshal(actsAsk{1}), askOrder: wire.Marshal(orderAsk{d.commandID()}),
		askOrders: wire.Marshal(ordersAsk{}), askPropose: consensus.Encode(consensus.PutCancel{Statement: cancel}, 0), askRead: wire.Marshal(read),
		askReport: wire.Marshal(d.web.Signer.Sign(auth.ForReport, d.Fleet.ID(), report)), askWatch: wire.Marshal(read), askKey: wire.Marshal(keyAsk{0}),
		askReplica: wire.Marshal(struct{}{}), askTerm: wire.Marshal(termAsk{1, 2}), askFacts: wire.Marshal(struct{}{}), askEnrol: wire.Marshal(request),
		askPutFacts: wire.Marshal(d.web.Signer.Sign(auth.ForFacts, d.Fleet.ID(), factsBody{Header: auth.Header{Issued: d.Fleet.Now.UnixMilli()}, Facts: fleet.Facts{OS: "debian"}})),
		askCancel:   wire.Marshal(orderAsk{d.commandID()}),
	}
}

// FuzzRequest: whatever a member asks, it gets one answer of bounded size; the agreed state moves only by what an
// operator, or a join secret, signed; and nobody is spoken for by another.
func FuzzRequest(f *testing.F) {
	d := newDesk(f)
	seeds := requestSeeds(d)
	signed := map[fleet.ID]bool{fleet.Sum(seeds[askPropose][2:]): true, fleet.Sum(seeds[askEnrol]): true}
	for kind, body := range seeds {
		f.Add(kind, body, false)
		f.Add(kind, body, true)
	}
	f.Add(byte(99), []byte{}, false)
	paced := idOf(d.putPaced(f))
	own := d.Sign(auth.ForRequest, node.Read{Header: d.Header(node.ReadLife), What: node.ReadReport, Arg: d.commandID(), Node: d.self})
	for kind, body := range map[byte][]byte{
		askGrant: wire.Marshal(orderAsk{paced}), askDocument: wire.Marshal(documentAsk{fleet.Sum(nil)}), askNodeReport: wire.Marshal(own),
		askOrders: wire.Marshal(ordersAsk{Known: []fleet.UUID{paced}}),
		askNamed:  wire.Marshal(d.Sign(auth.ForRequest, node.Read{Header: d.Header(node.ReadLife), What: node.ReadSessionDocument, Name: "hello", Node: d.web.ID})),
	} {
		f.Add(kind, body, false)
		f.Add(kind, body, true)
	}
	for _, e := range []consensus.Entry{
		consensus.PutGrants{Command: paced, Nodes: []uint32{0}},
		consensus.PutEndings{Command: paced, Ends: []exec.Ending{{Node: 0, As: exec.EndedOK}}},
		consensus.PutEndings{Command: paced, Ends: []exec.Ending{{Node: 0, As: exec.EndFreed}, {Node: 1, As: exec.EndedFailed}}},
		consensus.PutDocument{Statement: d.web.Signer.Sign(auth.ForDocument, d.Fleet.ID(), exec.Publication{Header: d.Header(time.Hour), Name: "hello", Text: []byte(helloText)})},
	} {
		f.Add(askPropose, consensus.Encode(e, 0), false)
		f.Add(askPropose, consensus.Encode(e, 0), true)
	}
	f.Add(askPropose, consensus.Encode(consensus.PutAct{Kind: auth.ActGossipEpoch, Data: wire.Marshal(auth.GossipEpoch{Epoch: 1})}, 0), false)
	f.Add(askPropose, consensus.Encode(consensus.PutRequest{Request: consensus.OperatorRequest{Name: "eve", Key: d.web.Signer.Public(), Node: d.Fleet.Nodes[0].ID}}, 0), false)
	before := d.replica.State()
	f.Fuzz(func(t *testing.T, kind byte, body []byte, server bool) {
		d.replica.state.Store(&before)
		d.held.puts, d.held.facts = nil, map[fleet.ID]auth.Envelope{}
		peer := d.web.ID
		if server {
			peer = d.db.ID
		}
		s := &frames{peer: peer, in: []frame{{kind, body}}}
		d.Serve(s)
		events := d.posted()
		if d.streamed(kind) == nil && len(s.out)+len(s.fails) != 1 || len(s.fails) > 1 || len(events) > 1 {
			t.Fatalf("%d answers, %d refusals, %d events", len(s.out), len(s.fails), len(events))
		}
		for _, answer := range s.out {
			if len(answer.body) > frameLimit {
				t.Fatalf("an answer of %d bytes", len(answer.body))
			}
		}
		for _, r := range d.held.puts {
			if r.Node != peer || r.Check() != nil {
				t.Fatalf("a report %+v by %s", r, peer)
			}
		}
		for id := range d.held.facts {
			if id != peer {
				t.Fatal("a node tells another's facts")
			}
		}
		if now := d.replica.State(); now.Digest() != before.Digest() && !moved(signed, kind, body) {
			var request consensus.PutRequest
			if e, _, err := consensus.Decode(body); err == nil {
				request, _ = e.(consensus.PutRequest)
			}
			// A wish carries no right, and names its own host; what a server says of ends is its word as a server.
			if request.Request.Node != peer && !(server && saysEnds(kind, body)) {
				t.Fatalf("a request of kind %d moved the state", kind)
			}
		}
	})
}

// saysEnds reports whether a request tells of ends of nodes, and of nothing else.
func saysEnds(kind byte, body []byte) bool {
	e, _, err := consensus.Decode(body)
	put, ok := e.(consensus.PutEndings)
	return kind == askPropose && err == nil && ok && !slices.ContainsFunc(put.Ends, func(x exec.Ending) bool { return x.As == exec.EndFreed })
}

// moved reports whether a request may move the state: what it carries was signed. The time in an entry is nobody's.
func moved(signed map[fleet.ID]bool, kind byte, body []byte) bool {
	if kind == askPropose {
		e, _, err := consensus.Decode(body)
		return err == nil && signed[fleet.Sum(consensus.Encode(e, 0)[2:])]
	}
	return signed[fleet.Sum(body)]
}

// FuzzAnswer: whatever peers answer, what comes to the loop is what they said in the one way to say it, and a gossip key
// is kept only if it is the one that the record names.
func FuzzAnswer(f *testing.F) {
	d := newDesk(f)
	key := make([]byte, 32)
	epoch := auth.GossipEpoch{Epoch: 3, Hash: fleet.Sum(key)}
	facts := d.web.Signer.Sign(auth.ForFacts, d.Fleet.ID(), factsBody{Facts: fleet.Facts{OS: "debian"}})
	answer := node.Answer{Commands: []node.CommandInfo{node.InfoOf(d.replica.State().Commands(1)[0])}}
	beacon := d.Fleet.Nodes[0].Signer.Sign(auth.ForBeacon, d.Fleet.ID(), auth.Beacon{Act: 5})
	for which, body := range []any{
		beaconBody{Beacon: []auth.Envelope{beacon}}, actsBody{acts(d.replica.State())}, d.order, ordersBody{Orders: []node.Committed{{Act: 1, Order: d.order}}, Next: 5},
		keyBody{key}, factsList{[]auth.Envelope{facts}}, answer, consensus.Result{Act: 5, Kind: fleet.Denied, Why: "no"}, leaderBody{d.web.ID}, facts, grantBody{node.GrantStopped}, replicaBody{7},
	} {
		f.Add(uint8(which), done, wire.Marshal(body))
	}
	f.Add(uint8(8), notLeader, wire.Marshal(leaderBody{d.web.ID}))
	f.Add(uint8(1), byte(0), []byte{0x91, 0xdd, 0, 0, 0, 9, 0xc0, 0xc0})
	f.Fuzz(func(t *testing.T, which uint8, kind byte, body []byte) {
		d.peers.kind, d.peers.body, d.facts = kind, body, factsCache{}
		folder := d.cfg.Folder.(*stubFolder)
		folder.keys = nil
		from := d.web.ID
		var same any
		switch which % 11 {
		case 0:
			d.exchange(t.Context(), from)
		case 1:
			d.fetchActs(t.Context(), node.FetchActs{From: from})
		case 2:
			d.fetchOrder(t.Context(), node.FetchOrder{From: from})
		case 3:
			d.fetchOrders(t.Context(), node.FetchOrders{From: from})
		case 4:
			d.fetchKey(t.Context(), node.FetchGossipKey{From: from, Epoch: epoch})
			if folder.keys != nil && folder.keys[3] != [32]byte(key) {
				t.Fatalf("another key is kept: %x", folder.keys)
			}
		case 5:
			var list factsList
			if d.ask(t.Context(), from, askFacts, struct{}{}, &list) == nil {
				same = list
				for _, e := range list.Facts {
					if got, err := d.openFacts(e); err == nil && e.Key == d.web.ID && got.OS != "debian" {
						t.Fatalf("facts that nobody told: %+v", got)
					}
				}
			}
		case 6:
			var a node.Answer
			if d.ask(t.Context(), from, askRead, struct{}{}, &a) == nil {
				same = a
			}
		case 7:
			var r consensus.Result
			if d.ask(t.Context(), from, askPropose, struct{}{}, &r) == nil {
				same = r
				_ = r.Err()
			}
		case 8:
			d.followHint(body)
			d.setLeader(fleet.ID{})
		case 9:
			d.fetchDocuments(t.Context(), node.FetchDocuments{From: from, Digests: []fleet.ID{fleet.Sum(body)}})
		case 10:
			quorum, replica := d.quorum, d.replica // a member without a replica asks others
			d.quorum, d.replica = nil, nil
			d.setLeader(from)
			d.fetchGrant(t.Context(), node.AskGrant{})
			d.quorum, d.replica = quorum, replica
			d.setLeader(fleet.ID{})
		}
		if same != nil && (!bytes.Equal(wire.Marshal(same), body) || kind != done) {
			t.Fatalf("%+v was not said", same)
		}
		for _, ev := range d.posted() {
			var said any
			switch ev := ev.(type) {
			case node.ActsFetched:
				if !ev.Failed {
					said = actsBody{ev.Acts}
				}
			case node.OrderFetched:
				if !ev.Failed {
					said = ev.Order
				}
			case node.OrdersFetched:
				if !ev.Failed {
					said = ordersBody{Orders: ev.Orders, Next: ev.Next}
				}
			case node.DocumentsFetched:
				if len(ev.Statements) > 0 {
					said = ev.Statements[0]
				}
			case node.GrantAnswered:
				if ev.Answer != node.GrantFailed {
					said = grantBody{ev.Answer}
				}
			case node.BeaconHeard:
				said = beaconBody{Beacon: []auth.Envelope{ev.Envelope}}
			}
			if said != nil && (!bytes.Equal(wire.Marshal(said), body) || kind != done) {
				t.Fatalf("%T brings what was not said: %+v", ev, said)
			}
		}
	})
}

// FuzzWatch: whatever servers stream of a command, news is what nodes signed, and each node's only once.
func FuzzWatch(f *testing.F) {
	d := newDesk(f)
	report := d.web.Signer.Sign(auth.ForReport, d.Fleet.ID(), exec.Report{Command: d.commandID(), Node: d.web.ID, Seq: 1, Status: exec.Success})
	c := d.replica.State().Commands(1)[0]
	news := []frame{
		{done, wire.Marshal(watchBody{Info: []watchInfo{{Order: c.Order, Operator: c.Operator, Act: c.Act, Committed: c.Committed, Now: movedOf(d.replica.State(), c)}}})},
		{done, wire.Marshal(watchBody{Report: []auth.Envelope{report}})}, {done, wire.Marshal(watchBody{Synced: true})},
	}
	f.Add(joined(news))
	moves := movedOf(d.replica.State(), c)
	moves.Taken++
	f.Add(joined(append(slices.Clone(news), frame{done, wire.Marshal(watchBody{Moved: []movedInfo{moves}})})))
	moves.Rollout = exec.Rollout{Nodes: []byte{9}, Running: 7}
	f.Add(joined(append(slices.Clone(news), frame{done, wire.Marshal(watchBody{Moved: []movedInfo{moves}})})))
	f.Add(joined(append(news, news...)))
	f.Add(joined([]frame{{done, []byte{0x93, 0xdd, 0, 0, 0, 3, 0xc0, 0xc0, 0xc0, 0xc0, 0xc2}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		d.peers.stream = cut(data)
		reports := 0
		w := &watching{newest: map[fleet.ID]exec.Report{}, behind: map[fleet.ID]bool{d.web.ID: true}, stop: func(error) {}}
		w.each = func(u node.Update) error {
			if u.Info != nil && u.Info.Rollout.Check(u.Info.Body) != nil {
				t.Fatalf("a rollout that cannot be: %+v", u.Info.Rollout)
			}
			if u.Report != nil {
				if reports++; u.Report.Node != d.web.ID || u.Report.Status != exec.Success || reports > 1 {
					t.Fatalf("report %+v", u.Report)
				}
			}
			return nil
		}
		_ = d.streamFrom(t.Context(), w, d.web.ID, auth.Envelope{})
		if len(w.newest) > 1 {
			t.Fatalf("%d nodes are kept in mind", len(w.newest))
		}
	})
}

// joinTalk records what a server tells a joiner, and who that is.
func joinTalk(tb testing.TB, d *desk) (self fleet.ID, join auth.JoinString, said []frame) {
	tb.Helper()
	self, request := d.enrolment("n5")
	if _, err := d.countersignHere(request); err != nil {
		tb.Fatal(err)
	}
	record := d.replica.State().Record
	said = []frame{{joinHead, wire.Marshal(JoinHead{Length: record.Length, Epoch: 0, Key: make([]byte, 32), Peers: []JoinPeer{{ID: d.web.ID, Addrs: []string{"10.0.0.1:7980"}}}, Time: d.Fleet.Now.UnixMilli()})}}
	for _, act := range acts(d.replica.State()) {
		said = append(said, frame{joinActs, wire.Marshal(actsBody{[]auth.Act{act}})})
	}
	return self, auth.JoinString{Fleet: d.Fleet.ID(), Head: record.Charter.Head()}, append(said, frame{joinEnd, nil})
}

// countersignHere enrols as a server does, without waiting for the record to come round.
func (d *desk) countersignHere(request auth.Envelope) (consensus.Result, error) {
	peeked, err := auth.Peek[auth.EnrolRequest](request)
	if err != nil {
		return consensus.Result{}, err
	}
	result, err := d.countersign(over(), request, peeked)
	if fleet.KindOf(err) == fleet.Unavailable { // nobody feeds this agent's record
		err = result.Err()
	}
	return result, err
}

// FuzzJoin: whatever answers a joiner, it joins nothing but the fleet that its join string names, by a record that holds,
// in which it and the server stand.
func FuzzJoin(f *testing.F) {
	d := newDesk(f)
	self, join, said := joinTalk(f, d)
	f.Add(joined(said))
	f.Add(joined(said[:len(said)-1]))
	f.Add(joined(append(said[:1:1], said[2:]...)))
	f.Add(joined([]frame{said[0], {joinEnd, nil}}))
	f.Add(joined([]frame{{joinHead, []byte{0x95, 0xcf, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0xc0, 0xdd, 0, 0, 0, 1, 0xc0, 0}}}))
	genuine := d.replica.State().Record
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &frames{peer: d.Fleet.Nodes[0].ID, in: cut(data)}
		j, err := AskJoin(s, join, auth.Envelope{}, self)
		if err != nil {
			return
		}
		if j.Record.Charter.Fleet() != d.Fleet.ID() || j.Record.Length > genuine.Length || len(j.Acts) != int(j.Record.Length) || len(j.Heads) != len(j.Acts) ||
			j.Heads[len(j.Heads)-1] != j.Record.Head || fleet.Sum(j.Head.Key) != j.Record.Sending.Hash && j.Record.Sending.Hash != (fleet.ID{}) {
			t.Fatalf("joined %+v", j.Head)
		}
		for _, id := range []fleet.ID{self, s.peer} {
			if _, err := j.Record.Roster.Enrolled(id); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzEnrol: whatever a host sends on the join plane, and whatever the holder of a join secret signs: enrolled is who the
// token allows, under the key that asked.
func FuzzEnrol(f *testing.F) {
	d := newDesk(f)
	id, good := d.enrolment("n6")
	_, wrong := d.enrolment("web-9")
	f.Add(wire.Marshal(good), false)
	f.Add(good.Body, true)
	f.Add(wrong.Body, true)
	f.Add(wire.Marshal(auth.Envelope{}), false)
	before := d.replica.State()
	f.Fuzz(func(t *testing.T, data []byte, sign bool) {
		d.replica.state.Store(&before)
		body := data
		if sign {
			body = wire.Marshal(d.join.Join.Sign(auth.ForEnrol, d.Fleet.ID(), msgpack.RawMessage(data)))
		}
		peer := id
		var request auth.Envelope
		if wire.Unmarshal(body, &request) == nil {
			if peeked, err := auth.Peek[auth.EnrolRequest](request); err == nil && sign {
				peer = fleet.Sum(peeked.Key)
			}
		}
		s := &frames{peer: peer, in: []frame{{joinAsk, body}}}
		d.ServeJoin(s)
		if len(s.fails)+len(s.out) == 0 {
			t.Fatal("no answer")
		}
		now := d.replica.State().Record
		if now.Roster.Len() == before.Record.Roster.Len() {
			return
		}
		n, err := now.Roster.Enrolled(peer)
		if err != nil || now.Roster.Len() != before.Record.Roster.Len()+1 || !fleet.MatchGlob(d.join.Body.Pattern, n.Name) || n.Server || !sign && !bytes.Equal(body, wire.Marshal(good)) {
			t.Fatalf("enrolled %+v, %v", n, err)
		}
	})
}

// FuzzProof: a peer is let in by the roster, or by an enrolment of its own that holds.
func FuzzProof(f *testing.F) {
	d := newDesk(f)
	entry, _ := d.record().Roster.Node(d.web.ID)
	next := d.NewNode("n8")
	fresh := d.Enrolment(d.join, next, d.Fleet.Nodes[0])
	f.Add(fresh.Encode())
	f.Add(entry.Enrolment.Encode())
	f.Add([]byte{0x93, 0x95, 0xc0})
	f.Fuzz(func(t *testing.T, proof []byte) {
		if d.Admit(next.ID, proof) == nil && !bytes.Equal(proof, fresh.Encode()) {
			t.Fatal("let in by an enrolment that nobody made")
		}
		if d.Admit(fleet.Sum([]byte("stranger")), proof) == nil {
			t.Fatal("a stranger is let in")
		}
		if err := d.Admit(d.web.ID, proof); err != nil {
			t.Fatalf("a member is refused: %v", err)
		}
	})
}

// FuzzFacts: whatever a node signs of itself, its facts are what it said, and small.
func FuzzFacts(f *testing.F) {
	d := newDesk(f)
	f.Add(wire.Marshal(factsBody{Header: auth.Header{Issued: d.Fleet.Now.UnixMilli()}, Facts: fleet.Facts{OS: "debian", OSVersion: "12", Arch: "amd64", Version: "1", BootID: "b"}}))
	f.Add(wire.Marshal(factsBody{Facts: fleet.Facts{OS: "\x1b[31m\xff"}}))
	f.Fuzz(func(t *testing.T, body []byte) {
		d.held.facts = map[fleet.ID]auth.Envelope{}
		e := d.web.Signer.Sign(auth.ForFacts, d.Fleet.ID(), msgpack.RawMessage(body))
		if d.takeFacts(d.web.ID, wire.Marshal(e)) != nil {
			if len(d.held.facts) != 0 {
				t.Fatal("refused facts are kept")
			}
			return
		}
		facts, err := d.openFacts(d.held.facts[d.web.ID])
		if err != nil || len(body) > 1<<10 || !bytes.Contains(body, []byte(facts.OS)) {
			t.Fatalf("%+v, %v", facts, err)
		}
		if d.takeFacts(d.Fleet.Nodes[0].ID, wire.Marshal(e)) == nil {
			t.Fatal("a node tells another's facts")
		}
	})
}

// FuzzNote: a beacon that comes by packet is answered once, with no more than was sent, to members only; and whatever it
// brings is hearsay.
func FuzzNote(f *testing.F) {
	d := newDesk(f)
	beacon := d.Fleet.Nodes[0].Signer.Sign(auth.ForBeacon, d.Fleet.ID(), auth.Beacon{Time: d.Fleet.Now.UnixMilli(), Act: 5, Voters: make([]fleet.ID, 3)})
	d.picture.Store(&picture{record: d.record(), envelope: beacon})
	f.Add(wire.Marshal(beaconNote{From: d.web.ID, Asks: true, Serial: 7, Act: 3, Beacon: beacon}))
	f.Add(wire.Marshal(beaconNote{From: d.web.ID, Serial: 7, Act: 3, Beacon: beacon}))
	f.Add(wire.Marshal(beaconNote{From: fleet.Sum([]byte("stranger")), Asks: true, Beacon: beacon}))
	f.Add([]byte{0x95, 0xc0, 0xc3, 0, 0, 0xc0})
	own := len(wire.Marshal(beacon))
	f.Fuzz(func(t *testing.T, data []byte) {
		d.peers.notes = nil
		serial, answer := d.notes.expect()
		defer d.notes.forget(serial)
		d.Note(netip.MustParseAddrPort("10.0.0.9:7980"), data)
		events := d.posted()
		var note beaconNote
		if wire.Unmarshal(data, &note) != nil || !note.Asks || !d.enrolled(note.From) {
			if len(events)+len(d.peers.notes) != 0 {
				t.Fatalf("%x is answered", data)
			}
			if len(answer) > 0 && note.Serial != serial {
				t.Fatal("an answer to another question is taken")
			}
			return
		}
		if len(events) != 1 || len(d.peers.notes) != 1 || len(d.peers.notes[0]) > len(data)+own {
			t.Fatalf("%d events, %d answers", len(events), len(d.peers.notes))
		}
		if heard, ok := events[0].(node.BeaconHeard); !ok || !heard.Hearsay || heard.From != note.From {
			t.Fatalf("%+v", events[0])
		}
	})
}

func (d *desk) enrolled(id fleet.ID) bool {
	_, ok := d.Trusted(id)
	return ok
}

// TestMemory: what members ask and answer costs what its frames weigh.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	d := newDesk(t)
	before := d.replica.State()
	for kind, seed := range requestSeeds(d) {
		hostile.Check(t, hostile.Bound{Base: 512 << 10, PerByte: 80}, func(in []byte) {
			d.replica.state.Store(&before)
			d.Serve(&frames{peer: d.web.ID, in: []frame{{kind, in}}})
			d.posted()
		}, hostile.Join(hostile.Some(9, hostile.Inputs(1<<16, seed)), hostile.Corpus(t, "FuzzRequest")))
	}
	noted := wire.Marshal(beaconNote{From: d.web.ID, Asks: true, Beacon: d.Fleet.Nodes[0].Signer.Sign(auth.ForBeacon, d.Fleet.ID(), auth.Beacon{Act: 5})})
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 32}, func(in []byte) {
		d.Note(netip.MustParseAddrPort("10.0.0.9:7980"), in)
		d.posted()
		d.peers.notes = nil
	}, hostile.Join(hostile.Inputs(1200, noted), hostile.Corpus(t, "FuzzNote")))
	answers := map[string]func(){
		"beacon": func() { d.exchange(over(), d.web.ID) }, "acts": func() { d.fetchActs(over(), node.FetchActs{From: d.web.ID}) },
		"order": func() { d.fetchOrder(over(), node.FetchOrder{From: d.web.ID}) }, "orders": func() { d.fetchOrders(over(), node.FetchOrders{From: d.web.ID}) },
		"facts":    func() { var list factsList; _ = d.ask(over(), d.web.ID, askFacts, struct{}{}, &list) },
		"document": func() { d.fetchDocuments(over(), node.FetchDocuments{From: d.web.ID, Digests: []fleet.ID{{1}}}) },
		"read":     func() { var a node.Answer; _ = d.ask(over(), d.web.ID, askRead, struct{}{}, &a) },
	}
	samples := [][]byte{wire.Marshal(actsBody{acts(before)}), wire.Marshal(ordersBody{Orders: []node.Committed{{Act: 1, Order: d.order}}})}
	for _, ask := range answers {
		d.peers.kind = done
		hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 80}, func(in []byte) {
			d.peers.body = in
			ask()
			d.posted()
		}, hostile.Join(hostile.Some(9, hostile.Inputs(1<<16, samples...)), hostile.Corpus(t, "FuzzAnswer")))
	}
	self, join, said := joinTalk(t, d)
	hostile.Check(t, hostile.Bound{Base: 512 << 10, PerByte: 80}, func(in []byte) {
		_, _ = AskJoin(&frames{peer: d.Fleet.Nodes[0].ID, in: []frame{{joinHead, in}, {joinActs, in}}}, join, auth.Envelope{}, self)
		_, _ = AskJoin(&frames{peer: d.Fleet.Nodes[0].ID, in: append(said[:2:2], frame{joinActs, in})}, join, auth.Envelope{}, self)
	}, hostile.Some(5, hostile.Inputs(1<<14, said[0].body, said[2].body)))
}
