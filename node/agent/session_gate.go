package agent

import "github.com/muster-fleet/muster/node/fleet"

// AllowOperator judges a peer on the plane of sessions, at the connection and at every stream: only a current operator's own
// key speaks there, and a node's key does not. What the operator may do is judged by what is signed behind it.
func (a *Agent) AllowOperator(peer fleet.ID) error {
	_, err := a.record().Charter.Current(peer, a.now())
	return err
}
