package testnet

import (
	"context"
	crand "crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// clerk acts with secrets as the command line does, but within this process, on a lane to one agent: it reads what is there,
// seals the next version for its readers, signs and proposes. Its secrets are below a path of its own. What came to nothing, or
// may have, because an agent died or a keyring got another key, is no act: it reads anew and goes on.
type clerk struct {
	v       *vault
	at      *Node
	place   int // of the node in the fleet
	path    string
	random  *rand.Rand
	signer  auth.Signer
	private []byte // opens what is sealed for the operator
	fills   bool   // puts large values, many in one act

	client *api.Client
	lane   *api.Lane // nil: none is open
	status node.Status
	off    time.Duration // the fleet's time minus this process's
	rings  node.KeyringList
	mine   params.Recipient // the operator
}

// filling is how large a value is that is there to fill the log: ten, sealed, are nearly all that one act may bring.
const filling = 8 << 10

type clerks []*clerk

// hire makes two clerks for each agent.
func (v *vault) hire(t *testing.T) clerks {
	t.Helper()
	signer, private := v.f.signer(t), v.f.opener(t)
	var out clerks
	for i := range 2 * len(v.f.Nodes) {
		place := i % len(v.f.Nodes)
		n := v.f.Nodes[place]
		c := &clerk{
			v: v, at: n, place: place, path: fmt.Sprintf("/clerk/c%d", i), random: rand.New(rand.NewPCG(3, uint64(i))), signer: signer, private: private,
			client: api.Dial(filepath.Join(n.Dir, "agent.sock")),
		}
		t.Cleanup(c.hangUp)
		out = append(out, c)
	}
	return out
}

// opener reads the first operator's key that opens secrets.
func (f *Fleet) opener(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.Dir, "op.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nsecrets-key: ")
	line, _, _ := strings.Cut(rest, "\n")
	raw, err := base64.RawStdEncoding.DecodeString(line)
	if err != nil || len(raw) != params.PrivateSize {
		t.Fatalf("a key of %d bytes: %v", len(raw), err)
	}
	return raw
}

// start has each clerk do so many acts. What it returns waits for them, and says what must not be.
func (all clerks) start(t *testing.T, acts int) (wait func() []error) {
	t.Helper()
	ctx := t.Context()
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for _, c := range all {
		group.Go(func() {
			if err := c.work(ctx, acts); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("a clerk at %s: %w", c.at.Name, err))
			}
		})
	}
	t.Cleanup(group.Wait) // before they hang up
	return func() []error {
		group.Wait()
		return failed
	}
}

// errLeak is that a secret was opened for who is no reader, or that a stale change was taken.
type errLeak struct{ error }

func (c *clerk) work(ctx context.Context, acts int) error {
	for last := time.Now(); acts > 0; {
		kind, err := c.once(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && kind == "": // there was nothing to do it to
		case err == nil:
			c.v.tally.add(byClerks, kind)
			acts, last = acts-1, time.Now()
		case !passing(err) || time.Since(last) > Patience:
			return fmt.Errorf("%s: %w", kind, err)
		default:
			c.v.tally.add(noActs, "tries again")
			c.hangUp()
			wait(100 * time.Millisecond)
		}
	}
	return nil
}

// passing reports whether an error is of something that passes.
func passing(err error) bool {
	if _, leak := errors.AsType[errLeak](err); leak {
		return false
	}
	kind := fleet.KindOf(err)
	return kind == fleet.Unavailable || kind == fleet.Conflict || errors.Is(err, context.DeadlineExceeded)
}

func (c *clerk) hangUp() {
	if c.lane != nil {
		_ = c.lane.Close()
		c.lane = nil
	}
	c.client.Close()
}

// callUp opens a lane and looks up what statements and seals need.
func (c *clerk) callUp(ctx context.Context) error {
	if c.lane != nil {
		return nil
	}
	var err error
	if c.status, err = c.client.Status(ctx); err != nil {
		return err
	}
	c.off = time.Until(c.status.Now)
	if c.rings, err = c.client.Keyrings(ctx, ""); err != nil {
		return err
	}
	operators, err := c.client.Operators(ctx)
	if err != nil {
		return err
	}
	for _, o := range operators {
		if o.ID() == c.signer.ID() {
			c.mine = params.Recipient{Reader: params.Reader{Kind: params.ByOperator, Name: o.Name}, Public: o.HPKE}
		}
	}
	c.lane, err = c.client.Lane(ctx)
	return err
}

