package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// putFlags is what a person says about a parameter.
type putFlags struct {
	valueSource
	typ, dataType, description, pattern, tier string
	overwrite                                 bool
	ifVersion                                 uint32
	readers                                   []string
	onlyReaders, sameReaders                  bool
	tags, untag, labels                       []string
	policyFlags
	said func(flag string) bool // whether a flag was given
}

func newParamPutCommand(a *app) *cobra.Command {
	var f putFlags
	cmd := &cobra.Command{
		Use: "put NAME [VALUE]", Short: "Make a parameter, or its next version",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 || len(args) == 2 {
				return nil
			}
			return lacks(cmd, "a NAME, and at most one VALUE")
		},
		Long: `Make a parameter, or, with --overwrite, its next version. Names are paths: /app/prod/db/url. What no flag says stays as it is
in the version before.

A SecureString is encrypted here, for its readers: servers keep what they cannot read. You and the fleet's recovery key can
read it; --readers adds others: keyring:NAME, operator:NAME, team:NAME (its operators of now), or a target over signed tags,
for which a keyring is found or made. --only-readers leaves you and recovery out. A next version has the readers of the one
before; those that another operator has named, and you have not, need --same-readers.

The value of a secret is better not an argument, where ps and the shell's history show it: without VALUE it is asked for, and
--stdin, --file and --generate are the ways of scripts.

A value of more than 4 KB, or a policy (--expires, --notify-before, --notify-no-change, --policies), makes the parameter
Advanced, and it stays that. --if-version N puts only if N is the newest version: 0 means that there is none yet.`,
		Example: `  muster param put /app/prod/db/url postgres://db1/app
  muster param put /app/prod/db/url postgres://db2/app --overwrite --if-version 1
  muster param put /app/prod/db/password --generate 32 --readers 'tag.role=web'
  muster param put /app/prod/tls/key --file key.pem --type SecureString --readers keyring:web --expires 90d --notify-before 14d
  muster param put /app/prod/db/password --keep --overwrite --readers 'tag.role=web' --readers operator:bob`,
		ValidArgsFunction: a.completeParams(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.said = cmd.Flags().Changed
			return a.putParam(cmd.Context(), f, args[0], args[1:])
		},
	}
	flags := cmd.Flags()
	f.valueSource.flags(cmd)
	flags.StringVar(&f.typ, "type", "", "String, StringList or SecureString (default: SecureString with --readers or --generate, else String)")
	flags.StringVar(&f.dataType, "data-type", "", "text or aws:ec2:image (which is not looked up)")
	flags.StringVar(&f.description, "description", "", "what it is for")
	flags.StringVar(&f.pattern, "allowed-pattern", "", "regular expression (RE2) that this and all later values match")
	flags.StringVar(&f.tier, "tier", "", "Standard, Advanced or Intelligent-Tiering")
	flags.BoolVar(&f.overwrite, "overwrite", false, "make the next version of a parameter that is there")
	flags.Uint32Var(&f.ifVersion, "if-version", 0, "only if this is the newest version now; 0: only if there is none")
	flags.StringArrayVar(&f.readers, "readers", nil, "who can read a secret, beside you and recovery: a target, keyring:K, operator:O or team:T; may be repeated")
	flags.BoolVar(&f.onlyReaders, "only-readers", false, "nobody but --readers: neither you nor recovery")
	flags.BoolVar(&f.sameReaders, "same-readers", false, "the readers of the version before, also where another operator has named them")
	flags.StringArrayVar(&f.tags, "tag", nil, "k=v: a tag, which policy can go by; may be repeated")
	flags.StringArrayVar(&f.untag, "untag", nil, "remove the tag of this key; may be repeated")
	flags.StringArrayVar(&f.labels, "label", nil, "a label that moves to the new version; may be repeated")
	f.policyFlags.flags(cmd)
	completeReaders(a, cmd, "readers")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"String", "StringList", "SecureString"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("tier", cobra.FixedCompletions([]string{"Standard", "Advanced", params.IntelligentTiering}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// check reports flags that mean nothing together.
func (f putFlags) check(args []string) error {
	if err := f.valueSource.check(args); err != nil {
		return err
	}
	switch {
	case f.onlyReaders && len(f.readers) == 0:
		return fleet.Errorf(fleet.Invalid, "--only-readers without --readers: nobody could read it")
	case f.sameReaders && len(f.readers) > 0:
		return fleet.Errorf(fleet.Invalid, "--same-readers and --readers at once")
	case len(f.readers) > 0 && f.typ != "" && f.typ != params.SecureString.String():
		return fleet.Errorf(fleet.Invalid, "--readers is for a SecureString; a %s is read by whom policy lets read it", f.typ)
	case f.keep && !f.overwrite && !f.said("if-version"):
		return fleet.Errorf(fleet.Invalid, "--keep makes another version of a parameter that is there").Hinted("--overwrite --keep")
	}
	return f.policyFlags.check()
}

func (a *app) putParam(ctx context.Context, f putFlags, nameText string, args []string) error {
	name, err := params.CanonicalName(nameText)
	if err == nil {
		err = f.check(args)
	}
	if err != nil {
		return err
	}
	w, err := f.wish(name)
	if err != nil {
		return err
	}
	c, err := a.openDesk(ctx)
	if err != nil {
		return err
	}
	secret, err := c.aboutToPut(ctx, &w, f)
	if err != nil {
		return err
	}
	if secret && len(args) > 0 {
		a.say("the value was an argument: ps showed it to everybody on this host, and your shell may remember it (--stdin, --file, --generate do not)")
	}
	if !f.keep {
		if w.value, err = f.valueSource.read(a, name, args); err != nil {
			return err
		}
	}
	if len(f.readers) > 0 {
		if w.readers, err = c.readReaders(ctx, f.readers, f.onlyReaders); err != nil {
			return err
		}
	}
	done, err := c.putWish(ctx, w)
	if err != nil {
		return err
	}
	return c.showPut(done)
}

// aboutToPut says early what would be refused late: a person should not type a secret for nothing.
func (c *cabinet) aboutToPut(ctx context.Context, w *wish, f putFlags) (secret bool, err error) {
	before, err := c.newest(ctx, w.name)
	if err != nil {
		return false, err
	}
	if w.typ == nil && before == nil {
		guess := params.String
		if len(f.readers) > 0 || f.generate != 0 {
			guess = params.SecureString
		}
		w.typ = &guess
	}
	put, err := w.on(auth.Header{Issued: c.now().UnixMilli()}, before, c.mine())
	if err != nil {
		return false, err
	}
	if put.Type != params.SecureString && len(f.readers) > 0 {
		return false, fleet.Errorf(fleet.Invalid, "--readers is for a SecureString; %s is a %s, read by whom policy lets read it", w.name, put.Type)
	}
	return put.Type == params.SecureString, nil
}

func (f putFlags) wish(name string) (wish, error) {
	w := wish{name: name, tier: f.tier, untag: f.untag, labels: f.labels, overwrite: f.overwrite, keep: f.keep, sameReaders: f.sameReaders}
	var err error
	if f.typ != "" {
		var t params.Type
		if t, err = params.ParseType(f.typ); err != nil {
			return w, err
		}
		w.typ = &t
	}
	for flag, to := range map[string]**string{"data-type": &w.dataType, "description": &w.description, "allowed-pattern": &w.pattern} {
		if f.said(flag) {
			*to = map[string]*string{"data-type": &f.dataType, "description": &f.description, "allowed-pattern": &f.pattern}[flag]
		}
	}
	if f.said("if-version") {
		w.ifVersion = &f.ifVersion
	}
	w.policies = f.policyFlags.change(f.said)
	w.tags, err = parseParamTags(f.tags)
	return w, err
}

func parseParamTags(texts []string) (map[string]string, error) {
	tags := map[string]string{}
	for _, text := range texts {
		k, v, ok := strings.Cut(text, "=")
		if !ok || k == "" {
			return nil, fleet.Errorf(fleet.Invalid, "%q is no tag", text).Hinted("--tag KEY=VALUE")
		}
		tags[k] = v
	}
	return tags, nil
}

// policyFlags is what a person says about a parameter's end and its notices.
type policyFlags struct {
	expires        string
	notifyBefore   lifespan
	notifyNoChange lifespan
	json           string
}

func (f *policyFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.expires, "expires", "", "when the parameter is deleted: a moment (2030-01-31T00:00:00Z) or a time from now (90d); '' takes it back")
	flags.Var(&f.notifyBefore, "notify-before", "event so long before it expires: days or hours; 0 takes it back")
	flags.Var(&f.notifyNoChange, "notify-no-change", "event when it has not changed for so long: days or hours; 0 takes it back")
	flags.StringVar(&f.json, "policies", "", "policies as Systems Manager writes them, in the place of all there are; '[{}]' is none")
}

func (f policyFlags) check() error {
	if f.json != "" && (f.expires != "" || f.notifyBefore != 0 || f.notifyNoChange != 0) {
		return fleet.Errorf(fleet.Invalid, "--policies says all there are, so --expires and --notify-… have no place beside it")
	}
	for flag, d := range map[string]lifespan{"--notify-before": f.notifyBefore, "--notify-no-change": f.notifyNoChange} {
		if d < 0 || time.Duration(d)%time.Hour != 0 {
			return fleet.Errorf(fleet.Invalid, "%s %s: whole hours or days", flag, d)
		}
	}
	return nil
}

// change returns what flags make of a parameter's policies; nil: nothing was said.
func (f policyFlags) change(said func(string) bool) func(time.Time, []params.Policy) ([]params.Policy, error) {
	if !said("policies") && !said("expires") && !said("notify-before") && !said("notify-no-change") {
		return nil
	}
	return func(now time.Time, before []params.Policy) ([]params.Policy, error) {
		if said("policies") {
			return params.ParsePolicies(f.json)
		}
		var out []params.Policy
		for _, p := range before {
			if !said(policyFlag(p.Kind)) {
				out = append(out, p)
			}
		}
		if f.expires != "" {
			at, err := parseMoment(f.expires, now)
			if err != nil {
				return nil, err
			}
			out = append(out, params.Policy{Kind: params.Expiration, At: at.UnixMilli()})
		}
		if f.notifyBefore != 0 {
			out = append(out, params.Policy{Kind: params.ExpirationNotification, Before: time.Duration(f.notifyBefore).Milliseconds()})
		}
		if f.notifyNoChange != 0 {
			out = append(out, params.Policy{Kind: params.NoChangeNotification, After: time.Duration(f.notifyNoChange).Milliseconds()})
		}
		return out, params.CheckPolicies(out)
	}
}

// policyFlag returns the flag that changes policies of a kind.
func policyFlag(k params.PolicyKind) string {
	switch k {
	case params.Expiration:
		return "expires"
	case params.ExpirationNotification:
		return "notify-before"
	case params.NoChangeNotification:
		return "notify-no-change"
	}
	return ""
}

// parseMoment reads a moment, a day, or a time from now.
func parseMoment(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, inFuture(t, now)
		}
	}
	d, err := parseLifespan(text)
	if err != nil || d <= 0 {
		return now, fleet.Errorf(fleet.Invalid, "%q is neither a moment (2030-01-31T00:00:00Z, 2030-01-31) nor a time from now (90d, 12h)", text)
	}
	return now.Add(d), nil
}

