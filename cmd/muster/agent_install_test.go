package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// bareHost is a system in a folder; what it is told to run is written down.
type bareHost struct {
	system
	out bytes.Buffer
	ran []string
	bad string // the program that fails
}

func newBareHost(t *testing.T, files ...string) *bareHost {
	t.Helper()
	h := &bareHost{}
	h.system = system{root: t.TempDir(), out: &h.out, run: func(_ context.Context, argv ...string) error {
		line := strings.Join(argv, " ")
		h.ran = append(h.ran, line)
		if h.bad != "" && strings.HasPrefix(line, h.bad) {
			return errors.New("it fails")
		}
		return nil
	}}
	for _, name := range files {
		h.write(t, name, "")
	}
	return h
}

func (h *bareHost) write(t *testing.T, name, text string) {
	t.Helper()
	path := h.at(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, "/") {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (h *bareHost) took(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(h.ran, want) {
		t.Errorf("it ran\n%s\nwant\n%s", strings.Join(h.ran, "\n"), strings.Join(want, "\n"))
	}
	h.ran = nil
}

func (h *bareHost) program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "muster")
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestInstall goes through the life of a service: a host in no fleet, one in a fleet, the same again, an upgrade, the end.
func TestInstall(t *testing.T) {
	t.Parallel()
	h := newBareHost(t, "/run/systemd/system/")
	one, two := h.program(t, "one"), h.program(t, "two")
	install := func(self string) {
		t.Helper()
		if err := h.install(t.Context(), self, "/usr/local"); err != nil {
			t.Fatal(err)
		}
	}
	install(one)
	h.took(t, "groupadd --system --force muster", "systemctl daemon-reload", "systemctl enable muster")
	if !strings.Contains(h.out.String(), "next: muster init, or muster join") {
		t.Errorf("said: %s", &h.out)
	}
	unit, err := os.ReadFile(h.at("/etc/systemd/system/muster.service"))
	if err != nil || !strings.Contains(string(unit), "ExecStart=/usr/local/bin/muster agent\n") || strings.Contains(string(unit), packagedBin) {
		t.Errorf("%v: %s", err, unit)
	}
	h.write(t, "/etc/group", "root:x:0:\nmuster:x:999:\n")
	h.write(t, "/var/lib/muster/identity", "")
	install(one)
	h.took(t, "systemctl daemon-reload", "systemctl enable muster", "systemctl start muster")
	install(two)
	h.took(t, "systemctl daemon-reload", "systemctl enable muster", "systemctl restart muster")
	if got, _ := os.ReadFile(h.at("/usr/local/bin/muster")); string(got) != "two" {
		t.Errorf("the program is %q", got)
	}
	if err := h.uninstall(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	h.took(t, "systemctl stop muster", "systemctl disable muster", "systemctl daemon-reload")
	for name, want := range map[string]bool{"/usr/local/bin/muster": false, "/etc/systemd/system/muster.service": false, "/var/lib/muster/identity": true} {
		if h.has(name) != want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}
	if !strings.Contains(h.out.String(), "left     /var/lib/muster") {
		t.Errorf("said: %s", &h.out)
	}
	if err := h.uninstall(t.Context(), true); err != nil { // twice, and all of it
		t.Fatal(err)
	}
	h.took(t)
	if h.has("/var/lib/muster") {
		t.Error("purged, and there")
	}
}

func TestInstallOpenRC(t *testing.T) {
	t.Parallel()
	h := newBareHost(t, "/sbin/openrc-run", "/run/openrc/softlevel", "/var/lib/muster/identity")
	h.bad = "groupadd" // busybox has none
	if err := h.install(t.Context(), h.program(t, "one"), "/opt/muster"); err != nil {
		t.Fatal(err)
	}
	h.took(t, "groupadd --system --force muster", "addgroup -S muster", "rc-update add muster default", "rc-service muster restart")
	script, err := os.ReadFile(h.at("/etc/init.d/muster"))
	info, _ := os.Stat(h.at("/etc/init.d/muster"))
	if err != nil || !strings.Contains(string(script), "command=/opt/muster/bin/muster\n") || info.Mode().Perm() != 0o755 {
		t.Errorf("%v: %s", err, script)
	}
	if err := h.uninstall(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	h.took(t, "rc-service muster stop", "rc-update del muster")
}

// TestInstallRefuses: what somebody else installed stays, and a host that cannot start services says so.
func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files  []string
		prefix string
		kind   fleet.Kind
	}{
		"no manager":     {nil, "/usr/local", fleet.NotFound},
		"packaged unit":  {[]string{"/run/systemd/system/", "/usr/lib/systemd/system/muster.service"}, "/usr/local", fleet.Conflict},
		"packages' path": {[]string{"/run/systemd/system/"}, "/usr", fleet.Invalid},
	} {
		h := newBareHost(t, c.files...)
		err := h.install(t.Context(), h.program(t, "one"), c.prefix)
		if err == nil || fleet.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		if h.has("/usr/local/bin/muster") || len(h.ran) > 0 {
			t.Errorf("%s: something was done: %v", name, h.ran)
		}
	}
	packaged := newBareHost(t, "/run/openrc/softlevel")
	packaged.write(t, "/etc/init.d/muster", openRCScript)
	if err := packaged.uninstall(t.Context(), true); fleet.KindOf(err) != fleet.Conflict || !packaged.has("/etc/init.d/muster") {
		t.Errorf("a package's script: %v", err)
	}
}

// TestInstallInAnImage: where no service manager runs, nothing is started and nothing asked of it that needs one.
func TestInstallInAnImage(t *testing.T) {
	t.Parallel()
	h := newBareHost(t, "/usr/lib/systemd/systemd", "/var/lib/muster/identity")
	if err := h.install(t.Context(), h.program(t, "one"), "/usr/local"); err != nil {
		t.Fatal(err)
	}
	h.took(t, "groupadd --system --force muster", "systemctl enable muster")
}
