package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// threeOrMore wants a NAME, a VERSION and labels.
func threeOrMore(cmd *cobra.Command, args []string) error {
	if len(args) >= 3 {
		return nil
	}
	return lacks(cmd, "a NAME, a VERSION and labels")
}

func newParamLabelCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "label NAME VERSION LABEL…", Short: "Put labels on a version", Args: threeOrMore,
		Long: `Put labels on a version: its number, another label, or latest. A label is on one version and moves there; readers ask for
NAME:LABEL. A version has at most 10; those that cannot be labels are named, and the others are put.`,
		Example: `  muster param label /app/prod/db/url 3 stable
  muster param label /app/prod/db/url latest stable canary`,
		ValidArgsFunction: a.completeParams(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.labelParam(cmd.Context(), args[0], args[1], args[2:], false)
		},
	}
}

func newParamUnlabelCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "unlabel NAME VERSION LABEL…", Short: "Take labels off a version", Args: threeOrMore,
		Long:    "Take labels off a version. Labels that are not on that version are named, and stay where they are.",
		Example: `  muster param unlabel /app/prod/db/url 3 canary`,

		ValidArgsFunction: a.completeParams(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.labelParam(cmd.Context(), args[0], args[1], args[2:], true)
		},
	}
}

// relabelled is what a change of labels came to, as JSON.
type relabelled struct {
	Format  int      `json:"format"`
	Name    string   `json:"name"`
	Version uint32   `json:"version"`
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Invalid []string `json:"invalid"` // no labels, or, to be removed, not on this version
}

func (a *app) labelParam(ctx context.Context, nameText, version string, labels []string, remove bool) error {
	c, v, err := a.openVersion(ctx, nameText, version, false)
	if err != nil {
		return err
	}
	name := v.put.Name
	out := relabelled{Format: shape.Format, Name: name, Version: v.put.Version, Invalid: []string{}}
	var why error
	for _, l := range labels {
		err := params.CheckLabel(l)
		if err == nil && remove && !slices.Contains(v.item.Labels, l) {
			err = fleet.Errorf(fleet.NotFound, "label %s is not on %s (InvalidLabels)", l, v.name()).Hinted("muster param history %s", name)
		}
		switch {
		case err != nil:
			out.Invalid, why = append(out.Invalid, l), err
			a.printError(err)
		case slices.Contains(out.Added, l) || slices.Contains(out.Removed, l):
		case remove:
			out.Removed = append(out.Removed, l)
		default:
			out.Added = append(out.Added, l)
		}
	}
	if len(out.Added)+len(out.Removed) > 0 {
		if err := c.relabel(ctx, v, out.Added, out.Removed); err != nil {
			return err
		}
	}
	facts := []fact{{"parameter", v.name()}, {"labelled", strings.Join(out.Added, " ")}, {"unlabelled", strings.Join(out.Removed, " ")}}
	if err := a.showOne(out, name, facts); err != nil || why == nil {
		return err
	}
	if len(out.Added)+len(out.Removed) == 0 {
		return exitCode(exitOf(why))
	}
	return exitCode(exec.ExitFailed)
}

// relabel moves labels to a version, and takes others off it.
func (c *cabinet) relabel(ctx context.Context, v paramVersion, add, remove []string) error {
	return c.change(ctx, []string{v.put.Name}, func(_ auth.Header, now shelfOf) ([]draft, error) {
		there := now[v.put.Name]
		if there == nil || there.put.Born != v.put.Born {
			return nil, fleet.Errorf(fleet.Conflict, "%s was deleted meanwhile", v.put.Name)
		}
		label := params.Label{Name: v.put.Name, Born: v.put.Born, Seq: there.item.Seq + 1, Add: add, Remove: remove}
		if len(add) > 0 {
			label.Version = v.put.Version
		}
		return []draft{{op: params.Op{Label: []params.Label{label}}}}, nil
	})
}

func newParamDeleteCommand(a *app) *cobra.Command {
	var ifVersion uint32
	cmd := &cobra.Command{
		Use: "delete NAME…", Short: "Delete parameters with all their versions",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return nil
			}
			return lacks(cmd, "the NAME of a parameter")
		},
		Long: `Delete parameters with all their versions, in one act. Names that are not there are said, and the others are deleted. A
deleted value is gone from what servers keep; readers of that day may have kept it, and backups have it.`,
		Example: `  muster param delete /app/prod/db/url
  muster param delete /app/test/db/url --if-version 3`,
		ValidArgsFunction: a.completeParams(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			var only *uint32
			if cmd.Flags().Changed("if-version") {
				only = &ifVersion
			}
			return a.deleteParams(cmd.Context(), args, only)
		},
	}
	cmd.Flags().Uint32Var(&ifVersion, "if-version", 0, "only if this is the newest version now")
	return cmd
}

func (a *app) deleteParams(ctx context.Context, texts []string, ifVersion *uint32) error {
	names, err := canonicalNames(texts)
	switch {
	case err != nil:
		return err
	case len(names) > params.MaxOps:
		return fleet.Errorf(fleet.Invalid, "%d parameters; one act deletes at most %d", len(names), params.MaxOps)
	case ifVersion != nil && len(names) > 1:
		return fleet.Errorf(fleet.Invalid, "--if-version is for one parameter")
	}
	c, err := a.openDesk(ctx)
	if err != nil {
		return err
	}
	var gone, missing []string
	err = c.change(ctx, names, func(_ auth.Header, now shelfOf) ([]draft, error) {
		var out []draft
		gone, missing = nil, nil
		for _, name := range names {
			v := now[name]
			if v == nil {
				missing = append(missing, name)
				continue
			}
			if ifVersion != nil && v.item.Newest != *ifVersion {
				return nil, fleet.Errorf(fleet.Conflict, "--if-version %d: %s has version %d by now, by %s", *ifVersion, name, v.item.Newest, v.item.Operator).
					Hinted("muster param history %s", name)
			}
			gone = append(gone, name)
			out = append(out, draft{op: params.Op{Delete: []params.Delete{{Name: name, Born: v.put.Born, Version: v.item.Newest}}}})
		}
		return out, nil
	})
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		out := struct {
			Format  int      `json:"format"`
			Deleted []string `json:"deleted"`
			Missing []string `json:"missing"`
		}{shape.Format, gone, append([]string{}, missing...)}
		if err := a.showOne(out, strings.Join(gone, "\n"), []fact{{"deleted", strings.Join(gone, ", ")}}); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err = fleet.Errorf(fleet.NotFound, "%s: no such parameter (ParameterNotFound)", strings.Join(missing, ", ")).Hinted("muster param list")
	if len(missing) < len(names) {
		a.printError(err)
		return exitCode(exec.ExitFailed)
	}
	return err
}
