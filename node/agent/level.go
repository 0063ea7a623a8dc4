package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/consensus"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// How a leader finds out which level all support. A server's word is good for a moment, because what is written next reaches
// it at once; others are asked at a pace that a large fleet bears, and again when they were away.
const (
	levelEvery       = time.Second
	levelServerFresh = 10 * time.Second
	levelFresh       = 15 * time.Minute
	levelWait        = 2 * time.Second
	levelAsks        = 32 // hosts asked at once
	levelNamed       = 64 // hosts that one answer names

	versionsFresh = time.Minute // how long the versions that nodes run are taken from memory
)

// levelBody answers askLevel, which says nothing.
type levelBody struct {
	Supports fleet.Level
	Level    fleet.Level // the fleet's, as far as the host knows
	// Holding and More are the leader's: node.NextLevel's holding.
	Holding []node.Supporter
	More    uint32
}

// levelWord is what one host said.
type levelWord struct {
	level fleet.Level   // 0: nothing
	at    time.Duration // by boot time
	asked time.Duration // when it was asked last
}

// levels is what the leader was told. Its zero value is nothing.
type levels struct {
	mu    sync.Mutex
	words map[fleet.ID]levelWord
}

func (l *levels) change(id fleet.ID, change func(*levelWord)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.words == nil {
		l.words = map[fleet.ID]levelWord{}
	}
	w := l.words[id]
	change(&w)
	l.words[id] = w
}

// known returns what was said, and forgets who went away: who comes back may do so with another program.
func (l *levels) known(online func(fleet.ID) bool) map[fleet.ID]levelWord {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.words, func(id fleet.ID, _ levelWord) bool { return !online(id) })
	return maps.Clone(l.words)
}

func (l *levels) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.words = nil
}

// counts returns what of a word counts at now, where own is what is wanted: that a host supports own only for a while, that
// it does not until it says otherwise.
func (w levelWord) counts(now time.Duration, own fleet.Level, server bool) fleet.Level {
	fresh := levelFresh
	if server {
		fresh = levelServerFresh
	}
	if w.level >= own && now-w.at >= fresh {
		return 0
	}
	return w.level
}

// supports returns the newest level that this host may be counted on for.
func (a *Agent) supports() fleet.Level {
	if a.cfg.Level != nil {
		return a.cfg.Level()
	}
	return fleet.LevelNewest
}

// Level returns the level in which what lies on this host may be written: its replica's, where there is one that follows, else
// what was heard. A beacon is one server's word, so that nothing above what this program writes itself counts of it: a server
// that lies must not keep a fleet from every release there is.
func (a *Agent) Level() fleet.Level {
	if a.replica != nil && a.replica.Halted() == nil {
		if s := a.replica.State(); s.Record.Charter != nil {
			return s.Level
		}
	}
	return min(a.heardLevel(), fleet.LevelNewest)
}

// heardLevel returns the fleet's level as the newest beacon and this host's replica have it, which may be one that this program
// does not know. It is for people to read.
func (a *Agent) heardLevel() fleet.Level {
	heard := max(fleet.LevelFirst, fleet.Level(a.picture.Load().beacon.FleetVersion))
	if a.replica != nil {
		heard = max(heard, a.replica.State().Level)
	}
	return heard
}

// tendLevel raises the fleet's level when this host leads and all who count support more.
func (a *Agent) tendLevel(ctx context.Context) {
	every := time.NewTicker(levelEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			a.complain("raise the fleet's level", a.raiseLevel(ctx))
		}
	}
}

func (a *Agent) raiseLevel(ctx context.Context) error {
	have, own := a.replica.State().Level, a.supports()
	if own <= have || !a.quorum.Status().Leading || a.replica.State().Record.Charter == nil {
		a.levels.forget()
		return nil
	}
	a.askLevels(ctx, a.supporters())
	to, _ := node.NextLevel(have, own, a.supporters())
	if to = min(to, have+1); to <= have || !a.serversStill(ctx, to) {
		return nil
	}
	result, err := a.commit(ctx, consensus.SetLevel{Level: to})
	if err == nil {
		err = result.Err()
	}
	if _, moved := err.(NotLeader); moved || err != nil && fleet.KindOf(err) == fleet.Conflict {
		return nil
	}
	if err == nil {
		a.log.Info("the fleet's level rises: all who count support it", "to", to)
		a.sendBeacon()
	}
	return err
}

// serversStill asks the servers once more: what is written next reaches them at once, and one may have gone back to an older
// program since it was asked.
func (a *Agent) serversStill(ctx context.Context, to fleet.Level) bool {
	ctx, cancel := context.WithTimeout(ctx, levelWait)
	defer cancel()
	s := a.quorum.Status()
	for _, id := range slices.Concat(s.Voters, s.Spares) {
		level, ok := a.askLevel(ctx, id)
		if !ok || level < to {
			a.levels.change(id, func(w *levelWord) { w.level, w.at = level, a.cfg.Clock().Boot })
			return false
		}
	}
	return true
}

// supporters lists every enrolled host with what it said.
func (a *Agent) supporters() []node.Supporter {
	now, own := a.cfg.Clock().Boot, a.supports()
	words := a.levels.known(a.alive)
	s := a.quorum.Status()
	var out []node.Supporter
	for entry := range a.replica.State().Record.Roster.All() {
		if entry.Removed != 0 {
			continue
		}
		h := node.Supporter{ID: entry.ID, Server: slices.Contains(s.Voters, entry.ID) || slices.Contains(s.Spares, entry.ID), Online: a.alive(entry.ID)}
		h.Level = words[entry.ID].counts(now, own, h.Server)
		if entry.ID == a.self {
			h.Level = own
		}
		out = append(out, h)
	}
	return out
}

