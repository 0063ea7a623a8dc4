package agent

import (
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/node/release"
)

const (
	// releaseSlots is to how many hosts chunks are given at a time, with one chunk in memory for each, and releaseSlotsPerPeer to
	// one: a host that lost its connection opens another before the first is known to be gone.
	releaseSlots        = 16
	releaseSlotsPerPeer = 2
	// releaseSilence is after how long without a want a stream ends, and releaseIdle after how long it makes way for another.
	releaseSilence = 30 * time.Second
	releaseIdle    = 3 * time.Second
	// releaseNoneEvery is how often a stream hears that there is nothing: whoever asks all the time hears it late.
	releaseNoneEvery = 50 * time.Millisecond
	// releaseSending is how many chunks are sent at a time: of sixteen at once none would arrive before all do, and nobody could
	// give anything on. Whoever takes its chunk slowly stops the others for releaseTurn at most.
	releaseSending = 4
	releaseTurn    = 250 * time.Millisecond
	// maxGivers is of how many builds it is remembered what was given.
	maxGivers = 8
)

// slot is one host that chunks are given to.
type slot struct {
	peer  fleet.ID
	asked time.Duration // by boot time
	end   func()
}

// serveRelease gives a manifest to any member: it is signed, and for all.
func (a *Agent) serveRelease(s Stream, body []byte) error {
	var ask releaseAsk
	if err := wire.Unmarshal(body, &ask); err != nil {
		return err
	}
	if err := a.needReleases(); err != nil {
		return err
	}
	signed, err := a.releases.shell.Signed(ask.Digest)
	if err != nil {
		return err
	}
	return s.WriteFrame(releaseSigned, signed.Encode())
}

// serveChunks gives chunks of a build to a member, as release.Giver chooses.
func (a *Agent) serveChunks(s Stream, body []byte) error {
	ask, err := release.DecodeBuildAsk(body)
	if err == nil {
		err = a.needReleases()
	}
	if err != nil {
		return err
	}
	build, err := a.releases.shell.Build(ask.Digest, ask.Arch)
	if err != nil {
		return err
	}
	a.hearAsker(ask, s.Peer())
	chunks := len(build.Of().Chunks)
	mine := &slot{peer: s.Peer(), end: func() { s.Close() }}
	hello := release.Hello{Have: build.Have(), Names: a.releaseNames(ask, chunks, s.Peer()), Busy: !a.takeSlot(mine)}
	if !hello.Busy {
		defer a.leaveSlot(mine)
	}
	if err := s.WriteFrame(releaseHello, wire.Marshal(hello)); err != nil || hello.Busy {
		return err
	}
	silent := time.AfterFunc(releaseSilence, func() { s.Close() })
	defer silent.Stop()
	var last time.Time // when it heard that there is nothing
	for {
		kind, body, err := s.ReadFrame()
		if err != nil {
			return nil // it has what it wants, or is gone
		}
		silent.Reset(releaseSilence)
		if kind != releaseWant {
			return fleet.Errorf(fleet.Invalid, "frame of kind %d among wants", kind)
		}
		want, err := release.DecodeAsk(body, chunks)
		if err != nil {
			return err
		}
		gave, err := a.answerWant(s, ask, build, mine, want)
		if err != nil {
			return err
		}
		if !gave {
			if wait := releaseNoneEvery - time.Since(last); wait > 0 {
				select {
				case <-s.Context().Done():
				case <-time.After(wait):
				}
			}
			last = time.Now()
		}
	}
}

