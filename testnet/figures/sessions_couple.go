package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/muster-fleet/muster/testnet/delay"
)

// ground is the networks of a person and of a node: one for both, or two that a cable can join.
type ground struct {
	far         bool
	here, there *delay.Space
	hereAddr    netip.Addr
	thereAddr   netip.Addr
}

func newGround(_ place, far bool) (*ground, error) {
	here, err := delay.NewSpace()
	if err != nil {
		return nil, err
	}
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	g := &ground{far: far, here: here, there: here, hereAddr: local, thereAddr: local}
	if !far {
		return g, nil
	}
	g.hereAddr, g.thereAddr = delay.Ends()
	if g.there, err = delay.NewSpace(); err != nil {
		here.Close()
		return nil, err
	}
	return g, nil
}

func (g *ground) end() {
	g.here.Close()
	if g.there != g.here {
		g.there.Close()
	}
}

// The ports of a ground; nobody else is on it.
const (
	agentHerePort  = 7400
	agentTherePort = 7401
	sshdPort       = 2022
	tunnelPort     = 9000 // here
)

// couple is a person at one host and a node at the other, by muster and by ssh.
type couple struct {
	place
	*ground
	way   way
	box   *delay.Box
	fleet *plain
	dir   string // of ssh's files, and of what is copied
	text  string // a file of words, which is what programs write
	sshd  *exec.Cmd
}

func newCouple(ctx context.Context, p place, g *ground) (c *couple, err error) {
	c = &couple{place: p, ground: g}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.end())
		}
	}()
	if c.dir, err = os.MkdirTemp(p.folder, "s"); err != nil {
		return nil, err
	}
	c.text = filepath.Join(c.dir, "text")
	if err := writeText(c.text, textBytes); err != nil {
		return nil, err
	}
	if err := c.join(delay.Path{}); err != nil {
		return nil, err
	}
	spots := []spot{{g.here, netip.AddrPortFrom(g.hereAddr, agentHerePort)}, {g.there, netip.AddrPortFrom(g.thereAddr, agentTherePort)}}
	if c.fleet, err = startPlain(ctx, p, len(spots), spots...); err != nil {
		return nil, err
	}
	return c, c.startSSHD(ctx)
}

// join lays a cable, in the place of the one that was there.
func (c *couple) join(p delay.Path) (err error) {
	if !c.far {
		return nil
	}
	if c.box != nil {
		_ = c.box.Close() // it is done with
	}
	c.box, err = delay.Join(c.here.Path(), c.there.Path(), p)
	return err
}

// over lays another cable, and waits until both agents have found each other again.
func (c *couple) over(ctx context.Context, w way) error {
	c.way = w
	if err := c.join(w.path); err != nil {
		return err
	}
	return c.fleet.whole(ctx)
}

func (c *couple) end() (err error) {
	if c.sshd != nil {
		_ = c.sshd.Process.Signal(syscall.SIGTERM)
		_ = c.sshd.Wait()
	}
	err = c.fleet.end()
	if c.box != nil {
		_ = c.box.Close()
	}
	return err
}

// nearAgent is the agent beside the person, farAgent that of the node.
func (c *couple) nearAgent() *plainAgent { return c.fleet.agents[0] }
func (c *couple) farAgent() *plainAgent  { return c.fleet.agents[1] }

// muster is a command line of the person's.
func (c *couple) muster(ctx context.Context, args ...string) *exec.Cmd {
	return c.fleet.command(ctx, c.nearAgent(), args...)
}

// ssh is ssh, scp or sftp of the person's.
func (c *couple) ssh(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, append([]string{"-F", filepath.Join(c.dir, "config")}, args...)...)
}

