package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// town is a fleet in memory: the true replicated state behind the true API, and nodes whose results are made up by what
// the command says.
type town struct {
	mu      sync.Mutex
	state   consensus.State
	acts    []auth.Act // of the record
	who     identity
	root    rootKey
	status  map[fleet.ID]fleet.Status
	reports map[fleet.UUID][]exec.Report // in the order they came
	outputs map[string][]byte            // what nodes keep: by wrote
	direct  map[fleet.UUID]bool          // commands that no server knows
	changed chan struct{}                // closed at every change
	watches int
	left    bool
	vault   vault
	seeds   map[fleet.ID][]byte // of the nodes' keys
	doors   map[fleet.ID]*door  // of the nodes that take sessions
	api     *api.Operators      // the way to web01's API from elsewhere
}

// newTown founds a fleet of n nodes web01, web02, …; the first is its only server.
func newTown(n int) (*town, error) {
	w := &town{
		state: consensus.NewState(), status: map[fleet.ID]fleet.Status{}, reports: map[fleet.UUID][]exec.Report{},
		outputs: map[string][]byte{}, direct: map[fleet.UUID]bool{}, changed: make(chan struct{}), root: rootKey{FleetName: "lab", Seed: newSeed()},
		vault: newVault(), seeds: map[fleet.ID][]byte{}, doors: map[fleet.ID]*door{},
		api: api.NewOperators(),
	}
	recovery, err := recoveryRecipient(w.vault.recovery)
	if err != nil {
		return nil, err
	}
	genesis := auth.SignCharter(nil, w.header(0), auth.CharterGenesis, auth.Genesis{
		Name: "lab", Nonce: fleet.Sum(newSeed()), Roots: [][]byte{w.root.signer().Public()}, Threshold: 1, Recovery: recovery,
	}, w.root.signer())
	if err := w.act(auth.ActCharter, genesis); err != nil {
		return nil, err
	}
	w.root.Fleet = w.charter().Fleet()
	if w.who, err = newIdentity(w.root.Fleet, "lab", "alice"); err != nil {
		return nil, err
	}
	op, err := w.who.asOperator(auth.RootTeam)
	if err != nil {
		return nil, err
	}
	if err := w.act(auth.ActCharter, auth.SignCharter(w.charter(), w.header(0), auth.CharterPutOperator, op, w.root.signer())); err != nil {
		return nil, err
	}
	return w, w.settle(n)
}

// settle enrols n nodes with one token.
func (w *town) settle(n int) error {
	seed := newSeed()
	join := auth.JoinString{Seed: seed}
	body := auth.Token{Header: w.header(time.Hour), Join: join.Signer().Public(), Uses: uint32(n), Server: true}
	token := w.who.signer().Sign(auth.ForToken, w.who.Fleet, body)
	if err := w.apply(consensus.PutToken{Statement: token}); err != nil {
		return err
	}
	var first auth.Signer
	for i := range n {
		seed := newSeed()
		key := rootKey{Seed: seed}.signer()
		w.seeds[key.ID()] = seed
		if i == 0 {
			first = key
		}
		hpke, err := w.vault.admit(key)
		if err != nil {
			return err
		}
		request := join.Signer().Sign(auth.ForEnrol, w.who.Fleet, auth.EnrolRequest{
			Header: w.header(0), Token: body.Header.ID, Key: key.Public(), HPKE: hpke, Name: fmt.Sprintf("web%02d", i+1),
		})
		counter := first.Sign(auth.ForCountersign, w.who.Fleet, auth.Countersign{
			Header: w.header(0), Request: request.Digest(auth.ForEnrol, w.who.Fleet), Node: key.ID(),
		})
		if err := w.act(auth.ActEnrol, auth.Enrolment{Token: token, Request: request, Countersign: counter}); err != nil {
			return err
		}
		w.status[key.ID()] = fleet.Online
	}
	return nil
}

func (w *town) header(life time.Duration) auth.Header {
	s := node.Status{Act: w.state.Record.Act}
	if c := w.charter(); c != nil {
		s.CharterHead = c.Head()
	}
	return newHeader(s, time.Now(), life)
}

