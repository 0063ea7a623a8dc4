package consensus

import (
	"bytes"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/params"
)

func FuzzDecodeEntry(f *testing.F) {
	q := founded("fuzz")
	for _, e := range oneOfEach(q) {
		f.Add(Encode(e, q.Now.UnixMilli()))
	}
	f.Add([]byte{kindPutAct, EntryVersion, 0x92, 0, 0x92, 1, 0xc0})
	digest := q.s.Digest()
	f.Fuzz(func(t *testing.T, data []byte) {
		stamped, stampErr := Stamp(data, 7)
		e, now, err := Decode(data)
		if err != nil {
			return
		}
		if stampErr != nil || !bytes.Equal(stamped, Encode(e, 7)) {
			t.Fatalf("%T stamped is another: %v", e, stampErr)
		}
		if !bytes.Equal(Encode(e, now), data) {
			t.Fatalf("%T has two encodings", e)
		}
		next, r := q.s.Apply(e, now) // whatever it is, it is answered
		if prepared, second := q.s.ApplyPrepared(q.s.Prepare(data)); prepared.Digest() != next.Digest() || second != r {
			t.Fatalf("%T came to %+v, and prepared to %+v", e, r, second)
		}
		if again, second := q.s.Apply(e, now); again.Digest() != next.Digest() || second != r {
			t.Fatalf("%T came to two results", e)
		}
		if r.Err() != nil && next.Act != q.s.Act {
			t.Fatalf("refused %T took an act index", e)
		}
		if q.s.Digest() != digest {
			t.Fatalf("%T changed an old state", e)
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	for _, s := range []State{NewState(), founded("fuzz").s, busy(f).s} {
		f.Add(snapshot(f, s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		candidates := [][]byte{data}
		if frames, ok := split(data); ok {
			candidates = append(candidates, sealed(frames)) // behind the checksum, too
		}
		for _, c := range candidates {
			s, err := ReadSnapshot(bytes.NewReader(c))
			if err != nil {
				continue
			}
			var out bytes.Buffer
			if err := s.WriteSnapshot(&out); err != nil || !bytes.Equal(out.Bytes(), c) {
				t.Fatal("a snapshot was read that this state does not write")
			}
			s.Apply(PutAct{}, s.Time)
			s.CommandsFor(s.Record.Head, 0, 1)
			s.Tokens()
			s.Commands(1)
			s.Requests()
			for _, c := range s.Paced() {
				if err := c.Rollout.Check(c.Body); err != nil {
					t.Fatal(err)
				}
				s.Apply(PutGrants{c.ID(), []uint32{0}}, s.Time)
				s.Apply(PutEndings{c.ID(), []exec.Ending{{Node: 0, As: exec.EndedFailed}}}, s.Time)
			}
			for _, d := range s.Documents() {
				d.Latest()
			}
			checkCounts(t, s)
			s.Params("", func(p *params.Param) bool { return p.Newest() != nil })
			s.ParamEvents(params.EventPos{}, 10)
			if next, r := s.Apply(ParamsDue{}, auth.MaxTime); r.Err() == nil {
				checkCounts(t, next)
			}
		}
	})
}
