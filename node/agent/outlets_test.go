package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// memOutlets notes what it is told.
type memOutlets struct {
	said     []string
	expected []fleet.UUID
	err      error
}

func (o *memOutlets) Expect(command fleet.UUID, to string) error {
	o.said = append(o.said, fmt.Sprintf("expect %s %s", short(command), to))
	return o.err
}

func (o *memOutlets) Ready(command fleet.UUID) {
	o.said = append(o.said, "ready "+short(command))
}

func (o *memOutlets) Expected() []fleet.UUID { return o.expected }

func short(id fleet.UUID) string { return id.String()[:2] }

// startRunner starts everything, and says when.
type startRunner struct {
	outputRunner
	outlets *memOutlets
	err     error
}

func (r *startRunner) Start(context.Context, node.StartRun) error {
	r.outlets.said = append(r.outlets.said, "start")
	return r.err
}

func newOutletsDesk(t *testing.T) (*desk, *startRunner, memDecisions, *bytes.Buffer) {
	d, log := newDesk(t), &bytes.Buffer{}
	outlets, kept := &memOutlets{}, memDecisions{}
	runner := &startRunner{outlets: outlets}
	d.runner, d.outlets, d.decisions = runner, outlets, kept
	d.log = slog.New(slog.NewTextHandler(log, nil))
	return d, runner, kept, log
}

func order(to string) node.StartRun {
	cmd := exec.Command{OutputTo: to}
	cmd.Header.ID = fleet.UUID{1}
	return node.StartRun{Command: cmd}
}

func TestCopiesAreExpectedBeforeTheStart(t *testing.T) {
	d, r, kept, log := newOutletsDesk(t)
	d.startRun(t.Context(), order("syslog"))
	d.startRun(t.Context(), order(""))
	if want := []string{"expect 01 syslog", "start", "start"}; !slices.Equal(r.outlets.said, want) {
		t.Errorf("got %q", r.outlets.said)
	}
	r.outlets.said, r.outlets.err = nil, errors.New("the disk is full")
	d.startRun(t.Context(), order("/srv/output"))
	if want := []string{"expect 01 /srv/output", "start"}; !slices.Equal(r.outlets.said, want) {
		t.Errorf("a disk that is full kept a run from starting: %q", r.outlets.said)
	}
	if all := kept[fleet.UUID{1}]; len(all) != 1 || all[0].What != exec.DecidedOutput || !strings.Contains(all[0].Detail, "could not be copied to /srv/output: the disk is full") {
		t.Errorf("decided %+v", all)
	}
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("no warning: %s", log)
	}
	d.outlets = nil
	d.startRun(t.Context(), order("syslog"))
	if all := kept[fleet.UUID{1}]; len(all) != 2 || !strings.Contains(all[1].Detail, "copies no output") {
		t.Errorf("without outlets: %+v", all)
	}
}

// What the command says goes before what the fleet's setting says.
func TestTheFleetsSettingSendsOutput(t *testing.T) {
	d, r, _, _ := newOutletsDesk(t)
	change := auth.SettingChange{Header: d.Header(0), Name: auth.SettingOutputTo, Value: "/srv/all"}
	d.MustTake(authtest.Proposal{Kind: auth.ActSetting, Data: wire.Marshal(d.Sign(auth.ForSetting, change))})
	d.picture.Store(&picture{record: d.Fleet.Record})
	d.startRun(t.Context(), order(""))
	d.startRun(t.Context(), order("syslog"))
	if want := []string{"expect 01 /srv/all", "start", "expect 01 syslog", "start"}; !slices.Equal(r.outlets.said, want) {
		t.Errorf("got %q", r.outlets.said)
	}
}

func TestEndsMakeCopiesReady(t *testing.T) {
	d, r, _, _ := newOutletsDesk(t)
	for _, ev := range []node.Event{
		node.RunStarted{Command: fleet.UUID{1}}, node.RunEnded{Command: fleet.UUID{2}, Started: 5, Status: exec.Success},
		node.RunEnded{Command: fleet.UUID{3}, Started: 5, Status: exec.Unknown}, node.RunEnded{Command: fleet.UUID{4}, Status: exec.Refused},
	} {
		d.readyCopy(ev)
	}
	if want := []string{"ready 02", "ready 03"}; !slices.Equal(r.outlets.said, want) {
		t.Errorf("got %q", r.outlets.said)
	}
}

// recallRunner knows three runs.
type recallRunner struct{ startRunner }

func (r *recallRunner) OpenOutput(command fleet.UUID, stream string) (KeptOutput, error) {
	switch command[0] {
	case 1:
		return newOutput([]byte("x")), nil
	case 2:
		return &memOutput{}, nil
	case 3:
		return nil, fleet.Errorf(fleet.Expired, "no longer kept")
	}
	return nil, fleet.Errorf(fleet.NotFound, "not run here")
}

func TestForgottenEndsAreFoundAtTheStart(t *testing.T) {
	d, r, _, _ := newOutletsDesk(t)
	d.runner = &recallRunner{*r}
	r.outlets.expected = []fleet.UUID{{1}, {2}, {3}, {4}}
	d.recallCopies()
	if want := []string{"ready 01", "ready 03"}; !slices.Equal(r.outlets.said, want) {
		t.Errorf("got %q: only what has ended is ready", r.outlets.said)
	}
	d.outlets = nil
	d.recallCopies()
}

// The loop hears of ends, also of those of an earlier life.
func TestTheLoopMakesCopiesReady(t *testing.T) {
	d, r, _, _ := newOutletsDesk(t)
	d.runner = &recalling{startRunner: *r}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d.quorum = nil
	ready := make(chan string, 1)
	d.outlets = chanOutlets{ready}
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	if got := <-ready; got != "07" {
		t.Errorf("%s is ready", got)
	}
	cancel()
	<-done
}

type recalling struct{ startRunner }

func (r *recalling) Recall(post func(node.Event)) {
	post(node.RunEnded{Command: fleet.UUID{7}, Started: 1, Status: exec.Success})
}

type chanOutlets struct{ ready chan string }

func (o chanOutlets) Expect(fleet.UUID, string) error { return nil }
func (o chanOutlets) Ready(command fleet.UUID)        { o.ready <- short(command) }
func (o chanOutlets) Expected() []fleet.UUID          { return nil }

func TestCopyToldIsADecision(t *testing.T) {
	d, _, kept, log := newOutletsDesk(t)
	d.CopyTold(fleet.UUID{1}, "s3://bucket/x", nil)
	if all := kept[fleet.UUID{1}]; len(all) != 1 || all[0].Detail != "copied to s3://bucket/x" || log.Len() > 0 {
		t.Errorf("%+v, %s", all, log)
	}
	d.decisions = nil
	d.CopyTold(fleet.UUID{1}, "syslog", errors.New("no socket"))
	if !strings.Contains(log.String(), "no socket") {
		t.Errorf("log: %s", log)
	}
}
