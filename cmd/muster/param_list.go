package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

func newParamListCommand(a *app) *cobra.Command {
	var f access
	var filters []string
	var public, due bool
	cmd := &cobra.Command{
		Use: "list [PATH]", Short: "List parameters, without their values",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) <= 1 {
				return nil
			}
			return lacks(cmd, "at most one PATH")
		},
		Long: `List what parameters there are, all or at any depth below PATH, without their values. Those that policy does not let you read
are left out.

Filters have Systems Manager's keys Name, Type, KeyId (a reader: keyring:web, operator:bob, recovery), Path, Tier, DataType and
tag:KEY, and its form Key=Name,Option=Contains,Values=db; in short type=SecureString, name^=/app (begins with), name~=db
(contains), reader=keyring:web, tag:env=prod. All filters must hold, each by one of its values.`,
		Example: `  muster param list
  muster param list /app/prod -o wide
  muster param list --filter type=SecureString --filter reader=keyring:web
  muster param list --due
  muster param list --public`,
		ValidArgsFunction: a.completeParams(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if public {
				return a.listPublic(args, filters)
			}
			return a.listParams(cmd.Context(), f, args, filters, due)
		},
	}
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "only these: KEY=VALUE[,VALUE]; may be repeated")
	cmd.Flags().BoolVar(&due, "due", false, "only secrets that are to be rotated by now (muster param rotate --every)")
	cmd.Flags().BoolVar(&public, "public", false, "those that come with muster, below "+params.PublicPath+", with their values")
	f.flags(cmd)
	return cmd
}

func (a *app) listParams(ctx context.Context, f access, args, texts []string, due bool) error {
	filters, err := parseFilters(texts, false)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		path, err := params.CheckPath(args[0])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(filters, func(f params.Filter) bool { return f.Key == "Path" }) {
			return fleet.Errorf(fleet.Invalid, "a PATH and a filter by path at once")
		}
		filters = append(filters, params.Filter{Key: "Path", Option: "Recursive", Values: []string{path}})
	}
	c, err := a.openCabinet(ctx, f)
	if err != nil {
		return err
	}
	found, err := c.list(ctx, filters)
	if err != nil {
		return err
	}
	next, err := c.nextRotations(ctx, found)
	if err != nil {
		return err
	}
	c.tellAge()
	shapes := make([]paramShape, 0, len(found))
	for _, v := range found {
		s := shapeOf(v, nil)
		at, rotates := next[v.put.Name]
		if rotates {
			s.Rotation.Next = at
		}
		if !due || rotates && !at.After(c.now()) {
			shapes = append(shapes, s)
		}
	}
	l := paramListing(c.now())
	if due {
		l.none = "no secret is to be rotated now"
	}
	return l.show(a, shapes)
}

func paramListing(now time.Time) listing[paramShape] {
	return listing[paramShape]{
		columns: []column[paramShape]{
			{head: "NAME", cell: func(p paramShape) string { return p.Name }},
			{head: "TYPE", cell: func(p paramShape) string { return p.Type }},
			{head: "TIER", cell: func(p paramShape) string { return p.Tier }},
			{head: "VERSION", cell: func(p paramShape) string { return fmt.Sprint(p.Version) }},
			{head: "LABELS", wide: true, cell: func(p paramShape) string { return orHyphen(strings.Join(p.Labels, " ")) }},
			{head: "READERS", cell: func(p paramShape) string { return orHyphen(readersCell(p)) }},
			{head: "BY", cell: func(p paramShape) string { return p.By }},
			{head: "CHANGED", cell: func(p paramShape) string { return ago(p.Modified, now) }},
			{head: "EXPIRES", wide: true, cell: func(p paramShape) string { return when(p.expires()) }},
			{head: "ROTATE", wide: true, cell: func(p paramShape) string {
				if p.Rotation == nil {
					return "-"
				}
				return when(p.Rotation.Next)
			}},
			{head: "TAGS", wide: true, cell: func(p paramShape) string { return orHyphen(tagText(p.Tags)) }},
			{head: "DESCRIPTION", wide: true, cell: func(p paramShape) string { return orHyphen(cut(p.Description, 40)) }},
		},
		name: func(p paramShape) string { return p.Name },
		none: "no parameters that you may read: muster param put NAME VALUE",
	}
}

func (p paramShape) expires() time.Time {
	for _, policy := range p.Policies {
		if !policy.At.IsZero() {
			return policy.At
		}
	}
	return time.Time{}
}

func orHyphen(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
