package runner

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/exec/cage"
)

// What of a ledger file is made good again after the fuzzer's changes, so that they reach what lies behind a checksum.
const (
	mendHeader uint8 = 1 << iota
	mendMarks
	mendRecords
)

// compose makes a ledger file of three pages from its parts, the rest zeros.
func compose(head, firstMark, secondMark, page, nextPage []byte, mend uint8) []byte {
	file := make([]byte, 3*pageSize)
	copy(file[:markOffsets[0]], head)
	copy(file[markOffsets[0]:markOffsets[1]], firstMark)
	copy(file[markOffsets[1]:pageSize], secondMark)
	copy(file[pageSize:2*pageSize], page)
	copy(file[2*pageSize:], nextPage)
	if mend&mendHeader != 0 {
		sum := sha256.Sum256(file[:headerSize-sha256.Size])
		copy(file[headerSize-sha256.Size:], sum[:])
	}
	chain := fleet.ID(file[headerSize-sha256.Size : headerSize])
	if mend&mendMarks != 0 {
		for _, at := range markOffsets {
			sum := markSum(chain, file[at:at+markSize-sha256.Size])
			copy(file[at+markSize-sha256.Size:], sum[:])
		}
	}
	if mend&mendRecords != 0 {
		mendChain(file[pageSize:2*pageSize], &chain)
		mendChain(file[2*pageSize:], &chain)
	}
	return file
}

// mendChain gives the records of a page the sums that they should have.
func mendChain(page []byte, chain *fleet.ID) {
	for at := 0; at+5 <= len(page); {
		size := int(binary.BigEndian.Uint32(page[at:]))
		if size == 0 || size > exec.MaxRecord || at+5+size+sha256.Size > len(page) {
			return
		}
		h := sha256.New()
		h.Write(chain[:])
		h.Write(page[at : at+5+size])
		at += 5 + size
		at += copy(page[at:], h.Sum(nil))
		*chain = fleet.ID(h.Sum(nil))
	}
}

// ledgerSeeds gives add the parts of ledgers as they are written.
func ledgerSeeds(add func(head, firstMark, secondMark, page, nextPage []byte, mend uint8)) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	h := header{ID: fleet.Sum(nil), Created: now, Horizon: now.Add(-time.Hour), Capacity: 3 * pageSize}
	head, sum := h.encode()
	id := fleet.UUID{1}
	records := []exec.Record{
		exec.StartedRecord{Command: id, Issued: now, Expires: now.Add(time.Hour), BootID: "boot", Time: now},
		exec.EndedRecord{Command: id, Status: exec.Failed, ExitCode: 3, Detail: "why", Stdout: exec.OutputSum{Size: 5, Kept: 5, Digest: fleet.Sum(nil)}, Time: now},
		exec.CancelledRecord{Command: fleet.UUID{2}, Time: now}, exec.RefusedRecord{Command: fleet.UUID{3}, Reason: "policy", Time: now},
	}
	data, chain := layOut(records, sum)
	end := pageSize + int64(len(data))
	add(head, mark{1, end, chain}.encode(sum), mark{2, end, chain}.encode(sum), data, nil, 0)
	add(head, mark{1, pageSize, sum}.encode(sum), nil, data, nil, mendHeader|mendMarks|mendRecords)
	add(head, nil, mark{1, pageSize, sum}.encode(sum), data[:len(data)-7], nil, 0) // a torn append
	add(head, mark{3, pageSize, sum}.encode(sum), nil, nil, nil, mendMarks)
	for len(data) < pageSize-600 {
		more, next := exec.AppendRecord(nil, chain, exec.RefusedRecord{Command: fleet.UUID{byte(len(data)), byte(len(data) >> 8)}, Reason: strings.Repeat("r", 200), Time: now})
		data, chain = append(data, more...), next
	}
	second, last := exec.AppendRecord(nil, chain, exec.CancelledRecord{Command: fleet.UUID{9}, Time: now})
	add(head, mark{1, 2*pageSize + int64(len(second)), last}.encode(sum), nil, data, second, mendRecords)
}

