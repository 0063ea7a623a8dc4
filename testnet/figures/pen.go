package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// pen signs what is asked of the servers beside the command line, which does not show when a node had an order.
type pen struct{ signer auth.Signer }

// takePen reads the operator's key of the fleet.
func (b *bench) takePen() (pen, error) {
	raw, err := os.ReadFile(b.lan.Identity())
	if err != nil {
		return pen{}, err
	}
	return parsePen(string(raw))
}

// parsePen finds the signing key in a key file.
func parsePen(text string) (pen, error) {
	value, _ := colonValue(text, "signing-seed")
	seed, err := base64.RawStdEncoding.DecodeString(value)
	if err != nil || len(seed) != ed25519.SeedSize {
		return pen{}, fmt.Errorf("the operator's key file holds no signing seed")
	}
	return pen{auth.NewSigner(ed25519.NewKeyFromSeed(seed))}, nil
}

// request signs the wish to read about a command.
func (p pen) request(ctx context.Context, client *api.Client, id fleet.UUID) (auth.Envelope, error) {
	s, err := client.Status(ctx)
	if err != nil {
		return auth.Envelope{}, err
	}
	h := auth.Header{
		Issued: s.Now.UnixMilli(), Expires: s.Now.Add(node.ReadLife).UnixMilli(), Charter: s.CharterHead, Act: s.Act, Mode: auth.ByQuorum,
	}
	rand.Read(h.ID[:])
	h.ID[6], h.ID[8] = h.ID[6]&0x0f|0x40, h.ID[8]&0x3f|0x80 // RFC 9562, version 4
	return p.signer.Sign(auth.ForRequest, s.Fleet, node.Read{Header: h, What: node.ReadCommand, Arg: id}), nil
}