func (c *clerk) header(life time.Duration) auth.Header {
	now := time.Now().Add(c.off)
	return auth.Header{
		ID: newUUID(), Issued: now.UnixMilli(), Expires: now.Add(life).UnixMilli(), Charter: c.status.CharterHead, Act: c.status.Act, Mode: auth.ByQuorum,
	}
}

// once does one act, and says of what kind.
func (c *clerk) once(ctx context.Context) (kind string, err error) {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := c.callUp(ctx); err != nil {
		return "a call", err
	}
	name := fmt.Sprintf("%s/s%d", c.path, c.random.IntN(8))
	switch r := c.random.IntN(100); {
	case c.fills && r < 80:
		return "import", c.putAll(ctx)
	case c.fills:
		return c.delete(ctx, c.several()...)
	case r < 35:
		return c.put(ctx, name)
	case r < 52:
		return c.get(ctx, name)
	case r < 62:
		return c.compareAndSet(ctx, name)
	case r < 72:
		return c.label(ctx, name)
	case r < 77:
		return c.history(ctx, name)
	case r < 82:
		return c.below(ctx)
	case r < 90:
		return c.open(ctx, name)
	case r < 96:
		return "import", c.putAll(ctx)
	case r < 98:
		return c.delete(ctx, name)
	default:
		return c.delete(ctx, c.several()...)
	}
}

// several are the names that are put in one act.
func (c *clerk) several() (names []string) {
	for i := range params.MaxGet {
		names = append(names, fmt.Sprintf("%s/import/i%d", c.path, i))
	}
	return names
}

// shelved is a version as it was read.
type shelved struct {
	params.Item
	put params.Put
}

func (c *clerk) ask(ctx context.Context, ask params.Ask) ([]shelved, error) {
	signed := c.signer.Sign(auth.ForRequest, c.status.Fleet, node.Read{Header: c.header(node.ReadLife), What: node.ReadParams, Name: node.Everything})
	read, err := c.lane.ReadParams(ctx, node.ParamsAsk{Signed: []auth.Envelope{signed}, Ask: ask})
	if err == nil && read.Source != node.FromLeader {
		err = fleet.Errorf(fleet.Unavailable, "an answer from the %s", read.Source)
	}
	if err != nil {
		return nil, err
	}
	var out []shelved
	for _, item := range read.Answer.Items {
		op, err := params.DecodeOp(item.Body)
		if err != nil || len(op.Put) != 1 {
			return nil, fmt.Errorf("an item that is no version: %w", err)
		}
		out = append(out, shelved{item, op.Put[0]})
	}
	return out, nil
}

// newest reads what is there of names.
func (c *clerk) newest(ctx context.Context, values bool, names ...string) (map[string]*shelved, error) {
	ask := params.Ask{Values: values}
	for _, name := range names {
		ask.Get = append(ask.Get, params.Selector{Name: name})
	}
	found, err := c.ask(ctx, ask)
	out := map[string]*shelved{}
	for i := range found {
		out[found[i].put.Name] = &found[i]
	}
	return out, err
}

// one reads what is there of a name; nil: nothing.
func (c *clerk) one(ctx context.Context, values bool, name string) (*shelved, error) {
	found, err := c.newest(ctx, values, name)
	return found[name], err
}

// decrypt opens a version as the operator, and holds it to be one with the text.
func (c *clerk) decrypt(s shelved) error {
	if len(s.Content) != 1 {
		return fmt.Errorf("%s came without what is sealed", s.put.Name)
	}
	content, err := s.put.Open(s.Content[0])
	if err != nil {
		return err
	}
	public, err := params.PublicOf(c.private)
	if err != nil {
		return err
	}
	at, err := params.ReaderWith(s.put.Readers, fleet.Sum(public))
	if err != nil {
		return err
	}
	value, err := content.Sealed[0].Open(c.binding(s.put), s.put.Readers, at, c.private)
	if err != nil {
		return err
	}
	return c.hasText(s.put.Name, value)
}