// answerWant answers one want, and reports whether by a chunk.
func (a *Agent) answerWant(s Stream, key buildKey, build KeptBuild, mine *slot, want release.Ask) (gave bool, err error) {
	have, now := build.Have(), a.cfg.Clock().Boot
	names := a.releaseNames(key, len(build.Of().Chunks), s.Peer())
	a.releases.mu.Lock()
	mine.asked = now
	giver := a.giverOf(key, len(build.Of().Chunks))
	index, ok, spent, err := giver.Give(now, s.Peer(), have, want)
	a.releases.mu.Unlock()
	if err != nil {
		return false, err
	}
	if !ok {
		return false, s.WriteFrame(releaseNone, wire.Marshal(release.None{Have: have, Spent: spent, Names: names}))
	}
	message, data := release.EncodeChunk(release.Chunk{Index: index, Have: have, Names: names}, build.Of().ChunkLen(index))
	if err := build.Read(index, data); err != nil {
		a.takeBack(giver, s.Peer(), index)
		return false, s.WriteFrame(releaseNone, wire.Marshal(release.None{Have: build.Have(), Names: names}))
	}
	leave := a.releaseTurn(s)
	err = s.WriteFrame(releaseChunk, message)
	leave()
	if err != nil {
		a.takeBack(giver, s.Peer(), index)
		return false, err
	}
	a.releases.sent.Add(int64(len(data)))
	return true, nil
}

// releaseTurn returns when it is this stream's turn to send a chunk, and what to call when it is sent.
func (a *Agent) releaseTurn(s Stream) (leave func()) {
	late := time.NewTimer(releaseTurn)
	defer late.Stop()
	select {
	case a.releases.sending <- struct{}{}:
		return func() { <-a.releases.sending }
	case <-late.C:
	case <-s.Context().Done():
	}
	return func() {}
}

func (a *Agent) takeBack(g *release.Giver, to fleet.ID, index int) {
	a.releases.mu.Lock()
	defer a.releases.mu.Unlock()
	g.Lost(to, index)
}

// giverOf returns what chooses for a build. mu is held.
func (a *Agent) giverOf(key buildKey, chunks int) *release.Giver {
	g := a.releases.givers[key]
	if g == nil {
		if len(a.releases.givers) >= maxGivers { // releases come and go slowly: whose past is forgotten is given anew
			clear(a.releases.givers)
		}
		a.releases.seed++
		g = release.NewGiver(chunks, a.releases.seed)
		a.releases.givers[key] = g
	}
	return g
}

func (a *Agent) releaseNames(key buildKey, chunks int, but fleet.ID) []fleet.ID {
	a.releases.mu.Lock()
	defer a.releases.mu.Unlock()
	return a.giverOf(key, chunks).Names(a.cfg.Clock().Boot, but)
}

// takeSlot finds a place for a host that asks for chunks, if need be that of one that asks for nothing.
func (a *Agent) takeSlot(mine *slot) bool {
	r := &a.releases
	now := a.cfg.Clock().Boot
	mine.asked = now
	r.mu.Lock()
	defer r.mu.Unlock()
	own, idlest := 0, -1
	for i, o := range r.slots {
		if o.peer == mine.peer {
			own++
		}
		if now-o.asked >= releaseIdle && (idlest < 0 || o.asked < r.slots[idlest].asked) {
			idlest = i
		}
	}
	switch {
	case own >= releaseSlotsPerPeer:
		return false
	case len(r.slots) < releaseSlots:
	case idlest >= 0:
		r.slots[idlest].end()
		r.slots = slices.Delete(r.slots, idlest, idlest+1)
	default:
		return false
	}
	r.slots = append(r.slots, mine)
	return true
}

func (a *Agent) leaveSlot(mine *slot) {
	a.releases.mu.Lock()
	defer a.releases.mu.Unlock()
	a.releases.slots = slices.DeleteFunc(a.releases.slots, func(o *slot) bool { return o == mine })
}

// hearAsker tells the fetch of the same build, if there is one, that somebody else fetches it, too.
func (a *Agent) hearAsker(key buildKey, peer fleet.ID) {
	a.releases.mu.Lock()
	f := a.releases.fetches[key.Digest]
	a.releases.mu.Unlock()
	if f == nil || key.Arch != a.releases.arch {
		return
	}
	select {
	case f.heard <- peer:
	default:
	}
}
