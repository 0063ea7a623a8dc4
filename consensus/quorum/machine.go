package quorum

import (
	"bufio"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// machine joins a Machine to raft. It implements raft.FSM and raft.ConfigurationStore.
type machine struct {
	Machine
	prepare   func() // called before raft drops the log behind a snapshot
	committed func(configuration raft.Configuration, index uint64)
	applied   func()         // called after each entry
	reached   *atomic.Uint64 // index of the newest command that the machine shows, or of the snapshot that it was made of
	newest    *atomic.Uint64 // index of the newest snapshot here
	refused   error          // why a snapshot could not be restored; raft tells its log alone, and tries the one before
}

// results are what a batch's items got, in order.
type results []any

// Apply applies a batch. An entry of unknown format stops the process: a replica that skipped it would differ from the
// others for ever. The leader writes no format that a server does not know.
func (m *machine) Apply(entry *raft.Log) any {
	items, err := decodeBatch(entry.Data)
	if err != nil {
		panic("quorum: cannot apply log entry: " + err.Error())
	}
	defer m.applied()
	defer func() {
		if halted(m.Machine) == nil { // else it does not show this entry, nor any later one
			m.reached.Store(entry.Index)
		}
	}()
	if batches, ok := m.Machine.(Batches); ok {
		return results(batches.ApplyBatch(entry.Index, items))
	}
	answers := make(results, len(items))
	for i, item := range items {
		answers[i] = m.Machine.Apply(entry.Index, item)
	}
	return answers
}

// StoreConfiguration hears of every committed configuration.
func (m *machine) StoreConfiguration(index uint64, configuration raft.Configuration) {
	m.committed(configuration, index)
	m.applied()
}

// A snapshot's state: u8 format 1, then the machine's own bytes.
const snapshotFormat = 1

// Snapshot takes the machine's picture. One that has halted has none: the log that it left out must stay.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if err := halted(m.Machine); err != nil {
		return nil, err
	}
	return &picture{write: m.Machine.Snapshot(), prepare: m.prepare}, nil
}

// Restore replaces the machine's state.
func (m *machine) Restore(content io.ReadCloser) error {
	defer content.Close()
	reader := bufio.NewReader(content)
	if format, err := reader.ReadByte(); err != nil || format != snapshotFormat {
		return fleet.Errorf(fleet.Invalid, "a snapshot has a format that this muster does not know")
	}
	if err := m.Machine.Restore(reader); err != nil {
		m.refused = err // also if raft finds an older snapshot then: the log between the two is gone
		return err
	}
	m.reached.Store(m.newest.Load())
	return nil
}

type picture struct {
	write   func(io.Writer) error
	prepare func()
}

// Persist writes the picture.
func (p *picture) Persist(sink raft.SnapshotSink) error {
	p.prepare()
	_, err := sink.Write([]byte{snapshotFormat})
	if err == nil {
		err = p.write(sink)
	}
	return err // raft closes or cancels the sink
}

// Release has nothing to let go.
func (p *picture) Release() {}
