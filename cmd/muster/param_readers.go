package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// readerSpec names a reader of a secret apart from its key, which changes with time.
type readerSpec struct {
	kind params.ReaderKind
	name string
}

func (s readerSpec) String() string { return params.Reader{Kind: s.kind, Name: s.name}.String() }

func specsOf(readers []params.Reader) []readerSpec {
	var out []readerSpec
	for _, r := range readers {
		out = append(out, readerSpec{r.Kind, r.Name})
	}
	return out
}

// readReaders reads what --readers says. Beside whom it names, the writer and recovery can read, unless only is set. A
// target stands for the keyring that follows it, which is made where there is none.
func (c *cabinet) readReaders(ctx context.Context, words []string, only bool) ([]readerSpec, error) {
	var out []readerSpec
	if !only {
		out = append(out, readerSpec{params.ByOperator, c.pen.who.Operator})
		if rings, err := c.keyrings(ctx); err != nil {
			return nil, err
		} else if len(rings.Recovery) > 0 {
			out = append(out, readerSpec{kind: params.ByRecovery})
		}
	}
	for _, word := range words {
		specs, err := c.readReader(ctx, word)
		if err != nil {
			return nil, err
		}
		for _, s := range specs {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	switch {
	case len(out) == 0:
		return nil, fleet.Errorf(fleet.Invalid, "nobody could read it").Hinted("--readers names who can")
	case len(out) > params.MaxReaders:
		return nil, fleet.Errorf(fleet.Exhausted, "%d readers; a secret has at most %d", len(out), params.MaxReaders).
			Hinted("a keyring counts as one: --readers TARGET")
	}
	return out, nil
}

func (c *cabinet) readReader(ctx context.Context, word string) ([]readerSpec, error) {
	kind, name, _ := strings.Cut(word, ":")
	switch kind {
	case "recovery":
		return []readerSpec{{kind: params.ByRecovery}}, nil
	case "operator":
		return []readerSpec{{params.ByOperator, name}}, nil
	case "keyring":
		return []readerSpec{{params.ByKeyring, name}}, nil
	case "team":
		return c.readTeam(ctx, name)
	}
	name, err := c.keyringFor(ctx, word)
	return []readerSpec{{params.ByKeyring, name}}, err
}

// readTeam writes a team out into its operators of now.
func (c *cabinet) readTeam(ctx context.Context, team string) ([]readerSpec, error) {
	operators, err := c.keys.Operators(ctx)
	if err != nil {
		return nil, err
	}
	var out []readerSpec
	var names []string
	for _, op := range operators {
		if slices.Contains(op.Teams, team) {
			out, names = append(out, readerSpec{params.ByOperator, op.Name}), append(names, op.Name)
		}
	}
	if len(out) == 0 {
		return nil, fleet.Errorf(fleet.NotFound, "nobody is in team %s", team).Hinted("muster operator list")
	}
	c.app.say("team %s is %s now; who joins it later can read what is put after that", team, strings.Join(names, ", "))
	return out, nil
}

// keyringFor finds the keyring of a target, or makes one.
func (c *cabinet) keyringFor(ctx context.Context, expr string) (string, error) {
	all, err := callRollWithGroups(ctx, c.keys)
	if err != nil {
		return "", err
	}
	target, base, err := c.app.keyringTarget(all, expr)
	if err != nil {
		return "", err
	}
	rings, err := c.keyrings(ctx)
	if err != nil {
		return "", err
	}
	for _, k := range rings.All {
		if k.Target == target.String() {
			c.app.say("keyring %s: %s (%s)", k.Name, all.withNames(k.Target), count(len(k.Members), "node"))
			return k.Name, nil
		}
	}
	name := freeName(base, rings)
	made, err := c.makeKeyring(ctx, name, target)
	if err != nil {
		return "", err
	}
	c.app.say("keyring %s is made for %s (%s)", name, all.withNames(target.String()), count(made.members, "node"))
	made.tell(c.app, name)
	return name, nil
}

// keyringTarget reads the target of a keyring: over signed tags and IDs, never over what nodes say of themselves. What they
// call themselves is that, too, so names are written as the IDs of the nodes that have them now. name is what a keyring of the
// target may be called.
func (a *app) keyringTarget(all roll, expr string) (target fleet.Target, name string, err error) {
	said, err := readTarget(all, expr)
	if err != nil {
		return said, "", err
	}
	if said.UsesFacts() {
		return said, "", fleet.Errorf(fleet.Invalid, "%s asks what nodes say of themselves; who reads a secret is decided by signed tags alone", said).
			Hinted("muster node tag NODE key=value, then 'tag.key=value'")
	}
	members := make([]*fleet.Member, 0, len(all.nodes))
	for m := range all.view.All() {
		members = append(members, &m)
	}
	target, err = said.WithIDs(members)
	if err == nil && target.String() != said.String() {
		a.say("%s is written as what has the name now, by ID: another host that takes a name is not let in", said)
	}
	return target, baseName(said), err
}

// withNames writes the names of nodes in the place of their IDs, for people.
func (r roll) withNames(text string) string {
	for id, n := range r.nodes {
		text = strings.ReplaceAll(strings.ReplaceAll(text, id.Text(), n.Name), id.String(), n.Name)
	}
	return text
}

// baseName makes a name out of a target.
func baseName(target fleet.Target) string {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(strings.ToLower(target.String()), "tag.", "") {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	const longest = 40
	return cmp.Or(strings.Trim(b.String()[:min(b.Len(), longest)], "-"), "nodes")
}

// freeName returns base, or, where a keyring has that name, base with a number.
func freeName(base string, rings node.KeyringList) string {
	name := base
	for i := 2; slices.ContainsFunc(rings.All, func(k node.KeyringInfo) bool { return k.Name == name }); i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	return name
}

// keyrings asks for the keyrings once; forgetKeyrings has them asked for again.
func (c *cabinet) keyrings(ctx context.Context) (node.KeyringList, error) {
	if c.rings != nil {
		return *c.rings, nil
	}
	rings, err := c.keys.Keyrings(ctx, "")
	if err == nil {
		c.rings = &rings
	}
	return rings, err
}

func (c *cabinet) forgetKeyrings() { c.rings = nil }

func (c *cabinet) keyring(ctx context.Context, name string) (node.KeyringInfo, error) {
	rings, err := c.keyrings(ctx)
	if err != nil {
		return node.KeyringInfo{}, err
	}
	for _, k := range rings.All {
		if k.Name == name {
			return k, nil
		}
	}
	return node.KeyringInfo{}, noKeyring(name)
}

func noKeyring(name string) error {
	return fleet.Errorf(fleet.NotFound, "no keyring %s", name).Hinted("muster keyring list")
}

// recipients looks up the present keys of a secret's readers: those that were named, or those of the version before, or
// the writer and recovery. Operators of the version before who are no more are left out, and returned.
func (c *cabinet) recipients(ctx context.Context, w wish, before *paramVersion) (to []params.Recipient, gone []string, err error) {
	specs, inherited := w.readers, false
	switch {
	case specs == nil && before != nil:
		specs, inherited = specsOf(before.put.Readers), true
		if err := c.mayInherit(ctx, w, *before, specs); err != nil {
			return nil, nil, err
		}
	case specs == nil:
		if specs, err = c.readReaders(ctx, nil, false); err != nil {
			return nil, nil, err
		}
	}
	operators, err := c.keys.Operators(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range specs {
		r, err := c.recipient(ctx, s, operators)
		if inherited && s.kind == params.ByOperator && fleet.KindOf(err) == fleet.NotFound {
			gone = append(gone, s.String())
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		to = append(to, r)
	}
	if len(to) == 0 {
		return nil, gone, fleet.Errorf(fleet.Conflict, "none of the readers of %s is left", w.name).Hinted("--readers names new ones")
	}
	return to, gone, nil
}

// mayInherit refuses to seal a value for readers whom somebody else has named, unless the writer says so, has named them too,
// or they are the writer and recovery: who may put a version, but not decrypt, would become a reader of the next one.
func (c *cabinet) mayInherit(ctx context.Context, w wish, before paramVersion, specs []readerSpec) error {
	if w.sameReaders || before.item.Change.Key == c.mine() {
		return nil
	}
	known := []readerSpec{{params.ByOperator, c.pen.who.Operator}, {kind: params.ByRecovery}}
	all, err := c.history(ctx, w.name, false)
	if err != nil {
		return err
	}
	for _, v := range slices.Backward(all) {
		if v.item.Change.Key == c.mine() {
			known = append(known, specsOf(v.put.Readers)...)
			break
		}
	}
	var strange []string
	for _, s := range specs {
		if !slices.Contains(known, s) {
			strange = append(strange, s.String())
		}
	}
	if len(strange) == 0 {
		return nil
	}
	return fleet.Errorf(fleet.Denied, "operator %s has named readers of %s that you have not: %s", before.item.Operator, w.name, strings.Join(strange, ", ")).
		Hinted("--same-readers seals it for them, too; --readers names others")
}

func (c *cabinet) recipient(ctx context.Context, s readerSpec, operators []auth.Operator) (params.Recipient, error) {
	switch s.kind {
	case params.ByRecovery:
		rings, err := c.keyrings(ctx)
		if err == nil && len(rings.Recovery) == 0 {
			err = fleet.Errorf(fleet.NotFound, "this fleet has no recovery key for secrets: it was founded before there were secrets").Hinted("--readers operator:NAME")
		}
		return recipientOf(params.Reader{Kind: params.ByRecovery}, rings.Recovery), err
	case params.ByOperator:
		i := slices.IndexFunc(operators, func(o auth.Operator) bool { return o.Name == s.name })
		if i < 0 {
			return params.Recipient{}, fleet.Errorf(fleet.NotFound, "no operator %s", s.name).Hinted("muster operator list")
		}
		return recipientOf(params.Reader{Kind: params.ByOperator, Name: s.name}, operators[i].HPKE), nil
	case params.ByKeyring:
		k, epoch, err := c.readyKeyring(ctx, s.name)
		return recipientOf(params.Reader{Kind: params.ByKeyring, Name: s.name, Life: k.Life, Epoch: epoch.Number}, epoch.Key), err
	}
	return params.Recipient{}, fleet.Errorf(fleet.Invalid, "a reader of kind %d is not understood by this version", s.kind)
}

func recipientOf(r params.Reader, public []byte) params.Recipient {
	r.Key = fleet.Sum(public)
	return params.Recipient{Reader: r, Public: public}
}

// readyKeyring returns the epoch that new secrets are sealed to. Where somebody has left, the members make a new one
// first, which takes them a moment.
func (c *cabinet) readyKeyring(ctx context.Context, name string) (node.KeyringInfo, auth.KeyEpoch, error) {
	told := time.Now().Add(keyringSilence)
	for deadline := time.Now().Add(keyringPatience); ; {
		k, err := c.keyring(ctx, name)
		if err != nil {
			return k, auth.KeyEpoch{}, err
		}
		if epoch, ok := usedEpoch(k); ok && !k.Closed {
			return k, epoch, nil
		}
		if !time.Now().Before(deadline) {
			return k, auth.KeyEpoch{}, fleet.Errorf(fleet.Unavailable, "nothing can be sealed to keyring %s before its members have made a new key: %s", name, k.Due).
				Hinted("a member that is up makes it by itself; who is: muster keyring show %s", name)
		}
		if !told.IsZero() && time.Now().After(told) {
			told = time.Time{}
			c.app.say("keyring %s is closed (%s): waiting for its members to make a new key", name, k.Due)
		}
		if err := pause(ctx, keyringLook); err != nil {
			return k, auth.KeyEpoch{}, err
		}
		c.forgetKeyrings()
	}
}

// usedEpoch returns the newest epoch that secrets are sealed to.
func usedEpoch(k node.KeyringInfo) (auth.KeyEpoch, bool) {
	for i := len(k.Epochs) - 1; i >= 0; i-- {
		if k.Epochs[i].Used != 0 {
			return k.Epochs[i], true
		}
	}
	return auth.KeyEpoch{}, false
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// escrowed returns the seed of a keyring's epoch that is in escrow for the operator.
func (c *cabinet) escrowed(ctx context.Context, r params.Reader) ([]byte, error) {
	at := fmt.Sprintf("%s/%x/%d", r.Name, r.Life, r.Epoch)
	if seed, ok := c.seeds[at]; ok {
		return seed, nil
	}
	k, err := c.keyring(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	if k.Life != r.Life {
		return nil, noKeyring(r.Name)
	}
	for _, epoch := range k.Epochs {
		if epoch.Number != r.Epoch {
			continue
		}
		seed, err := c.openEscrow(k, epoch)
		if err == nil {
			c.seeds[at] = seed
		}
		return seed, err
	}
	return nil, fleet.Errorf(fleet.NotFound, "keyring %s has no epoch %d", r.Name, r.Epoch)
}

// openEscrow opens the box of an epoch that is for this operator, or, with the recovery key, the one for recovery.
func (c *cabinet) openEscrow(k node.KeyringInfo, epoch auth.KeyEpoch) ([]byte, error) {
	private := c.pen.who.HPKE
	name := c.pen.who.Operator
	if c.recovery != nil {
		private, name = c.recovery, ""
	}
	public, err := params.PublicOf(private)
	if err != nil {
		return nil, err
	}
	mine := fleet.Sum(public)
	b := params.SeedBinding{Fleet: c.status.Fleet, Keyring: k.Name, Life: k.Life, Number: epoch.Number}
	for _, box := range epoch.Escrow {
		if box.Operator != name || box.Key != mine {
			continue
		}
		seed, err := params.OpenSeed(b, box.Box, private)
		if err == nil {
			err = params.CheckSeed(seed, epoch.Key)
		}
		if err != nil {
			return nil, fleet.Errorf(fleet.Invalid, "what is in escrow is not the seed of epoch %d of keyring %s: %w", epoch.Number, k.Name, err).
				Hinted("a member that made it lies: muster keyring rotate %s", k.Name)
		}
		return seed, nil
	}
	var who []string
	for _, box := range epoch.Escrow {
		who = append(who, escrowReader(box).String())
	}
	return nil, fleet.Errorf(fleet.Denied, "the seed of epoch %d of keyring %s is not in escrow for operator %s, but for %s",
		epoch.Number, k.Name, c.pen.who.Operator, strings.Join(who, ", "))
}

func escrowReader(box auth.Escrow) params.Reader {
	if box.Operator == "" {
		return params.Reader{Kind: params.ByRecovery}
	}
	return params.Reader{Kind: params.ByOperator, Name: box.Operator}
}
