package authtest_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestFoundedFleetHolds(t *testing.T) {
	f := authtest.Found("a")
	first, err := f.Record.Roster.Enrolled(f.Nodes[0].ID)
	if err != nil || !first.Server || first.Name != "node-0" {
		t.Fatalf("first node: %+v, %v", first, err)
	}
	if op, err := f.Record.Charter.Current(f.Operator.ID(), f.Now); err != nil || op.Name != authtest.OperatorName {
		t.Fatalf("operator: %+v, %v", op, err)
	}
	web := f.AddNode("web-1", map[string]string{"role": "web"}, nil)
	if n, ok := f.Record.Roster.ByName("web-1"); !ok || n.ID != web.ID || n.Tags["role"] != "web" || n.Server {
		t.Fatalf("second node: %+v", n)
	}
	f.MustTake(f.TagNode(web.ID, map[string]string{"role": "db"}, true))
	f.Advance(time.Minute)
	f.MustTake(f.RemoveNode(web.ID))
	if f.Record.Roster.Len() != 1 {
		t.Fatalf("%d nodes after the removal of one of two", f.Record.Roster.Len())
	}
	bob := f.AddOperator("bob", "web")
	f.MustTake(f.DeleteOperator("bob", bob, false))
	f.SetPolicy(auth.FirstPolicy + "// more\n")
}

func TestActsMakeTheRecordAgain(t *testing.T) {
	f := authtest.Found("a")
	f.AddNode("web-1", nil, nil)
	record := auth.NewRecord()
	for _, act := range f.Acts {
		var err error
		if record, err = record.Apply(act, f.ID()); err != nil {
			t.Fatal(err)
		}
	}
	if record.Head != f.Record.Head {
		t.Fatalf("head %s, not %s", record.Head, f.Record.Head)
	}
}

func TestSameSeedSameBytes(t *testing.T) {
	build := func(seed string) fleet.ID {
		f := authtest.Found(seed)
		f.AddNode("web-1", nil, nil)
		return f.Record.Head
	}
	first := build("a")
	if build("a") != first {
		t.Error("one seed made two fleets")
	}
	if build("b") == first {
		t.Error("two seeds made one fleet")
	}
}

func TestKeyringsOfTheFixtureHold(t *testing.T) {
	f := authtest.FoundWithSecrets("a")
	f.SealSeed = func(keyring string, _ fleet.UUID, number uint32, seed, public []byte) []byte {
		return append([]byte{byte(number)}, seed...) // not sealed at all
	}
	web := f.AddNode("web-1", map[string]string{"role": "web"}, nil)
	k := f.AddKeyring("web", "tag.role=web")
	if _, e, err := f.Record.Sealable("web"); err != nil || e.Number != 1 || !bytes.Equal(e.Key, authtest.Public(f.EpochSeed("web", k.Life, 1))) {
		t.Fatalf("%+v, %v", e, err)
	}
	if n, _ := f.Record.Roster.Node(web.ID); n.HPKE != fleet.Sum(authtest.Public(web.Private)) {
		t.Error("the node's HPKE key is not the roster's")
	}
	if k = f.RotateKeyring("web", web); k.Current().Number != 2 || len(k.Current().Escrow) != 2 || k.Current().Escrow[0].Box[0] != 2 {
		t.Errorf("rotated: %+v", k.Current())
	}
	f.MustTake(f.ChangeKeyring("web", "id="+web.ID.Text(), true))
	f.MustTake(f.KeyringEpoch("web", web, 2))
	if err := f.Take(f.KeyringHolding("web", web)); err == nil {
		t.Error("the maker holds it twice")
	}
	f.MustTake(f.DeleteKeyring("web"))
}
