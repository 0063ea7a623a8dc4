package agent

import (
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/config"
)

// Consent returns what this host's own root withholds now.
func (a *Agent) Consent() config.Consent {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.withheld != nil {
		return *a.withheld
	}
	return a.cfg.Consent
}

// SetConsent changes what this host's own root withholds: sessions at once, commands from the next one that is judged. What
// runs goes on.
func (a *Agent) SetConsent(c config.Consent) {
	a.mu.Lock()
	a.withheld = &c
	a.mu.Unlock()
	a.tellConsent(c)
	a.Post(node.ConsentSet{Consent: c})
}

// tellConsent has this node tell the others what it does not do.
func (a *Agent) tellConsent(c config.Consent) {
	a.SetPlight("paused", c.Paused)
	a.SetPlight("shell off", c.NoShell)
	a.SetPlight("upgrades off", c.NoUpgrades)
}
