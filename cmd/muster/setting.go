package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
)

func newSettingCommand(a *app) *cobra.Command {
	return newNoun("setting", "What holds for the whole fleet", newSettingListCommand(a), newSettingPutCommand(a))
}

// settingMeaning says what a setting is for, and its default.
func settingMeaning(name string) (meaning, byDefault string) {
	switch name {
	case auth.SettingOutputTo:
		return "where nodes copy their full output besides: a folder there, syslog, s3://BUCKET/PREFIX", "nowhere"
	case auth.SettingOutputKeep:
		return "bytes of output that a node keeps of all runs", "4GiB"
	case auth.SettingRecordsKeep:
		return "how long servers keep commands and results", lifespan(auth.DefaultRecordsKeep).String()
	case auth.SettingSessionIdle:
		return "how long a session on a terminal may idle", lifespan(auth.DefaultSessionIdle).String()
	case auth.SettingSessionMost:
		return "how long a session lasts at most", lifespan(auth.DefaultSessionMost).String()
	case auth.SettingSessionRecord:
		return "how nodes record sessions: best-effort, durable (it ends where it cannot be recorded), off; with ,input what is typed, too", auth.SessionRecordBestEffort
	case auth.SettingSessionAuditors:
		return "who alone can read recordings: operators, and teams as team:NAME; no host can", "not sealed"
	case auth.SettingSessionCopies:
		return "which recordings two servers keep copies of: sealed (to auditors), all, off", auth.SessionCopiesSealed
	case auth.SettingSessionKeep:
		return "how long recordings are kept", lifespan(auth.DefaultSessionKeep).String()
	case auth.SettingSessionTo:
		return "where nodes copy recordings when a session ends: a folder there, syslog (the lines that were entered), s3://BUCKET/PREFIX", "nowhere"
	case auth.SettingReleaseKeys:
		return "whose releases muster upgrade installs: KEY, KEY,KEY (one of them is enough), or 2 of KEY,KEY,KEY", "nobody's"
	}
	return "", ""
}

type settingRow struct {
	shape.Setting
	Default string `json:"default"`
	Meaning string `json:"meaning"`
}

func newSettingListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the settings", Args: noArgs,
		Example: `  muster setting list
  muster setting list -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, err := a.client().Settings(cmd.Context())
			if err != nil {
				return err
			}
			var rows []settingRow
			for _, name := range auth.SettingNames {
				row := settingRow{Setting: shape.Setting{Name: name}}
				row.Meaning, row.Default = settingMeaning(name)
				if i := slices.IndexFunc(set, func(s auth.Setting) bool { return s.Name == name }); i >= 0 {
					row.Setting = shape.OfSettings(set[i : i+1])[0]
				}
				rows = append(rows, row)
			}
			return settingListing(time.Now()).show(a, rows)
		},
	}
}

func settingListing(now time.Time) listing[settingRow] {
	return listing[settingRow]{
		columns: []column[settingRow]{
			{head: "NAME", cell: func(s settingRow) string { return s.Name }},
			{head: "VALUE", cell: func(s settingRow) string {
				return cmp.Or(s.Value, s.Default+" (default)")
			}},
			{head: "BY", cell: func(s settingRow) string { return cmp.Or(s.By, "-") }},
			{head: "CHANGED", wide: true, cell: func(s settingRow) string {
				if s.Changed.IsZero() {
					return "-"
				}
				return ago(s.Changed, now)
			}},
			{head: "MEANING", cell: func(s settingRow) string { return s.Meaning }},
		},
		name: func(s settingRow) string { return s.Name },
	}
}

func newSettingPutCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "put NAME VALUE", Short: "Change a setting; an empty VALUE is the default again", Args: exactly(2, "a setting's NAME and VALUE"),
		Long: "Change a setting for the whole fleet. The settings are " + strings.Join(auth.SettingNames, ", ") + "; muster setting list says what each is for.",
		Example: `  muster setting put output.to s3://logs/muster
  muster setting put output.keep 8GiB
  muster setting put records.keep 90d
  muster setting put session.record durable
  muster setting put session.auditors ann,team:security
  muster setting put output.to ''`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return auth.SettingNames, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, name, value := cmd.Context(), args[0], args[1]
			if err := auth.CheckSetting(name, value); err != nil {
				return err
			}
			p, err := a.takePen(ctx)
			if err != nil {
				return err
			}
			change := auth.SettingChange{Header: p.header(0), Name: name, Value: value}
			if err := proposeAct(ctx, p.client, auth.ActSetting, p.sign(auth.ForSetting, change)); err != nil {
				return err
			}
			_, byDefault := settingMeaning(name)
			return a.showOne(shape.Setting{Name: name, Value: value, By: p.who.Operator}, name, []fact{{name, cmp.Or(value, byDefault+" (default)")}})
		},
	}
}
