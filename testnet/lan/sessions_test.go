package lan

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSessions: sessions between hosts, where networks change, voters die, and other programs build on them.
func TestSessions(t *testing.T) {
	t.Parallel()
	l := founded(t, 5)
	a, b := plain(t, l)
	for _, test := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"ansible", func(t *testing.T) { byAnsible(t, a, b) }},
		{"the client moves", func(t *testing.T) { clientMoves(t, a, b) }},
		{"the client is away", func(t *testing.T) { clientIsAway(t, l, a, b) }},
		{"every voter is dead", func(t *testing.T) { votersDead(t, l, a, b) }},
	} {
		t.Run(test.name, test.run)
		if t.Failed() {
			return
		}
	}
}

// says runs a line on a host and returns its output; it must succeed.
func says(t *testing.T, h *Host, line string) string {
	t.Helper()
	out, err := h.Command(t.Context(), "sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("on %s, %s: %v: %s", h.Name(), line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// conversation is a session with a program that counts on standard output and says back on standard error what it is told.
type conversation struct {
	t        *testing.T
	cmd      *exec.Cmd
	in       io.WriteCloser
	out, err bytes.Buffer
	told     int
}

const beats = 200

func converse(t *testing.T, from, to *Host) *conversation {
	t.Helper()
	c := &conversation{t: t}
	c.cmd = from.Command(t.Context(), "muster", "exec", to.Name(), "--user", "root", "--",
		fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo $i; i=$((i+1)); sleep 0.02; done & cat >&2; wait", beats))
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	var err error
	c.in, err = c.cmd.StdinPipe()
	must(t, err)
	must(t, c.cmd.Start())
	return c
}

// goOn tells it something every now and then, for a while.
func (c *conversation) goOn(d time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		fmt.Fprintf(c.in, "told %d\n", c.told)
		c.told++
	}
}

// end waits for its end and looks at what both ends have heard: all of it, in order, once.
func (c *conversation) end() {
	c.t.Helper()
	must(c.t, c.in.Close())
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("it ended with %v: %s", err, c.err.String())
	}
	var counted, told strings.Builder
	for i := range beats {
		fmt.Fprintln(&counted, i)
	}
	for i := range c.told {
		fmt.Fprintf(&told, "told %d\n", i)
	}
	if got := c.out.String(); got != counted.String() {
		c.t.Errorf("it counted\n%s", got)
	}
	heard := strings.Builder{}
	for line := range strings.Lines(c.err.String()) {
		if !strings.HasPrefix(line, "muster: ") && !strings.Contains(line, " is back") && !strings.HasPrefix(line, "nothing is heard") {
			heard.WriteString(line)
		}
	}
	if heard.String() != told.String() {
		c.t.Errorf("of %d it heard\n%s", c.told, heard.String())
	}
}

// clientMoves takes the client's address away and gives it another, twice, in the middle of a session, of a copy and of a
// tunnel's connection.
func clientMoves(t *testing.T, from, to *Host) {
	says(t, from, "head -c 40000000 /dev/urandom > /srv/large")
	must(t, from.Bandwidth(100_000_000)) // so that the copy takes 3 s
	c := converse(t, from, to)
	var copying sync.WaitGroup
	copying.Go(func() {
		if r := from.Muster(t.Context(), "cp", "/srv/large", to.Name()+":/srv/large", "--user", "root"); r.Code != 0 {
			t.Errorf("%+v", r)
		}
	})
	for _, addr := range []string{"10.77.9.9", "10.77.9.10"} {
		c.goOn(time.Second)
		must(t, from.Move(netip.MustParseAddr(addr)))
	}
	c.goOn(2 * time.Second)
	c.end()
	copying.Wait()
	must(t, from.Bandwidth(0))
	if here, there := says(t, from, "sha256sum < /srv/large"), says(t, to, "sha256sum < /srv/large"); here != there {
		t.Errorf("%s went out, and %s arrived", here, there)
	}
}

// clientIsAway cuts the client off, for longer than a connection lives.
func clientIsAway(t *testing.T, l *Lan, from, to *Host) {
	c := converse(t, from, to)
	c.goOn(time.Second)
	must(t, l.Part(from))
	c.goOn(awayFor())
	must(t, l.Heal())
	c.goOn(time.Second)
	c.end()
	must(t, l.Settled(t.Context()))
}

// awayFor is 65 s where tests may take long: a connection is given up after 30.
func awayFor() time.Duration {
	if os.Getenv("MUSTER_LONG") != "" {
		return 65 * time.Second
	}
	return 5 * time.Second
}

// votersDead opens sessions of every kind while no quorum is.
func votersDead(t *testing.T, l *Lan, from, to *Host) {
	var voters []*Host
	for _, h := range l.Hosts() {
		if h != from && h != to {
			voters = append(voters, h)
			must(t, h.Kill())
		}
	}
	if r := from.Muster(t.Context(), "exec", to.Name(), "--user", "root", "--tty", "--", "tty; hostname"); r.Code != 0 || !strings.Contains(r.Stdout, to.Name()) || !strings.Contains(r.Stdout, "/dev/pts/") {
		t.Errorf("exec --tty: %+v", r)
	}
	if r := from.MusterWith(t.Context(), "a line\n", "exec", to.Name(), "--", "id -un; cat"); r.Code != 0 || r.Stdout != "muster-user\na line\n" {
		t.Errorf("exec as the sessions' own account: %+v", r)
	}
	says(t, from, "echo alone > /srv/alone")
	if r := from.Muster(t.Context(), "cp", "/srv/alone", to.Name()+":/srv/alone", "--user", "root"); r.Code != 0 || says(t, to, "cat /srv/alone") != "alone" {
		t.Errorf("cp: %+v", r)
	}
	stop := sshd(t, to)
	defer stop()
	if got := says(t, from, "ssh -F /run/lan/ssh root@"+to.Name()+" hostname"); got != to.Name() {
		t.Errorf("by ssh-proxy: %q", got)
	}
	if r := from.Muster(t.Context(), "session", "list", to.Name()); r.Code != 0 || !strings.Contains(r.Stdout, "exec: id -un; cat") {
		t.Errorf("session list: %+v", r)
	}
	must(t, l.each(voters, func(h *Host) error { return h.Start() }))
	must(t, l.Settled(t.Context()))
}

// sshd starts a host's sshd, on loopback alone, and leaves for all hosts what ssh is to be told: it goes by ssh-proxy.
func sshd(t *testing.T, h *Host) (stop func()) {
	t.Helper()
	shared := h.lan.shared()
	if _, err := os.Stat(filepath.Join(shared, "ssh")); err != nil {
		for _, name := range []string{"ssh-host", "ssh-client"} {
			if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(shared, name)).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		must(t, os.WriteFile(filepath.Join(shared, "sshd"), []byte(`ListenAddress 127.0.0.1:22
HostKey /run/lan/ssh-host
AuthorizedKeysFile /run/lan/ssh-client.pub
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
Subsystem sftp internal-sftp
`), 0o600))
		must(t, os.WriteFile(filepath.Join(shared, "ssh"), []byte(`Host *
ProxyCommand muster ssh-proxy %h
IdentityFile /run/lan/ssh-client
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
BatchMode yes
LogLevel ERROR
`), 0o600))
	}
	says(t, h, "mkdir -p /run/sshd")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.Command(ctx, "/usr/sbin/sshd", "-D", "-e", "-f", "/run/lan/sshd")
	must(t, cmd.Start())
	eventually(t, "sshd listens", func() bool {
		return h.Command(t.Context(), "sh", "-c", "ss -Hltn 'sport = :22' | grep -q 127.0.0.1").Run() == nil
	})
	return func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}
}

