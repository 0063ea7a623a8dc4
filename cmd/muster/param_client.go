package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// access is how a person says as whom parameters are read.
type access struct {
	asHost      bool
	stale       bool
	recoveryKey string // a file with the recovery key; - is standard input
}

func (f *access) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.asHost, "as-host", false, "read as this host (as root) or as your account here, also where you have an operator's key")
	cmd.Flags().BoolVar(&f.stale, "stale", false, "also from a server that may be behind or this host's own copies; the age is said")
}

func (f *access) recoveryFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.recoveryKey, "recovery-key", "", "open secrets with the fleet's recovery key in this file; - is standard input")
}

// cabinet is where parameters are read and written. The local agent has verified what it hands out: who signed each
// version, that it is the one that was asked for, and that none older than one seen before is shown for the newest. To whom a
// secret is sealed is not left to its word: keys come from the record as this person has verified it.
type cabinet struct {
	app      *app // nil: nothing is said
	client   *api.Client
	keys     *api.Client // the same, for whom secrets are sealed to: it believes the agent nothing of that
	pen      *pen        // nil: read as this host, or as the account that asks
	status   node.Status
	off      time.Duration // the fleet's time minus this process's
	stale    bool
	recovery []byte            // private key of the recovery recipient, where it was given
	seeds    map[string][]byte // of keyrings, that were found in escrow
	rings    *node.KeyringList // nil: not asked for yet
	oldest   time.Duration     // age of the oldest answer
	source   string            // of that answer
}

// openCabinet reads with the operator's key, or, where there is none, as this host.
func (a *app) openCabinet(ctx context.Context, f access) (*cabinet, error) {
	c := &cabinet{app: a, client: a.client(), stale: f.stale, seeds: map[string][]byte{}}
	c.keys = a.proving(c.client)
	hideMemory()
	if f.asHost && a.viaHost() != nil {
		return nil, fleet.Errorf(fleet.Invalid, "--as-host is for the host itself: there is no --via for it")
	}
	var err error
	if f.asHost || a.viaHost() == nil && !a.hasIdentity() {
		if c.status, err = a.inFleet(ctx, c.client); err != nil {
			return nil, err
		}
		if c.off, err = a.clockOff(c.status); err != nil {
			return nil, err
		}
	} else {
		if c.pen, err = a.takePen(ctx); err != nil {
			return nil, err
		}
		c.client, c.status, c.off = c.pen.client, c.pen.status, c.pen.off
	}
	if f.recoveryKey != "" {
		c.recovery, err = a.readRecoveryKey(f.recoveryKey)
	}
	return c, err
}

// hasIdentity reports whether an operator's key was named, or is where it usually is.
func (a *app) hasIdentity() bool {
	if a.flags.identity != "" || a.getenv("MUSTER_IDENTITY") != "" {
		return true
	}
	_, err := os.Lstat(a.identityPath())
	return !errors.Is(err, fs.ErrNotExist)
}

// openDesk is openCabinet for those who write: an operator's key is needed.
func (a *app) openDesk(ctx context.Context) (*cabinet, error) {
	p, err := a.takePen(ctx)
	if err != nil {
		return nil, err
	}
	hideMemory()
	return &cabinet{app: a, client: p.client, keys: a.proving(p.client), pen: p, status: p.status, off: p.off, seeds: map[string][]byte{}}, nil
}

// hideMemory keeps what this process opens out of core dumps, and from other processes of the account. What it executes in its
// own place is as dumpable as ever.
func hideMemory() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) } // where it cannot be, it is as for any other program

func (a *app) readRecoveryKey(path string) ([]byte, error) {
	var text string
	var err error
	if path == fromStdin {
		var raw []byte
		raw, err = readBounded(a.stdin, "standard input")
		text = string(raw)
	} else {
		text, err = a.readKey(path)
	}
	if err != nil {
		return nil, fleet.Errorf(fleet.KindOf(err), "--recovery-key: %w", err)
	}
	seed, err := parseRecoveryText(text)
	if err != nil {
		return nil, err
	}
	return params.RecoveryPrivate(seed)
}

