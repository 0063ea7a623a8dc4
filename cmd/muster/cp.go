package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy"
)

// copiesAtOnce is how many nodes are copied to at a time: enough to fill a line, few enough that each goes on.
const copiesAtOnce = 16

type cpFlags struct {
	sessionFlags
	deep   bool
	resume bool
	target string
}

func newCpCommand(a *app) *cobra.Command {
	var f cpFlags
	cmd := &cobra.Command{
		Use: "cp [-r] [--resume] SOURCE… DESTINATION", Short: "Copy files to and from nodes",
		Long: `Copy files from here to a node, or from a node to here; NODE:PATH is a path on a node, beginning at the home of the account
there. From here files go to many nodes as well: @GROUP:PATH, web[01-20]:PATH, or --target EXPR with a PATH.

Things land as cp has it: in the destination if it is a folder, else under its name. Rights and times come along; owners do
not: files are the account's, and what it may not read or write cannot be copied. A file has its name when it is whole.
Links are copied as links, never followed, but for those that you name yourself. ~ and patterns are the node's where you
quote them.

What breaks off is gone on with by --resume: files that are there already, and parts of a file, are compared by SHA-256 and
not sent again. A copy survives a lost network, and a restart of the agent there, without it.`,
		Example: `  muster cp app.tar web07:/srv/
  muster cp -r site/ web07:/srv/www --user www-data
  muster cp web07:/var/log/nginx/error.log .
  muster cp 'web07:/var/log/*.gz' logs/
  muster cp motd @web:/etc/motd --user root
  muster cp --resume disk.img db01:`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.cp(cmd.Context(), f, args) },
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			names, _ := a.completeNodes(cmd, nil, "")
			for i, name := range names {
				names[i] = name + ":"
			}
			return names, cobra.ShellCompDirectiveNoSpace
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.deep, "recursive", "r", false, "folders, with what is in them")
	flags.BoolVar(&f.resume, "resume", false, "do not send again what is there already")
	flags.StringVar(&f.target, "target", "", "copy to the nodes that this target selects; the destination is a path on each")
	flags.StringVar(&f.user, "user", "", "account on the node (default: the node's for sessions)")
	f.flags(cmd)
	a.completeTargets(cmd)
	return cmd
}

func (a *app) cp(ctx context.Context, f cpFlags, args []string) error {
	e, err := readErrand(args, f.target)
	if err == nil {
		err = f.check()
	}
	if err == nil && e.put {
		err = checkSources(e.sources, f.deep)
	}
	if err != nil {
		return err
	}
	ctx, release := a.untilInterrupted(ctx)
	defer release()
	p, err := a.takePen(ctx)
	if err != nil {
		return err
	}
	nodes, err := e.nodes(ctx, p)
	if err != nil {
		return err
	}
	end, err := newSessionEnd(ctx, p, nodes...)
	if err != nil {
		return err
	}
	defer end.Close()
	if e.many {
		return a.cpToMany(ctx, end, nodes, f, e)
	}
	return a.cpOne(ctx, end, nodes[0], f, e)
}

// checkSources refuses what cannot be copied before anything is asked of a node.
func checkSources(sources []string, deep bool) error {
	for _, source := range sources {
		info, err := os.Stat(source)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return fleet.Errorf(fleet.NotFound, "there is no %s", source)
		case err != nil:
			return fleet.Errorf(fleet.Invalid, "%w", err)
		case info.IsDir() && !deep:
			return fleet.Errorf(fleet.Invalid, "%s is a folder", source).Hinted("-r copies folders, with what is in them")
		}
	}
	return nil
}

var errInterrupted = errors.New("interrupted")

// untilInterrupted returns a context that Ctrl-C ends.
func (a *app) untilInterrupted(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	pressed, release := a.interrupts()
	go func() {
		select {
		case <-pressed:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		release()
		cancel(nil)
	}
}

// nodes finds the nodes of an errand.
func (e errand) nodes(ctx context.Context, p *pen) ([]api.Node, error) {
	if e.many {
		return chooseNodes(ctx, p, nil, e.where)
	}
	return chooseNodes(ctx, p, []string{e.where}, "")
}

// copied is what came of a copy with one node.
type copied struct {
	node  api.Node
	total copy.Total
	begun bool // the session was opened
	took  time.Duration
	err   error
}

// copyWith copies with one node.
func (h *haul) copyWith(ctx context.Context, end *sessionEnd, at api.Node, f cpFlags, e errand) copied {
	began := time.Now()
	c := courier{end: end, at: at, tell: h.tell}
	order := copy.Order{Sources: e.sources, To: e.to, Deep: f.deep, Resume: f.resume, Watch: copy.Watch{
		Entry: h.entry, Moved: h.move,
		Trouble: func(far bool, trouble *fleet.Error) {
			if far {
				h.trouble(at.Name, trouble)
				return
			}
			h.trouble("", trouble)
		},
	}}
	out := copied{node: at}
	if at.Status == fleet.Left || len(at.Addrs)+len(at.Via) == 0 {
		out.err = fleet.Errorf(fleet.Unavailable, "%s is not there (%s)", at.Name, at.Status).Hinted("muster node list")
		return out
	}
	s := f.session(auth.SessionCopy)
	if s.Paths, out.err = e.farPaths(); out.err != nil {
		return out
	}
	s.Put, s.Deep = e.put, f.deep
	out.total, out.err = h.carryOn(ctx, &c, s, e.put, order)
	out.begun, out.took = c.over != nil, time.Since(began)
	return out
}

func (a *app) cpOne(ctx context.Context, end *sessionEnd, at api.Node, f cpFlags, e errand) error {
	h := a.newHaul(0)
	out := h.copyWith(ctx, end, at, f, e)
	h.close()
	if out.err != nil {
		return out.mended()
	}
	if err := a.tellCopied([]copied{out}, h.live); err != nil {
		return err
	}
	return out.exit()
}

// mended says, of a copy that broke off, that it need not begin anew.
func (c copied) mended() error {
	e, ok := c.err.(*fleet.Error)
	if ok && e.Hint == "" && e.Kind == fleet.Unavailable && c.begun {
		return e.Hinted("repeat with --resume: what is there by then is not sent again")
	}
	return c.err
}

// exit is the exit code of a copy that was not ended before its time.
func (c copied) exit() error {
	if c.total.Failed > 0 {
		return exitCode(exec.ExitFailed)
	}
	return nil
}

// cpToMany copies to nodes at the same time.
func (a *app) cpToMany(ctx context.Context, end *sessionEnd, nodes []api.Node, f cpFlags, e errand) error {
	h := a.newHaul(len(nodes))
	outs := make([]copied, len(nodes))
	slots := make(chan struct{}, copiesAtOnce)
	var all sync.WaitGroup
	for i, n := range nodes {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			outs[i] = h.copyWith(ctx, end, n, f, e)
			h.nodeDone()
			if outs[i].err != nil {
				h.trouble(n.Name, outs[i].mended())
			}
		})
	}
	all.Wait()
	h.close()
	slices.SortFunc(outs, func(a, b copied) int { return strings.Compare(a.node.Name, b.node.Name) })
	if err := a.tellCopied(outs, true); err != nil {
		return err
	}
	if code := exitOfMany(outs); code != exec.ExitOK {
		return exitCode(code)
	}
	return nil
}