// byAnsible has ansible run a play on two hosts at a time, by ssh over ssh-proxy: facts, a command, files there and back.
func byAnsible(t *testing.T, from, to *Host) {
	if _, err := exec.LookPath("ansible-playbook"); err != nil {
		t.Fatal("ansible is not installed: apt-get install ansible-core")
	}
	for _, h := range []*Host{from, to} {
		defer sshd(t, h)()
		says(t, h, "rm -f /root/.bashrc") // what people have in there takes its time, for each of ansible's commands
	}
	shared := from.lan.shared()
	must(t, os.WriteFile(filepath.Join(shared, "hosts.ini"), []byte(from.Name()+"\n"+to.Name()+"\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(shared, "play.yml"), []byte(`- hosts: all
  gather_facts: true
  vars: {ansible_python_interpreter: /usr/bin/python3}
  tasks:
    - {command: hostname, register: name}
    - {assert: {that: name.stdout == inventory_hostname and ansible_facts.hostname == inventory_hostname}}
    - {copy: {content: "{{ 'written on ' + inventory_hostname }}", dest: /srv/by-ansible, mode: "0640"}}
    - {copy: {content: "{{ 'written on ' + inventory_hostname }}", dest: /srv/by-ansible, mode: "0640"}, register: again}
    - {assert: {that: not again.changed}}
    - {fetch: {src: /srv/by-ansible, dest: /srv/fetched}}
`), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	cmd := from.Command(ctx, "ansible-playbook", "-v", "-i", "/run/lan/hosts.ini", "/run/lan/play.yml", "-u", "root", "-f", "2")
	cmd.Env = append(cmd.Env, "ANSIBLE_SSH_ARGS=-F /run/lan/ssh -o ControlMaster=auto -o ControlPersist=10s -o ControlPath=/tmp/%h", "ANSIBLE_HOST_KEY_CHECKING=False", "ANSIBLE_NOCOLOR=1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "failed=0") != 2 || strings.Count(string(out), "unreachable=0") != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, h := range []*Host{from, to} {
		if got := says(t, h, "stat -c %a /srv/by-ansible; cat /srv/by-ansible"); got != "640\nwritten on "+h.Name() {
			t.Errorf("on %s: %q", h.Name(), got)
		}
		if got := says(t, from, "cat /srv/fetched/"+h.Name()+"/srv/by-ansible"); got != "written on "+h.Name() {
			t.Errorf("from %s came %q", h.Name(), got)
		}
	}
	if r := from.Muster(t.Context(), "session", "list", to.Name()); r.Code != 0 || !strings.Contains(r.Stdout, "127.0.0.1:22") {
		t.Errorf("no session tells of it: %+v", r)
	}
}
