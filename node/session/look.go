package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

const (
	// recentMost is how much of what was shown last is kept for those who begin to look on, in bytes: a screen that is drawn in
	// all its colours, several times over.
	recentMost = 64 << 10
	// behindMost is how far one who looks on may be behind, in bytes; then he is taken to the newest.
	behindMost = 256 << 10
	// maxLookers is how many people may look on at one session.
	maxLookers = 8
)

// gallery is who looks on at a session, and what they would see. Nobody in it can slow down the session: what is shown is put
// before them, and who does not take it in time is shown the newest instead. All methods are safe for concurrent use.
type gallery struct {
	mu     sync.Mutex
	now    func() time.Duration // since the session's start
	header cast.Header
	recent recent
	over   []byte
	all    []*looker
}

// looker is one who looks on.
type looker struct {
	who     string
	out     chan struct{} // closed when he looks on from elsewhere, and nothing more is to come here
	begun   bool          // the first line was said
	waiting []byte        // lines
	held    int64         // bytes of output in them
	behind  bool          // he is taken to the newest
	passed  int64         // bytes of output that he is not shown for it
	news    chan struct{}
}

// recent is what was shown last, at most recentMost bytes of it.
type recent struct {
	data  []byte // up to twice as much: it is moved seldom
	parts []part // what of data is which stream, in order
	cut   bool   // there was more before
}

// part ends where the next one begins, or the data.
type part struct {
	from    int
	onError bool
}

// add keeps p as the newest.
func (r *recent) add(onError bool, p []byte) {
	if over := len(p) - recentMost; over > 0 {
		p, r.cut = p[over:], true
	}
	if len(r.data)+len(p) > 2*recentMost {
		r.drop(len(r.data) + len(p) - recentMost)
	}
	if n := len(r.parts); n == 0 || r.parts[n-1].onError != onError {
		r.parts = append(r.parts, part{len(r.data), onError})
	}
	r.data = append(r.data, p...)
	if len(r.parts) > recentMost/64 { // streams that take turns byte by byte
		r.drop(r.parts[len(r.parts)/2].from)
	}
}

// drop forgets the first n bytes.
func (r *recent) drop(n int) {
	r.data = r.data[:copy(r.data, r.data[n:])]
	var parts []part
	for _, p := range r.parts {
		if p.from = max(p.from-n, 0); len(parts) > 0 && parts[len(parts)-1].from == p.from {
			parts = parts[:len(parts)-1]
		}
		parts = append(parts, p)
	}
	r.parts, r.cut = parts, true
}

// each hands on what was shown last, from the beginning of a line or of a sequence on, if there is one near.
func (r *recent) each(on func(onError bool, p []byte)) {
	from := max(len(r.data)-recentMost, 0)
	if r.cut || from > 0 {
		near := r.data[from:min(len(r.data), from+1<<10)]
		from += max(bytes.IndexAny(near, "\n\x1b"), 0)
	}
	for i, p := range r.parts {
		to := len(r.data)
		if i+1 < len(r.parts) {
			to = r.parts[i+1].from
		}
		if p.from = max(p.from, from); p.from < to {
			on(p.onError, r.data[p.from:to])
		}
	}
}

func newGallery(h cast.Header, now func() time.Duration) *gallery {
	return &gallery{header: h, now: now}
}

// output shows what the program wrote.
func (g *gallery) output(onError bool, p []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.recent.add(onError, p)
	if len(g.all) > 0 {
		g.tell(len(p), cast.AppendOutput(nil, g.now(), onError, p))
	}
}

// resize shows a new size of the terminal.
func (g *gallery) resize(rows, cols uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.header.Rows, g.header.Cols = rows, cols
	g.tell(0, cast.AppendResize(nil, g.now(), rows, cols))
}

// notice shows what the operator is told.
func (g *gallery) notice(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tell(0, cast.AppendMark(nil, g.now(), cast.MarkNotice, text))
}

// end shows how the session ended, and sends everybody home.
func (g *gallery) end(e cast.End) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = cast.AppendEnd(nil, g.now(), e)
	for _, l := range g.all {
		l.wake()
	}
}

// ended reports whether the session has.
func (g *gallery) ended() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.over != nil
}

// tell puts lines before all, n bytes of output in them.
func (g *gallery) tell(n int, lines []byte) {
	for _, l := range g.all {
		if l.behind = l.behind || len(l.waiting)+len(lines) > behindMost; l.behind {
			l.passed += l.held + int64(n)
			l.waiting, l.held = nil, 0
		} else {
			l.waiting = append(l.waiting, lines...)
			l.held += int64(n)
		}
		l.wake()
	}
}

