package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	releases "github.com/muster-fleet/muster/node/release"
	"github.com/muster-fleet/muster/node/upgrade"
)

// The pace of an upgrade where nobody gives another: one node first, then a tenth of them at a time, and no failure is borne.
const (
	upgradeCanary      = "1,100%"
	upgradeConcurrency = "10%"
	upgradeErrors      = "0"
	// upgradeTimeout is for the release to arrive on a node, and for its trial there.
	upgradeTimeout = time.Hour
)

// upgradeFlags is what muster upgrade is told.
type upgradeFlags struct {
	runFlags
	to           string
	downgrade    bool
	downloadOnly bool
	atOnce       bool
}

func newUpgradeCommand(a *app) *cobra.Command {
	var f upgradeFlags
	cmd := &cobra.Command{
		Use: "upgrade --to FILE {--target EXPR | --all} [flags]", Short: "Bring nodes to another version of muster", Args: noArgs,
		Long: `Bring nodes to another version of muster, from a release file that keys of the fleet have signed (muster setting list shows
release.keys). The file goes to this host alone; from there it spreads from node to node.

Each node verifies it, puts it in its agent's place, has the agent start anew (what it runs goes on), and watches it for a minute:
an agent that does not answer, or does not see the fleet as before, gets its old version back, and the node counts as failed.

Without limits of your own it goes to one node first, then to a tenth of them at a time, the leader last, and stops at the first
failure. Nodes that have the version already are left out.

Exit codes are those of muster run.`,
		Example: `  muster upgrade --to muster-1.2.0.release --all
  muster upgrade --to muster-1.2.0.release --all --canary 1,10%,100% --gate Smoke
  muster upgrade --to muster-1.2.0.release --target tag.site=north --max-concurrency 5 --max-errors 2
  muster upgrade --to muster-1.2.0.release --all --download-only
  muster upgrade --to muster-1.1.0.release --target web7 --downgrade
  muster upgrade --to muster-1.2.0.release --all --dry-run`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.expiresSaid = cmd.Flags().Changed("expires")
			return a.upgrade(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "the release file")
	f.targeting.flags(a, cmd)
	f.limits.flags(cmd)
	f.showing.flags(cmd)
	flags.BoolVar(&f.atOnce, "at-once", false, "all nodes at once, without limits")
	flags.BoolVar(&f.downgrade, "downgrade", false, "also to an older version, where it can read what the fleet has written")
	flags.BoolVar(&f.downloadOnly, "download-only", false, "bring the release to the nodes, and change nothing yet")
	flags.StringVar(&f.gate, "gate", "", "document that must succeed on a wave's nodes before the next wave begins")
	flags.StringArrayVar(&f.gateParams, "gate-param", nil, "value for --gate, key=value; may be repeated")
	f.timeout = upgradeTimeout
	flags.Var((*lifespan)(&f.timeout), "timeout", "how long it may take on a node")
	f.expires = exec.DefaultExpires
	flags.Var((*lifespan)(&f.expires), "expires", "how long a node may wait before it starts; at most 30d")
	flags.StringVar(&f.comment, "comment", "", "what it is for; shown in lists")
	flags.BoolVar(&f.async, "async", false, "do not wait; print the command's ID")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show versions, nodes, waves and policy's verdict, and send nothing")
	flags.BoolVar(&f.yes, "yes", false, fmt.Sprintf("do not ask, also for more than %d nodes", largeAct))
	a.completeDocuments(cmd, "gate")
	return cmd
}

// check reports what is wrong with the flags, and completes the pace.
func (f *upgradeFlags) check() error {
	switch {
	case f.to == "":
		return fleet.Errorf(fleet.Invalid, "muster upgrade needs --to FILE").Hinted("muster upgrade --to muster-1.2.0%s --all", releases.Suffix)
	case f.target == "" && !f.all && f.failedOf == "":
		return fleet.Errorf(fleet.Invalid, "muster upgrade needs --target EXPR, --all or --failed-of COMMAND").
			Hinted("muster upgrade --to %s --all", f.to)
	case f.atOnce && f.limits.any():
		return fleet.Errorf(fleet.Invalid, "--at-once and limits at once")
	}
	f.doc = document.UpgradeName
	if !f.limits.any() && !f.atOnce {
		f.limits = limits{canary: upgradeCanary, concurrency: upgradeConcurrency, errors: upgradeErrors}
	} else if f.limits.any() && f.errors == "" {
		f.errors = upgradeErrors
	}
	return f.runFlags.check(nil)
}

func (a *app) upgrade(ctx context.Context, f upgradeFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	file, err := os.Open(f.to)
	if err != nil {
		return fleet.Errorf(fleet.Invalid, "--to: %w", err)
	}
	defer file.Close()
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	r, err := a.readRelease(ctx, p, file)
	if err != nil {
		return err
	}
	all, err := callRollWithGroups(ctx, p.client)
	if err != nil {
		return err
	}
	chosen, err := a.choose(ctx, p, all, f.targeting)
	if err != nil {
		return err
	}
	chosen.chosen, err = a.upgradable(chosen.chosen, r, p.status.Quorum.Level.Level, f)
	if err != nil || len(chosen.chosen) == 0 {
		return err
	}
	w, err := a.workOf(ctx, p, f.doing, upgradeValues(r, p.status.Self.ID, f))
	if err != nil {
		return err
	}
	if f.comment == "" {
		f.comment = "upgrade to " + r.Version
	}
	m, err := p.mannerOf(ctx, f.runFlags, len(chosen.chosen))
	if err != nil {
		return err
	}
	if f.dryRun {
		a.say("%s", matchedLine(chosen.chosen))
		return a.preview(ctx, p, chosen, w, m)
	}
	if err := a.bringRelease(ctx, p, file, r); err != nil {
		return err
	}
	return a.send(ctx, p, all, chosen, w, m, f.sending())
}

// readRelease verifies a release file by what the fleet says of releases.
func (a *app) readRelease(ctx context.Context, p *pen, file io.Reader) (releases.Release, error) {
	settings, err := p.client.Settings(ctx)
	if err != nil {
		return releases.Release{}, err
	}
	var keys auth.ReleaseKeys
	trusted := false
	for _, s := range settings {
		if s.Name == auth.SettingReleaseKeys && s.Value != "" {
			if keys, err = auth.ParseReleaseKeys(s.Value); err != nil {
				return releases.Release{}, err
			}
			trusted = true
		}
	}
	return releases.ReadFile(file, keys, trusted)
}

// upgradable leaves out the nodes that have the release already, says which versions the others have, and refuses what every
// node would refuse.
func (a *app) upgradable(chosen []fleet.Member, r releases.Release, level fleet.Level, f upgradeFlags) ([]fleet.Member, error) {
	var out []fleet.Member
	for _, m := range chosen {
		if m.Facts.Version != r.Version {
			out = append(out, m)
		}
	}
	if f.downloadOnly {
		out = chosen
	}
	a.say("%s", skewLine(chosen, r))
	if len(out) == 0 {
		a.say("nothing is to be done")
		return nil, nil
	}
	for _, m := range out {
		if !slices.Contains(r.Arches, m.Facts.Arch) && m.Facts.Arch != "" {
			return nil, fleet.Errorf(fleet.Invalid, "%s is %s, and release %s is for %s", m.Name, m.Facts.Arch, r.Version, fleet.FoldNames(r.Arches)).
				Hinted("leave such nodes out (--target '… and not %s'), or have a release made for them", m.Name)
		}
		if err := upgrade.May(m.Facts.Version, level, r, f.downgrade || f.downloadOnly); err != nil {
			e := fleet.Errorf(fleet.KindOf(err), "%s: %w", m.Name, err)
			return nil, e.Hinted("%s", hintOf(err))
		}
	}
	return out, nil
}

// skewLine says how many nodes have which version, and which they are to have.
func skewLine(nodes []fleet.Member, to releases.Release) string {
	counts := map[string]int{}
	for _, m := range nodes {
		counts[cmp.Or(m.Facts.Version, "unknown")]++
	}
	var versions []string
	for v := range counts {
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	line := ""
	for i, v := range versions {
		if i > 0 {
			line += ", "
		}
		line += fmt.Sprintf("%s on %s", v, count(counts[v], "node"))
		if v == to.Version {
			line += " already"
		}
	}
	return fmt.Sprintf("%s → %s (level %d, %s, %s)", line, to.Version, to.Level, time.UnixMilli(to.Date).UTC().Format(time.DateOnly), fleet.FoldNames(to.Arches))
}

// upgradeValues are the values of document.UpgradeName.
func upgradeValues(r releases.Release, source fleet.ID, f upgradeFlags) []string {
	return []string{
		"version=" + r.Version, "release=" + r.Digest.Text(), "sources=" + source.Text(),
		"allowDowngrade=" + strconv.FormatBool(f.downgrade), "downloadOnly=" + strconv.FormatBool(f.downloadOnly),
	}
}

// bringRelease brings the file to the agent, unless it is there.
func (a *app) bringRelease(ctx context.Context, p *pen, file *os.File, r releases.Release) error {
	known, err := p.client.Releases(ctx)
	if err == nil && slices.ContainsFunc(known, func(k shape.Release) bool { return k.Digest == r.Digest && k.Trusted && whole(k) }) {
		return nil
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fleet.Errorf(fleet.Invalid, "--to: %w", err)
	}
	signed := p.sign(releases.ForPut, releases.PutAsk{Header: p.header(releases.PutLife), Digest: r.Digest})
	_, err = p.client.PutRelease(ctx, file, signed)
	return err
}

// whole reports whether all of a release is on the agent's host.
func whole(r shape.Release) bool {
	return !slices.ContainsFunc(r.Builds, func(b shape.ReleaseBuild) bool { return b.Have < b.Chunks })
}

func hintOf(err error) string {
	if e, ok := err.(*fleet.Error); ok {
		return e.Hint
	}
	return ""
}
