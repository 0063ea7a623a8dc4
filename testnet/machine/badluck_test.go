package machine

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// mainPID is the agent that the unit has started; 0: none.
const mainPID = "systemctl show --property MainPID --value muster"

// badLuck is what happens to hosts: each time the agent goes on, or says what is wrong and is there again when that has ended.
func badLuck(t *testing.T, web1, m *Machine) {
	for _, one := range []struct {
		what string
		try  func(t *testing.T, m *Machine)
	}{
		{"the unit is started twice", startedTwice},
		{"by hand beside the unit", byHandBeside},
		{"the unit beside one by hand", unitBeside},
		{"a full disk", func(t *testing.T, m *Machine) { fullDisk(t, web1, m) }},
		{"a read-only disk", readOnlyDisk},
		{"a mistake in the configuration", mistake},
		{"a package is killed half-way", halfInstalled},
	} {
		if !t.Run(one.what, func(t *testing.T) { one.try(t, m) }) {
			return // the next one begins with a machine that is well
		}
	}
}

// told waits until the unit's journal has some words, since it was marked.
func told(t *testing.T, m *Machine, words ...string) {
	t.Helper()
	for _, w := range words {
		until(t, m, "the journal says "+w, "journalctl --no-pager --unit muster --since @$(cat /run/began) > /run/said; grep -qF -- '"+w+"' /run/said || { tail -n 20 /run/said; false; }")
	}
}

// mark has the journal count from here on.
func mark(t *testing.T, m *Machine) {
	t.Helper()
	sh(t, m, "journalctl --sync; date +%s > /run/began")
}

func startedTwice(t *testing.T, m *Machine) {
	was := sh(t, m, mainPID)
	sh(t, m, "systemctl start muster & systemctl start muster & muster status; wait")
	if now := sh(t, m, mainPID); now != was {
		t.Errorf("the agent %s is %s now", was, now)
	}
	sh(t, m, "systemctl stop muster; systemctl start muster & systemctl start muster & wait; muster status")
	if now, all := sh(t, m, mainPID), sh(t, m, "pidof muster"); now != all {
		t.Errorf("the unit's agent is %s, and these run: %s", now, all)
	}
}

func byHandBeside(t *testing.T, m *Machine) {
	was := sh(t, m, mainPID)
	said, err := shell(t.Context(), m, "muster agent 2>&1")
	if err == nil || !strings.Contains(said, "an agent answers at") {
		t.Errorf("it says %s, %v", said, err)
	}
	if now := sh(t, m, mainPID+" && muster status > /dev/null 2>&1"); now != was {
		t.Errorf("the agent %s is %s now", was, now)
	}
}

func unitBeside(t *testing.T, m *Machine) {
	mark(t, m)
	sh(t, m, "systemctl stop muster; setsid muster agent > /root/hand.log 2>&1 & echo $! > /run/hand")
	until(t, m, "the agent by hand answers", "muster status")
	if said, err := shell(t.Context(), m, "systemctl start muster 2>&1"); err == nil {
		t.Errorf("both run: %s", said)
	}
	told(t, m, "an agent answers at")
	sh(t, m, "muster status && kill $(cat /run/hand)")
	until(t, m, "the unit's agent runs", "systemctl is-active muster && muster status && rm /root/hand.log")
}

// onDisk moves the data folder to a disk of its own, while the agent is stopped.
func onDisk(t *testing.T, m *Machine) {
	t.Helper()
	sh(t, m, `systemctl stop muster
cp -a /var/lib/muster /var/lib/muster.kept
mount -t tmpfs -o size=200m,mode=0700 tmpfs /var/lib/muster
cp -a /var/lib/muster.kept/. /var/lib/muster`)
}

// offDisk brings the data folder back.
func offDisk(t *testing.T, m *Machine) {
	t.Helper()
	sh(t, m, `systemctl stop muster
rm -rf /var/lib/muster.kept && cp -a /var/lib/muster /var/lib/muster.kept
umount /var/lib/muster
cp -a /var/lib/muster.kept/. /var/lib/muster && rm -r /var/lib/muster.kept
systemctl start muster && muster status`)
}