// now returns the time as the fleet sees it.
func (c *cabinet) now() time.Time { return time.Now().Add(c.off) }

// paramVersion is one version of a parameter as it was read.
type paramVersion struct {
	item   params.Item
	put    params.Put
	age    time.Duration // of the answer; 0: it is of now
	source string        // of an answer that is not of now
}

func (v paramVersion) secret() bool { return v.put.Type == params.SecureString }

func (v paramVersion) labels() []string {
	if v.item.Labels == nil {
		return []string{}
	}
	return v.item.Labels
}

func (v paramVersion) newest() bool { return v.put.Version == v.item.Newest }

// content decodes what is kept of the value. ok is false where the answer has none: values were not asked for, or
// policy does not let the asker decrypt.
func (v paramVersion) content() (c params.Content, ok bool, err error) {
	if len(v.item.Content) != 1 {
		return c, false, nil
	}
	c, err = v.put.Open(v.item.Content[0])
	return c, err == nil, err
}

// name names the version, for people.
func (v paramVersion) name() string {
	return params.Selector{Name: v.put.Name, Version: v.put.Version}.String()
}

// ask asks one page within a scope.
func (c *cabinet) ask(ctx context.Context, scope string, ask params.Ask) (params.Answer, []paramVersion, error) {
	in := node.ParamsAsk{Ask: ask, Stale: c.stale}
	if c.pen != nil {
		in.Signed = []auth.Envelope{c.readRequest(scope)}
	}
	read, err := c.client.ReadParams(ctx, in)
	if err == nil && read.Source != node.FromLeader && c.pen != nil && !c.stale {
		err = fleet.Errorf(fleet.Unavailable, "no leader answers, and without one it is not known what is there now").
			Hinted("--stale takes what a server or this host knew %s ago; muster quorum status", span(read.Age))
	}
	if err != nil {
		return params.Answer{}, nil, err
	}
	out := make([]paramVersion, 0, len(read.Answer.Items))
	for _, item := range read.Answer.Items {
		v, err := versionOf(item)
		if err != nil {
			return params.Answer{}, nil, err
		}
		if read.Source != node.FromLeader {
			v.age, v.source = max(read.Age, time.Millisecond), string(read.Source)
			if v.age > c.oldest {
				c.oldest, c.source = v.age, v.source
			}
		}
		out = append(out, v)
	}
	return read.Answer, out, nil
}

func (c *cabinet) readRequest(scope string) auth.Envelope {
	return c.pen.sign(auth.ForRequest, node.Read{Header: c.pen.header(node.ReadLife), What: node.ReadParams, Name: scope})
}

// tellAge says how old an answer is that is not of now.
func (c *cabinet) tellAge() {
	switch c.source {
	case "":
	case string(node.FromCopy):
		c.app.say("no server was asked: as this host last read it, %s ago", span(c.oldest))
	default:
		c.app.say("from a server that may be behind: as of %s ago", span(c.oldest))
	}
}

// get reads versions by their selectors. Those that are not there, or not for the asker, are returned by why.
func (c *cabinet) get(ctx context.Context, selectors []params.Selector, values bool) (found []paramVersion, missing []params.Missing, err error) {
	for len(selectors) > 0 {
		part := selectors[:min(len(selectors), params.MaxGet)]
		var names []string
		for _, s := range part {
			names = append(names, s.Name)
		}
		answer, items, err := c.ask(ctx, scopeOf(names...), params.Ask{Get: part, Values: values})
		if err != nil {
			return nil, nil, err
		}
		took := len(items) + len(answer.Missing) // fewer than were asked for, where values are large
		if took == 0 || took > len(part) {
			return nil, nil, fleet.Errorf(fleet.Internal, "the agent answered with %d of %d parameters", took, len(part))
		}
		found, missing, selectors = append(found, items...), append(missing, answer.Missing...), selectors[took:]
	}
	return found, missing, nil
}

