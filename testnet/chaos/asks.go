package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/exec"
)

// AskKind is a kind of operation.
type AskKind string

// The operations.
const (
	AskRun     AskKind = "run"
	AskCancel  AskKind = "cancel"  // the command of Ref
	AskTag     AskKind = "tag"     // node Key, tag Value
	AskUntag   AskKind = "untag"   // the tag of Ref
	AskToken   AskKind = "token"   // a new token
	AskUntoken AskKind = "untoken" // the token of Ref
	AskList    AskKind = "list"    // the commands
	AskShow    AskKind = "show"    // the command of Ref
	AskNodes   AskKind = "nodes"
	AskPut     AskKind = "put"    // Name, a plain parameter; with Label, and an end after LastsMS
	AskCAS     AskKind = "cas"    // put Name if what Ref put is the newest version
	AskImport  AskKind = "import" // Names, in one act
	AskDelete  AskKind = "delete" // Name
	AskLabel   AskKind = "label"  // Label to the version that Ref put
	AskSecret  AskKind = "secret" // put Name for the keyring
	AskRotate  AskKind = "rotate" // the keyring
	AskGet     AskKind = "get"    // Name
	AskOpen    AskKind = "open"   // Name, as the host itself
)

// Ask is one operation that somebody asks for on some host.
type Ask struct {
	Kind      AskKind  `json:"kind"`
	Op        int      `json:"op"` // unique among all rounds
	From      string   `json:"from"`
	Ref       int      `json:"ref,omitempty"` // the operation that this one is about
	Body      Body     `json:"body,omitempty"`
	LastsMS   int64    `json:"lasts_ms,omitempty"` // the body, left alone
	Nodes     []string `json:"nodes,omitempty"`    // whom the command is for; empty: all
	Not       string   `json:"not,omitempty"`      // all but this one
	TimeoutMS int64    `json:"timeout_ms,omitempty"`
	ExpiresMS int64    `json:"expires_ms,omitempty"`
	Wait      bool     `json:"wait,omitempty"` // for the ends, as a person does
	Pace      *Pace    `json:"pace,omitempty"` // nil: all at once
	Node      string   `json:"node,omitempty"` // that is tagged
	Key       string   `json:"key,omitempty"`
	Value     string   `json:"value,omitempty"`
	Name      string   `json:"name,omitempty"`   // of a parameter; of a command that tells, the one that it is told
	Names     []string `json:"names,omitempty"`  // of several
	Sealed    string   `json:"sealed,omitempty"` // the secret that a command is told
	Label     string   `json:"label,omitempty"`
}

// Pace is how a command spreads.
type Pace struct {
	Concurrency int  `json:"concurrency"` // 0: as many as there are
	Errors      int  `json:"errors"`
	Strict      bool `json:"strict,omitempty"`
}

// String says the operation for people.
func (a Ask) String() string {
	about := ""
	switch a.Kind {
	case AskRun:
		about = fmt.Sprintf(" %s on %s%s", a.Body, a.target(), a.Pace)
	case AskCancel, AskUntag, AskUntoken, AskShow:
		about = fmt.Sprintf(" of %d", a.Ref)
		if a.Ref == 0 {
			about = fmt.Sprintf(" %s %s", a.Node, a.Key)
		}
	case AskPut, AskCAS, AskImport, AskDelete, AskLabel, AskSecret, AskGet, AskOpen:
		about = " " + a.shelved()
	case AskTag:
		about = fmt.Sprintf(" %s %s=%s", a.Node, a.Key, a.Value)
	case AskToken, AskList, AskNodes, AskRotate:
	}
	return fmt.Sprintf("%d: %s%s, through %s", a.Op, a.Kind, about, a.From)
}

// String is empty for no pace.
func (p *Pace) String() string {
	if p == nil {
		return ""
	}
	strict := ""
	if p.Strict {
		strict = ", strict"
	}
	return fmt.Sprintf(", %d at a time, %d errors borne%s", p.Concurrency, p.Errors, strict)
}

// exec returns the pace as the fleet has it.
func (p *Pace) exec() exec.Pace {
	if p == nil {
		return exec.Pace{}
	}
	return exec.Pace{Limited: true, Concurrency: uint32(p.Concurrency), Errors: uint32(p.Errors), Strict: p.Strict}
}

func (a Ask) target() string {
	switch {
	case a.Not != "":
		return "not " + a.Not
	case len(a.Nodes) > 0:
		return strings.Join(a.Nodes, " or ")
	}
	return "all"
}

