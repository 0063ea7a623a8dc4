package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// getFlags is what is read, and as whom.
type getFlags struct {
	access
	path      string
	recursive bool
	filters   []string
	decrypt   bool
}

func newParamGetCommand(a *app) *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use: "get NAME[:VERSION|:LABEL]… | --path PATH", Short: "Show values", Args: cobra.ArbitraryArgs,
		Long: `Show parameters with their values: by name, with a version or a label behind a colon, or all directly below --path, with
--recursive at any depth.

For one name into a pipe it is the bare value and a line's end. A secret's value is shown with --decrypt; without it, what is
known about it is. Where no operator's key is, or with --as-host, this host reads for itself (root) or for your account; its
agent opens what the host's keyrings open.

Answers are of now. --stale also takes those of a server that may be behind, or what this host has read before: it says how
old they are, and works cut off from everybody.`,
		Example: `  muster param get /app/prod/db/url
  muster param get /app/prod/db/url:2 /app/prod/db/user:stable -o json
  muster param get --path /app/prod --recursive --decrypt
  PGPASSWORD=$(muster param get /app/prod/db/password --decrypt) psql
  muster param get /app/prod/db/url --stale`,
		ValidArgsFunction: a.completeParams(0),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.getParams(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.path, "path", "", "all parameters below this path")
	flags.BoolVar(&f.recursive, "recursive", false, "with --path: at any depth")
	flags.StringArrayVar(&f.filters, "filter", nil, "with --path: only these, as Type=SecureString or label=stable; may be repeated (muster param list --help)")
	flags.BoolVar(&f.decrypt, "decrypt", false, "open secrets, and show them")
	f.access.flags(cmd)
	f.access.recoveryFlag(cmd)
	completePaths(a, cmd, "path")
	return cmd
}

func (f getFlags) check(names []string) error {
	switch {
	case len(names) == 0 && f.path == "":
		return fleet.Errorf(fleet.Invalid, "muster param get needs a NAME, or --path").Hinted("muster param get /app/db/url, or --path /app --recursive")
	case len(names) > 0 && f.path != "":
		return fleet.Errorf(fleet.Invalid, "names and --path at once")
	case f.path == "" && (f.recursive || len(f.filters) > 0):
		return fleet.Errorf(fleet.Invalid, "--recursive and --filter go with --path")
	case f.recoveryKey != "" && !f.decrypt:
		return fleet.Errorf(fleet.Invalid, "--recovery-key opens secrets").Hinted("--decrypt")
	case f.recoveryKey != "" && f.asHost:
		return fleet.Errorf(fleet.Invalid, "--recovery-key is used here, and --as-host has the agent open secrets with its own keys")
	}
	return nil
}

func (a *app) getParams(ctx context.Context, f getFlags, names []string) error {
	if err := f.check(names); err != nil {
		return err
	}
	if f.path != "" {
		return a.getPath(ctx, f)
	}
	var selectors []params.Selector
	var public []paramVersion
	for _, text := range names {
		s, err := params.ParseSelector(text)
		if err != nil {
			return err
		}
		if params.Public(s.Name) {
			v, err := publicVersionOf(s)
			if err != nil {
				return err
			}
			public = append(public, v)
			continue
		}
		if !slices.Contains(selectors, s) {
			selectors = append(selectors, s)
		}
	}
	if len(selectors) == 0 {
		return a.showValues(revealed(public), len(public) == 1)
	}
	c, err := a.openCabinet(ctx, f.access)
	if err != nil {
		return err
	}
	found, missing, err := c.get(ctx, selectors, true)
	if err != nil {
		return err
	}
	if len(found)+len(public) == 0 {
		return notThere(missing[0])
	}
	all, failed := c.revealAll(ctx, found, f.decrypt)
	if err := c.noteRotations(ctx, all); err != nil {
		return err
	}
	c.tellAge()
	if err := a.showValues(append(revealed(public), all...), len(names) == 1); err != nil {
		return err
	}
	for _, m := range missing {
		failed = notThere(m)
		a.printError(failed)
	}
	return exitedAfter(failed, len(missing) > 0)
}

// exitedAfter returns err; where all was said already, only its exit code.
func exitedAfter(err error, said bool) error {
	if err != nil && said {
		return exitCode(exec.ExitFailed)
	}
	return err
}

func (a *app) getPath(ctx context.Context, f getFlags) error {
	path, err := params.CheckPath(f.path)
	if err != nil {
		return err
	}
	filters, err := parseFilters(f.filters, true)
	if err != nil {
		return err
	}
	if params.Public(path) {
		return a.showValues(revealed(publicBelow(path, f.recursive)), false)
	}
	c, err := a.openCabinet(ctx, f.access)
	if err != nil {
		return err
	}
	found, err := c.below(ctx, params.PathAsk{Path: path, Recursive: f.recursive, Filters: filters}, true)
	if err != nil {
		return err
	}
	all, failed := c.revealAll(ctx, found, f.decrypt)
	c.tellAge()
	if len(all) == 0 && !f.recursive {
		a.say("nothing directly below %s; --recursive looks at any depth", path)
	}
	if err := a.showValues(all, false); err != nil {
		return err
	}
	return failed
}