// exitOfMany: somebody who was not reached may come back, which is worth more to know than that another failed.
func exitOfMany(outs []copied) int {
	code := exec.ExitOK
	for _, c := range outs {
		switch {
		case fleet.KindOf(c.err) == fleet.Unavailable && c.err != nil:
			return exec.ExitUnknown
		case c.err != nil || c.total.Failed > 0:
			code = exec.ExitFailed
		}
	}
	return code
}

// copiedRow is the shape of what came of a copy with one node.
type copiedRow struct {
	Node    shape.Named `json:"node"`
	Files   uint64      `json:"files"`
	Kept    uint64      `json:"kept"`
	Folders uint64      `json:"folders"`
	Links   uint64      `json:"links"`
	Bytes   uint64      `json:"bytes"`
	Reused  uint64      `json:"reused"`
	Failed  uint64      `json:"failed"`
	Seconds float64     `json:"seconds"`
	Error   string      `json:"error,omitempty"`
}

func (c copied) row() copiedRow {
	t := c.total
	row := copiedRow{
		Node: shape.Named{ID: c.node.ID, Name: c.node.Name}, Files: t.Files, Kept: t.Kept, Folders: t.Folders, Links: t.Links, Bytes: t.Bytes,
		Reused: t.Reused, Failed: t.Failed, Seconds: c.took.Seconds(),
	}
	if c.err != nil {
		row.Error = c.err.Error()
	}
	return row
}

// tellCopied says what was copied: data where that was asked for; to people, if they are there to read it, a line.
func (a *app) tellCopied(outs []copied, people bool) error {
	if !a.forPeople() || a.flags.output == asWide {
		var rows []copiedRow
		for _, c := range outs {
			rows = append(rows, c.row())
		}
		return copiedListing().show(a, rows)
	}
	if people {
		a.say("%s", copiedText(outs))
	}
	return nil
}

func copiedListing() listing[copiedRow] {
	number := func(of func(copiedRow) uint64) func(copiedRow) string {
		return func(r copiedRow) string { return strconv.FormatUint(of(r), 10) }
	}
	return listing[copiedRow]{
		columns: []column[copiedRow]{
			{head: "NODE", cell: func(r copiedRow) string { return r.Node.Name }},
			{head: "FILES", cell: number(func(r copiedRow) uint64 { return r.Files })},
			{head: "KEPT", cell: number(func(r copiedRow) uint64 { return r.Kept })},
			{head: "BYTES", cell: number(func(r copiedRow) uint64 { return r.Bytes })},
			{head: "FAILED", cell: number(func(r copiedRow) uint64 { return r.Failed })},
			{head: "ERROR", cell: func(r copiedRow) string { return r.Error }},
		},
		name: func(r copiedRow) string { return r.Node.Name },
		none: "nothing was copied",
	}
}

// copiedText says in one line what was copied.
func copiedText(outs []copied) string {
	var sum copy.Total
	var took time.Duration
	well := 0
	for _, c := range outs {
		sum.Files += c.total.Files
		sum.Kept += c.total.Kept
		sum.Links += c.total.Links
		sum.Bytes += c.total.Bytes
		sum.Failed += c.total.Failed
		took = max(took, c.took)
		if c.err == nil && c.total.Failed == 0 {
			well++
		}
	}
	text := fmt.Sprintf("%s, %s in %s", count(int(sum.Files), "file"), amount(int64(sum.Bytes)), span(took))
	if took > time.Second {
		text += fmt.Sprintf(" (%s/s)", amount(int64(float64(sum.Bytes)/took.Seconds())))
	}
	if len(outs) > 1 {
		text = fmt.Sprintf("%d of %d nodes have it: %s", well, len(outs), text)
	}
	for _, n := range []struct {
		n    uint64
		word string
	}{{sum.Links, "links"}, {sum.Kept, "there already"}, {sum.Failed, "failed"}} {
		if n.n > 0 {
			text += fmt.Sprintf(", %d %s", n.n, n.word)
		}
	}
	return text
}
