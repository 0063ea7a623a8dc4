package host

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/consensus/quorum"
	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/agent"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/auth/authtest"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/gossip"
)

// configOf reads a configuration as a file f.
func configOf(text string) (config.Config, []config.Problem) {
	given, problems := config.Parse("f", []byte(text))
	c, more := config.Resolve(given)
	return c, append(problems, more...)
}

// configuredHost is a host with a configuration, and nothing else but an agent that does not run.
func configuredHost(text *string) *Host {
	c, _ := configOf(*text)
	f := authtest.Found("configured")
	h := &Host{opts: Options{Config: c, Log: slog.New(slog.DiscardHandler), Source: Source{
		File: "f", Read: func() (config.Config, []config.Problem) { return configOf(*text) },
	}}}
	h.configured.now = c
	h.Agent = agent.New(agent.Config{
		Key: f.Nodes[0].Key, Fleet: f.ID(), Record: f.Record, Consent: c.Consent(), Log: h.opts.Log,
		Clock: func() auth.Instant { return auth.Instant{Wall: f.Now, Boot: time.Hour} },
	})
	return h
}

// What can be taken is taken at once; a slip changes nothing, and is said until it is mended.
func TestReload(t *testing.T) {
	text := "log.level: info\nbind: 127.0.0.1:1\n"
	h := configuredHost(&text)
	taken := ""
	h.opts.Source.Taken = func(c config.Config) { taken = c.LogLevel() }
	text = "log.level: debug\nbind: 127.0.0.1:2\npaused: true\nsessions.max: 3\noutput.keep: 64MiB\n"
	if problems := h.Reload(); len(problems) > 0 {
		t.Fatal(problems)
	}
	said := strings.Join(h.configWarnings(), "\n")
	if taken != "debug" || h.Config().Bind() != "127.0.0.1:1" || !strings.Contains(said, "paused: true in f:3") || !strings.Contains(said, "bind was changed (f:2)") {
		t.Errorf("taken %q, bind %s, warnings %s", taken, h.Config().Bind(), said)
	}
	if h.Agent.Consent().Paused == "" || h.sessionHost().Limits.All != 3 || h.outputKeep(auth.Settings{}) != 64<<20 {
		t.Errorf("consent %+v, limits %+v", h.Agent.Consent(), h.sessionHost().Limits)
	}
	if not, ok := h.mayStart(node.StartRun{}).(agent.NotStarted); !ok || not.As != exec.Refused {
		t.Errorf("a run that waited for its turn starts: %v", h.mayStart(node.StartRun{}))
	}
	text = "log.level: error\npausd: false\n"
	if problems := h.Reload(); len(problems) != 1 {
		t.Fatal(problems)
	}
	if said := strings.Join(h.configWarnings(), "\n"); taken != "debug" || h.Agent.Consent().Paused == "" || !strings.Contains(said, `f:2: there is no key "pausd"`) {
		t.Errorf("taken %q, warnings %s", taken, said)
	}
	text = "bind: 127.0.0.1:1\n"
	if problems := h.Reload(); len(problems) > 0 || len(h.configWarnings()) > 0 || h.mayStart(node.StartRun{}) != nil || taken != "info" {
		t.Errorf("%v, %v, %v, %q", problems, h.configWarnings(), h.mayStart(node.StartRun{}), taken)
	}
}

// A run that waits for its turn while the host's root withholds a shell or upgrades is refused then, though it was permitted.
func TestReloadHoldsForRunsThatWait(t *testing.T) {
	for name, text := range map[string]string{"": "shell: false\n", "AWS-RunShellScript": "shell: false\n", "AWS-UpdateSSMAgent": "upgrades: false\n"} {
		empty := ""
		h := configuredHost(&empty)
		run := node.StartRun{Command: exec.Command{Run: exec.Run{Argv: []string{"id"}}}}
		for _, d := range document.BuiltIn() {
			if d.Name == name {
				run = node.StartRun{Command: exec.Command{Documents: []exec.DocumentRef{{Name: name}}}, Documents: [][]byte{d.Text}}
			}
		}
		if err := h.mayStart(run); err != nil {
			t.Fatal(name, err)
		}
		empty = text
		if problems := h.Reload(); len(problems) > 0 {
			t.Fatal(problems)
		}
		if not, ok := h.mayStart(run).(agent.NotStarted); !ok || not.As != exec.Refused {
			t.Errorf("%q starts under %s", name, text)
		}
	}
}

func TestOptionsGoBeforeTheConfiguration(t *testing.T) {
	c, _ := configOf("preset: edge\nbind: 10.0.0.1:1\nadvertise: 10.0.0.2:2\noutbound: true\nmetrics.address: 7981\n")
	o := Options{Config: c}.withConfig()
	if o.Bind != "10.0.0.1:1" || !slices.Equal(o.Advertise, []string{"10.0.0.2:2"}) || o.Outbound == nil || !*o.Outbound || o.MetricsAddress != "7981" {
		t.Errorf("%+v", o)
	}
	if o.Preset != gossip.WAN() || o.Timeouts != quorum.WAN() {
		t.Error("edge has not the timings of wan")
	}
	if o := (Options{Config: c, Bind: "10.0.0.3:3", Preset: gossip.Local(), Timeouts: quorum.LAN()}).withConfig(); o.Bind != "10.0.0.3:3" || o.Preset != gossip.Local() || o.Timeouts != quorum.LAN() {
		t.Errorf("%+v", o)
	}
	if o := (Options{}).withConfig(); o.Bind != "" || o.Outbound != nil || o.Preset != (gossip.Preset{}) {
		t.Errorf("%+v", o)
	}
	// What join was told is not told again: the folder may have changed since.
	told, _ := config.Resolve([]config.Given{{Name: config.KeyOutbound, Text: "true", Origin: config.Origin{Source: config.Folder}}})
	if o := (Options{Config: told}).withConfig(); o.Outbound != nil {
		t.Error("the folder's own word is held against it")
	}
}

func TestOutputIsKeptByTheLesserBound(t *testing.T) {
	for own, want := range map[string]int64{"": runner.DefaultKeepBytes, "output.keep: 1GiB\n": 1 << 30, "output.keep: 8GiB\n": runner.DefaultKeepBytes, "output.keep: off\n": runner.DefaultKeepBytes} {
		h := configuredHost(&own)
		if got := h.outputKeep(auth.Settings{}); got != want {
			t.Errorf("%q: %d, want %d", own, got, want)
		}
	}
}
