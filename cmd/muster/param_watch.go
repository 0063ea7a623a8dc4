package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// watchAgain is how long a watch waits before it asks again.
const watchAgain = 500 * time.Millisecond

func newParamWatchCommand(a *app) *cobra.Command {
	var f access
	var number int
	cmd := &cobra.Command{
		Use: "watch PATH|NAME", Short: "Print every change as it happens", Args: exactly(1, "one PATH or NAME"),
		Long: `Print every change of one parameter, or of all below a path, in order, from now on: created, updated, deleted, labelled,
expired, and the notices of policies (expires, unchanged). Where the agent or a server goes away it goes on after the last
change that it has seen. Ctrl-C ends it; --count N ends it after N changes.`,
		Example: `  muster param watch /app/prod/
  muster param watch / -o jsonl
  muster param watch /app/prod/db/url --count 1 && systemctl reload app`,
		ValidArgsFunction: a.completeParams(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := watchScope(args[0])
			if err != nil {
				return err
			}
			if number < 0 {
				return fleet.Errorf(fleet.Invalid, "--count %d", number)
			}
			return a.watchParams(cmd.Context(), f, scope, number)
		},
	}
	cmd.Flags().IntVar(&number, "count", 0, "end after so many changes; 0: never")
	cmd.Flags().BoolVar(&f.asHost, "as-host", false, "watch as this host (as root) or as your account here, also where you have an operator's key")
	return cmd
}

// watchScope reads what is watched: one parameter, or, with a slash behind it, all below a path.
func watchScope(text string) (string, error) {
	if strings.HasSuffix(strings.TrimSpace(text), "/") {
		path, err := params.CheckPath(text)
		return scopeBelow(path), err
	}
	return params.CanonicalName(text)
}

// eventShape is an event, as JSON.
type eventShape struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	Name    string    `json:"name"`
	Version uint32    `json:"version"`
	Labels  []string  `json:"labels,omitempty"`
	By      string    `json:"by,omitempty"` // empty: time did it
	Act     uint64    `json:"act"`
	Part    uint32    `json:"part"`
}

func (a *app) watchParams(ctx context.Context, f access, scope string, number int) error {
	c, err := a.openCabinet(ctx, f)
	if err != nil {
		return err
	}
	if strings.HasSuffix(scope, "/") {
		a.say("watching all below %s", scope)
	} else {
		a.say("watching %s; all below it would be %s/", scope, params.FullPath(scope))
	}
	seen := 0
	return c.watch(ctx, scope, func(news node.ParamsNews) error {
		if news.Lost {
			a.say("some changes were missed, because too many came meanwhile: look with muster param list")
		}
		for _, e := range news.Events {
			if err := a.printEvent(e); err != nil {
				return err
			}
			if seen++; seen == number {
				return errWatchedEnough
			}
		}
		return nil
	})
}

// errWatchedEnough ends a watch that has seen what it was for.
var errWatchedEnough = errors.New("watched enough")

// watch calls each with what happens within a scope, in order. It goes on through restarts of the agent and of servers until
// ctx ends or each fails.
func (c *cabinet) watch(ctx context.Context, scope string, each func(node.ParamsNews) error) error {
	var after params.EventPos
	for {
		in := node.ParamsWatch{Scope: scope, After: after}
		if c.pen != nil {
			in.Signed = []auth.Envelope{c.readRequest(scope)}
		}
		var stop error
		err := c.client.WatchParams(ctx, in, func(news node.ParamsNews) error {
			after = news.At
			stop = each(news)
			return stop
		})
		switch {
		case errors.Is(stop, errWatchedEnough):
			return nil
		case stop != nil:
			return stop
		case ctx.Err() != nil:
			return nil
		case fleet.KindOf(err) == fleet.Expired && c.pen != nil: // the signed request is over: another goes on where it was
			continue
		case err != nil && fleet.KindOf(err) != fleet.Unavailable:
			return err
		case err != nil && after == (params.EventPos{}):
			return err // it never began: say why, rather than to wait in silence
		}
		if pause(ctx, watchAgain) != nil {
			return nil
		}
	}
}

func (a *app) printEvent(e params.Event) error {
	if !a.forPeople() && a.flags.output != asNames {
		return a.printLine(eventShape{
			Time: shape.At(e.Time), Event: string(e.Kind), Name: e.Name, Version: e.Version, Labels: e.Labels, By: e.By, Act: e.Act, Part: e.Part,
		})
	}
	if a.flags.output == asNames {
		_, err := fmt.Fprintln(a.stdout, printable(e.Name))
		return err
	}
	_, err := fmt.Fprintln(a.stdout, printable(eventLine(e)))
	return err
}

// eventLine writes an event in one line.
func eventLine(e params.Event) string {
	line := fmt.Sprintf("%s  %-9s  %s", when(shape.At(e.Time)), e.Kind, e.Name)
	switch e.Kind {
	case params.EventCreated, params.EventUpdated, params.EventLabelled, params.EventExpires, params.EventUnchanged:
		line += fmt.Sprintf(" version %d", e.Version)
	case params.EventDeleted, params.EventExpired:
	}
	if len(e.Labels) > 0 {
		line += " " + strings.Join(e.Labels, " ")
	}
	if e.By != "" {
		line += " by " + e.By
	}
	return line
}
