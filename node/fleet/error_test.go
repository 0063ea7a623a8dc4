package fleet

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestErrorSaysItsCauseOnceAndKeepsIt(t *testing.T) {
	err := error(Errorf(Unavailable, "cannot read: %w", io.EOF).Hinted("try %s", "again"))
	if got := err.Error(); got != "cannot read: EOF" {
		t.Errorf("got %q", got)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
	if got := (&Error{What: "cannot read", Err: io.EOF}).Error(); got != "cannot read: EOF" {
		t.Errorf("got %q", got)
	}
	if KindOf(fmt.Errorf("outer: %w", err)) != Unavailable || KindOf(io.EOF) != Internal {
		t.Error("kinds are lost on the way")
	}
}

func TestKindsCrossTheWireByName(t *testing.T) {
	for k := Internal; k <= Exhausted; k++ {
		if ParseKind(k.String()) != k {
			t.Errorf("%v does not come back", k)
		}
	}
	if ParseKind("no such kind") != Internal {
		t.Error("an unknown kind must be Internal")
	}
}
