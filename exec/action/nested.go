package action

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// nestedLimit is how long a nested document may take in all, in milliseconds: SSM's longest timeout. The run that it is
// part of has its own, which its supervisor holds.
const nestedLimit = 48 * 3600 * 1000

// here stands for the boot of the host: a nested document never waits for another.
const here = "here"

// nested runs another document, step by step, inside of this process's step.
func (h host) nested(ctx context.Context, in document.Nested) error {
	text, err := h.documentText(in)
	if err != nil {
		return err
	}
	plan, err := planNested(in, text)
	if err != nil {
		return fleet.Errorf(fleet.KindOf(err), "document %s: %w", in.Name, err)
	}
	if err := becomeReaper(); err != nil {
		return fleet.Errorf(fleet.Internal, "cannot become a subreaper: %w", err)
	}
	outcome, err := h.perform(ctx, in.Name, plan, in.Secrets())
	if err != nil {
		return err
	}
	return nestedEnd(in.Name, outcome)
}

// documentText returns the text that came along, or reads it from this host: a file, or the one document in a folder.
func (h host) documentText(in document.Nested) ([]byte, error) {
	if in.Path == "" {
		return []byte(in.Text), nil
	}
	path := place(h.downloads, in.Path).path
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		path, err = onlyDocument(path)
	}
	if err != nil {
		return nil, troubleIn(path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, troubleAt(path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, document.MaxText+1))
	if err != nil {
		return nil, troubleAt(path, err)
	}
	return text, nil
}

func onlyDocument(folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range entries {
		if slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(e.Name()))) && !e.IsDir() {
			found = append(found, e.Name())
		}
	}
	if len(found) != 1 {
		return "", fleet.Errorf(fleet.NotFound, "%s holds %d documents (*.yaml, *.yml, *.json), not one", folder, len(found)).Hinted("name the file in documentPath")
	}
	return filepath.Join(folder, found[0]), nil
}

func planNested(in document.Nested, text []byte) (steps.Plan, error) {
	d, err := document.Parse(text)
	if err != nil {
		return steps.Plan{}, err
	}
	d, values, err := in.Complete(d)
	if err != nil {
		return steps.Plan{}, err
	}
	plan, err := d.Plan(values, document.Host{Platform: document.Linux, Depth: in.Depth}, in.Find())
	if err != nil {
		return steps.Plan{}, err
	}
	if err := plan.CheckSecrets(len(in.Secrets())); err != nil {
		return steps.Plan{}, err
	}
	return plan, plan.Check()
}

// perform does what the plan's progress says, until it is over. Nothing of it is written down: a crash in here leaves the
// outer step in doubt, and with it this. A step gets its secrets when it starts.
func (h host) perform(ctx context.Context, name string, plan steps.Plan, secrets [][]byte) (steps.Outcome, error) {
	g, err := steps.Open(steps.Opened{Plan: plan.Outline(), Limit: nestedLimit})
	for err == nil {
		switch m := g.Next(here).(type) {
		case steps.Start:
			h.announce(name, plan, m)
			step, trouble := plan.Steps[m.Step].Open(secrets)
			if trouble != nil {
				return steps.Outcome{}, trouble
			}
			if g, err = g.Add(steps.Began{Step: m.Step, Attempt: m.Attempt, At: h.now().UnixMilli(), Boot: here}); err == nil {
				g, err = g.Add(h.attempt(ctx, step, m))
			}
		case steps.Done:
			return m.Outcome, context.Cause(ctx)
		case steps.Reboot:
			return steps.Outcome{}, fleet.Errorf(fleet.Internal, "document %s waits for a reboot, which a nested one cannot", name)
		case steps.Doubt:
			return steps.Outcome{}, fleet.Errorf(fleet.Unavailable, "document %s: nobody saw how step %d ended", name, m.Step+1)
		}
	}
	return steps.Outcome{}, err
}

// announce says on stderr whose words follow, where more than one step speaks.
func (h host) announce(name string, plan steps.Plan, m steps.Start) {
	if len(plan.Steps) == 1 && m.Attempt == 1 {
		return
	}
	again := ""
	if m.Attempt > 1 {
		again = fmt.Sprintf(", attempt %d", m.Attempt)
	}
	h.say("-- %s, step %d of %d: %s%s", name, m.Step+1, len(plan.Steps), plan.Steps[m.Step].Name, again)
}

// nestedEnd turns what the document came to into what its step says.
func nestedEnd(name string, o steps.Outcome) error {
	what := fmt.Sprintf("document %s: %s", name, o.Status)
	if o.Detail != "" {
		what += ": " + o.Detail
	}
	switch o.Status {
	case steps.Success, steps.Skipped:
		return nil
	case steps.InvalidPlatform:
		return invalidPlatform("%s", what)
	}
	return &exitError{what, o.ExitCode}
}
