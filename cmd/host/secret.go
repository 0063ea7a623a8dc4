package host

import (
	"context"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// secretsOf names the secrets of a command for the runner, in their order. What names them is kept in the run's folder;
// it holds no value.
func secretsOf(cmd exec.Command) [][]byte {
	var out [][]byte
	for _, p := range cmd.Secrets() {
		out = append(out, wire.Marshal(p))
	}
	return out
}

// opener opens secrets as this node: the agent.
type opener interface {
	OpenSecret(ctx context.Context, ref node.SecretRef) (node.Opened, error)
}

// openFor returns the runner's way to open what secretsOf named. Policy has permitted the operator to decrypt what has the
// tags that his command says: they must be the secret's.
func openFor(agent opener) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, ref []byte) ([]byte, error) {
		var p exec.ParamRef
		if err := wire.Unmarshal(ref, &p); err != nil {
			return nil, err
		}
		opened, err := agent.OpenSecret(ctx, node.SecretRef{Name: p.Name, Born: p.Born, Version: p.Version, Digest: p.Digest})
		switch {
		case err != nil:
			return nil, fleet.Errorf(fleet.KindOf(err), "secret %s cannot be opened on this node: %w", p.Text(), err)
		case !p.SameTags(opened.Tags):
			clear(opened.Value)
			return nil, fleet.Errorf(fleet.Denied, "secret %s has other tags than the command was signed with", p.Text()).
				Hinted("send the command again: they are read anew")
		}
		return opened.Value, nil
	}
}
