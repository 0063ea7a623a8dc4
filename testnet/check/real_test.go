package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	order "github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

// The tests here plant bugs in the real thing: the real ledger, replicas, signatures and processes, with one rule broken.

// actor is a node made of the real judgement and the real ledger. Its bugs are planted by name.
type actor struct {
	self   authtest.Node
	bug    string
	ledger *order.Ledger
	h      *History
}

// deliver gives an order to the node, as often as a network may.
func (a *actor) deliver(f *authtest.Fleet, o order.Order) {
	verdict, err := order.Judge(o, f.Record, f.Member(a.self.ID), f.Now)
	cmd := verdict.Command
	if a.bug == "takes anybody's word" {
		cmd, err = auth.Peek[order.Command](o.Statement)
		verdict.Status = order.Pending
	}
	if err != nil || verdict.Status != order.Pending {
		return
	}
	id, issued, expires := cmd.Header.ID, time.UnixMilli(cmd.Header.Issued), time.UnixMilli(cmd.Header.Expires)
	if a.ledger.MayStart(id, issued, expires) != nil {
		return
	}
	if a.bug != "forgets what it started" {
		if err := a.ledger.Fold(order.StartedRecord{Command: id, Issued: issued, Expires: expires, Time: f.Now}); err != nil {
			return
		}
	}
	digest := o.Statement.Digest(auth.ForCommand, f.ID())
	if a.bug == "runs another body" {
		digest = fleet.Sum([]byte("another"))
	}
	a.h.Runs = append(a.h.Runs, Run{Command: id, Node: a.self.Name, Began: f.Now, Did: cmd.Run.Text(), Digest: digest, End: &End{At: f.Now}})
	status := order.Success
	if a.bug == "calls it a failure" {
		status = order.Failed
	}
	zero := 0
	a.h.Reports = append(a.h.Reports, Report{Command: id, Node: a.self.Name, By: a.self.Name, Status: status, Exit: &zero})
}

// fleetOf lets a fleet with one bug live through a command that is delivered twice, and one that a stranger signed.
func fleetOf(t *testing.T, bug string) History {
	f := authtest.Found("check")
	web, db := f.AddNode("web", nil, nil), f.AddNode("db", nil, nil)
	h := History{Charter: f.Record.Charter, Listed: map[fleet.UUID]bool{}, IDs: map[string]fleet.ID{"web": web.ID, "db": db.ID}}
	sign := func(by auth.Signer, to ...authtest.Node) (fleet.UUID, order.Order) {
		var ids []fleet.ID
		var names []string
		for _, n := range to {
			ids, names = append(ids, n.ID), append(names, n.Name)
		}
		ids = order.SortIDs(ids)
		body := order.Command{Header: f.Header(time.Hour), Target: "all", Count: uint32(len(ids)), Set: order.SetDigest(ids),
			Run: order.Run{Argv: []string{"true"}, Timeout: 1000}}
		h.Orders = append(h.Orders, Order{ID: body.Header.ID, Does: "true", Nodes: names, Ack: Accepted})
		h.Listed[body.Header.ID] = true
		return body.Header.ID, order.Order{Statement: by.Sign(auth.ForCommand, f.ID(), body), Nodes: ids}
	}
	_, both := sign(f.Operator, web, db)
	_, one := sign(f.Operator, web)
	evil, forged := sign(authtest.Signer("stranger"), web, db)
	h.Orders[2].Ack = Refused
	delete(h.Listed, evil)
	for _, o := range []order.Order{both, one} {
		h.Statements = append(h.Statements, Statement{Order: o, Committed: f.Now})
	}
	for _, n := range []authtest.Node{web, db} {
		a := actor{self: n, bug: bug, ledger: order.NewLedger(f.Now.Add(-time.Hour), time.Time{}), h: &h}
		for range 2 {
			a.deliver(f, both)
			a.deliver(f, one)
			a.deliver(f, forged)
			f.Advance(time.Second)
		}
	}
	if bug == "keeps a forged statement" {
		h.Statements = append(h.Statements, Statement{Order: forged, Committed: f.Now})
	}
	if bug == "keeps a statement after its time" {
		h.Statements[0].Committed = f.Now.Add(48 * time.Hour)
	}
	return h
}

func TestBugsInRealNodesAreCaught(t *testing.T) {
	for bug, want := range map[string]Promise{
		"":                                 "",
		"forgets what it started":          PromiseOnce,
		"takes anybody's word":             PromiseSigned,
		"runs another body":                PromiseSigned,
		"calls it a failure":               PromiseTruth,
		"keeps a forged statement":         PromiseSigned,
		"keeps a statement after its time": PromiseSigned,
	} {
		found := All(fleetOf(t, bug))
		switch {
		case want == "" && len(found) > 0:
			t.Errorf("a true fleet breaks: %v", found)
		case want != "" && !slices.ContainsFunc(found, func(v Violation) bool { return v.Promise == want }):
			t.Errorf("a fleet that %s is not caught; found %v", bug, found)
		}
	}
}

// TestRealReplicas: the same entries on the real state are equal by hash; one that misses an entry is caught.
func TestRealReplicas(t *testing.T) {
	f := authtest.Empty("replicas")
	var entries []consensus.Entry
	for _, p := range f.Founding() {
		f.MustTake(p)
		entries = append(entries, consensus.PutAct{Kind: p.Kind, Data: p.Data})
	}
	replica := func(name string, skip int) Replica {
		state := consensus.NewState()
		for i, e := range entries {
			if i != skip {
				state, _ = state.Apply(e, f.Now.UnixMilli())
			}
		}
		return Replica{Node: name, Act: uint64(len(entries)), Digest: state.Digest().String()}
	}
	if found := Replicas(History{Last: []Replica{replica("n1", -1), replica("n2", -1)}}); len(found) != 0 {
		t.Error(found)
	}
	if found := Replicas(History{Last: []Replica{replica("n1", -1), replica("n2", 2)}}); len(found) != 1 {
		t.Errorf("a replica that misses an entry: %v", found)
	}
}

// TestRealProcess: a process that outlives its run's kill is caught while it is alive, and only then.
func TestRealProcess(t *testing.T) {
	h := History{Reports: []Report{{Command: id(1), Node: "n1", Status: order.Cancelled}}}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.Processes = alive(t, "n1", id(1), cmd.Process.Pid)
	if found := Dead(h); len(found) != 1 || !strings.Contains(found[0].What, strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("a process that is alive: %v", found)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	h.Processes = alive(t, "n1", id(1), cmd.Process.Pid)
	if found := Dead(h); len(found) != 0 {
		t.Errorf("a process that is dead: %v", found)
	}
}

func alive(t *testing.T, node string, command fleet.UUID, pid int) []Process {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return nil
	}
	return []Process{{Node: node, PID: pid, Command: command, Text: strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " "))}}
}

// TestRealLeaks: goroutines and files of this very process that are not given back are caught.
func TestRealLeaks(t *testing.T) {
	reading := func() Level {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return Level{Node: "n1", Life: os.Getpid(), Goroutines: runtime.NumGoroutine(), FDs: len(files)}
	}
	h := History{Levels: []Level{reading()}}
	stop := make(chan struct{})
	var open []*os.File
	for range 100 {
		go func() { <-stop }()
		file, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, file)
	}
	h.Levels = append(h.Levels, reading())
	found := Levels(h)
	close(stop)
	for _, file := range open {
		file.Close()
	}
	if len(found) != 2 {
		t.Errorf("100 goroutines and files more: %v", found)
	}
}
