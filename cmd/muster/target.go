package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// fromStdin, as --target, takes the nodes' names from standard input.
const fromStdin = "-"

// maxNamesText bounds the names that are read: 10,000 of them, and some air.
const maxNamesText = 1 << 20

// targeting is how a person says whom a command is for.
type targeting struct {
	target   string // an expression, or fromStdin
	all      bool
	failedOf string // a command's ID
	sample   string // N or N%
	seed     string // of the sample; "": a new one
	drained  bool   // drained nodes are meant as well
}

func (t *targeting) flags(a *app, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&t.target, "target", "", "which nodes: names, nodesets, tag.K=V, @group, and, or, not; - reads names from standard input")
	flags.BoolVar(&t.all, "all", false, "all nodes")
	flags.StringVar(&t.failedOf, "failed-of", "", "only nodes where this command ended and did not succeed")
	flags.StringVar(&t.sample, "sample", "", "only so many of them, drawn by a seed: N or N%")
	flags.BoolVar(&t.drained, "include-drained", false, "drained nodes as well, which are left out otherwise")
	flags.StringVar(&t.seed, "seed", "", "a number for --sample: the same draws the same nodes")
	a.completeTargets(cmd)
}

func (t targeting) check() error {
	switch {
	case t.target == "" && !t.all && t.failedOf == "":
		return fleet.Errorf(fleet.Invalid, "muster run needs --target EXPR, --all or --failed-of COMMAND").
			Hinted("muster run --target 'tag.role=web' -- COMMAND")
	case t.target != "" && t.all:
		return fleet.Errorf(fleet.Invalid, "--target and --all at once")
	case t.seed != "" && t.sample == "":
		return fleet.Errorf(fleet.Invalid, "--seed is for --sample N or --sample N%%")
	}
	if _, err := strconv.ParseUint(cmp.Or(t.seed, "0"), 10, 64); err != nil {
		return fleet.Errorf(fleet.Invalid, "--seed %q is no number", t.seed)
	}
	if t.sample == "" {
		return nil
	}
	size, err := parsePortion("--sample", t.sample)
	if err == nil && size.number == 0 {
		err = fleet.Errorf(fleet.Invalid, "--sample %s is nobody", t.sample)
	}
	return err
}

// selection is whom a command is for: the nodes, and the expression that each of them asks itself once more.
type selection struct {
	target fleet.Target
	chosen []fleet.Member
}

// choose freezes what a person said into nodes.
func (a *app) choose(ctx context.Context, p *pen, all roll, t targeting) (selection, error) {
	s, err := a.chooseAll(ctx, p, all, t)
	if err != nil {
		return s, err
	}
	if len(s.chosen) == 0 {
		return s, nobody(t, s.target)
	}
	if s, err = a.leaveDrained(s, t.drained); err != nil {
		return s, err
	}
	if t.sample == "" {
		return s, nil
	}
	size, err := parsePortion("--sample", t.sample)
	if err != nil {
		return s, err
	}
	seed, err := strconv.ParseUint(cmp.Or(t.seed, strconv.FormatUint(newSampleSeed(), 10)), 10, 64)
	if err != nil {
		return s, fleet.Errorf(fleet.Invalid, "--seed %q is no number", t.seed)
	}
	whole := len(s.chosen)
	s.chosen = sample(s.chosen, int(size.atLeastOne(whole)), seed)
	a.say("a sample of %d out of %d; the same again: --sample %s --seed %d", len(s.chosen), whole, t.sample, seed)
	return s, nil
}

func nobody(t targeting, target fleet.Target) error {
	if t.failedOf != "" {
		return fleet.Errorf(fleet.NotFound, "command %s failed on no node of %s", t.failedOf, target).Hinted("muster command show %s", t.failedOf)
	}
	return fleet.Errorf(fleet.NotFound, "no node matches %s", target).Hinted("muster node list")
}

func newSampleSeed() uint64 {
	var raw [4]byte // short enough to be typed again
	rand.Read(raw[:])
	return uint64(binary.BigEndian.Uint32(raw[:]))
}

func (a *app) chooseAll(ctx context.Context, p *pen, all roll, t targeting) (selection, error) {
	target := fleet.All()
	switch {
	case t.target == fromStdin:
		return a.chooseNames(ctx, p, all, t)
	case t.target != "":
		var err error
		if target, err = readTarget(all, t.target); err != nil {
			return selection{}, err
		}
	}
	if t.failedOf == "" {
		return selection{target, all.view.Select(target)}, nil
	}
	failed, was, err := a.failedOf(ctx, p, all, t.failedOf)
	if err != nil {
		return selection{}, err
	}
	if t.target == "" {
		target = was // what the command was for is asked again: a node may have changed its role since
	}
	return selection{target, slices.DeleteFunc(all.view.Select(target), func(m fleet.Member) bool { return !failed[m.ID] })}, nil
}

