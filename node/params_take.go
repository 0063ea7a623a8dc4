package node

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// Floors is what a node has seen of parameters, by name. A server that shows less than that is not believed.
type Floors func(name string) (params.Floor, bool)

// Taken is an answer that holds: what was signed of each item, and what to remember of each name.
type Taken struct {
	Puts   []params.Put // of Answer.Items
	Floors map[string]params.Floor
}

// TakeParams judges a server's answer on the node that asked: every item was signed by an operator, is what was asked for, in
// order and once, and no older than what this node has seen. What a server leaves out it can only deny. verify is
// params.Verify by the node's charter, or what remembers what that said; now is in Unix milliseconds.
func TakeParams(now int64, verify func(params.Item) (params.Put, error), ask params.Ask, a params.Answer, seen Floors) (Taken, error) {
	out := Taken{Puts: make([]params.Put, 0, len(a.Items)), Floors: map[string]params.Floor{}}
	for _, item := range a.Items {
		put, err := verify(item)
		if err != nil {
			return Taken{}, err
		}
		if put.Born > now+auth.MaxSkew.Milliseconds() { // it would stay the newest that was seen until then, whatever is put
			return Taken{}, fleet.Errorf(fleet.Denied, "a server shows a parameter %s that was made in the future", put.Name).
				Hinted("if this host's clock is behind, mend that: muster status")
		}
		floor, ok := out.Floors[put.Name]
		if !ok {
			floor, _ = seen(put.Name)
		}
		if floor, err = floor.Take(item, put); err != nil {
			return Taken{}, err
		}
		if len(item.Content) == 0 && ask.Values && put.Type != params.SecureString && len(ask.List) == 0 {
			return Taken{}, fleet.Errorf(fleet.Unavailable, "the server holds the value of %s back", put.Name)
		}
		out.Floors[put.Name] = floor
		out.Puts = append(out.Puts, put)
	}
	var err error
	switch {
	case len(ask.Get) > 0:
		err = takeGet(ask.Get, a, out.Puts)
	case len(ask.Path) == 1:
		err = takePath(ask.Path[0], a, out.Puts)
	case len(ask.List) == 1:
		err = takeOrdered(ask.List[0].After, out.Puts)
	case len(ask.History) == 1:
		err = takeHistory(ask.History[0], a, out.Puts)
	default:
		err = errOther("something")
	}
	return out, err
}

// errOther is for a server that answers what was not asked.
func errOther(what string) error {
	return fleet.Errorf(fleet.Denied, "the server answers with %s, which was not asked for", what)
}

// takeGet: the selectors in order, each found or missing.
func takeGet(asked []params.Selector, a params.Answer, puts []params.Put) error {
	items, missing := 0, 0
	for _, s := range asked {
		if missing < len(a.Missing) && a.Missing[missing].Selector == s {
			missing++
			continue
		}
		if items == len(puts) {
			if a.More && items > 0 {
				break
			}
			return fleet.Errorf(fleet.Unavailable, "the server does not answer for %s", s)
		}
		if err := a.Items[items].AnswersWith(puts[items], s); err != nil {
			return err
		}
		items++
	}
	switch {
	case items < len(puts):
		return errOther(puts[items].Name)
	case missing < len(a.Missing):
		return errOther(a.Missing[missing].Selector.String())
	}
	return nil
}

// takePath: names below the path, in order, each by the label that was asked for, or its newest.
func takePath(ask params.PathAsk, a params.Answer, puts []params.Put) error {
	for i, put := range puts {
		s := params.Selector{Name: put.Name, Label: strings.TrimPrefix(a.Items[i].Selector, ":")}
		if !params.Below(ask.Path, put.Name, ask.Recursive) || !chosenBy(ask.Filters, s.Label) {
			return errOther(put.Name + a.Items[i].Selector)
		}
		if err := a.Items[i].AnswersWith(put, s); err != nil {
			return err
		}
	}
	return takeOrdered(ask.After, puts)
}

// chosenBy reports whether filters choose a version by that label; "": by none.
func chosenBy(filters []params.Filter, label string) bool {
	for _, f := range filters {
		if f.Key == "Label" {
			return slices.Contains(f.Values, label)
		}
	}
	return label == ""
}

func takeOrdered(after string, puts []params.Put) error {
	for _, put := range puts {
		if put.Name <= after {
			return errOther(put.Name + " out of order")
		}
		after = put.Name
	}
	return nil
}

// takeHistory: versions of the one parameter's one life, in order.
func takeHistory(ask params.HistoryAsk, a params.Answer, puts []params.Put) error {
	after := ask.After
	for i, put := range puts {
		if err := a.Items[i].AnswersWith(put, params.Selector{Name: ask.Name, Version: put.Version}); err != nil {
			return err
		}
		if put.Version <= after || put.Born != puts[0].Born {
			return errOther(put.Name + " out of order")
		}
		after = put.Version
	}
	return nil
}

// HideParams takes out of an answer what policy denies to the asker on this node: a host's own accounts are its own affair,
// whatever a server lets its node see. puts are those of the items, and stay theirs.
func HideParams(policy *auth.Policy, asker ParamAsker, a params.Answer, puts []params.Put) (params.Answer, []params.Put) {
	out, left := a, []params.Put{}
	out.Items, out.Missing = nil, a.Missing
	for i, item := range a.Items {
		put := puts[i]
		if err := asker.may(policy, auth.ActReadParam, put.Name, put.Tags); err != nil {
			s := params.Selector{Name: put.Name}
			if item.Selector != "" {
				s, _ = params.ParseSelector(put.Name + item.Selector) // verified before
			}
			out.Missing = append(out.Missing[:len(out.Missing):len(out.Missing)], params.Missing{Selector: s, Why: err.Error()})
			continue
		}
		if put.Type == params.SecureString && asker.may(policy, auth.ActDecryptParam, put.Name, put.Tags) != nil {
			item.Content = nil
		}
		out.Items, left = append(out.Items, item), append(left, put)
	}
	return out, left
}
