package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/user"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// keyringStub answers what it was made with, and keeps what it was asked.
type keyringStub struct {
	list  node.KeyringList
	key   []byte
	value []byte
	err   error

	name    string
	node    fleet.ID
	signed  auth.Envelope
	ref     node.SecretRef
	account string
}

func (s *keyringStub) Keyrings(_ context.Context, name string) node.KeyringList {
	s.name = name
	return s.list
}

func (s *keyringStub) HandOver(_ context.Context, to fleet.ID, signed auth.Envelope) error {
	s.node, s.signed = to, signed
	return s.err
}

func (s *keyringStub) NodeHPKE(_ context.Context, id fleet.ID) ([]byte, error) {
	s.node = id
	return s.key, s.err
}

func (s *keyringStub) OpenParam(_ context.Context, ref node.SecretRef, account string) ([]byte, error) {
	s.ref, s.account = ref, account
	return s.value, s.err
}

func TestKeyringsRoundTrip(t *testing.T) {
	t.Parallel()
	b := &stub{keyringStub: keyringStub{
		key: []byte("public"), value: []byte("correct \xff horse"),
		list: node.KeyringList{Recovery: []byte("recovery"), All: []node.KeyringInfo{{
			Name: "web", Life: uuid("life"), Target: "tag.role=web", Changed: moment.UnixMilli(), By: "alice", Due: "node web03 left it", Closed: true,
			Members: []node.KeyringMember{{ID: id("web01"), Name: "web01", Alive: true, Said: true, Holds: 2}, {ID: id("web02"), Name: "web02"}},
			Could:   []node.KeyringFormer{{ID: id("web03"), Name: "web03", Last: 2, Left: moment.UnixMilli()}},
			Epochs: []auth.KeyEpoch{
				{Number: 1, Key: []byte("one"), Made: moment.UnixMilli(), By: "alice", Used: moment.UnixMilli(), Holders: []fleet.ID{}, Escrow: []auth.Escrow{{Operator: "alice", Key: id("a"), Box: []byte("box")}}},
				{Number: 2, Key: []byte("two"), Made: moment.UnixMilli() + 5, ByNode: id("web01"), Need: 2, Holders: []fleet.ID{id("web01")}, Escrow: []auth.Escrow{{Key: id("r"), Box: []byte("box")}}},
			},
		}}},
	}}
	c, ctx := serve(t, b), t.Context()
	same := func(what string, got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", what, got, err, want)
		}
	}
	list, err := c.Keyrings(ctx, "we b&")
	same("keyrings", list, err, b.list)
	same("name", b.name, nil, "we b&")
	key, err := c.NodeHPKE(ctx, id("web01"))
	same("key", key, err, []byte("public"))
	same("node", b.keyringStub.node, nil, id("web01"))
	signed := auth.Envelope{Format: 1, Algorithm: auth.Ed25519, Key: id("key"), Body: []byte("body"), Signature: []byte("s")}
	same("handed over", signed, c.HandOver(ctx, id("web02"), signed), b.keyringStub.signed)
	same("node", b.keyringStub.node, nil, id("web02"))
	ref := node.SecretRef{Name: "/app/x", Born: moment.UnixMilli(), Version: 3, Digest: id("content")}
	value, err := c.OpenParam(ctx, ref)
	same("value", value, err, []byte("correct \xff horse"))
	same("ref", b.ref, nil, ref)
	same("account", b.account, nil, "") // whoever runs this test is the agent's own account
	b.keyringStub.err = fleet.Errorf(fleet.Unavailable, "later").Hinted("wait")
	if _, err := c.OpenParam(ctx, ref); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("%v", err)
	}
	if _, err := c.NodeHPKE(ctx, id("web01")); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("%v", err)
	}
	if err := c.HandOver(ctx, id("web01"), signed); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("%v", err)
	}
}

// Who opens a secret is the kernel's word: root and the agent's own account are the host, others go by their name, and who
// has none gets nothing.
func TestWhoOpensSecrets(t *testing.T) {
	t.Parallel()
	const uid = 65534
	as, code := "-", http.StatusForbidden
	if nobody, err := user.LookupId(strconv.Itoa(uid)); err == nil { // some images have no accounts
		as, code = nobody.Username, http.StatusOK
	}
	body := `{"name":"/a","born":1,"version":1,"digest":"` + id("x").Text() + `"}`
	for name, c := range map[string]struct {
		who  *caller
		as   string
		code int
	}{
		"root":             {&caller{uid: 0}, "", http.StatusOK},
		"the agent":        {&caller{uid: 12345}, "", http.StatusOK},
		"somebody":         {&caller{uid: uid}, as, code},
		"without a name":   {&caller{uid: 4_000_000_123}, "-", http.StatusForbidden},
		"nobody can tell":  {nil, "-", http.StatusForbidden},
		"a group's member": {&caller{uid: uid, groups: []uint32{0}}, as, code},
	} {
		b := &stub{keyringStub: keyringStub{value: []byte("v"), account: "-"}}
		desk := newDesk(b, Options{})
		desk.self = 12345
		r := httptest.NewRequest("POST", "http://muster/v1/params/open", strings.NewReader(body))
		if c.who != nil {
			r = r.WithContext(context.WithValue(r.Context(), callerKey{}, *c.who))
		}
		w := httptest.NewRecorder()
		desk.routes().ServeHTTP(w, r)
		if w.Code != c.code || b.account != c.as {
			t.Errorf("%s: %d %s as %q", name, w.Code, w.Body, b.account)
		}
	}
}
