package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/testnet/check"
)

// The parameters of a fleet. What is kept is never deleted, so that all of its versions can be accounted for; what comes
// and goes is; what is brief has an end.
const (
	shelfPath  = "/chaos"
	briefPath  = shelfPath + "/brief"
	ringName   = "chaos"
	ringKey    = "chaos-ring" // the tag that the keyring follows
	ringValue  = check.In
	ringTarget = "Key=tag:" + ringKey + ",Values=" + ringValue
	plainVar   = "CHAOS_PLAIN"
	sealedVar  = "CHAOS_SEALED"
	masked     = "****\n" // what is left of a secret in a run's output
)

func keptNames() []string   { return []string{"/chaos/kept/a", "/chaos/kept/b", "/chaos/kept/c"} }
func goneNames() []string   { return []string{"/chaos/gone/a", "/chaos/gone/b"} }
func sealedNames() []string { return []string{"/chaos/sealed/a", "/chaos/sealed/b"} }

// readers lists the hosts that may be in the keyring: every third never is.
func (s Shape) readers() []string {
	return slices.DeleteFunc(s.hosts(), func(h string) bool { return numberOf(h)%3 == 0 })
}

// founders lists those that are in it from the beginning. The first never leaves.
func (s Shape) founders() []string {
	return slices.DeleteFunc(s.hosts(), func(h string) bool { return numberOf(h)%3 != 1 })
}

func numberOf(host string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(host, "n"))
	return n
}

// shelfAsksIn returns how many operations on parameters a storm of that length has room for.
func shelfAsksIn(shape Shape) int { return max(4, asksIn(shape)*2/3) }

// shelf spreads operations on parameters over the storm.
func (p *planner) shelf() {
	p.brief(p.within(3000, 8000))
	p.brief(longExpiry)
	for range shelfAsksIn(p.shape) {
		at := p.within(0, p.storm-500)
		switch dice := p.rng.IntN(100); {
		case dice < 10:
			p.put(at)
		case dice < 14:
			p.crowd(at)
		case dice < 24:
			p.race(at)
		case dice < 32:
			p.bring(at)
		case dice < 42:
			p.comeAndGo(at)
		case dice < 50:
			p.label(at)
		case dice < 62:
			p.ask(at, Ask{Kind: AskSecret, Name: p.oneOf(sealedNames())})
		case dice < 74:
			p.member(at)
		case dice < 78:
			p.ask(at, Ask{Kind: AskRotate})
		case dice < 86:
			p.ask(at, Ask{Kind: AskGet, Name: p.oneOf(append(keptNames(), goneNames()...))})
		case dice < 92:
			p.ask(at, Ask{Kind: AskOpen, Name: p.oneOf(sealedNames())})
		default:
			p.tell(at)
		}
	}
}

func (p *planner) put(at int64) int {
	a := Ask{Kind: AskPut, Name: p.oneOf(keptNames())}
	if p.rng.IntN(3) == 0 {
		a.Label = p.oneOf([]string{"blue", "green"})
	}
	return p.ask(at, a)
}

// crowd has several hosts put the same name at once: each of them is to make a version of its own.
func (p *planner) crowd(at int64) {
	a := Ask{Kind: AskPut, Name: p.oneOf(keptNames())}
	if p.rng.IntN(2) == 0 {
		a = Ask{Kind: AskSecret, Name: p.oneOf(sealedNames())}
	}
	for range 3 {
		p.ask(at, a)
	}
}

// race puts a version, and then two that would each be the next: one of them at most may come to be.
func (p *planner) race(at int64) {
	op := p.ask(at, Ask{Kind: AskPut, Name: p.oneOf(keptNames())})
	name := p.last().Name
	then := at + p.within(100, 3000)
	p.ask(then, Ask{Kind: AskCAS, Ref: op, Name: name})
	p.ask(then, Ask{Kind: AskCAS, Ref: op, Name: name})
}

// bring puts several parameters in one act, some of them with a secret.
func (p *planner) bring(at int64) {
	names := p.some(keptNames(), 2)
	if p.rng.IntN(3) == 0 {
		names = append(names, p.oneOf(sealedNames()))
	}
	p.ask(at, Ask{Kind: AskImport, Names: names})
}

func (p *planner) comeAndGo(at int64) {
	name := p.oneOf(goneNames())
	p.ask(at, Ask{Kind: AskPut, Name: name})
	if p.rng.IntN(2) == 0 {
		p.ask(at+p.within(200, 6000), Ask{Kind: AskDelete, Name: name})
	}
}

func (p *planner) label(at int64) {
	op := p.put(at)
	name := p.last().Name
	for range 1 + p.rng.IntN(2) {
		p.ask(at+p.within(200, 6000), Ask{Kind: AskLabel, Ref: op, Name: name, Label: p.oneOf([]string{"blue", "green"})})
	}
}

// brief puts a parameter that lasts so many milliseconds.
func (p *planner) brief(lasts int64) {
	p.ask(p.within(0, p.storm-500), Ask{Kind: AskPut, Name: fmt.Sprintf("%s/%d", briefPath, p.round*roundSteps+p.ops+1), LastsMS: lasts})
}

// member has a host enter the keyring or leave it.
func (p *planner) member(at int64) {
	a := Ask{Kind: AskTag, Node: p.oneOf(p.shape.readers()), Key: ringKey, Value: ringValue}
	if p.rng.IntN(5) < 3 && a.Node != p.shape.founders()[0] {
		a.Kind, a.Value = AskUntag, ""
	}
	p.ask(at, a)
}

// tell runs a command that is told a parameter, and every second time a secret.
func (p *planner) tell(at int64) {
	a := Ask{Kind: AskRun, Body: Tells, Name: p.oneOf(keptNames()), TimeoutMS: longTimeout, ExpiresMS: longExpiry}
	if p.rng.IntN(2) == 0 {
		a.Sealed, a.ExpiresMS = p.oneOf(sealedNames()), 15_000 // who waits for a key need not wait for ever
	}
	if p.rng.IntN(3) == 0 {
		a.Body, a.Sealed, a.ExpiresMS = Reads, docSecret, 15_000
	}
	p.ask(at, a)
}

// last returns the operation that was planned last.
func (p *planner) last() *Ask { return p.steps[len(p.steps)-1].Ask }
