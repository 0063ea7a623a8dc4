package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// neighbours are peers that answer askLevel alone: with their level, as a program of the first level does, or not at all.
type neighbours struct {
	stubPeers
	mu     sync.Mutex
	level  map[fleet.ID]fleet.Level // FirstLevel: it does not know the question
	then   map[fleet.ID]fleet.Level // from the second question on, where it has one
	asked  map[fleet.ID]int
	online []fleet.ID
	stubGossip
}

func (n *neighbours) Request(_ context.Context, id fleet.ID, kind byte, _ []byte) (byte, []byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if kind != askLevel {
		return 0, nil, errors.New("not asked here")
	}
	if n.asked == nil {
		n.asked = map[fleet.ID]int{}
	}
	n.asked[id]++
	level := n.level[id]
	if then, ok := n.then[id]; ok && n.asked[id] > 1 {
		level = then
	}
	switch level {
	case 0:
		return 0, nil, fleet.Errorf(fleet.Unavailable, "no answer")
	case fleet.LevelFirst:
		return 0, nil, fleet.Errorf(fleet.Invalid, "request of kind 34 is not understood by this version")
	default:
		return done, wire.Marshal(levelBody{Supports: level, Level: fleet.LevelFirst}), nil
	}
}

func (n *neighbours) Members() (out []node.Sighting) {
	for _, id := range n.online {
		out = append(out, node.Sighting{ID: id, Status: fleet.Online})
	}
	return out
}

// newLevelDesk is a desk that leads alone, among a server and a member that are there.
func newLevelDesk(t *testing.T) (*desk, *neighbours) {
	d := newDesk(t)
	n := &neighbours{level: map[fleet.ID]fleet.Level{}, online: []fleet.ID{d.web.ID, d.db.ID}}
	d.Attach(Shells{Peers: n, Gossip: n, Runner: stubRunner{}, Reports: d.held, Quorum: stubQuorum{d.replica, d.self}, Replica: d.replica})
	d.look()
	d.posted()
	return d, n
}

func TestLevelRisesWhenAllWhoCountSupportIt(t *testing.T) {
	d, n := newLevelDesk(t)
	at := time.Hour
	d.cfg.Clock = func() auth.Instant { return auth.Instant{Wall: d.Fleet.Now, Boot: at} }
	level := func() fleet.Level {
		t.Helper()
		if err := d.raiseLevel(t.Context()); err != nil {
			t.Fatal(err)
		}
		return d.replica.State().Level
	}
	if level() != fleet.LevelFirst {
		t.Fatal("it rose though nobody has answered")
	}
	n.level[d.db.ID], n.level[d.web.ID] = fleet.LevelNewest, fleet.LevelFirst
	if level() != fleet.LevelFirst {
		t.Fatal("it rose though a host that is online has an older program")
	}
	body, err := d.answerLevel()
	var said levelBody
	if err != nil || wire.Unmarshal(body, &said) != nil || len(said.Holding) != 1 || said.Holding[0].ID != d.web.ID || said.Holding[0].Level != fleet.LevelFirst {
		t.Errorf("the leader says %+v, %v", said, err)
	}
	n.level[d.web.ID] = fleet.LevelNewest // it is upgraded, while nobody looked
	if level() != fleet.LevelNewest {
		t.Fatal("it did not rise")
	}
	asked := n.asked[d.web.ID]
	level()
	if n.asked[d.web.ID] != asked {
		t.Error("it asks though there is nothing to raise")
	}
	if b := d.own.Load(); b == nil || beaconOf(t, d, *b).FleetVersion != uint16(fleet.LevelNewest) {
		t.Error("its beacon does not say the level")
	}
}

