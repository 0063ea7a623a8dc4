package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// paramsStub answers about parameters what it was made with, and keeps what it was asked.
type paramsStub struct {
	read     ParamsRead
	news     []ParamsNews
	readErr  error
	asked    node.ParamsAsk
	watching node.ParamsWatch
}

func (s *paramsStub) ReadParams(_ context.Context, ask ParamsAsk) (ParamsRead, error) {
	s.asked = ask
	return s.read, s.readErr
}

func (s *paramsStub) WatchParams(_ context.Context, watch ParamsWatch, each func(ParamsNews) error) error {
	s.watching = watch
	for _, n := range s.news {
		if err := each(n); err != nil {
			return err
		}
	}
	return s.readErr
}

// TestParamsRoundTrip: what the agent answers about parameters is what the client gets.
func TestParamsRoundTrip(t *testing.T) {
	t.Parallel()
	signed := auth.Envelope{Format: 1, Algorithm: auth.Ed25519, Key: id("key"), Body: []byte("body"), Signature: []byte("s")}
	at := params.EventPos{Act: 3, Part: 1}
	b := &stub{paramsStub: paramsStub{
		read: ParamsRead{Age: time.Second, Source: node.FromReplica, As: "operator ada", Answer: params.Answer{
			Act: 3, Time: moment.UnixMilli(), Missing: []params.Missing{{Selector: params.Selector{Name: "/a/b", Label: "live"}, Why: "no"}}, More: true, Next: "/a/c",
		}},
		news: []ParamsNews{{At: at}, {At: at, Lost: true, Events: []params.Event{{Act: 3, Part: 1, Time: moment.UnixMilli(), Kind: params.EventCreated, Name: "/a/b", Born: 1, Version: 1, By: "ada"}}}},
	}}
	c, ctx := serve(t, b), t.Context()
	ask := ParamsAsk{Signed: []auth.Envelope{signed}, Ask: params.Ask{Get: []params.Selector{{Name: "/a/b", Label: "live"}}, Values: true}, Stale: true}
	read, err := c.ReadParams(ctx, ask)
	if err != nil || !reflect.DeepEqual(read, b.read) || !reflect.DeepEqual(b.asked, ask) {
		t.Errorf("got %+v of %+v, %v", read, b.asked, err)
	}
	watch := ParamsWatch{Signed: []auth.Envelope{signed}, Scope: "/a/", After: at}
	var news []ParamsNews
	err = c.WatchParams(ctx, watch, func(n ParamsNews) error { news = append(news, n); return nil })
	if fleet.KindOf(err) != fleet.Unavailable || !reflect.DeepEqual(news, b.news) || !reflect.DeepEqual(b.watching, watch) {
		t.Errorf("got %+v of %+v, %v", news, b.watching, err)
	}
	b.readErr = fleet.Errorf(fleet.Expired, "over").Hinted("sign anew")
	check := func(err error) {
		t.Helper()
		if e, ok := errors.AsType[*fleet.Error](err); !ok || e.Kind != fleet.Expired || e.What != "over" || e.Hint != "sign anew" {
			t.Errorf("got %#v", err)
		}
	}
	_, err = c.ReadParams(ctx, ask)
	check(err)
	check(c.WatchParams(ctx, watch, func(ParamsNews) error { return nil }))
	b.news = nil
	check(c.WatchParams(ctx, watch, func(ParamsNews) error { return nil }))
}

// TestParamsCaller: who asks without a signature is who the kernel says he is, whatever he says himself.
func TestParamsCaller(t *testing.T) {
	t.Parallel()
	nobody, err := user.LookupId("65534")
	if err != nil {
		nobody, err = user.LookupId("1")
	}
	if err != nil {
		t.Fatal("this host has no account but root: ", err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	ask, _ := shape.Marshal(shape.OfParamsAsk(ParamsAsk{Ask: params.Ask{Get: []params.Selector{{Name: "x"}}}}))
	watch, _ := shape.Marshal(shape.OfParamsWatch(ParamsWatch{Scope: "/"}))
	for path, body := range map[string][]byte{"/v1/params/read": ask, "/v1/params/watch": watch} {
		for _, tc := range []struct {
			as   func(*http.Request)
			want []node.LocalUser
			code int
		}{
			{as(0), nil, 200}, {as(uint32(os.Geteuid())), nil, 200}, {as(uint32(uid)), []node.LocalUser{{Name: nobody.Username}}, 200}, {func(*http.Request) {}, nil, 403},
		} {
			b := &stub{}
			r := httptest.NewRequest("POST", "http://muster"+path, bytes.NewReader(body))
			tc.as(r)
			w := httptest.NewRecorder()
			newDesk(b, Options{}).routes().ServeHTTP(w, r)
			local := b.asked.Local
			if path == "/v1/params/watch" {
				local = b.watching.Local
			}
			if w.Code != tc.code || !reflect.DeepEqual(local, tc.want) {
				t.Errorf("%s as %v: %d, %v", path, tc.want, w.Code, local)
			}
		}
	}
	// On a lane a client's own word about the account counts as little.
	b := &stub{}
	s := newDesk(b, Options{})
	s.answerLane(t.Context(), laneAsk{Read: []node.ParamsAsk{{Local: []node.LocalUser{{Name: "root"}}}}}, laneCaller{name: "nobody", local: []node.LocalUser{{Name: "nobody"}}})
	if !reflect.DeepEqual(b.asked.Local, []node.LocalUser{{Name: "nobody"}}) {
		t.Errorf("on a lane %v asks", b.asked.Local)
	}
}
