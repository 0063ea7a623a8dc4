package host

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/session"
)

// makeSessions opens the shell that runs sessions. A host can do without it: what is wrong is said, and only sessions are
// refused.
func (h *Host) makeSessions(shells *agent.Shells) {
	shells.Dial = h.opts.Dial
	if shells.Dial == nil {
		shells.Dial = dialOut
	}
	shells.Listen = listenAt
	shells.API = h.admitOperator
	shells.Sessions = h.opts.Sessions
	if shells.Sessions != nil || len(h.opts.SuperviseSession) == 0 {
		return
	}
	opened, err := session.Open(session.Config{
		Dir: h.opts.Dir, Log: h.opts.Log, Self: h.opts.SuperviseSession, Copy: h.opts.Copy, Node: h.ID,
		NodeName: func() string { return h.Name }, Ended: h.sessionEnded,
		Wants: h.wantsCopies, Age: func() time.Duration { return h.Agent.Record().Settings.SessionKeep() },
	})
	if err != nil {
		h.opts.Log.Error("this host takes no sessions", "err", err)
		return
	}
	h.sessions, shells.Sessions = opened, opened
}

// dialOut connects from this host to HOST:PORT for an operator's tunnel.
func dialOut(ctx context.Context, to string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to)
}

// listenAt listens at ADDRESS:PORT for an operator's tunnel, at that address alone: one of version 6 takes no connections of
// version 4. A port at which something listens already is refused, also to who might share it.
func listenAt(at string) (net.Listener, error) {
	place, err := netip.ParseAddrPort(at)
	if err != nil {
		return nil, err
	}
	network := "tcp4"
	if place.Addr().Is6() {
		network = "tcp6"
	}
	return net.Listen(network, at)
}

// sessionHost says which account sessions get, and which accounts are root here, by the host's files as they are now.
func sessionHost() node.SessionHost {
	host := node.SessionHost{User: node.DefaultSessionUser, Roots: []string{"root"}}
	if os.Geteuid() != 0 {
		if self, _, err := account.Resolve(""); err == nil {
			host.User = self.Name
		}
	}
	if passwd, err := os.ReadFile("/etc/passwd"); err == nil {
		host.Roots = rootsIn(string(passwd))
	}
	return host
}

// rootsIn lists the accounts whose user ID is 0 in the text of /etc/passwd, root in any case.
func rootsIn(passwd string) []string {
	roots := []string{"root"}
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) == 7 && isZero(f[2]) && !slices.Contains(roots, f[0]) {
			roots = append(roots, f[0])
		}
	}
	return roots
}

// isZero reports whether text is a number that is 0, however it is written.
func isZero(text string) bool { return text != "" && strings.Trim(text, "0") == "" }
