package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/release"
)

// lines are the streams of one fetch. One goroutine, which runs run, has them and the Swarm; each stream has one of its own that
// reads it and writes chunks to the disk.
type lines struct {
	agent  *Agent
	fetch  *fetch
	build  KeptBuild
	digest fleet.ID
	chunks int
	open   map[fleet.ID]*line
	news   chan lineNews
	swarm  *release.Swarm
	gave   map[fleet.ID]bool // who gave chunks
	bytes  int64             // of them
	work   sync.WaitGroup
}

// line is one stream.
type line struct {
	peer  fleet.ID
	wants chan release.Ask
	stop  context.CancelFunc
}

// lineNews is what one says. One part of it is set.
type lineNews struct {
	line  *line
	hello []release.Hello
	chunk []tookChunk
	none  []release.None
	err   error // it has ended
	disk  bool  // by what this host's disk says
}

type tookChunk struct {
	release.Chunk
	size int
	held bool // it is the manifest's, and on the disk
}

func newLines(a *Agent, f *fetch, build KeptBuild, digest fleet.ID) *lines {
	return &lines{
		agent: a, fetch: f, build: build, digest: digest, chunks: len(build.Of().Chunks),
		open: map[fleet.ID]*line{}, news: make(chan lineNews), gave: map[fleet.ID]bool{},
	}
}

