package main

import (
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// askOf is the question that node n will ask policy about w in that manner. Only roster tags count in it, as there.
func askOf(who auth.Operator, w work, m manner, n fleet.Member) auth.Ask {
	return auth.Ask{
		Principal: who.AsPrincipal(), Action: auth.ActRun, User: w.run.User, Shell: w.shell, Document: w.document(), Direct: m.mode == auth.Direct,
		OutputTo: m.outputTo,
		Resource: auth.Resource{Type: "Node", Name: n.Name, Tags: n.Tags},
	}
}
