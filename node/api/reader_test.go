package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// shelf answers questions by name: with "gone" in it it is missing, with "hidden" missing behind all else, as what an agent
// hides from an account, and with "refuses" the question is refused.
type shelf struct {
	t    *testing.T
	hold gate
	kind fleet.Kind // of refusals
	from node.ParamsSource

	mu    sync.Mutex
	asked [][]params.Selector
	now   int // the value
}

func (s *shelf) answer(ask laneAsk) laneAnswer {
	get := ask.Read[0].Ask.Get
	s.mu.Lock()
	s.asked = append(s.asked, get)
	value := s.now
	s.mu.Unlock()
	if s.hold != nil {
		s.hold.wait()
	}
	time.Sleep(10 * time.Millisecond) // of the bubble
	read := ParamsRead{Source: s.from, Answer: params.Answer{Act: uint64(value)}}
	var hidden []params.Missing
	for _, want := range get {
		missing := params.Missing{Selector: want, Why: "no " + want.String()}
		switch {
		case strings.Contains(want.Name, "refuses"):
			return failed(s.kind)
		case strings.Contains(want.Name, "gone"):
			read.Answer.Missing = append(read.Answer.Missing, missing)
		case strings.Contains(want.Name, "hidden"):
			hidden = append(hidden, missing)
		default:
			read.Answer.Items = append(read.Answer.Items, itemOf(want))
		}
	}
	read.Answer.Missing = append(read.Answer.Missing, hidden...)
	if len(get) == 1 && len(read.Answer.Items) == 0 && s.from == node.FromCopy {
		return failed(fleet.Unavailable) // as an agent that is cut off
	}
	return laneAnswer{Read: []node.ParamsRead{read}}
}

func itemOf(s params.Selector) params.Item {
	body := wire.Marshal(params.Op{Put: []params.Put{{Name: s.Name, Version: max(1, s.Version)}}})
	return params.Item{Selector: s.Suffix(), Body: body, Content: [][]byte{[]byte("value of " + s.String())}}
}

// is reports whether a part is about that selector.
func is(read ParamsRead, s params.Selector) bool {
	a := read.Answer
	if strings.Contains(s.Name, "gone") || strings.Contains(s.Name, "hidden") {
		return len(a.Items) == 0 && len(a.Missing) == 1 && a.Missing[0].Selector == s
	}
	return len(a.Missing) == 0 && len(a.Items) == 1 && string(a.Items[0].Content[0]) == "value of "+s.String()
}

// TestReader: each of many gets its own answer, whatever the others asked for; what several ask for is asked once.
func TestReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{t: t, from: node.FromLeader, kind: fleet.Denied}
		lane, _ := laneTo(t, s.answer)
		r := NewReader(lane, func() auth.Envelope { return auth.Envelope{Body: []byte("signed")} }, true)
		var work sync.WaitGroup
		for i := range 1000 {
			want := params.Selector{Name: fmt.Sprintf("/t/p%d", i%97)}
			switch i % 97 % 5 {
			case 1:
				want.Name += "/t/hidden"
			case 2:
				want.Name += "/t/gone"
			case 3:
				want.Version = 3
			case 4:
				want.Label = "live"
			}
			work.Go(func() {
				read, err := r.Get(t.Context(), want)
				if err != nil || !is(read, want) || read.Source != node.FromLeader {
					t.Errorf("%s: %+v, %v", want, read, err)
				}
			})
		}
		work.Wait()
		for _, get := range s.asked {
			for i, one := range get {
				if slices.Contains(get[:i], one) {
					t.Errorf("%s is asked for twice in a question", one)
				}
			}
		}
		if n := len(s.asked); n > 1000/params.MaxGet+2*readerUnderway {
			t.Errorf("%d questions", n)
		}
		if _, err := r.Get(t.Context(), params.Selector{Name: "no name"}); err == nil || len(s.asked[len(s.asked)-1]) == 0 {
			t.Errorf("what is no name: %v", err)
		}
	})
}

// TestReaderRefused: one whose question is refused fails alone, whatever it says; one that the agent has no time for waits for
// its caller.
func TestReaderRefused(t *testing.T) {
	for _, kind := range []fleet.Kind{fleet.Denied, fleet.Unavailable, fleet.Internal, fleet.Exhausted} {
		synctest.Test(t, func(t *testing.T) {
			s := &shelf{t: t, from: node.FromLeader, kind: kind, hold: make(gate)}
			lane, _ := laneTo(t, s.answer)
			r := NewReader(lane, nil, false)
			var work sync.WaitGroup
			for _, name := range []string{"/t/first", "/t/a", "/t/a", "/b/refuses", "/t/c", "/d/gone"} {
				work.Go(func() {
					want := params.Selector{Name: name}
					read, err := r.Get(t.Context(), want)
					fails := strings.Contains(name, "refuses") || kind == fleet.Exhausted && name != "/t/first"
					if fails && fleet.KindOf(err) != kind || !fails && (err != nil || !is(read, want)) {
						t.Errorf("%s, %s: %+v, %v", kind, name, read, err)
					}
				})
				synctest.Wait()
			}
			s.hold.open()
			work.Wait()
			want := 2 + 4 // the first, the others together, and each name of them
			if kind == fleet.Exhausted {
				want = 2
			}
			if len(s.asked) != want {
				t.Errorf("%s: %v", kind, s.asked)
			}
		})
	}
}

