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

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// ledger takes changes as the fleet would, but for those with an operation on a name with "bad" in it.
type ledger struct {
	t      *testing.T
	signer auth.Signer
	hold   gate                     // nil: nothing is held
	fail   func(n int) []laneAnswer // of the nth change from 1 on, none or one: what is answered instead

	mu      sync.Mutex
	brought [][]string // names of each change
	taken   []string   // "name value"
	refused int
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, signer: authtest.Signer("ada"), fail: func(int) []laneAnswer { return nil }}
}

func (l *ledger) writer() (w *Writer, hangUp func()) {
	lane, hangUp := laneTo(l.t, l.answer)
	var mu sync.Mutex
	n := byte(0)
	return NewWriter(lane, l.signer, id("lab"), func() auth.Header {
		mu.Lock()
		defer mu.Unlock()
		n++
		return auth.Header{ID: fleet.UUID{n}, Issued: moment.UnixMilli(), Expires: moment.UnixMilli() + 1000, Charter: id("head"), Act: 9, Mode: auth.ByQuorum}
	}), hangUp
}

func (l *ledger) answer(ask laneAsk) laneAnswer {
	values, names, err := l.open(ask.Entry)
	l.mu.Lock()
	l.brought = append(l.brought, names)
	n := len(l.brought)
	l.mu.Unlock()
	if l.hold != nil {
		l.hold.wait()
	}
	time.Sleep(10 * time.Millisecond) // of the bubble
	if a := l.fail(n); len(a) > 0 {
		return a[0]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.refused++
		return laneAnswer{Result: []consensus.Result{{Kind: fleet.KindOf(err), Why: err.Error()}}}
	}
	l.taken = append(l.taken, values...)
	return laneAnswer{Result: []consensus.Result{{Act: uint64(n)}}}
}

// change returns the names of the change that was the nth to be brought, from 1 on.
func (l *ledger) change(n uint64) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.brought[n-1]
}

// open judges a change as every server does.
func (l *ledger) open(entry []byte) (values, names []string, err error) {
	e, _, err := consensus.Decode(entry)
	if err != nil {
		return nil, nil, err
	}
	put := e.(consensus.PutParams)
	if err := put.Statement.Verify(auth.ForParams, id("lab"), l.signer.Public()); err != nil {
		return nil, nil, err
	}
	var change params.Change
	if err := wire.Unmarshal(put.Statement.Body, &change); err != nil {
		return nil, nil, err
	}
	ops, err := change.Open(put.Ops)
	if err != nil {
		return nil, nil, err
	}
	size := 0
	for i, op := range ops {
		content, openErr := op.Put[0].Open(put.Contents[i])
		if size += len(put.Contents[i]); openErr != nil || size > params.MaxContents {
			err = fleet.Errorf(fleet.Invalid, "%s: %d bytes of contents, %v", op.Name(), size, openErr)
			continue
		}
		names = append(names, op.Name())
		values = append(values, op.Name()+" "+string(content.Plain[0]))
		if strings.Contains(op.Name(), "bad") {
			err = fleet.Errorf(fleet.Conflict, "%s is not taken", op.Name())
		}
	}
	return values, names, err
}

// putting puts a value.
func putting(name, value string) Operation {
	return func(issued int64) (params.Op, [][]byte) {
		content := params.PlainContent([]byte(value)).Encode()
		return params.Op{Salt: fleet.UUID{1}, Put: []params.Put{{
			Name: name, Born: issued, Version: 1, Type: params.String, DataType: params.DataText, Digest: fleet.Sum(content),
			Size: uint32(len(value)), Tier: params.Advanced,
		}}}, [][]byte{content}
	}
}

