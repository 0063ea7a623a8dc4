package host

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/fleet"
)

// runs lets the agent use the runner.
type runs struct {
	runner *runner.Runner
	name   string // of this node; every run finds it in its environment
	now    func() time.Time
	may    func(node.StartRun) error // why a run does not begin here; it may have waited for its turn since it was judged
}

func (r runs) Start(ctx context.Context, e node.StartRun) error {
	cmd := e.Command
	plan, err := planOf(cmd, e.Documents)
	if err != nil {
		return err
	}
	env, hidden, err := cmd.Store().Environment(cmd.Run.Env)
	if err != nil {
		return err
	}
	err = r.runner.Start(ctx, runner.Spec{
		Command: cmd.Header.ID, Digest: e.Digest, Issued: time.UnixMilli(cmd.Header.Issued), Expires: time.UnixMilli(cmd.Header.Expires), By: e.By,
		Plan: plan, Env: append([]string{"MUSTER_NODE=" + r.name}, env...), Dir: cmd.Run.Dir, User: cmd.Run.User,
		Stdin: cmd.Run.Stdin, Timeout: time.Duration(cmd.Run.Timeout) * time.Millisecond,
		Secrets: secretsOf(cmd), EnvSecrets: hidden, May: func() error { return r.may(e) },
	})
	switch {
	case runner.Crossed(err):
		return nil // it may have started: an Ended event says what became of it
	case runner.Late(err):
		return agent.TooLate{}
	case runner.Sealed(err):
		return agent.NotStarted{As: exec.Refused, Err: err}
	}
	return err
}

func (r runs) OpenOutput(command fleet.UUID, stream string) (agent.KeptOutput, error) {
	out, err := r.runner.OpenOutput(command, runner.Stream(stream))
	if err != nil {
		return nil, err // and no typed nil
	}
	return out, nil
}

func (r runs) Cancel(command fleet.UUID) error { return r.runner.Cancel(command) }

func (r runs) Refuse(command fleet.UUID, digest fleet.ID, as exec.Status, reason string) error {
	return r.runner.Refuse(command, digest, as, reason)
}

// recallWindow is how long after its end a run is told to the loop again when the agent starts: as long as the loop
// keeps reports for servers to come.
const recallWindow = 24 * time.Hour

// Recall tells what the ledger knows, so that the loop reports it again where that is due.
func (r runs) Recall(post func(node.Event)) {
	for _, s := range r.runner.Ledger().Since(r.now().Add(-recallWindow)) {
		switch result, ended := runner.ResultOf(s); {
		case ended:
			result.Steps = r.runner.Steps(s.Command)
			post(r.ended(s.Command, result))
		case s.Started != nil:
			post(node.RunStarted{Command: s.Command, At: s.Started.Time.UnixMilli()})
		case s.Refused != nil:
			post(node.RunEnded{Command: s.Command, Status: s.Status(), Detail: s.Refused.Reason})
		case s.Cancelled != nil:
			post(node.RunEnded{Command: s.Command, Status: exec.Cancelled, Detail: "cancelled before it started"})
		}
	}
}

// follow turns the runner's news into the loop's events.
func (r runs) follow(post func(node.Event)) {
	for ev := range r.runner.Events() {
		switch ev := ev.(type) {
		case runner.Started:
			post(node.RunStarted{Command: ev.Command, At: ev.At.UnixMilli()})
		case runner.Output:
			post(node.RunWrote{
				Command: ev.Command,
				Stdout:  r.stream(ev.Command, runner.Stdout, exec.OutputSum{Size: ev.StdoutSize, Kept: ev.StdoutSize}),
				Stderr:  r.stream(ev.Command, runner.Stderr, exec.OutputSum{Size: ev.StderrSize, Kept: ev.StderrSize}),
				Steps:   ev.Steps,
			})
		case runner.Ended:
			post(r.ended(ev.Command, ev.Result))
		}
	}
}

func (r runs) ended(command fleet.UUID, result runner.Result) node.RunEnded {
	out := node.RunEnded{
		Command: command, Status: result.Status, ExitCode: result.ExitCode, Detail: result.Detail,
		Started: milli(result.Started), Ended: milli(result.Ended),
		Stdout: r.stream(command, runner.Stdout, result.Stdout), Stderr: r.stream(command, runner.Stderr, result.Stderr),
		Steps: result.Steps,
	}
	if result.Signal != 0 {
		out.Signal = unix.SignalName(syscall.Signal(result.Signal))
	}
	return out
}

func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// stream takes head and tail of what a run wrote, as much as a report carries.
func (r runs) stream(command fleet.UUID, which runner.Stream, sum exec.OutputSum) exec.Stream {
	s := exec.Stream{Size: sum.Size, Kept: sum.Kept, Digest: sum.Digest}
	if sum.Kept <= exec.ReportHead+exec.ReportTail {
		s.Head, _ = r.runner.Head(command, which, int(sum.Kept)) // what cannot be read is a gap, and shows as one
		return s
	}
	s.Head, _ = r.runner.Head(command, which, exec.ReportHead)
	if tail, err := r.runner.Output(command, which, sum.Kept-exec.ReportTail, exec.ReportTail); err == nil {
		s.Tail = tail
	}
	return s
}
