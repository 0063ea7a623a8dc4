package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// madeByMachine: with a join string in its place the service enrols the host by itself, and takes the string away; one that
// cannot reach the fleet yet is started all the same. The program comes from the archive.
func madeByMachine(t *testing.T, web1, m *Machine, made map[string]map[string]string) {
	join := sh(t, web1, "muster token create --uses 1 2>/dev/null")
	if err := errors.Join(os.MkdirAll(m.Path("/etc/muster"), 0o755), os.WriteFile(m.Path("/etc/muster/join"), []byte(join), 0o600)); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "tar xzf "+filepath.Base(made["1.0.0"]["tar"])+" && muster-1.0.0-linux-*/muster agent install && rm -r muster-1.0.0-linux-*/")
	until(t, m, "it is enrolled", "muster status")
	sh(t, m, "! [ -e /etc/muster/join ] && systemctl is-enabled muster && systemctl is-active muster")
	if got := sh(t, web1, "muster run --target web4 -- hostname 2>/dev/null"); !strings.Contains(got, "web4") {
		t.Errorf("said %s", got)
	}
	if said := sh(t, m, "muster agent install 2>&1"); !strings.Contains(said, "the agent runs") {
		t.Errorf("the second time: %s", said)
	}
	if _, err := shell(t.Context(), web1, "muster agent install"); err == nil {
		t.Error("it installs itself over a package")
	}
}

// theService: it says that it is up, comes back after a crash, is ended when it hangs, and starts nothing that inherits what
// is the agent's own.
func theService(t *testing.T, m *Machine) {
	const pid = "systemctl show --property MainPID --value muster"
	sh(t, m, `mkdir -p /etc/systemd/system/muster.service.d && cat > /etc/systemd/system/muster.service.d/test.conf <<E
[Service]
RestartSec=100ms
WatchdogSec=1s
TimeoutAbortSec=1s
OOMScoreAdjust=300
E
systemctl daemon-reload && systemctl restart muster`)
	if got := sh(t, m, "systemctl show --property StatusText --value muster"); got != "node web1, version 1.0.0\n" {
		t.Errorf("its status: %q", got)
	}
	if got := sh(t, m, "cat /proc/$("+pid+")/oom_score_adj"); got != "300\n" {
		t.Errorf("the agent's score: %q", got)
	}
	if got := sh(t, m, "muster run --target web1 -- cat /proc/self/oom_score_adj 2>/dev/null"); !strings.HasSuffix(strings.TrimSpace(got), "\n0") {
		t.Errorf("the score of what it runs: %s", got)
	}
	if got := sh(t, m, `awk '/core/ {print $5, $6}' /proc/$(`+pid+")/limits"); got != "1 unlimited\n" {
		t.Errorf("its core dumps: %q", got)
	}
	for _, signal := range []string{"KILL", "STOP"} { // a crash, and a loop that takes no turn
		was := strings.TrimSpace(sh(t, m, pid))
		sh(t, m, "kill -"+signal+" "+was)
		until(t, m, "it is started again after "+signal, fmt.Sprintf(`now=$(%s) && [ "$now" != 0 ] && [ "$now" != %s ] && muster status`, pid, was))
	}
	sh(t, m, "rm -r /etc/systemd/system/muster.service.d && systemctl daemon-reload && systemctl restart muster && systemctl reset-failed && muster status")
	if got := strings.TrimSpace(sh(t, m, "systemctl is-system-running")); got != "running" {
		t.Errorf("the machine is %s", got)
	}
}

