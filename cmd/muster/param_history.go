package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

func newParamHistoryCommand(a *app) *cobra.Command {
	var f access
	var decrypt bool
	cmd := &cobra.Command{
		Use: "history NAME", Short: "List a parameter's versions, newest first", Args: exactly(1, "one parameter's NAME"),
		Long: `List the versions of a parameter, newest first: the newest 100, of which an old one with a label does not give way. Secrets stay
closed unless --decrypt.`,
		Example: `  muster param history /app/prod/db/url
  muster param history /app/prod/db/password -o json`,
		ValidArgsFunction: a.completeParams(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.paramHistory(cmd.Context(), f, args[0], decrypt)
		},
	}
	cmd.Flags().BoolVar(&decrypt, "decrypt", false, "open secrets, and show them")
	f.flags(cmd)
	f.recoveryFlag(cmd)
	return cmd
}

func (a *app) paramHistory(ctx context.Context, f access, nameText string, decrypt bool) error {
	name, err := params.CanonicalName(nameText)
	if err != nil {
		return err
	}
	c, err := a.openCabinet(ctx, f)
	if err != nil {
		return err
	}
	found, err := c.history(ctx, name, true)
	if err != nil {
		return err
	}
	all, failed := c.revealAll(ctx, found, decrypt)
	slices.Reverse(all)
	c.tellAge()
	shapes := make([]paramShape, 0, len(all))
	for _, v := range all {
		shapes = append(shapes, shapeOf(v.paramVersion, v.value))
	}
	if err := historyListing(c.now()).show(a, shapes); err != nil {
		return err
	}
	next, err := c.nextRotations(ctx, found[len(found)-1:])
	if err != nil {
		return err
	}
	if at, ok := next[name]; ok {
		a.say("rotated every %s; next %s", shapes[0].Rotation.Every, when(at))
	}
	return failed
}

func historyListing(now time.Time) listing[paramShape] {
	return listing[paramShape]{
		columns: []column[paramShape]{
			{head: "VERSION", cell: func(p paramShape) string { return fmt.Sprint(p.Version) }},
			{head: "LABELS", cell: func(p paramShape) string { return orHyphen(strings.Join(p.Labels, " ")) }},
			{head: "BY", cell: func(p paramShape) string { return p.By }},
			{head: "PUT", cell: func(p paramShape) string { return ago(p.Modified, now) }},
			{head: "TIER", wide: true, cell: func(p paramShape) string { return p.Tier }},
			{head: "SIZE", wide: true, cell: func(p paramShape) string { return fmt.Sprint(p.Size) }},
			{head: "DESCRIPTION", wide: true, cell: func(p paramShape) string { return orHyphen(cut(p.Description, 40)) }},
			{head: "VALUE", cell: func(p paramShape) string { return cut(valueCell(p), 60) }},
		},
		name: func(p paramShape) string { return fmt.Sprint(p.Version) },
	}
}

// selectorFor reads a version of a name: its number, a label, or "latest" for the newest.
func selectorFor(name, version string) (params.Selector, error) {
	if version == "latest" {
		return params.Selector{Name: name}, nil
	}
	return params.ParseSelector(name + ":" + version)
}

func newParamDiffCommand(a *app) *cobra.Command {
	var f access
	var decrypt bool
	cmd := &cobra.Command{
		Use: "diff NAME V1 V2", Short: "Show what differs between two versions", Args: exactly(3, "a NAME and two versions"),
		Long: `Show what differs between two versions: numbers, labels, or latest. What is known about them is compared too: description,
readers, policies, tags. The values of secrets are compared with --decrypt only; without it, they are said to be secrets.`,
		Example: `  muster param diff /app/prod/db/url 1 2
  muster param diff /app/prod/db/url stable latest`,
		ValidArgsFunction: a.completeParams(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.diffParams(cmd.Context(), f, args[0], args[1], args[2], decrypt)
		},
	}
	cmd.Flags().BoolVar(&decrypt, "decrypt", false, "open secrets, and compare their values")
	f.flags(cmd)
	f.recoveryFlag(cmd)
	return cmd
}

