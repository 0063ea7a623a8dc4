package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// vault is a secret of a town with a keyring, as servers answer with it.
type vault struct {
	*town
	item params.Item
	put  params.Put
	ref  SecretRef
	seed []byte // of the keyring's first epoch
}

func newVault(t testing.TB) *vault {
	t.Helper()
	v := &vault{town: ringTown()}
	k := v.Keyring("web")
	v.seed = v.EpochSeed("web", k.Life, 1)
	v.item, v.put = v.sealed(t, "/app/x", []params.Recipient{
		{Reader: params.Reader{Kind: params.ByOperator, Name: authtest.OperatorName}, Public: authtest.Public(v.OperatorPrivate(authtest.OperatorName))},
		{Reader: params.Reader{Kind: params.ByKeyring, Name: "web", Life: k.Life, Epoch: 1}, Public: k.Newest().Key},
	})
	v.ref = SecretRef{Name: v.put.Name, Born: v.put.Born, Version: 1, Digest: v.put.Digest}
	return v
}

// sealed makes the first version of a secret.
func (w *town) sealed(t testing.TB, name string, to []params.Recipient) (params.Item, params.Put) {
	t.Helper()
	head := w.Header(time.Minute)
	sealed, readers, err := params.Seal(params.Binding{Fleet: w.ID(), Name: name, Born: head.Issued, Version: 1}, []byte("value of "+name), [32]byte{1}, to)
	if err != nil {
		t.Fatal(err)
	}
	content := params.SealedContent(sealed).Encode()
	put := params.Put{
		Name: name, Born: head.Issued, Version: 1, Type: params.SecureString, DataType: "text", Digest: fleet.Sum(content),
		Size: uint32(params.SealedSize(len("value of " + name))), Tier: params.Standard, Readers: readers, Tags: map[string]string{"app": "shop"},
	}
	return w.itemOf(put, head, content), put
}

func (w *town) itemOf(put params.Put, head auth.Header, content []byte) params.Item {
	change, bodies := params.Commit(head, []params.Op{{Salt: w.NewID(), Put: []params.Put{put}}})
	return params.Item{Selector: "", Change: w.Sign(auth.ForParams, change), Op: 0, Body: bodies[0], Content: [][]byte{content}, Newest: 1}
}

// open opens a secret as a node that holds those seeds.
func (v *vault) open(item params.Item, ref SecretRef, self fleet.ID, seeds ...[]byte) (string, error) {
	put, sealed, err := CheckSecret(v.Record, item, ref)
	if err != nil {
		return "", err
	}
	byKey := map[fleet.ID][]byte{}
	for _, s := range seeds {
		byKey[fleet.Sum(authtest.Public(s))] = s
	}
	life := v.Keyring("web").Life
	at, err := SecretReader(v.Record, self, put, func(s SeedName) bool { return byKey[s.Key] != nil && s.Life == life && s.Number == 1 })
	if err != nil {
		return "", err
	}
	value, err := sealed.Open(SecretPlace(v.ID(), put), put.Readers, at, byKey[put.Readers[at].Key])
	return string(value), err
}