// one reads the one version that a selector names.
func (c *cabinet) one(ctx context.Context, s params.Selector, values bool) (paramVersion, error) {
	found, missing, err := c.get(ctx, []params.Selector{s}, values)
	switch {
	case err != nil:
		return paramVersion{}, err
	case len(found) == 1:
		return found[0], found[0].item.Answers(s)
	case len(missing) == 1:
		return paramVersion{}, notThere(missing[0])
	}
	return paramVersion{}, notThere(params.Missing{Selector: s})
}

// openVersion opens the desk of those who write, and reads the version of a name that they mean to act on.
func (a *app) openVersion(ctx context.Context, nameText, version string, values bool) (*cabinet, paramVersion, error) {
	name, err := params.CanonicalName(nameText)
	if err != nil {
		return nil, paramVersion{}, err
	}
	s, err := selectorFor(name, version)
	if err != nil {
		return nil, paramVersion{}, err
	}
	c, err := a.openDesk(ctx)
	if err != nil {
		return nil, paramVersion{}, err
	}
	v, err := c.one(ctx, s, values)
	return c, v, err
}

func notThere(m params.Missing) error {
	if m.Why == "" {
		m.Why = "no parameter " + m.Selector.String() + " (ParameterNotFound)"
	}
	e := fleet.Errorf(fleet.NotFound, "%s", m.Why)
	if m.Selector.Version != 0 || m.Selector.Label != "" {
		return e.Hinted("muster param history %s", m.Selector.Name)
	}
	return e.Hinted("muster param list")
}

