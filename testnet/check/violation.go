package check

import (
	"fmt"

	"github.com/muster-fleet/muster/node/fleet"
)

// Promise names what was broken.
type Promise string

// The promises.
const (
	PromiseOnce     Promise = "a command runs at most once on a node"
	PromiseTruth    Promise = "an accepted command ends truthfully on every node"
	PromiseSteady   Promise = "a final status never changes"
	PromiseKept     Promise = "what was acknowledged stays, what was refused is not there"
	PromiseFresh    Promise = "a read shows what was acknowledged before it"
	PromiseReplicas Promise = "replicas are equal"
	PromiseSigned   Promise = "nothing runs that no operator signed for that node"
	PromiseDead     Promise = "nothing of a killed run stays alive"
	PromiseBounds   Promise = "a paced command keeps its bounds"
	PromiseLevel    Promise = "an agent at rest holds no more than before"
)

// Violation is one broken promise. Command and Node are zero where it is not about one.
type Violation struct {
	Promise Promise
	Command fleet.UUID
	Node    string
	What    string // the evidence, in words
}

// String says it for people.
func (v Violation) String() string {
	about := ""
	if !v.Command.IsZero() {
		about += " command " + v.Command.String()
	}
	if v.Node != "" {
		about += " on " + v.Node
	}
	return fmt.Sprintf("%s:%s: %s", v.Promise, about, v.What)
}

// violations collects what one checker finds.
type violations struct {
	promise Promise
	found   []Violation
}

func (v *violations) add(command fleet.UUID, node, format string, args ...any) {
	v.found = append(v.found, Violation{v.promise, command, node, fmt.Sprintf(format, args...)})
}

// Checker is a promise with the function that holds a history to it.
type Checker struct {
	Promise Promise
	Check   func(History) []Violation
}

// Checkers lists all checkers.
func Checkers() []Checker {
	return []Checker{
		{PromiseOnce, Once}, {PromiseTruth, Truth}, {PromiseSteady, Steady}, {PromiseKept, Kept}, {PromiseFresh, Fresh},
		{PromiseReplicas, Replicas}, {PromiseSigned, Signed}, {PromiseDead, Dead}, {PromiseLevel, Levels},
		{PromiseBounds, Bounds},
	}
}

// All holds a history to every promise.
func All(h History) []Violation {
	var out []Violation
	for _, c := range Checkers() {
		out = append(out, c.Check(h)...)
	}
	return out
}
