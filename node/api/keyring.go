package api

import (
	"context"
	"net/http"
	"net/url"
	"os/user"
	"strconv"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// KeyringBackend is what the agent offers of keyrings and secrets.
type KeyringBackend interface {
	// Keyrings lists the keyrings of the fleet, or the one of that name, with what their living members say.
	Keyrings(ctx context.Context, name string) node.KeyringList
	// HandOver brings a node.HandOver, signed by an operator, to its node.
	HandOver(ctx context.Context, to fleet.ID, signed auth.Envelope) error
	// NodeHPKE asks a node for the public key that keys are handed over to; it is the one that the node enrolled with.
	NodeHPKE(ctx context.Context, id fleet.ID) ([]byte, error)
	// OpenParam decrypts a secret that this host can read, for a local account, if policy lets it; user is empty for root
	// and for the agent's own account, who are the host itself.
	OpenParam(ctx context.Context, ref node.SecretRef, user string) ([]byte, error)
}

func (s *desk) keyrings(w http.ResponseWriter, r *http.Request) {
	write(w, http.StatusOK, shape.OfKeyrings(s.backend.Keyrings(r.Context(), r.URL.Query().Get("name"))))
}

func (s *desk) nodeHPKE(w http.ResponseWriter, r *http.Request) {
	id, err := pathNode(r)
	var key []byte
	if err == nil {
		key, err = s.backend.NodeHPKE(r.Context(), id)
	}
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, shape.PublicKey{Key: key})
}

func (s *desk) handOver(w http.ResponseWriter, r *http.Request) {
	id, signed, err := askNode(w, r)
	if err == nil {
		err = s.backend.HandOver(r.Context(), id, signed)
	}
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, struct{}{})
}

// openParam gives a secret's value to an account of this host. Who asks is the kernel's word.
func (s *desk) openParam(w http.ResponseWriter, r *http.Request) {
	var body shape.SecretRef
	err := ask(w, r, maxStatementBody, &body)
	var name string
	if err == nil {
		name, err = s.account(r)
	}
	var value []byte
	if err == nil {
		value, err = s.backend.OpenParam(r.Context(), body.Ref(), name)
	}
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, shape.Opened{Value: value})
	copy(value, make([]byte, len(value))) // best effort: what went out is in other buffers too
}

// account returns the name of the caller's account, or "" for root and the agent's own, who are the host itself.
func (s *desk) account(r *http.Request) (string, error) {
	who, known := r.Context().Value(callerKey{}).(caller)
	switch {
	case !known:
		return "", fleet.Errorf(fleet.Denied, "the kernel does not say who asks")
	case who.operator != nil:
		return "", fleet.Errorf(fleet.Denied, "from elsewhere, parameters are read with an operator's signature alone").
			Hinted("what is read as a host or an account of it is read there, without --via")
	case who.uid == 0 || who.uid == s.self:
		return "", nil
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(who.uid), 10))
	if err != nil || u.Username == "" {
		return "", fleet.Errorf(fleet.Denied, "this host has no name for the account with uid %d", who.uid)
	}
	return u.Username, nil
}

// Keyrings lists the keyrings of the fleet, or the one of that name, with what their living members say.
func (c *Client) Keyrings(ctx context.Context, name string) (node.KeyringList, error) {
	var out shape.Keyrings
	if err := c.get(ctx, "/v1/keyrings?name="+url.QueryEscape(name), &out); err != nil {
		return node.KeyringList{}, err
	}
	if record, ok, err := c.record(ctx); err != nil {
		return node.KeyringList{}, err
	} else if ok {
		return provenKeyrings(record, name, out.List(), time.Now()), nil
	}
	return out.List(), nil
}

// HandOver brings a node.HandOver, signed by an operator, to its node.
func (c *Client) HandOver(ctx context.Context, to fleet.ID, signed auth.Envelope) error {
	return c.post(ctx, "/v1/keyrings/handover/"+to.Text(), shape.Statement{Statement: wire.Marshal(signed)}, &struct{}{})
}

// NodeHPKE returns the public key that keys are handed over to at a node. The agent has checked it against the roster.
func (c *Client) NodeHPKE(ctx context.Context, id fleet.ID) ([]byte, error) {
	var out shape.PublicKey
	if err := c.get(ctx, "/v1/nodes/"+id.Text()+"/hpke", &out); err != nil {
		return nil, err
	}
	if record, ok, err := c.record(ctx); ok || err != nil {
		if err == nil {
			err = provenHPKE(record, id, out.Key)
		}
		return out.Key, err
	}
	return out.Key, nil
}

// OpenParam returns the value of a secret that the host can read, if policy lets the caller's account have it.
func (c *Client) OpenParam(ctx context.Context, ref node.SecretRef) ([]byte, error) {
	var out shape.Opened
	err := c.post(ctx, "/v1/params/open", shape.OfSecretRef(ref), &out)
	return out.Value, err
}
