package main

import (
	"context"
	"net/netip"
	osexec "os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/muster-fleet/muster/cmd/host"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// doctorWait bounds a whole examination: the agent's own takes ten seconds at most, and one that hangs is a finding.
const doctorWait = 20 * time.Second

// examine gathers what the doctor looks at: from the agent, and, where this is its host, from the host itself.
func (a *app) examine(ctx context.Context, nodeName string) (examined, error) {
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	e := examined{now: time.Now(), dir: a.dataDir(), founded: true}
	client := a.client()
	checkup, err := client.Checkup(ctx, nodeName)
	switch {
	case err == nil:
		e.agent, e.host, e.now = &checkup, checkup.Host, checkup.Now
		if s, err := client.Status(ctx); err == nil {
			e.status = &s
		}
		if q, err := client.Quorum(ctx); err == nil {
			e.levels = q.Level
		}
		e.stores, _ = client.Usage(ctx)
	case fleet.KindOf(err) == fleet.NotFound && nodeName == "": // an agent of an older version
		e.silent = err
		e.stores, err = client.Usage(ctx)
		return e, err
	case a.viaHost() != nil || fleet.KindOf(err) != fleet.Unavailable || nodeName != "":
		return e, err // the agent answered with a no, or there is nothing else to ask
	default:
		e.silent = err
	}
	if a.viaHost() != nil {
		return e, nil
	}
	e.founded = folder.Exists(e.dir)
	e.config = a.configProblems()
	if a.dataDir() == systemData { // another folder's agent is nobody's service
		e.service = thisSystem(a.stdout).check(ctx)
	}
	if e.agent == nil {
		e.host = host.Examine(e.dir)
		e.ways = tryPeers(ctx, e.dir)
	}
	return e, nil
}

// triedPeers is how many of the members that the data folder remembers are tried where no agent answers.
const triedPeers = 5

// tryPeers looks whether packets pass to members that an agent was told of, while none runs here.
func tryPeers(ctx context.Context, dir string) []shape.WayCheck {
	peers := folder.PeersOf(dir)
	var out []shape.WayCheck
	var all sync.WaitGroup
	for _, p := range peers[:min(len(peers), triedPeers)] {
		w := shape.WayCheck{Peer: shape.Named{ID: p.ID, Name: p.ID.String()}}
		if len(p.Addrs) > 0 {
			w.Peer.Name = p.Addrs[0] // names are in the record, which only an agent opens
		}
		for _, text := range p.Addrs {
			if addr, err := netip.ParseAddrPort(text); err == nil {
				w.There = append(w.There, shape.Probe{Address: addr.String()})
			}
		}
		for i := range w.There {
			all.Go(func() { w.There[i] = host.Try(ctx, netip.MustParseAddrPort(w.There[i].Address)) })
		}
		out = append(out, w)
	}
	all.Wait()
	return out
}

// check asks the service manager of this host about the agent.
func (s system) check(ctx context.Context) serviceCheck {
	m, runs := s.manager()
	if !runs {
		return serviceCheck{}
	}
	path, _ := s.installed(m)
	c := serviceCheck{manager: "systemd", installed: path != ""}
	if m == openRC {
		c.manager = "openrc"
		c.active = map[bool]string{true: "started", false: "stopped"}[s.run(ctx, "rc-service", "muster", "status") == nil]
		c.enabled = s.run(ctx, "rc-update", "show", "default") == nil && exists("/etc/runlevels/default/muster")
		return c
	}
	said := askSystem(ctx, "systemctl", "show", "muster", "-p", "ActiveState,Result,NRestarts,UnitFileState")
	for line := range strings.Lines(said) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ActiveState":
			c.active = value
		case "Result":
			c.result = value
		case "NRestarts":
			c.restarts, _ = strconv.Atoi(value)
		case "UnitFileState":
			c.enabled = value == "enabled"
		}
	}
	if c.active != "active" {
		c.last = strings.Join(strings.Split(strings.TrimSpace(askSystem(ctx, "journalctl", "-u", "muster", "-n", "3", "-o", "cat", "--no-pager")), "\n"), " | ")
	}
	return c
}

// askWait bounds a question to a program of the system.
const askWait = 5 * time.Second

// askSystem runs a program of the system and returns what it says; "" where it cannot be run.
func askSystem(ctx context.Context, argv ...string) string {
	ctx, stop := context.WithTimeout(ctx, askWait)
	defer stop()
	out, _ := runSystem(ctx, argv)
	return string(out)
}

// runSystem runs a program of the system, and returns what it says on both of its streams.
func runSystem(ctx context.Context, argv []string) ([]byte, error) {
	cmd := osexec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}
