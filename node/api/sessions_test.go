package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// sessionsStub answers what it was made with, and keeps what it was asked.
type sessionsStub struct {
	one      Node
	oneErr   error
	text     string
	sessions []node.SessionState
}

func (s *sessionsStub) Node(_ context.Context, text string) (Node, error) {
	s.text = text
	return s.one, s.oneErr
}

func (s *sessionsStub) Sessions(context.Context) []node.SessionState { return s.sessions }

func TestOneNode(t *testing.T) {
	t.Parallel()
	b := &stub{sessionsStub: sessionsStub{one: Node{fleet.Member{
		ID: id("web01"), Name: "web01", Status: fleet.Online, Tags: map[string]string{"role": "web"}, LastSeen: moment,
		Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7980"), netip.MustParseAddrPort("[fd00::1]:7980")},
	}, 7}}}
	c := serve(t, b)
	got, err := c.Node(t.Context(), "web/01 ?#%")
	if err != nil || b.text != "web/01 ?#%" {
		t.Fatalf("%q, %v", b.text, err)
	}
	if !got.LastSeen.Equal(moment) {
		t.Error(got.LastSeen)
	}
	got.LastSeen = moment
	if !reflect.DeepEqual(got, b.one) {
		t.Errorf("%+v", got)
	}
	b.oneErr = fleet.Errorf(fleet.NotFound, "no node %q", "web1").Hinted("did you mean web01?")
	if _, err := c.Node(t.Context(), "web1"); fleet.KindOf(err) != fleet.NotFound || !strings.Contains(err.Error(), "web1") {
		t.Error(err)
	}
}

func TestSessionsAreForTheHostsOwner(t *testing.T) {
	t.Parallel()
	b := &stub{sessionsStub: sessionsStub{sessions: []node.SessionState{
		{ID: uuid("a"), By: id("ann"), Operator: "ann", Kind: auth.SessionShell, User: "nobody", Started: moment.UnixMilli(), Active: moment.UnixMilli(), Attached: true},
		{
			ID: uuid("b"), Kind: auth.SessionForward, Forward: []string{"127.0.0.1:22"}, In: 3, Out: 4, Ended: moment.UnixMilli(), Why: "killed by bob",
			Recording: node.SessionRecording{Bytes: 5, Digest: id("x")},
		},
	}}}
	got, err := serve(t, b).Sessions(t.Context())
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if s := got[0]; s.Kind != "shell" || s.User != "nobody" || !s.Attached || !s.Ended.IsZero() || s.Argv == nil || !s.Started.Equal(moment) {
		t.Errorf("%+v", s)
	}
	if s := got[1]; s.Forward[0] != "127.0.0.1:22" || s.In != 3 || s.Out != 4 || !s.Ended.Equal(moment) || s.Why == "" || s.Recorded != 5 || *s.Digest != id("x") {
		t.Errorf("%+v", s)
	}
	for uid, want := range map[uint32]int{0: http.StatusOK, 4711: http.StatusForbidden} {
		r := httptest.NewRequest("GET", "http://muster/v1/sessions", nil)
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, caller{uid: uid}))
		w := httptest.NewRecorder()
		newDesk(b, Options{}).routes().ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("account %d: %d", uid, w.Code)
		}
	}
	if s := shape.OfSessions(nil); s == nil {
		t.Error("no sessions are null in JSON")
	}
}
