package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/api"
	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/folder"
)

// Bounds of a bundle.
const (
	bundleWait   = time.Minute // for all that is asked
	partBytes    = 8 << 20     // of one part; what is longer loses its beginning, for logs are read from the end
	logLines     = "3000"
	listedFiles  = 5000 // of the data folder
	systemWait   = 10 * time.Second
	openRCLog    = "/var/log/muster.log"
	bundlePrefix = "muster-debug/"
)

// debugBundle is what is known of a host, without its secrets.
type debugBundle struct {
	node     string // its name; "" where no agent says it
	parts    []bundlePart
	absent   []string // what could not be had, and why
	mask     mask
	patterns patterns
}

type bundlePart struct {
	name string
	data []byte
}

// newBundle asks everything that can be asked here.
func (a *app) newBundle(ctx context.Context) *debugBundle {
	ctx, cancel := context.WithTimeout(ctx, bundleWait)
	defer cancel()
	b := &debugBundle{patterns: newPatterns()}
	a.knowSecrets(&b.mask)

	e, err := a.examine(ctx, "")
	if err != nil {
		b.miss("doctor", err)
	} else {
		b.doctor(a, e)
	}
	client := a.client()
	b.agent(ctx, client)
	b.system(ctx, e)
	b.folder(a.dataDir())
	return b
}

// knowSecrets gathers the secrets that this host has, so that they are found wherever they stand.
func (a *app) knowSecrets(m *mask) {
	for _, s := range folder.SecretsOf(a.dataDir()) {
		m.know(s)
	}
	for _, path := range []string{a.identityPath(), a.rootKeyPath()} {
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && err == nil && secretLine(key) {
				m.know([]byte(value))
				if raw, err := decode64(value, 32); err == nil {
					m.know(raw)
				}
			}
		}
	}
	if text, err := os.ReadFile(systemJoin); err == nil {
		m.know(text)
	}
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); secretVariable(name) {
			m.know([]byte(value))
		}
	}
}

// secretLine reports whether a line of a key file is a secret.
func secretLine(name string) bool { return strings.Contains(name, "seed") || name == "secrets-key" }

// secretVariable reports whether a variable of the environment is a secret, by its name.
func secretVariable(name string) bool {
	name = strings.ToUpper(name)
	return slices.ContainsFunc([]string{"PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH", "COOKIE"}, func(s string) bool { return strings.Contains(name, s) }) &&
		!strings.HasPrefix(name, "MUSTER_IDENTITY")
}

// miss notes what could not be had.
func (b *debugBundle) miss(what string, err error) {
	b.absent = append(b.absent, what+": "+firstLine(string(b.mask.text(b.patterns, []byte(err.Error()), true))))
}

// put adds a part; free says that anybody may have written into it.
func (b *debugBundle) put(name string, data []byte, free bool) {
	if len(data) > partBytes {
		data = append([]byte("… the beginning is cut off\n"), data[len(data)-partBytes:]...)
	}
	if !strings.HasSuffix(name, ".pprof") { // binary, and without any values
		data = b.mask.text(b.patterns, data, free)
	}
	b.parts = append(b.parts, bundlePart{name, data})
}

// putData adds a value as JSON, or notes why there is none.
func (b *debugBundle) putData(name string, v any, err error) {
	if err != nil {
		b.miss(name, err)
		return
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		b.miss(name, err)
		return
	}
	b.put(name, out.Bytes(), false)
}

func (b *debugBundle) doctor(a *app, e examined) {
	found := diagnose(e)
	answer := doctorShape(e, found)
	b.node = answer.Node
	var text bytes.Buffer
	told := *a
	told.stdout, told.flags.output = &text, asTable
	_ = told.sayDiagnosis(e, found)
	b.put("doctor.txt", text.Bytes(), false)
	b.putData("doctor.json", answer, nil)
	if e.agent != nil {
		b.putData("checkup.json", e.agent, nil)
	}
}

// agent asks the agent for what it says to people, and then for its inside.
func (b *debugBundle) agent(ctx context.Context, c *api.Client) {
	s, err := c.Status(ctx)
	if err != nil {
		b.miss("agent", err)
		return
	}
	b.putData("status.json", shape.OfStatus(s), nil)
	q, err := c.Quorum(ctx)
	b.putData("quorum.json", shape.OfQuorum(q), err)
	nodes, err := c.Nodes(ctx)
	members := make([]shape.Node, 0, len(nodes))
	for _, n := range nodes {
		members = append(members, shape.OfNode(n.Member, n.Seq))
	}
	b.putData("nodes.json", members, err)
	sessions, err := c.Sessions(ctx)
	b.putData("sessions.json", len(sessions), err)
	conf, err := c.Config(ctx)
	b.putData("config.json", conf, err)
	metrics, err := c.Metrics(ctx)
	if err != nil {
		b.miss("metrics.txt", err)
	} else {
		b.put("metrics.txt", metrics, false)
	}
	for name, inside := range map[string]string{"stacks.txt": "stacks", "heap.pprof": "heap", "decisions.txt": "decisions"} {
		data, err := c.Inside(ctx, inside)
		if err != nil {
			b.miss(name, err)
			continue
		}
		b.put(name, data, inside == "decisions")
	}
}

