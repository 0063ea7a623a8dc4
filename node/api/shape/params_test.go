package shape

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

var update = flag.Bool("update", false, "write the golden files anew")

const paramMoment = 1_800_000_000_123

func envelope(body string) auth.Envelope {
	return auth.Envelope{Format: 1, Algorithm: auth.Ed25519, Key: fleet.Sum([]byte("ada")), Body: []byte(body), Signature: []byte("signature")}
}

// everyParam has every field of an answer.
func everyParam() node.ParamsRead {
	plain := params.PlainContent([]byte("db.example:5432")).Encode()
	put := params.Put{
		Name: "/app/db", Born: paramMoment - 5000, Version: 3, Type: params.String, DataType: params.DataText, Digest: fleet.Sum(plain), Size: 15,
		Description: "where", Pattern: ".*", Tier: params.Advanced, Policies: []params.Policy{{Kind: params.Expiration, At: paramMoment + 3_600_000}},
		Tags: map[string]string{"env": "prod"}, Labels: []string{"live"}, Seq: 2,
	}
	secret := put
	secret.Name, secret.Type, secret.Version = "/app/password", params.SecureString, 1
	secret.Readers = []params.Reader{
		{Kind: params.ByKeyring, Name: "web", Life: fleet.UUID{1}, Epoch: 4, Key: fleet.Sum([]byte("k"))},
		{Kind: params.ByOperator, Name: "ada", Key: fleet.Sum([]byte("o"))}, {Kind: params.ByRecovery, Key: fleet.Sum([]byte("r"))},
	}
	body := func(p params.Put) []byte { return wire.Marshal(params.Op{Salt: fleet.UUID{9}, Put: []params.Put{p}}) }
	return node.ParamsRead{
		Age: 1500 * time.Millisecond, Source: node.FromCopy, As: "operator ada",
		Answer: params.Answer{
			Act: 9, Time: paramMoment, More: true, Next: "/app/password",
			Items: []params.Item{
				{Selector: ":live", Change: envelope("change"), Op: 1, Body: body(put), Content: [][]byte{plain}, Newest: 4, Seq: 2, Operator: "ada",
					Time: paramMoment, Act: 7, Labels: []string{"live"}, Proof: []params.LabelProof{{Change: envelope("label"), Op: 2, Body: []byte("label op")}}},
				{Change: envelope("change"), Body: body(secret), Newest: 1, Operator: "ada", Time: paramMoment, Act: 8},
			},
			Missing: []params.Missing{{Selector: params.Selector{Name: "/app/none", Version: 7}, Why: "policy: no"}},
		},
	}
}

func everyAsk() []node.ParamsAsk {
	filters := []params.Filter{{Key: "Type", Option: "Equals", Values: []string{"String"}}}
	signed := []auth.Envelope{envelope("read")}
	return []node.ParamsAsk{
		{Signed: signed, Stale: true, Ask: params.Ask{Values: true, Get: []params.Selector{{Name: "/app/db", Label: "live"}, {Name: "x", Version: 2}, {Name: "y"}}}},
		{Ask: params.Ask{Path: []params.PathAsk{{Path: "/app", Recursive: true, Filters: filters, Max: 3, After: "/app/b"}}}},
		{Ask: params.Ask{List: []params.ListAsk{{Filters: filters, Max: 3, After: "/app/b"}}}},
		{Ask: params.Ask{List: []params.ListAsk{{}}}},
		{Ask: params.Ask{History: []params.HistoryAsk{{Name: "/app/db", Max: 3, After: 4}}}},
	}
}

func everyNews() node.ParamsNews {
	return node.ParamsNews{At: params.EventPos{Act: 7, Part: 1}, Lost: true, Events: []params.Event{
		{Act: 6, Part: 2, Time: paramMoment, Kind: params.EventLabelled, Name: "/app/db", Born: 5, Version: 3, Labels: []string{"live"}, By: "ada", Tags: map[string]string{"env": "prod"}},
		{Act: 7, Kind: params.EventExpired, Name: "x", Born: 6},
	}}
}

// TestParamsShapes: nothing is lost on the way to JSON and back.
func TestParamsShapes(t *testing.T) {
	t.Parallel()
	for _, want := range []node.ParamsRead{everyParam(), {}} {
		var back ParamsRead
		through(t, OfParamsRead(want), &back)
		got, err := back.Read()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
	for _, want := range everyAsk() {
		raw, err := Marshal(OfParamsAsk(want))
		if err != nil {
			t.Fatal(err)
		}
		var back ParamsAsk
		if err := Ask(bytes.NewReader(raw), &back); err != nil {
			t.Fatal(err)
		}
		if got, err := back.Ask(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
	for _, want := range []node.ParamsWatch{{Scope: "/app/", Signed: []auth.Envelope{envelope("read")}, After: params.EventPos{Act: 3, Part: 1}}, {Scope: "x"}} {
		var back ParamsWatch
		through(t, OfParamsWatch(want), &back)
		if got, err := back.Watch(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
	var back ParamsNews
	through(t, OfParamsNews(everyNews()), &back)
	if got := back.News(); !reflect.DeepEqual(got, everyNews()) {
		t.Errorf("got %+v\nwant %+v", got, everyNews())
	}
}

// TestParamsGolden: what programs read stays as it is.
func TestParamsGolden(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]any{
		"params-read": OfParamsRead(everyParam()), "params-ask": OfParamsAsk(everyAsk()[0]), "params-ask-path": OfParamsAsk(everyAsk()[1]),
		"params-ask-list": OfParamsAsk(everyAsk()[3]), "params-news": OfParamsNews(everyNews()),
	} {
		raw, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(path, append(raw, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(append(raw, '\n'), want) {
			t.Errorf("%s: %v\n%s", name, err, raw)
		}
	}
}

// FuzzParams: whatever a program asks, or an agent answers, comes to one value, which comes to itself again.
func FuzzParams(f *testing.F) {
	for _, ask := range everyAsk() {
		raw, _ := Marshal(OfParamsAsk(ask))
		f.Add(raw)
	}
	for _, v := range []any{OfParamsRead(everyParam()), OfParamsNews(everyNews()), OfParamsWatch(node.ParamsWatch{Scope: "/"})} {
		raw, _ := Marshal(v)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ask ParamsAsk
		if Ask(bytes.NewReader(data), &ask) == nil {
			if one, err := ask.Ask(); err == nil {
				two, err := OfParamsAsk(one).Ask()
				if err != nil || !bytes.Equal(wire.Marshal(one), wire.Marshal(two)) {
					t.Fatalf("%+v came to %+v, %v", one, two, err)
				}
			}
		}
		var watch ParamsWatch
		if Ask(bytes.NewReader(data), &watch) == nil {
			_, _ = watch.Watch()
		}
		var read ParamsRead
		if Unmarshal(data, &read) == nil {
			if one, err := read.Read(); err == nil {
				if _, err := OfParamsRead(one).Read(); err != nil {
					t.Fatalf("%+v cannot be read again: %v", one, err)
				}
			}
		}
		var news ParamsNews
		if Unmarshal(data, &news) == nil {
			_ = OfParamsNews(news.News())
		}
	})
}