// What is read from a ledger is what its chain of sums covers, to the last byte; what is torn can be cut off, and then
// the rest reads the same.
func FuzzScan(f *testing.F) {
	ledgerSeeds(func(head, firstMark, secondMark, page, nextPage []byte, mend uint8) {
		f.Add(head, firstMark, secondMark, page, nextPage, mend)
	})
	f.Fuzz(func(t *testing.T, head, firstMark, secondMark, page, nextPage []byte, mend uint8) {
		file := compose(head, firstMark, secondMark, page, nextPage, mend)
		s, err := scanBytes(file)
		if err != nil {
			return
		}
		if again, sum := s.Header.encode(); sum != s.Sum || !bytes.HasPrefix(file, again) {
			t.Fatalf("header %+v is written otherwise", s.Header)
		}
		chain := s.Sum
		for _, r := range s.Records {
			_, chain = exec.AppendRecord(nil, chain, r)
		}
		if chain != s.Chain {
			t.Fatalf("%d records that the file does not hold", len(s.Records))
		}
		if s.End < s.Mark.End || s.End < pageSize || s.End > int64(len(file)) || (s.Torn != 0 && s.Torn != s.End) {
			t.Fatalf("%+v", s)
		}
		if s.Torn == 0 && indexNonZero(file[s.End:]) >= 0 {
			t.Fatalf("there is more behind %d", s.End)
		}
		clear(file[s.End:])
		again, err := scanBytes(file)
		if err != nil || again.Torn != 0 || len(again.Records) != len(s.Records) || again.End > s.End || again.Chain != s.Chain {
			t.Fatalf("once cut off: %+v, %v", again, err)
		}
	})
}

// A ledger that is opened goes on where it ended; one that is refused stays as it is, to the byte.
func FuzzJournal(f *testing.F) {
	ledgerSeeds(func(head, firstMark, secondMark, page, nextPage []byte, mend uint8) {
		f.Add(head, firstMark, secondMark, page, nextPage, mend)
	})
	f.Fuzz(func(t *testing.T, head, firstMark, secondMark, page, nextPage []byte, mend uint8) {
		data, dir := compose(head, firstMark, secondMark, page, nextPage, mend), t.TempDir()
		path := filepath.Join(dir, ledgerName)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		plain := func(f file) file { return f }
		j, records, err := openLedger(dir, 3*pageSize, plain, true, header{})
		if err != nil {
			left, readErr := os.ReadFile(path)
			if entries, _ := os.ReadDir(dir); readErr != nil || !bytes.Equal(left, data) || len(entries) != 1 {
				t.Fatalf("refused (%v), but the folder was changed", err)
			}
			if _, ok := errors.AsType[*fleet.Error](err); !ok {
				t.Fatalf("damage is told as %v", err)
			}
			return
		}
		book := &testBook{ledger: exec.NewLedger(j.header.Created, j.header.Horizon)}
		for _, r := range records {
			if book.ledger.Fold(r) != nil { // a contradiction: the runner takes it for damage
				j.f.Close()
				return
			}
		}
		j.book = book
		go j.run()
		wrote := j.append(exec.CancelledRecord{Command: fleet.UUID{0xee}, Time: time.Unix(1, 0)})
		j.close()
		again, more, err := openLedger(dir, 3*pageSize, plain, false, header{})
		if err != nil {
			t.Fatalf("opened once, then not: %v", err)
		}
		again.f.Close()
		now := exec.NewLedger(again.header.Created, again.header.Horizon)
		for _, r := range more {
			if err := now.Fold(r); err != nil {
				t.Fatal(err)
			}
		}
		if now.Len() != book.ledger.Len() || again.header.ID != j.header.ID {
			t.Fatalf("%d commands, then %d", book.ledger.Len(), now.Len())
		}
		if _, there := now.Get(fleet.UUID{0xee}); there != (wrote == nil) {
			t.Fatalf("an append was answered with %v; it is there: %v", wrote, there)
		}
	})
}

// A note is read as it was sealed, zeros behind it or not.
func FuzzNotes(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano()
	start := startMark{Format: noteFormat, Command: [16]byte{1}, Digest: fleet.Sum(nil), Issued: now, Expires: now + 1, BootID: "boot", PID: 77, StartTick: 5, Time: now}
	end := endNote{Format: noteFormat, Command: [16]byte{1}, Status: string(exec.Failed), ExitCode: -1, Signal: 9,
		Stdout: outputNote{Size: 9, Kept: 5, Digest: fleet.Sum(nil), Cut: true}, Detail: "why", Started: now, Ended: now}
	f.Add(wire.Marshal(start), false)
	f.Add(wire.Marshal(end), false)
	f.Add(cage.SealNote(start), true)
	f.Add(append(cage.SealNote(end), make([]byte, 64)...), true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		if !whole { // behind its sum
			data = append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
			sum := sha256.Sum256(data)
			data = append(data, sum[:]...)
		}
		checkNotes(t, data)
	})
}

