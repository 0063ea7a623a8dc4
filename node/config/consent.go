package config

// Consent is what this host's own root lets operators do here. Each field says why not, naming where that was said, for the
// operator who is refused; empty: they may. The zero Consent is whole.
type Consent struct {
	Paused     string // nothing new starts: no run, no session
	NoShell    string // documents that are no raw shell alone; whoever may publish documents still chooses what runs
	NoUpgrades string // muster itself is not replaced: said so, or there is NoShell and nothing was said
}

// Consent returns what the configuration says of it.
func (c Config) Consent() Consent {
	var out Consent
	if v := c.Get(KeyPaused); v.Text == "true" {
		out.Paused = "this host's own root has paused it (" + v.said() + ")"
	}
	if v := c.Get(KeyShell); v.Text == "false" {
		out.NoShell = "this host's own root lets operators run documents here, but no shell (" + v.said() + "); who may publish documents chooses what those do"
	}
	switch v := c.Get(KeyUpgrades); {
	case v.Text == "false" && v.Origin.Source == Default:
		out.NoUpgrades = "this host's own root lets operators have no shell here, and so no upgrades of muster (" + v.Origin.String() + "; upgrades: true beside it permits them)"
	case v.Text == "false":
		out.NoUpgrades = "this host's own root keeps upgrades of muster to the host's packages (" + v.said() + ")"
	}
	return out
}

// said names what was said, and where.
func (v Value) said() string {
	if v.Origin.Source == ByCommand || v.Origin.Source == Flag {
		return v.Origin.String()
	}
	return v.Name + ": " + v.Text + " in " + v.Origin.String()
}

// Lines says what the host withholds, one line each, for status and logs.
func (c Consent) Lines() []string {
	var out []string
	for _, why := range []string{c.Paused, c.NoShell, c.NoUpgrades} {
		if why != "" {
			out = append(out, why)
		}
	}
	return out
}