// chooseNames takes the nodes from standard input.
func (a *app) chooseNames(ctx context.Context, p *pen, all roll, t targeting) (selection, error) {
	raw, err := io.ReadAll(io.LimitReader(bufio.NewReader(a.stdin), maxNamesText+1))
	if err != nil || len(raw) > maxNamesText {
		return selection{}, fleet.Errorf(fleet.Invalid, "cannot read names from standard input, or they take more than %d bytes", maxNamesText)
	}
	chosen, err := findNames(all.view, string(raw))
	if err != nil {
		return selection{}, err
	}
	if t.failedOf != "" {
		failed, _, err := a.failedOf(ctx, p, all, t.failedOf)
		if err != nil {
			return selection{}, err
		}
		chosen = slices.DeleteFunc(chosen, func(m fleet.Member) bool { return !failed[m.ID] })
	}
	return selection{namesTarget(all.view, chosen), chosen}, nil
}

// findNames finds the members that text names: names, nodesets and beginnings of IDs between spaces, lines and commas.
// What follows # in a line is passed over. Every word must mean a node.
func findNames(view fleet.View, text string) ([]fleet.Member, error) {
	found := map[fleet.ID]bool{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, word := range strings.Fields(line) {
			names, err := fleet.Expand(strings.Trim(word, ","))
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				m, err := view.Find(name)
				if err != nil {
					return nil, err
				}
				found[m.ID] = true
			}
		}
	}
	if len(found) == 0 {
		return nil, fleet.Errorf(fleet.Invalid, "standard input names no node").Hinted("muster node list -o name")
	}
	var out []fleet.Member
	for m := range view.All() {
		if found[m.ID] {
			out = append(out, m)
		}
	}
	return out, nil
}

// namesTarget writes members as an expression. Where they take more room than an expression has, it is everybody: the
// frozen set says who.
func namesTarget(view fleet.View, chosen []fleet.Member) fleet.Target {
	names := make([]string, 0, len(chosen))
	for _, m := range chosen {
		names = append(names, m.Name)
	}
	target, err := fleet.ParseTarget(fleet.FoldNames(names))
	if err != nil || len(view.Select(target)) != len(chosen) {
		return fleet.All()
	}
	return target
}

// failedOf returns the nodes where a command ended and did not succeed, and the expression that it was for.
func (a *app) failedOf(ctx context.Context, p *pen, all roll, text string) (map[fleet.ID]bool, fleet.Target, error) {
	s, err := p.sight(ctx, all, text)
	if err == nil {
		err = a.look(ctx, p, s)
	}
	if err != nil {
		return nil, fleet.Target{}, err
	}
	signed, err := a.signedCommands(ctx, p)
	if err != nil {
		return nil, fleet.Target{}, err
	}
	info, err := signed.read(ctx, s.id)
	if err != nil {
		return nil, fleet.Target{}, err
	}
	s.believe(info)
	target, err := fleet.ParseTarget(s.info.Body.Target)
	if err != nil {
		target = fleet.All() // of a later version of ours; the set counts
	}
	out := map[fleet.ID]bool{}
	for _, o := range s.outcomes(p.now()) {
		out[o.Node] = endedBadly(o.Status)
	}
	return out, target, nil
}

// endedBadly reports whether a command ended on a node without success, so that it is worth another try there.
func endedBadly(s exec.Status) bool {
	return s != exec.Success && s != exec.Skipped && (s.Final() || s == exec.Unknown)
}

// sight reads a command by its ID or the beginning of it.
func (p *pen) sight(ctx context.Context, all roll, text string) (*sight, error) {
	id, err := p.commandID(ctx, text)
	if err != nil {
		return nil, err
	}
	info, err := p.command(ctx, id)
	if err != nil {
		return nil, err
	}
	s := newSight(id, info.Nodes, time.UnixMilli(info.Body.Header.Expires), all)
	s.info = &info
	return s, nil
}

// command reads one command at the servers.
func (p *pen) command(ctx context.Context, id fleet.UUID) (node.CommandInfo, error) {
	answer, err := p.read(ctx, node.ReadCommand, id)
	if err == nil && len(answer.Commands) != 1 {
		err = fleet.Errorf(fleet.NotFound, "no command %s", id).Hinted("muster command list")
	}
	if err != nil {
		return node.CommandInfo{}, err
	}
	return answer.Commands[0], nil
}

// readTarget reads a target so that it selects the same nodes wherever it is read: groups are written out.
func readTarget(all roll, expr string) (fleet.Target, error) {
	target, err := fleet.ParseTarget(expr)
	if err != nil {
		return target, err
	}
	target, err = target.Resolve(func(name string) (fleet.Target, bool) { return all.group(name) })
	if err != nil {
		return target, err
	}
	return all.view.Pin(target)
}
