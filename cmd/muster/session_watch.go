package main

import (
	"context"
	"math"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
	"github.com/muster-fleet/muster/node/transport"
)

func newSessionWatchCommand(a *app) *cobra.Command {
	var where sessionPlace
	var raw bool
	cmd := &cobra.Command{
		Use: "watch ID", Short: "Look on at a session, as it goes on", Args: exactly(1, oneSession),
		Long: `Look on at a session that somebody has open: what is on the screen, and what comes. Nothing that you type reaches it. Whose
session it is reads that you look on, and the session's recording says so. Ctrl-C ends the looking on, not the session.

Only what draws is shown: nothing that the session's program writes can ask or tell your terminal anything, unless you want it
with --raw. A way that is too slow to show everything shows the newest.`,
		Example: `  muster session watch 0195
  muster session watch 0195 --node web07`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.watchSession(cmd.Context(), where, args[0], raw)
		},
	}
	where.flags(a, cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "let through everything that the program writes, whatever it does to this terminal")
	return cmd
}

func (a *app) watchSession(ctx context.Context, where sessionPlace, text string, raw bool) error {
	ctx, stop := a.untilTold(ctx)
	defer stop()
	s, err := a.findSession(ctx, where, text)
	if err != nil {
		return err
	}
	defer s.Close()
	if !s.row.Ended.IsZero() {
		return fleet.Errorf(fleet.Expired, "session %s has ended", s.row.ID).Hinted("muster session replay %s", s.row.ID)
	}
	from, err := s.look(ctx, s.at, s.row.ID)
	if err != nil {
		return err
	}
	defer from.Close()
	defer context.AfterFunc(ctx, func() { from.Close() })()
	r, err := cast.Open(from, nil)
	if err == nil {
		a.sayWatched(r.Header())
		// What came before now is shown at once, and so is all else.
		err = cast.Play(ctx, r, a.stdout, a.stderr, cast.Pace{From: math.MaxInt64, Raw: raw, Remark: a.sayRemark})
	}
	switch {
	case ctx.Err() != nil: // whoever looks on has seen enough
		return nil
	case err == nil && !r.Whole():
		return fleet.Errorf(fleet.Unavailable, "the connection to %s was lost", s.at.Name).Hinted("muster session watch %s", s.row.ID)
	}
	return err
}

// look asks a node to show a session that runs. What it shows follows in the stream, which is the caller's to close.
func (e *sessionEnd) look(ctx context.Context, at api.Node, id fleet.UUID) (*transport.Stream, error) {
	signed := e.pen.sign(auth.ForRequest, node.Read{Header: e.pen.header(node.ReadLife), What: node.ReadWatch, Arg: id, Node: at.ID})
	s, _, err := e.begin(ctx, at, node.SessionWatch, node.EncodeSession(signed))
	return s, err
}

// sayWatched says what cannot be seen: that the other terminal is larger than this one.
func (a *app) sayWatched(h cast.Header) {
	if h.Terminal == "" || !isTerminal(a.stdout) {
		return
	}
	if rows, cols := a.terminalSize(); rows > 0 && cols > 0 && (h.Rows > rows || h.Cols > cols) {
		a.say("its terminal has %d rows and %d columns, and this one %d and %d: make it larger", h.Rows, h.Cols, rows, cols)
	}
}

// sayRemark tells what its operator is told, and how the session ends.
func (a *app) sayRemark(r cast.Remark) {
	switch r.Mark {
	case cast.MarkNotice:
		a.say("%s", oneLine(r.Text))
	case cast.MarkEnd:
		a.say("%s", oneLine("it has ended: "+r.Text))
	case cast.MarkCommand, cast.MarkConnection, cast.MarkFile, cast.MarkOmitted:
	}
}
