package folder

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// smallFiles are the kinds of small files, with what they are read as.
func smallFiles() map[string]func() any {
	return map[string]func() any{
		identityName: func() any { return new(Identity) }, "host": func() any { return new(Host) }, "floor": func() any { return new(Floor) },
		"gossip-keys": func() any { return new([]GossipKey) }, "peers": func() any { return new([]Peer) }, "told": func() any { return new(uint64) },
		"founding": func() any { return new(Founding) }, outboundName: func() any { return new(Outbound) },
	}
}

// mended gives a small file the checksum that it should have.
func mended(data []byte) []byte {
	if len(data) < sha256.Size {
		return data
	}
	content := bytes.Clone(data[:len(data)-sha256.Size])
	sum := sha256.Sum256(content)
	return append(content, sum[:]...)
}

// smallSeeds are small files as they are written.
func smallSeeds(tb testing.TB) [][]byte {
	tb.Helper()
	f := &Folder{dir: tb.TempDir()}
	var out [][]byte
	for name, body := range map[string]any{
		identityName: Identity{Fleet: fleet.Sum(nil), Name: "n1", Seed: make([]byte, 32), HPKESeed: make([]byte, 32)},
		"host":       Host{Bind: "127.0.0.1:7980", Advertise: []string{"10.0.0.1:7980"}}, "floor": Floor{Time: 1, Length: 2, Head: fleet.Sum(nil)},
		"gossip-keys": []GossipKey{{Epoch: 1, Key: make([]byte, 32)}}, "peers": []Peer{{ID: fleet.Sum(nil), Addrs: []string{"10.0.0.2:7980"}}}, "told": uint64(7),
		"founding": Founding{Acts: []FoundingAct{{Kind: auth.ActCharter, Data: []byte("x")}}}, outboundName: Outbound{Only: true},
	} {
		if err := f.write(name, body); err != nil {
			tb.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(f.dir, name))
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}

// A small file is read as it was written, under its own name, or it is damaged.
func FuzzSmallFile(f *testing.F) {
	for _, seed := range smallSeeds(f) {
		f.Add(seed, true)
		f.Add(seed[:len(seed)/2], false)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if mend {
			data = mended(data)
		}
		read := 0
		for name, make := range smallFiles() {
			if said, _, _ := bytes.Cut(data, []byte("\n")); name != "host" && !bytes.HasSuffix(said, []byte(" "+name)) {
				continue // a name that is not its own is looked at once
			}
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			body := make()
			if err := (&Folder{dir: dir}).read(name, body); err != nil {
				if fleet.KindOf(err) != fleet.Internal {
					t.Fatalf("%s: %v", name, err)
				}
				continue
			}
			if read++; read > 1 {
				t.Fatal("one file is read under two names")
			}
			if again := mended(append(append(header(name), wire.Marshal(body)...), zeros[:]...)); !bytes.Equal(again, data) {
				t.Fatalf("%s is written otherwise", name)
			}
		}
	})
}

var zeros [sha256.Size]byte

// recordFile is a record's acts as the file has them, without its first line.
func recordFile(acts []auth.Act) []byte {
	var out []byte
	head := fleet.ID{}
	for _, act := range acts {
		raw := wire.Marshal(act)
		head = auth.NextHead(head, act)
		out = append(append(binary.BigEndian.AppendUint32(out, uint32(len(raw))), raw...), head[:chainSize]...)
	}
	return out
}

// A record is read as far as it holds: each act is what is written there, and an end that was cut is no act.
func FuzzRecordFile(f *testing.F) {
	w := authtest.Found("record")
	w.AddNode("web-1", map[string]string{"role": "web"}, nil)
	whole := recordFile(w.Acts)
	f.Add(whole, uint8(len(w.Acts)))
	f.Add(whole[:len(whole)-3], uint8(0))
	f.Add(append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0xff), uint8(2))
	f.Add(append(bytes.Clone(whole), 0, 0, 0x7f, 0xff, 1), uint8(3))
	f.Add(recordFile(authtest.Found("another").Acts), uint8(1))
	f.Fuzz(func(t *testing.T, tail []byte, keep uint8) {
		good := recordFile(w.Acts[:int(keep)%(len(w.Acts)+1)]) // so that what follows is reached
		data := append(bytes.Clone(good), tail...)
		record := auth.NewRecord()
		starts, end, err := replay(data, 0, "record", w.ID(), &record)
		if err != nil {
			if _, ok := errors.AsType[*fleet.Error](err); !ok || record.Length > uint64(len(data)) {
				t.Fatalf("damage is told as %v", err)
			}
			return
		}
		if end < len(good) || end > len(data) || uint64(len(starts)) != record.Length {
			t.Fatalf("%d acts in %d of %d bytes; the record has %d", len(starts), end, len(data), record.Length)
		}
		var acts []auth.Act
		for i, at := range starts {
			stop := int64(end)
			if i+1 < len(starts) {
				stop = starts[i+1]
			}
			var act auth.Act
			if err := wire.Unmarshal(data[at+4:stop-chainSize], &act); err != nil {
				t.Fatal(err)
			}
			acts = append(acts, act)
		}
		if !bytes.Equal(recordFile(acts), data[:end]) {
			t.Fatal("the acts are written otherwise")
		}
	})
}

// TestMemory: a file costs what it weighs.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	dir := t.TempDir()
	for _, seed := range smallSeeds(t) {
		name := string(bytes.TrimPrefix(seed[:bytes.IndexByte(seed, '\n')], []byte(magic+"1 ")))
		head := header(name)
		inputs := func(yield func(string, []byte) bool) {
			for n, in := range hostile.Some(5, hostile.Inputs(1<<14, seed[len(head):len(seed)-sha256.Size])) {
				if !yield(n, mended(append(append(bytes.Clone(head), in...), zeros[:]...))) {
					return
				}
			}
		}
		hostile.Check(t, hostile.Bound{Base: 64 << 10, PerByte: 96}, func(in []byte) {
			if err := os.WriteFile(filepath.Join(dir, name), in, 0o600); err != nil {
				t.Fatal(err)
			}
			err := (&Folder{dir: dir}).read(name, smallFiles()[name]())
			if errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}, inputs)
	}
	w := authtest.Found("record")
	whole := recordFile(w.Acts)
	hostile.Check(t, hostile.Bound{Base: 256 << 10, PerByte: 64}, func(in []byte) {
		record := auth.NewRecord()
		_, _, _ = replay(in, 0, "record", w.ID(), &record)
	}, hostile.Join(hostile.Some(3, hostile.Inputs(1<<14, whole)), hostile.Corpus(t, "FuzzRecordFile")))
}
