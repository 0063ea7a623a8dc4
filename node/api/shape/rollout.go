package shape

import (
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
)

// Document pins a version of a document.
type Document struct {
	Name    string   `json:"name"`
	Version uint32   `json:"version"`
	Digest  fleet.ID `json:"digest"` // SHA-256 of its text
}

// Pace is how a command spreads over its nodes.
type Pace struct {
	Limited     bool         `json:"limited"` // false: all at once
	Concurrency uint32       `json:"max_concurrency"`
	Errors      uint32       `json:"max_errors"`
	Strict      bool         `json:"strict"`
	Waves       []uint32     `json:"waves"`
	Gates       []fleet.UUID `json:"gates"`
	OnStop      *fleet.UUID  `json:"on_stop,omitempty"`
}

// After is what a gate or an on-stop command waits for.
type After struct {
	Command fleet.UUID `json:"command"`
	Wave    uint32     `json:"wave"` // 0: its stop
}

// Rollout is how far a command with limits has come.
type Rollout struct {
	Idle    uint32 `json:"idle"`    // nodes that may still be granted
	Running uint32 `json:"running"` // granted and not ended
	Granted uint32 `json:"granted"` // ever
	Failed  uint32 `json:"failed"`
	Wave    uint32 `json:"wave"` // from 0
	Waits   bool   `json:"waits,omitzero"`
	Stopped string `json:"stopped"` // errors, gate, cancelled or unneeded; empty: it goes on
	Nodes   []byte `json:"nodes"`   // exec.NodeState of each, in the order of the frozen set
}

func ofDocuments(refs []exec.DocumentRef) []Document {
	out := make([]Document, 0, len(refs))
	for _, r := range refs {
		out = append(out, Document(r))
	}
	return out
}

func documentsOf(all []Document) []exec.DocumentRef {
	var out []exec.DocumentRef
	for _, d := range all {
		out = append(out, exec.DocumentRef(d))
	}
	return out
}

func ofPace(p exec.Pace) Pace {
	out := Pace{p.Limited, p.Concurrency, p.Errors, p.Strict, p.Waves, p.Gates, nil}
	if out.Waves == nil {
		out.Waves = []uint32{}
	}
	if out.Gates == nil {
		out.Gates = []fleet.UUID{}
	}
	if !p.OnStop.IsZero() {
		out.OnStop = &p.OnStop
	}
	return out
}

// Pace returns what ofPace was given.
func (p Pace) Pace() exec.Pace {
	out := exec.Pace{Limited: p.Limited, Concurrency: p.Concurrency, Errors: p.Errors, Strict: p.Strict}
	if len(p.Waves) > 0 {
		out.Waves = p.Waves
	}
	if len(p.Gates) > 0 {
		out.Gates = p.Gates
	}
	if p.OnStop != nil {
		out.OnStop = *p.OnStop
	}
	return out
}

// OfRollout returns the shape of r.
func OfRollout(r exec.Rollout) Rollout {
	return Rollout{r.Idle, r.Running, r.Granted, r.Failed, r.Wave, r.Waits, r.Stopped, r.Nodes}
}

// Rollout returns what OfRollout was given.
func (r Rollout) Rollout() exec.Rollout {
	out := exec.Rollout{
		Idle: r.Idle, Running: r.Running, Granted: r.Granted, Failed: r.Failed, Wave: r.Wave, Waits: r.Waits, Stopped: r.Stopped,
	}
	if len(r.Nodes) > 0 {
		out.Nodes = r.Nodes
	}
	return out
}
