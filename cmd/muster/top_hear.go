package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
)

// How often muster top asks. Whatever takes its time is asked less often: at most a tenth of the time goes into asking.
const (
	topStatusEvery = time.Second
	topListsEvery  = 2 * time.Second
	topSlowerBy    = 10
	topAskFor      = 10 * time.Second // the most that one question takes
	topFollowed    = 16               // commands that are followed at a time, the newest
	topShownEnded  = 5                // commands that have ended and are shown
	topStaleAfter  = 5 * time.Second
	topRedrawEvery = 250 * time.Millisecond
)

// topModel is what muster top has heard. One goroutine has it.
type topModel struct {
	status   node.Status
	roll     roll
	nodes    []topNode          // of the roll
	commands []node.CommandInfo // the newest first
	followed map[fleet.UUID]*topFollowing
	nothing  string // why commands are not shown
	sessions []shape.Session
	heard    time.Time // when the agent answered last
	broken   error     // why it does not
	off      time.Duration
}

// topFollowing is a command that is followed.
type topFollowing struct {
	sight *sight
	stop  context.CancelFunc
	over  bool // stop was called: there is no more to hear
}

func newTopModel() *topModel { return &topModel{followed: map[fleet.UUID]*topFollowing{}} }

// state returns what there is to show at a moment.
func (m *topModel) state(at time.Time) topState {
	s := topState{Now: at.Add(m.off), Status: m.status, Nodes: m.nodes, NoCommands: m.nothing}
	if m.broken != nil && at.Sub(m.heard) > topStaleAfter {
		s.Trouble = "nothing was heard for " + span(at.Sub(m.heard).Truncate(time.Second)) + ": " + m.broken.Error()
	}
	ended := 0
	for _, info := range m.commands {
		if m.followed[info.ID] == nil {
			continue // of long ago, or beyond what is followed
		}
		c := m.command(info, s.Now)
		if c.Over {
			ended++
		}
		if !c.Over || ended <= topShownEnded {
			s.Commands = append(s.Commands, c)
		}
	}
	for _, e := range m.sessions {
		if e.Ended.IsZero() {
			s.Sessions = append(s.Sessions, topSession{Operator: e.Operator, User: e.User, What: sessionText(e), Since: e.Started, Attached: e.Attached})
		}
	}
	return s
}

// command sums one up.
func (m *topModel) command(info node.CommandInfo, now time.Time) topCommand {
	c := topCommand{
		ID: info.ID, Operator: info.Operator, Text: info.Body.Text(), Began: time.UnixMilli(info.Committed), Pace: info.Body.Pace,
		Over: now.UnixMilli() > info.Body.Header.Expires+info.Body.Run.Timeout,
	}
	f := m.followed[info.ID]
	if f == nil || f.sight.info == nil {
		return c
	}
	f.sight.roll = m.roll
	outcomes := f.sight.outcomes(now)
	c.Heard, c.Tally, c.Pace, c.Rollout = true, f.sight.count(outcomes), f.sight.pace(), f.sight.rollout()
	c.Over = c.Over || f.over || f.sight.heardAll(outcomes, c.Tally) || f.sight.synced && c.Tally.Settled()
	for _, o := range outcomes {
		switch {
		case o.Status == exec.InProgress && o.Report.Started != 0:
			c.Slow = append(c.Slow, topSlow{m.roll.name(o.Node), time.UnixMilli(o.Report.Started)})
		case failed(o):
			c.Failed = append(c.Failed, m.roll.name(o.Node))
		}
	}
	slices.SortFunc(c.Slow, func(a, b topSlow) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name)) })
	c.Slow = c.Slow[:min(len(c.Slow), topSlowest)]
	return c
}

// open lists the commands that may still go on, the newest first, as many as are followed. One that is cancelled goes on to be
// followed: its nodes have yet to say that they stopped.
func (m *topModel) open(now time.Time) []node.CommandInfo {
	var out []node.CommandInfo
	for _, info := range m.commands {
		mayGoOn := now.UnixMilli() <= info.Body.Header.Expires+info.Body.Run.Timeout
		if len(out) < topFollowed && mayGoOn && (info.Cancelled == 0 || m.followed[info.ID] != nil) {
			out = append(out, info)
		}
	}
	return out
}

// topNews changes what is known.
type topNews func(*topModel)

// topFeeds asks for everything, again and again, until ctx ends.
type topFeeds struct {
	a      *app
	client *api.Client
	news   chan topNews
}

func (f *topFeeds) tell(ctx context.Context, n topNews) {
	select {
	case f.news <- n:
	case <-ctx.Done():
	}
}

// often asks every so often, and less often where the answer takes long, until ask says that there is no use in it.
func (f *topFeeds) often(ctx context.Context, every time.Duration, ask func(context.Context) (again bool)) {
	for {
		began := time.Now()
		once, cancel := context.WithTimeout(ctx, topAskFor)
		again := ask(once)
		cancel()
		if !again {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(every, topSlowerBy*time.Since(began))):
		}
	}
}