func (c *clerk) hasText(name string, value []byte) error {
	if !strings.Contains(string(value), c.v.canary.text) {
		return fmt.Errorf("%s has not the value that was put", name)
	}
	return nil
}

func (c *clerk) binding(put params.Put) params.Binding {
	return params.Binding{Fleet: c.status.Fleet, Name: put.Name, Born: put.Born, Version: put.Version}
}

// recipients are the operator, recovery and, of three in four, the readers' keyring.
func (c *clerk) recipients() ([]params.Recipient, error) {
	to := []params.Recipient{c.mine, {Reader: params.Reader{Kind: params.ByRecovery}, Public: c.rings.Recovery}}
	if c.random.IntN(4) == 0 {
		return to, nil
	}
	for _, k := range c.rings.All {
		if k.Name != "role-web" || k.Closed {
			continue
		}
		for i := len(k.Epochs) - 1; i >= 0; i-- {
			if e := k.Epochs[i]; e.Used != 0 {
				reader := params.Reader{Kind: params.ByKeyring, Name: k.Name, Life: k.Life, Epoch: e.Number}
				return append(to, params.Recipient{Reader: reader, Public: e.Key}), nil
			}
		}
	}
	return nil, fleet.Errorf(fleet.Unavailable, "the keyring has no key to seal to")
}

// draw seals a secret into the version that follows before; nil: the first.
func (c *clerk) draw(h auth.Header, name string, before *shelved) (params.Op, []byte, error) {
	put := params.Put{Name: name, Born: h.Issued, Version: 1, Type: params.SecureString, DataType: params.DataText}
	var tier params.Tier
	if before != nil {
		put.Born, put.Version, tier = before.put.Born, before.Newest+1, before.put.Tier
	}
	value := c.v.canary.secret(c.random)
	if c.fills {
		value += strings.Repeat("x", filling-len(value))
	}
	put.Size = uint32(params.SealedSize(len(value)))
	var err error
	if put.Tier, err = params.TierOf("", tier, int(put.Size), 0); err != nil {
		return params.Op{}, nil, err
	}
	to, err := c.recipients()
	if err != nil {
		return params.Op{}, nil, err
	}
	var key [32]byte
	_, _ = crand.Read(key[:])
	sealed, readers, err := params.Seal(c.binding(put), []byte(value), key, to)
	if err != nil {
		return params.Op{}, nil, err
	}
	content := params.SealedContent(sealed).Encode()
	put.Readers, put.Digest = readers, fleet.Sum(content)
	return params.Op{Put: []params.Put{put}}, content, put.Check()
}

// propose signs operations as one change and brings it to the fleet.
func (c *clerk) propose(ctx context.Context, h auth.Header, ops []params.Op, contents ...[]byte) error {
	for i := range ops {
		ops[i].Salt = newUUID()
	}
	change, bodies := params.Commit(h, ops)
	_, err := c.lane.Propose(ctx, consensus.PutParams{Statement: c.signer.Sign(auth.ForParams, c.status.Fleet, change), Ops: bodies, Contents: contents})
	return err
}

const changeLife = params.ChangeLife * time.Millisecond

func (c *clerk) put(ctx context.Context, name string) (kind string, err error) {
	before, err := c.one(ctx, false, name)
	if err != nil {
		return "put", err
	}
	kind = "put"
	if before != nil {
		kind = "overwrite"
	}
	return kind, c.putAfter(ctx, name, before)
}

func (c *clerk) putAfter(ctx context.Context, name string, before *shelved) error {
	h := c.header(changeLife)
	op, content, err := c.draw(h, name, before)
	if err != nil {
		return err
	}
	return c.propose(ctx, h, []params.Op{op}, content)
}