func beaconOf(t *testing.T, d *desk, e auth.Envelope) auth.Beacon {
	t.Helper()
	b, err := auth.OpenBeacon(d.record(), e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withServer is a quorum of two, of which this host leads.
type withServer struct {
	stubQuorum
	other fleet.ID
}

func (q withServer) Status() Replication {
	s := q.stubQuorum.Status()
	s.Voters = append(s.Voters, q.other)
	return s
}

// What a server said a moment ago is no leave to write what it may not understand by now.
func TestServersAreAskedOnceMore(t *testing.T) {
	d, n := newLevelDesk(t)
	d.quorum = withServer{stubQuorum{d.replica, d.self}, d.db.ID}
	n.level[d.db.ID], n.level[d.web.ID] = fleet.LevelNewest, fleet.LevelNewest
	n.then = map[fleet.ID]fleet.Level{d.db.ID: fleet.LevelFirst}
	for range 2 {
		if err := d.raiseLevel(t.Context()); err != nil || d.replica.State().Level != fleet.LevelFirst {
			t.Fatalf("it rose to %d: %v", d.replica.State().Level, err)
		}
	}
	n.then = nil
	if err := d.raiseLevel(t.Context()); err != nil || d.replica.State().Level != fleet.LevelNewest {
		t.Fatalf("it is at %d: %v", d.replica.State().Level, err)
	}
}

// A yes is good for a while only, and a no until there is a yes: what a fleet of old programs says is asked at a pace.
func TestLevelWord(t *testing.T) {
	for _, c := range []struct {
		word   levelWord
		now    time.Duration
		server bool
		want   fleet.Level
	}{
		{levelWord{}, 0, false, 0},
		{levelWord{level: 2, at: 1}, levelServerFresh, true, 2},
		{levelWord{level: 2, at: 1}, 1 + levelServerFresh, true, 0},
		{levelWord{level: 2, at: 1}, 1 + levelServerFresh, false, 2},
		{levelWord{level: 2, at: 1}, 1 + levelFresh, false, 0},
		{levelWord{level: 1, at: 1}, 1 + levelFresh, false, 1},
		{levelWord{level: 3, at: 1}, 1 + levelFresh, false, 0},
	} {
		if got := c.word.counts(c.now, 2, c.server); got != c.want {
			t.Errorf("%+v at %s, of a server %v: %d, want %d", c.word, c.now, c.server, got, c.want)
		}
	}
}

// A host in trial, which may go back to an older program, is not counted on for the newer level.
func TestTrialHoldsTheLevelBack(t *testing.T) {
	d, n := newLevelDesk(t)
	n.level[d.db.ID], n.level[d.web.ID] = fleet.LevelNewest, fleet.LevelNewest
	trial := fleet.LevelFirst
	d.cfg.Level = func() fleet.Level { return trial }
	if err := d.raiseLevel(t.Context()); err != nil || d.replica.State().Level != fleet.LevelFirst {
		t.Fatalf("it rose to %d: %v", d.replica.State().Level, err)
	}
	trial = fleet.LevelNewest
	if err := d.raiseLevel(t.Context()); err != nil || d.replica.State().Level != fleet.LevelNewest {
		t.Fatalf("it is at %d: %v", d.replica.State().Level, err)
	}
}

// Who cannot read the state at the fleet's level is given none of it.
func TestOlderServerGetsNoReplica(t *testing.T) {
	d, n := newLevelDesk(t)
	for level, want := range map[fleet.Level]bool{0: false, fleet.LevelFirst: false, fleet.LevelNewest: true} {
		n.level[d.db.ID] = level
		if d.mayReplicate(t.Context(), d.db.ID) != true {
			t.Errorf("at the first level, a server of level %d may not", level)
		}
		raised := d.replica.State()
		s, _ := raised.Apply(consensus.SetLevel{Level: fleet.LevelNewest}, raised.Time)
		d.replica.state.Store(&s)
		if got := d.mayReplicate(t.Context(), d.db.ID); got != want {
			t.Errorf("at level %d, a server of level %d: %v", s.Level, level, got)
		}
		d.replica.state.Store(&raised)
	}
}

// A replica that comes to what it does not understand keeps the state before it, and says so.
func TestReplicaHaltsBeforeWhatIsNewer(t *testing.T) {
	d, _ := newLevelDesk(t)
	now := d.Fleet.Now.UnixMilli()
	d.replica.Apply(1, consensus.Encode(consensus.SetLevel{Level: fleet.LevelNewest}, now))
	before := d.replica.State().Digest()
	for name, item := range map[string][]byte{ // none of them is there for any program to go on behind
		"any level": consensus.Encode(consensus.SetLevel{Level: 1<<16 - 1}, now), "any kind": {0xff, 1, 0x92, 0, 0}, "any version": {1, 0xff, 0x92, 0, 0},
	} {
		if r := resultOf(d.replica.Apply(1, item)); r.Err() == nil || d.replica.Halted() != nil || d.replica.State().Digest() != before {
			t.Errorf("%s: %+v, halted %v", name, r, d.replica.Halted())
		}
	}
	cancel := consensus.Encode(consensus.PutCancel{Statement: d.Sign(auth.ForCancel, exec.Cancel{Header: d.Header(time.Hour), Command: d.commandID()})}, now)
	answers := d.replica.ApplyBatch(1, [][]byte{consensus.Encode(consensus.SetLevel{Level: fleet.LevelNewest + 1}, now), cancel})
	for i, a := range answers {
		if r, ok := a.(consensus.Result); !ok || r.Err() == nil {
			t.Errorf("item %d was taken: %+v", i, a)
		}
	}
	if d.replica.State().Digest() != before || !fleet.IsNewer(d.replica.Halted()) {
		t.Errorf("halted: %v", d.replica.Halted())
	}
	if d.sendBeacon() {
		t.Error("it goes on telling what is old as the newest")
	}
	if !slices.ContainsFunc(d.levelWarnings(), func(w string) bool { return len(w) > 0 }) {
		t.Error("status says nothing of it")
	}
}

func TestThreeVersionsAreSaid(t *testing.T) {
	d, n := newLevelDesk(t)
	at := time.Hour
	d.cfg.Clock = func() auth.Instant { return auth.Instant{Wall: d.Fleet.Now, Boot: at} }
	for i, who := range d.Fleet.Nodes {
		d.held.facts[who.ID] = who.Signer.Sign(auth.ForFacts, d.Fleet.ID(), factsBody{
			Header: auth.Header{Issued: d.Fleet.Now.UnixMilli()}, Facts: fleet.Facts{Version: string(rune('a' + i))},
		})
	}
	if said := d.skew(); said == "" {
		t.Error("nothing is said of three versions")
	}
	n.online = []fleet.ID{d.db.ID}
	d.look()
	at += versionsFresh
	if said := d.skew(); said != "" {
		t.Errorf("of two, with the third away: %s", said)
	}
}

// One server's beacon does not keep a fleet from all releases: a replica that follows knows better, and elsewhere nothing above
// what this program writes counts. People are told of it all the same.
func TestLevelOfALyingBeacon(t *testing.T) {
	d, _ := newLevelDesk(t)
	liar := *d.picture.Load()
	liar.beacon.FleetVersion = 1<<16 - 1
	d.picture.Store(&liar)
	if got := d.Level(); got != fleet.LevelFirst {
		t.Errorf("with a replica: %d", got)
	}
	if !slices.ContainsFunc(d.levelWarnings(), func(w string) bool { return len(w) > 0 }) {
		t.Error("nothing is said of it")
	}
	kept := d.replica
	d.replica = nil
	if got := d.Level(); got != fleet.LevelNewest {
		t.Errorf("without a replica: %d", got)
	}
	d.replica = kept
	why := error(fleet.Newer("halted"))
	d.replica.halted.Store(&why)
	if got := d.Level(); got != fleet.LevelNewest {
		t.Errorf("with one that has stopped: %d", got)
	}
}