// Each way in which a secret does not open has an error of its own.
func TestSecretsOpenForTheirReaders(t *testing.T) {
	v := newVault(t)
	member, other := v.Nodes[3].ID, v.Nodes[1].ID
	bent := v.item
	bent.Content = [][]byte{append([]byte(nil), v.item.Content[0]...)}
	bent.Content[0][len(bent.Content[0])/3] ^= 1
	empty := v.item
	empty.Content = nil
	// Somebody who may write, or an operator's mistake: what was sealed for /app/x stands as another parameter.
	movedPut := v.put
	movedPut.Name = "/app/y"
	moved := v.itemOf(movedPut, v.Header(time.Minute), v.item.Content[0])
	movedRef := v.ref
	movedRef.Name = "/app/y"
	plain := params.PlainContent([]byte("plain")).Encode()
	plainPut := params.Put{Name: "/app/p", Born: v.put.Born, Version: 1, Type: params.String, DataType: "text", Digest: fleet.Sum(plain), Size: 5, Tier: params.Standard}
	plainItem := v.itemOf(plainPut, v.Header(time.Minute), plain)
	plainItem.Change.Key = v.item.Change.Key
	forged := v.item
	forged.Change = v.Nodes[1].Signer.Sign(auth.ForParams, v.ID(), []string{"x"})
	version := v.ref
	version.Version = 2
	digest := v.ref
	digest.Digest[0] ^= 1
	for name, c := range map[string]struct {
		item  params.Item
		ref   SecretRef
		self  fleet.ID
		seeds [][]byte
		want  fleet.Kind
		says  string
	}{
		"a member":             {v.item, v.ref, member, [][]byte{v.seed}, fleet.Kind(0), ""},
		"who was a member":     {v.item, v.ref, other, [][]byte{v.seed}, fleet.Kind(0), ""},
		"without the key":      {v.item, v.ref, member, nil, fleet.Unavailable, "muster keyring show web"},
		"another key":          {v.item, v.ref, member, [][]byte{authtest.Private("x")}, fleet.Unavailable, "waits for its key"},
		"no reader":            {v.item, v.ref, other, nil, fleet.Denied, "its readers are operator:ada, keyring:web"},
		"tampered":             {bent, v.ref, member, [][]byte{v.seed}, fleet.Denied, ""},
		"not there":            {empty, v.ref, member, [][]byte{v.seed}, fleet.Invalid, ""},
		"moved":                {moved, movedRef, member, [][]byte{v.seed}, fleet.Denied, "sealed for another parameter"},
		"another version":      {v.item, version, member, [][]byte{v.seed}, fleet.Denied, "another came"},
		"another content":      {v.item, digest, member, [][]byte{v.seed}, fleet.Denied, "another came"},
		"signed by a server":   {forged, v.ref, member, [][]byte{v.seed}, fleet.Denied, ""},
		"for another":          {v.item, movedRef, member, [][]byte{v.seed}, fleet.Denied, "another came"},
		"a parameter in clear": {plainItem, SecretRef{"/app/p", plainPut.Born, 1, plainPut.Digest}, member, [][]byte{v.seed}, fleet.Invalid, "no secret"},
	} {
		got, err := v.open(c.item, c.ref, c.self, c.seeds...)
		if c.want == fleet.Kind(0) {
			if err != nil || got != "value of /app/x" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			continue
		}
		said := fmt.Sprint(err)
		if e, ok := err.(*fleet.Error); ok {
			said += " " + e.Hint
		}
		if fleet.KindOf(err) != c.want || !strings.Contains(said, c.says) {
			t.Errorf("%s: %v (%s), want %s that says %q", name, said, fleet.KindOf(err), c.want, c.says)
		}
	}
}