// newest reads the newest version of a name; nil: there is none.
func (c *cabinet) newest(ctx context.Context, name string) (*paramVersion, error) {
	found, _, err := c.get(ctx, []params.Selector{{Name: name}}, false)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// below reads all pages of a path.
func (c *cabinet) below(ctx context.Context, ask params.PathAsk, values bool) ([]paramVersion, error) {
	var all []paramVersion
	for {
		answer, items, err := c.ask(ctx, scopeBelow(ask.Path), params.Ask{Path: []params.PathAsk{ask}, Values: values})
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if ask.After = answer.Next; !answer.More || ask.After == "" {
			return all, nil
		}
	}
}

// list reads all pages of a list.
func (c *cabinet) list(ctx context.Context, filters []params.Filter) ([]paramVersion, error) {
	var all []paramVersion
	ask := params.ListAsk{Filters: filters, Max: params.MaxPage}
	for {
		answer, items, err := c.ask(ctx, "/", params.Ask{List: []params.ListAsk{ask}})
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if ask.After = answer.Next; !answer.More || ask.After == "" {
			return all, nil
		}
	}
}

// history reads all versions that there are of a name, oldest first.
func (c *cabinet) history(ctx context.Context, name string, values bool) ([]paramVersion, error) {
	var all []paramVersion
	ask := params.HistoryAsk{Name: name}
	for {
		answer, items, err := c.ask(ctx, name, params.Ask{History: []params.HistoryAsk{ask}, Values: values})
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if !answer.More || len(items) == 0 {
			break
		}
		ask.After = items[len(items)-1].put.Version
	}
	if len(all) == 0 {
		return nil, notThere(params.Missing{Selector: params.Selector{Name: name}})
	}
	return all, nil
}

// reveal returns a version's value: a plain one as it is, a secret opened.
func (c *cabinet) reveal(ctx context.Context, v paramVersion) ([]byte, error) {
	content, ok, err := v.content()
	switch {
	case err != nil:
		return nil, err
	case !v.secret() && ok && len(content.Plain) == 1:
		return content.Plain[0], nil
	case !v.secret():
		return nil, fleet.Errorf(fleet.Internal, "%s came without its value", v.name())
	case c.pen == nil:
		return c.openHere(ctx, v)
	case !ok || len(content.Sealed) != 1:
		return nil, fleet.Errorf(fleet.Denied, "policy does not let operator %s decrypt %s (param.decrypt)", c.pen.who.Operator, v.put.Name).
			Hinted("whoever keeps the fleet's policy can permit it")
	}
	return c.open(ctx, v, content.Sealed[0])
}

// openHere has the local agent open a secret with the keyrings of this host.
func (c *cabinet) openHere(ctx context.Context, v paramVersion) ([]byte, error) {
	return c.client.OpenParam(ctx, node.SecretRef{Name: v.put.Name, Born: v.put.Born, Version: v.put.Version, Digest: v.put.Digest})
}

// open opens a secret: with the recovery key if that was given, else with the operator's own key, else with a keyring's
// seed that is in escrow for one of them.
func (c *cabinet) open(ctx context.Context, v paramVersion, sealed params.Sealed) ([]byte, error) {
	return c.openIn(ctx, c.status.Fleet, v, sealed)
}

func (c *cabinet) openIn(ctx context.Context, in fleet.ID, v paramVersion, sealed params.Sealed) ([]byte, error) {
	binding := params.Binding{Fleet: in, Name: v.put.Name, Born: v.put.Born, Version: v.put.Version}
	if c.recovery != nil {
		at := slices.IndexFunc(v.put.Readers, func(r params.Reader) bool { return r.Kind == params.ByRecovery })
		if at >= 0 {
			return sealed.Open(binding, v.put.Readers, at, c.recovery)
		}
	}
	mine, err := params.PublicOf(c.pen.who.HPKE)
	if err != nil {
		return nil, err
	}
	if i, err := params.ReaderWith(v.put.Readers, fleet.Sum(mine)); err == nil {
		return sealed.Open(binding, v.put.Readers, i, c.pen.who.HPKE)
	}
	for i, r := range v.put.Readers {
		if r.Kind != params.ByKeyring {
			continue
		}
		if seed, err := c.escrowed(ctx, r); err == nil {
			return sealed.Open(binding, v.put.Readers, i, seed)
		}
	}
	return nil, fleet.Errorf(fleet.Denied, "operator %s can not read %s: it is sealed to %s", c.pen.who.Operator, v.name(), params.ReaderNames(v.put.Readers)).
		Hinted("one of them: muster param put %s --keep --overwrite --readers operator:%s", v.put.Name, c.pen.who.Operator)
}

// pinnedParam is a version of a parameter as a command takes it along.
type pinnedParam struct {
	put   params.Put
	plain []byte // of a plain one
}

// paramVersions reads the versions that selectors name, in their order.
func (p *pen) paramVersions(ctx context.Context, selectors []params.Selector) ([]pinnedParam, error) {
	c := &cabinet{client: p.client, pen: p, status: p.status, off: p.off}
	out := make([]pinnedParam, 0, len(selectors))
	for _, s := range selectors {
		if params.Public(s.Name) {
			v, err := publicVersionOf(s)
			if err != nil {
				return nil, err
			}
			out = append(out, pinnedParam{put: v.put, plain: revealed([]paramVersion{v})[0].value})
			continue
		}
		v, err := c.one(ctx, s, true)
		if err != nil {
			return nil, err
		}
		pinned := pinnedParam{put: v.put}
		if !v.secret() {
			if pinned.plain, err = c.reveal(ctx, v); err != nil {
				return nil, err
			}
		}
		out = append(out, pinned)
	}
	return out, nil
}

// versionOf takes an item whose signatures the agent has verified.
func versionOf(item params.Item) (paramVersion, error) {
	op, err := params.DecodeOp(item.Body)
	if err != nil || len(op.Put) != 1 {
		return paramVersion{}, fleet.Errorf(fleet.Internal, "the agent answered with no version of a parameter")
	}
	return paramVersion{item: item, put: op.Put[0]}, nil
}