// question is one to a program of the system.
type question struct {
	name string
	argv []string
}

// system asks the host: its log of the agent, service, network and limits.
func (b *debugBundle) system(ctx context.Context, e examined) {
	for _, q := range []question{
		{"log.txt", []string{"journalctl", "-u", "muster", "-n", logLines, "--no-pager", "-o", "short-iso"}},
		{"system/unit.txt", []string{"systemctl", "cat", "muster"}},
		{"system/service.txt", []string{"systemctl", "show", "muster", "-p",
			"ActiveState,SubState,Result,NRestarts,ExecMainStatus,UnitFileState,MemoryCurrent,TasksCurrent,WatchdogUSec,StateChangeTimestamp"}},
		{"system/addresses.txt", []string{"ip", "-s", "addr"}},
		{"system/routes.txt", []string{"ip", "route", "show", "table", "all"}},
		{"system/firewall.txt", []string{"nft", "list", "ruleset"}},
		{"system/sockets.txt", []string{"ss", "-uanpm"}},
		{"system/disks.txt", []string{"df", "-hT"}},
		{"system/inodes.txt", []string{"df", "-i"}},
		{"system/clock.txt", []string{"timedatectl", "show"}},
		{"system/kernel-log.txt", []string{"dmesg", "--ctime", "--level", "emerg,alert,crit,err,warn"}},
	} {
		b.ask(ctx, q)
	}
	b.file("log-openrc.txt", openRCLog, true)
	for _, path := range []string{"/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/mounts", "/proc/net/snmp", "/proc/sys/net/core/rmem_max", "/proc/sys/net/core/wmem_max"} {
		b.file("system/"+strings.ReplaceAll(strings.Trim(path, "/"), "/", "-"), path, true)
	}
	if e.agent == nil || e.agent.Process.PID == 0 {
		return
	}
	for _, name := range []string{"limits", "status", "cgroup", "oom_score_adj"} { // not environ, nor cmdline: a join string may stand there
		b.file("process/"+name, filepath.Join("/proc", strconv.Itoa(e.agent.Process.PID), name), true)
	}
}

func (b *debugBundle) ask(ctx context.Context, q question) {
	ctx, stop := context.WithTimeout(ctx, systemWait)
	defer stop()
	said, err := runSystem(ctx, q.argv)
	if err != nil && len(said) == 0 {
		b.miss(q.name, fmt.Errorf("%s: %w", q.argv[0], err))
		return
	}
	b.put(q.name, said, true)
}

// file adds a file of the system; that it is not there is nothing to tell.
func (b *debugBundle) file(name, path string, free bool) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > partBytes {
		_, _ = f.Seek(-partBytes, io.SeekEnd)
	}
	data, err := io.ReadAll(io.LimitReader(f, partBytes))
	if err != nil {
		b.miss(name, err)
		return
	}
	b.put(name, data, free)
}

// folder lists the data folder: names, sizes and rights, nothing that is in the files.
func (b *debugBundle) folder(dir string) {
	var out bytes.Buffer
	count := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return nil // gone meanwhile
		}
		if count++; count > listedFiles {
			fmt.Fprintln(&out, "… and more")
			return fs.SkipAll
		}
		fmt.Fprintf(&out, "%s  %12d  %s  %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), exec.Printable([]byte(path)))
		return nil
	})
	if err != nil {
		b.miss("folder.txt", err)
	}
	b.put("folder.txt", out.Bytes(), false)
}

func (b *debugBundle) names() []string {
	names := make([]string, 0, len(b.parts))
	for _, p := range b.parts {
		names = append(names, p.name)
	}
	slices.Sort(names)
	return names
}

// manifest says what a bundle is.
func (b *debugBundle) manifest(now time.Time) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "muster debug bundle 1\nnode    %s\nmade    %s\nby      muster %s\nmasked  %d\n", b.node, now.UTC().Format(time.RFC3339), version(), b.mask.count)
	for _, a := range b.absent {
		fmt.Fprintf(&out, "absent  %s\n", a)
	}
	return out.Bytes()
}

// write writes the bundle as tar.gz, sorted by name.
func (b *debugBundle) write(w io.Writer) error {
	now := time.Now()
	parts := append([]bundlePart{{"manifest.txt", b.manifest(now)}}, b.parts...)
	slices.SortStableFunc(parts[1:], func(x, y bundlePart) int { return strings.Compare(x.name, y.name) })
	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	for _, p := range parts {
		head := &tar.Header{Name: bundlePrefix + p.name, Mode: 0o600, Size: int64(len(p.data)), ModTime: now, Typeflag: tar.TypeReg}
		if err := out.WriteHeader(head); err != nil {
			return err
		}
		if _, err := out.Write(p.data); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return zip.Close()
}