func (w *town) charter() *auth.Charter { return w.state.Record.Charter }

func (w *town) act(kind auth.ActKind, data any) error {
	return w.apply(consensus.PutAct{Kind: kind, Data: wire.Marshal(data)})
}

func (w *town) apply(e consensus.Entry) error {
	var result consensus.Result
	w.take(e, &result)
	return result.Err()
}

// take has the state take an entry, and keeps what came into the record by it.
func (w *town) take(e consensus.Entry, result *consensus.Result) {
	before := w.state.Record.Length
	w.state, *result = w.state.Apply(e, time.Now().UnixMilli())
	if put, ok := e.(consensus.PutAct); ok && w.state.Record.Length > before {
		w.acts = append(w.acts, auth.Act{Index: w.state.Act, Time: w.state.Time, Kind: put.Kind, Data: put.Data})
	}
}

// Acts is a part of the record, a few at a time.
func (w *town) Acts(_ context.Context, from uint64) (api.Acts, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	const most = 5
	out := api.Acts{Length: w.state.Record.Length, Head: w.state.Record.Head}
	if from < uint64(len(w.acts)) {
		out.Acts = w.acts[from:min(from+most, uint64(len(w.acts)))]
	}
	return out, nil
}

func (w *town) byName(name string) *auth.Node {
	n, _ := w.state.Record.Roster.ByName(name)
	return n
}

// setStatus changes how gossip sees some nodes.
func (w *town) setStatus(s fleet.Status, names ...string) {
	for _, name := range names {
		w.status[w.byName(name).ID] = s
	}
	w.tell()
}

func (w *town) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *town) Status(context.Context) node.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.byName("web01")
	s := node.Status{
		Version: "1.2.3", Fleet: w.who.Fleet, FleetName: "lab", CharterHead: w.charter().Head(), CharterLen: w.charter().Len(),
		Act: w.state.Record.Act, RecordLen: w.state.Record.Length, Now: time.Now(),
		Quorum: node.QuorumStatus{Leader: first.ID, Term: 7, Voters: []node.ServerStatus{{ID: first.ID, Name: first.Name, Online: true}}},
	}
	s.Quorum.Danger = node.Danger(s.Quorum.Voters)
	s.Self = w.member(first)
	for n := range w.state.Record.Roster.All() {
		switch w.status[n.ID] {
		case fleet.Online:
			s.Online++
		case fleet.ConnectionLost:
			s.Lost++
		case fleet.Left:
			s.Left++
		}
	}
	return s
}

func (w *town) Quorum(ctx context.Context) node.QuorumStatus {
	q := w.Status(ctx).Quorum
	q.Replica = node.ReplicaStatus{Act: w.state.Act, Digest: w.state.Digest()}
	return q
}

func (w *town) member(n *auth.Node) fleet.Member {
	m := fleet.Member{
		ID: n.ID, Name: n.Name, Status: w.status[n.ID], Role: fleet.Plain, Server: n.Server, Tags: n.Tags,
		Addrs:    []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, n.ID[0], n.ID[1]}), 7980)},
		LastSeen: time.Now(), Facts: fleet.Facts{OS: "debian", OSVersion: "12", Arch: "amd64", Version: "1.2.3"},
	}
	if n.Name == "web01" {
		m.Role = fleet.Lead
	}
	if d := w.doors[n.ID]; d != nil {
		m.Addrs = []netip.AddrPort{d.end.LocalAddr()}
	}
	return m
}

func (w *town) Nodes(context.Context) []api.Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []api.Node
	for n := range w.state.Record.Roster.All() {
		out = append(out, api.Node{Member: w.member(n), Seq: n.Seq})
	}
	return out
}

func (w *town) Operators(context.Context) []auth.Operator {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.charter().Operators()
}

func (w *town) Propose(_ context.Context, e consensus.Entry) (consensus.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var result consensus.Result
	w.take(e, &result)
	if result.Err() == nil {
		w.behave(e)
		if after := w.vault.after; after != nil {
			w.vault.after = nil
			after()
		}
		w.tendKeyrings()
	}
	w.tell()
	return result, result.Err() // as the agent does
}