func fullDisk(t *testing.T, web1, m *Machine) {
	onDisk(t, m)
	defer offDisk(t, m)
	const fill = "dd if=/dev/zero of=/var/lib/muster/ballast bs=1k 2>/dev/null; df /var/lib/muster | grep -q 100%"
	sh(t, m, fill)
	mark(t, m)
	_, err := shell(t.Context(), m, "systemctl start muster 2>&1")
	if err != nil { // it need not start, if it says why and does later
		told(t, m, "no space left on device", "df -h")
	}
	sh(t, m, "rm /var/lib/muster/ballast")
	until(t, m, "it runs when there is room", "systemctl is-active muster && muster status")

	until(t, web1, "it runs what is asked", "muster run --target "+m.Name+" -- true")
	sh(t, m, fill)
	until(t, web1, "a run is refused for it", "muster run --target "+m.Name+" -- 'echo it has room' 2>&1 | grep -i -e 'no room' -e 'no space'")
	sh(t, m, "muster status && rm /var/lib/muster/ballast")
	until(t, web1, "it runs what is asked again", "muster run --target "+m.Name+" -- true")
}

func readOnlyDisk(t *testing.T, m *Machine) {
	onDisk(t, m)
	defer offDisk(t, m)
	sh(t, m, "mount -o remount,ro /var/lib/muster")
	mark(t, m)
	if said, err := shell(t.Context(), m, "systemctl start muster 2>&1"); err == nil {
		t.Errorf("it starts: %s", said)
	}
	told(t, m, "read-only file system", "mount -o remount,rw")
	sh(t, m, "mount -o remount,rw /var/lib/muster")
	until(t, m, "it runs when it can write", "systemctl is-active muster && muster status")
}

// mistake: a running agent refuses a configuration with a mistake and goes on; one that is started says where it is.
func mistake(t *testing.T, m *Machine) {
	sh(t, m, "[ ! -e /etc/muster/config.yaml ] && mkdir -p /etc/muster && printf 'log.level: info\nmemory.budgt: 300MiB\n' > /etc/muster/config.yaml")
	was := sh(t, m, mainPID)
	mark(t, m)
	_, _ = shell(t.Context(), m, "systemctl reload muster") // whether this fails too is its own affair
	told(t, m, "/etc/muster/config.yaml:2", "memory.budgt", "not taken")
	if now := sh(t, m, mainPID+" && muster status > /dev/null 2>&1"); now != was {
		t.Errorf("the agent %s is %s now", was, now)
	}
	mark(t, m)
	if said, err := shell(t.Context(), m, "systemctl restart muster 2>&1"); err == nil {
		t.Errorf("it starts: %s", said)
	}
	told(t, m, "/etc/muster/config.yaml:2", "memory.budget", "status=2")
	sh(t, m, "sed -i s/budgt/budget/ /etc/muster/config.yaml")
	until(t, m, "it runs when it is mended", "systemctl is-active muster && muster status")
	sh(t, m, "rm /etc/muster/config.yaml && rmdir --ignore-fail-on-non-empty /etc/muster && systemctl restart muster && muster status")
}

// halfInstalled kills dpkg at some moments of its work: there is always an agent, or one comes back, and the next dpkg mends it.
func halfInstalled(t *testing.T, m *Machine) {
	debs, err := filepath.Glob(m.Path("/root/muster_*.deb"))
	if err != nil || len(debs) != 2 {
		t.Fatalf("%v, %v", debs, err)
	}
	for i, after := range []string{"0.05", "0.15", "0.3", "0.6", "1", "1.5"} {
		_, _ = shell(t.Context(), m, fmt.Sprintf("timeout --signal KILL %s dpkg --install /root/%s", after, filepath.Base(debs[i%2])))
		until(t, m, "there is an agent after "+after+" s", "muster status")
	}
	sh(t, m, "dpkg --configure -a; apt-get install -qy /root/"+filepath.Base(debs[1])+" && [ -z \"$(dpkg --verify muster)\" ]")
	until(t, m, "the newest runs", "muster status | grep -q '^version *1.1.0$'")
	sh(t, m, "systemctl is-enabled muster && systemctl is-active muster")
}
