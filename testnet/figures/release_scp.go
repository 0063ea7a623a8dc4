package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/muster-fleet/muster/testnet/lan"
)

// scpTown is what scp is given to bring a file from the first host of a bench to all others: an sshd on each, and keys.
type scpTown struct {
	hosts []*lan.Host
	stop  context.CancelFunc
	sshds []*exec.Cmd
}

// Where hosts see the folder that they share, and where the copies lie.
const (
	seenShared = "/run/lan"
	scpTarget  = scpFolder + "/copy"
)

// newScpTown starts the sshds. shared is that folder as this process sees it.
func newScpTown(ctx context.Context, b *bench, shared string) (s *scpTown, err error) {
	s = &scpTown{hosts: b.hosts}
	ctx, s.stop = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			s.end()
			s = nil
		}
	}()
	for _, name := range []string{"scp.host", "scp.client"} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(shared, name)).CombinedOutput(); err != nil {
			return s, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	if err := s.configure(shared); err != nil {
		return s, err
	}
	for _, h := range s.hosts[1:] {
		cmd := h.Command(ctx, "sh", "-c", "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f "+seenShared+"/scp.server")
		if err := cmd.Start(); err != nil {
			return s, err
		}
		s.sshds = append(s.sshds, cmd)
	}
	for _, h := range s.hosts[1:] {
		if err := waitFor(ctx, h.Name()+"'s sshd lets in", func() bool { return s.run(ctx, "ssh", h.Name(), "true") == nil }); err != nil {
			return s, err
		}
	}
	return s, nil
}

// configure writes what both ends read. The key exchange is the quick one: the default takes 0.3 s of CPU.
func (s *scpTown) configure(shared string) error {
	server := fmt.Sprintf(`Port %d
HostKey %[2]s/scp.host
AuthorizedKeysFile %[2]s/scp.client.pub
KexAlgorithms curve25519-sha256
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
Subsystem sftp /usr/lib/openssh/sftp-server
`, sshdPort, seenShared)
	var known strings.Builder
	key, err := os.ReadFile(filepath.Join(shared, "scp.host.pub"))
	if err != nil {
		return err
	}
	for _, h := range s.hosts {
		fmt.Fprintf(&known, "[%s]:%d %s", h.Name(), sshdPort, key)
	}
	client := fmt.Sprintf(`Host *
Port %d
User root
IdentityFile %[2]s/scp.client
IdentitiesOnly yes
StrictHostKeyChecking yes
UserKnownHostsFile %[2]s/scp.known
BatchMode yes
LogLevel ERROR
`, sshdPort, seenShared)
	for name, text := range map[string]string{"scp.server": server, "scp.config": client, "scp.known": known.String()} {
		if err := os.WriteFile(filepath.Join(shared, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *scpTown) end() {
	s.stop()
	for _, cmd := range s.sshds {
		_ = cmd.Wait() // it was killed
	}
}

// run runs ssh or scp on the first host.
func (s *scpTown) run(ctx context.Context, name string, args ...string) error {
	cmd := s.hosts[0].Command(ctx, append([]string{name, "-F", seenShared + "/scp.config"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said.String())
	}
	return nil
}

// all copies the file noise of the shared folder to all other hosts, and clears the copies away.
func (s *scpTown) all(ctx context.Context, atOnce bool) (took time.Duration, err error) {
	began := time.Now()
	others := s.hosts[1:]
	failed := make(chan error, len(others))
	for _, h := range others {
		copied := func() { failed <- s.run(ctx, "scp", "-q", seenShared+"/noise", h.Name()+":"+scpTarget) }
		if atOnce {
			go copied()
		} else {
			copied()
		}
	}
	for range others {
		err = errors.Join(err, <-failed)
	}
	took = time.Since(began)
	for _, h := range others {
		path, pathErr := h.Path(scpTarget)
		err = errors.Join(err, pathErr, os.Remove(path))
	}
	return took, err
}