// askLevels asks some of those that are not known to support what this host does: servers first, then whoever was not asked
// for longest. Who said no is asked again, because an upgrade may take no longer than a glance away.
func (a *Agent) askLevels(ctx context.Context, hosts []node.Supporter) {
	ctx, cancel := context.WithTimeout(ctx, levelWait)
	defer cancel()
	own := a.supports()
	words := a.levels.known(a.alive)
	open := slices.DeleteFunc(hosts, func(h node.Supporter) bool { return h.Level >= own || !h.Online })
	slices.SortStableFunc(open, func(a, b node.Supporter) int {
		return cmp.Or(rankServer(b)-rankServer(a), cmp.Compare(words[a.ID].asked, words[b.ID].asked))
	})
	var asked sync.WaitGroup
	for _, h := range open[:min(len(open), levelAsks)] {
		a.levels.change(h.ID, func(w *levelWord) { w.asked = a.cfg.Clock().Boot })
		asked.Go(func() {
			if level, ok := a.askLevel(ctx, h.ID); ok {
				a.levels.change(h.ID, func(w *levelWord) { w.level, w.at = level, a.cfg.Clock().Boot })
			}
		})
	}
	asked.Wait()
}

func rankServer(h node.Supporter) int {
	if h.Server {
		return 1
	}
	return 0
}

// askLevel asks a host what it supports. One that does not know the question is of the first level.
func (a *Agent) askLevel(ctx context.Context, id fleet.ID) (fleet.Level, bool) {
	var body levelBody
	err := a.ask(ctx, id, askLevel, struct{}{}, &body)
	switch {
	case err == nil:
		return body.Supports, body.Supports != 0
	case fleet.KindOf(err) == fleet.Invalid:
		return fleet.LevelFirst, true
	}
	return 0, false
}

// answerLevel says what this host supports, and, where it leads, who holds the level back.
func (a *Agent) answerLevel() ([]byte, error) {
	body := levelBody{Supports: a.supports(), Level: a.Level()}
	if a.quorum != nil && a.quorum.Status().Leading && body.Supports > body.Level {
		_, holding := node.NextLevel(body.Level, body.Supports, a.supporters())
		named := min(len(holding), levelNamed)
		body.Holding, body.More = holding[:named], uint32(len(holding)-named)
	}
	return wire.Marshal(body), nil
}

// levelStatus is what this host knows by itself.
func (a *Agent) levelStatus() node.LevelStatus {
	return node.LevelStatus{Level: a.Level(), Supports: a.supports()}
}

// LevelStatus asks the leader who holds the level back. Without a leader, or with one of an older version, nobody is named.
func (a *Agent) LevelStatus(ctx context.Context) node.LevelStatus {
	out := a.levelStatus()
	leader := a.newest(a.picture.Load()).Leader
	if leader.IsZero() {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, levelWait)
	defer cancel()
	var body levelBody
	if a.ask(ctx, leader, askLevel, struct{}{}, &body) != nil {
		return out
	}
	out.Level = max(out.Level, body.Level)
	out.OfSupporters(body.Holding, int(body.More), a.nameOf)
	return out
}

// mayReplicate reports whether a server can read what the replicated state is made of at the fleet's level.
func (a *Agent) mayReplicate(ctx context.Context, id fleet.ID) bool {
	level := a.replica.State().Level
	if level == fleet.LevelFirst {
		return true
	}
	supports, said := a.askLevel(ctx, id)
	return said && supports >= level
}

// skew says whether more than two versions run in the fleet, by what nodes told this server; where it is none, nothing.
func (a *Agent) skew() string {
	if a.reports == nil {
		return ""
	}
	now := a.cfg.Clock().Boot
	a.mu.Lock()
	cached := a.versions
	a.mu.Unlock()
	if cached.counted && now-cached.at < versionsFresh {
		return cached.text
	}
	all, err := a.reports.Facts()
	if err != nil {
		return ""
	}
	count := map[string]int{}
	for id, signed := range all {
		if !a.alive(id) {
			continue
		}
		if facts, err := a.openFacts(signed); err == nil {
			count[facts.Version]++
		}
	}
	next := versions{counted: true, at: now, text: node.VersionSkew(count)}
	a.mu.Lock()
	a.versions = next
	a.mu.Unlock()
	return next.text
}

// versions is what skew said last.
type versions struct {
	counted bool
	at      time.Duration // by boot time
	text    string
}

// levelWarnings says where this host or its program is behind the fleet.
func (a *Agent) levelWarnings() (out []string) {
	if skew := a.skew(); skew != "" {
		out = append(out, skew)
	}
	if level := a.heardLevel(); level > fleet.LevelNewest {
		out = append(out, fmt.Sprintf("the fleet is at level %d, and this host's muster supports %d: upgrade it", level, fleet.LevelNewest))
	}
	if why := a.outgrown.Load(); why != nil && *why != "" {
		out = append(out, "this host does not follow the fleet's record any more, and keeps what it has: "+*why+" (upgrade muster on this host)")
	}
	if a.replica != nil {
		if err := a.replica.Halted(); err != nil {
			out = append(out, "this server's replica has stopped, and goes on after an upgrade: "+err.Error())
		}
	}
	return out
}