// upgrade upgrades every host by way of muster, while a command and a session run on each: each runs once, to its end.
func upgrade(t *testing.T, from *Machine, others ...*Machine) {
	all := append([]*Machine{from}, others...)
	id := regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).FindString(
		sh(t, from, "muster run --all --async -- 'echo began >> /root/began; while ! [ -e /var/tmp/go ]; do sleep 0.1; done; echo finished' 2>&1"))
	for _, m := range all {
		until(t, m, "the command runs", "[ -e /root/began ]")
	}
	sat := make(chan string, 1)
	go func() {
		said, err := shell(context.Background(), from, "muster exec web2 -- sh -c 'echo sits; : > /var/tmp/sits; while ! [ -e /var/tmp/go ]; do sleep 0.1; done; echo rises'")
		sat <- fmt.Sprintf("%s%v", said, err)
	}()
	until(t, others[0], "the session is open", "[ -e /var/tmp/sits ]")

	const install = `if dpkg --status muster >/dev/null 2>&1; then apt-get install -qy /root/muster_1.1.0-1_*.deb
elif [ "$(hostname)" = web5 ]; then zypper --non-interactive install --allow-unsigned-rpm /root/muster-1.1.0-1.*.rpm
elif rpm --query muster; then dnf install -y /root/muster-1.1.0-1.*.rpm
else cd /var/tmp && tar xzf /root/muster_1.1.0_linux_*.tar.gz && muster-1.1.0-linux-*/muster agent install && rm -r muster-1.1.0-linux-*; fi`
	sh(t, from, "muster run --all --timeout 5m -- '"+install+"'")
	for _, m := range all {
		until(t, m, "the new version runs", "muster status | grep -q '^version *1.1.0$'")
		sh(t, m, "systemctl is-enabled muster && : > /var/tmp/go")
	}
	until(t, from, "the command has ended everywhere", fmt.Sprintf("muster command show %s | grep -c Success | grep -q %d", id, len(all)))
	for _, m := range all {
		if got := sh(t, m, "cat /root/began && rm /root/began"); got != "began\n" {
			t.Errorf("on %s it began as %q", m.Name, got)
		}
	}
	if got := <-sat; !strings.Contains(got, "sits\n") || !strings.Contains(got, "rises\n") || !strings.HasSuffix(got, "<nil>") {
		t.Errorf("the session: %s", got)
	}
}

// changes lists what a machine has of its own, but for what its own services write.
func changes(t *testing.T, m *Machine) []string {
	t.Helper()
	all, err := m.Changes("/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/systemd", "/var/lib/rpm", "/var/lib/dnf", "/var/lib/zypp", "/run", "/tmp", "/root", "/var/tmp")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// left compares what a machine has with what it had and what the page says is left.
func left(t *testing.T, m *Machine, before []string, says ...string) {
	t.Helper()
	accounts := []string{"/etc/group", "/etc/group-", "/etc/gshadow", "/etc/gshadow-", "/etc/passwd", "/etc/passwd-", "/etc/shadow", "/etc/shadow-", "/etc/subuid", "/etc/subuid-",
		"/etc/subgid", "/etc/subgid-", "/etc/.pwd.lock"}
	for _, name := range changes(t, m) {
		if slices.Contains(before, name) || slices.Contains(accounts, name) || strings.HasPrefix(name, filepath.Join("/home", "muster-user")+"/") ||
			slices.ContainsFunc(says, func(dir string) bool { return strings.HasPrefix(name, dir+"/") }) {
			continue
		}
		t.Errorf("%s: %s is left, and nobody says so", m.Name, name)
	}
	for _, dir := range says {
		sh(t, m, "[ -d "+dir+" ]")
	}
	sh(t, m, "getent group muster && ! pidof muster && [ \"$(systemctl is-system-running)\" = running ]")
}

func removeDeb(t *testing.T, m *Machine, before []string) {
	if said := sh(t, m, "apt-get remove -qy muster"); !strings.Contains(said, "muster: left /var/lib/muster") {
		t.Errorf("it says %s", said)
	}
	left(t, m, before, "/var/lib/muster")
	if said := sh(t, m, "apt-get install -qy /root/muster_1.1.0-1_*.deb && systemctl is-active muster && muster status"); !strings.Contains(said, "web2") {
		t.Errorf("the host that comes back: %s", said)
	}
	if said := sh(t, m, "apt-get purge -qy muster"); !strings.Contains(said, "muster: removed /var/lib/muster") {
		t.Errorf("it says %s", said)
	}
	left(t, m, before)
	sh(t, m, "! [ -e /var/lib/muster ]")
}

func removeRPM(t *testing.T, m *Machine, before []string, line string) {
	if said := sh(t, m, line); !strings.Contains(said, "muster: left /var/lib/muster") {
		t.Errorf("it says %s", said)
	}
	left(t, m, before, "/var/lib/muster")
}

func removeFile(t *testing.T, m *Machine, before []string) {
	if said := sh(t, m, "muster agent uninstall"); !strings.Contains(said, "left     /var/lib/muster") {
		t.Errorf("it says %s", said)
	}
	left(t, m, before, "/var/lib/muster")
	if _, err := shell(t.Context(), m, "muster version"); err == nil {
		t.Error("the program is left")
	}
}
