package main

import (
	"context"
	"io"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// sshPort is where an sshd listens, as long as nobody says otherwise.
const sshPort = 22

func newSSHProxyCommand(a *app) *cobra.Command {
	f := struct {
		sessionFlags
		port uint16
	}{}
	cmd := sessionCommand(&cobra.Command{
		Use: "ssh-proxy NODE", Short: "Carry ssh to a node (ProxyCommand)",
		Args: exactly(1, "one NODE: a name, an ID or the beginning of one"),
		Long: `Connect standard input and output with the sshd of NODE, at 127.0.0.1 there: the sshd needs to listen nowhere else. What uses
ssh works by it: scp, rsync, ansible, editors. In ~/.ssh/config, for names that end in .muster:

  Host *.muster
    ProxyCommand muster ssh-proxy $(basename %n .muster)

With --doc a session document says which port, as AWS-StartSSHSession does.`,
		Example: `  ssh -o ProxyCommand='muster ssh-proxy web07' root@web07
  rsync -e "ssh -o ProxyCommand='muster ssh-proxy web07'" -a ./site/ root@web07:/srv/site/
  muster ssh-proxy web07 --port 2222
  muster ssh-proxy web07 --doc AWS-StartSSHSession`,
		ValidArgsFunction: a.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sshProxy(cmd.Context(), f.sessionFlags, args[0], f.port)
		},
	})
	f.forwardFlags(cmd)
	f.documentFlags(a, cmd)
	cmd.Flags().Uint16Var(&f.port, "port", sshPort, "port of the sshd on the node")
	cmd.MarkFlagsMutuallyExclusive("doc", "port")
	return cmd
}

func (a *app) sshProxy(ctx context.Context, f sessionFlags, name string, port uint16) error {
	if port == 0 {
		return fleet.Errorf(fleet.Invalid, "--port 0 is no port")
	}
	if err := f.check(); err != nil {
		return err
	}
	ctx, stop := a.untilTold(ctx)
	defer stop()
	v, err := a.visit(ctx, name)
	if err != nil {
		return err
	}
	defer v.Close()
	to := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	s := f.session(auth.SessionForward)
	s.Forward = []string{to}
	if f.doc != "" {
		b, err := v.byDocument(ctx, f, "ssh-proxy")
		if err != nil {
			return err
		}
		s, to = b.Session, b.to
	}
	p, err := openPassage(ctx, v, s)
	if err != nil {
		return err
	}
	defer p.Close()
	far, err := p.reach(ctx, to)
	if err != nil {
		return err
	}
	defer context.AfterFunc(p.ctx, func() { far.Close() })()
	err = carryStreams(a.stdin, a.stdout, far)
	switch cause := context.Cause(p.ctx); {
	case isOver(cause):
		return cause
	case cause != nil: // ssh hangs up when it is done
		return nil
	}
	return err
}

// carryStreams connects two streams with far until far has said all. What is still read from in then is for nobody.
func carryStreams(in io.Reader, out io.Writer, far half) error {
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{far}, struct{ io.Reader }{in}, make([]byte, spliceChunk))
		if err == nil {
			err = far.CloseWrite()
		}
		if err != nil {
			far.Close()
		}
	}()
	defer far.Close()
	_, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{far}, make([]byte, spliceChunk))
	return err
}