func (l *looker) wake() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// enter lets somebody look on, from what was shown last. Everybody has one place, so that nobody takes all of them, and the newest
// counts. Expired: there is nothing to come; Exhausted: there are too many.
func (g *gallery) enter(who string) (*looker, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over != nil {
		return nil, fleet.Errorf(fleet.Expired, "session %s has ended", g.header.Session)
	}
	before := slices.IndexFunc(g.all, func(l *looker) bool { return l.who == who })
	switch {
	case before >= 0:
		g.putOut(before)
	case len(g.all) >= maxLookers:
		return nil, fleet.Errorf(fleet.Exhausted, "%d people look on at session %s, the limit", maxLookers, g.header.Session)
	}
	l := &looker{who: who, out: make(chan struct{}), news: make(chan struct{}, 1)}
	l.waiting, l.held = g.newest(nil)
	g.all = append(g.all, l)
	l.wake()
	return l, nil
}

// putOut ends the looking on of one of them, who is told why.
func (g *gallery) putOut(i int) {
	l := g.all[i]
	g.all = slices.Delete(g.all, i, i+1)
	l.waiting = cast.AppendMark(l.waiting, g.now(), cast.MarkNotice, "you look on at this session from elsewhere now, and no more from here")
	close(l.out)
	l.wake()
}

// leave ends it for one of them, and reports whether he does not look on any more: not from elsewhere either.
func (g *gallery) leave(l *looker) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.all, l)
	if i >= 0 {
		g.all = slices.Delete(g.all, i, i+1)
	}
	return i >= 0
}

// anew is what a terminal is told before it is shown the newest alone: plain text, and nothing on the screen.
const anew = "\x1b[0m\x1b[2J\x1b[H"

// newest appends what was shown last, and returns how many bytes of output that is.
func (g *gallery) newest(dst []byte) ([]byte, int64) {
	at, n := g.now(), 0
	if g.header.Terminal != "" {
		dst = cast.AppendResize(dst, at, g.header.Rows, g.header.Cols)
		dst = cast.AppendOutput(dst, at, false, []byte(anew))
	}
	g.recent.each(func(onError bool, p []byte) {
		dst = cast.AppendOutput(dst, at, onError, p)
		n += len(p)
	})
	return dst, int64(n)
}

// next returns what is to be shown to somebody, and whether anything can come behind it.
func (g *gallery) next(l *looker) (lines []byte, more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !l.begun {
		lines, l.begun = cast.AppendHeader(nil, g.header), true
	}
	lines = append(lines, l.waiting...)
	l.waiting, l.held = nil, 0
	if l.behind {
		newest, n := g.newest(nil)
		text := fmt.Sprintf("%d bytes were passed over: the way to you is slower than what is shown", max(l.passed-n, 0))
		lines = append(cast.AppendMark(lines, g.now(), cast.MarkNotice, text), newest...)
		l.behind, l.passed = false, 0
	}
	select {
	case <-l.out:
		return lines, false
	default:
	}
	if g.over != nil {
		return append(lines, g.over...), false
	}
	return lines, true
}

// show tells one of them what there is to see, until the session ends, w fails, or left is closed.
func (g *gallery) show(l *looker, w io.Writer, left <-chan struct{}) {
	for {
		select {
		case <-l.news:
		case <-left:
			return
		}
		lines, more := g.next(l)
		if len(lines) > 0 {
			if _, err := w.Write(lines); err != nil {
				return
			}
		}
		if !more {
			return
		}
	}
}

// look shows the session to somebody, and tells the one whose session it is.
func (s *supervision) look(conn net.Conn, who string) {
	<-s.began
	l, err := s.seen.enter(who)
	if s.failed != nil {
		err = s.failed
	}
	if err != nil {
		_ = s.say(conn, reply{Failed: []failure{failureOf(err)}})
		return
	}
	s.remark(who + " looks on at this session") // before he sees any of it
	defer func() {
		if s.seen.leave(l) && !s.seen.ended() { // nothing is told behind the end
			s.remark(who + " looks on no more")
		}
	}()
	if s.say(conn, s.signs()) != nil {
		return
	}
	conn.SetWriteDeadline(time.Time{})
	left := make(chan struct{})
	go func() {
		defer close(left)
		conn.Read(make([]byte, 1))
		conn.SetDeadline(time.Unix(1, 0)) // he is gone
	}()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-s.over: // whoever does not read is not waited for
			conn.SetWriteDeadline(time.Now().Add(patience))
		case <-l.out:
			conn.SetWriteDeadline(time.Now().Add(patience))
		case <-over:
		}
	}()
	s.seen.show(l, conn, left)
}

// remark tells the human something, and records it.
func (s *supervision) remark(text string) {
	s.notice(text)
	s.tape.mark(text)
}

// Look shows a session that runs to somebody else than its operator: what was shown last, and then what is shown as it comes, in
// lines that cast reads; who is told to whoever is attached, and has one place there, the newest. Whoever reads too slowly is taken
// to what is newest. NotFound: there is no such session; Expired: it has ended; Exhausted: too many look on already.
func (s *Sessions) Look(ctx context.Context, id fleet.UUID, who string) (io.ReadCloser, error) {
	about, err := s.folder(id).about()
	if err != nil {
		return nil, node.NoSession(id)
	}
	conn, _, err := s.ask(ctx, id, ask{Kind: askLook, Text: who})
	if err != nil {
		return nil, s.explain(id, about, err)
	}
	return conn, nil
}
