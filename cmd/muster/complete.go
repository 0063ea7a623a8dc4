package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completionTime is how long the shell's Tab may take.
const completionTime = time.Second

func (a *app) rollForTab(cmd *cobra.Command) roll {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	all, _ := callRoll(ctx, a.client()) // nothing known: nothing offered
	return all
}

// completeNodes offers the names of nodes for the first argument.
func (a *app) completeNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for m := range a.rollForTab(cmd).view.All() {
		names = append(names, m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeTargets offers names and tags for --target.
func (a *app) completeTargets(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("target", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		var words []string
		for m := range a.rollForTab(cmd).view.All() {
			words = append(words, m.Name)
			for k, v := range m.Tags {
				if !strings.ContainsAny(v, " \t\"'()") {
					words = append(words, "tag."+k+"="+v)
				}
			}
		}
		slices.Sort(words)
		return lastWord(typed, slices.Compact(words)), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

// lastWord completes the last word of what is typed.
func lastWord(typed string, words []string) []string {
	at := strings.LastIndexAny(typed, " (,") + 1
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, typed[at:]) {
			out = append(out, typed[:at]+w)
		}
	}
	return out
}
