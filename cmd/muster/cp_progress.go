package main

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// haul says on standard error how copies go: failures as they happen, and on a terminal one line that counts.
type haul struct {
	a     *app
	began time.Time
	live  bool // standard error is a terminal: there is a line to redraw
	nodes int  // 0: one, of which files are counted

	mu     sync.Mutex
	drawn  bool
	files  int
	moved  int64
	name   string // of the file that is copied now
	size   int64
	at     int64 // of it
	done   int   // nodes
	failed int
	hints  map[string]bool
	stop   chan struct{}
	idle   sync.WaitGroup
}

// redraw is how often the line that counts is drawn.
const redraw = 200 * time.Millisecond

func (a *app) newHaul(nodes int) *haul {
	h := &haul{a: a, began: time.Now(), live: isTerminal(a.stderr), nodes: nodes, hints: map[string]bool{}, stop: make(chan struct{})}
	if h.live {
		h.idle.Go(h.draw)
	}
	return h
}

// close takes the line away.
func (h *haul) close() {
	close(h.stop)
	h.idle.Wait()
}

func (h *haul) draw() {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			h.mu.Lock()
			h.clear()
			h.mu.Unlock()
			return
		case <-tick.C:
			h.mu.Lock()
			fmt.Fprint(h.a.stderr, "\r\x1b[K"+cut(oneLine(h.line(time.Since(h.began))), width(h.a.stderr)-1))
			h.drawn = true
			h.mu.Unlock()
		}
	}
}

func (h *haul) clear() {
	if h.drawn {
		fmt.Fprint(h.a.stderr, "\r\x1b[K")
		h.drawn = false
	}
}

// line says in one line how far the copy has come.
func (h *haul) line(took time.Duration) string {
	var parts []string
	if h.nodes > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d nodes", h.done, h.nodes))
	} else if h.files > 1 {
		parts = append(parts, count(h.files, "file"))
	}
	rate := int64(float64(h.moved) / max(took.Seconds(), 0.001))
	parts = append(parts, amount(h.moved), amount(rate)+"/s")
	if h.nodes == 0 && h.name != "" {
		parts = append(parts, h.fileText(rate))
	}
	return strings.Join(parts, "  ")
}

// fileText says how far one file has come, and when it will be there.
func (h *haul) fileText(rate int64) string {
	text := path.Base(h.name)
	if h.size <= 0 || h.at > h.size {
		return text
	}
	text += fmt.Sprintf("  %d%% of %s", h.at*100/h.size, amount(h.size))
	if left := h.size - h.at; left > 0 && rate > 0 && left/rate > 0 {
		text += ", about " + span(time.Duration(left/rate)*time.Second) + " left"
	}
	return text
}

func (h *haul) entry(name string, size int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files++
	h.name, h.size, h.at = name, size, 0
}

func (h *haul) move(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved += n
	h.at += n
}

// tell writes a line beside the one that counts.
func (h *haul) tell(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clear()
	h.a.say(format, args...)
}

// trouble says what failed, and where; what mends it is said once.
func (h *haul) trouble(where string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed++
	if h.failed > mostFailures+1 {
		return
	}
	h.clear()
	if h.failed == mostFailures+1 {
		h.a.say("… more fail; they are counted at the end")
		return
	}
	text := err.Error()
	if where != "" {
		text = where + ": " + text
	}
	fmt.Fprintf(h.a.stderr, "muster: %s\n", oneLine(text))
	if e, ok := err.(*fleet.Error); ok && e.Hint != "" && !h.hints[e.Hint] {
		h.hints[e.Hint] = true
		fmt.Fprintf(h.a.stderr, "  → %s\n", oneLine(e.Hint))
	}
}

func (h *haul) nodeDone() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done++
}

// amount writes a number of bytes with one unit, as people say it.
func amount(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.3g kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.3g MB", float64(n)/1e6)
	case n < 1_000_000_000_000:
		return fmt.Sprintf("%.3g GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.3g TB", float64(n)/1e12)
}