func (f *topFeeds) start(ctx context.Context) {
	go f.often(ctx, topStatusEvery, func(once context.Context) bool {
		f.tell(ctx, f.askStatus(once))
		return true
	})
	go f.often(ctx, topListsEvery, func(once context.Context) bool {
		f.tell(ctx, f.askNodes(once))
		return true
	})
	go f.often(ctx, topListsEvery, func(once context.Context) bool {
		news, again := f.askSessions(once)
		f.tell(ctx, news)
		return again
	})
	go f.commands(ctx)
}

// commands takes a pen, as soon as there is one to take, and reads the commands with it.
func (f *topFeeds) commands(ctx context.Context) {
	var p *pen
	f.often(ctx, topListsEvery, func(once context.Context) (again bool) {
		if p == nil {
			var err error
			if p, err = f.a.takePen(once); err != nil {
				f.tell(ctx, func(m *topModel) { m.nothing = err.Error() })
				return fleet.KindOf(err) == fleet.Unavailable
			}
		}
		f.tell(ctx, f.askCommands(once, p, func(m *topModel) { f.follow(ctx, p, m) }))
		return true
	})
}

func (f *topFeeds) askStatus(ctx context.Context) topNews {
	s, err := f.a.inFleet(ctx, f.client)
	at := time.Now()
	return func(m *topModel) {
		if m.broken = err; err == nil {
			m.status, m.heard, m.off = s, at, s.Now.Sub(at)
		}
	}
}

func (f *topFeeds) askNodes(ctx context.Context) topNews {
	all, err := callRoll(ctx, f.client)
	return func(m *topModel) {
		if err == nil {
			m.roll, m.nodes = all, topNodes(all)
		}
	}
}

func topNodes(all roll) []topNode {
	var out []topNode
	for member := range all.view.All() {
		n := shape.OfNode(member, 0)
		out = append(out, topNode{
			Name: n.Name, Status: n.Status, Role: n.Role, Where: whereText(n, all.name), Version: n.Version, Tags: tagText(n.Tags), LastSeen: n.LastSeen,
			Plight: cmp.Or(n.Plight, fleet.DrainOf(n.Tags)),
		})
	}
	return out
}

// askSessions asks for the sessions of the host. Only its root and the agent's own account may.
func (f *topFeeds) askSessions(ctx context.Context) (topNews, bool) {
	all, err := f.client.Sessions(ctx)
	return func(m *topModel) {
		if err == nil {
			m.sessions = all
		}
	}, err == nil || fleet.KindOf(err) != fleet.Denied
}

func (f *topFeeds) askCommands(ctx context.Context, p *pen, then topNews) topNews {
	answer, err := p.read(ctx, node.ReadCommands, fleet.UUID{})
	return func(m *topModel) {
		if err != nil {
			m.nothing = ""
			if len(m.commands) == 0 {
				m.nothing = err.Error()
			}
			return
		}
		m.nothing, m.commands = "", answer.Commands
		then(m)
	}
}

// follow begins to follow commands that are new, and lets go of those that are over or gone.
func (f *topFeeds) follow(ctx context.Context, p *pen, m *topModel) {
	open := m.open(p.now())
	for _, info := range open {
		if m.followed[info.ID] != nil {
			continue
		}
		following, stop := context.WithCancel(ctx)
		m.followed[info.ID] = &topFollowing{sight: newSight(info.ID, nil, time.UnixMilli(info.Body.Header.Expires), m.roll), stop: stop}
		go f.watch(following, p, info.ID)
	}
	for id, following := range m.followed {
		if !slices.ContainsFunc(open, func(c node.CommandInfo) bool { return c.ID == id }) {
			following.stop()
		}
		if !slices.ContainsFunc(m.commands, func(c node.CommandInfo) bool { return c.ID == id }) {
			delete(m.followed, id)
		}
	}
}

// watch brings one command's news until there can be no more.
func (f *topFeeds) watch(ctx context.Context, p *pen, id fleet.UUID) {
	news, trouble := make(chan node.Update), make(chan error, 1)
	go func() {
		for {
			select {
			case u := <-news:
				f.tell(ctx, func(m *topModel) { m.take(id, u) })
			case <-ctx.Done():
				return
			}
		}
	}()
	_ = p.watch(ctx, id, news, trouble) // what is wrong is told by what else is asked
}

// take takes a piece of news of a command.
func (m *topModel) take(id fleet.UUID, u node.Update) {
	if f := m.followed[id]; f != nil {
		f.sight.take(u)
	}
}

// letGo stops following what can bring no more news.
func (m *topModel) letGo(at time.Time) {
	for _, f := range m.followed {
		if f.over || f.sight.info == nil || !f.sight.synced {
			continue
		}
		f.sight.roll = m.roll
		outcomes := f.sight.outcomes(at.Add(m.off))
		if f.over = f.sight.heardAll(outcomes, f.sight.count(outcomes)); f.over {
			f.stop()
		}
	}
}
