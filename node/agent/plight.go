package agent

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// A node that does not do all of its work tells its servers why, and whoever lists nodes asks a server. It is a courtesy to
// people: nothing is decided by it, servers keep it in memory, and those of an older version know nothing of it.
const (
	plightEvery = time.Minute            // how often it is told again, and that it is over
	plightLife  = 3 * plightEvery        // how long a server believes it
	plightSoon  = 2 * time.Second        // after a change, and after a server that did not answer
	maxPlight   = 200                    // bytes
	maxPlights  = 1000                   // of nodes, at one server and in one answer
	plightFresh = factsFresh             // how long those of others are taken from memory
	plightWait  = 500 * time.Millisecond // for a server's answer: a list does not wait for a courtesy
)

// plightBody is what a node says of itself; no text: it does all of its work.
type plightBody struct{ Text string }

// plightOf is one node's, as a server heard it.
type plightOf struct {
	Node fleet.ID
	Text string
}

type plightList struct{ Plights []plightOf }

type heardPlight struct {
	text string
	at   time.Duration // boot time
}

// plights is what this host says of itself, and what others told it as a server.
type plights struct {
	mu      sync.Mutex
	own     map[string]string
	changed chan struct{}
	heard   map[fleet.ID]heardPlight
	known   map[fleet.ID]string // of all, as a server said last
	asked   time.Duration       // boot time
}

func newPlights() *plights {
	return &plights{own: map[string]string{}, changed: make(chan struct{}, 1), heard: map[fleet.ID]heardPlight{}}
}

// SetPlight has this node tell the others that there is something that it does not do: what names it, why is for people, one
// line; no why: it does it again.
func (a *Agent) SetPlight(what, why string) {
	p := a.plights
	p.mu.Lock()
	if why == "" {
		delete(p.own, what)
	} else {
		p.own[what] = why
	}
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Plight returns what this node does not do now, for people; empty: it does all of its work.
func (a *Agent) Plight() string {
	p := a.plights
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, what := range slices.Sorted(maps.Keys(p.own)) {
		out = append(out, p.own[what])
	}
	text := strings.Join(out, "; ")
	return strings.ToValidUTF8(text[:min(len(text), maxPlight)], "")
}

// tellPlight tells every server again and again. A node that never had anything to tell tells nothing.
func (a *Agent) tellPlight(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-a.plights.changed:
		}
		text, wait := a.Plight(), plightEvery
		if text == "" && !told {
			next.Reset(wait)
			continue
		}
		told = text != "" // that it is over is told once, and believed for a while at most
		for _, id := range a.servers() {
			if err := a.ask(ctx, id, askPlight, plightBody{text}, nil); err != nil && retriable(err) && told {
				wait = plightSoon
			}
		}
		next.Reset(wait)
	}
}

// takePlight keeps what a peer says of itself.
func (a *Agent) takePlight(peer fleet.ID, body []byte) error {
	var said plightBody
	if err := wire.Unmarshal(body, &said); err != nil {
		return err
	}
	text, ok := plightText(said.Text)
	if !ok {
		return fleet.Errorf(fleet.Invalid, "a plight is one line of at most %d bytes", maxPlight)
	}
	p := a.plights
	p.mu.Lock()
	defer p.mu.Unlock()
	now := a.cfg.Clock().Boot
	maps.DeleteFunc(p.heard, func(_ fleet.ID, h heardPlight) bool { return now-h.at > plightLife })
	delete(p.heard, peer)
	if text != "" && p.roomFor(text) {
		p.heard[peer] = heardPlight{text, now}
	}
	return nil
}

// plightText returns what a node may say of itself, or a server of others: one line for people, without escapes of a terminal, which
// somebody may pass on. A rune that was cut off at the end is left out.
func plightText(said string) (string, bool) {
	text := strings.ToValidUTF8(said, "")
	return text, len(said) <= maxPlight && !strings.ContainsFunc(text, unicode.IsControl)
}

// roomFor makes room for what a node says. Where there are more than can be kept, hosts whose key two have come first, for somebody
// must act there; the others have no order. mu is held.
func (p *plights) roomFor(text string) bool {
	if len(p.heard) < maxPlights {
		return true
	}
	if !isClone(text) {
		return false
	}
	for id, h := range p.heard {
		if !isClone(h.text) {
			delete(p.heard, id)
			return true
		}
	}
	return false
}

// isClone reports whether a node says that it is in quarantine.
func isClone(text string) bool { return strings.HasPrefix(text, node.ClonePlight) }

// answerPlights lists what this server heard.
func (a *Agent) answerPlights() ([]byte, error) {
	var out plightList
	for id, text := range a.heardPlights() {
		out.Plights = append(out.Plights, plightOf{id, text})
	}
	slices.SortFunc(out.Plights, func(x, y plightOf) int { return x.Node.Compare(y.Node) })
	return wire.Marshal(out), nil
}

func (a *Agent) heardPlights() map[fleet.ID]string {
	p := a.plights
	p.mu.Lock()
	defer p.mu.Unlock()
	now, out := a.cfg.Clock().Boot, map[fleet.ID]string{}
	for id, h := range p.heard {
		if now-h.at <= plightLife {
			out[id] = h.text
		}
	}
	return out
}

// allPlights returns what nodes say that they do not do, from a server or from memory. Nobody waits long for it.
func (a *Agent) allPlights(ctx context.Context) map[fleet.ID]string {
	p, now := a.plights, a.cfg.Clock().Boot
	p.mu.Lock()
	known, asked := p.known, p.asked
	p.mu.Unlock()
	if known == nil || now-asked >= plightFresh {
		known = a.askPlights(ctx)
		p.mu.Lock()
		p.known, p.asked = known, now
		p.mu.Unlock()
	}
	out := maps.Clone(known)
	if own := a.Plight(); own != "" {
		out[a.self] = own
	}
	return out
}

func (a *Agent) askPlights(ctx context.Context) map[fleet.ID]string {
	ctx, cancel := context.WithTimeout(ctx, plightWait)
	defer cancel()
	for _, id := range a.servers() {
		if id == a.self && a.quorum != nil {
			return a.heardPlights()
		}
		if !a.alive(id) {
			continue
		}
		var list plightList
		if a.ask(ctx, id, askPlights, struct{}{}, &list) != nil {
			continue
		}
		out := map[fleet.ID]string{}
		for _, of := range list.Plights[:min(len(list.Plights), maxPlights)] {
			if text, ok := plightText(of.Text); ok { // a server's word on others, which nobody signed
				out[of.Node] = text
			}
		}
		return out
	}
	return map[fleet.ID]string{}
}