// run returns when all chunks are here.
func (l *lines) run(ctx context.Context, sources []fleet.ID) error {
	a := l.agent
	ctx, stop := context.WithCancel(ctx)
	defer l.work.Wait()
	defer stop()
	now := a.cfg.Clock().Boot
	a.releases.mu.Lock()
	a.releases.seed++
	seed := a.releases.seed
	a.releases.mu.Unlock()
	l.swarm = release.NewSwarm(a.self, l.chunks, l.build.Have(), sources, now, seed)
	wake := time.NewTimer(0)
	defer wake.Stop()
	defer l.tell()
	for !l.swarm.Done() {
		now = a.cfg.Clock().Boot
		moves, next, err := l.swarm.Next(now)
		if err != nil {
			return err
		}
		for _, m := range moves {
			l.perform(ctx, m)
		}
		l.tell()
		wake.Reset(max(next-now, time.Millisecond))
		select {
		case <-ctx.Done():
			return fleet.Errorf(fleet.Unavailable, "the fetch of the release was ended").Hinted("repeat it: what is here stays")
		case <-wake.C:
		case id := <-l.fetch.heard:
			l.swarm.Meet(id)
		case n := <-l.news:
			if err := l.hear(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lines) tell() {
	l.fetch.tell(release.Progress{Chunks: l.chunks, Have: l.swarm.Have().Count(), Bytes: l.bytes, Peers: len(l.gave), Open: l.swarm.Open()})
}

func (l *lines) perform(ctx context.Context, m release.Move) {
	switch m := m.(type) {
	case release.Dial:
		ctx, stop := context.WithCancel(ctx)
		one := &line{peer: m.Peer, wants: make(chan release.Ask, 8), stop: stop}
		l.open[m.Peer] = one
		l.work.Go(func() { l.converse(ctx, one) })
	case release.Want:
		select {
		case l.open[m.Peer].wants <- m.Ask:
		default: // there is room for more than are under way
			l.drop(m.Peer)
			l.swarm.Lost(l.agent.cfg.Clock().Boot, m.Peer, "it takes no asks")
		}
	case release.HangUp:
		l.drop(m.Peer)
	}
}

func (l *lines) drop(id fleet.ID) {
	if one := l.open[id]; one != nil {
		one.stop()
		delete(l.open, id)
	}
}

// hear takes what a line says. An error ends the fetch.
func (l *lines) hear(n lineNews) error {
	id, now := n.line.peer, l.agent.cfg.Clock().Boot
	for _, took := range n.chunk { // also of a line that was dropped: it is on the disk
		if took.held {
			l.bytes += int64(took.size)
			l.agent.releases.got.Add(int64(took.size))
			l.gave[id] = true
		}
	}
	if l.open[id] != n.line {
		return l.late(n)
	}
	switch {
	case n.disk:
		return n.err
	case n.err != nil:
		l.drop(id)
		l.swarm.Lost(now, id, fmt.Sprintf("%s: %v", l.agent.nameOf(id), n.err))
		l.agent.log.Debug("a host gives no more of a release", "peer", id, "release", l.digest, "err", n.err)
		return nil
	}
	for _, hello := range n.hello {
		hello.Names = l.known(hello.Names)
		l.swarm.Opened(now, id, hello)
		if hello.Busy {
			l.drop(id)
		}
	}
	for _, none := range n.none {
		none.Names = l.known(none.Names)
		l.swarm.None(now, id, none)
	}
	for _, took := range n.chunk {
		took.Names = l.known(took.Names)
		l.swarm.Took(now, id, took.Chunk, took.held)
	}
	if l.swarm.Banned(id) {
		l.agent.log.Warn("a host gave something else than what it was asked for of a release; it is asked for no more of it", "peer", id, "release", l.digest)
		l.drop(id)
	}
	return nil
}

// late takes what came by a line that was dropped meanwhile.
func (l *lines) late(n lineNews) error {
	if n.disk {
		return n.err
	}
	for _, took := range n.chunk {
		if took.held {
			l.swarm.Found(l.agent.cfg.Clock().Boot, took.Index)
		}
	}
	return nil
}

// known returns those who are in the fleet: what others name may be made up.
func (l *lines) known(ids []fleet.ID) (out []fleet.ID) {
	for _, id := range ids {
		if l.agent.stands(id) {
			out = append(out, id)
		}
	}
	return out
}

// converse asks one host until its line is dropped or ends.
func (l *lines) converse(ctx context.Context, one *line) {
	tell := func(n lineNews) bool {
		n.line = one
		select {
		case l.news <- n:
			return true
		case <-ctx.Done():
			return false
		}
	}
	s, hello, err := l.dial(ctx, one.peer)
	if err != nil {
		tell(lineNews{err: err})
		return
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if !tell(lineNews{hello: []release.Hello{hello}}) || hello.Busy {
		return
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	l.work.Go(func() {
		defer s.Close()
		for {
			select {
			case <-reading.Done():
				return
			case ask := <-one.wants:
				if s.WriteFrame(releaseWant, wire.Marshal(ask)) != nil {
					return // the reader hears why
				}
			}
		}
	})
	for {
		n := l.read(s)
		if !tell(n) || n.err != nil {
			return
		}
	}
}

func (l *lines) dial(ctx context.Context, id fleet.ID) (Stream, release.Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := l.agent.peers.OpenBulk(ctx, id)
	if err != nil {
		return nil, release.Hello{}, err
	}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	hello, err := l.greet(s)
	if err != nil {
		s.Close()
		return nil, hello, err
	}
	return s, hello, nil
}

func (l *lines) greet(s Stream) (release.Hello, error) {
	ask := release.BuildAsk{Digest: l.digest, Arch: l.build.Of().Arch}
	if err := s.WriteFrame(askChunks, wire.Marshal(ask)); err != nil {
		return release.Hello{}, saidInstead(s, err)
	}
	kind, body, err := s.ReadFrame()
	if err != nil {
		return release.Hello{}, err
	}
	if kind != releaseHello {
		return release.Hello{}, fleet.Errorf(fleet.Invalid, "frame of kind %d in place of a hello", kind)
	}
	return release.DecodeHello(body, l.chunks)
}

// read reads one answer, and puts a chunk on the disk.
func (l *lines) read(s Stream) lineNews {
	kind, body, err := s.ReadFrame()
	if err != nil {
		return lineNews{err: err}
	}
	switch kind {
	case releaseNone:
		none, err := release.DecodeNone(body, l.chunks)
		if err != nil {
			return lineNews{err: err}
		}
		return lineNews{none: []release.None{none}}
	case releaseChunk:
		chunk, err := release.DecodeChunk(body, l.chunks)
		if err != nil {
			return lineNews{err: err}
		}
		took := tookChunk{Chunk: chunk, size: len(chunk.Data), held: l.build.Of().Holds(chunk.Index, chunk.Data)}
		took.Data = nil
		if took.held {
			if err := l.build.Write(chunk.Index, chunk.Data); err != nil {
				return lineNews{err: err, disk: true}
			}
		}
		return lineNews{chunk: []tookChunk{took}}
	}
	return lineNews{err: fleet.Errorf(fleet.Invalid, "frame of kind %d in place of a chunk", kind)}
}