func (a *app) diffParams(ctx context.Context, f access, nameText, v1, v2 string, decrypt bool) error {
	name, err := params.CanonicalName(nameText)
	if err != nil {
		return err
	}
	c, err := a.openCabinet(ctx, f)
	if err != nil {
		return err
	}
	var sides [2]valued
	for i, version := range []string{v1, v2} {
		s, err := selectorFor(name, version)
		if err != nil {
			return err
		}
		v, err := c.one(ctx, s, true)
		if err != nil {
			return err
		}
		all, failed := c.revealAll(ctx, []paramVersion{v}, decrypt)
		if failed != nil {
			return failed
		}
		sides[i] = all[0]
	}
	c.tellAge()
	old, new := sides[0], sides[1]
	text := lineDiff(old.name(), new.name(), old.page(), new.page())
	if !a.forPeople() {
		return a.showOne(struct {
			Format int    `json:"format"`
			Name   string `json:"name"`
			Old    uint32 `json:"old"`
			New    uint32 `json:"new"`
			Diff   string `json:"diff"`
		}{shape.Format, name, old.put.Version, new.put.Version, text}, name, nil)
	}
	if text == "" {
		a.say("%s and %s are equal", old.name(), new.name())
	}
	if old.secret() && !decrypt {
		a.say("the values are secrets: --decrypt compares them")
	}
	a.printDiffText(text)
	return nil
}

// page writes a version as lines, for a diff: what is known about it, and its value last.
func (v valued) page() string {
	s := shapeOf(v.paramVersion, nil)
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			b.WriteString(name + ": " + text + "\n")
		}
	}
	line("tier", s.Tier)
	line("data type", s.DataType)
	line("description", strconv.Quote(s.Description))
	line("pattern", s.Pattern)
	line("policies", policyTexts(v.put.Policies))
	line("tags", tagText(s.Tags))
	line("readers", params.ReaderNames(v.put.Readers))
	line("rotation", s.Rotation.text())
	if v.value != nil {
		b.WriteString("value:\n")
		for l := range strings.Lines(string(v.value)) {
			b.WriteString("  " + strings.TrimSuffix(l, "\n") + "\n")
		}
	}
	return b.String()
}

func newParamRollbackCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rollback NAME VERSION", Short: "Make an old version's value the newest", Args: exactly(2, "a NAME and a VERSION or label"),
		Long: `Make a new version with the value, the description and the pattern of an old one. Policies, tags and tier stay those of the
newest. A secret is for you and for those who can read both, the old version and the newest: who was taken out of the
readers since does not come back, and who came to them since does not learn the old value. History is never rewritten.`,
		Example: `  muster param rollback /app/prod/db/url 3
  muster param rollback /app/prod/db/url stable`,
		ValidArgsFunction: a.completeParams(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rollbackParam(cmd.Context(), args[0], args[1])
		},
	}
}

func (a *app) rollbackParam(ctx context.Context, nameText, version string) error {
	c, old, err := a.openVersion(ctx, nameText, version, true)
	if err != nil {
		return err
	}
	name := old.put.Name
	if old.newest() {
		return fleet.Errorf(fleet.Conflict, "version %d is the newest of %s: there is nothing to roll back", old.put.Version, name).
			Hinted("muster param history %s", name)
	}
	value, err := c.reveal(ctx, old)
	if err != nil {
		return err
	}
	readers, err := c.rollbackReaders(ctx, old)
	if err != nil {
		return err
	}
	newest := old.item.Newest // what the person saw as the newest: nothing that came after it is undone unseen
	done, err := c.putWish(ctx, wish{
		name: name, description: &old.put.Description, pattern: &old.put.Pattern, value: value, overwrite: true, ifVersion: &newest, readers: readers,
	})
	if err != nil {
		return err
	}
	a.say("version %d has the value of version %d", done.put.Version, old.put.Version)
	return c.showPut(done)
}

// rollbackReaders returns who can read an old value that becomes the newest again: those who can read both versions, and the
// writer; nil for what is no secret.
func (c *cabinet) rollbackReaders(ctx context.Context, old paramVersion) ([]readerSpec, error) {
	if !old.secret() {
		return nil, nil
	}
	newest, err := c.one(ctx, params.Selector{Name: old.put.Name}, false)
	if err != nil {
		return nil, err
	}
	out := []readerSpec{{params.ByOperator, c.pen.who.Operator}}
	before, now := specsOf(old.put.Readers), specsOf(newest.put.Readers)
	var left []string
	for _, s := range append(slices.Clone(before), now...) {
		switch {
		case slices.Contains(out, s) || slices.Contains(left, s.String()):
		case slices.Contains(before, s) && slices.Contains(now, s):
			out = append(out, s)
		default:
			left = append(left, s.String())
		}
	}
	if len(left) > 0 {
		c.app.say("left out, because they can read one of the two versions only: %s; more readers: muster param put %s --keep --overwrite --readers …",
			strings.Join(left, ", "), old.put.Name)
	}
	return out, nil
}
