package lan

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

// Versions of the builds.
const (
	oldVersion = "1.1.0"
	newVersion = "1.2.0"
	badVersion = "1.3.0" // as bad as its host wants it: see badCode
)

// badCode is added to the bad build. What the file /run/bad on its host says is how it is bad.
const badCode = `package main

import (
	"os"
	"strings"
)

func bad() string {
	how, _ := os.ReadFile("/run/bad")
	return strings.TrimSpace(string(how))
}

func init() {
	if len(os.Args) < 2 || os.Args[1] != "agent" {
		return
	}
	switch bad() {
	case "exits": // before it can look at anything
		os.Exit(1)
	case "hangs":
		select {}
	}
}

func badBind() string {
	if bad() == "blind" { // nobody is there
		return "127.0.0.1:7999"
	}
	return ""
}

func badStart() {
	if bad() == "fails" { // later than it could look
		os.Exit(1)
	}
}
`

// What of the agent is changed for it.
var badChanges = [][2]string{
	{"Version: version(),", "Version: version(), Bind: badBind(),"},
	{"h, err := host.Start(", "badStart()\n\th, err := host.Start("},
}

// builds are the programs and releases, made once for all tests.
var builds = sync.OnceValues(func() (map[string]string, error) {
	dir := binDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	_, file, _, _ := runtime.Caller(0)
	house := filepath.Join(filepath.Dir(file), "..", "..")
	overlay, err := badOverlay(house, dir)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, version := range []string{oldVersion, newVersion, badVersion} {
		bin := filepath.Join(dir, "muster-"+version)
		args := []string{"build", "-tags", "testclock", "-o", bin, "-ldflags", "-s -w -X main.release=" + version}
		if version == badVersion {
			args = append(args, "-overlay", overlay)
		}
		cmd := exec.Command("go", append(args, "./cmd/muster")...)
		cmd.Dir, cmd.Env = house, append(os.Environ(), "CGO_ENABLED=0")
		if said, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, said)
		}
		out[version] = bin
	}
	return out, nil
})

func badOverlay(house, dir string) (string, error) {
	agent := filepath.Join(house, "cmd", "muster", "agent.go")
	text, err := os.ReadFile(agent)
	if err != nil {
		return "", err
	}
	for _, c := range badChanges {
		if strings.Count(string(text), c[0]) != 1 {
			return "", fmt.Errorf("%s does not have %q once", agent, c[0])
		}
		text = []byte(strings.Replace(string(text), c[0], c[1], 1))
	}
	files := map[string]string{filepath.Join(dir, "agent.go"): string(text), filepath.Join(dir, "bad.go"): badCode}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		agent: filepath.Join(dir, "agent.go"), filepath.Join(house, "cmd", "muster", "bad.go"): filepath.Join(dir, "bad.go"),
	}})
	files[filepath.Join(dir, "overlay.json")] = string(overlay)
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(name, []byte(text), 0o600))
	}
	return filepath.Join(dir, "overlay.json"), err
}

// pack is a binary as releases have it.
type pack struct {
	build  release.Build
	packed []byte
	err    error
}

var packs sync.Map // by path: packing takes seconds

func packOf(binary string) (p pack) {
	if found, ok := packs.Load(binary); ok {
		return found.(pack)
	}
	var raw []byte
	if raw, p.err = os.ReadFile(binary); p.err == nil {
		p.build, p.packed, p.err = release.Pack(runtime.GOARCH, raw)
	}
	packs.Store(binary, p)
	return p
}

// releaseKey signs releases that fleets of tests take.
func releaseKey() auth.Signer {
	seed := sha256.Sum256([]byte("the tests' own"))
	return auth.NewSigner(ed25519.NewKeyFromSeed(seed[:]))
}

// aRelease makes a release of a build where all hosts see it, and returns its path there.
func aRelease(t *testing.T, l *Lan, version string, keys ...auth.Signer) string {
	t.Helper()
	all, err := builds()
	must(t, err)
	return releaseOf(t, l, version, runtime.GOARCH, all[version], keys...)
}

func releaseOf(t *testing.T, l *Lan, version, arch, binary string, keys ...auth.Signer) string {
	t.Helper()
	p := packOf(binary)
	must(t, p.err)
	build, packed := p.build, p.packed
	build.Arch = arch
	m, err := release.NewManifest(version, fleet.LevelNewest, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), []release.Build{build})
	must(t, err)
	signed, err := release.Sign(m, keys...)
	must(t, err)
	f, err := os.CreateTemp(l.shared(), "muster-"+version+"-*"+release.Suffix)
	must(t, err)
	must(t, release.WriteFile(f, signed, m, map[string][]byte{build.Arch: packed}))
	must(t, f.Close())
	return "/run/lan/" + filepath.Base(f.Name())
}