// valued is a version with what was revealed of it; nil: nothing.
type valued struct {
	paramVersion
	value []byte
	next  time.Time // when it is to be rotated; zero: nobody asked, or by hand alone
}

// noteRotations notes when secrets are to be rotated.
func (c *cabinet) noteRotations(ctx context.Context, all []valued) error {
	var versions []paramVersion
	for _, v := range all {
		versions = append(versions, v.paramVersion)
	}
	next, err := c.nextRotations(ctx, versions)
	for i := range all {
		all[i].next = next[all[i].put.Name]
	}
	return err
}

// revealed takes versions that are plain for sure.
func revealed(all []paramVersion) []valued {
	var out []valued
	for _, v := range all {
		content, _, _ := v.content()
		out = append(out, valued{paramVersion: v, value: slices.Concat(content.Plain...)})
	}
	return out
}

// revealAll reveals what is plain, and secrets where they are to be decrypted. A secret that cannot be opened is listed
// closed; the first reason is returned.
func (c *cabinet) revealAll(ctx context.Context, found []paramVersion, decrypt bool) (out []valued, failed error) {
	for _, v := range found {
		if v.secret() && !decrypt {
			out = append(out, valued{paramVersion: v})
			continue
		}
		value, err := c.reveal(ctx, v)
		if err != nil && failed == nil {
			failed = err
		}
		out = append(out, valued{paramVersion: v, value: value})
	}
	return out, failed
}

// showValues shows parameters with their values; one alone is the bare value, where it goes into a pipe.
func (a *app) showValues(all []valued, one bool) error {
	shapes := make([]paramShape, 0, len(all))
	for _, v := range all {
		s := shapeOf(v.paramVersion, v.value)
		if s.Rotation != nil {
			s.Rotation.Next = v.next
		}
		shapes = append(shapes, s)
	}
	if !one {
		return valueListing().show(a, shapes)
	}
	v := all[0]
	switch {
	case !a.forPeople():
		return a.showOne(shapes[0], v.put.Name, nil)
	case v.value != nil && !isTerminal(a.stdout):
		return a.writeValue(v.value)
	}
	return a.showFacts(v, shapes[0])
}

// writeValue writes a bare value; a last line without an end gets one.
func (a *app) writeValue(value []byte) error {
	if !bytes.HasSuffix(value, []byte("\n")) {
		value = append(slices.Clip(value), '\n')
	}
	_, err := a.stdout.Write(value)
	return err
}

func (a *app) showFacts(v valued, s paramShape) error {
	version := fmt.Sprint(s.Version)
	if !v.newest() {
		version += fmt.Sprintf(" (the newest is %d)", s.Newest)
	}
	facts := []fact{
		{"parameter", s.Name}, {"version", version}, {"labels", strings.Join(s.Labels, " ")}, {"type", s.Type}, {"tier", s.Tier},
		{"description", s.Description}, {"policies", policyTexts(v.put.Policies)}, {"tags", tagText(s.Tags)},
	}
	if v.secret() {
		facts = append(facts, fact{"readers", params.ReaderNames(v.put.Readers)})
	}
	facts = append(facts, fact{"rotation", s.Rotation.text()}, fact{"by", strings.TrimSpace(s.By + " " + when(s.Modified))})
	switch {
	case v.value != nil:
		facts = append(facts, fact{"value", string(v.value)})
	case v.secret():
		facts = append(facts, fact{"value", "a secret: --decrypt shows it"})
	}
	return a.showOne(s, s.Name, facts)
}

func valueListing() listing[paramShape] {
	return listing[paramShape]{
		columns: []column[paramShape]{
			{head: "NAME", cell: func(p paramShape) string { return p.Name + p.Selector }},
			{head: "VERSION", cell: func(p paramShape) string { return fmt.Sprint(p.Version) }},
			{head: "TYPE", cell: func(p paramShape) string { return p.Type }},
			{head: "VALUE", cell: valueCell},
		},
		name: func(p paramShape) string { return p.Name },
		none: "no parameters there that you may read",
	}
}

func valueCell(p paramShape) string {
	switch {
	case p.Value != nil:
		return *p.Value
	case p.Secret:
		return "(secret, for " + readersCell(p) + ")"
	}
	return "-"
}

func readersCell(p paramShape) string {
	var out []string
	for _, r := range p.Readers {
		if r.Name == "" {
			out = append(out, r.Kind)
			continue
		}
		out = append(out, r.Kind+":"+r.Name)
	}
	return strings.Join(out, ", ")
}