// TestWriter: every one of many operations is brought and answered once; of a change that is refused, only what is bad is.
func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		w, _ := l.writer()
		const all = 500
		var work sync.WaitGroup
		var bad int
		for i := range all {
			name := fmt.Sprintf("/app/p%d", i)
			if i%50 == 7 {
				name = fmt.Sprintf("/bad/p%d", i)
				bad++
			}
			work.Go(func() {
				result, err := w.Do(t.Context(), putting(name, fmt.Sprint("v", i)))
				switch isBad := strings.HasPrefix(name, "/bad"); {
				case isBad && (result.Why != name+" is not taken" || fleet.KindOf(err) != fleet.Conflict):
					t.Errorf("%s: %+v, %v", name, result, err)
				case !isBad && (err != nil || result.Act == 0 || !slices.Contains(l.change(result.Act), name)):
					t.Errorf("%s: %+v, %v", name, result, err)
				}
			})
		}
		work.Wait()
		slices.Sort(l.taken)
		if len(l.taken) != all-bad || len(slices.Compact(slices.Clone(l.taken))) != all-bad {
			t.Errorf("%d of %d taken", len(l.taken), all-bad)
		}
		for _, names := range l.brought {
			if len(names) > writerOps {
				t.Errorf("a change of %d operations", len(names))
			}
		}
		if most := 2 * bad * 7; len(l.brought) > all/writerOps+writerUnderway+most { // halves of 64, down to one
			t.Errorf("%d changes", len(l.brought))
		}
	})
}

// TestWriterGathers: what comes while changes are on their way goes with the next.
func TestWriterGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		l.hold = make(gate)
		w, _ := l.writer()
		var work sync.WaitGroup
		for i := range 1 + writerOps + 6 {
			work.Go(func() {
				if _, err := w.Do(t.Context(), putting(fmt.Sprint("/t/p", i), "v")); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		sizes := func() (all []int) {
			for _, names := range l.brought {
				all = append(all, len(names))
			}
			return all
		}
		if got := sizes(); !slices.Equal(got, []int{1, writerOps}) {
			t.Errorf("under way: %v", got)
		}
		l.hold.open()
		work.Wait()
		if got := sizes(); !slices.Equal(got, []int{1, writerOps, 6}) {
			t.Errorf("in all: %v", got)
		}
	})
}

// TestWriterNames: two operations on one name never share a change, and where there is no room for one, none passes it.
func TestWriterNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		w, _ := l.writer()
		large := strings.Repeat("x", 60<<10)
		var work sync.WaitGroup
		for i, put := range []struct{ name, value string }{
			{"/t/first", "0"}, {"/t/a", "1" + large}, {"/t/b", "2" + large}, {"/t/c", "3" + large}, {"/t/c", "4"}, {"/t/d", "5"}, {"/t/a", "6"}, {"/t/a", "7"},
		} {
			work.Go(func() {
				if _, err := w.Do(t.Context(), putting(put.name, put.value)); err != nil {
					t.Error(i, err)
				}
			})
			synctest.Wait() // one after another, all while the first is on its way
		}
		work.Wait()
		want := [][]string{{"/t/first"}, {"/t/a", "/t/b", "/t/d"}, {"/t/c", "/t/a"}, {"/t/c", "/t/a"}}
		if !slices.EqualFunc(l.brought, want, slices.Equal) || l.refused > 0 {
			t.Errorf("%v, %d refused", l.brought, l.refused)
		}
		for _, name := range []string{"/t/a ", "/t/c "} {
			of := slices.DeleteFunc(slices.Clone(l.taken), func(v string) bool { return !strings.HasPrefix(v, name) })
			if !slices.IsSorted(of) {
				t.Errorf("%s: out of order", name)
			}
		}
	})
}

