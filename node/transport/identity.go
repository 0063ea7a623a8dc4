package transport

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// serverName is sent by every dialler: it says nothing about whom it wants, and tells nobody on the path.
const serverName = "muster"

// leafOf makes the certificate that shows key. It carries no authority: peers look at its public key alone.
func leafOf(key ed25519.PrivateKey) (tls.Certificate, error) {
	form := x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), // RFC 5280's "no end"; nobody checks it
	}
	der, err := x509.CreateCertificate(rand.Reader, &form, &form, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, &fleet.Error{Kind: fleet.Internal, What: "cannot make the TLS certificate", Err: err}
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// derive makes a key for one purpose out of the node key, the same after every restart.
func derive(key ed25519.PrivateKey, purpose string) [32]byte {
	out, err := hkdf.Key(sha256.New, key.Seed(), nil, "muster transport "+purpose, 32)
	if err != nil {
		panic("transport: " + err.Error()) // only for lengths that are constants here
	}
	return [32]byte(out)
}

// serverTLS accepts any peer that proves an Ed25519 key. Whom that key belongs to is settled by the hello.
func serverTLS(leaf tls.Certificate, planes []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{leaf},
		ClientAuth:             tls.RequireAnyClientCert,
		NextProtos:             planes,
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := provenID(state)
			return err
		},
	}
}

// clientTLS dials one plane; a want that is not zero must be whom the peer proves to be.
func clientTLS(leaf tls.Certificate, plane Plane, want fleet.ID) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{leaf},
		NextProtos:             []string{string(plane)},
		ServerName:             serverName,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // there is no authority to ask: VerifyConnection checks the key itself
		VerifyConnection: func(state tls.ConnectionState) error {
			got, err := provenID(state)
			if err != nil {
				return err
			}
			if !want.IsZero() && got != want {
				return fleet.Errorf(fleet.Unavailable, "node %s answers there, not %s", got, want) // the one that is meant may be elsewhere, or come back
			}
			return nil
		},
	}
}

// provenID returns the node ID of the key that the TLS handshake proved.
func provenID(state tls.ConnectionState) (fleet.ID, error) {
	if len(state.PeerCertificates) != 1 {
		return fleet.ID{}, fleet.Errorf(fleet.Denied, "the peer shows %d certificates, not one", len(state.PeerCertificates))
	}
	key, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return fleet.ID{}, fleet.Errorf(fleet.Denied, "the peer's key is not Ed25519")
	}
	return fleet.Sum(key), nil
}
