package main

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
)

func newTopCommand(a *app) *cobra.Command {
	var filter string
	cmd := &cobra.Command{
		Use: "top", Short: "Watch the fleet live: members, quorum, commands, sessions", Args: noArgs,
		Long: `Watch the fleet live: members by status, who keeps the state, commands with their progress, who fails and who takes longest, and
what the agent that is asked takes of its host. Commands are shown to operators, open sessions of the host to its root.

q quits, arrows, PgUp, PgDn, Home and End scroll, / filters nodes by words, Esc shows all again. Where the output is no terminal, it
is one frame with all nodes.`,
		Example: `  muster top
  muster top --filter 'lost role=web'
  muster top --via web01.example.com`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !a.forPeople() {
				return fleet.Errorf(fleet.Invalid, "muster top is for people").Hinted("muster status -o json; muster node list -o json; muster command list -o json")
			}
			view := topView{Filter: strings.TrimSpace(cut(filter, maxFilter))}
			ctx, stop := a.untilTold(cmd.Context())
			defer stop()
			if !isTerminal(a.stdin) || !isTerminal(a.stdout) || a.getenv("TERM") == "dumb" {
				return a.topOnce(ctx, view)
			}
			return a.topLive(ctx, view)
		},
	}
	cmd.Flags().StringVar(&filter, "filter", "", "show only nodes with all of these words in their line")
	return cmd
}

// topOnce prints one frame.
func (a *app) topOnce(ctx context.Context, view topView) error {
	m := newTopModel()
	feeds := &topFeeds{a: a, client: a.client()}
	feeds.askStatus(ctx)(m)
	if m.broken != nil {
		return m.broken
	}
	feeds.askNodes(ctx)(m)
	news, _ := feeds.askSessions(ctx)
	news(m)
	if p, err := a.takePen(ctx); err != nil {
		m.nothing = err.Error()
	} else {
		feeds.askCommands(ctx, p, func(m *topModel) { a.topLook(ctx, p, m) })(m)
	}
	view.Colours = a.colours(a.stdout)
	lines, _ := topFrame(m.state(time.Now()), view)
	_, err := io.WriteString(a.stdout, strings.Join(lines, "\n")+"\n")
	return err
}

// topLook takes what servers have to tell of the newest commands now.
func (a *app) topLook(ctx context.Context, p *pen, m *topModel) {
	var all sync.WaitGroup
	for _, info := range m.open(p.now()) {
		s := newSight(info.ID, nil, time.UnixMilli(info.Body.Header.Expires), m.roll)
		m.followed[info.ID] = &topFollowing{sight: s, stop: func() {}}
		all.Go(func() { _ = a.look(ctx, p, s) }) // one that nobody tells of is shown as that
	}
	all.Wait()
}

// What makes a screen for one's own use, and gives it back: the alternate one, without a cursor and without wrapping.
const (
	topEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	topLeave = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// topLive shows frame after frame until somebody has seen enough.
func (a *app) topLive(ctx context.Context, view topView) error {
	client := a.client()
	if _, err := a.inFleet(ctx, client); err != nil {
		return err
	}
	terminal, err := a.takeTerminal()
	if err != nil {
		return err
	}
	defer terminal.giveBack()
	_, _ = io.WriteString(a.stdout, topEnter)
	defer func() { _, _ = io.WriteString(a.stdout, topLeave) }()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	feeds := &topFeeds{a: a, client: client, news: make(chan topNews)}
	feeds.start(ctx)
	m, typed := newTopModel(), readKeys(ctx, terminal.in)
	sizes := a.terminalSizes(ctx, nil)
	rows, cols := a.terminalSize()
	view.Rows, view.Cols, view.Colours = int(rows), int(cols), a.colours(a.stdout)
	draw := time.NewTicker(topRedrawEvery)
	defer draw.Stop()
	changed := true
	for {
		if changed {
			changed = false
			var lines []string
			lines, view = topFrame(m.state(time.Now()), view)
			if err := a.topDraw(lines); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case n := <-feeds.news:
			n(m)
		case <-draw.C: // news may come a thousand times a second; and ages grow without them
			m.letGo(time.Now())
			changed = true
		case size := <-sizes:
			view.Rows, view.Cols, changed = int(size.Rows), int(size.Cols), true
		case keys, ok := <-typed:
			if !ok {
				return nil
			}
			var over bool
			if view, over = view.pressAll(keys); over {
				return nil
			}
			changed = true
		}
	}
}

// topDraw draws over what is there, without clearing first, so that nothing flickers.
func (a *app) topDraw(lines []string) error {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range lines {
		b.WriteString(line + "\x1b[K")
		if i < len(lines)-1 {
			b.WriteString("\r\n")
		}
	}
	b.WriteString("\x1b[J")
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// readKeys reads what is typed until the terminal is gone. The reading itself ends with the process: nothing can take it back
// from a terminal.
func readKeys(ctx context.Context, in *os.File) <-chan []byte {
	out := make(chan []byte)
	go func() {
		defer close(out)
		buf := make([]byte, 256)
		for {
			n, err := in.Read(buf)
			if err != nil {
				return
			}
			select {
			case out <- append([]byte(nil), buf[:n]...):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
