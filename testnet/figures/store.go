package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/params"
)

// The sizes of what is kept.
const (
	storeSmall    = 10_000
	storeLarge    = 100_000
	storeVersions = 3
	storeAtOnce   = 100 // in one act
)

// measureStore measures the replicated state alone, in this process: what 10,000 parameters take in memory, and how long a
// snapshot of 100,000 with three versions each takes to be written, synced, and read again.
func measureStore(_ context.Context, p place) ([]figure, error) {
	before := heap()
	small, err := filled(storeSmall, 1, params.Standard)
	if err != nil {
		return nil, err
	}
	took := heap() - before
	runtime.KeepAlive(small)
	small = consensus.State{}
	large, err := filled(storeLarge, storeVersions, params.Advanced)
	if err != nil {
		return nil, err
	}
	out := []figure{{
		key: "store_10000_bytes", name: "10,000 parameters of 256 bytes, each signed by itself, in memory", unit: octets, value: took,
		note: "heap of one replica, after a collection",
	}}
	more, err := snapshotFigures(large, filepath.Join(p.folder, "snapshot"))
	return append(out, more...), err
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// filled returns a state with parameters. Few are signed one by one, many by the hundred, as an import does.
func filled(count, versions int, tier params.Tier) (s consensus.State, err error) {
	f := authtest.Empty("figures")
	s = consensus.NewState()
	for _, act := range f.Founding() {
		var r consensus.Result
		if s, r = s.Apply(consensus.PutAct(act), f.Now.UnixMilli()); r.Err() != nil {
			return s, r.Err()
		}
	}
	pen := paramPen{signer: f.Operator, fleet: s.Record.Charter.Fleet(), head: s.Record.Charter.Head(), act: s.Record.Act}
	value, atOnce := make([]byte, loadValue), 1
	had := make([]*written, count)
	for n := range had {
		had[n] = &written{name: fmt.Sprintf("/store/%03d/%06d", n/1000, n)}
	}
	for i := range value {
		value[i] = 'a' + byte(i%26)
	}
	if count > storeSmall {
		atOnce = storeAtOnce
	}
	for range versions {
		for first := 0; first < count; first += atOnce {
			var r consensus.Result
			if s, r = s.Apply(pen.put(tier, value, had[first:min(first+atOnce, count)]...), time.Now().UnixMilli()); r.Err() != nil {
				return s, r.Err()
			}
		}
	}
	return s, nil
}

func snapshotFigures(s consensus.State, path string) ([]figure, error) {
	began := time.Now()
	size, err := writeSnapshot(s, path)
	if err != nil {
		return nil, err
	}
	wrote := time.Since(began)
	began = time.Now()
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	again, err := consensus.ReadSnapshot(bufio.NewReaderSize(file, 1<<20))
	if err != nil {
		return nil, err
	}
	read := time.Since(began)
	if again.ParamCount() != s.ParamCount() || again.ParamBytes() != s.ParamBytes() {
		return nil, fmt.Errorf("%d parameters were written and %d read", s.ParamCount(), again.ParamCount())
	}
	const name = "snapshot of 100,000 parameters with 3 versions each"
	return []figure{
		{key: "store_snapshot_seconds", name: name + ", written and synced", unit: seconds, value: wrote.Seconds()},
		{key: "store_restore_seconds", name: name + ", read again", unit: seconds, value: read.Seconds()},
		{key: "store_snapshot_bytes", name: name + ", size", unit: octets, value: size},
	}, nil
}

func writeSnapshot(s consensus.State, path string) (size float64, err error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	if err := s.WriteSnapshot(out); err != nil {
		return 0, err
	}
	if err := out.Flush(); err != nil {
		return 0, err
	}
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	return float64(at), file.Sync()
}
