package main

import (
	"context"
	"encoding/json"
	"net"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/auth"
)

func newForwardCommand(a *app) *cobra.Command {
	f := struct {
		sessionFlags
		reverse bool
	}{}
	cmd := sessionCommand(&cobra.Command{
		Use: "forward NODE {LOCAL:HOST:PORT… | --reverse REMOTE:HOST:PORT… | --doc NAME}", Short: "Reach ports from a node as if they were here",
		Long: `Listen here, and connect from NODE to HOST:PORT for everybody who connects: to a port of the node itself (127.0.0.1:5432), or
to whatever the node can reach and this host cannot. Any number of connections at once, until Ctrl-C.

LOCAL is a port, ADDRESS:PORT or the path of a unix socket (with a / in it). A port alone listens on 127.0.0.1; port 0 takes
a free one, and what it listens at is said. IPv6 addresses stand in brackets. Whoever can connect to LOCAL is let through.

With --reverse it is the other way about: NODE listens, and this host connects to HOST:PORT (or to the unix socket /PATH) for
everybody who connects there. REMOTE is a port or ADDRESS:PORT of the node: 127.0.0.1 without an address, so that only what runs
there gets in; * is all its addresses. Listening takes a rule of its own in the policy (context.kind "listen"), and other addresses
than loopback, or ports below 1024, another ("expose"). When the command ends, so does the listening.

The node needs no open port but the fleet's own, and connects only to what this command was signed for. It keeps a record of
connections, bytes and times. With --doc a session document says where it leads, and --param what its parameters are.

Exit codes: 0 when you end it, 255 when something else does.`,
		Example: `  muster forward db01 5432:127.0.0.1:5432
  muster forward web07 8080:127.0.0.1:80 8443:10.0.3.9:443
  muster forward db01 /tmp/pg.sock:127.0.0.1:5432 --timeout 8h
  muster forward db01 --doc AWS-StartPortForwardingSession --param portNumber=5432
  muster forward bastion 0:intranet.example.org:443 -o json
  muster forward --reverse web07 8080:127.0.0.1:3000`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.doc == "" && len(args) < 2:
				return lacks(cmd, "a NODE and at least one LOCAL:HOST:PORT")
			case f.doc != "" && len(args) != 1:
				return lacks(cmd, "one NODE; --doc says where it leads")
			}
			return nil
		},
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.reverse {
				return a.forwardReverse(cmd.Context(), f.sessionFlags, args[0], args[1:])
			}
			return a.forward(cmd.Context(), f.sessionFlags, args[0], args[1:])
		},
	})
	cmd.Flags().BoolVar(&f.reverse, "reverse", false, "the node listens, and this host connects")
	f.forwardFlags(cmd)
	f.documentFlags(a, cmd)
	cmd.MarkFlagsMutuallyExclusive("reverse", "doc")
	return cmd
}

func (a *app) forward(ctx context.Context, f sessionFlags, name string, texts []string) error {
	tunnels, err := parseTunnels(texts)
	if err == nil {
		err = f.check()
	}
	if err != nil {
		return err
	}
	ctx, stop := a.untilTold(ctx)
	defer stop()
	if f.doc != "" {
		return a.forwardBy(ctx, f, name)
	}
	listeners, err := listenAll(tunnels)
	if err != nil {
		return err
	}
	defer closeListeners(listeners)
	v, err := a.visit(ctx, name)
	if err != nil {
		return err
	}
	defer v.Close()
	s := f.session(auth.SessionForward)
	s.Forward = placesOf(tunnels)
	return a.carryTunnels(ctx, v, s, tunnels, listeners)
}

// forwardBy is forward where a document says where it leads: it is known when the node has told it.
func (a *app) forwardBy(ctx context.Context, f sessionFlags, name string) error {
	v, err := a.visit(ctx, name)
	if err != nil {
		return err
	}
	defer v.Close()
	b, err := v.byDocument(ctx, f, "forward")
	if err != nil {
		return err
	}
	t := b.tunnel()
	listeners, err := listenAll([]tunnel{t})
	if err != nil {
		return err
	}
	defer closeListeners(listeners)
	return a.carryTunnels(ctx, v, b.Session, []tunnel{t}, listeners)
}

// carryTunnels opens the session and carries connections until it ends.
func (a *app) carryTunnels(ctx context.Context, v *visit, s auth.Session, tunnels []tunnel, listeners []net.Listener) error {
	p, err := openPassage(ctx, v, s)
	if err != nil {
		return err
	}
	defer p.Close()
	var open sync.WaitGroup
	for i, l := range listeners {
		if err := a.tellTunnel(l, tunnels[i].to, v.at.Name); err != nil {
			return err
		}
		open.Go(func() { carry(p.ctx, l, tunnels[i].to, p.reach, func(err error) { a.tellFailure(p, err) }) })
	}
	open.Wait()
	if err := context.Cause(p.ctx); isOver(err) {
		return err
	}
	return nil // whoever began it has ended it
}

// tellFailure says what went wrong with one connection, or ends the passage where it is more than that.
func (a *app) tellFailure(p *passage, err error) {
	if isOver(err) {
		p.end(err)
		return
	}
	a.say("%s: %s", p.at.Name, err)
}

// untilTold ends a context when the person or the system wants the program to end.
func (a *app) untilTold(ctx context.Context) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	pressed, release := a.interrupts()
	go func() {
		select {
		case <-pressed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); stop(); release() }
}

func parseTunnels(texts []string) ([]tunnel, error) {
	var out []tunnel
	for _, text := range texts {
		t, err := parseTunnel(text)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// placesOf lists where tunnels lead, each once.
func placesOf(tunnels []tunnel) []string {
	var out []string
	for _, t := range tunnels {
		if !slices.Contains(out, t.to) {
			out = append(out, t.to)
		}
	}
	return out
}

// listenAll opens all local ends, or none.
func listenAll(tunnels []tunnel) ([]net.Listener, error) {
	var out []net.Listener
	for _, t := range tunnels {
		l, err := listenTunnel(t)
		if err != nil {
			closeListeners(out)
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func closeListeners(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// tellTunnel says where a tunnel begins, once it does: on standard output for programs, which may have asked for port 0.
func (a *app) tellTunnel(l net.Listener, to, node string) error {
	if a.forPeople() {
		a.say("%s → %s by %s", l.Addr(), to, node)
		return nil
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		Local string `json:"local"`
		To    string `json:"to"`
		Node  string `json:"node"`
	}{l.Addr().String(), to, node})
}