func (w *town) Read(_ context.Context, signed auth.Envelope) (node.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var answer node.Answer
	read, err := node.OpenRead(w.state.Record, signed, time.Now())
	if err != nil {
		return answer, err
	}
	switch read.What {
	case node.ReadCommands:
		for _, c := range w.state.Commands(100) {
			answer.Commands = append(answer.Commands, node.ListOf(c))
		}
	case node.ReadCommand:
		c, ok := w.state.Command(read.Arg)
		if !ok {
			return answer, fleet.Errorf(fleet.NotFound, "no command %s", read.Arg)
		}
		answer.Commands = []node.CommandInfo{node.InfoOf(c)}
	case node.ReadDocuments:
		for _, d := range w.state.Documents() {
			answer.Documents = append(answer.Documents, node.DocumentLine(d))
		}
	case node.ReadDocument:
		d, number, text, err := node.ReadText(w.state, read.Name)
		if err != nil {
			return answer, err
		}
		answer.Documents, answer.Version, answer.Text = []node.DocumentInfo{node.DocumentInfoOf(d)}, number, text
	case node.ReadTokens:
		for _, t := range w.state.Tokens() {
			op, _ := w.charter().Standing(t.Statement.Key, 0)
			answer.Tokens = append(answer.Tokens, node.TokenInfo{ID: t.Body.Header.ID, Operator: op.Name, Used: t.Used, Body: t.Body})
		}
	case node.ReadRequests:
		answer.Requests = w.state.Requests()
	}
	return answer, nil
}

func (w *town) Watch(ctx context.Context, signed auth.Envelope, each func(node.Update) error) error {
	told, first, synced := 0, true, false
	for {
		w.mu.Lock()
		read, err := node.OpenRead(w.state.Record, signed, time.Now())
		c, ok := w.state.Command(read.Arg)
		if err == nil && !ok {
			err = fleet.Errorf(fleet.NotFound, "no command %s", read.Arg)
		}
		if err != nil {
			w.mu.Unlock()
			return err
		}
		info, changed := node.InfoOf(c), w.changed
		reports := slices.Clone(w.reports[read.Arg][told:])
		w.watches++
		breaks := info.Body.Run.Text() == "breaks" && w.watches == 1
		w.mu.Unlock()
		if first || info.Cancelled != 0 || info.Body.Pace.Limited {
			if err := each(node.Update{Info: &info, Servers: 1}); err != nil {
				return err
			}
			first = false
		}
		if breaks {
			return fleet.Errorf(fleet.Unavailable, "the server died")
		}
		for _, r := range reports {
			told++
			signed := rootKey{Seed: w.seeds[r.Node]}.signer().Sign(auth.ForReport, w.who.Fleet, r)
			if err := each(node.Update{Report: &r, Signed: &signed, Servers: 1}); err != nil {
				return err
			}
		}
		if !synced {
			synced = true
			if err := each(node.Update{Servers: 1, Synced: true}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *town) Leave(context.Context) error {
	w.left = true
	return nil
}

func stream(text string) exec.Stream {
	return exec.Stream{Size: int64(len(text)), Kept: int64(len(text)), Head: []byte(text), Digest: fleet.Sum([]byte(text))}
}

// open serves the town at dir/agent.sock and keeps the operator's keys under home, until t ends.
func (w *town) open(t testing.TB, dir, home string) {
	t.Helper()
	l, err := api.Listen(filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, w, api.Options{Version: "1.2.3", Operators: w.api}) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	a := &app{getenv: func(string) string { return "" }, euid: os.Geteuid()}
	for _, err := range []error{
		a.writeKey(filepath.Join(home, "recovery.txt"), recoveryText(w.vault.recovery)+"\n"),
		a.writeIdentity(filepath.Join(home, ".config", "muster", identityName), w.who),
		a.writeRootKey(filepath.Join(home, ".config", "muster", rootKeyName), w.root),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