// compareAndSet makes a version in the place of one that is there, which must be refused, and then the next.
func (c *clerk) compareAndSet(ctx context.Context, name string) (kind string, err error) {
	now, err := c.one(ctx, false, name)
	if err != nil || now == nil {
		return "", err
	}
	var stale *shelved // of version 1: there was none
	if now.Newest > 1 {
		old := *now
		old.Newest--
		stale = &old
	}
	err = c.putAfter(ctx, name, stale)
	switch {
	case err == nil:
		return "compare and set", errLeak{fmt.Errorf("version %d of %s was taken twice", now.Newest, name)}
	case fleet.KindOf(err) != fleet.Conflict:
		return "compare and set", err
	}
	c.v.tally.add(refused, "stale compare and set")
	return "compare and set", c.putAfter(ctx, name, now)
}

func (c *clerk) putAll(ctx context.Context) error {
	names := c.several()
	now, err := c.newest(ctx, false, names...)
	if err != nil {
		return err
	}
	h := c.header(changeLife)
	var ops []params.Op
	var contents [][]byte
	for _, name := range names {
		op, content, err := c.draw(h, name, now[name])
		if err != nil {
			return err
		}
		ops, contents = append(ops, op), append(contents, content)
	}
	return c.propose(ctx, h, ops, contents...)
}

func (c *clerk) label(ctx context.Context, name string) (kind string, err error) {
	now, err := c.one(ctx, false, name)
	if err != nil || now == nil {
		return "", err
	}
	label := params.Label{Name: name, Born: now.put.Born, Seq: now.Seq + 1, Version: now.Newest, Add: []string{"current"}}
	return "label", c.propose(ctx, c.header(changeLife), []params.Op{{Label: []params.Label{label}}})
}

// delete deletes what is there of names, in one act.
func (c *clerk) delete(ctx context.Context, names ...string) (kind string, err error) {
	now, err := c.newest(ctx, false, names...)
	if err != nil || len(now) == 0 {
		return "", err
	}
	var ops []params.Op
	for _, s := range now {
		ops = append(ops, params.Op{Delete: []params.Delete{{Name: s.put.Name, Born: s.put.Born, Version: s.Newest}}})
	}
	return "delete", c.propose(ctx, c.header(changeLife), ops)
}

func (c *clerk) get(ctx context.Context, name string) (kind string, err error) {
	now, err := c.one(ctx, true, name)
	if err != nil || now == nil {
		return "", err
	}
	return "get and decrypt", c.decrypt(*now)
}

func (c *clerk) history(ctx context.Context, name string) (kind string, err error) {
	found, err := c.ask(ctx, params.Ask{History: []params.HistoryAsk{{Name: name}}, Values: true})
	if err != nil || len(found) == 0 {
		return "", err
	}
	for _, s := range found {
		if err := c.decrypt(s); err != nil {
			return "history", err
		}
	}
	return "history", nil
}

func (c *clerk) below(ctx context.Context) (kind string, err error) {
	found, err := c.ask(ctx, params.Ask{Path: []params.PathAsk{{Path: c.path, Recursive: true}}, Values: true})
	if err != nil || len(found) == 0 {
		return "", err
	}
	for _, s := range found {
		if err := c.decrypt(s); err != nil {
			return "get by path", err
		}
	}
	return "get by path", nil
}

// open has the agent open a secret as the host. Only n4 is a reader all the time; of n5, which comes and goes, nobody asks.
func (c *clerk) open(ctx context.Context, name string) (kind string, err error) {
	now, err := c.one(ctx, false, name)
	if err != nil || now == nil || c.place == 4 {
		return "", err
	}
	sealed := false // for readers' hosts
	for _, r := range now.put.Readers {
		sealed = sealed || r.Kind == params.ByKeyring
	}
	value, err := c.client.OpenParam(ctx, node.SecretRef{Name: name, Born: now.put.Born, Version: now.put.Version, Digest: now.put.Digest})
	switch {
	case err == nil && (c.place != 3 || !sealed):
		return "open as host", errLeak{fmt.Errorf("%s opens %s, of which it is no reader", c.at.Name, name)}
	case err == nil:
		return "open as host", c.hasText(name, value)
	case fleet.KindOf(err) == fleet.Denied && (c.place != 3 || !sealed):
		c.v.tally.add(refused, "open as host")
		return "", nil
	}
	return "open as host", err
}
