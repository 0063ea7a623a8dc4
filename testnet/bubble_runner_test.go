package testnet

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/check"
)

// memory stands in for the runner: the real ledger's rules, and runs that take no time. Like the ledger on disk it
// outlives the agent.
type memory struct {
	of     *townHost
	mu     sync.Mutex
	ledger *exec.Ledger
	post   func(node.Event)
	plant  bug
}

// bug is a mistake that is made on purpose, to see it caught.
type bug string

const (
	noBug        bug = ""
	forgetsRuns  bug = "its ledger forgets what ran"
	runsNothing  bug = "it says that it ran what it did not run"
	runsAnyBody  bug = "it runs something else than was signed"
	anotherState bug = "its replica took something that the others did not"
)

func newMemory(h *townHost) *memory {
	return &memory{of: h, ledger: exec.NewLedger(time.Now().Add(-24*time.Hour), time.Time{})}
}

func (m *memory) posts(post func(node.Event)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.post = post
}

// said is what every run writes.
const said = "done\n"

func stdout() exec.Stream {
	return exec.Stream{Size: int64(len(said)), Kept: int64(len(said)), Digest: fleet.Sum([]byte(said)), Head: []byte(said)}
}

// Start runs a command at once.
func (m *memory) Start(_ context.Context, e node.StartRun) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	cmd, digest := e.Command, e.Digest
	id, now := cmd.Header.ID, m.of.clock().Wall
	if err := m.ledger.MayStart(id, time.UnixMilli(cmd.Header.Issued), time.UnixMilli(cmd.Header.Expires)); err != nil {
		return err
	}
	started := exec.StartedRecord{Command: id, Digest: digest, Issued: time.UnixMilli(cmd.Header.Issued), Expires: time.UnixMilli(cmd.Header.Expires), Time: now}
	ended := exec.EndedRecord{Command: id, Status: exec.Success, Time: now, Stdout: exec.OutputSum{Size: int64(len(said)), Kept: int64(len(said))}}
	if m.plant != forgetsRuns {
		for _, record := range []exec.Record{started, ended} {
			if err := m.ledger.Fold(record); err != nil {
				return err
			}
		}
	}
	did := cmd.Run.Text()
	if m.plant == runsAnyBody {
		did, digest = "echo gone", fleet.Sum([]byte("echo gone"))
	}
	if m.plant != runsNothing {
		at := time.Now() // the network's clock, whatever the host's says
		m.of.town.noteRun(check.Run{
			Command: id, Node: m.of.name, Began: at, Did: did, Digest: digest, End: &check.End{At: at}, Writes: said,
		})
	}
	m.post(node.RunStarted{Command: id, At: now.UnixMilli()})
	m.post(endOf(id, now))
	return nil
}

func endOf(id fleet.UUID, at time.Time) node.RunEnded {
	return node.RunEnded{Command: id, Status: exec.Success, Started: at.UnixMilli(), Ended: at.UnixMilli(), Stdout: stdout()}
}

// OpenOutput finds nothing: what a run writes is in its report.
func (m *memory) OpenOutput(fleet.UUID, string) (agent.KeptOutput, error) {
	return nil, fleet.Errorf(fleet.NotFound, "no output is kept here")
}

// Cancel keeps a command from ever starting; there is never a run to kill.
func (m *memory) Cancel(command fleet.UUID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Fold(exec.CancelledRecord{Command: command, Time: m.of.clock().Wall})
}

// Refuse keeps a command from ever starting.
func (m *memory) Refuse(command fleet.UUID, digest fleet.ID, as exec.Status, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Fold(exec.RefusedRecord{Command: command, Digest: digest, Reason: reason, Time: m.of.clock().Wall, Status: as})
}

// Recall tells what an earlier life ran.
func (m *memory) Recall(post func(node.Event)) {
	m.mu.Lock()
	states := m.ledger.Since(time.Time{})
	m.mu.Unlock()
	for _, s := range states {
		switch {
		case s.Ended != nil:
			post(endOf(s.Command, s.Ended.Time))
		case s.Refused != nil:
			post(node.RunEnded{Command: s.Command, Status: exec.Refused, Detail: s.Refused.Reason})
		case s.Cancelled != nil:
			post(node.RunEnded{Command: s.Command, Status: exec.Cancelled})
		}
	}
}

// townLog keeps a host's log for the case that its test fails.
type townLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *townLog) slog() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// Write takes a line.
func (l *townLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *townLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.String()
	return text[max(0, len(text)-6<<10):]
}
