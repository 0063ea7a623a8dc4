package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

func copyBy(f *authtest.Fleet, key auth.Signer, session byte, started int64) node.SessionCopy {
	s := node.SessionState{ID: fleet.UUID{session}, Started: started, Ended: started + 1, Recording: node.SessionRecording{Bytes: 3, Digest: fleet.Sum([]byte("abc"))}}
	return node.SessionCopy{Key: key.Public(), Note: key.Sign(auth.ForRecording, f.ID(), node.NoteOf(s, key.ID()))}
}

// Whatever a server says, a recording is that of the node whose key signed, by the name that the fleet's record has, and of nobody else.
func TestNobodyForgesCopies(t *testing.T) {
	f := authtest.Found("copies")
	web, db := f.AddNode("web1", nil, nil), f.AddNode("db1", nil, nil)
	f.MustTake(f.RemoveNode(web.ID))
	server := api.Node{Member: fleet.Member{Name: "srv"}}
	found := copiesFound{}
	found.take(f.ID(), f.Record.Roster, server, node.SessionCopies{Copies: []node.SessionCopy{
		copyBy(f, authtest.Signer("a server's own"), 1, 2000), copyBy(f, web.Signer, 1, 1000), copyBy(f, db.Signer, 2, 1000), copyBy(f, f.Operator, 3, 1000),
	}})
	all := found.sorted()
	if len(all) != 2 {
		t.Fatalf("%d are taken", len(all))
	}
	one, err := chooseCopy(all, "", fleet.UUID{1}.String())
	if err != nil || one.row().Node != (shape.Named{ID: web.ID, Name: "web1"}) {
		t.Errorf("%+v, %v", one.row().Node, err)
	}
	if _, err := chooseCopy(all, "db1", fleet.UUID{1}.String()); fleet.KindOf(err) != fleet.NotFound {
		t.Errorf("by another node: %v", err)
	}
	found.take(f.ID(), f.Record.Roster, server, node.SessionCopies{Copies: []node.SessionCopy{copyBy(f, db.Signer, 1, 5000)}})
	_, err = chooseCopy(found.sorted(), "", fleet.UUID{1}.String())
	if fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), "web1") || !strings.Contains(err.Error(), "db1") {
		t.Errorf("two nodes have it: %v", err)
	}
	for _, name := range []string{"web1", web.ID.Text()} {
		if one, err := chooseCopy(found.sorted(), name, fleet.UUID{1}.String()); err != nil || one.node.ID != web.ID {
			t.Errorf("by %s: %+v, %v", name, one.node, err)
		}
	}
}

// A node that lists the session of another as its own takes nobody in.
func TestSessionsOfTwoNodes(t *testing.T) {
	row := func(name string) sessionRow {
		return sessionRow{Node: shape.Named{ID: fleet.Sum([]byte(name)), Name: name}, Session: shape.Session{ID: fleet.UUID{1}}}
	}
	found := sessionsFound{rows: []sessionRow{row("db1"), row("web1")}}
	if _, err := found.find(fleet.UUID{1}.String()); fleet.KindOf(err) != fleet.Conflict || !strings.Contains(err.Error(), "db1") || !strings.Contains(err.Error(), "web1") {
		t.Error(err)
	}
	found.rows = found.rows[1:]
	if got, err := found.find(fleet.UUID{1}.String()); err != nil || got.Node.Name != "web1" {
		t.Error(got.Node, err)
	}
	if _, err := found.find(fleet.UUID{2}.String()); fleet.KindOf(err) != fleet.NotFound {
		t.Error(err)
	}
}

// A copy that is damaged, or breaks off, is not shown, nor the end of the search.
func TestDamagedCopies(t *testing.T) {
	want := node.SessionRecording{Bytes: 3, Digest: fleet.Sum([]byte("abc"))}
	holders := func(names ...string) (out []api.Node) {
		for _, name := range names {
			out = append(out, api.Node{Member: fleet.Member{Name: name}})
		}
		return out
	}
	ask := func(n api.Node) (io.ReadCloser, error) {
		switch n.Name {
		case "whole":
			return io.NopCloser(strings.NewReader("abc")), nil
		case "damaged":
			return io.NopCloser(strings.NewReader("abd")), nil
		case "long":
			return io.NopCloser(strings.NewReader("abcabcabc")), nil
		case "broken":
			return io.NopCloser(io.MultiReader(strings.NewReader("abc"), errorReader{})), nil
		}
		return nil, fleet.Errorf(fleet.NotFound, "not here")
	}
	var told []string
	tell := func(n api.Node, err error) { told = append(told, n.Name+": "+err.Error()) }
	from, at, err := bringCopy(holders("damaged", "long", "broken", "none", "whole"), want, ask, tell)
	if err != nil || at.Name != "whole" {
		t.Fatal(at.Name, err)
	}
	defer from.Close()
	if data, err := io.ReadAll(from); err != nil || string(data) != "abc" {
		t.Errorf("%q, %v", data, err)
	}
	if text := strings.Join(told, "\n"); len(told) != 4 || !strings.Contains(text, "damaged: the copy at damaged is not the recording") {
		t.Errorf("told:\n%s", text)
	}
	if _, _, err := bringCopy(holders("whole2", "damaged"), want, ask, tell); fleet.KindOf(err) != fleet.Internal || !strings.Contains(err.Error(), "digest") {
		t.Errorf("none is whole: %v", err)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("reset") }
