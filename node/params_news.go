package node

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// Bounds of one piece of news: events, and bytes of them. An event has less than 32 KiB.
const (
	MaxNews      = 256
	maxNewsBytes = 256 << 10
)

// PosNow is the position of all that a state with that act index has told.
func PosNow(act uint64) params.EventPos { return params.EventPos{Act: act, Part: math.MaxUint32} }

// CheckWatch reports why an asker may not watch a scope, or nil.
func (p ParamAsker) CheckWatch(scope string) error {
	if err := params.CheckScope(scope); err != nil {
		return err
	}
	if p.Scope == Everything || p.Scope == scope {
		return nil
	}
	within := scope
	if len(within) > 1 && within[len(within)-1] == '/' {
		within = within[:len(within)-1]
	}
	if p.Scope[len(p.Scope)-1] == '/' && params.Covers(p.Scope, within) {
		return nil
	}
	return fleet.Errorf(fleet.Denied, "it was signed to read %s, and asks to watch %s", p.Scope, scope)
}

// Renewed returns the asker as the record has it by now, or why it is none any more: its key was removed, or its node.
func (p ParamAsker) Renewed(record auth.Record, now time.Time) (ParamAsker, error) {
	out := p
	out.Who = nil
	if !p.Key.IsZero() {
		op, err := record.Charter.Current(p.Key, now)
		if err != nil {
			return out, err
		}
		out.Who = []auth.Principal{op.AsPrincipal()}
		return out, nil
	}
	node, err := NodeAsker(record, p.Node, p.Local)
	out.Who = node.Who
	return out, err
}

// TellNews makes news of events that follow at, for an asker who watches a scope: those that policy lets him see, by the tags
// that the parameter had then. Only as many events are taken as fit; the news' position says how many.
func TellNews(policy *auth.Policy, asker ParamAsker, scope string, at params.EventPos, events []params.Event) (news ParamsNews, taken int) {
	news.At = at
	may := map[string]bool{} // by name and tags' identity: a loop writes the same few parameters
	bytes := 0
	for _, e := range events {
		if taken == MaxNews {
			break
		}
		if params.Covers(scope, e.Name) && asker.sees(policy, e, may) {
			if bytes += eventSize(e); len(news.Events) > 0 && bytes > maxNewsBytes {
				break
			}
			news.Events = append(news.Events, e)
		}
		news.At = e.Pos()
		taken++
	}
	return news, taken
}

// sees asks policy about an event, once for each parameter with the same tags.
func (p ParamAsker) sees(policy *auth.Policy, e params.Event, known map[string]bool) bool {
	key := e.Name
	for _, k := range slices.Sorted(maps.Keys(e.Tags)) {
		key += "\x00" + k + "\x00" + e.Tags[k]
	}
	yes, ok := known[key]
	if !ok {
		yes = p.may(policy, auth.ActReadParam, e.Name, e.Tags) == nil
		known[key] = yes
	}
	return yes
}

// eventSize bounds what an event takes on the wire, in bytes.
func eventSize(e params.Event) int {
	size := 128 + len(e.Name) + len(e.By) + len(e.Kind)
	for _, l := range e.Labels {
		size += 8 + len(l)
	}
	for k, v := range e.Tags {
		size += 16 + len(k) + len(v)
	}
	return size
}

// TakeNews judges a server's news on the node that watches, after position at: events of the scope, in order, and, for an
// account of this host, only what this node's policy lets it see. Events are the server's word: what they tell of is verified
// when it is read.
func TakeNews(policy *auth.Policy, asker ParamAsker, scope string, at params.EventPos, news ParamsNews) (ParamsNews, error) {
	if !news.Lost && news.At.Before(at) {
		return ParamsNews{}, fleet.Errorf(fleet.Unavailable, "the server goes back in the order of events")
	}
	if news.Lost {
		at = params.EventPos{}
	}
	out := ParamsNews{At: news.At, Lost: news.Lost}
	may := map[string]bool{}
	for _, e := range news.Events {
		if !at.Before(e.Pos()) || news.At.Before(e.Pos()) || !params.Covers(scope, e.Name) {
			return ParamsNews{}, fleet.Errorf(fleet.Denied, "the server tells of %s, which was not asked for, or out of order", e.Name)
		}
		at = e.Pos()
		if len(asker.Who) == 0 || asker.sees(policy, e, may) {
			out.Events = append(out.Events, e)
		}
	}
	return out, nil
}

// Events is where news come from: consensus.State is one.
type Events interface {
	ParamEvents(after params.EventPos, n int) ([]params.Event, bool)
}

// NewsOf makes news of what a state has behind at. more says that there is more behind that.
func NewsOf(from Events, policy *auth.Policy, asker ParamAsker, scope string, at params.EventPos, now params.EventPos) (news ParamsNews, more bool) {
	events, ok := from.ParamEvents(at, MaxNews)
	if !ok { // go on from the newest: what there is must be read anyway
		return ParamsNews{At: now, Lost: true}, false
	}
	news, taken := TellNews(policy, asker, scope, at, events)
	return news, taken < len(events) || len(events) == MaxNews
}
