package node

import (
	"bytes"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A command of the largest size for ten thousand nodes fits in one answer with its signature, and nothing of it is lost.
func TestASignedCommandFitsInAnAnswer(t *testing.T) {
	const frame = 512 << 10 // of the peers' plane
	f := authtest.Found("thin")
	body := exec.Command{Target: "*", Count: 10_000, Run: exec.Run{Argv: []string{"sh"}, Script: make([]byte, exec.MaxCommand-1<<10)}}
	info := CommandInfo{Body: body, Nodes: make([]fleet.ID, 10_000), Statement: []auth.Envelope{f.Operator.Sign(auth.ForCommand, f.ID(), body)}}
	raw := wire.Marshal(Answer{Commands: []CommandInfo{info.Thin()}})
	if len(raw) > frame {
		t.Errorf("%d bytes", len(raw))
	}
	var answer Answer
	if err := wire.Unmarshal(raw, &answer); err != nil {
		t.Fatal(err)
	}
	got, err := answer.Commands[0].Full()
	if err != nil || !bytes.Equal(wire.Marshal(got.Body), wire.Marshal(body)) {
		t.Errorf("%v", err)
	}
	info.Statement = nil
	if got, err := info.Thin().Full(); err != nil || got.Body.Count != body.Count {
		t.Errorf("without a statement: %v", err)
	}
}