func TestSecretItem(t *testing.T) {
	v := newVault(t)
	sealed := params.Answer{Items: []params.Item{v.item}}
	closed := params.Answer{Items: []params.Item{{}}}
	missing := params.Answer{Missing: []params.Missing{{Why: "policy says no"}}}
	for name, c := range map[string]struct {
		read ParamsRead
		want fleet.Kind
		ok   bool
	}{
		"from the leader":         {ParamsRead{Answer: sealed, Source: FromLeader}, 0, true},
		"from a copy":             {ParamsRead{Answer: sealed, Source: FromCopy}, 0, true},
		"missing at the leader":   {ParamsRead{Answer: missing, Source: FromLeader}, fleet.NotFound, false},
		"missing at a replica":    {ParamsRead{Answer: missing, Source: FromReplica}, fleet.Unavailable, false},
		"denied by the leader":    {ParamsRead{Answer: closed, Source: FromLeader}, fleet.Denied, false},
		"held back by a replica":  {ParamsRead{Answer: closed, Source: FromReplica}, fleet.Unavailable, false},
		"nothing from the leader": {ParamsRead{Source: FromLeader}, fleet.NotFound, false},
	} {
		_, err := SecretItem(c.read, v.ref)
		if (err == nil) != c.ok || !c.ok && fleet.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Policy is asked about the node itself, or about the account for which it opens.
func TestMayOpen(t *testing.T) {
	v := newVault(t)
	self := v.Nodes[3].ID
	may := func(account string) bool { return MayOpen(v.Record, self, account, v.put) == nil }
	if !may("") || may("www") {
		t.Error("by the first policy the host itself may, and its accounts may not")
	}
	v.SetPolicy(`permit (principal in Team::"root", action, resource);
permit (principal == LocalUser::"www", action, resource is Parameter) when { principal.node == "node-3" && resource.getTag("app") == "shop" };
permit (principal == LocalUser::"reader", action == Action::"param.read", resource is Parameter);`)
	if may("") || !may("www") || may("reader") || may("root") {
		t.Error("policy is not asked about who wants it")
	}
	self = v.Nodes[4].ID
	if may("www") {
		t.Error("an account of another host")
	}
	v.take(v.RemoveNode(self))
	if may("") {
		t.Error("a node that was removed")
	}
}

func TestOpenedIsNotPrinted(t *testing.T) {
	o := Opened{Value: []byte("hush"), Tags: map[string]string{"a": "b"}}
	for _, text := range []string{fmt.Sprint(o), fmt.Sprintf("%+v", o), fmt.Sprintf("%#v", o), o.String()} {
		if strings.Contains(text, "hush") || strings.Contains(text, "104") {
			t.Error(text)
		}
	}
}

func TestListKeyrings(t *testing.T) {
	w := ringTown()
	w.take(w.NewKeyring("db", "id="+w.Nodes[1].ID.Text()))
	k := w.Keyring("web")
	said := map[fleet.ID]SeedsHeld{w.Nodes[3].ID: {k.Life: 1}, w.Nodes[4].ID: {}}
	alive := func(id fleet.ID) bool { return id != w.Nodes[7].ID }
	list := ListKeyrings(w.Record, "", alive, said, w.Now)
	if len(list.All) != 2 || len(list.Recovery) == 0 || list.All[0].Name != "db" {
		t.Fatalf("%+v", list)
	}
	web := ListKeyrings(w.Record, "web", alive, said, w.Now).All
	if len(web) != 1 || len(web[0].Members) != 5 || web[0].Target != "tag.role=web" || web[0].Due != "" || web[0].Closed || len(web[0].Epochs) != 1 {
		t.Fatalf("%+v", web)
	}
	for i, want := range []KeyringMember{
		{ID: w.Nodes[3].ID, Name: "node-3", Alive: true, Said: true, Holds: 1}, {ID: w.Nodes[4].ID, Name: "node-4", Alive: true, Said: true},
		{ID: w.Nodes[5].ID, Name: "node-5", Alive: true}, {ID: w.Nodes[6].ID, Name: "node-6", Alive: true}, {ID: w.Nodes[7].ID, Name: "node-7"},
	} {
		if web[0].Members[i] != want {
			t.Errorf("%+v, want %+v", web[0].Members[i], want)
		}
	}
	w.remove(7)
	web = ListKeyrings(w.Record, "web", alive, said, w.Now).All
	if len(web[0].Members) != 4 || !web[0].Closed || !strings.Contains(web[0].Due, "node-7") || len(web[0].Could) != 1 || web[0].Could[0].Last != 1 {
		t.Errorf("%+v", web[0])
	}
	if none := ListKeyrings(auth.NewRecord(), "", alive, nil, w.Now); len(none.All) != 0 {
		t.Error("before there is a fleet")
	}
	if held := NewestHeld(w.Record, func(s SeedName) bool { return s == w.seedName(1) }); len(held) != 1 || held[k.Life] != 1 {
		t.Errorf("%v", held)
	}
}

// People are told of a key in use that its maker keeps to itself.
func TestListKeyringsAlone(t *testing.T) {
	w := ringTown()
	w.RotateKeyring("web", w.Nodes[3])
	k := w.Keyring("web")
	said := func(holds ...uint32) string {
		all := map[fleet.ID]SeedsHeld{}
		for i, number := range holds {
			all[w.Nodes[3+i].ID] = SeedsHeld{k.Life: number}
		}
		return ListKeyrings(w.Record, "web", func(fleet.ID) bool { return true }, all, w.Now).All[0].Alone
	}
	for name, c := range map[string]struct{ got, want string }{
		"others have it":      {said(2, 1, 2), ""},
		"it alone has it":     {said(2, 1, 0), "node-3"},
		"only it says":        {said(2), ""},
		"nobody says":         {said(), ""},
		"its maker does not":  {said(1, 1), "node-3"},
		"the others have one": {said(0, 2, 2, 2, 2), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q", name, c.got)
		}
	}
}
