package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/params"
)

// paramNames returns the names of parameters that begin with what is typed, as far as servers tell them at once.
func (a *app) paramNames(cmd *cobra.Command, typed string) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	c, err := a.openCabinet(ctx, access{stale: true})
	if err != nil {
		return nil
	}
	var filters []params.Filter
	if typed != "" {
		filters = []params.Filter{{Key: "Name", Option: "BeginsWith", Values: []string{typed}}}
	}
	found, err := c.list(ctx, filters)
	if err != nil {
		return nil // nothing known: nothing offered
	}
	var names []string
	for _, v := range found {
		names = append(names, v.put.Name)
	}
	return names
}

// completeParams offers the names of parameters for the first most arguments; 0: for all.
func (a *app) completeParams(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.paramNames(cmd, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// completePaths offers the paths of parameters for flags.
func completePaths(a *app, cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			var paths []string
			for _, name := range a.paramNames(cmd, typed) {
				if at := strings.LastIndexByte(name, '/'); at > 0 {
					paths = append(paths, name[:at])
				}
			}
			slices.Sort(paths)
			return slices.Compact(paths), cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// keyringNames returns the names of keyrings, as far as the agent tells them at once.
func (a *app) keyringNames(cmd *cobra.Command) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	rings, _ := a.client().Keyrings(ctx, "") // nothing known: nothing offered
	var names []string
	for _, k := range rings.All {
		names = append(names, k.Name)
	}
	return names
}

// completeKeyrings offers the names of keyrings for the first argument.
func (a *app) completeKeyrings(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.keyringNames(cmd), cobra.ShellCompDirectiveNoFileComp
}

// completeReaders offers keyrings, operators and teams for flags that name readers.
func completeReaders(a *app, cmd *cobra.Command, flag string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		var words []string
		for _, name := range a.keyringNames(cmd) {
			words = append(words, "keyring:"+name)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		operators, _ := a.client().Operators(ctx)
		for _, op := range operators {
			words = append(words, "operator:"+op.Name)
			for _, team := range op.Teams {
				words = append(words, "team:"+team)
			}
		}
		slices.Sort(words)
		return slices.Compact(words), cobra.ShellCompDirectiveNoFileComp
	})
}