func inFuture(t, now time.Time) error {
	if t.After(now) {
		return nil
	}
	return fleet.Errorf(fleet.Invalid, "%s is over", when(t))
}

// showPut says what was put.
func (c *cabinet) showPut(done outcome) error {
	put := done.put
	v := paramVersion{put: put}
	v.item.Operator, v.item.Newest, v.item.Labels = c.pen.who.Operator, put.Version, put.Labels
	v.item.Time = c.now().UnixMilli()
	tier := put.Tier.String()
	if done.before != nil && put.Tier > done.before.put.Tier {
		tier += fmt.Sprintf(" (it was %s, and there is no way down)", done.before.put.Tier)
	} else if done.before == nil && put.Tier == params.Advanced {
		tier += " (there is no way down)"
	}
	facts := []fact{
		{"parameter", put.Name}, {"version", fmt.Sprint(put.Version)}, {"type", put.Type.String()}, {"tier", tier},
		{"policies", policyTexts(put.Policies)}, {"labels", strings.Join(put.Labels, " ")},
	}
	if put.Type == params.SecureString {
		facts = append(facts, fact{"readers", params.ReaderNames(put.Readers)})
	}
	if done.before != nil && len(done.before.put.Rotation) > len(put.Rotation) {
		c.app.say("how it was rotated was %s's word, and is not kept: muster param rotate %s --doc DOCUMENT --target EXPR", done.before.item.Operator, put.Name)
	}
	if len(done.gone) > 0 {
		c.app.say("left out, because there is no such operator any more: %s", strings.Join(done.gone, ", "))
	}
	if err := c.app.showOne(shapeOf(v, nil), put.Name, facts); err != nil {
		return err
	}
	if put.Type == params.SecureString && !sealedToNodes(put.Readers) {
		c.app.say("no node can read it; to add some: muster param put %s --keep --overwrite --readers 'tag.role=web'", put.Name)
	}
	return nil
}

func sealedToNodes(readers []params.Reader) bool {
	for _, r := range readers {
		if r.Kind == params.ByKeyring {
			return true
		}
	}
	return false
}
