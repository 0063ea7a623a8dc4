package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// mostTries bounds how often a change is made anew because somebody else was faster.
const mostTries = 10

// How a writer waits for a keyring's members to make a new key.
const (
	// keyringPatience is how long: where too few members are up to hold it, they make another after auth.EpochPatience.
	keyringPatience = auth.EpochPatience*time.Millisecond + 15*time.Second
	keyringSilence  = time.Second // before it is said what is waited for
	keyringLook     = 250 * time.Millisecond
)

// draft is one operation of a change, with the content that goes beside it.
type draft struct {
	op      params.Op
	content []byte // of a Put, encoded
}

// shelfOf is what is there now, by name; nil: nothing.
type shelfOf map[string]*paramVersion

// change makes one act of drafts and brings it to the fleet. What is there is read before each try; draw makes the
// drafts of it, and its error ends the matter. No draft: nothing is written.
func (c *cabinet) change(ctx context.Context, names []string, draw func(h auth.Header, now shelfOf) ([]draft, error)) error {
	var last shelfOf
	patient := time.Now().Add(keyringPatience)
	for try := 1; ; try++ {
		c.forgetKeyrings()
		now, err := c.look(ctx, names)
		if err != nil {
			return err
		}
		header := c.pen.header(params.ChangeLife * time.Millisecond)
		drafts, err := draw(header, now)
		if err != nil || len(drafts) == 0 {
			return err
		}
		statement, refused, err := c.propose(ctx, header, drafts)
		switch {
		case err != nil:
			if c.taken(ctx, names, statement, drafts) {
				return nil
			}
			return writtenPerhaps(err, drafts)
		case refused == nil:
			return nil
		case fleet.KindOf(refused) == fleet.Unavailable && time.Now().Before(patient):
			if err := pause(ctx, keyringLook); err != nil { // a keyring was closed just now: its members make a new key
				return err
			}
		case fleet.KindOf(refused) != fleet.Conflict || try >= mostTries || last.same(now):
			return refused
		}
		last = now
	}
}

// taken looks whether a change was taken of which nobody has said so. Only of versions that were put can it be told.
func (c *cabinet) taken(ctx context.Context, names []string, statement auth.Envelope, drafts []draft) bool {
	now, err := c.look(ctx, names)
	if err != nil {
		return false
	}
	puts := 0
	for _, d := range drafts {
		if len(d.op.Put) == 0 {
			continue
		}
		v := now[d.op.Put[0].Name]
		if v == nil || !bytes.Equal(v.item.Change.Body, statement.Body) {
			return false
		}
		puts++
	}
	return puts > 0
}

// look reads the newest versions of names, without their values.
func (c *cabinet) look(ctx context.Context, names []string) (shelfOf, error) {
	var selectors []params.Selector
	for _, name := range names {
		selectors = append(selectors, params.Selector{Name: name})
	}
	found, _, err := c.get(ctx, selectors, false)
	if err != nil {
		return nil, err
	}
	out := shelfOf{}
	for i := range found {
		out[found[i].put.Name] = &found[i]
	}
	return out, nil
}

// same reports whether nothing has happened between two looks: who was refused then will be refused again.
func (s shelfOf) same(o shelfOf) bool {
	if s == nil || len(s) != len(o) {
		return false
	}
	for name, v := range s {
		w := o[name]
		if w == nil || v.put.Born != w.put.Born || v.put.Version != w.put.Version || v.item.Seq != w.item.Seq {
			return false
		}
	}
	return true
}

// propose signs drafts and brings them to the fleet. refused is the fleet's answer, err that there is none.
func (c *cabinet) propose(ctx context.Context, header auth.Header, drafts []draft) (statement auth.Envelope, refused, err error) {
	var entry consensus.PutParams
	var ops []params.Op
	for _, d := range drafts {
		d.op.Salt = newUUID()
		ops = append(ops, d.op)
		if len(d.op.Put) > 0 {
			entry.Contents = append(entry.Contents, d.content)
		}
	}
	change, bodies := params.Commit(header, ops)
	if _, err := change.Open(bodies); err != nil {
		return statement, err, nil
	}
	entry.Ops, entry.Statement = bodies, c.pen.sign(auth.ForParams, change)
	result, err := c.client.Propose(ctx, entry)
	switch {
	case result.Err() != nil:
		return entry.Statement, result.Err(), nil
	case err == nil, fleet.KindOf(err) == fleet.Unavailable, ctx.Err() != nil:
		return entry.Statement, nil, err
	}
	return entry.Statement, err, nil // an agent that tells a refusal as an error: nobody refuses so but the fleet
}

