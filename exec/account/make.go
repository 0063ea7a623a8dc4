package account

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// makeTime bounds what makes an account: it locks files, and may wait for others who do.
const makeTime = 15 * time.Second

// tool is a program that makes accounts, and the arguments for one that is unprivileged: of the system's range, no password,
// a group of its own and no other, a home, a shell.
type tool struct {
	path string
	args func(name, shell string) []string
}

// tools are tried in this order: the first is of the shadow suite, which most hosts have, the second busybox's.
var tools = [...]tool{
	{"/usr/sbin/useradd", func(name, shell string) []string {
		return []string{"--system", "--user-group", "--create-home", "--shell", shell, "--comment", "sessions of muster", name}
	}},
	{"/usr/sbin/adduser", func(name, shell string) []string {
		return []string{"-S", "-D", "-s", shell, "-g", "sessions of muster", name}
	}},
}

// Make makes an unprivileged account with the host's own tools; one that exists stays as it is. It is Unavailable when the host
// has no tool for it, or the tool fails.
func Make(ctx context.Context, name string) error {
	if _, _, err := Resolve(name); fleet.KindOf(err) != fleet.NotFound || err == nil {
		return err
	}
	for _, t := range tools {
		if isThere(t.path) {
			return t.make(ctx, name, t.args(name, loginShell()))
		}
	}
	return fleet.Errorf(fleet.Unavailable, "there is no user %q on this node, and no useradd to make one", name).
		Hinted("make that account, or name another one with --user")
}

func isThere(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func (t tool) make(ctx context.Context, name string, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, makeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.path, args...)
	cmd.Env, cmd.Dir = []string{"PATH=" + Path, "LC_ALL=C"}, "/"
	out, err := cmd.CombinedOutput()
	if _, _, found := Resolve(name); found == nil { // also when somebody else was first, or the tool had something to remark
		return nil
	}
	words, _, _ := strings.Cut(string(bytes.TrimSpace(out)), "\n")
	return fleet.Errorf(fleet.Unavailable, "user %q cannot be made: %s (%w)", name, words, err).
		Hinted("make that account, or name another one with --user")
}

func loginShell() string {
	if info, err := os.Stat("/bin/bash"); err == nil && info.Mode().IsRegular() {
		return "/bin/bash"
	}
	return "/bin/sh"
}