// meant lists the nodes that a command is for.
func (a Ask) meant(all []string) []string {
	switch {
	case a.Not != "":
		return without(all, a.Not)
	case len(a.Nodes) > 0:
		return a.Nodes
	}
	return all
}

// asksIn returns how many operations a storm of that length has room for.
func asksIn(shape Shape) int { return max(6, int(shape.StormMS/900)) }

// asks spreads operations over the storm.
func (p *planner) asks() {
	for range asksIn(p.shape) {
		at := p.within(0, p.storm-500)
		switch dice := p.rng.IntN(100); {
		case dice < 52:
			p.run(at)
		case dice < 68:
			p.tag(at)
		case dice < 76:
			p.token(at)
		case dice < 90:
			p.ask(at, Ask{Kind: AskList})
		default:
			p.ask(at, Ask{Kind: AskNodes})
		}
	}
}

func (p *planner) ask(at int64, a Ask) int {
	p.ops++
	a.Op = p.round*roundSteps + p.ops
	if a.From == "" {
		a.From = p.oneOf(p.shape.hosts())
	}
	p.add(min(at, p.storm), Step{Ask: &a})
	return a.Op
}

// Times of commands, in milliseconds.
const (
	longExpiry  = 600_000
	longTimeout = 25_000 // ends what a cancel did not reach before the round's end
	endless     = 60_000
)

func (p *planner) run(at int64) {
	a := Ask{Kind: AskRun, Body: p.body(), TimeoutMS: longTimeout, ExpiresMS: longExpiry, Wait: p.rng.IntN(4) == 0}
	hosts := p.shape.hosts()
	switch p.rng.IntN(10) {
	case 0, 1, 2:
		a.Nodes = p.some(hosts, 1+p.rng.IntN(3))
		slices.SortFunc(a.Nodes, byNumber)
	case 3, 4:
		a.Not = p.oneOf(hosts)
	}
	if p.rng.IntN(6) == 0 {
		a.ExpiresMS = p.within(2000, 9000)
	}
	switch a.Body {
	case Sleeps:
		a.LastsMS = p.within(500, 6000)
	case Overstays, Stubborn:
		a.LastsMS, a.TimeoutMS = endless, p.within(2000, 4000)
	case Waits, Broods:
		a.LastsMS, a.Wait = endless, false
	case Wavers:
		a.LastsMS = p.within(100, 1500)
	case Says, Fails, Floods, Leaves:
	}
	if a.Body == Wavers || (a.Body == Says || a.Body == Sleeps) && p.rng.IntN(5) == 0 {
		a.Pace = &Pace{Concurrency: 1 + p.rng.IntN(5), Errors: p.rng.IntN(4), Strict: p.rng.IntN(2) == 0}
	}
	op := p.ask(at, a)
	if a.Body == Waits || a.Body == Broods || p.rng.IntN(25) == 0 {
		p.ask(at+p.within(200, 6000), Ask{Kind: AskCancel, Ref: op})
	}
	if p.rng.IntN(5) == 0 {
		p.ask(at+p.within(300, 6000), Ask{Kind: AskShow, Ref: op})
	}
}

func (p *planner) body() Body {
	switch dice := p.rng.IntN(100); {
	case dice < 30:
		return Says
	case dice < 40:
		return Wavers
	case dice < 50:
		return Fails
	case dice < 58:
		return Floods
	case dice < 68:
		return Sleeps
	case dice < 80:
		return Waits
	case dice < 88:
		return Overstays
	case dice < 91:
		return Stubborn
	case dice < 95:
		return Leaves
	}
	return Broods
}

// tag sets a tag that nobody else sets, or one of three that many do; some are dropped again.
func (p *planner) tag(at int64) {
	a := Ask{Kind: AskTag, Node: p.oneOf(p.shape.hosts())}
	shared := p.rng.IntN(4) == 0
	a.Value = fmt.Sprint(p.round*roundSteps + p.ops + 1)
	a.Key = "chaos-" + a.Value
	if shared {
		a.Key, a.Node = "chaos-shared", p.oneOf(p.shape.hosts()[:min(3, len(p.shape.hosts()))])
	}
	op := p.ask(at, a)
	if !shared && p.rng.IntN(4) == 0 {
		p.ask(at+p.within(1000, 6000), Ask{Kind: AskUntag, Ref: op, Node: a.Node, Key: a.Key})
	}
}

func (p *planner) token(at int64) {
	op := p.ask(at, Ask{Kind: AskToken})
	if p.rng.IntN(3) == 0 {
		p.ask(at+p.within(1000, 6000), Ask{Kind: AskUntoken, Ref: op})
	}
}
