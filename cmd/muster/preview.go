package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// forecast is what a command would do, as JSON.
type forecast struct {
	Format      int             `json:"format"`
	DryRun      bool            `json:"dry_run"`
	Target      string          `json:"target"`
	Runs        string          `json:"runs"`
	Concurrency uint32          `json:"max_concurrency"` // 0: no limit
	Errors      *uint32         `json:"max_errors"`      // null: no limit
	Strict      bool            `json:"strict"`
	Waves       []uint32        `json:"waves"`               // nodes started by the end of each
	WorstCase   int             `json:"worst_case_failures"` // nodes that may fail before nothing more starts
	Policy      []policyClass   `json:"policy"`
	Nodes       []shape.Named   `json:"nodes"`
	Parameters  []paramForecast `json:"parameters,omitempty"` // what it takes from the parameter store
}

// policyClass is the nodes about which policy says the same of a command.
type policyClass struct {
	Permitted bool   `json:"permitted"`
	Rule      string `json:"rule,omitempty"`
	Why       string `json:"why,omitempty"` // not
	Count     int    `json:"count"`
	Nodes     string `json:"nodes"`
}

// preview shows what a command would do. It fails as refused where no node would run it.
func (a *app) preview(ctx context.Context, p *pen, s selection, w work, m manner) error {
	text, err := p.client.Policy(ctx)
	if err != nil {
		return err
	}
	policy, err := auth.CompilePolicy(text)
	if err != nil {
		return err
	}
	who, err := p.operator(ctx)
	if err != nil {
		return err
	}
	f := forecastOf(s, w, m)
	f.Policy = policyClasses(policy, who, w, m, s.chosen)
	names := make([]string, 0, len(s.chosen))
	for _, n := range s.chosen {
		names = append(names, n.Name)
	}
	if a.flags.output == asNames {
		fmt.Fprintln(a.stdout, strings.Join(names, "\n"))
	} else if err := a.showOne(f, "", forecastFacts(f, names, w, m)); err != nil {
		return err
	}
	if !slices.ContainsFunc(f.Policy, func(c policyClass) bool { return c.Permitted }) {
		return exitCode(exec.ExitRefused)
	}
	return nil
}

// operator returns the pen's owner as the charter has them.
func (p *pen) operator(ctx context.Context) (auth.Operator, error) {
	ops, err := p.client.Operators(ctx)
	if err != nil {
		return auth.Operator{}, err
	}
	for _, op := range ops {
		if op.ID() == p.who.signer().ID() {
			return op, nil
		}
	}
	return auth.Operator{}, fleet.Errorf(fleet.Denied, "%s is no operator of fleet %s", p.who.Operator, p.status.FleetName).
		Hinted("muster operator list")
}

func forecastOf(s selection, w work, m manner) forecast {
	f := forecast{
		Format: shape.Format, DryRun: true, Target: s.target.String(), Runs: workText(w.run, w.documents), Strict: m.pace.Strict,
		Waves: []uint32{}, WorstCase: worstCase(m.pace, len(s.chosen)), Nodes: []shape.Named{}, Parameters: paramForecasts(w.params),
	}
	if m.pace.Limited {
		f.Concurrency, f.Errors = m.pace.Concurrency, &m.pace.Errors
	}
	f.Waves = append(f.Waves, m.pace.Waves...)
	for _, n := range s.chosen {
		f.Nodes = append(f.Nodes, shape.Named{ID: n.ID, Name: n.Name})
	}
	return f
}

// policyClasses asks policy about every node, as each will ask itself, and puts equal answers together, those who may
// first.
func policyClasses(policy *auth.Policy, who auth.Operator, w work, m manner, nodes []fleet.Member) []policyClass {
	type answer struct{ rule, why string }
	byAnswer := map[answer][]string{}
	params := exec.MayUseParams(exec.Command{Params: w.params}, who, policy)
	for _, n := range nodes {
		rule, err := policy.Decide(askOf(who, w, m, n))
		err = cmp.Or(err, params)
		said := answer{rule: rule}
		if err != nil {
			said.why = strings.ReplaceAll(err.Error(), " on "+n.Name+":", ":") // the nodes are named beside it
		}
		byAnswer[said] = append(byAnswer[said], n.Name)
	}
	classes := []policyClass{}
	for said, names := range byAnswer {
		classes = append(classes, policyClass{said.why == "", said.rule, said.why, len(names), fleet.FoldNames(names)})
	}
	slices.SortFunc(classes, func(a, b policyClass) int {
		switch {
		case a.Permitted != b.Permitted && a.Permitted:
			return -1
		case a.Permitted != b.Permitted:
			return 1
		}
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Nodes, b.Nodes))
	})
	return classes
}

func forecastFacts(f forecast, names []string, w work, m manner) []fact {
	facts := []fact{
		{"would run", f.Runs}, {"as", cmp.Or(w.run.User, "the agent's account")}, {"on", fleet.FoldNames(names)},
		{"waves", wavesText(f.Waves)}, {"at a time", limitText(m.pace)}, {"at worst", worstText(f, m.pace)},
		{"gate", workNames(m.gate)}, {"on stop", workNames(m.onStop)},
	}
	facts = append(facts, paramFacts(w.params)...)
	for _, c := range f.Policy {
		if c.Permitted {
			facts = append(facts, fact{"policy", fmt.Sprintf("%s (%d): permitted by %s", c.Nodes, c.Count, c.Rule)})
		} else {
			facts = append(facts, fact{"policy", fmt.Sprintf("%s (%d): refused: %s", c.Nodes, c.Count, strings.TrimPrefix(c.Why, "policy: "))})
		}
	}
	return facts
}

func workNames(all []work) string {
	var names []string
	for _, w := range all {
		names = append(names, workText(w.run, w.documents))
	}
	return strings.Join(names, ", ")
}

// wavesText writes the waves as the nodes that each adds: 1, then 4, then 95.
func wavesText(waves []uint32) string {
	var parts []string
	before := uint32(0)
	for _, w := range waves {
		parts = append(parts, fmt.Sprint(w-before))
		before = w
	}
	return strings.Join(parts, ", then ")
}

func limitText(p exec.Pace) string {
	switch {
	case !p.Limited:
		return "all at once"
	case p.Strict:
		return fmt.Sprintf("%s, strictly: failed and running never exceed %d", concurrencyText(p), p.Errors+1)
	}
	return concurrencyText(p)
}

func concurrencyText(p exec.Pace) string {
	if p.Concurrency == 0 {
		return "no limit"
	}
	return "at most " + count(int(p.Concurrency), "node")
}

func worstText(f forecast, p exec.Pace) string {
	text := count(f.WorstCase, "node") + " of " + fmt.Sprint(len(f.Nodes)) + " may fail"
	if !p.Limited {
		return text
	}
	return text + "; nothing more starts after failure " + fmt.Sprint(uint64(p.Errors)+1)
}