func checkNotes(t *testing.T, data []byte) {
	t.Helper()
	var m startMark
	var n endNote
	if cage.OpenNote(data, &m) == nil {
		if !bytes.HasPrefix(data, cage.SealNote(m)) {
			t.Fatalf("%+v is sealed otherwise", m)
		}
		mustFit(t, m.record(time.Unix(1, 0)))
	}
	if cage.OpenNote(data, &n) == nil {
		if !bytes.HasPrefix(data, cage.SealNote(n)) {
			t.Fatalf("%+v is sealed otherwise", n)
		}
		mustFit(t, n.record())
	}
}

// mustFit checks that the ledger takes what a note says.
func mustFit(t *testing.T, r exec.Record) {
	t.Helper()
	data, sum := exec.AppendRecord(nil, fleet.ID{}, r)
	if len(data) > exec.MaxRecord {
		return // refused before it is written
	}
	if _, again, _, err := exec.DecodeRecord(data, fleet.ID{}); err != nil || again != sum {
		t.Fatalf("%+v cannot be read back: %v", r, err)
	}
}

// An order is read as the agent wrote it, or not.
func FuzzOrder(f *testing.F) {
	s := Spec{Command: fleet.UUID{1}, Digest: fleet.Sum(nil), Issued: time.Unix(1, 0), Expires: time.Unix(2, 0), Plan: steps.Plan{Steps: []steps.Step{{Argv: []string{"a", "b"}, Script: []byte("#!/bin/sh\n"), Env: []string{"C=d"}}, {Act: "x", Inputs: []byte("{}")}}, Codes: true},
		Env: []string{"A=b"}, User: "deploy", Stdin: []byte("in"), Timeout: time.Minute, MaxOutput: 5}
	f.Add(wire.Marshal(makeOrder(s, account.Account{Name: "deploy", UID: 1000, GID: 1000, Groups: []int{4, 27}, Home: "/srv/x", Shell: "/bin/sh"}, true, "boot")))
	f.Add(wire.Marshal(makeOrder(Spec{Plan: plain("true")}, account.Account{}, false, "")))
	f.Add(wire.Marshal(makeOrder(withSecrets(document(sh("true"), steps.Step{Act: "x", Fill: []steps.Part{{Text: "{}"}, {Secret: 1}}})), account.Account{}, true, "boot")))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o order
		if wire.Unmarshal(data, &o) == nil && !bytes.Equal(wire.Marshal(o), data) {
			t.Fatalf("%+v is written otherwise", o)
		}
	})
}

// TestMemory: what lies on the disk costs no more than the room it takes there.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	var inputs []func(func(string, []byte) bool)
	ledgerSeeds(func(head, firstMark, secondMark, page, nextPage []byte, mend uint8) {
		inputs = append(inputs, func(yield func(string, []byte) bool) {
			for name, in := range hostile.Inputs(pageSize, page) {
				if !yield("page: "+name, compose(head, firstMark, secondMark, in, nextPage, mend|mendRecords)) {
					return
				}
			}
			for name, in := range hostile.Inputs(1024, head) {
				if !yield("header: "+name, compose(in, firstMark, secondMark, page, nextPage, mend|mendHeader)) {
					return
				}
			}
		})
	})
	for _, some := range inputs[:2] {
		hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 32}, func(in []byte) { _, _ = scanBytes(in) }, some)
	}
	sample := cage.SealNote(endNote{Format: noteFormat, Status: string(exec.Success), Detail: "why"})
	sealed := func(yield func(string, []byte) bool) {
		for name, in := range hostile.Inputs(cage.NoteSize, sample[4:len(sample)-sha256.Size]) {
			out := append(binary.BigEndian.AppendUint32(nil, uint32(len(in))), in...)
			sum := sha256.Sum256(out)
			if !yield(name, append(out, sum[:]...)) {
				return
			}
		}
	}
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 16}, func(in []byte) {
		var m startMark
		var n endNote
		_, _ = cage.OpenNote(in, &m), cage.OpenNote(in, &n)
	}, hostile.Join(hostile.Inputs(cage.NoteSize, sample), sealed, hostile.Corpus(t, "FuzzNotes")))
	hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 64}, func(in []byte) {
		var o order
		_ = wire.Unmarshal(in, &o)
	}, hostile.Join(hostile.Inputs(1<<18, wire.Marshal(makeOrder(Spec{Plan: plain("true")}, account.Account{}, false, ""))), hostile.Corpus(t, "FuzzOrder")))
}
