package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// provision runs the script of Vagrant's boxes on two machines, one of each kind of package, and once more on each: boxes are
// provisioned again whenever somebody asks.
func provision(t *testing.T, one, two *Machine, made map[string]string) {
	for _, m := range []*Machine{one, two} {
		if err := os.MkdirAll(m.Path("/vagrant/bin/dist"), 0o755); err != nil {
			t.Fatal(err)
		}
		give(t, m, filepath.Join("..", "..", "packaging", "provision.sh"), "/vagrant/provision.sh")
		for _, file := range made {
			give(t, m, file, "/vagrant/bin/dist/"+filepath.Base(file))
		}
		sh(t, m, "useradd --create-home vagrant")
	}
	sh(t, one, "rm /usr/bin/dnf") // or it would be a host of Fedora's
	run := func(m *Machine) {
		t.Helper()
		said := sh(t, m, "/vagrant/provision.sh "+m.Name+" "+m.Addr+" /vagrant/bin/dist 2 2>&1")
		if !strings.Contains(said, "fleet    lab") {
			t.Errorf("%s says %s", m.Name, said)
		}
	}
	run(one)
	give(t, two, one.Path("/vagrant/bin/dist/join"), "/vagrant/bin/dist/join")
	run(two)
	run(one)
	run(two)
	until(t, one, "it sees the fleet", "muster status | grep -q '^nodes *2 online'")
	if got := sh(t, one, "muster run --all -- uname -s"); !strings.Contains(got, "node[1-2] (2)  exit 0\nLinux\n") {
		t.Errorf("said %s", got)
	}
	for _, m := range []*Machine{one, two} {
		sh(t, m, "su - vagrant -c 'muster node list'") // of the group muster
	}
}

// zypper brings a host of openSUSE's into the fleet.
func zypper(t *testing.T, web1, m *Machine) {
	said := sh(t, m, "zypper --non-interactive install --allow-unsigned-rpm ./muster-1.0.0-1.*.rpm 2>&1")
	if !strings.Contains(said, "this host is in no fleet yet") {
		t.Errorf("it says %s", said)
	}
	join := sh(t, web1, "muster token create --uses 1 2>/dev/null")
	if err := os.WriteFile(m.Path("/root/join"), []byte(join), 0o600); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "muster join --join-file join && rm join && systemctl is-enabled muster && systemctl is-active muster")
}

// openRC installs, uses, upgrades and removes Alpine's package on a machine that has OpenRC and no systemd.
func openRC(t *testing.T, m *Machine, made map[string]map[string]string) {
	// A boot by OpenRC, as far as services see it; and a word that Alpine has and Debian has not.
	sh(t, m, "rc-status >/dev/null 2>&1; echo default > /run/openrc/softlevel")
	if err := os.WriteFile(m.Path("/usr/local/bin/addgroup"), []byte("#!/bin/sh\nexec groupadd --system \"$2\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	give(t, m, made["1.0.0"]["apk"], "/root/1.0.0.apk")
	give(t, m, made["1.1.0"]["apk"], "/root/1.1.0.apk")
	// What apk does: the scripts are the first files of its archive, the rest is the system's. There is no apk in Debian.
	apk := func(file, script string) string {
		t.Helper()
		return sh(t, m, "tar xzf /root/"+file+" -C / && mkdir -p scripts && mv /.PKGINFO /.p* scripts && sh scripts/.pre-install && sh scripts/."+script+" 2>&1")
	}
	if said := apk("1.0.0.apk", "post-install"); !strings.Contains(said, "this host is in no fleet yet") {
		t.Errorf("it says %s", said)
	}
	if said, err := shell(t.Context(), m, "rc-service muster start 2>&1"); err == nil || !strings.Contains(said, "muster init, or muster join") {
		t.Errorf("a host in no fleet: %s", said)
	}
	if said := sh(t, m, "muster init --fleet rc --recovery-file /root/recovery.key"); !strings.Contains(said, "its agent runs") {
		t.Errorf("it says %s", said)
	}
	sh(t, m, "muster status && getent group muster && ls -l /etc/runlevels/default/muster")
	sh(t, m, "muster run --all --async -- 'echo began >> /root/began; while ! [ -e /var/tmp/go ]; do sleep 0.1; done; echo finished > /root/finished'")
	until(t, m, "the command runs", "[ -e /root/began ]")
	apk("1.1.0.apk", "post-upgrade")
	until(t, m, "the new version runs", "muster status | grep -q '^version *1.1.0$'")
	const agent = "cat /proc/$(cat /run/supervise-muster.pid)/task/*/children"
	sh(t, m, "kill -KILL $("+agent+")")
	until(t, m, "it is started again", "muster status")
	sh(t, m, "mkdir -p /etc/muster && echo 'memory.budgt: 1' > /etc/muster/config.yaml && rc-service muster reload")
	until(t, m, "it has read its configuration, and goes on without it", "muster status 2>&1 | grep -q '/etc/muster/config.yaml:1'")
	sh(t, m, "rm -r /etc/muster && rc-service muster reload && : > /var/tmp/go")
	until(t, m, "the command has ended", "[ -e /root/finished ]")
	if got := sh(t, m, "cat /root/began"); got != "began\n" {
		t.Errorf("it began as %q", got)
	}
	sh(t, m, "sh /root/scripts/.pre-deinstall && ! pidof muster && ! [ -e /etc/runlevels/default/muster ]")
	if said := sh(t, m, "sh /root/scripts/.post-deinstall"); !strings.Contains(said, "muster: left /var/lib/muster") {
		t.Errorf("it says %s", said)
	}
}
