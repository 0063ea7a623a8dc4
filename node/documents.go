package node

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of the publications that a node has at hand. The shell keeps more of them; one that is not here any more is
// asked for again.
const (
	maxLibrary      = 32
	maxLibraryBytes = 4 << 20
	maxTextsWait    = 15 * time.Second // between questions for a publication that nobody has
)

// library holds publications by somebody who might publish them when they came, by the key of their text. Whether he still
// may, and whether the run may use them, is judged with each order.
type library struct {
	byDigest map[fleet.ID]auth.Envelope
	age      []fleet.ID // least recently needed first
	bytes    int
	asking   map[fleet.UUID]bool // commands for which somebody is asked
}

func newLibrary() library {
	return library{byDigest: map[fleet.ID]auth.Envelope{}, asking: map[fleet.UUID]bool{}}
}

func (l *library) get(digest fleet.ID) (auth.Envelope, bool) {
	e, ok := l.byDigest[digest]
	if ok {
		i := slices.Index(l.age, digest)
		l.age = append(slices.Delete(l.age, i, i+1), digest)
	}
	return e, ok
}

func (l *library) put(digest fleet.ID, e auth.Envelope) {
	l.drop(digest)
	l.byDigest[digest] = e
	l.age = append(l.age, digest)
	l.bytes += len(e.Body)
	for len(l.age) > 1 && (len(l.age) > maxLibrary || l.bytes > maxLibraryBytes) {
		l.bytes -= len(l.byDigest[l.age[0]].Body)
		delete(l.byDigest, l.age[0])
		l.age = l.age[1:]
	}
}

func (l *library) drop(digest fleet.ID) {
	if e, ok := l.byDigest[digest]; ok {
		l.bytes -= len(e.Body)
		delete(l.byDigest, digest)
		i := slices.Index(l.age, digest)
		l.age = slices.Delete(l.age, i, i+1)
	}
}

// texts is what an order waits for of its documents.
type texts struct {
	wanted  []fleet.ID // digests that are asked for
	tries   int
	from    fleet.ID // who was asked last
	retryAt time.Duration
}

// read judges an order by its documents too. It is false while something is missing; then out asks for it.
func (n *Node) read(at auth.Instant, x *order, v exec.Verdict, self fleet.Member) (judged exec.Verdict, texts [][]byte, out []Effect, ok bool) {
	if len(v.Command.Documents) == 0 {
		return v, nil, nil, true
	}
	var have []auth.Envelope
	var missing []fleet.ID
	for _, digest := range v.Documents {
		e, here := n.library.get(digest)
		if here && !counts(exec.MayPublish(n.record, e)) { // any more: somebody else may have published the same since
			n.library.drop(digest)
			here = false
		}
		if here {
			have = append(have, e)
		} else {
			missing = append(missing, digest)
		}
	}
	if len(missing) > 0 {
		return v, nil, n.fetchDocuments(at, x, v.Command, missing), false
	}
	x.texts.tries, x.texts.retryAt = 0, 0
	judged, texts, err := exec.JudgeDocuments(v, have, n.record, self, n.Now(at))
	if err != nil { // behind
		return v, nil, append(n.note(at, x, exec.DecidedDocuments, err.Error()), n.catchUpFor(at, x)...), false
	}
	if judged = judged.WithheldDocuments(n.own); judged.Status == exec.Pending {
		out = n.note(at, x, exec.DecidedDocuments, "read "+documentNames(v.Command))
	}
	return judged, texts, out, true
}

func documentNames(cmd exec.Command) string {
	names := make([]string, 0, len(cmd.Documents))
	for _, d := range cmd.Documents {
		names = append(names, d.Name+":"+strconv.FormatUint(uint64(d.Version), 10))
	}
	return strings.Join(names, ", ")
}