// writtenPerhaps says, when nobody answered, that the change may have been taken all the same.
func writtenPerhaps(err error, drafts []draft) error {
	if fleet.KindOf(err) != fleet.Unavailable {
		return err
	}
	return fleet.Errorf(fleet.Unavailable, "%w; the change may have been taken all the same", err).
		Hinted("before you repeat it: muster param history %s", drafts[0].name())
}

func (d draft) name() string {
	switch {
	case len(d.op.Put) > 0:
		return d.op.Put[0].Name
	case len(d.op.Delete) > 0:
		return d.op.Delete[0].Name
	case len(d.op.Label) > 0:
		return d.op.Label[0].Name
	}
	return ""
}

// wish is what the next version of a parameter shall be. What is nil or empty stays as it is in the version before.
type wish struct {
	name        string
	typ         *params.Type
	dataType    *string
	description *string
	pattern     *string
	tier        string
	policies    func(now time.Time, before []params.Policy) ([]params.Policy, error) // nil: as before
	tags        map[string]string
	untag       []string
	readers     []readerSpec // of a secret
	sameReaders bool         // also where somebody else has named them
	labels      []string
	rotation    *params.Rotation
	value       []byte
	keep        bool // the value of the version before, in the place of value
	overwrite   bool
	ifVersion   *uint32 // nil: whichever is there
}

// mine returns the ID of the operator's signing key.
func (c *cabinet) mine() fleet.ID { return c.pen.who.signer().ID() }

// outcome is what a wish came to.
type outcome struct {
	put    params.Put
	before *paramVersion // nil: it was created
	gone   []string      // readers of the version before who are no more
}

// putWish makes one version of a wish.
func (c *cabinet) putWish(ctx context.Context, w wish) (outcome, error) {
	var done outcome
	err := c.change(ctx, []string{w.name}, func(h auth.Header, now shelfOf) ([]draft, error) {
		var d draft
		var err error
		d, done, err = c.draw(ctx, h, w, now[w.name])
		return []draft{d}, err
	})
	return done, err
}

// draw makes the draft of the version that follows what is there.
func (c *cabinet) draw(ctx context.Context, h auth.Header, w wish, before *paramVersion) (draft, outcome, error) {
	put, err := w.on(h, before, c.mine())
	done := outcome{put: put, before: before}
	if err == nil && w.keep {
		w.value, err = c.kept(ctx, before, w.name)
	}
	if err != nil {
		return draft{}, done, err
	}
	if err := params.CheckValue(put, w.value); err != nil {
		return draft{}, done, err
	}
	content := params.PlainContent(w.value)
	if put.Type == params.SecureString {
		var to []params.Recipient
		if to, done.gone, err = c.recipients(ctx, w, before); err != nil {
			return draft{}, done, err
		}
		sealed, readers, err := c.seal(put, w.value, to)
		if err != nil {
			return draft{}, done, err
		}
		put.Readers, content = readers, params.SealedContent(sealed)
	}
	raw := content.Encode()
	put.Digest = fleet.Sum(raw)
	done.put = put
	return draft{op: params.Op{Put: []params.Put{put}}, content: raw}, done, put.Check()
}

// kept returns the value of the version that is there.
func (c *cabinet) kept(ctx context.Context, before *paramVersion, name string) ([]byte, error) {
	if before == nil {
		return nil, notThere(params.Missing{Selector: params.Selector{Name: name}})
	}
	v, err := c.one(ctx, params.Selector{Name: name, Version: before.put.Version}, true)
	if err != nil {
		return nil, err
	}
	return c.reveal(ctx, v)
}

