package main

import (
	"fmt"
	"os"

	"github.com/muster-fleet/muster/node"
)

var debugID = os.Getenv("SIMDEBUG")

func (w *world) debug(h *host, ev any, effects []node.Effect) {
	if debugID == "" {
		return
	}
	s := fmt.Sprintf("%T%+v", ev, ev)
	show := false
	out := ""
	switch ev := ev.(type) {
	case node.GrantAsked:
		show = fmt.Sprint(ev.Command)[:8] == debugID
	case node.GrantsProposed:
		show = fmt.Sprint(ev.Command)[:8] == debugID
	case node.EndingsProposed:
		show = fmt.Sprint(ev.Command)[:8] == debugID
	case node.Office:
		show = true
	case node.CommandChanged:
		show = fmt.Sprint(ev.Command.ID())[:8] == debugID
		r := ev.Command.Rollout
		r.Nodes = nil
		s = fmt.Sprintf("changed %+v", r)
	}
	for _, e := range effects {
		switch e := e.(type) {
		case node.AskGrant:
			if fmt.Sprint(e.Command)[:8] == debugID {
				show = true
			}
		case node.AnswerGrant:
			if fmt.Sprint(e.Command)[:8] == debugID {
				show = true
			}
		case node.ProposeGrants:
			if fmt.Sprint(e.Command)[:8] == debugID {
				show = true
			}
		case node.Ring:
			if fmt.Sprint(e.Bell.Statement)[:8] == debugID {
				show = true
			}
		case node.Decided:
			if fmt.Sprint(e.Command)[:8] == debugID {
				show = true
			}
		case node.ProposeEndings:
			if fmt.Sprint(e.Command)[:8] == debugID {
				show = true
			}
		default:
			continue
		}
		if show {
			out += fmt.Sprintf("\n      → %T%+v", e, e)
		}
	}
	if show {
		fmt.Println(w.now, h.key.Name, s, out)
	}
}
