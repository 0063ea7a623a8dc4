package host

import (
	"cmp"
	"context"
	"sync"

	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/gossip"
)

// Source is where a host's configuration comes from.
type Source struct {
	File string // for people; empty: there is none
	// Read reads it all again. Nil: it never changes.
	Read func() (config.Config, []config.Problem)
	// Taken is called with what counts from now on, after it was read again; nil: nobody wants to know.
	Taken func(config.Config)
}

// configured is what counts on a host, and what came of reading it again.
type configured struct {
	mu       sync.Mutex
	now      config.Config
	problems []config.Problem
	later    []config.Value
}

// Config returns what counts on this host now.
func (h *Host) Config() config.Config {
	h.configured.mu.Lock()
	defer h.configured.mu.Unlock()
	return h.configured.now
}

// Reload reads the host's configuration again, and takes of it what can be taken now. On a problem it takes nothing: a slip
// in a file never changes what runs.
func (h *Host) Reload() []config.Problem {
	if h.opts.Source.Read == nil {
		return nil
	}
	h.configured.mu.Lock()
	defer h.configured.mu.Unlock()
	read, problems := h.opts.Source.Read()
	h.configured.problems = problems
	if len(problems) > 0 {
		for _, p := range problems {
			h.opts.Log.Error("the configuration is not taken: the agent goes on with the one it has", "where", p.Where, "err", p.What, "hint", p.Hint)
		}
		return problems
	}
	live, later := config.Changed(h.configured.now, read)
	h.configured.now, h.configured.later = config.Running(h.configured.now, read), later
	for _, v := range live {
		h.opts.Log.Info("the configuration has changed", "key", v.Name, "value", v.Text, "from", v.Origin.String())
	}
	for _, v := range later {
		h.opts.Log.Warn("the configuration has changed; the agent's next start takes it", "key", v.Name, "value", v.Text, "from", v.Origin.String())
	}
	h.take(h.configured.now)
	return nil
}

// take brings what counts to those who go by it.
func (h *Host) take(c config.Config) {
	h.Agent.SetConsent(c.Consent())
	if h.opts.Source.Taken != nil {
		h.opts.Source.Taken(c)
	}
}

// withConfig fills in what the configuration says, where the caller says nothing else.
func (o Options) withConfig() Options {
	c := o.Config
	o.Bind = cmp.Or(o.Bind, c.Bind())
	if o.Advertise == nil {
		o.Advertise = c.Advertise()
	}
	if v := c.Get(config.KeyOutbound); o.Outbound == nil && v.Origin.Source < config.Folder {
		outbound := c.Outbound()
		o.Outbound = &outbound
	}
	o.MetricsAddress = cmp.Or(o.MetricsAddress, c.MetricsAddress())
	if c.Preset().Slow() && o.Preset == (gossip.Preset{}) {
		o.Preset = gossip.WAN()
	}
	if c.Preset().Slow() && o.Timeouts == (quorum.Timeouts{}) {
		o.Timeouts = quorum.WAN()
	}
	return o
}

// sessionHost is what judging a session takes of this host, with its own bounds.
func (h *Host) sessionHost() node.SessionHost {
	host := sessionHost()
	host.Limits.All = h.Config().Limits().Sessions
	return host
}

// mayStart says why a run that was permitted, and has waited for its turn since, does not start.
func (h *Host) mayStart(e node.StartRun) error {
	if why := exec.WithheldInTurn(e.Command, e.Documents, h.Config().Consent()); why != "" {
		return agent.NotStarted{As: exec.Refused, Err: fleet.Errorf(fleet.Denied, "%s", why)}
	}
	return nil
}

// outputKeep returns how many bytes of output the runs keep: the lesser of the fleet's bound and the host's own.
func (h *Host) outputKeep(s auth.Settings) int64 {
	return lesser(cmp.Or(s.OutputKeep(), runner.DefaultKeepBytes), h.Config().Limits().OutputKeep)
}

// lesser returns the lesser of two bounds, of which 0 is none.
func lesser(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// configWarnings says what of its configuration this host's owner should know.
func (h *Host) configWarnings() []string {
	h.configured.mu.Lock()
	defer h.configured.mu.Unlock()
	out := h.configured.now.Consent().Lines()
	if err := config.Error(h.configured.problems); err != nil {
		out = append(out, "the configuration has a mistake, and the agent goes on with the one before: "+err.Error()+" (muster config reload)")
	}
	for _, v := range h.configured.later {
		out = append(out, v.Name+" was changed ("+v.Origin.String()+"): the agent's next start takes it (systemctl restart muster)")
	}
	return out
}

// Config is what counts on this host.
func (d desk) Config(context.Context) api.HostConfig {
	h := d.host
	h.configured.mu.Lock()
	defer h.configured.mu.Unlock()
	return api.HostConfig{Config: h.configured.now, File: h.opts.Source.File, Problems: h.configured.problems, Later: h.configured.later}
}

// ReloadConfig reads it again.
func (d desk) ReloadConfig(ctx context.Context) api.HostConfig {
	d.host.Reload()
	return d.Config(ctx)
}