// TestWriterBytes: operations that fit a change alone are not refused for being too many together.
func TestWriterBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		w, _ := l.writer()
		var work sync.WaitGroup
		for i := range 3 * writerOps {
			put := putting(fmt.Sprint("/t/p", i), strings.Repeat("v", 10+i%2*3000))
			work.Go(func() {
				_, err := w.Do(t.Context(), func(issued int64) (params.Op, [][]byte) {
					op, content := put(issued)
					op.Put[0].Description = strings.Repeat("𝄞", params.MaxDescription)
					return op, content
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if len(l.taken) != 3*writerOps || l.refused > 0 {
			t.Errorf("%d taken, %d changes refused", len(l.taken), l.refused)
		}
	})
}

// TestWriterUnknown: where nobody knows what came of a change, it is not brought again, and everybody in it is told.
func TestWriterUnknown(t *testing.T) {
	for _, kind := range []fleet.Kind{fleet.Unavailable, fleet.Exhausted, fleet.Internal} {
		synctest.Test(t, func(t *testing.T) {
			l := newLedger(t)
			l.fail = func(n int) []laneAnswer {
				if n == 2 {
					return []laneAnswer{failed(kind)}
				}
				return nil
			}
			w, _ := l.writer()
			var work sync.WaitGroup
			told := make([]error, 10)
			for i := range told {
				work.Go(func() { _, told[i] = w.Do(t.Context(), putting(fmt.Sprint("/t/p", i), "v")) })
				synctest.Wait()
			}
			work.Wait()
			for i, err := range told {
				if (i == 0) != (err == nil) || err != nil && fleet.KindOf(err) != kind {
					t.Errorf("%s, %d: %v", kind, i, err)
				}
			}
			if len(l.brought) != 2 {
				t.Errorf("%s: brought %v", kind, l.brought)
			}
		})
	}
}

// TestWriterGivenUp: what its caller has given up is not brought any more, nor made.
func TestWriterGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		l.hold = make(gate)
		w, _ := l.writer()
		var work sync.WaitGroup
		do := func(ctx context.Context, name string, want error) {
			returned := false
			work.Go(func() {
				_, err := w.Do(ctx, func(issued int64) (params.Op, [][]byte) {
					if returned {
						t.Errorf("%s is made after its caller was answered", name)
					}
					return putting(name, "v")(issued)
				})
				returned = true
				if err != want && !strings.Contains(name, "bad") {
					t.Errorf("%s: %v", name, err)
				}
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		do(t.Context(), "/t/first", nil)
		do(ctx, "/t/waits", context.Canceled)
		for i := range writerOps - 2 {
			do(t.Context(), fmt.Sprint("/t/p", i), nil)
		}
		cancel()
		synctest.Wait()
		do(ctx, "/t/late", context.Canceled)
		if n := len(w.drafts.waiting); n != writerOps-2 {
			t.Errorf("%d wait", n)
		}
		ctx, cancel = context.WithCancel(t.Context())
		do(ctx, "/t/underway", context.Canceled) // with the next, which is refused for another's sake
		do(t.Context(), "/t/bad", nil)
		if len(l.brought) != 2 || !slices.Contains(l.brought[1], "/t/underway") {
			t.Fatalf("brought: %v", l.brought)
		}
		cancel()
		l.hold.open()
		work.Wait()
		if slices.Contains(l.taken, "/t/waits v") || slices.Contains(l.taken, "/t/late v") || slices.Contains(l.taken, "/t/underway v") || len(l.taken) != writerOps-1 {
			t.Errorf("taken: %v", l.taken)
		}
	})
}

// TestWriterBreaks: when the lane breaks, whoever waits is told, and nobody hangs.
func TestWriterBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(t)
		l.hold = make(gate)
		w, hangUp := l.writer()
		var work sync.WaitGroup
		for i := range 3 * writerOps {
			work.Go(func() {
				if _, err := w.Do(t.Context(), putting(fmt.Sprint("/t/p", i), "v")); fleet.KindOf(err) != fleet.Unavailable {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		synctest.Wait()
		hangUp()
		work.Wait()
		l.hold.open()
		if _, err := w.Do(t.Context(), putting("/t/later", "v")); fleet.KindOf(err) != fleet.Unavailable {
			t.Errorf("later: %v", err)
		}
	})
}