// fetchDocuments asks whoever may have the publications: holders of the order first, then servers, one at a time, and
// seldom after the first rounds.
func (n *Node) fetchDocuments(at auth.Instant, x *order, cmd exec.Command, missing []fleet.ID) []Effect {
	l := &n.library
	x.retryAt = max(x.texts.retryAt, at.Boot+retryAfter)
	if l.asking[x.id] || at.Boot < x.texts.retryAt || len(l.asking) >= maxAsking {
		return nil
	}
	from := n.self // who has it itself; the shell looks there first in any case
	if x.texts.tries < len(x.holders) {
		from = x.holders[x.texts.tries]
	} else if server, ok := n.aServer(x.texts.from); ok {
		from = server
	}
	l.asking[x.id] = true
	x.texts.tries++
	x.texts.wanted, x.texts.from = missing, from
	out := n.note(at, x, exec.DecidedDocuments, "fetches "+documentNames(cmd)+" from "+n.name(from))
	return append(out, FetchDocuments{From: from, Command: x.id, Digests: missing})
}

// refused is a publication that came and does not count.
type refused struct {
	digest fleet.ID
	why    error
}

func (n *Node) documentsFetched(at auth.Instant, ev DocumentsFetched) []Effect {
	delete(n.library.asking, ev.Command)
	x := n.orders.byID[ev.Command]
	if x == nil {
		return nil
	}
	x.texts.retryAt = at.Boot + retryAfter
	if x.texts.tries > maxTries {
		x.texts.retryAt = at.Boot + min(maxTextsWait, retryAfter<<min(x.texts.tries-maxTries, 4))
	}
	var out []Effect
	var invalid []refused
	for _, e := range ev.Statements {
		digest, worth := n.weighDocument(e)
		if worth == unsure {
			out = append(out, n.hintedActs(at, ev.From)...)
			continue
		}
		if worth != genuine || !slices.Contains(x.texts.wanted, digest) {
			out = append(out, n.note(at, x, exec.DecidedDocuments, "what came from "+n.name(ev.From)+" is not what an operator published")...)
			continue
		}
		if err := exec.MayPublish(n.record, e); err != nil {
			invalid = append(invalid, refused{digest, err})
			if counts(err) {
				out = append(out, n.hintedActs(at, ev.From)...)
			}
			out = append(out, n.note(at, x, exec.DecidedDocuments, "what came from "+n.name(ev.From)+" does not count: "+err.Error())...)
			continue
		}
		n.library.put(digest, e)
		if ev.From != n.self {
			out = append(out, KeepDocument{Digest: digest, Statement: e})
		}
	}
	for _, r := range invalid {
		if _, better := n.library.byDigest[r.digest]; !better && n.lastWord(x, ev.From, r.why) {
			return append(out, n.refuse(at, x, exec.Verdict{Status: exec.Refused, Reason: clip(r.why.Error(), exec.MaxReason)})...)
		}
	}
	if len(ev.Statements) > 0 && x.have { // with what is still missing the next one is asked when it is time
		out = append(out, n.judge(at, x)...)
	}
	return out
}

// counts reports whether exec.MayPublish found nothing wrong, as far as this node's record goes.
func counts(err error) bool { return err == nil || fleet.KindOf(err) == fleet.Unavailable }

// lastWord reports whether an order is refused because somebody has only a publication that does not count. Holders may
// have one that somebody else has replaced, or keep back the other; a server has what stands, unless this node's record is
// behind. Where no server is to be had, enough questions are enough.
func (n *Node) lastWord(x *order, from fleet.ID, why error) bool {
	if !x.have || x.status != exec.Pending || x.refusing || counts(why) || n.behind() {
		return false
	}
	entry, err := n.record.Roster.Enrolled(from)
	return err == nil && entry.Server || x.texts.tries > max(maxTries, len(x.holders))
}

// weighDocument verifies a publication's signature by somebody who is or was an operator, and says which one it is.
func (n *Node) weighDocument(e auth.Envelope) (key fleet.ID, w worth) {
	body, w := open(n.record, e, auth.ForDocument, exec.MaxPublication, func(p exec.Publication) auth.Header { return p.Header })
	if w != genuine {
		return fleet.ID{}, w
	}
	if body.CheckFace() != nil {
		return fleet.ID{}, forged
	}
	return body.Ref(1).Key(), w
}