// startSSHD starts Debian's sshd, as it is but for the key exchange, whose default takes 0.3 s of CPU, for PAM, and for root's
// home: bash reads .bashrc where it believes to be started by sshd, and what people have in there is no affair of ssh's.
func (c *couple) startSSHD(ctx context.Context) error {
	for _, name := range []string{"host", "client"} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(c.dir, name)).CombinedOutput(); err != nil {
			return fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	server := fmt.Sprintf(`ListenAddress %s:%d
HostKey %[3]s/host
AuthorizedKeysFile %[3]s/client.pub
KexAlgorithms curve25519-sha256
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
MaxStartups 1000
SetEnv HOME=%[3]s
Subsystem sftp /usr/lib/openssh/sftp-server
`, c.thereAddr, sshdPort, c.dir)
	client := fmt.Sprintf(`Host there
HostName %s
Port %d
User root
IdentityFile %[3]s/client
IdentitiesOnly yes
StrictHostKeyChecking yes
UserKnownHostsFile %[3]s/known
BatchMode yes
LogLevel ERROR
`, c.thereAddr, sshdPort, c.dir)
	key, err := os.ReadFile(filepath.Join(c.dir, "host.pub"))
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"server": server, "config": client, "known": fmt.Sprintf("[%s]:%d %s", c.thereAddr, sshdPort, key)} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it gives up its rights
		return err
	}
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(c.dir, "server"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.there.Within(cmd.Start); err != nil {
		return err
	}
	c.sshd = cmd
	return waitFor(ctx, "sshd lets in", func() bool { return c.run(ctx, c.ssh(ctx, "ssh", "there", "true")) == nil })
}

// run runs a command of the person's to its end.
func (c *couple) run(ctx context.Context, cmd *exec.Cmd) error {
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := c.here.Within(cmd.Start); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, said.String())
	}
	return nil
}

// timed runs a command of the person's and says how long it took.
func (c *couple) timed(ctx context.Context, cmd *exec.Cmd) (time.Duration, error) {
	began := time.Now()
	err := c.run(ctx, cmd)
	return time.Since(began), err
}

// talk is a command of the person's that is spoken with.
type talk struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.ReadCloser
	said bytes.Buffer
}

func (c *couple) converse(cmd *exec.Cmd) (t *talk, err error) {
	t = &talk{cmd: cmd}
	cmd.Stderr = &t.said
	if t.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if t.out, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return t, c.here.Within(cmd.Start)
}

// hangUp ends it from here, as who closes the window.
func (t *talk) hangUp() {
	_ = t.cmd.Process.Signal(syscall.SIGTERM)
	_ = t.in.Close()
	_, _ = io.Copy(io.Discard, t.out)
	_ = t.cmd.Wait() // it was ended
}

// await reads to a line that ends with a word.
func (t *talk) await(word string) error {
	var got []byte
	b := make([]byte, 1)
	for !bytes.HasSuffix(got, []byte(word+"\n")) && !bytes.HasSuffix(got, []byte(word+"\r\n")) {
		if _, err := t.out.Read(b); err != nil {
			return fmt.Errorf("%s: %w before %q: %q %s", strings.Join(t.cmd.Args, " "), err, word, got, t.said.String())
		}
		got = append(got, b[0])
	}
	return nil
}

// tcpFile says how TCP finds out what a way bears: of the network that the reader is in.
const tcpFile = "/proc/sys/net/ipv4/tcp_congestion_control"

// tcp reads it of the node's network.
func (c *couple) tcp() (how string, err error) {
	err = c.there.Within(func() error {
		raw, err := os.ReadFile(tcpFile)
		how = strings.TrimSpace(string(raw))
		return err
	})
	return how, err
}

// useTCP sets it; false where the kernel does not have it.
func (c *couple) useTCP(how string) bool {
	return c.there.Within(func() error { return os.WriteFile(tcpFile, []byte(how), 0) }) == nil
}

// listen opens a port of the node's.
func (c *couple) listen() (l net.Listener, err error) {
	err = c.there.Within(func() error {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	return l, err
}

// dial connects to a port of the person's host.
func (c *couple) dial(port int) (conn net.Conn, err error) {
	err = c.here.Within(func() error {
		conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err
	})
	return conn, err
}
