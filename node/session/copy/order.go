package copy

import (
	"context"
	"io"

	"github.com/muster-fleet/muster/node/fleet"
)

// Order is what a person asks for.
type Order struct {
	Sources []string
	To      string
	Deep    bool // folders with what is in them
	Resume  bool // what is there already is not sent again
	Watch   Watch
}

// ending closes stream when ctx ends, which is what wakes whoever reads or writes; the function that it returns closes it
// in any case.
func ending(ctx context.Context, stream io.Closer) func() {
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	return func() {
		stop()
		stream.Close()
	}
}

// ended says that it was the caller who ended a copy, where that is so.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && fleet.KindOf(err) == fleet.Unavailable {
		return fleet.Errorf(fleet.Unavailable, "the copy was ended here: %w", context.Cause(ctx))
	}
	return err
}