// TestReaderCutOff: what an agent that is cut off has no copy of fails as it would alone, and is not called missing.
func TestReaderCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{t: t, from: node.FromCopy, hold: make(gate)}
		lane, _ := laneTo(t, s.answer)
		r := NewReader(lane, nil, false)
		var work sync.WaitGroup
		for _, name := range []string{"/t/first", "/t/a", "/b/gone"} {
			work.Go(func() {
				want := params.Selector{Name: name}
				read, err := r.Get(t.Context(), want)
				if gone := strings.Contains(name, "gone"); gone && fleet.KindOf(err) != fleet.Unavailable || !gone && (err != nil || !is(read, want)) {
					t.Errorf("%s: %+v, %v", name, read, err)
				}
			})
			synctest.Wait()
		}
		s.hold.open()
		work.Wait()
	})
}

// TestReaderFresh: nobody gets the answer to a question that was asked before he came.
func TestReaderFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{t: t, from: node.FromLeader, hold: make(gate)}
		lane, _ := laneTo(t, s.answer)
		r := NewReader(lane, nil, false)
		var work sync.WaitGroup
		for i := range 5 * params.MaxGet {
			s.mu.Lock()
			s.now = i
			s.mu.Unlock()
			work.Go(func() {
				read, err := r.Get(t.Context(), params.Selector{Name: "/t/a"})
				if err != nil || read.Answer.Act < uint64(i) {
					t.Errorf("%d: as of %d, %v", i, read.Answer.Act, err)
				}
			})
			synctest.Wait()
		}
		s.hold.open()
		work.Wait()
	})
}

// TestReaderEnds: a lane that breaks, and a caller who gives up, leave nobody waiting and nothing behind.
func TestReaderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{t: t, from: node.FromLeader, hold: make(gate)}
		lane, hangUp := laneTo(t, s.answer)
		r := NewReader(lane, nil, false)
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for i := range 2 * readerUnderway * params.MaxGet {
			work.Go(func() {
				at, given := t.Context(), i%2 == 0
				if given {
					at = ctx
				}
				if _, err := r.Get(at, params.Selector{Name: fmt.Sprint("/t/p", i)}); given != (err == context.Canceled) || !given && fleet.KindOf(err) != fleet.Unavailable {
					t.Errorf("%d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		waited := len(r.asks.waiting)
		cancel()
		synctest.Wait()
		if left := len(r.asks.waiting); waited == 0 || left > (waited+1)/2 {
			t.Errorf("%d of %d wait", left, waited)
		}
		hangUp()
		work.Wait()
		s.hold.open()
		if _, err := r.Get(ctx, params.Selector{Name: "/t/a"}); err != context.Canceled {
			t.Errorf("by who has given up: %v", err)
		}
		if _, err := r.Get(t.Context(), params.Selector{Name: "/t/a"}); fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("on a broken lane: %v", err)
		}
	})
}

// TestPartsOf: nobody is given what another asked for, even where an answer leaves things out or names them otherwise.
func TestPartsOf(t *testing.T) {
	t.Parallel()
	a, b, c := params.Selector{Name: "/t/a"}, params.Selector{Name: "/t/b", Version: 3}, params.Selector{Name: "/t/c"}
	missing := func(s params.Selector) params.Missing { return params.Missing{Selector: s} }
	for what, tc := range map[string]struct {
		answer params.Answer
		want   string
	}{
		"all":                      {params.Answer{Items: []params.Item{itemOf(a), itemOf(b), itemOf(c)}}, "/t/a /t/b:3 /t/c"},
		"missing behind":           {params.Answer{Items: []params.Item{itemOf(c)}, Missing: []params.Missing{missing(b), missing(a)}}, "no/t/a no/t/b:3 /t/c"},
		"missing by another name":  {params.Answer{Items: []params.Item{itemOf(a), itemOf(c)}, Missing: []params.Missing{missing(params.Selector{Name: "/t/b"})}}, "/t/a /t/c"},
		"left out":                 {params.Answer{Items: []params.Item{itemOf(b), itemOf(c)}}, "/t/b:3 /t/c"},
		"nothing":                  {params.Answer{}, ""},
		"more than was asked for":  {params.Answer{Items: []params.Item{itemOf(c), itemOf(b), itemOf(a), itemOf(a)}}, "/t/a /t/b:3 /t/c"},
		"another, and one missing": {params.Answer{Items: []params.Item{itemOf(params.Selector{Name: "/t/b"})}, Missing: []params.Missing{missing(a)}}, "no/t/a"},
	} {
		tc.answer.More, tc.answer.Next = true, "/t/x"
		asked := []params.Selector{a, b, c}
		parts := partsOf(ParamsRead{Answer: tc.answer}, asked)
		var got []string
		for _, s := range asked {
			part, ok := parts[s]
			switch {
			case !ok:
			case part.Answer.More || part.Answer.Next != "" || len(part.Answer.Items)+len(part.Answer.Missing) != 1:
				t.Errorf("%s: %+v", what, part)
			case len(part.Answer.Missing) == 1:
				got = append(got, "no"+part.Answer.Missing[0].Selector.String())
			default:
				got = append(got, strings.TrimPrefix(string(part.Answer.Items[0].Content[0]), "value of "))
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
