package api

import (
	"context"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// keyringStub answers what it was made with, and keeps what it was asked.
type keyringStub struct {
	list  node.KeyringList
	key   []byte
	value []byte
	err   error

	name    string
	node    fleet.ID
	signed  auth.Envelope
	ref     node.SecretRef
	account string
}

func (s *keyringStub) Keyrings(_ context.Context, name string) node.KeyringList {
	s.name = name
	return s.list
}

func (s *keyringStub) HandOver(_ context.Context, to fleet.ID, signed auth.Envelope) error {
	s.node, s.signed = to, signed
	return s.err
}

func (s *keyringStub) NodeHPKE(_ context.Context, id fleet.ID) ([]byte, error) {
	s.node = id
	return s.key, s.err
}

func (s *keyringStub) OpenParam(_ context.Context, ref node.SecretRef, account string) ([]byte, error) {
	s.ref, s.account = ref, account
	return s.value, s.err
}
