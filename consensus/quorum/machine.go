package quorum

import (
	"bufio"
	"io"

	"github.com/hashicorp/raft"

	"github.com/muster-fleet/muster/node/fleet"
)

// machine joins a Machine to raft. It implements raft.FSM and raft.ConfigurationStore.
type machine struct {
	Machine
	prepare   func() // called before raft drops the log behind a snapshot
	committed func(configuration raft.Configuration, index uint64)
	applied   func() // called after each entry
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
	answers := make(results, len(items))
	for i, item := range items {
		answers[i] = m.Machine.Apply(entry.Index, item)
	}
	m.applied()
	return answers
}

// StoreConfiguration hears of every committed configuration.
func (m *machine) StoreConfiguration(index uint64, configuration raft.Configuration) {
	m.committed(configuration, index)
	m.applied()
}

// A snapshot's state: u8 format 1, then the machine's own bytes.
const snapshotFormat = 1

// Snapshot takes the machine's picture.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	return &picture{write: m.Machine.Snapshot(), prepare: m.prepare}, nil
}

// Restore replaces the machine's state.
func (m *machine) Restore(content io.ReadCloser) error {
	defer content.Close()
	reader := bufio.NewReader(content)
	if format, err := reader.ReadByte(); err != nil || format != snapshotFormat {
		return fleet.Errorf(fleet.Invalid, "a snapshot has a format that this muster does not know")
	}
	return m.Machine.Restore(reader)
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