func (c *cabinet) seal(put params.Put, value []byte, to []params.Recipient) (params.Sealed, []params.Reader, error) {
	var key [32]byte
	rand.Read(key[:])
	return params.Seal(params.Binding{Fleet: c.status.Fleet, Name: put.Name, Born: put.Born, Version: put.Version}, value, key, to)
}

// on says what the version after before is, all but its value. mine is the writer's key: how a secret is rotated is kept only
// where the same key has signed it before. Else the writer would sign, unseen, which document somebody else wants to be run
// with the rights of whoever rotates.
func (w wish) on(h auth.Header, before *paramVersion, mine fleet.ID) (params.Put, error) {
	if err := w.permits(before); err != nil {
		return params.Put{}, err
	}
	put := params.Put{Name: w.name, Born: h.Issued, Version: 1, Type: params.String, DataType: params.DataText, Labels: w.labels}
	var tier params.Tier
	var seq uint32
	if before != nil {
		seq = before.item.Seq
		old := before.put
		put.Born, put.Version, put.Type, put.DataType = old.Born, before.item.Newest+1, old.Type, old.DataType
		put.Description, put.Pattern, put.Policies, put.Tags = old.Description, old.Pattern, old.Policies, old.Tags
		if before.item.Change.Key == mine {
			put.Rotation = old.Rotation
		}
		tier = old.Tier
	}
	if w.typ != nil {
		if before != nil && *w.typ != before.put.Type {
			return put, fleet.Errorf(fleet.Invalid, "%s is a %s; a parameter's type never changes (HierarchyTypeMismatchException)", w.name, before.put.Type).
				Hinted("another name, or muster param delete %s first", w.name)
		}
		put.Type = *w.typ
	}
	if w.dataType != nil {
		put.DataType = *w.dataType
	}
	if w.description != nil {
		put.Description = *w.description
	}
	if w.pattern != nil {
		put.Pattern = *w.pattern
	}
	if w.rotation != nil {
		put.Rotation = []params.Rotation{*w.rotation}
	}
	put.Tags = w.newTags(put.Tags)
	var err error
	if w.policies != nil {
		if put.Policies, err = w.policies(time.UnixMilli(h.Issued), put.Policies); err != nil {
			return put, err
		}
	}
	if len(put.Labels) > 0 {
		put.Seq = seq + 1
	}
	put.Size = w.size(put.Type, before)
	put.Tier, err = params.TierOf(w.tier, tier, int(put.Size), len(put.Policies))
	return put, err
}

// size returns the bytes of the value; of a secret, of what it is padded to.
func (w wish) size(t params.Type, before *paramVersion) uint32 {
	switch {
	case w.keep && before != nil:
		return before.put.Size
	case t == params.SecureString:
		return uint32(params.SealedSize(len(w.value)))
	}
	return uint32(len(w.value))
}

// permits holds a wish to what is there: nothing is replaced that the writer has not seen or did not mean.
func (w wish) permits(before *paramVersion) error {
	have := uint32(0)
	if before != nil {
		have = before.item.Newest
	}
	switch {
	case w.ifVersion != nil && *w.ifVersion == have:
		return nil
	case w.ifVersion != nil && have == 0:
		return fleet.Errorf(fleet.Conflict, "--if-version %d: there is no parameter %s", *w.ifVersion, w.name).Hinted("--if-version 0 makes it")
	case w.ifVersion != nil:
		return fleet.Errorf(fleet.Conflict, "--if-version %d: %s has version %d by now, by %s", *w.ifVersion, w.name, have, before.item.Operator).
			Hinted("muster param diff %s %d %d, then again with --if-version %d", w.name, max(*w.ifVersion, 1), have, have)
	case have > 0 && !w.overwrite:
		return fleet.Errorf(fleet.Conflict, "%s is there already, as version %d (ParameterAlreadyExists)", w.name, have).
			Hinted("--overwrite makes version %d", have+1)
	}
	return nil
}

func (w wish) newTags(old map[string]string) map[string]string {
	if len(w.tags) == 0 && len(w.untag) == 0 {
		return old
	}
	tags := map[string]string{}
	for k, v := range old {
		tags[k] = v
	}
	for k, v := range w.tags {
		tags[k] = v
	}
	for _, k := range w.untag {
		delete(tags, k)
	}
	return tags
}
